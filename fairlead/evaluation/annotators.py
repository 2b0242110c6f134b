"""What principles and annotators prefer in pairs of answers: rewards, engines as policies, engines that are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fairlead import catalog
from fairlead import prompts as texts_of
from fairlead.engines.asking import Case, ask, check_ids, listed, notes_on
from fairlead.engines.base import Engine
from fairlead.errors import DataError, UsageError
from fairlead.evaluation.choices import option_logprobs, probabilities, read_option
from fairlead.evaluation.pairs import framed
from fairlead.evaluation.principles import both_orders, decide
from fairlead.evaluation.samples import value
from fairlead.messages import Prompt
from fairlead.prompts import read_yaml

__all__ = ["Asking", "Opinions", "PairOf", "of_policy", "of_reward", "pairs_of_preferences", "principles_named"]

_CHOICES = ("A", "B", "NA")
_PREFERS = (1.0, -1.0, np.nan)
_SHIPPED = "general"


@dataclass(frozen=True)
class PairOf:
    """Two answers to one prompt."""

    id: str
    """The record's."""
    prompt: Prompt
    """What both answer."""
    first: str
    """The chosen answer."""
    second: str
    """The rejected one."""


@dataclass(frozen=True)
class Opinions:
    """Preferences of one principle or annotator."""

    values: np.ndarray
    """float64 [N]: +1 the first answer, -1 the second, 0 or NaN neither."""
    missing: np.ndarray
    """bool [N]: where the preference is not known, which is not the same as having none."""
    notes: tuple[str, ...] = ()
    """What of them is missing, and why."""


@dataclass(frozen=True)
class Asking:
    """How an engine is asked which of two answers it prefers."""

    read: Literal["logprobs", "text"]
    """Whether its log-probs of "A", "B" and "NA" decide, or what it writes."""
    orders: Literal["both", "first"]
    """Whether pairs are shown in both orders, or with the chosen answer first."""
    margin: float = 0.0
    """Probabilities that differ by less decide nothing."""

    def __call__(
        self, who: str, engine: Engine, pairs: Sequence[PairOf], text: texts_of.PromptText, principle: str = ""
    ) -> Opinions:
        """Return what `engine`, called `who` in notes, prefers in every pair."""
        found, notes = [], []
        missing = np.zeros(len(pairs), dtype=bool)
        for swapped in (False, True) if self.orders == "both" else (False,):
            prompts = [_shown(pair, swapped, text, principle) for pair in pairs]
            if self.read == "logprobs":
                found.append(self._by_logprobs(engine, prompts))
                continue
            verdicts = ask(engine, [Case(pair.id, shown, _read) for pair, shown in zip(pairs, prompts, strict=True)])
            found.append(np.array([np.nan if v.value is None else _PREFERS[v.value] for v in verdicts]))
            missing |= np.array([v.value is None for v in verdicts])
            order = "rejected" if swapped else "chosen"
            notes += notes_on(f"{who}, {order} answer first", [pair.id for pair in pairs], verdicts)
        return Opinions(both_orders(*found) if len(found) == 2 else found[0], missing, tuple(notes))

    def _by_logprobs(self, engine: Engine, prompts: Sequence[Prompt]) -> np.ndarray:
        logprobs = option_logprobs(engine, prompts, [_CHOICES] * len(prompts), whole=False)
        first, second, neither = probabilities(np.array(logprobs)).T
        return decide(first, second, neither, self.margin)


def principles_named(principles: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return principles by name, each a sentence or a reward; from the shipped file, a YAML file, or as they are given.

    Raises:
        UsageError: fewer than two, or one that is neither a sentence nor a reward.
    """
    found = _read_file(principles) if isinstance(principles, str) else dict(principles)
    if len(found) < 2:
        raise UsageError("there are fewer than two principles", place="principles", fix="name at least two")
    built = {}
    for name, spec in found.items():
        if not isinstance(name, str) or not name or "." in name:
            raise UsageError(f"a principle cannot be called {name!r}", place="principles", fix="use words without dots")
        built[name] = spec if isinstance(spec, str) else catalog.from_spec("reward", spec, place=f"principles.{name}")
        if not isinstance(spec, str) and not callable(built[name]):
            fix = "write a sentence, or a reward as {name: ..., ...}"
            raise UsageError(f"{name!r} is {spec!r}", place="principles", fix=fix)
    return built


def _read_file(path: str) -> dict[str, Any]:
    """Return principles from the shipped file `general`, or from a YAML file of name: sentence."""
    values = read_yaml(f"discretion/{_SHIPPED}.yaml", None if path == _SHIPPED else path)
    if not isinstance(values, dict):
        raise UsageError(f"holds {type(values).__name__}", place=path, fix="write lines of `name: sentence`")
    return values


def pairs_of_preferences(records: Sequence[Any]) -> tuple[list[PairOf], list[Any], list[str]]:
    """Return the pairs of single answers, their records, and notes on what is left out.

    Raises:
        DataError: a record that is no preference, or no pair of single answers.
        UsageError: records that share an id.
    """
    check_ids(records)
    kept: list[tuple[PairOf, Any]] = []
    left_out: list[str] = []
    for record in records:
        if record.kind != "preference":
            what = f"a {record.kind} record holds no pair"
            raise DataError(what, place=f"record {record.id}", fix="evaluate on preference records")
        chosen, rejected = _single(record.chosen), _single(record.rejected)
        if chosen is None or rejected is None:
            left_out.append(str(record.id))
        else:
            kept.append((PairOf(str(record.id), record.prompt, chosen, rejected), record))
    if not kept:
        raise DataError("there is no pair of single answers", place="discretion", fix="give preference records")
    notes = [f"{len(left_out)} pairs are left out, their answers are several turns: {listed(left_out)}"] * bool(
        left_out
    )
    return [pair for pair, _ in kept], [record for _, record in kept], notes


def of_reward(reward: Any, pairs: Sequence[PairOf], margin: float = 0.0) -> Opinions:
    """Return the sign of reward(first) - reward(second) per pair.

    NaN where the reward abstains on either, 0 where the values differ by no more than `margin`.
    """
    found = value(reward, [pair.prompt for pair in pairs], [[pair.first, pair.second] for pair in pairs])
    gap = found[:, 0] - found[:, 1]
    return Opinions(np.where(np.abs(gap) <= margin, 0.0, np.sign(gap)), np.zeros(len(gap), dtype=bool))


def of_policy(engine: Engine, pairs: Sequence[PairOf]) -> Opinions:
    """Return which answer of each pair an engine finds likelier, as the sign of the difference of the log-probs.

    Raises:
        UnsupportedError: an engine that gives no log-probs of a text.
    """
    whole = option_logprobs(engine, [p.prompt for p in pairs], [(p.first, p.second) for p in pairs], whole=True)
    return Opinions(np.sign([float(first - second) for first, second in whole]), np.zeros(len(pairs), dtype=bool))


def _read(reply: str) -> Any:
    return read_option(reply.replace("N/A", "NA"), _CHOICES)


def _shown(pair: PairOf, swapped: bool, text: texts_of.PromptText, principle: str) -> Prompt:
    a, b = (pair.second, pair.first) if swapped else (pair.first, pair.second)
    slots = framed(pair.prompt, a, b)
    return [{"role": "user", "content": text.render(**slots, principle=principle)}]


def _single(answer: Any) -> str | None:
    if isinstance(answer, str):
        return answer
    return answer[0]["content"] if [message["role"] for message in answer] == ["assistant"] else None
