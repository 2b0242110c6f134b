"""Value profiles: the mean score per dimension, centred, with resamples of items; and how far it is from a target.

Centring takes the mean over all items from each dimension's mean, so that who agrees with everything has no profile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairlead.estimates import Estimate
from fairlead.evaluation.preferences.agreement import spearman
from fairlead.evaluation.questioning import ItemAnswer
from fairlead.evaluation.value_measures import cosine, cronbach_alpha

__all__ = ["Profile", "alphas", "chance_of_rank", "failed_attention", "profile_of", "to_target"]

_ORDERS = 10_000


@dataclass(frozen=True)
class Profile:
    """Scores of D dimensions."""

    dimensions: tuple[str, ...]
    """Those with a score, in the questionnaire's order."""
    mean: np.ndarray
    """[D]: mean score of the items."""
    centred: np.ndarray
    """[D]: without the mean over all items."""
    items: np.ndarray
    """[D]: items with a score."""
    drawn_mean: np.ndarray
    """[R, D]: of every resample."""
    drawn_centred: np.ndarray
    """[R, D]: of every resample."""

    def scores(self, centred: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores [D] and those of every resample [R, D]."""
        return (self.centred, self.drawn_centred) if centred else (self.mean, self.drawn_mean)

    def estimate(self, drawn: np.ndarray, value: float, n: int, confidence: float) -> Estimate:
        """Return a number with the interval of its resamples [R]; a number from one item has none."""
        known = drawn[~np.isnan(drawn)]
        if np.isnan(value):
            return Estimate(value, value, value, 0)
        if n < 2 or len(known) < 2:
            return Estimate(value, float("nan"), float("nan"), n)
        low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(value, float(min(low, value)), float(max(high, value)), n)

    def chance(self, drawn: np.ndarray, value: float, n: int) -> float:
        """Return the two-sided p-value that a difference is 0, from its resamples [R]; NaN for one item."""
        known = drawn[~np.isnan(drawn)]
        if np.isnan(value) or n < 2 or len(known) < 2:
            return float("nan")
        sides = [(1 + int(side.sum())) / (1 + len(known)) for side in (known <= 0, known >= 0)]
        return min(1.0, 2 * min(sides))

    def summary(self, confidence: float) -> dict[str, Estimate]:
        """Return `mean.D` and `centred.D`."""
        found = {}
        for kind, values, drawn in (
            ("mean", self.mean, self.drawn_mean),
            ("centred", self.centred, self.drawn_centred),
        ):
            for i, name in enumerate(self.dimensions):
                n = int(self.items[i])
                found[f"{kind}.{name}"] = self.estimate(drawn[:, i], float(values[i]), n, confidence)
        return found

    def group(self, names: Sequence[str], confidence: float) -> Estimate:
        """Return the centred mean over all items of several dimensions."""
        places = [self.dimensions.index(name) for name in names if name in self.dimensions]
        weights = self.items[places]
        if not weights.sum():
            return Estimate(float("nan"), float("nan"), float("nan"), 0)
        value = float(self.centred[places] @ weights / weights.sum())
        drawn = self.drawn_centred[:, places] @ weights / weights.sum()
        return self.estimate(drawn, value, int(weights.sum()), confidence)


def profile_of(
    answers: Sequence[ItemAnswer], dimensions: Sequence[str], *, resamples: int = 0, seed: int = 0
) -> Profile:
    """Return the profile of answers, an item's score being the mean over its respondents.

    Resamples draw items inside each dimension, and variants inside each item; those of a seed draw the same items for
    everybody who answered the same ones. Items without a score are left out.
    """
    scores: dict[str, list[np.ndarray]] = {}
    of: dict[str, str] = {}
    for answer in answers:
        if answer.item.dimension is not None and len(answer.scores):
            scores.setdefault(answer.item.id, []).append(answer.scores)
            of[answer.item.id] = answer.item.dimension
    known = tuple(name for name in dimensions if name in of.values())
    items = [[np.concatenate(scores[i]) for i in scores if of[i] == name] for name in known]
    sizes = np.array([len(part) for part in items], dtype=int)
    rng = np.random.default_rng(seed)
    drawn = np.full((resamples, len(known)), np.nan)
    for d, part in enumerate(items):
        chosen = rng.integers(len(part), size=(resamples, len(part)))
        inner = np.stack([_variants(scores_of, resamples, rng) for scores_of in part], 1)
        drawn[:, d] = np.take_along_axis(inner, chosen, 1).mean(1)
    mean = np.array([np.mean([scores_of.mean() for scores_of in part]) for part in items])
    return Profile(known, mean, _centred(mean, sizes), sizes, drawn, _centred(drawn, sizes))


def alphas(answers: Sequence[ItemAnswer], dimensions: Sequence[str]) -> dict[str, float]:
    """Return Cronbach's alpha per dimension over respondents; those without a value are left out."""
    found = {}
    for name in dimensions:
        own = [answer for answer in answers if answer.item.dimension == name]
        people, items = sorted({a.persona for a in own}), list(dict.fromkeys(a.item.id for a in own))
        table = np.full((len(people), len(items)), np.nan)
        for answer in own:
            table[people.index(answer.persona), items.index(answer.item.id)] = answer.score
        value = cronbach_alpha(table)
        if not np.isnan(value):
            found[name] = value
    return found


def failed_attention(answers: Sequence[ItemAnswer]) -> list[str]:
    """Return the items that see whether somebody reads them, and that say that they did not."""
    watched = [answer for answer in answers if answer.item.attention is not None]
    return [
        a.item.id for a in watched if a.item.attention and not a.item.attention[0] <= a.score <= a.item.attention[1]
    ]


def to_target(
    profile: Profile, target: Mapping[str, float], confidence: float, *, centred: bool = True
) -> dict[str, Estimate]:
    """Return `distance` (Euclidean), `cosine` and `rank_correlation` (Spearman) of a profile to a target.

    Over the target's dimensions that have a score; of the mean scores where they are not to be centred.
    """
    own, every = profile.scores(centred)
    places = [i for i, name in enumerate(profile.dimensions) if name in target]
    wanted = np.array([target[profile.dimensions[i]] for i in places])
    n = int(profile.items[places].sum())
    found = {}
    for axis, measure in _MEASURES.items():
        value = measure(own[places], wanted) if places else float("nan")
        drawn = np.array([measure(row[places], wanted) for row in every])
        found[axis] = profile.estimate(drawn, value, n, confidence)
    return found


def chance_of_rank(profile: Profile, target: Mapping[str, float], seed: int) -> float:
    """Return the share of random orders of the dimensions that rank like the target as well as the profile does."""
    from scipy import stats

    places = [i for i, name in enumerate(profile.dimensions) if name in target]
    own = stats.rankdata(profile.centred[places])
    wanted = stats.rankdata([target[profile.dimensions[i]] for i in places])
    if len(places) < 3 or len(set(wanted)) == 1:
        return float("nan")
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(own, (_ORDERS, 1)), axis=1)
    return float((orders @ wanted >= own @ wanted - 1e-9).mean())


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    return spearman(one, other).value


_MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "distance": _distance,
    "cosine": cosine,
    "rank_correlation": _rank_correlation,
}


def _centred(means: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Take the mean over all items from the dimensions' means [..., D]."""
    return means - (means @ sizes / max(1, sizes.sum()))[..., None]


def _variants(scores: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the means [R] of resamples of an item's variants."""
    return scores[rng.integers(len(scores), size=(resamples, len(scores)))].mean(1)
