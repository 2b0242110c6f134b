"""Methods that make data: engines and seed records in, new records out."""
