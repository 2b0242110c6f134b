"""Directions from the states of pairs: the worked example with its trap, signs, layers, files."""

from __future__ import annotations

import math

import pytest
import torch

from fairlead.decoding.vectors import (
    SteeringVector,
    _principal,
    best_layers,
    mean_difference,
    principal_direction,
    separation,
    usual_layers,
    vector_from_states,
)
from fairlead.errors import DataError, UsageError

FIRST = torch.tensor([[1, 0.2, 0], [-1.2, -0.1, 0.1], [1.1, 0.3, 0]], dtype=torch.float64)
SECOND = torch.tensor([[-1, 0.1, 0], [0.9, 0, -0.1], [-0.8, -0.2, 0.2]], dtype=torch.float64)
POSITIVE_FIRST = [True, False, True]


def near(vector, wanted, atol=1e-5):
    torch.testing.assert_close(vector.double(), torch.tensor(wanted, dtype=torch.float64), atol=atol, rtol=0)


def test_principal_direction_of_mixed_orders_is_the_contrast():
    direction = principal_direction(FIRST, SECOND, POSITIVE_FIRST)
    near(direction, [0.992578, 0.097188, -0.073097])
    ahead = (FIRST - SECOND) @ direction
    assert [bool(a > 0) is first for a, first in zip(ahead, POSITIVE_FIRST)] == [True] * 3


def test_the_sign_points_to_the_positive_member():
    near(principal_direction(SECOND, FIRST, [not p for p in POSITIVE_FIRST]), [0.992578, 0.097188, -0.073097])
    near(principal_direction(FIRST, SECOND, [not p for p in POSITIVE_FIRST]), [-0.992578, -0.097188, 0.073097])


def test_pairs_in_one_order_lose_the_contrast_and_are_refused():
    """Centring takes the mean difference away, which is the contrast itself."""
    first, second = FIRST.clone(), SECOND.clone()
    first[1], second[1] = SECOND[1], FIRST[1]
    wrong = _principal(first, second, [True] * 3)
    near(wrong.abs(), [0.336135, 0.911044, 0.238773])
    for order in ([True] * 3, [False] * 3):
        with pytest.raises(UsageError, match="centring takes the contrast away"):
            principal_direction(first, second, order)


def test_the_known_difference_of_means_parts_its_texts():
    positive = torch.tensor([[1.0, 0.0], [2.0, 1.0], [1.5, -1.0]])
    negative = torch.tensor([[0.0, 0.0], [-1.0, 0.5], [1.2, 1.0]])
    direction = mean_difference(positive, negative)
    assert direction.tolist() == pytest.approx([1.433333, -0.5], abs=1e-6)
    assert (positive @ direction).min() > (negative @ direction).max()


def test_mean_difference():
    positive, negative = FIRST.clone(), SECOND.clone()
    positive[1], negative[1] = SECOND[1], FIRST[1]
    raw = mean_difference(positive, negative)
    near(raw, [2, 0.233333, -0.133333])
    near(raw / raw.norm(), [0.991093, 0.115627, -0.066073])


def states(count=40, layers=4, size=8, seed=0, apart=3.0):
    """Noise in every direction, and a contrast along the first one that grows with the layer."""
    noise = torch.Generator().manual_seed(seed)
    positive, negative = (torch.randn((count, layers, size), generator=noise) for _ in range(2))
    positive[..., 0] += apart * torch.arange(layers)
    return positive, negative


@pytest.mark.parametrize("method", ["mean_difference", "pca"])
def test_both_methods_find_a_planted_direction(method):
    positive, negative = states()
    found = vector_from_states(positive, negative, method=method, model="m")
    for layer in (2, 3):
        direction = found.directions[layer]
        assert direction.norm() == pytest.approx(1)
        assert direction.dtype == torch.float32
        assert direction[0] > 0.95
    assert found.separation[3] > 0.99
    assert found.separation[0] == pytest.approx(0.5, abs=0.25)
    lengths = torch.cat([positive, negative])[:, 3].norm(dim=-1)
    assert found.norms[3] == pytest.approx(float(lengths.median()))
    turned = vector_from_states(negative, positive, method=method)
    assert turned.directions[3][0] < -0.95


def test_separation_is_measured_on_the_other_half():
    """What a direction says of its own pairs is no evidence: on noise it separates nothing."""
    positive, negative = states(count=200, size=400, apart=0.0)
    assert separation(positive, negative) == pytest.approx(torch.full((4,), 0.5), abs=0.12)
    assert all(math.isnan(value) for value in separation(positive[:3], negative[:3]))


def test_no_contrast_is_an_error():
    same = torch.ones((4, 2, 3))
    with pytest.raises(DataError, match=r"do not differ in layers \[0, 1\]"):
        vector_from_states(same, same, method="mean_difference")
    with pytest.raises(DataError, match="1 pairs show no direction"):
        vector_from_states(same[:1], same[:1], method="mean_difference")


def test_which_layers():
    assert usual_layers(32) == tuple(range(9, 16))
    assert usual_layers(40) == tuple(range(12, 19))
    assert (usual_layers(4), usual_layers(2), usual_layers(1)) == ((1, 2), (0, 1), (0,))
    scores = dict.fromkeys(range(32), 0.5)
    scores |= {12: 0.9, 13: 0.95, 14: 0.9, 28: 1.0, 29: 1.0}
    assert best_layers(scores, 32) == (10, 11, 12, 13, 14)
    assert best_layers({0: 0.6, 1: 0.9, 2: 1.0}, 3) == (0, 1)
    with pytest.raises(UsageError, match="how well the layers separate is not known"):
        best_layers({0: math.nan, 1: math.nan}, 2)


def test_a_saved_vector_comes_back_whole(tmp_path):
    found = vector_from_states(*states(), method="pca", model="abc", origin={"at": -1, "system": None})
    found.save(tmp_path / "deep" / "v.safetensors")
    back = SteeringVector.load(tmp_path / "deep" / "v.safetensors")
    assert back.fingerprint == found.fingerprint
    assert (back.norms, back.separation, back.model, back.origin) == (
        found.norms, found.separation, found.model, found.origin,
    )  # fmt: skip
    assert all(torch.equal(back.directions[k], found.directions[k]) for k in found.directions)
    few = vector_from_states(*(s[:2] for s in states()), method="mean_difference")
    few.save(tmp_path / "few.safetensors")
    assert math.isnan(SteeringVector.load(tmp_path / "few.safetensors").separation[0])
    other = vector_from_states(*states(seed=1), method="pca", model="abc")
    assert other.fingerprint != found.fingerprint


def test_another_file_is_an_error(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(3)}, str(tmp_path / "other.safetensors"), metadata={"format": "pt"})
    (tmp_path / "text.safetensors").write_text("no tensors here", encoding="utf-8")
    for name in ("other", "text", "missing"):
        with pytest.raises(DataError, match=f"{name}.safetensors"):
            SteeringVector.load(tmp_path / f"{name}.safetensors")
