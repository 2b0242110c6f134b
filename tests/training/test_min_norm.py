"""Minimum-norm combinations: known answers, optimality, and what must not matter."""

from __future__ import annotations

import pytest
import torch

from fairlead.errors import UsageError
from fairlead.training.min_norm import (
    convex_weights,
    least_norm_weights,
    mgda,
    projection_of_zero,
    soft_minimum,
)


def column(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "least", "weights"),
    [
        ((-1, 2), 0, (2 / 3, 1 / 3)),
        ((0.5, 2, 1.2), 0.5, (1, 0, 0)),
        ((-3, -1), -1, (0, 1)),
        ((-2, 1, 4), 0, (2 / 3, 0, 1 / 3)),
        ((0, 0, 0), 0, (1 / 3, 1 / 3, 1 / 3)),
        ((0, 3), 0, (1, 0)),
        ((2, 2), 2, (1, 0)),
        ((-2, -2), -2, (0, 1)),
        ((float("nan"), 0.7, 2), 0.7, (0, 1, 0)),
        ((float("nan"), float("nan")), 0, (0.5, 0.5)),
    ],
)
def test_the_closed_form(values, least, weights):
    given = column(*values)
    assert float(projection_of_zero(given)) == pytest.approx(least)
    found = convex_weights(given)
    assert float(found.sum()) == pytest.approx(1)
    assert float((found * given.nan_to_num(0.0)).sum()) == pytest.approx(least)
    if values not in ((2, 2), (-2, -2)):
        torch.testing.assert_close(found, column(*weights))


def test_the_closed_form_in_many_places_at_once():
    values = torch.randn(4, 30, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = convex_weights(values)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(30, 7, dtype=torch.float64))
    torch.testing.assert_close((weights * values).sum(0), projection_of_zero(values))


def test_more_objectives_alike_or_in_another_order_change_nothing():
    values = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    least = projection_of_zero(values)
    assert torch.equal(projection_of_zero(values[[2, 0, 1]]), least)
    assert torch.equal(projection_of_zero(values[[0, 1, 2, 1]]), least)


def test_the_soft_minimum_lies_between_the_minimum_and_the_mean():
    values = torch.rand(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(soft_minimum(values, 1e-4), values.amin(0), atol=2e-4, rtol=0)
    torch.testing.assert_close(soft_minimum(values, 1e4), values.mean(0), atol=1e-4, rtol=0)
    between = soft_minimum(values, 0.3)
    assert ((values.amin(0) <= between) & (between <= values.mean(0))).all()
    half_known = torch.stack([values[0], torch.full_like(values[0], torch.nan)])
    torch.testing.assert_close(soft_minimum(half_known, 0.3), values[0])
    assert float(soft_minimum(column(float("nan"), float("nan")), 0.3)) == 0


def test_mgda_of_two():
    weights, direction = mgda(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    torch.testing.assert_close(weights, column(0.8, 0.2))
    torch.testing.assert_close(direction, column(0.8, 0.4))
    pair = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 1.0, 1.0]])
    weights, direction = mgda(pair)
    assert float(weights[0]) == pytest.approx(1 / 3)
    torch.testing.assert_close(direction, column(-1 / 3, 4 / 3, 2 / 3))
    assert float(direction.norm()) == pytest.approx(1.5275252)
    torch.testing.assert_close(pair.double() @ direction, column(2.3333333, 2.3333333))
    against = torch.tensor([[1.0, -2.0], [-1.0, 2.0]])
    weights, direction = mgda(against)
    torch.testing.assert_close(weights, column(0.5, 0.5))
    assert float(direction.norm()) == 0
    torch.testing.assert_close(mgda(torch.ones(2, 3))[0], column(0.5, 0.5))


def test_mgda_of_three():
    gradients = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 1.0, 1.0], [0.5, -0.5, 2.0]])
    weights, direction = mgda(gradients)
    torch.testing.assert_close(weights, column(0.305344, 0.358779, 0.335878), atol=1e-6, rtol=0)
    assert float(direction.norm()) == pytest.approx(1.3105561)
    torch.testing.assert_close(gradients.double() @ direction, torch.full((3,), 1.7175573, dtype=torch.float64))


@pytest.mark.parametrize("number", [1, 2, 3, 6, 10, 25])
def test_weights_are_optimal(number):
    """At the optimum no vector has a smaller inner product with the combination than the combination itself."""
    for seed in range(20):
        vectors = torch.randn(number, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        vectors = vectors + 0.5 * (seed % 3)
        products = vectors @ vectors.T
        weights = least_norm_weights(products)
        assert (weights >= 0).all()
        assert float(weights.sum()) == pytest.approx(1)
        combined = products @ weights
        assert float(weights @ combined - combined.min()) <= 1e-9 * float(products.abs().max())
        if number <= 4:  # more vectors than dimensions have one shortest combination, but many weights for it
            torch.testing.assert_close(least_norm_weights(products * 1e-9), weights, atol=1e-6, rtol=0)


def test_two_vectors_have_the_weights_of_the_closed_form():
    for seed in range(10):
        vectors = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(least_norm_weights(vectors @ vectors.T), mgda(vectors)[0], atol=1e-9, rtol=0)


def test_products_that_are_nothing_or_no_table():
    torch.testing.assert_close(least_norm_weights(torch.zeros(4, 4)), torch.full((4,), 0.25, dtype=torch.float64))
    for wrong in (torch.zeros(2, 3), torch.tensor([[float("nan")]])):
        with pytest.raises(UsageError):
            least_norm_weights(wrong)
