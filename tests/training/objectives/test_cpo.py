"""CPO: exact values against its two terms, and against DPO with a uniform reference."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from known_scores import mean, scores

import fairlead
from fairlead.errors import UsageError


def test_cpo():
    """Summed log-probs: -3.0 and -1.0 chosen, -4.5 and -2.0 rejected."""
    preference = (math.log1p(math.exp(-0.15)) + math.log1p(math.exp(-0.1))) / 2
    loss = fairlead.objective("cpo", beta=0.1)(scores())
    assert mean(loss) == pytest.approx(preference + (1.0 + 0.5) / 2, abs=1e-6)
    assert float(loss.count) == 2
    summed = fairlead.objective("cpo", beta=0.1, sft_weight=0.5, sft_reduction="sum")(scores())
    assert mean(summed) == pytest.approx(preference + 0.5 * (3.0 + 1.0) / 2, abs=1e-6)
    found = {name: float(total / count) for name, (total, count) in loss.metrics.items()}
    assert found["margin"] == pytest.approx(0.125)
    assert found["accuracy"] == 1.0
    assert found["logprob_chosen"] == pytest.approx(-2.0)
    assert found["mean_logprob_rejected"] == pytest.approx((-2.25 - 0.5) / 2)


def test_without_sft_it_is_dpo_with_a_uniform_reference():
    flat = scores(reference=[-2.0] * 4)
    flat.policy = scores().policy
    dpo = fairlead.objective("dpo", beta=0.3)(flat)
    cpo = fairlead.objective("cpo", beta=0.3, sft_weight=0.0)(dataclasses.replace(flat, reference=None))
    torch.testing.assert_close(cpo.sum, dpo.sum)


@pytest.mark.parametrize(("fields", "word"), [({"beta": 0}, "beta"), ({"sft_weight": -1}, "sft_weight")])
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective("cpo", **fields)
