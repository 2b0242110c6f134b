"""log(1 - exp(x)) and the log-odds: exact at both ends, with finite gradients."""

from __future__ import annotations

import math

import pytest
import torch

from fairlead.training.objectives.log_odds import log1mexp, log_odds

POINTS = [-1e-8, -1e-4, -0.1, -0.6931, -0.6932, -1.0, -20.0, -80.0]


@pytest.mark.parametrize("x", POINTS)
def test_log1mexp_is_exact_in_float32(x):
    exact = math.log(-math.expm1(x)) if x > -1 else math.log1p(-math.exp(x))
    assert float(log1mexp(torch.tensor(x))) == pytest.approx(exact, rel=1e-6, abs=1e-37)


def test_gradients_are_finite_on_both_branches():
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    log1mexp(x).sum().backward()
    torch.testing.assert_close(x.grad, 1 / torch.expm1(-x.detach()) * -1)


def test_the_clamp_ends_the_gradient():
    x = torch.tensor([0.0, -1e-9, -1.0], requires_grad=True)
    values = log1mexp(x, clamp=1e-7)
    assert float(values[0].detach()) == pytest.approx(math.log(1e-7), abs=1e-4)
    values.sum().backward()
    assert (x.grad[:2] == 0).all()
    assert x.grad[2] != 0
    assert float(log1mexp(torch.tensor(0.0))) == -math.inf


def test_log_odds_of_known_probabilities():
    p = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(log_odds(p.log()), torch.log(p / (1 - p)))
    given = log_odds(torch.tensor([-0.5, -1.5]))
    torch.testing.assert_close(given, torch.tensor([0.43275213, -1.24751754]))
