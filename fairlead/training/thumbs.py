"""Answers with a thumb up or down: how feedback records become groups, and what their objectives share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fairlead.errors import DataError
from fairlead.forward.layout import Group
from fairlead.records import Records
from fairlead.render import Renderer
from fairlead.training.config import TooLong
from fairlead.training.groups import Lengths, group_of, group_records
from fairlead.training.objectives.base import Scores, token_sums

__all__ = ["Thumbs", "log_ratios"]


@dataclass(frozen=True)
class Thumbs:
    """One group per record, with its `label`; data with thumbs of one kind only are refused."""

    def build(
        self, records: Records, renderer: Renderer, *, max_length: int, too_long: TooLong
    ) -> tuple[list[Group], Lengths]:
        """Return the groups and the length report.

        Raises:
            DataError: as `group_records`; no thumb up, or none down, among the records that are left.
        """
        groups, lengths = group_records(records, renderer, _group, max_length=max_length, too_long=too_long)
        up = sum(bool(group.fields["label"][0]) for group in groups)
        if up in (0, len(groups)):
            raise DataError(
                f"all {len(groups)} records have a thumb {'up' if up else 'down'}; nothing tells good from bad",
                place=records.source,
                fix="give records of both labels; answers to imitate train with sft",
            )
        return groups, lengths


def _group(record: Any, renderer: Renderer) -> Group:
    return group_of(record.id, [renderer.example(record.prompt, record.completion)], label=[record.label])


def log_ratios(scores: Scores) -> Tensor:
    """Return each row's log-ratio of policy to reference, summed over its tokens: float32 [N]."""
    return token_sums(scores.policy, scores.mask) - token_sums(scores.require("reference"), scores.mask)
