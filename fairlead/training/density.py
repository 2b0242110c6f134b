"""How much likelier a prompt is among thumbs up than among thumbs down: weights that make both alike in their prompts.

A logistic regression on embedded prompts tells the two apart; its odds are the ratio of the densities. It is fitted
in folds, and a training prompt is weighted by a fit that has not seen it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fairlead import models
from fairlead.errors import DataError
from fairlead.forward.layout import Branch, Group, lay_out
from fairlead.training.columns import Desk, Part
from fairlead.training.order import split

__all__ = ["DensityRatio", "Logistic", "area_under_curve", "effective_share", "fit_logistic", "odds"]

LOW, HIGH = 0.5, 10.0
"""Bounds of the weights."""
_FOLDS = 5


@dataclass(frozen=True)
class DensityRatio:
    """A weight per record of feedback: p(prompt | up) / p(prompt | down) for a thumb down, 1 for a thumb up."""

    embedder: str | None = None
    """Sentence-embedding model, as a path or a hub id; None takes the policy's own last hidden states."""
    per_class: int = 1024
    """Most prompts of each label that the regression is fitted on, drawn by the run's seed."""
    ridge: float = 1.0
    """Weight of half the squared coefficients, beside the summed loss."""
    name: str = "weight"
    """Key in `Scores.fields`."""

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Fit on the training data and weigh the records of `part`.

        Raises:
            DataError: too few different prompts of one label.
            MissingExtraError, ModelError: the embedder cannot be used.
        """
        embedded = self._embed(desk.training, desk)
        up = _labels(desk.training)
        fold = np.array([_fold_of(group, desk.config.seed) for group in desk.training.groups])
        fits = self._fit(embedded, up, fold, desk)
        if part is desk.training:
            logit = np.stack([fit(embedded) for fit in fits])[fold, np.arange(len(fold))]
        else:
            logit = np.mean([fit(self._embed(part, desk)) for fit in fits], axis=0)
        up = _labels(part)
        weight = np.where(up, 1.0, odds(1 / (1 + np.exp(-logit))))
        if part is desk.training:
            desk.notes.append(
                f"matching: prompts of thumbs up and down are told apart with AUC {area_under_curve(logit, up):.2f} "
                f"(0.5: alike); the weights leave an effective {effective_share(weight[~up]):.0%} of the thumbs down"
            )
        return [np.array([w], dtype=np.float32) for w in weight]

    def _embed(self, part: Part, desk: Desk) -> np.ndarray:
        found = _hidden(part, desk) if self.embedder is None else _sentences(part, self.embedder)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def _fit(self, embedded: np.ndarray, up: np.ndarray, fold: np.ndarray, desk: Desk) -> list[Logistic]:
        rng = np.random.default_rng([desk.config.seed, 0])
        drawn = np.zeros(len(up), dtype=bool)
        for label in (True, False):
            rows = np.flatnonzero(up == label)
            drawn[rng.permutation(rows)[: self.per_class]] = True
        fits = []
        for k in range(_FOLDS):
            rows = drawn & (fold != k)
            if len(set(up[rows])) < 2:
                raise DataError(
                    "too few different prompts of one label to compare the prompts of thumbs up and down",
                    place=desk.training.records.source,
                    fix="give more data, or train without matching",
                )
            fits.append(fit_logistic(embedded[rows], up[rows], self.ridge))
        return fits


@dataclass(frozen=True)
class Logistic:
    """A fitted logistic regression: logit of an up for rows of features."""

    centre: np.ndarray
    """float64 [E]: taken off the features."""
    coefficients: np.ndarray
    """float64 [E]."""
    intercept: float
    """Logit at the centre."""

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the logit of every row of [N, E]: [N]."""
        return (features - self.centre) @ self.coefficients + self.intercept


def fit_logistic(features: np.ndarray, up: np.ndarray, ridge: float) -> Logistic:
    """Fit a logistic regression in which both classes weigh alike, so that its odds hold no share of the classes.

    Args:
        features: [N, E]; centred here and scaled to a mean squared norm of 1, on which `ridge` acts.
        up: bool [N], both values present.
        ridge: weight of half the squared coefficients (not of the intercept), beside the summed loss.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    centre = features.mean(0)
    scale = max(float(np.sqrt(((features - centre) ** 2).sum(1).mean())), 1e-12)
    x = (features - centre) / scale
    sign = np.where(up, 1.0, -1.0)
    balance = np.where(up, 0.5 / up.mean(), 0.5 / (1 - up.mean()))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = parameters[:-1], parameters[-1]
        margin = sign * (x @ w + b)
        slope = -balance * sign * expit(-margin)
        value = float(balance @ np.logaddexp(0.0, -margin) + 0.5 * ridge * w @ w)
        return value, np.append(x.T @ slope + ridge * w, slope.sum())

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    return Logistic(centre, found.x[:-1] / scale, float(found.x[-1]))


def odds(p: np.ndarray) -> np.ndarray:
    """Return p / (1 - p), bounded to [0.5, 10], of probabilities of a thumb up."""
    return np.clip(p / (1 - p + 1e-8), LOW, HIGH)


def area_under_curve(score: np.ndarray, up: np.ndarray) -> float:
    """Return the chance that a random row of `up` scores above a random other one, ties counted half."""
    from scipy.stats import rankdata

    first, second = int(up.sum()), int((~up).sum())
    return float((rankdata(score)[up].sum() - first * (first + 1) / 2) / (first * second))


def effective_share(weight: np.ndarray) -> float:
    """Return (sum of weights)^2 / (number * sum of squared weights): 1 when all are equal."""
    return float(weight.sum() ** 2 / (len(weight) * (weight**2).sum()))


def _labels(part: Part) -> np.ndarray:
    return np.array([bool(group.fields["label"][0]) for group in part.groups])


def _fold_of(group: Group, seed: int) -> int:
    """Return the fold of a prompt: equal prompts are in one fold, wherever they stand."""
    digest = hashlib.sha256(seed.to_bytes(8, "little") + np.ascontiguousarray(group.prompt).tobytes()).digest()
    return int.from_bytes(digest[:8], "little") % _FOLDS


@torch.no_grad()
def _hidden(part: Part, desk: Desk) -> np.ndarray:
    """Return the mean of the policy's last hidden states over each prompt's tokens: [N, H]."""
    from accelerate.utils import gather_object

    accelerator, plain = desk.accelerator, desk.accelerator.unwrap_model(desk.policy)
    # One token of the answer comes along because a layout wants an answer; no prompt token sees it.
    groups = [Group(g.id, g.prompt, (Branch(g.branches[0].ids[:1], np.ones(1, dtype=bool)),)) for g in part.groups]
    ranks = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
    share: list[tuple[int, np.ndarray]] = []
    for one in split(groups, desk.config.micro_tokens, plain.layout, **ranks):
        batch = lay_out([groups[i] for i in one.groups], plain.layout).to(accelerator.device)
        with accelerator.autocast():
            states = plain.hidden(batch).double().cpu().numpy()
        for i, last in zip(one.groups, batch.source.tolist(), strict=True):
            share.append((i, states[last + 1 - len(groups[i].prompt) : last + 1].mean(0)))
    found = dict(gather_object(share))
    return np.stack([found[i] for i in range(len(groups))])


def _sentences(part: Part, embedder: str) -> np.ndarray:
    """Return a sentence-embedding model's vector of each prompt: [N, E]."""
    model = models.load_embedder(embedder, "matching: sentence")
    asked = {record.id: _words(getattr(record, "prompt", "")) for record in part.records}
    texts: Sequence[str] = [asked[group.id] for group in part.groups]
    return np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float64)


def _words(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else "\n\n".join(message["content"] for message in prompt)
