"""Complexity of instructions and quality of answers, read off a scorer's chances of six digits (Liu et al. 2023).

Source: arXiv 2312.15685, section 2. A scorer is a language model trained to reply with a digit from 1 to 6; its score
is the expectation over these six tokens, in [1, 6], which one read of the prompt gives. Records come back as they are,
with a score per user turn. The published code puts 3 where a server does not tell the digits; here it is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fairlead.engines.base import Sampling
from fairlead.engines.digits import expected_score, label_logprobs
from fairlead.errors import UsageError
from fairlead.records.schema import to_row
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.deita_prompts import DIGITS, Axis, Form, Shown, turns_of

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["DeitaScores"]

_AXES: dict[str, tuple[Axis, ...]] = {
    "both": ("complexity", "quality"),
    "complexity": ("complexity",),
    "quality": ("quality",),
}
_ROLES = {"complexity": "scores how complex instructions are", "quality": "scores how good answers are"}


@dataclass(frozen=True)
class DeitaScores(Synthesizer):
    """Conversations with the columns `complexity` and `quality`, a score from 1 to 6 per user turn."""

    axes: Literal["both", "complexity", "quality"] = "both"
    """What is scored."""
    complexity_text: str | None = None
    """A Jinja text with `{{ instruction }}` in the shipped one's place, or its path."""
    quality_text: str | None = None
    """A Jinja text with `{{ instruction }}` and `{{ answer }}` in the shipped one's place, or its path."""
    form: Form = "chat"
    """Whether scorers read the text as a user's message, or raw with a blank behind it."""
    on_missing: float | None = None
    """What stands for a score where a server tells none of the digits; None leaves it missing. The published code
    takes 3."""
    sampling: Sampling = Sampling(max_tokens=1, temperature=1.0, top_logprobs=20)
    """What a server is asked for: one token and how many likeliest ones. Models of this process draw nothing."""

    example: ClassVar[Mapping[str, Any]] = {}
    reads: ClassVar[str] = "conversation"
    makes: ClassVar[str] = "conversation"
    rows_per_seed: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.axes not in _AXES:
            raise UsageError(f"deita_scores.axes is {self.axes!r}", fix=f"use one of {', '.join(_AXES)}")
        if self.on_missing is not None and not 1 <= self.on_missing <= len(DIGITS):
            raise UsageError(f"deita_scores.on_missing is {self.on_missing}", fix="use a score from 1 to 6, or None")
        if not self.sampling.top_logprobs:
            raise UsageError("deita_scores.sampling.top_logprobs is 0", fix="use 6 or more, or servers tell nothing")
        for shown in self.shown.values():
            shown.check()

    @property
    def engines(self) -> Mapping[str, str]:
        """One scorer per axis; both may be the same model."""
        return {axis: _ROLES[axis] for axis in _AXES[self.axes]}

    @property
    def shown(self) -> dict[str, Shown]:
        """Axis -> how turns are shown to its scorer."""
        own = {"complexity": self.complexity_text, "quality": self.quality_text}
        return {axis: Shown(axis, own[axis], self.form) for axis in _AXES[self.axes]}

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Score all turns of a record in one call, so that a score depends on its record alone; servers all at once.

        Raises:
            UsageError: a digit that is several tokens behind the text.
            UnsupportedError: an engine without log-probs.
        """
        turns = [turns_of(seed) for seed in seeds]
        scores = {axis: self._scored(shown, engines[axis], turns) for axis, shown in self.shown.items()}
        for k, (seed, asked) in enumerate(zip(seeds, turns, strict=True)):
            if not asked:
                yield Draft(seed.id, error="there is no user turn to score")
            else:
                yield Draft(seed.id, {"row": to_row(seed)} | {axis: found[k] for axis, found in scores.items()})

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Put the scores beside the record's columns; counts `missing_complexity` and `missing_quality`, in turns."""
        for draft in drafts:
            row = {**draft.found["row"], "parent": draft.parent}
            for axis in self.shown:
                found = draft.found[axis]
                counts[f"missing_{axis}"] += found.count(None)
                row[axis] = [self.on_missing if score is None else score for score in found]
            yield row

    def _scored(
        self, shown: Shown, engine: Engine, turns: Sequence[Sequence[tuple[str, str]]]
    ) -> list[list[float | None]]:
        """Return a score per turn of each record; None where there is none."""
        prompts = [[shown.prompt(turn) for turn in asked] for asked in turns]
        if getattr(engine, "remote", False):
            flat = label_logprobs(engine, [prompt for asked in prompts for prompt in asked], DIGITS, self.sampling)
            found = np.split(flat, np.cumsum([len(asked) for asked in prompts])[:-1]) if prompts else []
        else:
            found = [label_logprobs(engine, asked, DIGITS, self.sampling) for asked in prompts]
        return [[None if np.isnan(score) else float(score) for score in expected_score(rows)] for rows in found]
