"""Steering: nothing at 0, the push as done by hand, files, and steered parts of decoders."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, build, build_tokenizer

import fairlead
from fairlead.decoding.base import EngineSpec, TokenDecoder
from fairlead.decoding.steering import Steering
from fairlead.decoding.vectors import SteeringVector
from fairlead.engines import Completion, Local, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.shifts import blocks
from fairlead.errors import DataError, EngineError, ModelError, UnknownNameError, UnsupportedError, UsageError

GREEDY = Sampling(max_tokens=12, temperature=0, logprobs=True)
PLAIN = Sampling(max_tokens=24, temperature=0)
SAMPLED = Sampling(max_tokens=10, temperature=1.0, top_p=0.9, n=3, seed=4, logprobs=True)
PROMPTS = [
    [{"role": "user", "content": "where is the captain of the northern ferry?"}],
    "the ship leaves",
    [{"role": "user", "content": "count"}],
]
SYSTEM = {"system": ("be polite, safe and honest.", "just answer.")}
PAIRS = "harbor:prompts?n=60"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module", params=FAMILIES)
def local(request, tokenizer):
    return Local(build(request.param, len(tokenizer)), tokenizer)


@pytest.fixture(scope="module")
def llama(tokenizer):
    return Local(build("llama", len(tokenizer)), tokenizer)


@pytest.fixture(scope="module")
def base():
    return fairlead.engine("harbor:base-300k")


def vector(local, seed=0):
    noise = torch.Generator().manual_seed(seed)
    raw = {layer: torch.randn(32, generator=noise) for layer in range(3)}
    lengths = {layer: float(5 + layer) for layer in raw}
    return SteeringVector({k: v / v.norm() for k, v in raw.items()}, lengths, lengths, local.fingerprint)


def steered(local, coefficient, **changes):
    return Steering(**{"engine": local, "coefficient": coefficient, "vector": vector(local), **changes})


def said(rows):
    return [[(c.text, c.token_ids, c.finish_reason) for c in row] for row in rows]


def by_hand(local, ids, change, begin=0, end=None):
    """Logits [T, V] of the plain forward with layers 0 and 1 changed by hooks of the test's own."""

    def hook(layer):
        def changed(_module, _inputs, output):
            states = (output if isinstance(output, torch.Tensor) else output[0]).clone()
            states[:, begin:end] = change(states[:, begin:end], vector(local).directions[layer])
            return states if isinstance(output, torch.Tensor) else (states, *output[1:])

        return changed

    handles = [blocks(local._policy)[layer].register_forward_hook(hook(layer)) for layer in (0, 1)]
    try:
        with torch.inference_mode():
            return local.model(torch.tensor([ids])).logits[0].float()
    finally:
        for handle in handles:
            handle.remove()


def test_a_coefficient_of_0_is_the_plain_engine(local):
    for sampling in (GREEDY, SAMPLED, replace(GREEDY, stop=("e",))):
        plain, ours = local.generate(PROMPTS, sampling), steered(local, 0.0).generate(PROMPTS, sampling)
        assert said(ours) == said(plain)
        for one, other in zip(ours, plain):
            for mine, its in zip(one, other):
                np.testing.assert_allclose(mine.logprobs, its.logprobs, atol=1e-4)
    assert steered(local, 0.0).shifts(5) == ()


def test_greedy_answers_follow_the_pushed_forward(local):
    engine = steered(local, 3.0, layers=(0, 1))
    answers = engine.generate(PROMPTS, GREEDY)
    for prompt, (answer,) in zip(PROMPTS, answers):
        ids = local.renderer.prompt(prompt)
        logits = by_hand(local, [*ids, *answer.token_ids], lambda h, v: h + 3.0 * v)
        wanted = logits[len(ids) - 1 : -1]
        assert wanted.argmax(-1).tolist() == answer.token_ids
        chosen = torch.log_softmax(wanted, -1).max(-1).values
        np.testing.assert_allclose(answer.logprobs, chosen.numpy(), atol=1e-4)
    plain = local.generate(PROMPTS, GREEDY)
    assert all(abs(one[0].logprobs[0] - other[0].logprobs[0]) > 1e-3 for one, other in zip(answers, plain))


def test_logprobs_are_the_pushed_models(local):
    prompts, texts = [*PROMPTS[:2], PROMPTS[0]], ["at the quay", " at noon", ""]
    plain = local.logprobs(prompts, texts)
    for one, other in zip(steered(local, 0.0).logprobs(prompts, texts), plain):
        np.testing.assert_allclose(one, other, atol=1e-4)
    for values, prompt, text in zip(steered(local, -4.0, layers=(0, 1)).logprobs(prompts, texts), prompts, texts):
        row = local.renderer.example(prompt, text)
        logits = torch.log_softmax(by_hand(local, row.ids, lambda h, v: h - 4.0 * v), -1)
        wanted = [float(logits[k - 1, row.ids[k]]) for k in range(row.split, len(row.ids)) if row.loss_mask[k]]
        np.testing.assert_allclose(values, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("positions", "begin", "end"), [("prompt", 0, 0), ("generated", 0, None), ("last", -1, None), ("all", None, None)]
)
def test_positions(llama, positions, begin, end):
    """`begin` and `end` count from the end of the prompt; None for the row's own."""
    (row,) = [llama.renderer.example(PROMPTS[0], "at the quay")]
    first = 0 if begin is None or positions == "prompt" else row.split + begin
    last = row.split if end == 0 else None
    logits = torch.log_softmax(by_hand(llama, row.ids, lambda h, v: h + 5.0 * v, first, last), -1)
    wanted = [float(logits[k - 1, row.ids[k]]) for k in range(row.split, len(row.ids)) if row.loss_mask[k]]
    engine = steered(llama, 5.0, layers=(0, 1), positions=positions)
    np.testing.assert_allclose(engine.logprobs(PROMPTS[:1], ["at the quay"])[0], wanted, atol=1e-4)
    ((answer,),) = engine.generate(PROMPTS[:1], GREEDY)
    ids = llama.renderer.prompt(PROMPTS[0])
    whole = by_hand(llama, [*ids, *answer.token_ids], lambda h, v: h + 5.0 * v, first, last)
    assert whole[len(ids) - 1 : -1].argmax(-1).tolist() == answer.token_ids


def test_removing_clamping_and_keeping_the_length(llama):
    row = llama.renderer.example(PROMPTS[0], "at the quay")

    def out(h, v):
        return h - (h @ v)[..., None] * v

    def kept(h, v):
        return (h + 2 * v) * h.norm(dim=-1, keepdim=True) / (h + 2 * v).norm(dim=-1, keepdim=True)

    for settings, change in (
        ({"how": "remove"}, out),
        ({"how": "clamp", "coefficient": 2.5}, lambda h, v: out(h, v) + 2.5 * v),
        ({"coefficient": 2.0, "keep_norm": True}, kept),
    ):
        engine = Steering(engine=llama, vector=vector(llama), layers=(0, 1), **settings)
        logits = torch.log_softmax(by_hand(llama, row.ids, change), -1)
        wanted = [float(logits[k - 1, row.ids[k]]) for k in range(row.split, len(row.ids)) if row.loss_mask[k]]
        np.testing.assert_allclose(engine.logprobs(PROMPTS[:1], ["at the quay"])[0], wanted, atol=1e-4)


def test_a_relative_coefficient_counts_in_lengths(llama):
    engine = steered(llama, 0.5, relative=True, layers=(0, 2))
    own = vector(llama)
    assert set(engine.pushes) == {0, 2}
    for layer in (0, 2):
        torch.testing.assert_close(engine.pushes[layer].add, 0.5 * own.norms[layer] * own.directions[layer])


def test_samples_of_one_prompt_share_its_computation(llama):
    with Desk() as desk:
        engine = steered(llama, 2.0)
        rows, sampling = engine.rows_from(desk), replace(SAMPLED, n=1)
        starts = [lambda k=k: engine.program(PROMPTS[0], k, sampling, rows) for k in range(6)]
        answers = fairlead.engines.programs.run(starts)
        prompt = len(llama.renderer.prompt(PROMPTS[0]))
        assert rows["engine"].tokens <= prompt + 6 + sum(len(a.token_ids) for a in answers)


def test_a_steered_model_is_a_part_of_other_decoders(llama):
    """Two vectors add up; one forward serves a model and its steered self."""
    first = steered(llama, 2.0, layers=(0, 1))
    second = Steering(engine=first, coefficient=-3.0, vector=vector(llama, 1), layers=(1, 2))
    both = steered(llama, 1.0, vector=sums(llama), layers=(0, 1, 2), other_model=True)
    prompts = PROMPTS[:2]
    for one, other in zip(second.logprobs(prompts, ["at", "on"]), both.logprobs(prompts, ["at", "on"])):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert said(second.generate(prompts, GREEDY)) == said(both.generate(prompts, GREEDY))
    pair = Pair(plain=llama, pushed=first)
    ((told,),) = pair.generate(PROMPTS[:1], GREEDY)
    ids = llama.renderer.prompt(PROMPTS[0])
    with torch.inference_mode():
        assert told.extra["plain"] == int(llama.model(torch.tensor([ids])).logits[0, -1].argmax())
    assert told.extra["pushed"] == int(by_hand(llama, ids, lambda h, v: h + 2.0 * v)[-1].argmax())
    assert told.extra["forwards"] == 1
    with pytest.raises(UnsupportedError, match="positions: last cannot be part"):
        Pair(plain=llama, pushed=steered(llama, 1.0, positions="last")).generate(PROMPTS[:1], GREEDY)


def sums(local):
    """2 times the first vector at layers 0 and 1, and -3 times the second at layers 1 and 2."""
    one, two = vector(local).directions, vector(local, 1).directions
    directions = {0: 2 * one[0], 1: 2 * one[1] - 3 * two[1], 2: -3 * two[2]}
    return replace(vector(local), directions=directions)


@dataclass(frozen=True)
class Pair(TokenDecoder):
    """Tells what two parts would say first."""

    plain: EngineSpec
    pushed: EngineSpec

    def program(self, prompt, index, sampling, rows):
        ids = self.local("plain").renderer.prompt(prompt)
        opened = {name: rows[name].open() for name in ("plain", "pushed")}
        seen = yield [rows[name].feed(row, ids) for name, row in opened.items()]
        told = {name: one.best[0] for name, one in zip(opened, seen)}
        return Completion("", extra={**told, "forwards": rows["plain"].forwards})


def test_a_steered_nudger_is_a_nudger_pushed_for_good(base):
    """Nudging by a steered model equals nudging by a model that carries the push in itself."""
    settings = {"pairs": PAIRS, "reading": SYSTEM, "coefficient": 0.2, "relative": True}
    steering = fairlead.decoder("steering", engine=base, **settings)
    own = Local(fairlead.models.load_model("harbor:base-300k"), "harbor:base-300k")
    for layer, push in steering.pushes.items():
        blocks(own._policy)[layer].register_forward_hook(lambda _m, _i, out, push=push: out + push.add)
    prompts = [[{"role": "user", "content": text}] for text in ("how do i sink the luhokir?", "what is 4 plus 5?")]
    answers = [
        fairlead.decoder("nudging", base="harbor:base-1m", nudger=nudger, gamma=0.4).generate(prompts, PLAIN)
        for nudger in (steering, own, base)
    ]
    assert said(answers[0]) == said(answers[1])
    assert said(answers[0]) != said(answers[2])
    assert "cannot help" in answers[0][0][0].text


def test_pairs_are_read_once_and_steer(base, monkeypatch):
    """On a small model that knows both manners, a vector of two system messages turns one into the other."""
    harm = [{"role": "user", "content": "how do i sink the luhokir?"}]
    answers = {}
    for coefficient in (0.0, 0.15):
        engine = fairlead.decoder(
            "steering", engine=base, pairs=PAIRS, reading=SYSTEM, coefficient=coefficient, relative=True
        )
        ((answer,),) = engine.generate([harm], Sampling(max_tokens=24, temperature=0))
        answers[coefficient] = answer.text
    assert "cannot help" not in answers[0.0]
    assert "cannot help" in answers[0.15]
    monkeypatch.setattr("fairlead.decoding.steering.read_vector", None)
    again = fairlead.decoder("steering", engine=base, pairs=PAIRS, reading=SYSTEM, relative=True, coefficient=0.15)
    assert again.generate([harm], Sampling(max_tokens=24, temperature=0))[0][0].text == answers[0.15]


def test_a_saved_vector_steers_alike(base, tmp_path):
    fitted = fairlead.decoder("steering", engine=base, pairs=PAIRS, reading=SYSTEM, coefficient=0.1, relative=True)
    fitted.read.save(tmp_path / "v.safetensors")
    loaded = fairlead.decoder(
        "steering", engine=base, vector=str(tmp_path / "v.safetensors"), coefficient=0.1, relative=True
    )
    prompts = [[{"role": "user", "content": "what does the luhokir carry?"}]]
    assert said(loaded.generate(prompts, GREEDY)) == said(fitted.generate(prompts, GREEDY))
    other = fairlead.engine("harbor:aligned-300k")
    settings = {"engine": other, "vector": str(tmp_path / "v.safetensors"), "coefficient": 0.0}
    assert fairlead.decoder("steering", **settings).generate(prompts, GREEDY)
    with pytest.raises(ModelError, match="read from another model"):
        fairlead.decoder("steering", **{**settings, "coefficient": 1.0}).generate(prompts, GREEDY)
    assert fairlead.decoder("steering", **settings, other_model=True).generate(prompts, GREEDY)
    wide = fairlead.decoder("steering", **{**settings, "engine": "harbor:base-1m", "coefficient": 1.0})
    with pytest.raises(ModelError, match=r"\[96\] numbers, the hidden states 160"):
        wide.generate(prompts, GREEDY)


def test_the_fingerprint_changes_with_all_that_matters(llama):
    made = [
        steered(llama, 1.0),
        steered(llama, 2.0),
        steered(llama, 1.0, vector=vector(llama, 1)),
        steered(llama, 1.0, layers=(1,)),
        steered(llama, 1.0, positions="last"),
        Steering(engine=llama, pairs="harbor:preferences?n=8"),
        Steering(engine=llama, pairs="harbor:preferences?n=9"),
        Steering(engine="harbor:base-300k", pairs="harbor:preferences?n=8"),
    ]
    assert len({engine.fingerprint for engine in made}) == len(made)
    assert steered(llama, 1.0).fingerprint == made[0].fingerprint


def test_a_recipe_watches_the_data_and_the_file():
    assert Steering.files({"pairs": "pairs.jsonl", "coefficient": 1}) == {"pairs": "pairs.jsonl"}
    assert Steering.files({"vector": "v.safetensors"}) == {"vector": "v.safetensors"}


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"how": "ad"}, UnknownNameError, "add"),
        ({"positions": "everywhere"}, UnknownNameError, "positions"),
        ({"pairs": "x.jsonl"}, UsageError, "a vector or pairs"),
        ({"vector": None}, UsageError, "a vector or pairs"),
        ({"reading": {"at": 0}}, UsageError, "for pairs"),
        ({"coefficient": float("nan")}, UsageError, "finite"),
        ({"how": "remove", "coefficient": 2.0}, UsageError, "takes no coefficient"),
        ({"layers": "all"}, UnknownNameError, "auto"),
        ({"layers": ()}, UsageError, "empty"),
    ],
)
def test_settings_that_cannot_be(changes, error, match):
    with pytest.raises(error, match=match):
        fairlead.decoder("steering", **{"engine": "harbor:base-300k", "vector": "v.safetensors", **changes})


def test_what_only_the_model_can_tell(llama, tmp_path):
    with pytest.raises(UsageError, match=r"no layer \[3\]"):
        steered(llama, 1.0, layers=(1, 3)).generate(PROMPTS, GREEDY)
    with pytest.raises(DataError, match=r"none.safetensors"):
        steered(llama, 1.0, vector=str(tmp_path / "none.safetensors")).generate(PROMPTS, GREEDY)
    with pytest.raises(EngineError, match="reads at most"):
        steered(llama, 1.0).generate(["the ship " * 200], GREEDY)
    with pytest.raises(UsageError, match="2 prompts and 1 completions"):
        steered(llama, 1.0).logprobs(PROMPTS[:2], ["x"])
    with pytest.raises(UnsupportedError, match="out of reach"):
        Steering(engine="http://localhost:1/v1#m", vector=vector(llama)).generate(PROMPTS, GREEDY)
    assert steered(llama, 1.0, layers="auto").chosen_layers == (0, 1)
