"""Rewards: a value, or an abstention, per completion."""
