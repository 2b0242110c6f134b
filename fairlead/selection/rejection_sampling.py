"""Rejection sampling: of several answers to each prompt the K best go back to training (Touvron et al. 2023, arXiv
2307.09288, section 3.2.3; Tian et al. 2023, ChiMed-GPT, arXiv 2311.06025; Dong et al. 2023, RAFT, arXiv 2304.06767).

The best of N draws of a policy are at most ln N - (N - 1) / N nats away from it (`fairlead.theory.best_of_n.kl_bound`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt
from fairlead.selection.base import Selection, Selector, best_first, check_keep, chosen, number_kept
from fairlead.selection.pool import Pool

__all__ = ["RejectionSampling"]


@dataclass(frozen=True)
class RejectionSampling(Selector):
    """Keep the best answers to each prompt, or of all, after taking out empty, cut and repeated ones."""

    best: int = 1
    """Answers kept of each prompt, K; with `scope: pool` the share or number is `keep` instead."""
    scope: Literal["prompt", "pool"] = "prompt"
    """Whether answers compete with those to the same prompt, or with all, where easy prompts win."""
    keep: float | None = None
    """Most answers kept in all: a number of them, or a share of the pool below 1; the highest values stay."""
    column: str = "reward"
    """The column that says what an answer is worth."""
    above: float | None = None
    """Least value that is kept; a prompt may then have fewer answers than K, or none."""
    finish: str = "finish"
    """The column that says how an answer ended; answers that ran into their limit (`length`) are left out. Records
    without it are taken to be whole."""

    example: ClassVar[Mapping[str, Any]] = {"column": "quality", "best": 2}
    leaves_out_missing: ClassVar[bool] = True
    """Rewards abstain, so a missing value is a reason and no fault."""

    def __post_init__(self) -> None:
        if self.best < 1:
            raise UsageError(f"best is {self.best}", place="rejection_sampling", fix="use a value >= 1")
        if self.scope == "pool" and self.keep is None:
            raise UsageError("scope: pool would keep everything", place="rejection_sampling", fix="give keep")
        check_keep(self.keep, "rejection_sampling")

    def choose(self, pool: Pool) -> Selection:
        """Choose among records with a prompt and an answer each."""
        values = pool.numbers(self.column, missing=True)
        asked = [_asked(record) for record in pool]
        if any(prompt is None for prompt in asked):
            raise DataError("records without a prompt of their own", fix="give rows of prompt and completion")
        reasons: dict[int, str] = {}
        seen: set[tuple[Any, str]] = set()
        taken: dict[Any, int] = {}
        kept = []
        answers = [" ".join(text.lower().split()) for text in pool.texts("answer")]
        for i in [*best_first(values).tolist(), *np.flatnonzero(np.isnan(values)).tolist()]:
            reason = self._unfit(pool[i].extra.get(self.finish), float(values[i]), answers[i])
            if not reason and (asked[i], answers[i]) in seen:
                reason = "the prompt has this answer already"
            if not reason and self.scope == "prompt" and taken.get(asked[i], 0) == self.best:
                reason = "the prompt has better answers"
            if reason:
                reasons[i] = reason
                continue
            seen.add((asked[i], answers[i]))
            taken[asked[i]] = taken.get(asked[i], 0) + 1
            kept.append(i)
        kept = kept[: number_kept(self.keep, len(pool))]
        metrics = {"prompts": float(len(set(asked))), "prompts_kept": float(len({asked[i] for i in kept}))}
        return chosen(len(pool), kept, values, reasons, "others are worth more", metrics=metrics)

    def _unfit(self, finish: Any, value: float, answer: str) -> str:
        """Say why an answer is not taken whatever the others are; nothing where it may be."""
        if not answer:
            return "empty"
        if finish == "length":
            return "cut at its limit"
        if math.isnan(value):
            return "no value"
        return f"value below {self.above:g}" if self.above is not None and value < self.above else ""


def _asked(record: Any) -> Any:
    """Return what can be compared of a record's prompt; None where it has none."""
    prompt: Prompt = getattr(record, "prompt", "")
    if not prompt:
        return None
    return prompt if isinstance(prompt, str) else tuple((turn["role"], turn["content"]) for turn in prompt)
