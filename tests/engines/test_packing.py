"""Packed weights: the same products, made again when the weights change, and gone when nobody decodes."""

from __future__ import annotations

import pytest
import torch
from tiny_models import build, build_tokenizer
from torch import nn

from fairlead.engines import Local, Sampling
from fairlead.engines.packing import Packing

WIDE = {"hidden_size": 256, "intermediate_size": 1024}
"""Large enough that weights of both formats are packed."""


def layers(dtype):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(512, 640), nn.GELU(), nn.Linear(640, 512, bias=False), nn.Linear(512, 3)).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("rows", [1, 3, 70])
@torch.inference_mode()
def test_products_are_those_of_the_plain_weights(dtype, tolerance, rows):
    model, given = layers(dtype), torch.randn(rows, 2, 512).to(dtype)
    wanted = model(given)
    packing = Packing(model, most=1 << 30)
    with packing.used():
        assert [("forward" in layer.__dict__) for layer in model] == [True, False, True, False]
        assert (model(given) - wanted).abs().max() <= tolerance
    assert torch.equal(model(given), wanted)


def test_changed_weights_are_packed_again():
    model, given = layers(torch.float32), torch.randn(2, 512)
    packing = Packing(model, most=1 << 30)
    changes = [
        lambda weight: None,
        lambda weight: weight.mul_(2),
        lambda weight: setattr(weight, "data", weight.data + 1),
        lambda weight: weight.data.copy_(torch.randn_like(weight)),  # not counted as a write by torch
    ]
    for change in changes:
        with torch.no_grad():
            change(model[0].weight)
            wanted = model(given)
        with packing.used(), torch.inference_mode():
            torch.testing.assert_close(model(given), wanted, atol=1e-3, rtol=1e-4)


def test_gradients_come_from_the_plain_weights():
    model, given = layers(torch.float32), torch.randn(2, 512)
    with Packing(model, most=1 << 30).used():
        model(given).sum().backward()
    assert model[0].weight.grad is not None


def test_too_many_bytes_are_not_packed():
    model = layers(torch.float32)
    with Packing(model, most=4 * (512 * 640) * 2 - 1).used():
        assert not any("forward" in layer.__dict__ for layer in model)


def test_a_loan_within_a_loan():
    model = layers(torch.float32)
    packing = Packing(model, most=1 << 30)
    with packing.used():
        with packing.used():
            pass
        assert "forward" in model[0].__dict__
    assert "forward" not in model[0].__dict__


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_answers_are_the_same_and_a_live_models_weights_are_read_at_every_call(family):
    tokenizer = build_tokenizer()
    net = build(family, len(tokenizer), **WIDE, num_hidden_layers=2, initializer_range=0.1)
    packed, plain = Local(net, tokenizer), Local(net, tokenizer, packed_bytes=0)
    sampling = Sampling(max_tokens=12, temperature=0)
    prompts = ["the ship leaves", "count: one two"]
    first = [packed.generate(prompts, sampling), plain.generate(prompts, sampling)]
    assert first[0] == first[1]
    with torch.no_grad():
        for weight in net.parameters():
            weight.data.copy_(0.2 * torch.randn(weight.shape))
    second = [packed.generate(prompts, sampling), plain.generate(prompts, sampling)]
    assert second[0] == second[1]
    assert [a[0].text for a in first[0]] != [a[0].text for a in second[0]]
    assert not any("forward" in module.__dict__ for module in net.modules())
