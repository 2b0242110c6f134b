"""Win rates at equal lengths: against a general optimiser, invariants, little and bad data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from fairlead.errors import DataError, UsageError
from fairlead.evaluation.preferences import LengthReference, length_controlled
from fairlead.evaluation.preferences.l1_logistic import L1Logistic


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def made(n: int, seed: int = 0, slope: float = -1.5, level: float = -0.4):
    rng = np.random.default_rng(seed)
    lengths, baseline = rng.integers(50, 2000, n), rng.integers(50, 2000, n)
    gap = (baseline - lengths).astype(float)
    chance = sigmoid(slope * np.tanh(gap / gap.std(ddof=1)) + level)
    return (rng.random(n) < chance).astype(float), lengths, baseline


def reference_of(baseline, seed: int = 0) -> LengthReference:
    rng = np.random.default_rng(seed)
    n = len(baseline)
    return LengthReference(rng.normal(size=n), np.asarray(baseline, float), rng.integers(20, 900, n).astype(float),
                           rng.integers(900, 4000, n).astype(float), (-0.1 * n, 0.2 * n))  # fmt: skip


def test_it_recovers_what_made_the_verdicts():
    found = length_controlled(*made(20_000), resamples=200)
    assert found.weights == pytest.approx((-1.5, 0, -0.4), abs=0.06)
    assert found.rate.low < sigmoid(-0.4) < found.rate.high


@pytest.mark.parametrize("c", [0.05, 0.5, 21.5443, 1e4])
def test_the_fit_is_the_minimum_that_a_general_optimiser_finds(c):
    points, lengths, baseline = made(60, seed=3)
    points = np.clip(points * 0.9 + 0.03, 0, 1)
    reference = reference_of(baseline)
    found = length_controlled(points, lengths, baseline, items=range(60), reference=reference, c=c, resamples=0)
    gap = baseline - lengths
    x = np.stack([np.tanh(gap / gap.std(ddof=1)), reference.difficulty, np.ones(60)], 1)
    twins = reference.twins()

    def loss(w):
        inner, tied = x @ w, twins @ w[:2]
        fixed = np.logaddexp(0, tied).sum() - w[:2] @ np.array(reference.twin_sums)
        return (np.logaddexp(0, inner) - points * inner).sum() + 0.1 * fixed + np.abs(w).sum() / c

    options = {"xatol": 1e-10, "fatol": 1e-13, "maxiter": 20_000, "maxfev": 20_000}
    best = optimize.minimize(loss, np.array(found.weights) + 0.1, method="Nelder-Mead", options=options)
    assert loss(np.array(found.weights)) <= best.fun + 1e-9
    assert found.weights == pytest.approx(best.x, abs=1e-4)


def test_a_strong_penalty_leaves_nothing():
    points, lengths, baseline = made(60)
    found = length_controlled(points, lengths, baseline, c=1e-4, resamples=0)
    assert found.weights == (0, 0, 0)
    assert found.rate.value == 0.5


def test_a_model_identical_to_the_baseline_wins_half():
    lengths = np.random.default_rng(0).integers(1, 500, 40)
    found = length_controlled(np.full(40, 0.5), lengths, lengths)
    assert found.rate.value == found.rate.low == found.rate.high == 0.5


def test_ties_of_equal_length_pull_the_rate_to_a_half():
    points, lengths, baseline = made(200, level=1.0)
    rates = []
    for more in (0, 100, 400):
        extra = [np.concatenate([column, np.full(more, value)]) for column, value in
                 ((points, 0.5), (lengths, 700), (baseline, 700))]  # fmt: skip
        rates.append(length_controlled(*extra, resamples=0).weights[2])
    assert rates[0] > rates[1] > rates[2] > 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 60))
def test_swapping_the_sides_mirrors_and_the_order_of_items_does_not_matter(seed, n):
    points, lengths, baseline = made(n, seed)
    found = length_controlled(points, lengths, baseline, resamples=0)
    mirrored = length_controlled(1 - points, baseline, lengths, resamples=0)
    assert mirrored.rate.value == pytest.approx(1 - found.rate.value, abs=1e-6)
    order = np.random.default_rng(seed).permutation(n)
    shuffled = length_controlled(points[order], lengths[order], baseline[order], resamples=0)
    assert shuffled.rate.value == pytest.approx(found.rate.value, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), level=st.sampled_from([-9.0, 0.0, 9.0]))
def test_intervals_hold_the_estimate_even_where_one_side_wins_all(seed, n, level):
    found = length_controlled(*made(n, seed, level=level), resamples=50).rate
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_resampled_fits_are_fits():
    points, lengths, baseline = made(50, seed=5)
    gap = (baseline - lengths).astype(float)
    x = np.stack([np.tanh(gap / gap.std(ddof=1)), np.ones(50)], 1)
    rng = np.random.default_rng(0)
    counts = np.stack([np.bincount(rng.integers(50, size=50), minlength=50) for _ in range(20)]).astype(float)
    nothing = (np.zeros((0, 2)), 0.1, np.zeros(2))
    together = L1Logistic(x, points, 0.05, *nothing)
    drawn = together.refit(counts, together.fit())
    for weights, count in zip(drawn, counts):
        rows = np.repeat(np.arange(50), count.astype(int))
        alone = L1Logistic(x[rows], points[rows], 0.05, *nothing).fit()
        assert weights == pytest.approx(alone, abs=1e-3)


def test_missing_verdicts_are_left_out():
    points, lengths, baseline = made(40)
    holes = points.copy()
    holes[::4] = np.nan
    kept = ~np.isnan(holes)
    found = length_controlled(holes, lengths, baseline, resamples=20)
    assert found.rate == length_controlled(points[kept], lengths[kept], baseline[kept], resamples=20).rate
    assert found.rate.n == 30


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_verdicts_are_told(n):
    found = length_controlled([1.0] * n, [10] * n, [20] * n)
    assert np.isnan(found.rate.value)
    assert found.rate.n == n
    assert f"{n} verdicts are too few" in found.notes[0]


def test_lengths_that_never_differ_change_nothing():
    points = np.array([1, 1, 0, 1, 0, 1.0])
    found = length_controlled(points, [9] * 6, [9] * 6, resamples=0, c=1e6)
    assert found.weights[0] == 0
    assert found.rate.value == pytest.approx(points.mean(), abs=1e-4)


def test_an_unlikely_adjustment_is_told():
    points, lengths, baseline = made(400, slope=-6, level=-2.5)
    longer = lengths + 1500
    gap = (baseline - longer).astype(float)
    points = sigmoid(-6 * np.tanh(gap / gap.std(ddof=1)) - 4)
    found = length_controlled(points, longer, baseline, resamples=0)
    assert "unusually far" in found.notes[0]


def test_the_curve_passes_the_rate_at_equal_lengths():
    points, lengths, baseline = made(100)
    found = length_controlled(points, lengths, baseline, resamples=0)
    curve = found.at([-1000, 0, 1000])
    assert curve[1] == pytest.approx(found.rate.value)
    assert curve[0] < curve[1] < curve[2]


def test_bad_input_is_named():
    points, lengths, baseline = made(20)
    with pytest.raises(UsageError, match=r"\(20,\) verdicts with lengths \(19,\)"):
        length_controlled(points, lengths[1:], baseline)
    with pytest.raises(UsageError, match="c is 0"):
        length_controlled(points, lengths, baseline, c=0)
    with pytest.raises(UsageError, match="confidence is 95"):
        length_controlled(points, lengths, baseline, confidence=95)
    with pytest.raises(UsageError, match="no finite fit"):
        length_controlled(np.ones(20), lengths, baseline, c=float("inf"))
    reference = reference_of(baseline)
    with pytest.raises(UsageError, match="without the items' places"):
        length_controlled(points, lengths, baseline, reference=reference)
    with pytest.raises(DataError, match="item 20 of a reference with 20"):
        length_controlled(points, lengths, baseline, reference=reference, items=range(1, 21))


def test_a_reference_file_that_is_none(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        LengthReference.read(tmp_path / "absent.csv")
    path = tmp_path / "reference.csv"
    path.write_text("index,instruction_difficulty,len_baseline,len_concise\n0,1,2,3\n")
    with pytest.raises(DataError, match="column 'len_verbose' is not a number"):
        LengthReference.read(path)
    path.write_text("index,instruction_difficulty,len_baseline,len_concise,len_verbose\n0,1,2,3,4\n2,1,2,3,4\n")
    with pytest.raises(DataError, match="item 1: the index does not count"):
        LengthReference.read(path)
