"""How near a model is to refusing at the first token of its answer (Arditi et al. 2024, arXiv 2406.11717, section 2.3).

Which tokens open refusals is read from answers that were labelled: those over-represented at the first place.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fairlead.engines.base import Engine
from fairlead.engines.distributions import View, reads
from fairlead.messages import Prompt

__all__ = ["first_token_logits", "refusal_logit", "telling_tokens"]

_NEAREST = 1e-6
"""A chance nearer to 0 or 1 is taken for this far from it: single precision knows no better."""


def refusal_logit(chances: ArrayLike) -> float:
    """Return log(P / (1 - P)), P the sum of the probabilities [K] of the tokens that open refusals."""
    whole = min(1 - _NEAREST, max(_NEAREST, math.fsum(np.asarray(chances, dtype=np.float64).ravel())))
    return math.log(whole) - math.log1p(-whole)


def telling_tokens(first: Sequence[int], refused: Sequence[bool], most: int, prior: float = 0.5) -> list[int]:
    """Return the tokens that open refusals more often than other answers, the most telling first.

    Args:
        first: the first token of each answer.
        refused: whether it refuses.
        most: tokens returned; fewer where fewer are more frequent among refusals.
        prior: added to every count, so that what was seen once or never has finite odds.

    Returns:
        By log odds among refusals less log odds among the others; nothing where either of them is missing.
    """
    groups = [Counter(t for t, no in zip(first, refused, strict=True) if no is side) for side in (True, False)]
    totals = [sum(group.values()) for group in groups]
    if not all(totals):
        return []

    def odds(token: int) -> float:
        yes, no = (
            math.log((group[token] + prior) / (total - group[token] + prior))
            for group, total in zip(groups, totals, strict=True)
        )
        return yes - no

    found = {token: odds(token) for token in groups[0]}
    return [token for token in sorted(found, key=lambda t: (-found[t], t)) if found[token] > 0][:most]


def first_token_logits(name: str, engine: Engine, prompts: Sequence[Prompt], tokens: Sequence[int]) -> np.ndarray:
    """Return `refusal_logit` of the answer's first token for every prompt, float64 [N].

    Raises:
        UnsupportedError: an engine whose next-token distributions are out of reach.
    """
    model, asked = reads(engine, name, prompts)
    stats = model.token_stats(
        [prompt for prompt in asked for _ in tokens], [[token] for _ in asked for token in tokens], View()
    )
    chances = np.exp([float(one.logprob[0]) for one in stats]).reshape(len(asked), len(tokens))
    return np.array([refusal_logit(row) for row in chances])
