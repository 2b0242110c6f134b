"""Adapters of every type: known counts and values, step 0, merging, overfitting, resuming, decoding, errors."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

pytest.importorskip("peft")

from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from worker import one_step

from fairlead import models
from fairlead.engines.base import Sampling
from fairlead.engines.local import Local
from fairlead.errors import ModelError, TrainingError, UnknownFieldError, UnknownNameError, UsageError
from fairlead.forward.layout import lay_out
from fairlead.forward.policy import Policy, _probe, pick_layout
from fairlead.rewards.model import ModelReward
from fairlead.steps.base import Context
from fairlead.steps.export import Export
from fairlead.training.adapters import KINDS, adapt, virtual_tokens
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.plan import plan
from fairlead.training.setup import gather, make_policy

MERGEABLE = [kind for kind, adapter in KINDS.items() if not adapter.virtual]
VIRTUAL = [kind for kind, adapter in KINDS.items() if adapter.virtual]
SMALL = {kind: {"type": kind, "num_virtual_tokens": 6} for kind in VIRTUAL}
RATES = {"ia3": 5e-2, "prefix": 5e-2, "prompt": 5e-2, "p_tuning": 3e-2}
"""Few or distant weights take large steps."""


def llama(tied=False, kind=LlamaForCausalLM, **changes):
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        **shape, num_key_value_heads=2, vocab_size=128, tie_word_embeddings=tied, max_position_embeddings=64, **changes
    )
    return kind(config).eval()


def adapted(spec, model=None, **options):
    torch.manual_seed(0)
    return adapt(model or llama(), spec, "somewhere", **options).eval()


def trainable(model) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(24).view(2, 12) * 5).logits


def disturb(model, size=0.1) -> None:
    """Move every weight of an adapter away from where it starts."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += size * torch.randn(parameter.shape, generator=generator)


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


# --- known answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ({"type": "lora", "r": 8, "target_modules": ["q_proj", "v_proj"]}, 3584),
        ({"type": "lora", "r": 8}, 17920),
        ({"type": "dora", "r": 8, "target_modules": ["q_proj", "v_proj"]}, 3776),
        ("ia3", 448),
        ({"type": "prefix", "num_virtual_tokens": 10}, 1280),
        ({"type": "prompt", "num_virtual_tokens": 10}, 640),
        ({"type": "p_tuning", "num_virtual_tokens": 10, "encoder_hidden_size": 32}, 5888),
    ],
)
def test_parameter_counts(spec, count):
    assert sum(p.numel() for p in llama().parameters()) == 102_720
    assert trainable(adapted(spec)) == count


def layer_with(spec, weight, a, b):
    """Return an adapted linear layer without bias whose matrices are the given ones."""
    import peft

    weight, a, b = (torch.tensor(x, dtype=torch.float32) for x in (weight, a, b))
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    fields = {**KINDS[spec].fixed, "r": len(a), "target_modules": ["0"]}
    model = peft.get_peft_model(nn.Sequential(layer), peft.LoraConfig(**fields, lora_alpha=2 * len(a)))
    inner = model.base_model.model[0]
    inner.lora_A["default"].weight.data, inner.lora_B["default"].weight.data = a, b
    return model


def test_lora_by_hand():
    model = layer_with("lora", [[0.0, 1, 2], [3, 4, 5]], [[0.5, 0, 0.5]], [[1.0], [-1.0]])
    output = model(torch.tensor([[1.0, 2.0, 3.0]]))
    torch.testing.assert_close(output, torch.tensor([[12.0, 22.0]]))


def test_dora_by_hand_with_one_norm_per_output_row():
    model = layer_with("dora", [[3.0, 0], [4, 2]], [[0.5, 0.5]], [[1.0], [0.0]])
    torch.testing.assert_close(
        model.base_model.model[0].lora_magnitude_vector["default"].weight.data, torch.tensor([3.0, 4.472136])
    )
    merged = model.merge_and_unload()[0].weight
    torch.testing.assert_close(merged, torch.tensor([[2.910428, 0.727607], [4.0, 2.0]]), atol=1e-6, rtol=1e-6)


def test_rslora_scales_by_the_root_of_the_rank():
    layers = {kind: adapted({"type": kind, "r": 16, "lora_alpha": 8}).base_model.model for kind in ("lora", "rslora")}
    scales = {kind: model.model.layers[0].self_attn.q_proj.scaling["default"] for kind, model in layers.items()}
    assert scales == {"lora": 8 / 16, "rslora": 8 / 4}


@pytest.mark.parametrize("kind", KINDS)
def test_step_zero(kind):
    difference = (logits(adapted(kind))[:, -12:] - logits(llama())).abs().max()
    assert difference == 0.0 if kind in MERGEABLE else difference > 1e-3


@pytest.mark.parametrize("kind", MERGEABLE)
def test_merged_equals_unmerged(kind):
    model, base = adapted(kind), logits(llama())
    disturb(model, 0.5 if kind == "ia3" else 0.1)
    unmerged = logits(model)
    merged = logits(model.merge_and_unload())
    assert (unmerged - base).abs().max() > 0.1
    assert (merged - base).abs().max() > 0.1
    assert (merged - unmerged).abs().max() < 1e-6


def test_ia3_targets_follow_the_architecture():
    fused = adapted("ia3", GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=128)))
    config = fused.peft_config["default"]
    assert (config.target_modules, config.feedforward_modules) == ({"c_attn", "mlp.c_proj"}, {"mlp.c_proj"})
    with pytest.raises(UsageError, match="no default targets"):
        adapt(nn.Linear(2, 2), "ia3", "somewhere")


# --- the forward ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VIRTUAL)
def test_virtual_tokens_reach_the_policy_with_gradient(kind):
    """The policy's log-probs, and their gradients, are those of peft's own forward."""
    model = adapted(SMALL[kind])
    policy = Policy(model, layout="padded")
    batch = lay_out(_probe(llama()), "padded")
    ours = policy(batch).logprobs.sum()
    own = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, -batch.input_ids.shape[1] :]
    own = own.flatten(0, 1)[batch.source].log_softmax(-1).gather(-1, batch.target[:, None]).sum()
    torch.testing.assert_close(ours, own)
    weights = [p for p in model.parameters() if p.requires_grad]
    for one, other in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(own, weights)):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_switched_off_the_model_is_its_base(kind):
    model = adapted(SMALL.get(kind, kind))
    disturb(model)
    policy, base = (Policy(m, layout="padded") for m in (model, llama()))
    batch = lay_out(_probe(llama()), "padded")
    with torch.no_grad():
        changed = policy(batch).logprobs
        with policy.without_adapter():
            off = policy(batch).logprobs
        assert torch.equal(off, base(batch).logprobs)
        assert torch.equal(policy(batch).logprobs, changed)
    assert (changed - off).abs().max() > 1e-3


def test_virtual_tokens_need_padding(tiny_model):
    assert pick_layout(adapted("prompt"))[0] == "padded"
    config = TrainConfig(model=tiny_model, data="harbor:demonstrations?n=4", adapter="prompt")
    policy, note = make_policy(gather(config), "cpu")
    assert policy.layout == "padded"
    assert "virtual tokens" in note
    with pytest.raises(UsageError, match="'shared', but virtual tokens"):
        make_policy(gather(replace(config, layout="shared")), "cpu")
    with pytest.raises(UsageError, match="gradient_checkpointing"):
        make_policy(gather(replace(config, adapter="prefix", gradient_checkpointing=True)), "cpu")
    with pytest.raises(UsageError, match="20 of which are virtual tokens"):
        gather(replace(config, max_length=250))


@pytest.mark.parametrize("kind", ["lora", "dora", "prompt", "prefix"])
def test_a_step_does_not_depend_on_how_it_is_split(kind, tiny_model, tmp_path):
    config = TrainConfig(
        model=tiny_model, data="harbor:preferences?n=8", objective="dpo", batch_size=8, adapter=SMALL.get(kind, kind)
    )
    together, apart = (one_step(replace(config, micro_tokens=size), tmp_path) for size in (4096, 1))
    assert together["loss"] == pytest.approx(apart["loss"], abs=1e-6)
    assert together["gradients"].keys() == apart["gradients"].keys()
    for name, gradient in together["gradients"].items():
        torch.testing.assert_close(gradient, apart["gradients"][name], atol=1e-6, rtol=1e-5, msg=name)


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sixteen() -> TrainConfig:
    return TrainConfig(
        model="harbor:base-300k", data="harbor:demonstrations?n=16", batch_size=16, schedule="constant", max_steps=40
    )


@pytest.mark.parametrize("kind", KINDS)
def test_overfits_sixteen_records_and_answers_from_its_folder(kind, sixteen, tmp_path):
    rate = RATES.get(kind, 2e-2)
    result = train(replace(sixteen, adapter=kind, learning_rate=rate), tmp_path / "run", quiet=True)
    assert losses(tmp_path / "run")[-1] < (0.01 if kind in MERGEABLE[:3] else 0.75 * losses(tmp_path / "run")[0])
    engine = Local(str(result.model), device="cpu")
    prompts = [[{"role": "user", "content": text}] for text in ("where is the ship ?", "hello , who is the captain")]
    for prompt, (answer,) in zip(prompts, engine.generate(prompts, Sampling(max_tokens=8, logprobs=True))):
        ids = engine.renderer.prompt(prompt)
        scored = engine.logprobs_ids([ids], [answer.token_ids])[0]
        row = torch.tensor([[*ids, *answer.token_ids]])
        with torch.inference_mode():
            own = engine.model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0].log_softmax(-1)
        own = own[-len(scored) - 1 : -1].gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        assert answer.logprobs == pytest.approx(own.numpy(), abs=1e-4)
        assert scored == pytest.approx(own.numpy(), abs=1e-4)


@pytest.mark.parametrize("kind", ["dora", "prefix"])
def test_resumes_to_the_same_bytes(kind, sixteen, tmp_path, monkeypatch):
    from fairlead.training.run import Run

    config = replace(sixteen, adapter=kind, batch_size=4, max_steps=12, save_every=100, learning_rate=1e-2)
    train(config, tmp_path / "whole", quiet=True)
    step = Run.step

    def interrupted(run):
        if run.progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "broken", quiet=True)
    train(config, tmp_path / "broken", quiet=True)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    weights = [(tmp_path / name / "model" / "adapter_model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_stored_and_live_reference_are_the_base_model(kind, tiny_model, tmp_path):
    found = {}
    for reference in ("stored", "live"):
        config = TrainConfig(
            model=tiny_model,
            data="harbor:preferences?n=16",
            objective="dpo",
            batch_size=4,
            learning_rate=1e-2,
            adapter=SMALL.get(kind, kind),
            reference=reference,
        )
        train(config, tmp_path / reference, quiet=True)
        found[reference] = losses(tmp_path / reference)
    assert found["stored"] == pytest.approx(found["live"], abs=1e-5)


@pytest.mark.parametrize("kind", ["dora", "ia3", "p_tuning"])
def test_a_reward_models_head_is_saved_with_its_adapter(kind, sixteen, tmp_path):
    config = replace(sixteen, data="harbor:preferences?n=16", objective="reward_model", learning_rate=2e-2)
    result = train(replace(config, adapter=kind), tmp_path / "run", quiet=True)
    assert result.metrics["accuracy"] == 1.0
    found = ModelReward(str(result.model))([[{"role": "user", "content": "where ?"}]] * 2, ["i do not know .", "bo ."])
    assert found.values[0] != found.values[1]
    with pytest.raises(ModelError, match="reward model"):
        models.load_model(str(result.model))


@pytest.mark.parametrize("kind", [*MERGEABLE, "prompt"])
def test_export(kind, tmp_path):
    model = adapt(models.load_model("harbor:base-300k"), kind, "harbor:base-300k")
    disturb(model)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    export = Export(model=str(tmp_path / "adapter"), dtype="float32")
    if kind in VIRTUAL:
        with pytest.raises(ModelError, match="cannot be merged"):
            export(Context(tmp_path, tmp_path))
        return
    assert export(Context(tmp_path, tmp_path)).metrics["merged_adapter"] == 1.0
    assert not (tmp_path / "model" / "adapter_config.json").exists()
    copy = models.load_model(str(tmp_path / "model"))
    assert (logits(copy) - logits(model.eval())).abs().max() < 1e-3
    assert (logits(copy) - logits(models.load_model("harbor:base-300k"))).abs().max() > 0.1


def test_a_merge_that_changes_the_logits_is_refused(tmp_path, monkeypatch):
    import peft

    model = adapt(models.load_model("harbor:base-300k"), "lora", "harbor:base-300k")
    disturb(model)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    monkeypatch.setattr(peft.PeftModelForCausalLM, "merge_and_unload", lambda self: self.unload(), raising=False)
    with pytest.raises(ModelError, match="merging the adapter changes logits"):
        Export(model=str(tmp_path / "adapter"))(Context(tmp_path, tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_counts_what_is_trained(kind):
    config = TrainConfig(model="harbor:base-300k", data="harbor:demonstrations?n=4", adapter=kind)
    assert plan(config).trainable == trainable(make_policy(gather(config), "cpu")[0])


# --- errors -----------------------------------------------------------------------------------------------------------


def test_unknown_types_and_fields_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'dora'"):
        adapted("doro")
    with pytest.raises(UnknownFieldError, match="did you mean 'lora_alpha'"):
        adapted({"type": "lora", "lora_alfa": 8})
    with pytest.raises(UnknownFieldError, match="adapter dora has no field 'use_dora'"):
        adapted({"type": "dora", "use_dora": False})
    with pytest.raises(UsageError, match="has no type"):
        adapted({"r": 8})
    with pytest.raises(UsageError, match=r"Target modules .* not found"):
        adapted({"type": "lora", "target_modules": ["c_attn"]})
    with pytest.raises(UnknownNameError, match="did you mean 'lora'"):
        TrainConfig(model="m", data="d", adapter="lore")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    ],
)
def test_an_adapter_on_the_head_is_refused(fields, tied):
    spec = {"type": "lora", **fields}
    if "embed_tokens" in str(fields) and not tied:
        Policy(adapted(spec, llama(tied)), layout="padded").check_head()
        return
    with pytest.raises(UsageError, match="output head") as error:
        adapted(spec, llama(tied))
    assert "leave the" in error.value.fix


def test_training_cannot_start_from_virtual_tokens(tiny_model, tmp_path):
    config = TrainConfig(model=tiny_model, data="harbor:demonstrations?n=4", adapter="prompt", max_steps=1)
    first = train(config, tmp_path / "run", quiet=True)
    with pytest.raises(TrainingError, match="cannot be merged"):
        train(replace(config, model=str(first.model), adapter=None), tmp_path / "again", quiet=True)


def test_score_heads_take_no_notice_of_the_output_head():
    model = adapted("lora", llama(kind=LlamaForSequenceClassification, num_labels=1), score_head=True)
    assert any("score" in name for name, p in model.named_parameters() if p.requires_grad)


def test_virtual_token_counts():
    assert [virtual_tokens(x) for x in (None, "lora", "prompt", SMALL["prefix"])] == [0, 0, 20, 6]
