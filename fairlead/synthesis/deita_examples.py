"""What a scorer of complexity or quality is trained on: a turn as the scorer will see it, and the digit to reply.

Source: Liu et al. 2023 (arXiv 2312.15685), section 2: a language model learns to reply with a judge's score.
Where the labels come from is open here: a column (a judge's scores, people's), or a reward of the catalog.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Sampling
from fairlead.errors import DataError, UsageError
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.deita_prompts import DIGITS, Axis, Form, Shown, turns_of

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["DeitaExamples", "levels"]


@dataclass(frozen=True)
class DeitaExamples(Synthesizer):
    """Training rows of a scorer, made of conversations whose worth is known; no model is asked."""

    axis: Axis = "quality"
    """What the scorer is to score."""
    column: str | None = None
    """The column with the labels, a number or one per user turn."""
    reward: Any = None
    """The reward that labels in a column's stead, by prompt and answer: a catalog name, or {name, fields...}."""
    digits: Literal["by rank", "as given"] = "by rank"
    """How labels become digits: six groups of equal size by rank, equal labels together; or as they are, whole numbers
    from 1 to 6."""
    text: str | None = None
    """A Jinja text in the shipped one's place, or its path: the one that `deita_scores` is given later."""
    form: Form = "chat"
    """Whether the scorer reads the text as a user's message, or raw with a blank behind it."""
    sampling: Sampling = Sampling()
    """Nothing is drawn; its seed is the one that the rows name."""

    example: ClassVar[Mapping[str, Any]] = {"reward": {"name": "harbor", "axis": "total"}}
    engines: ClassVar[Mapping[str, str]] = {}
    reads: ClassVar[str] = "conversation"
    makes: ClassVar[str] = "conversation"
    rows_per_seed: ClassVar[int] = 64
    """Most user turns of a conversation."""

    def __post_init__(self) -> None:
        if (self.column is None) == (self.reward is None):
            raise UsageError("deita_examples wants one source of labels", fix="give either a column or a reward")
        self.shown.check()

    @property
    def shown(self) -> Shown:
        """How turns are shown to the scorer."""
        return Shown(self.axis, self.text, self.form)

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Take the label of every turn.

        Raises:
            DataError: labels that are missing, or not one per user turn.
        """
        reward: Any = None if self.reward is None else catalog.from_spec("reward", self.reward)
        for seed in seeds:
            turns = turns_of(seed)
            if not turns or len(turns) > self.rows_per_seed:
                yield Draft(seed.id, error=f"there is no user turn, or more than {self.rows_per_seed}")
                continue
            labels = self._given(seed, len(turns)) if reward is None else _valued(reward, seed, turns)
            yield Draft(seed.id, {"prompts": [self.shown.prompt(turn) for turn in turns], "labels": labels})

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Turn labels into digits; counts every digit, and `dropped_without_label` turns."""
        flat = [(draft, k) for draft in drafts for k in range(len(draft.found["labels"]))]
        labels = [draft.found["labels"][k] for draft, k in flat]
        known = [i for i, label in enumerate(labels) if label is not None]
        digits = _DIGITS[self.digits]([labels[i] for i in known])
        counts["dropped_without_label"] += len(labels) - len(known)
        for i, digit in zip(known, digits, strict=True):
            draft, k = flat[i]
            counts[f"digit_{digit}"] += 1
            prompt, reply = draft.found["prompts"][k], DIGITS[digit - 1]
            completion = reply if isinstance(prompt, str) else [{"role": "assistant", "content": reply}]
            yield {"parent": draft.parent, "prompt": prompt, "completion": completion, "scored": labels[i]}

    def _given(self, seed: Any, count: int) -> list[float | None]:
        if self.column not in seed.extra:
            raise DataError(f"has no column {self.column!r}", place=f"record {seed.id}", fix="label it first")
        value = seed.extra[self.column]
        found = list(value) if isinstance(value, list | tuple) else [value]
        if len(found) != count or not all(_is_label(label) for label in found):
            what = f"column {self.column!r} is {value!r}, not one number per user turn ({count})"
            raise DataError(what, place=f"record {seed.id}", fix="give a number, or a list of one per user turn")
        return [None if label is None else float(label) for label in found]


def levels(labels: Sequence[float]) -> list[int]:
    """Return 1 to 6 by rank: label i is in group 1 + floor(6 (below_i + equal_i / 2) / n)."""
    ordered = np.sort(np.asarray(labels, np.float64))
    below, upto = np.searchsorted(ordered, labels, "left"), np.searchsorted(ordered, labels, "right")
    shares = (below + upto) / (2 * max(1, len(ordered)))
    return (1 + np.minimum(len(DIGITS) - 1, np.floor(len(DIGITS) * shares))).astype(int).tolist()


def _as_given(labels: Sequence[float]) -> list[int]:
    odd = [label for label in labels if label not in range(1, len(DIGITS) + 1)]
    if odd:
        raise DataError(f"{len(odd)} labels are no digits, such as {odd[0]:g}", fix="use whole numbers from 1 to 6")
    return [int(label) for label in labels]


_DIGITS = {"by rank": levels, "as given": _as_given}


def _valued(reward: Any, seed: Any, turns: Sequence[tuple[str, str]]) -> list[float | None]:
    """Return the reward of a record's one answer."""
    if len(turns) != 1 or not seed.prompt:
        what = "is a conversation of several turns, of which a reward values the last alone"
        raise DataError(what, place=f"record {seed.id}", fix="split it into prompts and completions, or use a column")
    found = reward([seed.prompt], [turns[0][1]])
    return [None if found.abstained[0] else float(found.values[0])]


def _is_label(label: Any) -> bool:
    return label is None or (isinstance(label, int | float) and not isinstance(label, bool) and np.isfinite(label))
