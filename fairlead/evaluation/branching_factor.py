"""The branching factor (Yang et al. 2025, arXiv 2506.17871): how many next tokens a model really considers.

exp(entropy / length) of the tree of all answers is the number of equally likely branches at each step. The entropy is
that of the truncated distribution from which answers are drawn; both estimators read every sample once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Completion, Engine, FinishReason, Sampling
from fairlead.engines.distributions import Distributed, TokenStats, View, reads
from fairlead.errors import EngineError, UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_ratio
from fairlead.evaluation.base import Report
from fairlead.evaluation.branching import by_position, entropy_bf, nll_bf, prefix_bf, rate_bf, slope, window_bf
from fairlead.evaluation.samples import draw, prompts_of
from fairlead.figures import curves, distribution, intervals
from fairlead.messages import Prompt

__all__ = ["BranchingFactor"]

_PAPER = Sampling(temperature=1.0, top_p=0.9, n=50, max_tokens=512)
_FREE = ("max_tokens", "temperature", "top_p", "n", "seed", "logprobs", "stop", "stop_token_ids")
_PROMPTS_AT_ONCE = 64
_POSITIONS = 512


@dataclass(frozen=True)
class BranchingFactor:
    """Effective number of next tokens per step, of whole answers and along them, for every engine.

    Per prompt exp is taken of a mean over samples; a task's number is the mean over its prompts, with a bootstrap
    interval over them.
    """

    base: str | None = None
    """Name of the engine that the others are compared with; None compares nobody."""
    window: int = 5
    """Tokens of a window of the curve along the answer."""
    asymptotic: int = 50
    """Mean length, in tokens, beyond which `bf` is the likelihood estimate and not the entropy one."""
    min_samples: int = 4
    """Samples that must reach a position for it to be on a curve."""
    length_quantile: float = 0.95
    """Positions beyond this quantile of a prompt's answer lengths are not on a curve, in (0, 1]."""
    sampling: Sampling = _PAPER
    """How answers are drawn. Temperature (above 0) and top_p make the distribution whose entropy is taken; what else
    would change it is refused."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {
        "base": "base",
        "sampling": {"temperature": 1.0, "top_p": 0.9, "n": 4, "max_tokens": 24},
    }

    def __post_init__(self) -> None:
        s = self.sampling
        other = [f.name for f in fields(s) if f.name not in _FREE and getattr(s, f.name) != f.default]
        if s.temperature == 0:
            raise UsageError("branching_factor.sampling is greedy: one answer has no branches", fix="use temperature 1")
        if other:
            what = f"branching_factor.sampling sets {', '.join(other)}, which the truncated distribution does not have"
            raise UsageError(what, fix="shape it by temperature and top_p alone")
        for name, low in (("window", 1), ("asymptotic", 0), ("min_samples", 1)):
            if getattr(self, name) < low:
                raise UsageError(f"branching_factor.{name} is {getattr(self, name)}", fix=f"use {low} or more")
        if not 0 < self.length_quantile <= 1:
            what = f"branching_factor.length_quantile is {self.length_quantile}"
            raise UsageError(what, fix="use a share in (0, 1], such as 0.95")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Draw answers from every engine, read them once, and estimate.

        Axes: `bf` (the estimate that suits the lengths), `bf_entropy`, `bf_nll`, `log_gap` (ln bf_nll - ln
        bf_entropy), `bf_rate` (exp of total entropy by mean length), `bf_first` (of the first token), `bf_window` (of
        the first window), `slope` (change of ln bf per token, over windows), `total_entropy` (nats per answer),
        `kept` (tokens in the nucleus), `tokens` (per answer); with `base` also `ratio`, `ratio_first` and
        `ratio_window` (the base's number by the engine's). Rows, one per prompt and engine: id, engine, samples,
        these axes but the ratios, and per position the lists entropy_at and reached.

        Raises:
            UnsupportedError: an engine whose distributions are out of reach.
        """
        if self.base is not None and self.base not in engines:
            raise UnknownNameError("base engine", self.base, engines)
        prompts, report = prompts_of(records), Report({})
        readers = {name: reads(engine, name, prompts) for name, engine in engines.items()}
        found: dict[str, list[_Prompt]] = {}
        for name, (reader, asked) in readers.items():
            answers = draw({name: engines[name]}, prompts, self.sampling)[name]
            found[name] = self._read(name, reader, asked, answers)
            said = {"engine": name, "samples": self.sampling.n}
            pairs = zip(records, found[name], strict=True)
            report.rows += [{"id": str(record.id), **said, **one.row()} for record, one in pairs]
            report.notes += _notes(name, found[name], answers)
        for name, own in found.items():
            report.summary[name] = self._summary(own, None if name == self.base else found.get(self.base or ""))
        report.figures = self._figures(report, found)
        return report

    def _read(
        self, name: str, reader: Distributed, asked: Sequence[Prompt], answers: Sequence[list[Completion]]
    ) -> list[_Prompt]:
        """Let the engine read its own answers, a few prompts at a time, and keep a few numbers per prompt."""
        view = View(temperature=self.sampling.temperature, top_p=self.sampling.top_p)
        found: list[_Prompt] = []
        for start in range(0, len(answers), _PROMPTS_AT_ONCE):
            part = range(start, min(start + _PROMPTS_AT_ONCE, len(answers)))
            ids = [answer.token_ids for k in part for answer in answers[k]]
            if not all(ids):
                raise EngineError("it does not tell the tokens of its answers", place=f"engine {name}")
            repeated = [asked[k] for k in part for _ in answers[k]]
            stats = iter(reader.token_stats(repeated, [list(one or ()) for one in ids], view))
            found += [_Prompt.of([next(stats) for _ in answers[k]], self) for k in part]
        return found

    def _summary(self, own: Sequence[_Prompt], base: Sequence[_Prompt] | None) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        summary = {axis: estimate_mean([one.axes[axis] for one in own], **options) for axis in own[0].axes}
        for ratio, axis in _RATIOS.items() if base else ():
            sides = ([one.axes[axis] for one in side] for side in (base or (), own))
            summary[ratio] = estimate_ratio(*sides, **options)
        return summary

    def _figures(self, report: Report, found: Mapping[str, Sequence[_Prompt]]) -> dict[str, str]:
        order = list(found)
        values = {name: [row["bf"] for row in report.rows if row["engine"] == name] for name in order}
        names = ("bf_first", "bf_window", "bf_entropy", "bf_nll")
        drawn = {
            "branching factor": intervals(report.summary, names, label="equally likely next tokens"),
            "branching factor by prompt": distribution(values, label="branching factor", unit="share of prompts"),
        }
        prefixes = {name: [one.prefix for one in own] for name, own in found.items()}
        windows = {name: [one.windows for one in own] for name, own in found.items()}
        for title, lines, step in (
            ("branching factor of the first tokens", prefixes, 1),
            ("branching factor along the answer", windows, self.window),
        ):
            means = {name: _mean_curve(curve)[: _POSITIONS // step] for name, curve in lines.items()}
            along = {
                name: (np.arange(len(mean)) * step + (step + 1) / 2, mean) for name, mean in means.items() if len(mean)
            }
            x = "tokens from the beginning" if step == 1 else f"token (middle of a window of {step})"
            if along:
                drawn[title] = curves(along, x=x, y="branching factor", order=order)
        return drawn


_RATIOS = {"ratio": "bf", "ratio_first": "bf_first", "ratio_window": "bf_window"}


@dataclass(frozen=True)
class _Prompt:
    """What is left of one prompt's samples."""

    axes: dict[str, float]
    entropy_at: np.ndarray
    reached: np.ndarray
    prefix: np.ndarray
    windows: np.ndarray
    tokens: int
    outside: int

    @classmethod
    def of(cls, stats: Sequence[TokenStats], settings: BranchingFactor) -> _Prompt:
        entropies = [one.kept_entropy.astype(float) for one in stats]
        by_entropy, by_nll = entropy_bf(entropies), nll_bf([one.kept_logprob.astype(float) for one in stats])
        windows, reached_windows = window_bf(entropies, settings.window)
        curve = windows[: int((reached_windows >= settings.min_samples).sum())]
        lengths = [len(sample) for sample in entropies]
        axes = {
            "bf": by_nll if np.mean(lengths) > settings.asymptotic else by_entropy,
            "bf_entropy": by_entropy,
            "bf_nll": by_nll,
            "log_gap": float(np.log(by_nll / by_entropy)),
            "bf_rate": rate_bf(entropies),
            "bf_first": float(np.exp(np.mean([sample[0] for sample in entropies]))),
            "bf_window": float(windows[0]),
            "slope": slope(curve, settings.window),
            "total_entropy": float(np.mean([sample.sum() for sample in entropies])),
            "kept": float(np.mean(np.concatenate([one.kept for one in stats]))),
            "tokens": float(np.mean(lengths)),
        }
        options = {"min_samples": settings.min_samples, "length_quantile": settings.length_quantile}
        outside = int(sum((~one.inside).sum() for one in stats))
        return cls(axes, *by_position(entropies), prefix_bf(entropies, **options), curve, sum(lengths), outside)

    def row(self) -> dict[str, Any]:
        axes = {axis: None if np.isnan(value) else value for axis, value in self.axes.items()}
        return {**axes, "entropy_at": self.entropy_at.tolist(), "reached": self.reached.tolist()}


def _mean_curve(lines: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over the prompts at every position that a tenth of them reach."""
    means, reached = by_position(lines)
    return means[reached * 10 >= len(lines)]


def _notes(name: str, found: Sequence[_Prompt], answers: Sequence[Sequence[Completion]]) -> list[str]:
    drawn = [answer for group in answers for answer in group]
    cut = sum(answer.finish_reason is FinishReason.LENGTH for answer in drawn)
    outside, tokens = sum(one.outside for one in found), sum(one.tokens for one in found)
    notes = []
    if cut:
        notes.append(
            f"{name}: {cut} of {len(drawn)} answers were cut at the token limit; they have no end of their own"
        )
    if outside:
        notes.append(f"{name}: {outside} of {tokens} tokens lie outside the nucleus, and were added to it in bf_nll")
    return notes
