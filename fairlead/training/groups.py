"""Records to groups: one prompt with the completions that an objective compares, as tokens.

Which fields a group carries follows from its kind of record; what is too long is dealt with here, by a stated policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fairlead.errors import DataError, FairleadError, UsageError
from fairlead.forward.layout import Branch, Group
from fairlead.records import Records
from fairlead.render import Rendered, Renderer
from fairlead.training.config import TooLong
from fairlead.training.objectives.base import Needs

__all__ = ["Grouping", "Lengths", "build_groups", "group_of", "group_records", "mismatched", "text_blocks"]

ACCEPTED = {
    "conversation": ("conversation", "text"),
    "preference": ("preference",),
    "feedback": ("feedback",),
    "ranking": ("ranking",),
}
"""Kinds of record that serve an objective's declared kind."""


@dataclass
class Lengths:
    """The length report: what the model will see, and what was cut or left out."""

    max_length: int
    """Most tokens of a prompt with one completion."""
    too_long: TooLong
    """What was done with longer ones."""
    prompt: list[int] = field(default_factory=list)
    """Tokens of every prompt."""
    completion: list[int] = field(default_factory=list)
    """Tokens of every completion."""
    trained: int = 0
    """Tokens that count, over all completions."""
    dropped: list[str] = field(default_factory=list)
    """Ids of records left out."""
    truncated: list[str] = field(default_factory=list)
    """Ids of records cut."""

    def report(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "max_length": self.max_length,
            "too_long": self.too_long,
            "records": len(self.prompt),
            "completions": len(self.completion),
            "trained_tokens": self.trained,
            "prompt_tokens": _spread(self.prompt),
            "completion_tokens": _spread(self.completion),
            "dropped": {"count": len(self.dropped), "first": self.dropped[:5]},
            "truncated": {"count": len(self.truncated), "first": self.truncated[:5]},
        }


class Grouping(Protocol):
    """A frozen dataclass that makes groups where one record is not simply one group."""

    def build(
        self, records: Records, renderer: Renderer, *, max_length: int, too_long: TooLong
    ) -> tuple[list[Group], Lengths]:
        """Return the groups and the length report; nothing may be left out or cut without being counted there."""
        ...


def build_groups(
    records: Records,
    renderer: Renderer,
    needs: Needs,
    *,
    max_length: int,
    too_long: TooLong = "error",
) -> tuple[list[Group], Lengths]:
    """Render records into groups.

    Args:
        records: of one of the kinds that `needs.record` accepts.
        renderer: of the model that will be trained.
        needs: the objective's.
        max_length: most tokens of a prompt with one completion.
        too_long: what to do with longer ones.

    Raises:
        DataError: a record of another kind, records too long under `error`, nothing left to train on.
    """
    if records.kind not in ACCEPTED[needs.record]:
        raise DataError(
            f"holds {records.kind} records; the objective trains on {needs.record} records",
            place=records.source,
            fix="choose another objective, other data, or set `kind` where records can be converted",
        )
    if needs.grouping is not None:
        return needs.grouping.build(records, renderer, max_length=max_length, too_long=too_long)
    make = _BUILDERS[records.kind]
    return group_records(records, renderer, make, max_length=max_length, too_long=too_long)


def group_records(
    records: Records,
    renderer: Renderer,
    make: Callable[[Any, Renderer], Group],
    *,
    max_length: int,
    too_long: TooLong = "error",
) -> tuple[list[Group], Lengths]:
    """Make one group of every record with `make`, and deal with those that are too long.

    Raises:
        DataError: records too long under `error`, nothing left to train on.
    """
    lengths = Lengths(max_length, too_long)
    groups: list[Group] = []
    refused: list[str] = []
    for record in records:
        try:
            group = make(record, renderer)
        except FairleadError as error:
            raise type(error)(error.what, place=records.place(record.id), fix=error.fix) from error
        if _longest(group) > max_length:
            group = _FITTERS[too_long](group, max_length)
            (refused if too_long == "error" else lengths.dropped if group is None else lengths.truncated).append(
                record.id
            )
        if group is not None:
            groups.append(group)
    if refused:
        places = "; ".join(records.place(id) for id in refused[:5])
        raise DataError(
            f"{len(refused)} records are longer than max_length {max_length} (first: {places})",
            fix="set too_long to drop, truncate_prompt or truncate_end, or raise max_length",
        )
    if not groups:
        raise DataError(
            f"no record is left to train on ({len(lengths.dropped)} dropped as too long)",
            place=records.source,
            fix="raise max_length or give other data",
        )
    for group in groups:
        lengths.prompt.append(len(group.prompt))
        lengths.completion.extend(len(b.ids) for b in group.branches)
        lengths.trained += int(sum(b.trained.sum() for b in group.branches))
    return groups, lengths


def text_blocks(records: Records, renderer: Renderer, block_length: int) -> list[Group]:
    """Join text records end to end and cut them into blocks; every token but a block's first is trained.

    The last block may be shorter; nothing is left out, except a single last token, which nothing would predict.
    """
    if records.kind != "text":
        raise UsageError(
            f"block_length joins text records; these are {records.kind} records",
            place=records.source,
            fix="leave block_length out, or read them with kind: text",
        )
    stream = np.fromiter((i for r in records for i in renderer.text(r.text)), dtype=np.int64)  # type: ignore[union-attr]
    blocks = [stream[at : at + block_length] for at in range(0, len(stream), block_length)]
    return [
        Group(f"block-{k}", block[:1], (Branch(block[1:], np.ones(len(block) - 1, dtype=bool)),))
        for k, block in enumerate(blocks)
        if len(block) > 1
    ]


def mismatched(groups: Sequence[Group], max_length: int) -> list[Group]:
    """Return every prompt with the completions of the next record whose prompt differs and which fit.

    The completions stay the same in every epoch, so that their reference log-probs are computed once.

    Raises:
        DataError: no other record fits.
    """
    twins = []
    for i, group in enumerate(groups):
        for step in range(1, len(groups)):
            other = groups[(i + step) % len(groups)]
            twin = Group(group.id, group.prompt, other.branches, other.fields)
            if not np.array_equal(group.prompt, other.prompt) and _longest(twin) <= max_length:
                twins.append(twin)
                break
        else:
            raise DataError(
                f"no other record's completion fits behind the prompt of {group.id}",
                fix="give at least two different prompts, or raise max_length",
            )
    return twins


def group_of(id: str, rendered: Sequence[Rendered], **fields: Sequence[Any]) -> Group:
    """Join renderings of one prompt; what precedes a lone completion's first trained token is prompt too."""
    split = rendered[0].split
    if len(rendered) == 1:
        split = max(split, rendered[0].loss_mask.index(True))
    prompt = rendered[0].ids[:split]
    if any(r.ids[:split] != prompt for r in rendered):
        raise DataError(
            "its completions do not share their prompt's tokens",
            fix="give the prompt as a column of its own, equal for all completions",
        )
    branches = tuple(Branch(np.array(r.ids[split:]), np.array(r.loss_mask[split:], dtype=bool)) for r in rendered)
    return Group(id, np.array(prompt), branches, {name: np.array(values) for name, values in fields.items()})


def _conversation(record: Any, renderer: Renderer) -> Group:
    return group_of(record.id, [renderer.example(record.prompt, record.completion)])


def _text(record: Any, renderer: Renderer) -> Group:
    ids = renderer.text(record.text)
    return group_of(record.id, [Rendered(ids, [False] + [True] * (len(ids) - 1), [], 1)])


def _preference(record: Any, renderer: Renderer) -> Group:
    pair = [renderer.example(record.prompt, c) for c in (record.chosen, record.rejected)]
    group = group_of(record.id, pair, chosen=[True, False])
    if _is_no_choice(group):
        raise DataError("chosen and rejected are the same tokens", fix="leave the pair out: it says nothing")
    return group


def _feedback(record: Any, renderer: Renderer) -> Group:
    return group_of(record.id, [renderer.example(record.prompt, record.completion)], label=[record.label])


def _ranking(record: Any, renderer: Renderer) -> Group:
    rendered = [renderer.example(record.prompt, c) for c in record.completions]
    return group_of(record.id, rendered, rank_score=[np.float32(score) for score in record.scores])


_BUILDERS: dict[str, Callable[[Any, Renderer], Group]] = {
    "conversation": _conversation,
    "text": _text,
    "preference": _preference,
    "feedback": _feedback,
    "ranking": _ranking,
}


def _longest(group: Group) -> int:
    return len(group.prompt) + max(len(b.ids) for b in group.branches)


def _is_no_choice(group: Group) -> bool:
    """Tell whether the completions of a pair are the same."""
    return "chosen" in group.fields and np.array_equal(group.branches[0].ids, group.branches[1].ids)


def _cut_prompt(group: Group, max_length: int) -> Group | None:
    room = max_length - max(len(b.ids) for b in group.branches)
    if room < 1:
        return None
    return Group(group.id, group.prompt[-room:], group.branches, group.fields)


def _cut_ends(group: Group, max_length: int) -> Group | None:
    room = max_length - len(group.prompt)
    branches = tuple(Branch(b.ids[: max(room, 0)], b.trained[: max(room, 0)]) for b in group.branches)
    cut = Group(group.id, group.prompt, branches, group.fields)
    return None if any(not b.trained.any() for b in branches) or _is_no_choice(cut) else cut


_FITTERS: dict[TooLong, Callable[[Group, int], Group | None]] = {
    "error": lambda group, max_length: None,
    "drop": lambda group, max_length: None,
    "truncate_prompt": _cut_prompt,
    "truncate_end": _cut_ends,
}


def _spread(values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {}
    low, median, high, top = np.percentile(values, [0, 50, 95, 100]).tolist()
    return {"min": low, "median": median, "p95": high, "max": top, "mean": float(np.mean(values))}
