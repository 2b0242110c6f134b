"""Which answers are right: those that hold a true answer of their record, or those that a reward values enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairlead import catalog
from fairlead.errors import DataError, UsageError
from fairlead.rewards.base import Reward
from fairlead.rewards.matching import contains, normalise

__all__ = ["Truth", "true_answers"]


@dataclass(frozen=True)
class Truth:
    """Judges answers by the true answers of a column, or by a reward."""

    column: str = "answers"
    """Column of the records with the true answers: a text or a list of texts, empty where nothing is right."""
    reward: Any = None
    """The reward that judges instead of the column: a catalog name, or {name, fields...}."""
    correct_above: float = 0.5
    """An answer is right when the reward values it higher than this; an abstention is not right."""

    def build(self) -> Reward | None:
        """Return the reward that judges, or None when the column does."""
        return None if self.reward is None else catalog.from_spec("reward", self.reward)

    def judge(self, records: Sequence[Any], answers: Sequence[Sequence[str]]) -> tuple[list[list[bool]], list[bool]]:
        """Judge [N][n] answers to N records.

        Returns:
            [N][n] whether an answer is right; [N] whether anything can be right: the record has a true answer, or the
            reward did not abstain on all of its answers.

        Raises:
            DataError: a record without the column.
        """
        reward = self.build()
        if reward is None:
            truths = [true_answers(record, self.column) for record in records]
            right = [[contains(text, known) for text in texts] for known, texts in zip(truths, answers, strict=True)]
            return right, [any(map(normalise, known)) for known in truths]
        prompts = [record.prompt for record, texts in zip(records, answers, strict=True) for _ in texts]
        found = reward(prompts, [text for texts in answers for text in texts])
        if len(found) != len(prompts):
            what = f"{type(reward).__name__} valued {len(found)} of {len(prompts)} answers"
            raise UsageError(what, fix="return one value per completion")
        ends = np.cumsum([len(texts) for texts in answers])[:-1]
        values, silent = np.split(found.values, ends), np.split(found.abstained, ends)
        return [(part > self.correct_above).tolist() for part in values], [not part.all() for part in silent]


def true_answers(record: Any, column: str) -> list[str]:
    """Return the true answers of a record.

    Raises:
        DataError: the column is missing or holds anything but texts.
    """
    place, fix = f"record {record.id}", "give a text or a list of texts; an empty list where nothing is right"
    if column not in record.extra:
        raise DataError(f"has no column {column!r} with the true answers", place=place, fix=f"{fix}; or use a reward")
    found = record.extra[column]
    known = [found] if isinstance(found, str) else found
    if not isinstance(known, list | tuple) or not all(isinstance(text, str) for text in known):
        raise DataError(f"column {column!r} holds {found!r}", place=place, fix=fix)
    return list(known)
