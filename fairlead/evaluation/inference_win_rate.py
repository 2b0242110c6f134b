"""How often engines beat a base engine: one answer against one, and when either side keeps the best or worst of n."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Completion, Engine, Prompt, Sampling
from fairlead.errors import UnsupportedError, UsageError
from fairlead.estimates import Estimate, estimate_mean, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.drift import Drift, log_ratios
from fairlead.evaluation.samples import draw, other_engines, prompts_of, texts
from fairlead.figures import curves, distribution
from fairlead.rewards.base import RewardSpec
from fairlead.rewards.rollouts import Rollouts, read_rollouts, valued_once
from fairlead.theory.transforms import Transform, trace
from fairlead.theory.win_rates import Keep, mid_ranks, sample_win_rate

__all__ = ["InferenceWinRate"]

_SAMPLED = Sampling(temperature=1.0, n=16)
_BOUNDS: dict[Keep, tuple[str, ...]] = {
    "best": ("identity", "exp", "best_of_n"),
    "worst": ("identity", "neg_exp", "worst_of_n"),
}
_NAMES = {"identity": "rank", "exp": "exp(10 rank)", "neg_exp": "-exp(-10 rank)"}


@dataclass(frozen=True)
class InferenceWinRate:
    """Win rates of every engine against a base engine: of one draw, and of the best and the worst of n (InfAlign).

    Unbiased over all choices among the samples of a prompt; intervals are over prompts.
    """

    reward: RewardSpec
    """The reward that judges, and that picks among n: a catalog name, a mapping of `name` and its fields, or a
    reward."""
    base: str
    """Name of the engine that the others are compared with."""
    draws: tuple[int, ...] = (2, 4)
    """Numbers of draws of which either side keeps one."""
    sampling: Sampling = _SAMPLED
    """How answers are drawn; `n` samples per prompt and engine, no fewer than the greatest of `draws`. The base's are
    of the next seed, so that both sides are independent."""
    rollouts: str | None = None
    """Records with the base's answers to every prompt, as for the reward `calibrated`: ranks are then taken among
    them, and the base's fresh answers tell whether they are of one distribution. None to rank among the samples."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap, and of breaking ties in `uniform_distance`."""

    example: ClassVar[Mapping[str, Any]] = {
        "reward": {"name": "harbor_proxy", "proxy": "length"},
        "base": "base",
        "sampling": {"n": 6, "max_tokens": 20},
    }

    def __post_init__(self) -> None:
        if not self.draws or min(self.draws) < 2:
            raise UsageError(f"inference_win_rate.draws is {list(self.draws)}", fix="give numbers from 2 on")
        if self.sampling.n < max(self.draws):
            what = f"inference_win_rate.sampling.n is {self.sampling.n}, too few for the best of {max(self.draws)}"
            raise UsageError(what, fix=f"use {max(self.draws)} or more, such as {4 * max(self.draws)}")
        if self.sampling.temperature == 0:
            raise UsageError("inference_win_rate.sampling is greedy: all draws are the same", fix="use temperature 1")
        catalog.from_spec("reward", self.reward)

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which settings name a data set, by field."""
        return {} if settings.get("rollouts") is None else {"rollouts": str(settings["rollouts"])}

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Compare every other engine with the base on the records' prompts.

        Axes of the others: `standard`, `best_of_N`, `worst_of_N` (win rates, ties half), `ties` (share of pairs of
        answers with equal rewards), `rank` (mean share of the base's answers that an answer beats), `saturated` (share
        of answers whose rank is 0 or 1), `kl` (nats per answer) where both give log-probs and the draws are plain. With
        rollouts the base has `rank`, `saturated` and `uniform_distance`: the Kolmogorov distance of its ranks from
        uniform, ties broken at random. Rows, one per prompt: id, engine, and these.
        """
        others = other_engines(engines, self.base, "base")
        prompts, reward, report = prompts_of(records), catalog.from_spec("reward", self.reward), Report({})
        answers = draw(others, prompts, self.sampling)
        # Draws of one seed share their randomness across engines: a win rate is of independent ones.
        apart = replace(self.sampling, seed=self.sampling.seed + 1)
        answers |= draw({self.base: engines[self.base]}, prompts, apart)
        asked = [prompt for prompt in prompts for _ in range(self.sampling.n)]
        values = {
            name: valued_once(reward, asked, [text for group in texts(one) for text in group]).reshape(len(prompts), -1)
            for name, one in answers.items()
        }
        known = list(values[self.base])
        if self.rollouts is not None:
            found = read_rollouts(self.rollouts)
            known = _known(found, found.valued(reward), prompts)
            self._base_itself(values[self.base], known, records, report)
        ranks = {}
        for name in others:
            columns = {"standard": _rates(values[name], values[self.base], 1, "best")}
            for n in self.draws:
                columns |= {f"{keep}_of_{n}": _rates(values[name], values[self.base], n, keep) for keep in _BOUNDS}
            columns["ties"] = _ties(values[name], values[self.base])
            ranks[name] = _ranks(values[name], known)
            columns |= _of_ranks(ranks[name])
            kl = self._kl(name, engines, prompts, answers[name], report)
            if kl is not None:
                columns["kl"] = per_prompt(kl)
            self._add(name, columns, records, report)
            missing = int(np.isnan(values[name]).sum() + np.isnan(values[self.base]).sum())
            if missing:
                report.notes.append(f"{name}: {missing} answers of it and of {self.base} have no reward")
        spread = {name: found.ravel().tolist() for name, found in ranks.items()}
        order = list(engines)
        report.figures = {"rank": distribution(spread, label="rank", unit="share of answers", order=order)}
        report.figures |= self._bounds(report, order)
        return report

    def _add(self, name: str, columns: Mapping[str, np.ndarray], records: Sequence[Any], report: Report) -> None:
        options = {"confidence": self.confidence, "seed": self.seed}
        report.summary[name] = {axis: estimate_mean(found, **options) for axis, found in columns.items()}
        for i, record in enumerate(records):
            cells = {axis: None if np.isnan(found[i]) else float(found[i]) for axis, found in columns.items()}
            report.rows.append({"id": str(record.id), "engine": name, **cells})

    def _base_itself(self, values: np.ndarray, known: list[np.ndarray], records: Sequence[Any], report: Report) -> None:
        self._add(self.base, _of_ranks(_ranks(values, known)), records, report)
        rng = np.random.default_rng(self.seed)
        spread = [_broken(own, them, rng) for own, them in zip(values, known)]
        found = np.sort(np.concatenate(spread))
        steps = np.arange(len(found) + 1) / max(1, len(found))
        gap = max(float(np.max(steps[1:] - found)), float(np.max(found - steps[:-1]))) if len(found) else math.nan
        report.summary[self.base]["uniform_distance"] = Estimate(
            gap, math.nan, math.nan, len(records) if len(found) else 0
        )

    def _kl(
        self,
        name: str,
        engines: Mapping[str, Engine],
        prompts: list[Prompt],
        said: list[list[Completion]],
        report: Report,
    ) -> np.ndarray | None:
        try:
            Drift(self.base, self.sampling)
            return log_ratios(engines[name], engines[self.base], prompts, said)
        except (UnsupportedError, UsageError) as error:
            report.notes.append(f"{name}: its KL is not known ({error.what})")
            return None

    def _bounds(self, report: Report, order: Sequence[str]) -> dict[str, str]:
        """Draw where engines lie beside what transforms of ranks lead to at the same KL."""
        placed = {name: axes for name, axes in report.summary.items() if "kl" in axes and axes["kl"].n}
        if not placed:
            return {}
        most = max(0.5, min(2.0, math.ceil(2.2 * max(axes["kl"].value for axes in placed.values())) / 2))
        n, figures = max(self.draws), {}
        for keep, kinds in _BOUNDS.items():
            lines: dict[str, Any] = {}
            for kind in kinds:
                found = _traced(kind, n, most)
                label = _NAMES.get(kind, "the most there is")
                lines[label] = ([one.kl for one in found], [getattr(one, keep) for one in found])
            for name, axes in placed.items():
                lines[name] = ([axes["kl"].value], [axes[f"{keep}_of_{n}"].value])
            title = f"{keep} of {n} by KL"
            figures[title] = curves(lines, x=f"KL from {self.base}, nats", y="win rate", order=[*order, *lines])
        return figures


def _rates(ours: np.ndarray, theirs: np.ndarray, n: int, keep: Keep) -> np.ndarray:
    """Return the win rate of each prompt [N]; NaN where a side has fewer than n answers with a reward."""
    found = np.full(len(ours), np.nan)
    for i, (own, base) in enumerate(zip(ours, theirs)):
        own, base = own[~np.isnan(own)], base[~np.isnan(base)]
        if min(len(own), len(base)) >= n:
            found[i] = sample_win_rate(own, base, n, keep=keep)
    return found


def _ties(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    gaps = ours[:, :, None] - theirs[:, None, :]
    return per_prompt(np.where(np.isnan(gaps), np.nan, gaps == 0).reshape(len(ours), -1))


def _known(rollouts: Rollouts, valued: Mapping[str, np.ndarray], prompts: Sequence[Prompt]) -> list[np.ndarray]:
    return [valued[rollouts.find(prompt)] for prompt in prompts]


def _ranks(values: np.ndarray, known: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rank of every answer among the base's answers to its prompt: [N, n], NaN where there is none."""
    found = np.full(values.shape, np.nan)
    for i, base in enumerate(known):
        base, kept = base[~np.isnan(base)], ~np.isnan(values[i])
        if len(base):
            found[i, kept] = mid_ranks(values[i, kept], base)
    return found


def _of_ranks(ranks: np.ndarray) -> dict[str, np.ndarray]:
    saturated = np.where(np.isnan(ranks), np.nan, (ranks == 0) | (ranks == 1))
    return {"rank": per_prompt(ranks), "saturated": per_prompt(saturated)}


def _broken(own: np.ndarray, base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ranks that are uniform if both sides are of one distribution, ties or not."""
    own, base = own[~np.isnan(own)], np.sort(base[~np.isnan(base)])
    low, high = np.searchsorted(base, own, "left"), np.searchsorted(base, own, "right")
    return (low + rng.random(len(own)) * (high - low + 1)) / (len(base) + 1)


@lru_cache(maxsize=64)
def _traced(kind: str, n: int, most: float) -> list[Any]:
    return trace(Transform(kind, n=n, beta=1.0), n, most, steps=12)
