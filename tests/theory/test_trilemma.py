"""The trilemma's closed forms: known answers, inverses, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import UnknownNameError, UsageError
from fairlead.theory.trilemma import (
    POISONS,
    affordable_context,
    amplified,
    amplified_options,
    beta_at,
    effective_dimension,
    failure_limit,
    log2_operations,
    poisoned_majority,
    poisoning_threshold,
    samples_per_group,
    samples_per_group_at_variance,
    trials_to_certify,
)


def test_operations_on_paper():
    assert log2_operations(0.01, 0.001, 50, 1e6) == pytest.approx(53.3219281, abs=1e-7)
    assert 2 ** log2_operations(0.01, 0.001, 50, 1e6) == pytest.approx(1.1258999e16, rel=1e-7)
    assert log2_operations(0.01, 0.001, 200, 1e6) == pytest.approx(203.3219281, abs=1e-7)
    saved = log2_operations(0.01, 0.001, 60, 1e6) - log2_operations(0.01, 0.001, 30, 1e6)
    assert 2**saved == 1_073_741_824


@given(st.floats(1, 300), st.floats(1e-3, 0.5), st.floats(1e-4, 0.5), st.floats(1, 1e9))
def test_the_affordable_context_costs_the_budget(budget, epsilon, delta, people):
    bits = affordable_context(budget, epsilon, delta, people)
    if bits >= 0:
        assert log2_operations(epsilon, delta, bits, people) == pytest.approx(budget)


def test_samples_on_paper():
    assert samples_per_group(0.01, 0.001) == 38005
    assert (samples_per_group(0.01, 0.001, 180), 180 * samples_per_group(0.01, 0.001, 180)) == (63970, 11_514_600)
    assert (samples_per_group(0.05, 0.05, 5), 5 * samples_per_group(0.05, 0.05, 5)) == (1060, 5300)


def test_a_small_variance_needs_fewer_samples():
    few, many = (samples_per_group_at_variance(0.01, 0.001, v, 180) for v in (0.01, 0.25))
    assert few < samples_per_group(0.01, 0.001, 180) < many
    log = math.log(4 * 180 / 0.001)
    for m, holds in ((few, True), (few - 1, False)):
        assert (math.sqrt(2 * 0.01 * log / m) + 7 * log / (3 * (m - 1)) <= 0.01) is holds
    assert samples_per_group_at_variance(0.99, 0.5, 0.0) >= 2


def test_samples_hold_what_they_promise():
    rng = np.random.default_rng(0)
    m = samples_per_group(0.1, 0.1, 4)
    means = rng.binomial(m, (0.2, 0.5, 0.7, 0.9), size=(2000, 4)) / m
    assert (np.abs(means - (0.2, 0.5, 0.7, 0.9)) > 0.1).any(1).mean() <= 0.1


@pytest.mark.parametrize(("delta", "trials"), [(0.1, 29), (0.01, 299), (0.001, 2995)])
def test_trials_on_paper(delta, trials):
    assert trials_to_certify(delta) == trials
    assert failure_limit(0, trials) <= delta < failure_limit(0, trials - 1)


def test_failure_limits_on_paper():
    assert failure_limit(3, 200) == pytest.approx(0.0383097, abs=1e-7)
    assert failure_limit(0, 50, 0.9) == pytest.approx(1 - 0.1 ** (1 / 50))
    assert failure_limit(7, 7) == 1


@pytest.mark.parametrize(
    ("majority", "beta", "chance"),
    [(0.6, 0.1, 0.9829541), (0.6, 0.05, 0.9996994), (0.7, 0.1, 0.9997910), (0.7, 1, 0.7), (0.51, 1, 0.51)],
)
def test_amplification_on_paper(majority, beta, chance):
    assert amplified(majority, beta) == pytest.approx(chance, abs=1e-7)


def test_amplification_from_another_reference():
    assert amplified(0.6, 0.1, reference=0.3) == pytest.approx(0.9611101, abs=1e-7)
    assert amplified(0.6, 1e-6) == 1


@pytest.mark.parametrize(("majority", "beta"), [(0.51, 0.0087060), (0.6, 0.0882382), (0.7, 0.1843908)])
def test_the_beta_of_99_per_cent(majority, beta):
    assert beta_at(majority) == pytest.approx(beta, abs=1e-7)
    assert amplified(majority, beta_at(majority)) == pytest.approx(0.99)


def test_no_beta_turns_a_majority_round():
    with pytest.raises(UsageError, match="never takes"):
        beta_at(0.4)
    assert beta_at(0.7, target=0.5) == math.inf


def test_amplification_among_several():
    even = amplified_options((0.5, 0.3, 0.2), 1.0)
    assert even.policy == pytest.approx((0.5, 0.3, 0.2))
    assert even.total_variation == pytest.approx(0, abs=1e-12)
    sharp = amplified_options((0.5, 0.3, 0.2), 0.1)
    assert sharp.policy[0] > 0.99
    assert sharp.total_variation == pytest.approx(sharp.policy[0] - 0.5)
    two = amplified_options((0.6, 0.4), 0.1, reference=(0.3, 0.7))
    assert two.policy[0] == pytest.approx(amplified(0.6, 0.1, reference=0.3))


@pytest.mark.parametrize(("majority", "share"), [(0.525, 0.0476190), (0.6, 0.1666667), (0.9, 0.4444444)])
def test_poisoning_on_paper(majority, share):
    assert poisoning_threshold(majority) == pytest.approx(share, abs=1e-7)


@pytest.mark.parametrize(("share", "chance"), [(0, 0.9829541), (0.05, 0.9436680), (0.1, 0.8324967), (0.2, 0.3099342)])
def test_poisoned_policies_on_paper(share, chance):
    assert amplified(poisoned_majority(0.6, share), 0.1) == pytest.approx(chance, abs=1e-7)


@pytest.mark.parametrize("poison", ["replaced", "flipped"])
@pytest.mark.parametrize("majority", [0.525, 0.6, 0.9])
def test_the_majority_flips_at_the_threshold(poison, majority):
    at = poisoning_threshold(majority, poison)
    assert poisoned_majority(majority, at - 1e-6, poison) > 0.5 > poisoned_majority(majority, at + 1e-6, poison)


def test_noise_only_takes_the_margin():
    assert poisoning_threshold(0.6, "noise") == math.inf
    assert (poisoned_majority(0.6, np.linspace(0, 0.49, 20), "noise") > 0.5).all()
    assert poisoned_majority(0.6, 0.5, "noise") == pytest.approx(0.5)
    assert poisoning_threshold(0.4) == 0


def test_the_effective_dimension():
    rng = np.random.default_rng(0)
    assert effective_dimension(rng.normal(size=(20_000, 5))) == pytest.approx(5, abs=0.05)
    line = np.outer(np.arange(9.0), (1, 2, 3))
    assert effective_dimension(line) == pytest.approx(1)
    assert effective_dimension(np.arange(4.0)[:, None]) == pytest.approx(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: log2_operations(0, 0.1, 5, 10),
        lambda: log2_operations(0.1, 0.1, -1, 10),
        lambda: samples_per_group(0.1, 1.0),
        lambda: samples_per_group(0.1, 0.1, 0),
        lambda: samples_per_group_at_variance(0.1, 0.1, 0.3),
        lambda: trials_to_certify(0),
        lambda: failure_limit(5, 4),
        lambda: failure_limit(0, 4, 1.0),
        lambda: amplified(0.6, 0),
        lambda: amplified(1.0, 0.1),
        lambda: amplified_options((0.5, 0.5), 1, rewards=(1, 2, 3)),
        lambda: poisoned_majority(0.6, 1.2),
        lambda: poisoning_threshold(math.nan),
        lambda: effective_dimension([[1.0, 2.0]]),
        lambda: effective_dimension([[1.0], [1.0]]),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(UsageError):
        call()


def test_an_unknown_poison():
    assert set(POISONS) == {"replaced", "flipped", "noise"}
    with pytest.raises(UnknownNameError, match="did you mean 'flipped'"):
        poisoned_majority(0.6, 0.1, "fliped")
