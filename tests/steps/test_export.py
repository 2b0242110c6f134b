"""The export step: the copy is the original, or the difference is told."""

from __future__ import annotations

import pytest
import torch

from fairlead import models
from fairlead.errors import ModelError, UsageError
from fairlead.steps.base import Context
from fairlead.steps.export import Export

MODEL = "harbor:base-300k"


def test_float32_copy_is_exact(tmp_path):
    outcome = Export(model=MODEL, dtype="float32")(Context(tmp_path, tmp_path))
    assert outcome.metrics == {"largest_logit_difference": 0.0, "top1_agreement": 1.0, "merged_adapter": 0.0}
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        ours = models.load_model(str(tmp_path / "model"))(ids).logits
        assert torch.equal(ours, models.load_model(MODEL)(ids).logits)
    assert models.load_tokenizer(str(tmp_path / "model")).chat_template == models.load_tokenizer(MODEL).chat_template


def test_a_smaller_format_says_what_it_costs(tmp_path):
    from transformers import AutoModelForCausalLM

    outcome = Export(model=MODEL, dtype="float16")(Context(tmp_path, tmp_path))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert saved.dtype is torch.float16
    assert outcome.metrics["top1_agreement"] > 0.98


def test_an_adapter_is_merged(tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base = models.load_model(MODEL)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.peft_config["default"].base_model_name_or_path = models.resolve(MODEL)
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        expected = adapted.eval()(ids).logits
    step = Export(model=str(tmp_path / "adapter"), dtype="float32")
    outcome = step(Context(tmp_path, tmp_path))
    assert outcome.metrics["merged_adapter"] == 1.0
    assert not (tmp_path / "model" / "adapter_config.json").exists()
    with torch.inference_mode():
        merged = models.load_model(str(tmp_path / "model"))(ids).logits
        plain = models.load_model(MODEL)(ids).logits
    assert (merged - expected).abs().max() < 1e-4
    assert (plain - expected).abs().max() > 1e-2


@pytest.mark.parametrize(("weights", "share"), [((), 0.5), ((3.0, 1.0), 0.75), ((1.0, 0.0), 1.0)])
def test_the_mean_of_two_models(weights, share, tmp_path):
    other = "harbor:aligned-300k"
    step = Export(model=MODEL, dtype="float32", average=(other,), weights=weights)
    assert [use.value for use in step.uses()] == [MODEL, other]
    outcome = step(Context(tmp_path, tmp_path))
    assert outcome.metrics["averaged"] == 2
    made, first, second = (
        dict(models.load_model(m).named_parameters()) for m in (str(tmp_path / "model"), MODEL, other)
    )
    for name, value in made.items():
        expected = share * first[name].float() + (1 - share) * second[name].float()
        torch.testing.assert_close(value.float(), expected, atol=1e-6, rtol=1e-5)


def test_only_models_of_one_shape_are_averaged(tmp_path):
    with pytest.raises(ModelError, match="do not match"):
        Export(model=MODEL, average=("harbor:base-1m",))(Context(tmp_path, tmp_path))
    for weights in ((1.0,), (1.0, -1.0), (0.0, 0.0)):
        with pytest.raises(UsageError, match="weights"):
            Export(model=MODEL, average=("harbor:aligned-300k",), weights=weights)


def test_a_missing_model_is_an_error(tmp_path):
    with pytest.raises(ModelError):
        Export(model=str(tmp_path / "none"))(Context(tmp_path, tmp_path))
