"""How much data is enough: engines trained on more and more of it, and the plateau that their scores come near to.

Source: Khera et al. 2024, "Efficient Alignment of Large Language Models via Data Sampling" (arXiv 2411.10545).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_mean, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows, texts, value
from fairlead.plateau import GrowthStudy, draw_growth, study_growth

__all__ = ["EnoughData"]

_FIT = "fit"
"""The subject that stands for the curve through all engines."""
_NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class EnoughData:
    """Mean reward over the records that engines were trained on, as an exponential plateau with intervals."""

    sizes: dict[str, float]
    """Engine -> the records that it was trained on, 0 for an untrained one; 5 sizes or more, several engines of one
    size allowed. Engines left out here and in `held_out` are measured, but the curve passes them by."""
    reward: Any = "harbor"
    """The reward of the answers: a catalog name, or {name, fields...}."""
    held_out: dict[str, float] | None = None
    """Engine -> its records, for engines that the curve is not fitted to but has to predict."""
    share: float = 0.95
    """Share of the way from no data to the ceiling that is called enough."""
    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstraps."""

    example: ClassVar[Mapping[str, Any]] = {"sizes": {"base": 0, "other": 100}}

    def __post_init__(self) -> None:
        both = sorted(set(self.sizes) & set(self.held_out or {}))
        if both:
            raise UsageError(f"enough_data: {both[0]} is both fitted and held out", fix="name it once")
        for name, size in {**self.sizes, **(self.held_out or {})}.items():
            if not 0 <= size < math.inf:
                raise UsageError(f"enough_data: {name} has {size} records", fix="use 0 or more")
        if not 0 < self.share < 1:
            raise UsageError(f"enough_data.share is {self.share}", fix="use a share of the way, such as 0.95")
        catalog.from_spec("reward", self.reward)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Value every engine's answers to the records' prompts, and fit.

        Axes of every engine: `reward`; of a held-out one also `predicted`, with the interval of one further training,
        and `inside` (1 when its reward is within that interval). Axes of `fit`: `plateau` (1 when one may be claimed),
        `start`, `ceiling`, `rate`, `r2`, `half`, `enough` (records; without a value unless a plateau may be claimed).
        Rows: id, engine, sample, reward; one row of the engine `fit` with its axes.

        Raises:
            UnknownNameError: a size is given for an engine that is not there.
            UsageError: an engine is called `fit`.
        """
        for name in (*self.sizes, *(self.held_out or {})):
            if name not in engines:
                raise UnknownNameError("engine", name, engines, place="enough_data")
        if _FIT in engines:
            raise UsageError(f"an engine is called {_FIT!r}, as the curve is", place="enough_data", fix="rename it")
        prompts, reward = prompts_of(records), catalog.from_spec("reward", self.reward)
        report = Report({})
        for name, answers in draw(engines, prompts, self.sampling).items():
            values = value(reward, prompts, texts(answers))
            found = estimate_mean(per_prompt(values), confidence=self.confidence, seed=self.seed)
            report.summary[name] = {"reward": found}
            report.rows += sample_rows(name, records, {"reward": values})
            if missing := int(np.isnan(values).sum()):
                report.notes.append(f"{name}: {missing} of {values.size} answers have no reward")
        self._fit(report)
        return report

    def _fit(self, report: Report) -> None:
        scores = [report.summary[name]["reward"].value for name in self.sizes]
        try:
            study = study_growth(list(self.sizes.values()), scores, confidence=self.confidence, seed=self.seed)
        except UsageError as error:
            report.notes.append(f"no curve: {error.what}")
            self._tell(report, {"plateau": _exactly(0.0)})
            return
        found = {
            "plateau": _exactly(float(study.claimed)),
            "start": study.parameter("start"),
            "ceiling": study.parameter("ceiling") if study.claimed else _NOTHING,
            "rate": study.parameter("rate"),
            "r2": _exactly(study.fit.r2),
            "half": study.enough(0.5),
            "enough": study.enough(self.share),
        }
        self._tell(report, found)
        report.notes.append(f"{study.verdict}: {study.because}")
        self._predict(report, study)
        beyond = max((self.held_out or {}).values(), default=0.0)
        report.figures["reward by records"] = draw_growth(study, y="reward", beyond=beyond)

    def _tell(self, report: Report, found: Mapping[str, Estimate]) -> None:
        """Put the curve's axes into the summary and into a row; one curve stands behind each."""
        known = {axis: replace(e, n=1) if math.isfinite(e.value) else _NOTHING for axis, e in found.items()}
        report.summary[_FIT] = known
        told = {axis: e.value for axis, e in known.items() if e.n}
        report.rows.append({"id": _FIT, "engine": _FIT, **told})

    def _predict(self, report: Report, study: GrowthStudy) -> None:
        for name, size in (self.held_out or {}).items():
            found, predicted = report.summary[name]["reward"], study.at(size)
            inside = predicted.low <= found.value <= predicted.high
            report.summary[name]["predicted"] = replace(predicted, n=1)
            report.summary[name]["inside"] = _exactly(float(inside))
            report.notes.append(
                f"{name} ({size:g} records): predicted {predicted.value:.3g} ({predicted.low:.3g} to"
                f" {predicted.high:.3g}), measured {found.value:.3g}"
            )


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value, 1)
