"""Training: groups -> batch -> forward -> objective -> loop, for every method alike."""
