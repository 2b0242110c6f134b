"""What all evaluators with a judge have: who judges, what it reads, and how often it is asked again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

from fairlead import prompts as texts_of
from fairlead.engines.asking import JUDGING, Case, Verdict, ask
from fairlead.engines.base import Engine, EngineSpec, Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.reward_judge import RewardJudge
from fairlead.evaluation.samples import GREEDY

__all__ = ["Judging"]


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What all evaluators with a judge have."""

    judge: EngineSpec | None = None
    """Who judges: a model, a server as "URL#model", a decoding method, or an engine."""
    reward_judge: RewardJudge | None = None
    """A reward that judges in a model's stead."""
    retries: int = 2
    """How often the judge is asked again where its reply holds no verdict."""
    retry_temperature: float = 0.3
    """Temperature of these replies; each has the next seed."""
    judge_sampling: Sampling = JUDGING
    """How verdicts are drawn."""
    text: str | None = None
    """What the judge reads in place of the shipped text: the path of a Jinja text, or the text itself."""
    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    shipped: ClassVar[str] = ""
    """The shipped text."""

    def __post_init__(self) -> None:
        if (self.judge is None) == (self.reward_judge is None):
            what = "has no judge" if self.judge is None else "has two judges"
            raise UsageError(what, place=type(self).__name__, fix="give either `judge` or `reward_judge`")
        if self.retries < 0:
            raise UsageError(f"retries is {self.retries}", place=type(self).__name__, fix="use 0 or more")
        _ = self.shown

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which settings name a file or a data set, by field."""
        own = texts_of.file_of(settings.get("text"))
        return {} if own is None else {"text": own}

    @cached_property
    def shown(self) -> texts_of.PromptText:
        """The text that the judge reads."""
        return texts_of.load("judging", self.shipped, self.text)

    @property
    def opened(self) -> Engine:
        """The judge."""
        from fairlead.engines import engine

        return engine(self.judge) if self.judge is not None else cast(Engine, self.reward_judge)

    def verdicts(self, judge: Engine, cases: Sequence[Case]) -> list[Verdict]:
        """Ask a judge about every case, in order."""
        return ask(judge, cases, self.judge_sampling, retries=self.retries, temperature=self.retry_temperature)

    def note(self, role: str, judge: Engine) -> str:
        """Say who judged and what it read: figures of another judge or text do not compare."""
        text = hashlib.sha256(self.shown.source.encode()).hexdigest()[:12]
        return f"{role} {judge.fingerprint[:12]} read text {text}"
