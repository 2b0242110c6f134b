"""What all evaluators with a judge have: who judges, what it reads, and how often it is asked again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

from fairlead import prompts as texts_of
from fairlead.engines.asking import JUDGING, Case, Guided, Verdict, ask
from fairlead.engines.base import Engine, EngineSpec, Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.reward_judge import RewardJudge
from fairlead.evaluation.samples import GREEDY

__all__ = ["Judging", "form_of"]


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
    guided: Guided = "auto"
    """Whether the judge is held to the form of a verdict, by a JSON schema or a list of choices: `auto`, with the
    shipped text and where the judge can; `off`; `on`, with one's own text too, and a judge that cannot is refused."""
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
        unheld = self.judge is None or (self.guided == "auto" and self.text is not None)
        options: dict[str, Any] = {"retries": self.retries, "temperature": self.retry_temperature}
        return ask(judge, cases, self.judge_sampling, **options, guided="off" if unheld else self.guided)

    def note(self, role: str, judge: Engine, verdicts: Iterable[Verdict]) -> str:
        """Say who judged, what it read and how its replies were held to a form.

        Figures of another judge, text or form do not compare.
        """
        text = hashlib.sha256(self.shown.source.encode()).hexdigest()[:12]
        said = f"{role} {judge.fingerprint[:12]} read text {text}"
        asked = [verdict for verdict in verdicts if verdict.tries]
        guided = sum(verdict.guided for verdict in asked)
        why = [verdict.unguided for verdict in asked if verdict.unguided is not None]
        said += f", {guided} of {len(asked)} replies guided to the form of a verdict" if guided else ""
        return said + (f", {len(why)} of {len(asked)} replies not guided ({why[0]})" if why else "")


def form_of(properties: Mapping[str, Any]) -> str:
    """Return the JSON schema of an object with exactly some properties, in their order.

    A property is a list of the texts that it may be, a mapping of properties of its own, or None for any text.
    """
    return json.dumps(_form(properties), ensure_ascii=False)


def _form(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        parts = {name: _form(part) for name, part in value.items()}
        return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}
    return {"type": "string"} if value is None else {"type": "string", "enum": list(value)}
