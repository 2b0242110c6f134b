"""Evaluators: engines or records in, a report with intervals out."""
