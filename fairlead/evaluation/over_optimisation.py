"""What the true reward does while answers are chosen ever harder by a proxy: the curve of over-optimisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UsageError
from fairlead.estimates import estimate_mean
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import draw, prompts_of, texts
from fairlead.figures import curves
from fairlead.rewards.base import RewardSpec
from fairlead.rewards.rollouts import valued_once
from fairlead.theory.win_rates import order_weights

__all__ = ["OverOptimisation"]

_SAMPLED = Sampling(temperature=1.0, n=64)


@dataclass(frozen=True)
class OverOptimisation:
    """The true reward of the best of N answers as each of several proxies chooses it, for many N from one set of draws.

    Unbiased: of M answers every choice of N counts alike. Intervals are over prompts.
    """

    proxies: dict[str, RewardSpec]
    """The rewards that choose, by names of your own."""
    gold: RewardSpec
    """The reward that counts."""
    draws: tuple[int, ...] = (1, 4, 16, 64)
    """Numbers of answers, N, of which the best is kept."""
    sampling: Sampling = _SAMPLED
    """How answers are drawn; `n` per prompt and engine, no fewer than the greatest of `draws`."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {
        "proxies": {"polite": {"name": "harbor_proxy", "proxy": "polite_count"}, "exact": "harbor"},
        "gold": "harbor",
        "draws": [1, 2, 4],
        "sampling": {"n": 6, "max_tokens": 20},
    }

    def __post_init__(self) -> None:
        if not self.proxies:
            raise UsageError("over_optimisation.proxies is empty", fix="name one reward or more: {mine: ...}")
        if not self.draws or min(self.draws) < 1:
            raise UsageError(f"over_optimisation.draws is {list(self.draws)}", fix="give numbers from 1 on")
        if self.sampling.n < max(self.draws):
            what = f"over_optimisation.sampling.n is {self.sampling.n}, too few for the best of {max(self.draws)}"
            raise UsageError(what, fix=f"use {max(self.draws)} or more")
        if self.sampling.temperature == 0 and max(self.draws) > 1:
            raise UsageError("over_optimisation.sampling is greedy: all draws are the same", fix="use temperature 1")
        for spec in (self.gold, *self.proxies.values()):
            catalog.from_spec("reward", spec)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Choose among every engine's answers to the records' prompts.

        Axes: for each proxy and N `PROXY_N`, the gold reward of the best of N by that proxy; of answers with equal
        proxies each is as likely. Answers that the gold reward or the proxy does not value are not chosen; a prompt
        with fewer than N others has no value. Rows, one per prompt: id, engine, and these.
        """
        prompts, report = prompts_of(records), Report({})
        judges = {name: catalog.from_spec("reward", spec) for name, spec in self.proxies.items()}
        gold = catalog.from_spec("reward", self.gold)
        for name, answers in draw(engines, prompts, self.sampling).items():
            said = [text for group in texts(answers) for text in group]
            asked = [prompt for prompt in prompts for _ in range(self.sampling.n)]
            true, columns = valued_once(gold, asked, said).reshape(len(prompts), -1), {}
            for proxy, judge in judges.items():
                seen = valued_once(judge, asked, said).reshape(len(prompts), -1)
                for n in self.draws:
                    columns[f"{proxy}_{n}"] = np.array([_chosen(own, real, n) for own, real in zip(seen, true)])
                missing = int(np.isnan(seen + true).sum())
                if missing:
                    report.notes.append(f"{name}: {missing} answers are valued by {proxy} or by gold alone, or neither")
            self._add(name, columns, records, report)
            report.figures[f"{name}, gold reward of the best of N"] = self._curves(report.summary[name])
        return report

    def _add(self, name: str, columns: Mapping[str, np.ndarray], records: Sequence[Any], report: Report) -> None:
        options = {"confidence": self.confidence, "seed": self.seed}
        report.summary[name] = {axis: estimate_mean(found, **options) for axis, found in columns.items()}
        for i, record in enumerate(records):
            cells = {axis: None if np.isnan(found[i]) else float(found[i]) for axis, found in columns.items()}
            report.rows.append({"id": str(record.id), "engine": name, **cells})

    def _curves(self, axes: Mapping[str, Any]) -> str:
        along = [math.sqrt(max(0.0, math.log(n) - (n - 1) / n)) for n in sorted(self.draws)]
        lines = {proxy: (along, [axes[f"{proxy}_{n}"].value for n in sorted(self.draws)]) for proxy in self.proxies}
        return curves(lines, x="square root of the KL of best of N, nats", y="gold reward")


def _chosen(proxy: np.ndarray, gold: np.ndarray, n: int) -> float:
    """Return the mean gold reward of the best of n by the proxy, over all choices among the answers [M]."""
    kept = ~np.isnan(proxy + gold)
    proxy, gold = proxy[kept], gold[kept]
    if len(proxy) < n:
        return math.nan
    _, places = np.unique(proxy, return_inverse=True)
    weights = np.zeros(places.max() + 1)
    np.add.at(weights, np.sort(places), order_weights(len(proxy), n))
    means = np.bincount(places, weights=gold) / np.bincount(places)
    return float(weights @ means)
