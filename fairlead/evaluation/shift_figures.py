"""Figures of `token_shift`: shares by category, curves along the answer, and the tokens that shift most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fairlead.estimates import Estimate
from fairlead.evaluation.shift_tokens import Tokens
from fairlead.figures import curves, intervals, shares

__all__ = ["figures", "shown"]

_POSITIONS = 64


def figures(found: Mapping[str, Tokens], order: Sequence[str], marginal: int, listed: int) -> dict[str, str]:
    """Draw all figures of the engines that have tokens: title -> SVG.

    Args:
        found: engine -> its tokens.
        order: all engines, for their colours.
        marginal: last rank of a marginal token.
        listed: tokens shown of each engine.
    """
    found = {name: tokens for name, tokens in found.items() if len(tokens.position)}
    if not found:
        return {}
    parts = {
        name: {kind: float(mask.mean()) for kind, mask in tokens.kinds(marginal).items()}
        for name, tokens in found.items()
    }
    drawn = {"tokens by category": shares(parts, label="share of tokens")}
    wanted = {
        "shifted tokens by position": ("share shifted", lambda tokens: tokens.kinds(marginal)["shifted"]),
        "KL of the aligned from the base by position": ("nats", lambda tokens: tokens["kl_aligned_base"]),
        "base probability by position": ("mean probability", lambda tokens: tokens["prob"]),
        "base rank by position": ("mean rank", lambda tokens: tokens["rank"]),
    }
    for title, (label, number) in wanted.items():
        lines = {name: tokens.by_position(number(tokens), _POSITIONS) for name, tokens in found.items()}
        along = {name: (np.arange(1, len(values) + 1), values) for name, values in lines.items()}
        drawn[title] = curves(along, x="token of the answer", y=label, order=order)
    for name, tokens in found.items():
        most = _most_shifted(tokens, marginal, listed)
        if most:
            drawn[f"most shifted tokens of {name}"] = intervals(
                {name: most}, list(most), label="share of all shifted tokens", order=order
            )
    return drawn


def shown(piece: str) -> str:
    """Return a token's text as it is shown: visible, and plain to the drawing library."""
    return "(end)" if piece == "" else repr(piece.strip() or piece).strip("'\"").replace("$", r"\$").replace("_", " ")


def _most_shifted(tokens: Tokens, marginal: int, listed: int) -> dict[str, Estimate]:
    """Return label -> share of all shifted tokens, for the commonest ones; labels tell how often each occurs."""
    shifted = tokens.piece[tokens.kinds(marginal)["shifted"]].tolist()
    total = Counter(tokens.piece.tolist())
    found = {}
    for piece, count in sorted(Counter(shifted).items(), key=lambda one: (-one[1], one[0]))[:listed]:
        share = count / len(shifted)
        found[f"{shown(piece)}  {count} of {total[piece]}"] = Estimate(share, np.nan, np.nan, len(shifted))
    return found
