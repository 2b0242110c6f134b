"""Prompts of an online run, as groups that have no completions yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fairlead.errors import DataError, FairleadError
from fairlead.forward.layout import Branch, Group
from fairlead.records import Records
from fairlead.render import Renderer
from fairlead.training.config import TooLong
from fairlead.training.groups import Lengths

__all__ = ["imagined", "prompt_groups"]


def prompt_groups(
    records: Records, renderer: Renderer, *, max_length: int, max_tokens: int, too_long: TooLong
) -> tuple[list[Group], Lengths]:
    """Render prompts; each must leave room for a completion of `max_tokens`.

    Raises:
        DataError: prompts too long under `error`, or cut so that nothing is left; no prompt left.
    """
    lengths = Lengths(max_length, too_long)
    room, groups, refused = max_length - max_tokens, [], []
    record: Any
    for record in records:
        try:
            ids: list[int] = renderer.prompt(record.prompt)
        except FairleadError as error:
            raise type(error)(error.what, place=records.place(record.id), fix=error.fix) from error
        if len(ids) > room:
            if too_long in ("error", "truncate_end") or room < 1:
                refused.append(record.id)
            (lengths.dropped if too_long == "drop" else lengths.truncated).append(record.id)
            ids = ids[-room:] if too_long == "truncate_prompt" and room >= 1 else []
        if ids:
            groups.append(Group(record.id, np.array(ids), ()))
            lengths.prompt.append(len(ids))
    if refused:
        places = "; ".join(records.place(id) for id in refused[:5])
        raise DataError(
            f"{len(refused)} prompts leave no room for {max_tokens} tokens within max_length {max_length} "
            f"(first: {places})",
            fix="set too_long to drop or truncate_prompt, lower rollout.max_tokens, or raise max_length",
        )
    if not groups:
        raise DataError("no prompt is left", place=records.source, fix="raise max_length or give other data")
    return groups, lengths


def imagined(group: Group, completions: int, tokens: int) -> Group:
    """Return a prompt's group as it is at most: every completion of full length."""
    branch = Branch(np.zeros(tokens, dtype=np.int64), np.ones(tokens, dtype=bool))
    return replace(group, branches=(branch,) * completions)
