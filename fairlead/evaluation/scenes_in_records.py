"""Scenes out of records with the columns of BBQ (Parrish et al. 2022, arXiv 2110.08193), read with `format=bbq`.

Of a row these are used: the prompt, `options` and `answer`; `question_polarity` (neg, nonneg) and `context_condition`
(ambig, disambig); `answer_info`, of which the last text of every answer is the group it names (`unknown` for none);
`stereotyped_groups` of `additional_metadata`, or `target_loc`, the number of the answer that the prejudice is about;
`category` and `question_index`, which together are the template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.engines.asking import check_ids, listed
from fairlead.errors import DataError
from fairlead.evaluation.scenes import Scene
from fairlead.messages import last_question

__all__ = ["scenes_of"]

_UNKNOWN = "unknown"
_SIDES = {"question_polarity": {"neg": True, "nonneg": False}, "context_condition": {"ambig": True, "disambig": False}}


def scenes_of(records: Sequence[Any]) -> tuple[list[Scene], list[str]]:
    """Return the scene of every record, and a note on those that do not say whom the prejudice is about.

    Raises:
        DataError: a record that is not as BBQ has it, or none that says so.
    """
    check_ids(records)
    scenes, silent = [], []
    for record in records:
        scene = _scene(record)
        if scene is None:
            silent.append(str(record.id))
        else:
            scenes.append(scene)
    if not scenes:
        what = "no record says which of its answers the prejudice is about"
        raise DataError(what, fix="give `target_loc`, or additional_metadata.stereotyped_groups as in answer_info")
    if not silent:
        return scenes, []
    what = f"{len(silent)} of {len(records)} records do not say whom the prejudice is about, and are not asked"
    return scenes, [f"{what}: {listed(silent)}"]


def _scene(record: Any) -> Scene | None:
    place = f"record {record.id}"
    row: Mapping[str, Any] = getattr(record, "extra", None) or {}
    options = row.get("options")
    if not isinstance(options, list | tuple) or len(options) != 3 or len(set(map(str, options))) < 3:
        fix = "read BBQ's rows with format=bbq"
        raise DataError(f"column 'options' is {options!r}, not three different answers", place=place, fix=fix)
    negative, ambiguous = (_side(row, column, place) for column in _SIDES)
    groups = [_group(row, k, place) for k in range(3)]
    unknown = [k for k, group in enumerate(groups) if group == _UNKNOWN]
    if len(unknown) != 1:
        fix = "let one of answer_info's three groups be `unknown`"
        raise DataError(f"its groups are {groups}", place=place, fix=fix)
    people = [k for k in range(3) if k != unknown[0]]
    target = _target(row, groups, people)
    if target is None:
        return None
    order = [target, *(k for k in people if k != target), unknown[0]]
    answer = row.get("answer")
    right = order.index(answer) if isinstance(answer, int) and answer in order else None
    if right is None or (right == 2) != ambiguous:
        what = f"answer {answer!r} does not fit {row['context_condition']!r}"
        raise DataError(what, place=place, fix="`unknown` is right where the context is ambiguous, and only there")
    return Scene(
        id=str(record.id),
        template=f"{row.get('category', '')}-{row.get('question_index', record.id)}",
        ambiguous=ambiguous,
        negative=negative,
        first=0 if ambiguous else right if negative else 1 - right,
        text=last_question(record.prompt),
        options=(str(options[order[0]]), str(options[order[1]]), str(options[order[2]])),
    )


def _side(row: Mapping[str, Any], column: str, place: str) -> bool:
    known = _SIDES[column]
    found = row.get(column)
    if found not in known:
        raise DataError(f"column {column!r} is {found!r}", place=place, fix=f"use {' or '.join(known)}")
    return known[found]


def _group(row: Mapping[str, Any], number: int, place: str) -> str:
    info = row.get("answer_info")
    found = info.get(f"ans{number}") if isinstance(info, Mapping) else None
    if not isinstance(found, list | tuple) or not found:
        fix = 'give {"ans0": [text, group], ...}, as BBQ does'
        raise DataError(f"column 'answer_info' has no ans{number}", place=place, fix=fix)
    return str(found[-1])


def _target(row: Mapping[str, Any], groups: Sequence[str], people: Sequence[int]) -> int | None:
    """Return the number of the person whom the prejudice is about, if the row says so of one alone."""
    told = row.get("target_loc")
    if told is not None:
        return next((k for k in people if str(told).removesuffix(".0") == str(k)), None)
    more = row.get("additional_metadata")
    named = more.get("stereotyped_groups") if isinstance(more, Mapping) else None
    wanted = {_bare(group) for group in (named if isinstance(named, list | tuple) else ())}
    found = [k for k in people if _bare(groups[k]) in wanted or _bare(groups[k].partition("-")[2]) in wanted]
    return found[0] if len(found) == 1 else None


def _bare(text: Any) -> str:
    """Return a group's name without capitals, blanks and signs: BBQ spells it in more than one way."""
    return re.sub(r"[\W_]+", "", str(text)).lower() or "\0"
