"""What users' reactions in chats tell: signs of satisfaction and dissatisfaction, and the cases that follow from them.

A sign concerns the answer before it. The case is that answer, what had been asked of it, and the reaction.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fairlead.errors import DataError, UnknownNameError
from fairlead.messages import Message
from fairlead.verdicts import Reading, objects

__all__ = [
    "DSAT",
    "SAT",
    "Case",
    "Signal",
    "asked_again",
    "cases_of",
    "conversations",
    "labelled_by_phrases",
    "read_signals",
    "signals_in",
    "unquoted",
]

SAT = {
    "gratitude": "thanks the assistant",
    "learning": "says that something was learned or understood",
    "compliance": "does what the answer advised",
    "praise": "calls the answer good",
    "personal_details": "opens up and tells more about itself because of the answer",
    "humor": "jokes along in good spirits",
    "acknowledgment": "confirms that the answer is right or of use",
    "positive_closure": "ends the talk on a good note",
    "getting_there": "is not done yet, and says that it is getting there",
}
"""Signs of satisfaction, and what a user does who gives them."""

DSAT = {
    "negative_feedback": "says that the answer is bad",
    "revision": "asks to do it again or to change it",
    "factual_error": "points out a mistake",
    "unrealistic_expectation": "wants what the assistant cannot do, or does not accept its limits",
    "no_engagement": "does not go on with what the assistant asked or brought up, though it is still the topic",
    "ignored": "says that its own request was overlooked",
    "lower_quality": "says that the answer is worse than before or than expected",
    "insufficient_detail": "says that something is missing or too short",
    "style": "does not want this tone, form or length",
}
"""Signs of dissatisfaction, and what a user does who gives them."""

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_QUOTED_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_QUOTED = re.compile(r"\"[^\"]{80,}\"|\u201c[^\u201d]{80,}\u201d", re.DOTALL)
_QUOTES_NAMES = re.compile(r"""["'](?:sat|dsat)["']""", re.IGNORECASE)
_NAMES = re.compile(r"[^a-z]+")
_PUBLIC = ("UtteranceId", "Role", "Content", "Preceeding", "Satisfaction", "Disatisfaction")


@dataclass(frozen=True)
class Signal:
    """What a user's message tells about the answer before it."""

    turn: int
    """Place of the message in its conversation, from 0."""
    sat: tuple[str, ...] = ()
    """Names of `SAT`."""
    dsat: tuple[str, ...] = ()
    """Names of `DSAT`."""
    related: bool = True
    """Whether the message is about that answer at all."""
    state: str = ""
    """Where the talk stands."""
    domain: str = ""
    """What it is about."""
    intent: str = ""
    """What the user wants."""

    @property
    def kind(self) -> Literal["sat", "dsat"] | None:
        """Dissatisfied where any such sign is there, else satisfied; None for no sign or another topic."""
        if not self.related:
            return None
        return "dsat" if self.dsat else "sat" if self.sat else None


@dataclass(frozen=True)
class Case:
    """An answer to which a user reacted."""

    turn: int
    """Place of the reaction in its conversation, from 0."""
    kind: Literal["sat", "dsat"]
    """Whether the answer was praised or criticised."""
    prompt: list[Message]
    """What the answer was to; ends with a user's message."""
    answer: str
    """The answer."""
    reaction: str
    """The user's next message."""
    signal: dict[str, Any] = field(default_factory=dict)
    """The signs, as plain values."""


def unquoted(text: str) -> str:
    """Return a message without what its user only hands over: code blocks, quoted lines, quotes of 80 letters on."""
    return _QUOTED.sub(" ", _QUOTED_LINE.sub(" ", _FENCE.sub(" ", text))).strip()


def asked_again(turns: Sequence[Message]) -> list[int]:
    """Return the places of users' messages that follow an answer."""
    return [i for i in range(1, len(turns)) if turns[i]["role"] == "user" and turns[i - 1]["role"] == "assistant"]


def cases_of(turns: Sequence[Message], signals: Iterable[Signal]) -> list[Case]:
    """Return the cases of a conversation, in order; none where one of the three messages is blank."""
    found = []
    for signal in sorted(signals, key=lambda one: one.turn):
        i = signal.turn
        if signal.kind is None or i < 2 or [turn["role"] for turn in turns[i - 2 : i + 1]] != _ASKED:
            continue
        if all(turn["content"].strip() for turn in turns[i - 2 : i + 1]):
            prompt: list[Message] = [{"role": turn["role"], "content": turn["content"]} for turn in turns[: i - 1]]
            found.append(
                Case(i, signal.kind, prompt, turns[i - 1]["content"], turns[i]["content"], _plain(asdict(signal)))
            )
    return found


_ASKED = ["user", "assistant", "user"]


def labelled_by_phrases(
    turns: Sequence[Message], phrases: Mapping[str, Sequence[str]], words: int = 30
) -> Iterator[Signal]:
    """Yield a signal for every user's message after an answer, by words that stand near its beginning.

    Args:
        turns: the conversation.
        phrases: sign -> texts, whole words; capitals do not matter.
        words: how many of the message's words are looked at, quotes and code aside.
    """
    for i in asked_again(turns):
        text = " ".join(unquoted(turns[i]["content"]).split()[:words]).lower()
        seen = [name for name, texts in phrases.items() if any(_holds(text, phrase) for phrase in texts)]
        yield Signal(i, tuple(name for name in seen if name in SAT), tuple(name for name in seen if name in DSAT))


def _holds(text: str, phrase: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(' '.join(phrase.lower().split()))}(?!\w)", text) is not None


def read_signals(reply: str, wanted: Collection[int], key: str, shown: Iterable[str]) -> Reading:
    """Read {place: Signal} for those of `wanted` that a reply tells; names that are no signs are left out.

    Where a shown text holds something like a reply, only objects that bear the key count. Two different objects for one
    message are none.
    """
    if not reply.strip():
        return Reading(problem="empty")
    keyed = any(_QUOTES_NAMES.search(text) for text in shown)
    found: dict[int, Signal | None] = {}
    for item in objects(reply, ["sat", "dsat"]):
        signal = _signal(item)
        if signal is None or signal.turn not in wanted or (keyed and item.get("key") != key):
            continue
        known = found.get(signal.turn, signal)
        found[signal.turn] = signal if known == signal else None
    kept = {turn: signal for turn, signal in found.items() if signal is not None}
    return Reading(kept) if kept else Reading(problem="no verdict")


def _signal(item: Mapping[str, Any]) -> Signal | None:
    related = str(item.get("related", "")).strip().lower()
    place = str(item.get("id", "")).strip()
    if related not in ("yes", "no", "true", "false") or not place.isdecimal():
        return None
    lists = [item.get("sat", []), item.get("dsat", [])]
    if not all(isinstance(names, list) for names in lists):
        return None
    sat, dsat = ([_NAMES.sub("_", str(name).lower()).strip("_") for name in names] for names in lists)
    return Signal(
        int(place),
        tuple(name for name in SAT if name in sat),
        tuple(name for name in DSAT if name in dsat),
        related in ("yes", "true"),
        *(str(item.get(name, "")) for name in ("state", "domain", "intent")),
    )


def signals_in(column: Any, place: str) -> list[Signal]:
    """Return the signals that a record brings: a list of mappings with `turn`, `sat`, `dsat` and `related`.

    Raises:
        DataError, UnknownNameError: another form, or a sign that there is not.
    """
    fix = 'give a list of mappings: [{"turn": 2, "sat": [], "dsat": ["revision"], "related": true}]'
    if not isinstance(column, list | tuple) or not all(isinstance(item, Mapping) for item in column):
        raise DataError("signals are no list of mappings", place=place, fix=fix)
    found = []
    for item in column:
        if not isinstance(item.get("turn"), int):
            raise DataError("a signal has no turn", place=place, fix=fix)
        for names, known in ((item.get("sat") or (), SAT), (item.get("dsat") or (), DSAT)):
            for name in names:
                if name not in (*known, "unnamed"):
                    raise UnknownNameError("sign", str(name), known, place=place)
        told = {name: str(item.get(name) or "") for name in ("state", "domain", "intent")}
        sat, dsat = tuple(item.get("sat") or ()), tuple(item.get("dsat") or ())
        found.append(Signal(item["turn"], sat, dsat, bool(item.get("related", True)), **told))
    return found


def conversations(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield conversations with a column `signals` from rows of the public WildFeedback set, one row per message.

    A conversation starts where `UtteranceId` is 0; `Preceeding` is YES where a message is about the answer before it.
    The set says whether a message satisfies, not by which sign: its signs are called `unnamed`.

    Raises:
        DataError: a row without one of the columns, or rows that start inside a conversation.
    """
    turns: list[Message] = []
    signals: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        missing = [name for name in _PUBLIC if name not in row]
        if missing:
            fix = f"give all of {', '.join(_PUBLIC)}, spelled like that"
            raise DataError(f"there is no column {missing[0]!r}", place=f"row {number}", fix=fix)
        if row["UtteranceId"] == 0 and turns:
            yield {"messages": turns, "signals": signals}
            turns, signals = [], []
        if row["UtteranceId"] != len(turns):
            what = f"UtteranceId is {row['UtteranceId']} where {len(turns)} is next"
            raise DataError(what, place=f"row {number}", fix="give whole conversations in their order")
        role = "user" if str(row["Role"]).strip().lower() == "user" else "assistant"
        signs = {"sat": row["Satisfaction"], "dsat": row["Disatisfaction"]}
        if not all(isinstance(given, bool) or given is None for given in signs.values()):
            what = f"Satisfaction and Disatisfaction are {tuple(signs.values())}"
            raise DataError(what, place=f"row {number}", fix="give true or false")
        if role == "user" and any(signs.values()):
            related = str(row["Preceeding"]).strip().upper() == "YES"
            named = {name: ["unnamed"] if given else [] for name, given in signs.items()}
            signals.append({"turn": len(turns), **named, "related": related})
        turns.append({"role": role, "content": str(row["Content"] or "")})
    if turns:
        yield {"messages": turns, "signals": signals}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return {name: list(item) if isinstance(item, tuple) else item for name, item in value.items()}
