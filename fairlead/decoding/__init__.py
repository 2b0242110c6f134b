"""Aligned answers without training: every method is an engine over engines."""
