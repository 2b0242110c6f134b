"""Finite problems: one to check on paper, and any that hypothesis can think of."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

P, R = (0.5, 0.25, 0.15, 0.1), (0, 1, 2, 3)


@st.composite
def problems(draw, size: int = 6):
    """Return probabilities and whole rewards of two levels or more, ties among them."""
    count = draw(st.integers(2, size))
    weights = draw(st.lists(st.floats(0.01, 1), min_size=count, max_size=count))
    rewards = draw(st.lists(st.integers(-4, 4), min_size=count, max_size=count).filter(lambda r: len(set(r)) > 1))
    return np.array(weights) / sum(weights), np.array(rewards, dtype=float)
