"""How sure an ensemble of rewards is of an engine's answers, and what its values guarantee about the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_mean, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.calibration import brier_scores, estimate_calibration_error, log_losses, reliability
from fairlead.evaluation.conformal import coverage_over_splits, risk_over_splits, selection_over_splits
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows, texts, value
from fairlead.figures import curves, distribution, intervals
from fairlead.rewards.base import RewardSpec
from fairlead.rewards.ensembles import careful_values, split_entropy, standardised

__all__ = ["Uncertainty"]

_CAREFUL = ("mean", "lcb", "worst", "penalised")
_ENTROPIES = ("total", "aleatoric", "epistemic")
_SCORES = ("brier", "nll")
_COVER = ("coverage", "half_width")
_SELECT = ("mistakes", "selected", "power", "harm", "shown")
_NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Uncertainty:
    """Careful values of an ensemble of rewards, its doubt in two parts, and conformal guarantees against the truth."""

    members: tuple[RewardSpec, ...]
    """The rewards of the ensemble, two or more: catalog names, or {name, fields...}, on one scale."""
    truth: RewardSpec = None
    """The reward that the ensemble stands for; the guarantees need it: a catalog name, or {name, fields...}."""
    reference: str | None = None
    """An engine whose answers are every member's zero, prompt by prompt. Members whose values are free by a constant
    per prompt (trained on pairs) need it; so does the entropy, which is about being better than these answers."""
    standardise: bool = False
    """Whether every member is put in units of how much it values the reference's answers to one prompt apart, for
    members on different scales; it needs two answers per prompt or more. Chances and entropies are then those of
    values in these units, and no longer of a model that was trained to give log-odds."""
    deviations: float = 1.0
    """Standard deviations that `lcb` takes off."""
    variance_weight: float = 0.5
    """Times that `penalised` takes the variance off."""
    alpha: float = 0.1
    """How often the truth may lie outside the interval around the mean."""
    aligned_from: float | None = None
    """An answer is aligned when its truth, not less that of the reference, is at least this; None for no selection."""
    mistake_rate: float = 0.1
    """Share of the selected answers that may be not aligned."""
    harm_rate: float = 0.1
    """Share of all answers that may be shown though they are not aligned."""
    splits: int = 200
    """Random splits of the prompts into those that calibrate and those that test."""
    calibration_share: float = 0.5
    """Part of the prompts that calibrates."""
    sampling: Sampling = GREEDY
    """How answers are drawn; the guarantees are about each prompt's first."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1; of the guarantees' axes, the part of the splits within them."""
    seed: int = 0
    """Randomness of the bootstrap and of the splits."""

    example: ClassVar[Mapping[str, Any]] = {
        "members": [{"name": "harbor_proxy", "proxy": "noisy_total", "noise": 0.5, "seed": i} for i in range(3)],
        "truth": "harbor",
        "reference": "base",
        "aligned_from": 0.5,
        "splits": 20,
    }

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise UsageError("uncertainty.members has fewer than two", fix="name two rewards or more")
        if self.aligned_from is not None and self.truth is None:
            raise UsageError("uncertainty.aligned_from needs a truth", fix="give truth: {name: ..., ...}")
        if self.standardise and self.reference is None:
            raise UsageError("uncertainty.standardise needs a reference", fix="give reference: an engine's name")
        for name in ("alpha", "mistake_rate", "harm_rate", "calibration_share"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"uncertainty.{name} is {getattr(self, name)}", fix="use a share between 0 and 1")
        if self.splits < 1:
            raise UsageError(f"uncertainty.splits is {self.splits}", fix="use 1 or more, such as 200")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Value every engine's answers to the records' prompts with every member.

        Axes: `mean`, `sd`, `lcb`, `worst`, `penalised`, in units of the members; with a reference, of all engines but
        it, `total`, `aleatoric`, `epistemic` in nats; with a truth `coverage` and `half_width` of the interval, and
        with `aligned_from` `mistakes` among the selected, the share `selected` and its `power`, and of the answers
        above a level the share `shown` and the `harm` among all: means over the splits, whose spread is the interval.
        With a truth and a reference `brier`, `nll` (nats) and `ece` of the chance that an answer is better than the
        reference's. Rows: id, engine, sample, these of one answer, truth, error, and `chance` and `better`.
        """
        if self.reference is not None and self.reference not in engines:
            raise UnknownNameError("reference engine", self.reference, engines, place="uncertainty.reference")
        prompts, report = prompts_of(records), Report({})
        said = {name: texts(answers) for name, answers in draw(engines, prompts, self.sampling).items()}
        judges = [catalog.from_spec("reward", spec) for spec in self.members]
        raw = {name: np.stack([value(judge, prompts, one) for judge in judges]) for name, one in said.items()}
        exact = {}
        if self.truth is not None:
            gold = catalog.from_spec("reward", self.truth)
            exact = {name: value(gold, prompts, one)[None] for name, one in said.items()}
        values, truths = self._centred(raw), self._centred(exact)
        if self.standardise and raw:
            values = {name: standardised(found, raw[str(self.reference)]) for name, found in values.items()}
        covered: dict[str, np.ndarray] = {}
        told: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name in engines:
            columns = self._columns(name, values[name], truths.get(name))
            report.summary[name] = {
                axis: estimate_mean(per_prompt(columns[axis]), confidence=self.confidence, seed=self.seed)
                for axis in ("mean", "sd", *_CAREFUL[1:], *_ENTROPIES, *_SCORES)
                if axis in columns
            }
            if "chance" in columns:
                report.summary[name]["ece"] = self._calibration(name, columns, told, report)
            if self.truth is not None:
                report.summary[name] |= self._guarantees(name, columns, exact[name][0], report, covered)
            report.rows += sample_rows(name, records, columns)
            absent = int(np.isnan(columns["mean"]).sum())
            if absent:
                report.notes.append(f"{name}: {absent} answers have no value of some member or of the reference")
        report.figures = self._figures(report, covered, told)
        return report

    def _centred(self, raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take the reference's mean off values [M, N, n], member by member and prompt by prompt."""
        if self.reference is None or not raw:
            return dict(raw)
        zero = np.stack([per_prompt(member) for member in raw[self.reference]])[..., None]
        return {name: found - zero for name, found in raw.items()}

    def _columns(self, name: str, values: np.ndarray, truth: np.ndarray | None) -> dict[str, np.ndarray]:
        joined = careful_values(values, deviations=self.deviations, variance_weight=self.variance_weight)
        columns = {axis: getattr(joined, axis) for axis in ("mean", "sd", *_CAREFUL[1:])}
        if self.reference not in (None, name):
            columns |= dict(zip(_ENTROPIES, split_entropy(values), strict=True))
        if truth is not None:
            columns |= {"truth": truth[0], "error": np.abs(truth[0] - joined.mean)}
            if self.reference not in (None, name):
                columns |= _chances(values, truth[0])
        return columns

    def _calibration(self, name: str, columns: Mapping[str, np.ndarray], told: dict, report: Report) -> Estimate:
        """Return the calibration error of the chances, over all samples that the truth finds better or worse."""
        kept = ~np.isnan(columns["better"])
        chances, shares, cases = reliability(columns["chance"][kept], columns["better"][kept])
        told[name] = (chances[cases > 0], shares[cases > 0])
        even = int((columns["truth"] == 0).sum())
        if even:
            report.notes.append(f"{name}: {even} answers are as good as the reference's: no chance of theirs is scored")
        options = {"confidence": self.confidence, "seed": self.seed}
        return estimate_calibration_error(columns["chance"][kept], columns["better"][kept], **options)

    def _guarantees(
        self, name: str, columns: Mapping[str, np.ndarray], exact: np.ndarray, report: Report, covered: dict
    ) -> dict[str, Estimate]:
        options = {"splits": self.splits, "share": self.calibration_share, "seed": self.seed}
        axes = (*_COVER, *(_SELECT if self.aligned_from is not None else ()))
        error, score, gold = columns["error"][:, 0], columns["mean"][:, 0], exact[:, 0]
        kept = ~np.isnan(error)
        if kept.sum() < 2:
            report.notes.append(f"{name}: {kept.sum()} prompts with a truth are too few to calibrate and test")
            return dict.fromkeys(axes, _NOTHING)
        cases = int(kept.sum())
        covered[name], radii = coverage_over_splits(error[kept], self.alpha, **options)
        if np.isinf(radii).any():
            report.notes.append(f"{name}: {cases} prompts are too few for alpha {self.alpha}: the interval is infinite")
        found = [covered[name], np.where(np.isinf(radii), np.nan, radii)]
        if self.aligned_from is not None:
            aligned = gold[kept] >= self.aligned_from
            found += selection_over_splits(score[kept], aligned, self.mistake_rate, **options)
            found += risk_over_splits(score[kept], aligned, self.harm_rate, **options)
        return {axis: self._over_splits(one, cases) for axis, one in zip(axes, found, strict=True)}

    def _over_splits(self, found: np.ndarray, cases: int) -> Estimate:
        present = found[~np.isnan(found)]
        if not len(present):
            return _NOTHING
        tail, middle = (1 - self.confidence) / 2, float(present.mean())
        low, high = np.quantile(present, [tail, 1 - tail])
        return Estimate(middle, min(float(low), middle), max(float(high), middle), cases)

    def _figures(
        self,
        report: Report,
        covered: Mapping[str, np.ndarray],
        told: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> dict[str, str]:
        order, summary = list(report.summary), report.summary
        figures = {"careful values": intervals(summary, _CAREFUL, label="value of the answers")}
        split = {name: axes for name, axes in summary.items() if "total" in axes}
        if split:
            figures["doubt"] = intervals(split, _ENTROPIES, label="entropy in nats", order=order)
        if any(len(chances) for chances, _ in told.values()):
            lines = {name: (100 * chances, 100 * share) for name, (chances, share) in told.items()}
            lines["as told"] = (np.array([0.0, 100.0]), np.array([0.0, 100.0]))
            figures["calibration"] = curves(
                lines, x="told chance to be better, %", y="share that is, %", order=[*order, "as told"]
            )
        if covered:
            shares = {name: [float(v) for v in found] for name, found in covered.items()}
            figures["coverage"] = distribution(shares, label="coverage", unit="share of splits", order=order)
        return figures


def _chances(margins: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return the members' mean chance that an answer is better than the reference's, and how it fared [N, n].

    NaN where a member has no value, and, but for the chance itself, where the truth finds both equal.
    """
    from scipy.special import expit

    chance = expit(margins).mean(0)
    better = np.where(np.isnan(truth) | (truth == 0) | np.isnan(chance), np.nan, truth > 0)
    kept = ~np.isnan(better)
    found = {"chance": chance, "better": better, "brier": np.full_like(chance, np.nan)}
    found["nll"] = found["brier"].copy()
    found["brier"][kept] = brier_scores(chance[kept], better[kept])
    found["nll"][kept] = log_losses(chance[kept], better[kept])
    return found
