"""Reading vectors from a model: which token is read, what its state is, and what cannot be read."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_models import FAMILIES, build, build_tokenizer

from fairlead import records
from fairlead.decoding.contrasts import Reading, block_states, contrast, read_vector
from fairlead.engines import Local
from fairlead.errors import DataError, EngineError, UnknownNameError, UsageError


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def local(tokenizer):
    return Local(build("llama", len(tokenizer)), tokenizer)


def written(tmp_path, *rows):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return records.read(path)


def row(prompt, chosen, rejected):
    return {"prompt": [{"role": "user", "content": prompt}], "chosen": chosen, "rejected": rejected}


ROWS = (
    row("where is the ship?", "at the quay, captain", "no idea"),
    row("count", "one two three four", "stop it now"),
    row("and the ferry?", "in the north", "go away please"),
    row("how many lamps?", "nine lamps", "who cares"),
)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_the_layers_outputs_at_the_last_token(family, tokenizer):
    """In a batch or alone they are transformers' own hidden states (whose last one is behind the final norm)."""
    local = Local(build(family, len(tokenizer)), tokenizer)
    texts = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17]]
    found = block_states(local, texts)
    assert found.shape == (3, 3, 32)
    assert found.dtype == torch.float32
    for k, ids in enumerate(texts):
        with torch.inference_mode():
            states = local.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer in (0, 1):
            torch.testing.assert_close(found[k, layer], states[layer + 1][0, -1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[k], block_states(local, [ids])[0], atol=1e-4, rtol=1e-4)


def test_batches_change_nothing(local):
    texts = [[4 + k + j for j in range(3 + k)] for k in range(9)]
    whole = block_states(local, texts)
    small = Local(local.model, local.renderer.tokenizer, max_batch_tokens=16)
    torch.testing.assert_close(block_states(small, texts), whole, atol=1e-5, rtol=1e-5)


def test_the_token_that_is_read(local, tmp_path):
    data = written(tmp_path, *ROWS)
    question, answers = [{"role": "user", "content": ROWS[0]["prompt"][0]["content"]}], ROWS[0]
    for at in (-1, -2, 0, 1):
        for ids, answer in zip(contrast(local, data, Reading(at=at))[0], (answers["chosen"], answers["rejected"])):
            whole = local.renderer.example(question, answer)
            text = local.renderer.tokenizer(answer, add_special_tokens=False).input_ids
            assert (
                ids == [*whole.ids[: whole.split], *text][: whole.split + (at + 1 if at >= 0 else len(text) + 1 + at)]
            )
    ends = local.renderer.stops
    assert not any(ids[-1] in ends for pair in contrast(local, data, Reading()) for ids in pair)


def test_two_system_messages_before_the_same_prompt(local, tmp_path):
    data = written(tmp_path, *ROWS)
    reading = Reading(system=("be kind", "be rude"))
    one, two = contrast(local, data, reading)[1]
    question = [{"role": "user", "content": "count"}]
    assert one == local.renderer.prompt([{"role": "system", "content": "be kind"}, *question])
    assert two == local.renderer.prompt([{"role": "system", "content": "be rude"}, *question])
    shorter = contrast(local, data, Reading(system=("be kind", "be rude"), at=-3))[1]
    assert shorter == (one[:-2], two[:-2])


def test_raw_texts(local, tmp_path):
    data = written(tmp_path, {"prompt": "the ship ", "chosen": "leaves at noon", "rejected": "sinks"})
    ((one, two),) = contrast(local, data, Reading())
    assert local.renderer.tokenizer.decode(one) == "the ship leaves at noon"
    assert local.renderer.tokenizer.decode(two) == "the ship sinks"


def test_a_vector_is_the_difference_of_the_states_read(local, tmp_path):
    data = written(tmp_path, *ROWS)
    vector = read_vector(local, data, Reading())
    pairs = contrast(local, data, Reading())
    difference = torch.stack([block_states(local, [one])[0] - block_states(local, [two])[0] for one, two in pairs])
    for layer in range(3):
        raw = difference.mean(0)[layer]
        torch.testing.assert_close(vector.directions[layer], raw / raw.norm(), atol=1e-4, rtol=1e-4)
    assert vector.model == local.fingerprint
    assert vector.origin["pairs"] == 4
    assert vector.origin["at"] == -1
    other = read_vector(local, data, Reading(method="pca"))
    assert other.fingerprint != vector.fingerprint
    assert read_vector(local, data, Reading(method="pca")).fingerprint == other.fingerprint


def test_what_cannot_be_read(local, tmp_path):
    data = written(tmp_path, row("count", "one", "two"), ROWS[0])
    with pytest.raises(DataError, match="line 1"):
        contrast(local, data, Reading(at=-40))
    with pytest.raises(DataError, match="tokens, none at 40"):
        contrast(local, data, Reading(at=40))
    questions = records.read("harbor:prompts?n=3")
    with pytest.raises(DataError, match="a prompt record holds no pair"):
        contrast(local, questions, Reading())
    raw = written(tmp_path, {"prompt": "the ship ", "chosen": "leaves", "rejected": "sinks"})
    with pytest.raises(DataError, match="no chat without a system message"):
        contrast(local, raw, Reading(system=("a", "b")))
    with pytest.raises(EngineError, match="reads at most"):
        block_states(local, [[5] * 161])
    with pytest.raises(UnknownNameError, match="pca"):
        Reading(method="pcaa")
    with pytest.raises(UsageError, match=r"reading\.at is 0"):
        Reading(at=0, system=("a", "b"))
