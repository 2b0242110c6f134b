"""What the decoding benchmark rests on: grown models answer as the small ones, and its naive nudging is nudging."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import fairlead
from fairlead import models
from fairlead.engines import Sampling

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "decoding.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("decoding_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILE.parent)  # as for a script
        spec.loader.exec_module(module)
    return module


def test_a_grown_model_says_what_the_small_one_says(bench):
    small = models.load_model("harbor:base-3m")
    large = bench.grown(small, "S")
    assert sum(weight.numel() for weight in large.parameters()) > 9e6
    ids = torch.randint(8, 300, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, wanted = large(ids).logits, small(ids).logits
    torch.testing.assert_close(found[..., :512], wanted, atol=0.05, rtol=0.01)
    assert found[..., 512:].max() < wanted.min()


def test_a_small_model_must_fit(bench):
    with pytest.raises(ValueError, match="do not fit"):
        bench.grown(models.load_model("harbor:base-1m"), "S")


def test_naive_nudging_gives_the_same_answers(bench):
    decoder = fairlead.decoder(
        "nudging", base="harbor:base-300k", nudger="harbor:aligned-300k", gamma=0.4, draft_tokens=3
    )
    prompts = bench.questions(4)
    answers = decoder.generate(prompts, Sampling(max_tokens=32, temperature=0))
    assert bench.plain_nudging(decoder, prompts, 32) == [answer.text for (answer,) in answers]


def test_forwards_are_counted_whoever_does_them(bench):
    local = fairlead.engine("harbor:base-300k")
    local.generate(["hello"], Sampling(max_tokens=1))  # the first time the model is checked
    with bench.counting(local.model) as count:
        local.generate([bench.questions(1)[0]], Sampling(max_tokens=5, temperature=0, ignore_eos=True))
    assert count == [5]
    with bench.counting(local.model) as count:
        bench.plain(local.model, torch.tensor([[9, 10, 11]]), 3)
    assert count == [3]
