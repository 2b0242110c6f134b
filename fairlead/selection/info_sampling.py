"""Keep the few percent of a data set that carry its information: entropy change under a Gaussian mixture.

Source: Khera et al. 2024, "Efficient Alignment of Large Language Models via Data Sampling" (arXiv 2411.10545). Its full
text does not say which encoder, reduction, variant of the entropy and order were used, so that each is a field here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.engines.embedding import Embedding
from fairlead.errors import UsageError
from fairlead.figures import distribution
from fairlead.records import Feedback
from fairlead.selection.base import Selection, Selector, check_keep, chosen, number_kept
from fairlead.selection.encoding import PairMode, encode
from fairlead.selection.entropy import rank_correlation
from fairlead.selection.information import Information, Measure
from fairlead.selection.logdet import greedy_logdet
from fairlead.selection.lots import lots_of
from fairlead.selection.pool import Part, Pool
from fairlead.selection.quotas import largest_remainder

__all__ = ["InfoSampling"]

_SHOWN = 20
_LETTERS = 40


@dataclass(frozen=True)
class InfoSampling(Selector):
    """Keep the records without which the entropy of the data would change most, in nats."""

    keep: float = 0.1
    """Records kept: a number of them, or a share of the pool below 1. The paper speaks of 3.5 to 10 %."""
    embedding: Embedding | str = field(default_factory=Embedding)
    """How texts become vectors, or the column that holds vectors."""
    part: Part = "all"
    """Which text of a record is embedded."""
    pairs: PairMode = "concat"
    """What stands for a preference: prompt and chosen answer, chosen less rejected, or both, a row each."""
    pair_value: Literal["sum", "max"] = "sum"
    """With `pairs: both`: how the two changes of a pair become one."""
    dimensions: float = 32
    """Principal axes kept of the standardised vectors: a number, or a share of the variance below 1."""
    entropy: Literal["mixture", "mixture_refit", "gaussian", "kde", "discrete"] = "mixture"
    """The density and its change: `mixture` keeps the fitted parameters, `mixture_refit` takes one step of fitting
    without the record, `gaussian` is one Gaussian fitted again exactly, `kde` a kernel density, `discrete` the entropy
    of the densities scaled to a sum of 1."""
    components: int = 2
    """Gaussians of the mixture."""
    covariance: Literal["full", "diag", "spherical"] = "full"
    """Form of their covariances."""
    ridge: float = 1e-6
    """Added to every variance, so that equal records have a density; vectors are standardised."""
    restarts: int = 10
    """Runs of the fit, of which the likeliest wins."""
    labels: str | None = None
    """Column of labels (`label` for the thumbs of feedback): a component for each instead of a fit."""
    direction: Literal["max", "min", "abs", "proportional", "stratified"] = "max"
    """Which changes are kept: the largest, the least, the largest either way, drawn with a chance in proportion to the
    change (shifted so that the least one is a hundredth of the spread), or the largest of each component and label by
    its share of the pool."""
    objective: Literal["entropy", "logdet"] = "entropy"
    """`logdet` chooses one by one what adds most to the log-determinant of the chosen vectors' Gram matrix, instead of
    by `direction`: unlike records, not only unlikely ones."""
    clip: float = 0.005
    """Share of the pool that is left out beforehand as broken, the most surprising; 0 for none."""
    seed: int = 0
    """Randomness of the fit's starts and of drawn directions."""

    example: ClassVar[Mapping[str, Any]] = {
        "keep": 0.25,
        "embedding": {"model": "harbor:base-300k"},
        "dimensions": 3,
        "clip": 0.05,
    }

    def __post_init__(self) -> None:
        check_keep(self.keep, "info_sampling")
        if not self.dimensions > 0 or (self.dimensions >= 1 and self.dimensions % 1):
            fix = "use a whole number of axes, or a share of the variance below 1"
            raise UsageError(f"info_sampling.dimensions is {self.dimensions}", fix=fix)
        for name in ("components", "restarts"):
            if getattr(self, name) < 1:
                raise UsageError(f"info_sampling.{name} is {getattr(self, name)}", fix="use 1 or more")
        if not self.ridge > 0:
            raise UsageError(f"info_sampling.ridge is {self.ridge}", fix="use a small number above 0, such as 1e-6")
        if not 0 <= self.clip < 1:
            raise UsageError(f"info_sampling.clip is {self.clip}", fix="use a share of the pool, 0 for none")
        if self.labels is not None and self.entropy not in ("mixture", "discrete"):
            fix = "use entropy: mixture or discrete, or leave labels out"
            raise UsageError(f"info_sampling: entropy {self.entropy} has no component per label", fix=fix)

    @property
    def keeps_by_quota(self) -> bool:
        """Whether a smaller choice may be no beginning of a larger one."""
        return self.direction == "stratified"

    def choose(self, pool: Pool) -> Selection:
        """Embed, fit, measure, choose.

        Columns: `delta_h` (change of the entropy), `surprisal` (-ln of the density), `component` (the likeliest) and
        `responsibility` (its chance); None for blank texts.

        Raises:
            DataError: vectors that are missing or not finite, labels that are missing, pairs that are none.
        """
        n, ids = len(pool), np.array([record.id for record in pool])
        rows = encode(pool, self.embedding, self.part, self.pairs)
        rows = rows.reshape(len(rows) // n, n, rows.shape[1])
        there = np.abs(rows).sum((0, 2)) > 0
        reasons = {int(i): "blank text" for i in np.flatnonzero(~there)}
        places = np.flatnonzero(there)
        if not len(places):
            return chosen(n, [], np.full(n, np.nan), reasons, "blank text")
        places = places[np.argsort(ids[places], kind="stable")]
        found = self._measure(rows[:, places], None if self.labels is None else _labels(pool, self.labels)[places])
        clipped = _first(found.surprisal, int(self.clip * n + 1e-9))
        reasons |= {int(places[i]): f"clipped: most surprising {self.clip:.3g} of the pool" for i in clipped}
        free = np.setdiff1d(np.arange(len(places)), clipped)
        worth, order = self._order(found, free, number_kept(self.keep, n), ids[places])
        scores = np.full(n, np.nan)
        scores[places] = worth
        return chosen(
            n, places[order], scores, reasons, "others carry more information",
            columns=_columns(n, places, found), metrics=_metrics(pool, places, found, order, clipped),
            figures=_figures(found, order, clipped), notes=(*found.notes, *_extremes(pool, places, found)),
        )  # fmt: skip

    def _measure(self, rows: np.ndarray, labels: np.ndarray | None) -> Information:
        settings = {f.name: getattr(self, f.name) for f in fields(Measure)}
        return Measure(**settings)(rows, None if labels is None else np.unique(labels, return_inverse=True)[1])

    def _order(
        self, found: Information, free: np.ndarray, number: int, ids: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what each row is chosen by, [N], and the chosen rows in order."""
        number = min(number, len(free))
        worth = np.full(len(ids), np.nan)
        if self.objective == "logdet":
            length = np.linalg.norm(found.rows, axis=1, keepdims=True)
            order, gains = greedy_logdet((found.rows / np.where(length > 0, length, 1.0))[free], number)
            worth[free[order]] = gains
            return worth, free[order]
        worth = _WORTH[self.direction](found.change, lots_of(ids.tolist(), self.seed))
        if self.direction != "stratified":
            return worth, free[_first(worth[free], number)]
        strata = np.unique(found.strata, return_inverse=True)[1][free]
        quotas = largest_remainder(np.bincount(strata), number)
        parts = [np.flatnonzero(strata == k) for k in range(len(quotas))]
        kept = np.concatenate([part[_first(worth[free[part]], q)] for part, q in zip(parts, quotas, strict=True)])
        return worth, free[kept[_first(worth[free[kept]], len(kept))]]


def _first(worth: np.ndarray, number: int) -> np.ndarray:
    """Return the places of the highest values, of equal ones (but for rounding) the earlier."""
    scale = float(np.abs(worth).max(initial=0.0)) or 1.0
    return np.argsort(-np.round(worth / scale, 9), kind="stable")[:number]


def _labels(pool: Pool, column: str) -> np.ndarray:
    if column == "label" and all(isinstance(record, Feedback) for record in pool):
        return np.array([str(record.label) for record in pool if isinstance(record, Feedback)])
    return np.array([str(value) for value in pool.values(column)])


def _proportional(change: np.ndarray, lots: np.ndarray) -> np.ndarray:
    """Return keys whose largest ones are a sample without replacement, with chances in proportion to the change."""
    spread = float(np.ptp(change))
    weights = change - change.min() + 0.01 * spread if spread > 0 else np.ones(len(change))
    return np.log(weights) - np.log(-np.log(np.clip(lots, 1e-300, 1 - 1e-16)))


_WORTH: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "max": lambda change, lots: change,
    "min": lambda change, lots: -change,
    "abs": lambda change, lots: np.abs(change),
    "proportional": _proportional,
    "stratified": lambda change, lots: change,
}


def _columns(n: int, places: np.ndarray, found: Information) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for title, values in (
        ("delta_h", found.change),
        ("surprisal", found.surprisal),
        ("component", found.component),
        ("responsibility", found.responsibility),
    ):
        columns[title] = [None] * n
        for place, value in zip(places.tolist(), values.tolist(), strict=True):
            columns[title][place] = value
    return columns


def _metrics(
    pool: Pool, places: np.ndarray, found: Information, order: np.ndarray, clipped: np.ndarray
) -> dict[str, float]:
    texts = pool.texts()
    lengths = np.array([float(len(texts[i])) for i in places])
    metrics = {
        "entropy": found.entropy,
        "clipped": float(len(clipped)),
        "components": float(len(found.weights)),
        "largest_weight": float(found.weights.max()),
        "length_correlation": rank_correlation(found.change, lengths),
        "kept_surprisal": float(found.surprisal[order].mean()) if len(order) else np.nan,
        "pool_surprisal": float(found.surprisal.mean()),
        **({} if found.agreement is None else {"refit_agreement": found.agreement}),
    }
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _figures(found: Information, order: np.ndarray, clipped: np.ndarray) -> dict[str, str]:
    parts = {"pool": found.surprisal, "kept": found.surprisal[order], "clipped": found.surprisal[clipped]}
    shown = {name: values.tolist() for name, values in parts.items() if len(values)}
    return {"surprisal": distribution(shown, label="-ln p, nats", unit="records", order=list(parts))}


def _extremes(pool: Pool, places: np.ndarray, found: Information) -> tuple[str, ...]:
    """Return notes with the elements of the largest and the least change, for a look."""
    order, texts = _first(found.change, len(places)), pool.texts()
    number = min(_SHOWN, len(order))

    def said(some: np.ndarray) -> str:
        parts = [(pool[int(places[i])].id, " ".join(texts[places[i]].split())[:_LETTERS]) for i in some]
        return "; ".join(f"{id} {text!r}" for id, text in parts)

    return (f"largest change: {said(order[:number])}", f"least change: {said(order[::-1][:number])}")
