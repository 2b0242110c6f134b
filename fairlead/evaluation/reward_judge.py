"""Any reward as a judge: it reads what a judge is shown, values the answers, and writes the reply that is asked for.

So what a reward says can be put through everything that judges are put through: both orders, equal lengths, audits of
its taste. It can be given a taste of its own for places and lengths, to see whether an audit finds it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Completion, Sampling
from fairlead.errors import EngineError, UnsupportedError, UsageError
from fairlead.fields import to_plain
from fairlead.messages import ROLES, Message, Prompt
from fairlead.rewards.base import Reward, RewardSpec

__all__ = ["RewardJudge"]

_FRAME = re.compile(r"<([a-z]+(?:-[AB])?)-([0-9a-f]{8})>\n(.*?)\n</\1-\2>", re.DOTALL)
_ASKED = re.compile(r'^\{"key": .*\}$', re.MULTILINE)


@dataclass(frozen=True)
class RewardJudge:
    """A judge of the shipped texts for judges whose opinion is a reward's value."""

    reward: RewardSpec
    """What is valued where `criteria` has nothing else: a catalog name, a mapping of `name` and fields, or a reward."""
    criteria: dict[str, Any] = field(default_factory=dict)
    """Aspect or check -> the reward that decides it."""
    tie_margin: float = 0.0
    """Answers whose values differ by no more than this are equally good, in units of the reward."""
    strong_margin: float = math.inf
    """Answers whose values differ by more than this are called far better, in units of the reward."""
    low: float = 0.0
    """The value that gets the lowest score of a scale."""
    high: float = 1.0
    """The value that gets the highest; scores between are rounded, values outside get the end of the scale."""
    threshold: float = 0.5
    """The value from which on a check is answered with yes."""
    first_bonus: float = 0.0
    """Added to the value of the answer that is shown first: a planted taste for a place."""
    word_bonus: float = 0.0
    """Added per word of an answer: a planted taste for length."""

    samples: ClassVar[bool] = False
    """Asked again, it says the same."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UsageError(f"low is {self.low}, high is {self.high}", place="reward_judge", fix="put low below high")
        for name in ("tie_margin", "strong_margin"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} is {getattr(self, name)}", place="reward_judge", fix="use 0 or more")
        _ = self._built

    @cached_property
    def _built(self) -> dict[str | None, Reward]:
        specs: dict[str | None, Any] = {None: self.reward, **self.criteria}
        return {name: catalog.from_spec("reward", spec) for name, spec in specs.items()}

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with the settings."""
        return hashlib.sha256(json.dumps(to_plain(self), sort_keys=True).encode()).hexdigest()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` equal replies per prompt: verdict, scores or checks, as the prompt asks for.

        Where the reward abstains the reply's verdict is null, a score or a check "N/A".

        Raises:
            EngineError: a prompt that is none of the shipped texts for judges.
        """
        cases = [_Case.of(prompt) for prompt in prompts]
        asked = {name: [case for case in cases if name in case.names] for name in self._built}
        values: dict[tuple[int, str | None], list[float]] = {}
        for name, reward in self._built.items():
            own = cases if name is None else asked[name]
            places = [(case, text) for case in own for text in case.answers]
            found = reward([case.prompt for case, _ in places], [text for _, text in places]) if places else None
            at = 0
            for case in own:
                many = len(case.answers)
                values[id(case), name] = [] if found is None else list(found.values[at : at + many])
                at += many
        replies = [self._reply(case, values) for case in cases]
        return [[Completion(json.dumps(reply)) for _ in range(sampling.n)] for reply in replies]

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Refuse: a reward has no probabilities.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("a reward gives no log-probs of a text", fix="let a model in this process judge")

    def _reply(self, case: _Case, values: Mapping[tuple[int, str | None], list[float]]) -> dict[str, Any]:
        def valued(name: str | None) -> list[float]:
            known = values.get((id(case), name)) or values[id(case), None]
            return [
                value + self.word_bonus * len(text.split()) + (self.first_bonus if place == 0 < len(known) - 1 else 0.0)
                for place, (value, text) in enumerate(zip(known, case.answers, strict=True))
            ]

        if len(case.answers) == 2:
            return {"key": case.key, "verdict": self._label(*valued(None))}
        if case.form == "checks":
            ticks = {name: _tick(valued(name)[0], self.threshold) for name in case.names}
            return {"key": case.key, "checks": ticks}
        return {"key": case.key} | {name: {"score": self._score(valued(name)[0], case)} for name in case.names}

    def _label(self, first: float, second: float) -> str | None:
        gap = first - second
        if math.isnan(gap):
            return None
        if abs(gap) <= self.tie_margin:
            return "A=B"
        sign = ">>" if abs(gap) > self.strong_margin else ">"
        return f"A{sign}B" if gap > 0 else f"B{sign}A"

    def _score(self, value: float, case: _Case) -> int | str:
        if math.isnan(value):
            return "N/A"
        least, most = case.scale
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return round(least + share * (most - least))


@dataclass(frozen=True, eq=False)
class _Case:
    """What a prompt asks a judge."""

    key: str
    prompt: Prompt
    answers: tuple[str, ...]
    form: str
    names: tuple[str, ...]
    scale: tuple[int, int]

    @classmethod
    def of(cls, prompt: Prompt) -> _Case:
        """Read one of the shipped texts."""
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        frames = _FRAME.findall(text)
        key = frames[0][1] if frames else ""
        parts = [(kind, inner) for kind, own, inner in frames if own == key]
        answers = tuple(inner for kind, inner in parts if kind.startswith("answer"))
        asked = _ASKED.findall(text[text.rfind(f"-{key}>") :]) if frames else []
        if not asked or len(answers) not in (1, 2):
            fix = "leave `text` out: a reward reads the shipped texts alone"
            raise EngineError("this is nothing that a reward can judge", place="reward_judge", fix=fix)
        form = json.loads(asked[-1])
        turns = [{"role": kind, "content": inner} for kind, inner in parts if kind in ROLES]
        raw = next((inner for kind, inner in parts if kind == "text"), "")
        names = tuple(form.get("checks", {name: None for name in form if name != "key"}))
        scores = [value["score"] for value in form.values() if isinstance(value, dict) and "score" in value]
        low, _, high = (scores[0] if scores else "1 to 5").partition(" to ")
        conversation = cast(list[Message], turns)
        kind = "checks" if "checks" in form else "scores" if scores else "pair"
        return cls(key, conversation or raw, answers, kind, names, (int(low), int(high)))


def _tick(value: float, threshold: float) -> str:
    if math.isnan(value):
        return "N/A"
    return "yes" if value >= threshold else "no"
