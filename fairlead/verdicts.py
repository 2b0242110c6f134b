"""Verdicts out of what judges write: labels, scores, ticks; and what a reply is that holds none that can be believed.

A judged answer may hold a verdict itself, to be quoted or obeyed. So every prompt to a judge has a key that only the
judge sees (`key_of`), and where an answer holds anything like a verdict, only a verdict that bears the key counts.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "DIFFICULTY",
    "LABELS",
    "QUALITY",
    "Reading",
    "choice_points",
    "holds_verdict",
    "key_of",
    "objects",
    "points_of_label",
    "read_checks",
    "read_class",
    "read_label",
    "read_named",
    "read_scores",
    "read_word",
    "strong_points",
]

LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
"""Verdicts on two answers: A far better, better, equal, worse, far worse."""

DIFFICULTY = ("very easy", "easy", "medium", "hard", "very hard")
"""How hard a request is, the easiest first."""

QUALITY = ("very poor", "poor", "average", "good", "excellent")
"""How well a request is put, the worst first."""

_SAME = {
    **{label: label for label in LABELS},
    **{"B<<A": "A>>B", "B<A": "A>B", "B=A": "A=B", "A<B": "B>A", "A<<B": "B>>A"},
    **{"A": "A>B", "B": "B>A", "C": "A=B", "TIE": "A=B", "EQUAL": "A=B", "NEITHER": "A=B"},
}
_POINTS = {"A>>B": 0.0, "A>B": 0.0, "A=B": 0.5, "B>A": 1.0, "B>>A": 1.0}
_GAMES = {"A>>B": (1.0, 1.0, 1.0), "A>B": (1.0,), "A=B": (0.5,), "B>A": (0.0,), "B>>A": (0.0, 0.0, 0.0)}

_TOKEN = r"(?:A|B|C|tie|[AB]\s*(?:<<|<|=|>>|>)\s*[AB])"
_DOUBLE = re.compile(rf"\[\[\s*({_TOKEN})\s*\]\]", re.IGNORECASE)
_SINGLE = re.compile(rf"\[\s*({_TOKEN})\s*\]", re.IGNORECASE)
_SCORE_PAIR = re.compile(r"\s*(\d+(?:\.\d+)?)[\s,;/]+(\d+(?:\.\d+)?)\s*(?:\n|$)")
_QUOTED_NAME = re.compile(r"""["'](?:verdict|score|checks)["']\s*:""", re.IGNORECASE)
_REASON = re.compile(r'("reason"\s*:\s*")(.*?)("\s*(?:,\s*"(?:score|verdict|checks)"|\}))', re.DOTALL)
_TWICE = "\0 twice"
_YES = {"yes": True, "true": True, "pass": True, "no": False, "false": False, "fail": False}
_UNKNOWN = ("n/a", "na", "none", "null", "")


@dataclass(frozen=True)
class Reading:
    """What a reply says."""

    value: Any = None
    """The verdict; None where there is none."""
    problem: str | None = None
    """Why there is none: `empty`, `no verdict`, `several verdicts`, `not believed`, `incomplete`, `off the scale`."""


def key_of(*texts: str) -> str:
    """Return 8 hex digits for what is judged, in its order; no text contains them."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
    while any(digest[:8] in text for text in texts):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return digest[:8]


def holds_verdict(texts: Iterable[str]) -> bool:
    """Whether any of the judged texts has something in it that could be read as a verdict."""
    patterns = (_DOUBLE, _SINGLE, _QUOTED_NAME)
    return any(pattern.search(text) for text in texts for pattern in patterns)


def objects(reply: str, names: Collection[str]) -> list[dict[str, Any]]:
    """Return the JSON objects of a reply that have any of `names` as a key, in their order.

    What stands around them (fences, prose) does not matter. Where no object can be read as it is, the text from the
    first brace to the last is read with quotes inside reasons, commas before a closing brace and single quotes mended.
    """
    found = [item for item in _scan(reply) if any(name in item for name in names)]
    start, end = reply.find("{"), reply.rfind("}")
    if found or not 0 <= start < end:
        return found
    body = re.sub(r",\s*([}\]])", r"\1", reply[start : end + 1])
    for attempt in (body, _REASON.sub(_escape, body)):
        mended = _load(attempt)
        if isinstance(mended, dict) and any(name in mended for name in names):
            return [mended]
    return []


def read_label(
    reply: str,
    key: str | None = None,
    answers: Sequence[str] = (),
    *,
    last: bool = False,
    at_end: bool = False,
) -> Reading:
    """Read one of `LABELS`: from a JSON object with `verdict`, else from `[[A>B]]`, `[A>B]`, or a line of two scores.

    Args:
        reply: what the judge wrote.
        key: what a verdict bears in its object where the answers hold something like a verdict.
        answers: the judged texts.
        last: of several verdicts that differ, take the last instead of none.
        at_end: believe only what stands in the last paragraph, behind the last blank line.
    """
    if not reply.strip():
        return Reading(problem="empty")
    reply = re.split(r"\n[ \t]*\n", reply.rstrip())[-1] if at_end else reply
    given = [
        (str(item.get("verdict", "")), item.get("key") == key, _TWICE in item) for item in objects(reply, ["verdict"])
    ]
    labels = [(_label(text), keyed) for text, keyed, _ in given]
    if not labels:
        tokens = _DOUBLE.findall(reply) or _SINGLE.findall(reply)
        labels = [(_label(token), False) for token in tokens]
    if not labels and (pair := _SCORE_PAIR.match(reply)):
        first, second = map(float, pair.groups())
        labels = [("A>B" if first > second else "B>A" if second > first else "A=B", False)]
    return _one(labels, holds_verdict(answers), last, doubled=any(twice for *_, twice in given))


def read_scores(
    reply: str,
    aspects: Sequence[str],
    key: str | None = None,
    answers: Sequence[str] = (),
    *,
    scale: tuple[int, int] = (1, 5),
) -> Reading:
    """Read a whole score per aspect, None for "N/A", from `{aspect: {"reason", "score"}}` or `{aspect: score}`."""
    if not reply.strip():
        return Reading(problem="empty")
    found = []
    problem = "no verdict"
    for item in objects(reply, aspects):
        scores = {aspect: _score(item[aspect]) for aspect in aspects if aspect in item}
        if _TWICE in item:
            problem = "several verdicts"
        elif len(scores) < len(aspects):
            problem = "incomplete"
        elif any(score is not None and not scale[0] <= score <= scale[1] for score in scores.values()):
            problem = "off the scale"
        else:
            found.append((scores, item.get("key") == key))
    if not found:
        return Reading(problem=problem)
    return _one(found, holds_verdict(answers), last=False)


def read_checks(reply: str, names: Sequence[str], key: str | None = None, answers: Sequence[str] = ()) -> Reading:
    """Read yes or no (None for "N/A") per name from `{"checks": {name: "yes"}}`."""
    if not reply.strip():
        return Reading(problem="empty")
    found = []
    problem = "no verdict"
    for item in objects(reply, ["checks"]):
        ticks = item["checks"] if isinstance(item["checks"], Mapping) else {}
        said = {name: _tick(ticks[name]) for name in names if name in ticks}
        if _TWICE in item or _TWICE in ticks:
            problem = "several verdicts"
        elif len(said) < len(names):
            problem = "incomplete"
        elif any(isinstance(tick, float) for tick in said.values()):
            problem = "off the scale"
        else:
            found.append((said, item.get("key") == key))
    if not found:
        return Reading(problem=problem)
    return _one(found, holds_verdict(answers), last=False)


def read_class(reply: str, classes: Sequence[str], key: str | None = None, answers: Sequence[str] = ()) -> Reading:
    """Read one of `classes` from `{"verdict": class}`; capitals do not matter."""
    if not reply.strip():
        return Reading(problem="empty")
    given = objects(reply, ["verdict"])
    said = [str(item["verdict"]).strip().lower() for item in given]
    if any(word not in classes for word in said):
        return Reading(problem="off the scale")
    labels = [(word, item.get("key") == key) for word, item in zip(said, given, strict=True)]
    return _one(labels, holds_verdict(answers), last=False, doubled=any(_TWICE in item for item in given))


def read_named(
    reply: str, names: Mapping[str, Sequence[str] | None], key: str | None = None, shown: Sequence[str] = ()
) -> Reading:
    """Read a text per name from `{name: text}`.

    Args:
        reply: what was written.
        names: each with the texts that it may be (capitals do not matter), or None for any text. Where they are yes
            and no, true and false stand for them.
        key: what an object bears where the texts that were shown have one of `names` in quotes.
        shown: these texts.
    """
    if not reply.strip():
        return Reading(problem="empty")
    found = []
    problem = "no verdict"
    for read in objects(reply, names):
        item = read | {name: _worded(read.get(name), choices) for name, choices in names.items()}
        if _TWICE in item:
            problem = "several verdicts"
        elif any(not isinstance(item.get(name), str) or not item[name].strip() for name in names):
            problem = "incomplete"
        else:
            said = {name: _among(item[name].strip(), choices) for name, choices in names.items()}
            if None in said.values():
                problem = "off the scale"
            else:
                found.append((said, item.get("key") == key))
    if not found:
        return Reading(problem=problem)
    quoted = re.compile("|".join(f"""["']{re.escape(name)}["']""" for name in names), re.IGNORECASE)
    return _one(found, any(quoted.search(text) for text in shown), last=False)


def _worded(value: Any, choices: Sequence[str] | None) -> Any:
    """Return true and false in words, where these are yes and no."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) and choices == ("yes", "no") else value


def read_word(reply: str, words: Collection[str]) -> Reading:
    """Read the one of `words` that a reply has; capitals do not matter."""
    if not reply.strip():
        return Reading(problem="empty")
    said = set(re.findall(r"\w+", reply.lower()))
    found = [word for word in words if word.lower() in said]
    if len(found) != 1:
        return Reading(problem="several verdicts" if found else "no verdict")
    return Reading(found[0])


def points_of_label(label: str) -> float:
    """Return the points of the answer shown second: 1 it won, 0 it lost, .5 a tie."""
    return _POINTS[label]


def choice_points(first: float, second: float) -> float:
    """Return the points of the second answer, in [0, 1], from the log-probs of the two labels; NaN where both are -inf.

    A label that a server does not list among its likeliest has -inf. AlpacaEval's preference is one more.
    """
    highest = max(first, second)
    if highest == -math.inf:
        return math.nan
    one, two = math.exp(first - highest), math.exp(second - highest)
    return two / (one + two)


def strong_points(first: str, second: str) -> list[float]:
    """Return Arena-Hard's scores of a model from two games, in which a far better answer counts three times.

    Args:
        first: label of the game that shows the baseline as A.
        second: label of the game that shows the model as A.
    """
    return [*_GAMES[second], *(1 - score for score in _GAMES[first])]


def _one(found: Sequence[tuple[Any, bool]], suspicious: bool, last: bool, doubled: bool = False) -> Reading:
    """Return the verdict of (verdict, bears the key) pairs, or why none counts."""
    if suspicious:
        keyed = [pair for pair in found if pair[1]]
        if found and not keyed:
            return Reading(problem="not believed")
        found = keyed
    values = [value for value, _ in found if value is not None]
    if not values:
        return Reading(problem="no verdict")
    if doubled or (any(value != values[0] for value in values) and not last):
        return Reading(problem="several verdicts")
    return Reading(values[-1])


def _among(said: str, choices: Sequence[str] | None) -> str | None:
    """Return the choice that a text is, or the text where there are none to choose from."""
    return said if choices is None else next((one for one in choices if one.lower() == said.lower()), None)


def _label(text: str) -> str | None:
    return _SAME.get(re.sub(r"[\s\[\]]", "", text).upper())


def _score(found: Any) -> float | None:
    """Return a whole number, None for "not applicable", NaN for anything else."""
    value = found.get("score", math.nan) if isinstance(found, Mapping) else found
    text = str(value).strip()
    if value is None or text.lower() in _UNKNOWN:
        return None
    return float(text) if re.fullmatch(r"-?\d+(\.0+)?", text) else math.nan


def _tick(found: Any) -> bool | float | None:
    """Return yes or no, None for "not applicable", NaN for anything else."""
    text = str(found).strip().lower().rstrip(".")
    return None if found is None or text in _UNKNOWN else _YES.get(text, math.nan)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; a name that comes again with another value is told."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            found[_TWICE] = True
        found[name] = value
    return found


def _scan(reply: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(object_pairs_hook=_pairs, strict=False)
    at = reply.find("{")
    while at >= 0:
        try:
            item, end = decoder.raw_decode(reply, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield item
        at = reply.find("{", end)


def _load(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_pairs, strict=False)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _escape(match: re.Match[str]) -> str:
    inner = re.sub(r'(?<!\\)"', r"\\" + '"', match[2])
    return match[1] + inner + match[3]
