"""Conversations as few-shot samples: the whole sample, and its question behind subsets of its demonstrations."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from fairlead.errors import DataError, UsageError
from fairlead.forward.layout import Branch, Group
from fairlead.messages import Message
from fairlead.records import Records
from fairlead.render import Rendered, Renderer
from fairlead.training.config import TooLong
from fairlead.training.groups import Lengths, group_records

__all__ = ["Demonstrations", "sample_subsets"]

_log = logging.getLogger("fairlead")


def sample_subsets(shots: int, number: int, seed: str, *, allow_empty: bool = True) -> list[tuple[int, ...]]:
    """Return distinct subsets of `shots` demonstrations, each in the order of the demonstrations.

    Args:
        shots: how many demonstrations there are.
        number: subsets wanted; where there are not as many, all there are come back.
        seed: equal seeds give equal subsets.
        allow_empty: whether no demonstration at all is one of the subsets.
    """
    smallest, rng = 0 if allow_empty else 1, random.Random(seed)
    if shots <= 10:
        every = [s for size in range(smallest, shots + 1) for s in combinations(range(shots), size)]
        return rng.sample(every, min(number, len(every)))
    found: dict[tuple[int, ...], None] = {}
    while len(found) < number:
        one = tuple(i for i in range(shots) if rng.random() < 0.5)
        if len(one) >= smallest:
            found[one] = None
    return list(found)


@dataclass(frozen=True)
class Demonstrations:
    """Groups of a k-shot sample and of N samples with fewer demonstrations; the field `full` tells the first.

    A record's last question and answer are the query and its target; the turns before are the demonstrations, and a
    system message stays in front of all of them.
    """

    subsets: int = 4
    """N, 3 or more."""
    allow_empty: bool = True
    """Whether no demonstration at all may be one of the subsets."""
    scope: Literal["sample", "target"] = "sample"
    """What counts in the whole sample: every token, or the target alone."""
    seed: int = 0
    """Which subsets."""

    def __post_init__(self) -> None:
        if self.subsets < 3:
            raise UsageError(
                f"{self.subsets} subsets of demonstrations: the ranking of two has no gradient", fix="use 3 or more"
            )

    def build(
        self, records: Records, renderer: Renderer, *, max_length: int, too_long: TooLong
    ) -> tuple[list[Group], Lengths]:
        """Make one group of every conversation.

        Raises:
            DataError: a record that is not demonstrations, a query and its target, or has too few of them for three
                subsets; records too long under `error`.
            UsageError: a policy for long records that would cut demonstrations or the target.
        """
        if too_long not in ("error", "drop"):
            raise UsageError(
                f"too_long is {too_long!r}: it would cut demonstrations or the target", fix="use error or drop"
            )
        groups, lengths = group_records(records, renderer, self._group, max_length=max_length, too_long=too_long)
        fewer = sum(len(group.branches) - 1 < self.subsets for group in groups)
        if fewer:
            _log.warning(
                "%d samples have too few demonstrations for %d subsets; all they have are used", fewer, self.subsets
            )
        return groups, lengths

    def _group(self, record: Any, renderer: Renderer) -> Group:
        system, shots, query, target = _parts(record)
        chosen = sample_subsets(len(shots), self.subsets, f"{self.seed} {record.id}", allow_empty=self.allow_empty)
        if len(chosen) < 3:
            raise DataError(
                f"has {len(shots)} demonstrations, which make {len(chosen)} subsets",
                fix="give at least 2 demonstrations and allow the empty subset, or give 3",
            )
        every = [tuple(range(len(shots))), *chosen]
        prompts = [[*system, *(m for i in one for m in shots[i]), query] for one in every]
        rendered = [renderer.example(prompt, [target]) for prompt in prompts]
        first = rendered[0].ids[:1]
        if any(one.ids[:1] != first for one in rendered):
            raise DataError(
                "its subsets do not begin with the same token",
                fix="use a chat template that begins with a special token, or give every record a system message",
            )
        full = np.arange(len(rendered)) == 0
        # The whole sample counts from its second token on, so only the first can be shared as the prompt.
        branches = [
            _branch(one, everywhere=bool(whole) and self.scope == "sample")
            for one, whole in zip(rendered, full, strict=True)
        ]
        return Group(record.id, np.array(first), tuple(branches), {"full": full})


def _branch(rendered: Rendered, *, everywhere: bool) -> Branch:
    ids = np.array(rendered.ids[1:])
    return Branch(ids, np.ones(len(ids), dtype=bool) if everywhere else np.array(rendered.loss_mask[1:], dtype=bool))


def _parts(record: Any) -> tuple[list[Message], list[tuple[Message, Message]], Message, Message]:
    """Split a conversation into system message, demonstrations, query and target."""
    wrong = DataError(
        "is not demonstrations, a query and its target",
        fix="give messages of alternating user and assistant turns that end with the assistant's",
    )
    if record.kind != "conversation" or isinstance(record.prompt, str):
        raise wrong
    answer: Sequence[Message] = record.completion
    said: list[Message] = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else list(answer)
    messages = [*record.prompt, *said]
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = messages[len(system) :]
    if len(turns) % 2 or len(turns) < 2 or [m["role"] for m in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise wrong
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    return system, pairs[:-1], *pairs[-1]
