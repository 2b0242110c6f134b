"""Rows that are many and unlike: a greedy choice by the log-determinant of their Gram matrix."""

from __future__ import annotations

import numpy as np

__all__ = ["greedy_logdet"]


def greedy_logdet(rows: np.ndarray, number: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Choose rows one by one, each the one that adds most to ln det(I + G / noise), G the Gram matrix of the chosen.

    The gain of a row x is ln(1 + x' A^-1 x), A = noise I + the chosen rows' outer products; it never grows as others
    are chosen. All gains are brought up to date by one product per choice, which gives the same rows as a lazy queue.

    Args:
        rows: float64 [N, D].
        number: rows wanted, at most N.
        noise: variance below which rows count as alike, above 0.

    Returns:
        Places in the order of choice, int64 [number], of equal gains the earlier row, and their gains in nats.
    """
    inverse = np.eye(rows.shape[1]) / noise
    leverage = np.square(rows).sum(1) / noise
    free = np.ones(len(rows), bool)
    places, gains = np.zeros(number, np.int64), np.zeros(number)
    for step in range(number):
        rounded = np.round(np.where(free, leverage, -1.0), 10)
        place = int(rounded.argmax())
        places[step], gains[step] = place, np.log1p(max(float(leverage[place]), 0.0))
        free[place] = False
        towards = inverse @ rows[place]
        shrink = 1 + rows[place] @ towards
        inverse -= np.outer(towards, towards) / shrink
        leverage -= np.square(rows @ towards) / shrink
    return places, gains
