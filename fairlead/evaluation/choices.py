"""What an engine chooses among options: by the log-probs of their texts, or by what it writes.

Judging one of two answers by a principle, items of a questionnaire and statements of an attitude scale all ask this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fairlead.engines.base import Engine
from fairlead.messages import Prompt
from fairlead.rewards.refusals import Refusals
from fairlead.verdicts import Reading

__all__ = ["LETTERS", "option_logprobs", "probabilities", "read_option"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Labels of options in their order."""

_AT_ONCE = 64
_REFUSALS = Refusals(
    phrases=("as an ai", "i cannot", "i can't", "i won't", "i will not", "i do not have", "i don't have")
)
_ALONE = r"(?<![\w/]){0}(?![\w/])(?!['\u2019]\w)"
_WORDS = ("A", "I")
"""Labels that are words too: before a small word, as in "A good idea", they are none."""
_MARKED = r"(?:\(\s*{0}\s*[).:]|\[\s*{0}\s*\]|\*\*\s*\(?{0}\)?\s*[.):]?\s*\*\*|(?<!\w){0}\s*[).:](?=\s|$|\*))"


def option_logprobs(
    engine: Engine, prompts: Sequence[Prompt], options: Sequence[Sequence[str]], *, whole: bool
) -> list[np.ndarray]:
    """Return the log-prob of every option as the answer to its prompt: float64 [K_i], nats, for each of N prompts.

    Args:
        engine: who is asked.
        prompts: N questions.
        options: the options [K_i] of each question.
        whole: whether the answer ends behind the option. If not, an option counts as the beginning of an answer, with
            a space before it or without: both ways are added up where they are different tokens.

    Raises:
        UnsupportedError: an engine that gives no log-probs of a text.
    """
    ways = ("",) if whole else ("", " ")
    asked = [
        (prompt, way + text) for prompt, texts in zip(prompts, options, strict=True) for text in texts for way in ways
    ]
    found: list[np.ndarray] = []
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        found += engine.logprobs([prompt for prompt, _ in part], [text for _, text in part])
    each = iter(found)
    return [
        np.array([_joined([_kept(next(each), whole) for _ in ways]) for _ in texts], dtype=np.float64)
        for texts in options
    ]


def probabilities(logprobs: np.ndarray) -> np.ndarray:
    """Return the probabilities of options [..., K] among themselves; NaN where no option is possible."""
    highest = logprobs.max(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        weights = np.exp(logprobs - highest)
        return weights / weights.sum(-1, keepdims=True)


def read_option(reply: str, labels: Sequence[str], texts: Sequence[str] = ()) -> Reading:
    """Read which option [K] a reply chooses: its number, from 0.

    A reply that is one label or one option's text chooses it. Else the first label that is marked as one, as (B), B) or
    **B**, does; else, unless the reply refuses (its problem is `refusal`), the first label that stands alone, or the
    one option whose text the reply has.

    Args:
        reply: what was written.
        labels: what the options are called, such as letters or numbers; empty where they are not labelled.
        texts: what the options say; empty where the label says all.
    """
    said = reply.strip()
    if not said:
        return Reading(problem="empty")
    for names in (labels, texts):
        equal = [i for i, name in enumerate(names) if _bare(name) == _bare(said)]
        if len(equal) == 1:
            return Reading(equal[0])
    marked = _first(said, labels, _MARKED)
    if marked is not None:
        return Reading(marked)
    if _REFUSALS.find("", said) is not None and not any(_REFUSALS.find("", text) for text in texts):
        return Reading(problem="refusal")
    alone = _first(said, labels, _ALONE)
    return _named(said, texts) if alone is None else Reading(alone)


def _bare(text: str) -> str:
    return re.sub(r"[\s.,:;!?()\[\]*'\"`]+", " ", text).strip().lower()


def _first(said: str, labels: Sequence[str], pattern: str) -> int | None:
    """Return the label that stands first in the way of a pattern."""
    ways = [pattern.format(re.escape(label)) + (r"(?!\s+[a-z])" if label in _WORDS else "") for label in labels]
    found = [(re.search(way, said), i) for i, way in enumerate(ways)]
    return min(((match.start(), i) for match, i in found if match), default=(0, None))[1]


def _named(said: str, texts: Sequence[str]) -> Reading:
    """Return the option whose text stands in a reply, where it is not part of another option's text there."""
    low = said.lower()
    spans = [
        (match.span(), i)
        for i, text in enumerate(texts)
        if text
        for match in re.finditer(rf"(?<!\w){re.escape(text.lower())}(?!\w)", low)
    ]
    held = {i for span, i in spans if not any(_inside(span, other) for other, _ in spans)}
    if len(held) == 1:
        return Reading(held.pop())
    return Reading(problem="several options" if held else "no option")


def _inside(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span != other and other[0] <= span[0] and span[1] <= other[1]


def _kept(values: np.ndarray, whole: bool) -> np.ndarray:
    """Leave out the end-of-turn token where an option is only a beginning."""
    found = np.asarray(values, dtype=np.float64)
    return found if whole else found[:-1]


def _joined(ways: Sequence[np.ndarray]) -> float:
    first, *rest = ways
    sums = [float(first.sum())]
    # A tokenizer that ignores the space reads the same tokens, which must not count twice.
    sums += [
        float(other.sum()) for other in rest if len(other) != len(first) or not np.allclose(other, first, atol=1e-4)
    ]
    return float(np.logaddexp.reduce(sums))
