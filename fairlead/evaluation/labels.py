"""Records as classification items, and what an engine answers by its log-probs of the label words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairlead.engines.base import Engine, Prompt
from fairlead.errors import DataError

__all__ = ["Items", "answers_of", "items_of"]


@dataclass(frozen=True)
class Items:
    """N items with up to K label words each."""

    prompts: list[Prompt]
    """What is asked."""
    words: list[list[str]]
    """The label words of each item."""
    truth: np.ndarray
    """int64 [N]: number of the true label among the item's words."""
    classes: np.ndarray
    """int64 [N, K]: the class of each word, the same for equal words of different items; -1 where there is none."""
    flag: int | None
    """The class that is to be flagged."""


def items_of(records: Sequence[Any], flagged: str | None = None) -> Items:
    """Read rankings (label words, with a column `truth` or one highest score) or preferences as items.

    Raises:
        DataError: another kind of record, a label of several turns, no truth, or a flagged word that no item has.
    """
    if not records:
        raise DataError("there is no record to evaluate on", fix="give rankings of label words, or preferences")
    words, truth = [], []
    for record in records:
        if record.kind not in _READERS:
            what = f"a {record.kind} record has no labels to choose from"
            raise DataError(what, place=f"record {record.id}", fix="give rankings or preferences, or set a reward")
        answers, right = _READERS[record.kind](record)
        words.append([_text(record, answer) for answer in answers])
        truth.append(right)
    numbers = {word: number for number, word in enumerate(dict.fromkeys(word for row in words for word in row))}
    if flagged is not None and flagged not in numbers:
        known = ", ".join(repr(word) for word in list(numbers)[:10])
        raise DataError(f"no item has the label {flagged!r}", place="weak_to_strong_gap.flagged", fix=f"known: {known}")
    classes = np.full((len(words), max(map(len, words))), -1)
    for i, row in enumerate(words):
        classes[i, : len(row)] = [numbers[word] for word in row]
    flag = None if flagged is None else numbers[flagged]
    return Items([record.prompt for record in records], words, np.array(truth), classes, flag)


def answers_of(name: str, engine: Engine, items: Items) -> np.ndarray:
    """Return the number of the label word that the engine finds likeliest, per item: int64 [N]; the first of equals.

    Raises:
        UnsupportedError: an engine without log-probs.
    """
    prompts = [prompt for prompt, row in zip(items.prompts, items.words, strict=True) for _ in row]
    found = engine.logprobs(prompts, [word for row in items.words for word in row])
    sums = iter([float(np.asarray(one, dtype=np.float64).sum()) for one in found])
    return np.array([int(np.argmax([next(sums) for _ in row])) for row in items.words])


def _ranking(record: Any) -> tuple[Sequence[Any], int]:
    truth = record.extra.get("truth")
    if truth is None and list(record.scores).count(max(record.scores)) == 1:
        truth = int(np.argmax(record.scores))
    if isinstance(truth, bool) or not isinstance(truth, int) or not 0 <= truth < len(record.completions):
        fix = "give the number of the true label in the column truth, or score one label highest"
        raise DataError(f"its truth is {truth!r}", place=f"record {record.id}", fix=fix)
    return record.completions, truth


def _preference(record: Any) -> tuple[Sequence[Any], int]:
    return (record.chosen, record.rejected), 0


_READERS: dict[str, Callable[[Any], tuple[Sequence[Any], int]]] = {"ranking": _ranking, "preference": _preference}


def _text(record: Any, answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    if [message["role"] for message in answer] == ["assistant"]:
        return answer[0]["content"]
    raise DataError("a label is several turns", place=f"record {record.id}", fix="give each label as one answer")
