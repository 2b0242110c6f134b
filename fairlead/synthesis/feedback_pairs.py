"""From drafted cases of feedback to records: which cases are kept, pairs, thumbs and checklists, and the split."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from fairlead.synthesis.base import Draft, Row

__all__ = ["SOURCES", "Outcome", "built", "held_out", "leaks", "two_orders"]

Outcome = Literal["win", "tie", "loss"]

SOURCES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "expert": (("dsat",), "expert", "logged"),
    "on_policy": (("dsat", "sat"), "hinted", "plain"),
    "praised": (("sat",), "logged", "plain"),
}
"""Source of pairs -> the kinds of case that give one, which answer is chosen, and which is rejected."""

_ABOUT_WISHES = re.compile(
    r"\b(?:as you (?:prefer|asked|requested|wanted)|your (?:stated |listed )?preferences?)\b",
    re.IGNORECASE,
)
_ABOUT_AN_ANSWER = re.compile(
    r"\b(?:sorry|apolog\w+)\b[^.!?]{0,60}\b(?:earlier|previous|last|before|confusion|mistake|misunderstanding|error)\b"
    r"|\bhere(?:'s| is)\b[^.!?:]{0,30}\b(?:shorter|longer|revised|corrected|improved|updated|rewritten)\b",
    re.IGNORECASE,
)


def leaks(answer: str, prompt: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an answer speaks of what its hidden hint says, or mends an earlier answer where there is none."""
    said_before = any(turn["role"] == "assistant" for turn in prompt)
    return bool(_ABOUT_WISHES.search(answer)) or (not said_before and bool(_ABOUT_AN_ANSWER.search(answer)))


def two_orders(first: str | None, second: str | None) -> Outcome:
    """Return what two verdicts (`A`, `B`, `tie`, None for none) say of the answer that is A first and then B."""
    if (first, second) == ("A", "B"):
        return "win"
    return "loss" if (first, second) == ("B", "A") else "tie"


def held_out(sizes: Mapping[str, int], wanted: int, seed: int) -> set[str]:
    """Return conversations with `wanted` cases at most between them, drawn whole; the first drawn where none fits.

    Args:
        sizes: conversation -> its number of cases; those without any are never drawn.
        wanted: cases to hold out; 0 holds out none.
        seed: of the draw.
    """
    names = sorted(name for name, size in sizes.items() if size)
    if not wanted or not names:
        return set()
    random.Random(f"wildfeedback {seed}").shuffle(names)
    taken, total = set(), 0
    for name in names:
        if total + sizes[name] <= wanted:
            taken.add(name)
            total += sizes[name]
    return taken or {names[0]}


def _origin(draft: Draft, case: Mapping[str, Any]) -> Row:
    signal = case["signal"]
    return {
        "parent": draft.parent,
        "signal": case["kind"],
        "sat": signal["sat"],
        "dsat": signal["dsat"],
        "sign": (signal["dsat"] or signal["sat"])[0],
        "turn": case["turn"],
        "feedback": case["reaction"],
    }


def _wished(case: Mapping[str, Any], question: str) -> Row:
    wishes = case["wishes"]
    return {"preferences": wishes, "checks": [question.replace("{preference}", wish) for wish in wishes]}


def _kept(case: Mapping[str, Any], method: Any, counts: Counter[str]) -> bool:
    """Whether a case is of use; the first reason against it is counted."""
    reason = None
    if case["safe"] is None and method.moderate:
        reason = "without_a_moderation"
    elif case["safe"] is False:
        reason = "unsafe"
    elif method.rows != "thumbs" and case["wishes"] is None:
        reason = "without_readable_preferences"
    elif method.rows != "thumbs" and not case["wishes"]:
        reason = "without_preferences"
    if reason:
        counts[f"dropped_{reason}"] += 1
    return reason is None


def _thumbs(draft: Draft, case: Mapping[str, Any], method: Any, counts: Counter[str]) -> Iterator[Row]:
    completion = [{"role": "assistant", "content": case["answer"]}]
    yield _origin(draft, case) | {
        "prompt": case["prompt"],
        "completion": completion,
        "label": case["kind"] == "sat",
    }


def _checklists(draft: Draft, case: Mapping[str, Any], method: Any, counts: Counter[str]) -> Iterator[Row]:
    yield _origin(draft, case) | {"prompt": case["prompt"]} | _wished(case, method.question)


def _pairs(draft: Draft, case: Mapping[str, Any], method: Any, counts: Counter[str]) -> Iterator[Row]:
    answers = {**case["answers"], "logged": case["answer"]}
    for source in method.pairs:
        kinds, better, worse = SOURCES[source]
        if case["kind"] not in kinds:
            continue
        chosen, rejected = answers[better], answers[worse]
        outcome = case["outcomes"].get(source)
        reason = None
        if not chosen.strip() or not rejected.strip():
            reason = "blank"
        elif chosen.split() == rejected.split():
            reason = "equal"
        elif better != "logged" and leaks(chosen, case["prompt"]):
            reason = "leak"
        elif source in method.judged and outcome != "win":
            reason = f"{outcome}_{source}"
        if reason:
            counts[f"dropped_{reason}"] += 1
            continue
        counts[f"pairs_{source}"] += 1
        counts["words_chosen"] += len(chosen.split())
        counts["words_rejected"] += len(rejected.split())
        yield (
            _origin(draft, case)
            | {
                "prompt": case["prompt"],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "source": source,
                "outcome": outcome,
            }
            | _wished(case, method.question)
        )


_ROWS = {"pairs": _pairs, "thumbs": _thumbs, "checklists": _checklists}


def built(draft: Draft, method: Any, counts: Counter[str]) -> Iterator[Row]:
    """Yield the rows of a draft as a method's `rows`, `pairs`, `judged`, `moderate` and `question` say.

    Counts cases by kind and sign, and what was left out by its reason.
    """
    for case in draft.found["cases"]:
        counts[case["kind"]] += 1
        counts.update(f"sign_{name}" for name in (*case["signal"]["sat"], *case["signal"]["dsat"]))
        if _kept(case, method, counts):
            yield from _ROWS[method.rows](draft, case, method, counts)
