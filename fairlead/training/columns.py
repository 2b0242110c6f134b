"""Values per completion that an objective asks for: read from the records, or computed once before the first step.

An objective lists columns in its `Needs`; each becomes an entry of `Scores.fields`, in training and in evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from fairlead.errors import DataError
from fairlead.forward.layout import Group
from fairlead.records import Records
from fairlead.training.config import TrainConfig

__all__ = ["Column", "Desk", "FromRecord", "Part", "attach_columns"]


@dataclass(frozen=True)
class Part:
    """Training or held-out data."""

    groups: Sequence[Group]
    """As tokens, with the ids of their records."""
    records: Records
    """As read."""


@dataclass(frozen=True)
class Desk:
    """What a column may work with, before the first step."""

    config: TrainConfig
    """The run's settings."""
    policy: Any
    """The `Policy` as it starts, prepared by accelerate."""
    accelerator: Any
    """accelerate's runtime."""
    tokenizer: Any
    """The policy's tokenizer."""
    training: Part
    """The training data, which a fitted column is fitted on."""
    notes: list[str] = field(default_factory=list)
    """What columns have to tell about the data: sentences, shown before the first step."""


class Column(Protocol):
    """A frozen dataclass that says where a value per completion comes from."""

    @property
    def name(self) -> str:
        """Its key in `Scores.fields`."""
        ...

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Return one array per group of `part`: float32 [K], a value per completion; NaN where there is none."""
        ...


@dataclass(frozen=True)
class FromRecord:
    """A number of the record's own: one for all completions, a list with one each, or NAME_chosen and NAME_rejected."""

    name: str
    """Column of the data, and key in `Scores.fields`."""
    required: bool = True
    """Whether a record without it is an error; otherwise its value is NaN."""

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Read the column.

        Raises:
            DataError: a required value is missing, or one is not a number for every completion.
        """
        extra = {record.id: getattr(record, "extra", {}) for record in part.records}
        return [self._read(group, extra.get(group.id, {}), part.records) for group in part.groups]

    def _read(self, group: Group, extra: Mapping[str, Any], records: Records) -> np.ndarray:
        size, found = len(group.branches), extra.get(self.name)
        sides = [extra.get(f"{self.name}_{side}") for side in ("chosen", "rejected")]
        if found is None and any(side is not None for side in sides):
            found = sides
        if found is None and self.required:
            raise DataError(
                f"has no {self.name!r}", place=records.place(group.id), fix=f"give a number in the column {self.name!r}"
            )
        values = list(found) if isinstance(found, list | tuple) else [found] * size
        numbers = [math.nan if v is None and not self.required else v for v in values]
        if len(numbers) != size or any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers):
            raise DataError(
                f"{self.name!r} is {found!r}",
                place=records.place(group.id),
                fix=f"give one number, or a list of {size}",
            )
        return np.array(numbers, dtype=np.float32)


def attach_columns(part: Part, columns: Sequence[Column], desk: Desk) -> list[Group]:
    """Return the part's groups with the columns among their fields."""
    groups = list(part.groups)
    for column in columns:
        values = column.supply(part, desk)
        groups = [replace(g, fields={**g.fields, column.name: v}) for g, v in zip(groups, values, strict=True)]
    return groups
