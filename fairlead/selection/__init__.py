"""Selectors: records in, the ones worth keeping out."""
