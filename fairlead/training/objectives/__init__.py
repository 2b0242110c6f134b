"""Objectives: one module each, pure functions of tensors."""
