"""Learning from the soft labels of a weaker model (Burns et al., arXiv 2312.09390, section 4.3 and appendix A).

An item is a ranking record: its completions are the label words and its scores their probabilities under the weak
supervisor. The student's logits are the summed log-probs of the label words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fairlead.errors import DataError, UsageError
from fairlead.training.columns import Desk, Part
from fairlead.training.objectives.base import Loss, Needs, Scores, token_sums
from fairlead.training.objectives.hardening import harden, item_log_softmax

__all__ = ["Items", "LabelClass", "LabelRow", "WeakToStrong"]

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LabelClass:
    """The number of each completion among its record's label words; refuses scores that are no probabilities."""

    name: str = "label_class"
    """Key in `Scores.fields`."""
    common: bool = False
    """Whether all records must have the same label words in the same order."""

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Number the label words.

        Raises:
            DataError: scores that are no probability distribution, or label words that differ where they must not.
        """
        by_id = {record.id: record for record in part.records}
        first: Any = None
        for group in part.groups:
            record: Any = by_id[group.id]
            place = part.records.place(group.id)
            scores = np.array(record.scores, dtype=np.float64)
            if not (np.isfinite(scores).all() and (scores >= 0).all() and abs(scores.sum() - 1) <= _SUM_TOLERANCE):
                raise DataError(
                    f"its scores {list(record.scores)} are no probabilities of its {len(scores)} label words",
                    place=place,
                    fix="give scores >= 0 that sum to 1, such as those of the synthesizer weak_labels",
                )
            first = first or record
            if self.common and record.completions != first.completions:
                raise DataError(
                    f"its label words differ from those of {first.id}, so the two have no common class balance",
                    place=place,
                    fix="set hardening: argmax, or train on records with the same label words in one order",
                )
        return [np.arange(len(group.branches), dtype=np.float32) for group in part.groups]


@dataclass(frozen=True)
class LabelRow:
    """The place of each record in its data: what tells the items of a step apart, however the step is split."""

    name: str = "label_row"
    """Key in `Scores.fields`."""

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Number the records."""
        return [np.full(len(group.branches), i, dtype=np.float32) for i, group in enumerate(part.groups)]


@dataclass(frozen=True)
class Items:
    """A pass's items as flat tensors, one entry per item and label word."""

    item: Tensor
    """int64 [N]: number of the item within the pass."""
    row: Tensor
    """int64 [N]: number of the item within the data."""
    label: Tensor
    """int64 [N]: the class."""
    log_p: Tensor
    """float32 [N]: the student's log-probs of the classes, with gradient."""
    soft: Tensor
    """float32 [N]: the weak labels."""


@dataclass(frozen=True)
class WeakToStrong:
    """Cross-entropy to weak labels, to a mixture of them with the student's own hardened opinion, or to a product."""

    loss: Literal["xent", "confidence", "product"] = "confidence"
    """Target: the weak labels; mixed with the student's hardened prediction; their renormalised product with the
    student's own probabilities."""
    alpha_max: float = 0.5
    """confidence: final weight of the hardened prediction, in [0, 1]; the paper goes up to 0.75 for large students."""
    warmup: float = 0.1
    """confidence: share of training in which that weight rises linearly from 0, in [0, 1]; 0 starts at the full one."""
    hardening: Literal["balanced", "argmax"] = "balanced"
    """confidence: whether the step's hardened classes keep the weak labels' class balance (all records must then
    have the same label words), or are each item's likeliest."""
    student_power: float = 1.0
    """product: exponent of the student's probabilities."""
    weak_power: float = 1.0
    """product: exponent of the weak labels."""

    def __post_init__(self) -> None:
        for name in ("alpha_max", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"weak_to_strong.{name} is {getattr(self, name)}", fix="use a share in [0, 1]")
        for name in ("student_power", "weak_power"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"weak_to_strong.{name} is {getattr(self, name)}", fix="use an exponent >= 0")

    @property
    def needs(self) -> Needs:
        """Rankings whose scores are probabilities, and which item and class a completion is."""
        common = self.loss == "confidence" and self.hardening == "balanced"
        columns = (LabelClass(common=common), LabelRow())
        return Needs(record="ranking", columns=columns, survey=self.loss == "confidence")

    def coefficient(self, progress: float) -> float:
        """Return the weight of the hardened prediction after a share `progress` of training."""
        return self.alpha_max * (min(1.0, progress / self.warmup) if self.warmup else 1.0)

    def survey(self, scores: Scores) -> dict[str, Tensor]:
        """Return what the hardening must know of every item of the step: flat tensors, one entry per label word."""
        items = _items(scores)
        return {"row": items.row, "label": items.label, "log_p": items.log_p.detach(), "soft": items.soft}

    def __call__(self, scores: Scores) -> Loss:
        """Return the cross-entropy summed over items.

        Metrics: `agreement` with the weak label, `certainty` (the student's highest probability), and for `confidence`
        `alpha` and `kept`, the share of items whose hardened class is the weak label's.
        """
        items = _items(scores)
        target, metrics = _TARGETS[self.loss](self, items, scores)
        count = torch.tensor(float(int(items.item.max()) + 1), device=items.item.device)
        top = _top(items.log_p.detach(), items.item)
        metrics["agreement"] = _any(top & _top(items.soft, items.item), items.item)
        metrics["certainty"] = _highest(items.log_p.detach(), items.item).exp().sum()
        return Loss(
            sum=-(target.detach() * items.log_p).sum(),
            count=count,
            metrics={name: (value, count) for name, value in metrics.items()},
        )


_Found = tuple[Tensor, dict[str, Tensor]]


def _items(scores: Scores) -> Items:
    _, item = torch.unique(scores.group, return_inverse=True)
    logits = token_sums(scores.policy, scores.mask)
    row, label = (scores.require(name).long() for name in ("label_row", "label_class"))
    return Items(item, row, label, item_log_softmax(logits, item), scores.require("rank_score").float())


def _highest(values: Tensor, item: Tensor) -> Tensor:
    """Return the highest value of each item: [B]."""
    lowest = torch.full((int(item.max()) + 1,), -torch.inf, device=values.device)
    return lowest.scatter_reduce(0, item, values, "amax")


def _top(values: Tensor, item: Tensor) -> Tensor:
    """Mark the highest entries of each item: bool [N]."""
    return values == _highest(values, item)[item]


def _any(marked: Tensor, item: Tensor) -> Tensor:
    """Count the items with a marked entry."""
    return torch.zeros(int(item.max()) + 1, device=item.device).index_add(0, item, marked.float()).clamp(max=1).sum()


def _xent(method: WeakToStrong, items: Items, scores: Scores) -> _Found:
    return items.soft, {}


def _confidence(method: WeakToStrong, items: Items, scores: Scores) -> _Found:
    step = scores.survey
    hard = harden(method.hardening, step["row"], step["label"], step["log_p"], step["soft"])
    classes = int(step["label"].max()) + 1
    keys, order = torch.sort(step["row"] * classes + step["label"], stable=True)
    own = hard[order][torch.searchsorted(keys, items.row * classes + items.label)]
    alpha = method.coefficient(scores.progress)
    count = int(items.item.max()) + 1
    metrics = {
        "alpha": torch.tensor(alpha * count, device=own.device),
        "kept": _any((own == 1) & _top(items.soft, items.item), items.item),
    }
    return (1 - alpha) * items.soft + alpha * own, metrics


def _product(method: WeakToStrong, items: Items, scores: Scores) -> _Found:
    weak = torch.where(items.soft > 0, items.soft.log() * method.weak_power, -torch.inf)
    joined = method.student_power * items.log_p.detach() + weak
    return item_log_softmax(joined, items.item).exp(), {}


_TARGETS: dict[str, Callable[[WeakToStrong, Items, Scores], _Found]] = {
    "xent": _xent,
    "confidence": _confidence,
    "product": _product,
}
