"""Mean log-probs of answers: by hand, across tokenizers, joined by id, kept on disk, and refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_models import build, build_tokenizer

from fairlead import models
from fairlead.errors import DataError, FairleadError
from fairlead.records import Records, read
from fairlead.records.schema import Conversation
from fairlead.render import Renderer
from fairlead.training import likelihood
from fairlead.training.columns import Desk, Part
from fairlead.training.config import TrainConfig
from fairlead.training.frozen import cache_folder
from fairlead.training.likelihood import AnswerText, MeanLogProb
from fairlead.training.loop import accelerator_for

ROWS = [
    {"id": "one", "prompt": [{"role": "user", "content": "where is the ship?"}],
     "completion": [{"role": "assistant", "content": "it is from malta."}]},
    {"id": "two", "messages": [
        {"role": "user", "content": "what is 2 plus 3?"}, {"role": "assistant", "content": "the answer is 5."},
        {"role": "user", "content": "thank you!"}, {"role": "assistant", "content": "happy to help."}]},
    {"id": "three", "prompt": [{"role": "user", "content": "who commands it?"}],
     "completion": [{"role": "assistant", "content": "the captain is ada. have a nice day!"}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> str:
    """Folder of a model with another tokenizer and template than Harbor's."""
    folder = tmp_path_factory.mktemp("foreign") / "qwen2"
    tokenizer = build_tokenizer()
    torch.manual_seed(1)
    build("qwen2", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def supplied(tiny_model, tmp_path):
    """Score rows with models as a run of the tiny model would."""

    def supply(rows, *references, closing=False, grouped=None):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        records = read(path)
        renderer = Renderer(models.load_tokenizer(tiny_model))
        groups, _ = AnswerText(closing).build(records, renderer, max_length=200, too_long="error")
        groups = groups if grouped is None else grouped(groups)
        config = TrainConfig(model=tiny_model, data=str(path))
        with accelerator_for(config, tmp_path) as accelerator:
            part = Part(groups, records)
            desk = Desk(config, None, accelerator, None, part)
            column = MeanLogProb(references, closing)
            return {g.id: v for g, v in zip(groups, column.supply(part, desk), strict=True)}

    return supply


def by_hand(name: str, row: dict, closing: bool) -> float:
    """Feed the template's own text to the model and average the log-probs of what the assistant said."""
    tokenizer, model = models.load_tokenizer(name), models.load_model(name, device="cpu")
    messages = row.get("messages") or [*row["prompt"], *row["completion"]]
    ids, counted = [], []
    for k, message in enumerate(messages):
        upto = tokenizer.apply_chat_template(messages[: k + 1], tokenize=True, return_dict=False)
        if message["role"] == "assistant":
            before = tokenizer.apply_chat_template(
                messages[:k], tokenize=True, add_generation_prompt=True, return_dict=False
            )
            end = len(before) + len(tokenizer(message["content"], add_special_tokens=False)["input_ids"])
            counted += range(len(before), end + closing)
        ids = upto
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return float(np.mean([logprobs[i - 1, ids[i]] for i in counted]))


@pytest.mark.parametrize("closing", [False, True])
def test_each_model_reads_with_its_own_template_and_tokens(supplied, foreign, tiny_model, closing):
    names = {"own": tiny_model, "foreign": foreign}
    wanted = {key: {row["id"]: by_hand(name, row, closing) for row in ROWS} for key, name in names.items()}
    for key, name in names.items():
        found = supplied(ROWS, name, closing=closing)
        for id, values in found.items():
            assert values.dtype == np.float32
            assert values.tolist() == pytest.approx([wanted[key][id]], abs=1e-5)
    both = supplied(ROWS, tiny_model, foreign, closing=closing)
    for id, values in both.items():
        assert values[0] == pytest.approx((wanted["own"][id] + wanted["foreign"][id]) / 2, abs=1e-5)


def test_scores_are_joined_by_id_and_not_by_place(supplied, foreign):
    found = supplied(ROWS, foreign)
    turned = supplied(ROWS, foreign, grouped=lambda groups: [groups[2], groups[0]])
    assert list(turned) == ["three", "one"]
    assert turned == {id: pytest.approx(found[id], abs=1e-6) for id in turned}


def test_scores_are_read_from_disk(supplied, foreign, monkeypatch):
    first = supplied(ROWS, foreign)
    assert len(list((cache_folder() / "logprobs").glob("*.npy"))) == 1

    def refuse(*args):
        raise AssertionError("the model was opened again")

    monkeypatch.setattr(likelihood, "_open", refuse)
    assert supplied(ROWS, foreign) == first
    changed = [{**ROWS[0], "completion": [{"role": "assistant", "content": "it is from oslo."}]}, *ROWS[1:]]
    for rows, closing in ((changed, False), (ROWS, True)):
        with pytest.raises(AssertionError, match="opened again"):
            supplied(rows, foreign, closing=closing)


def test_another_template_is_another_score(supplied, foreign, tmp_path):
    first = supplied(ROWS, foreign)
    tokenizer = models.load_tokenizer(foreign)
    other = tmp_path / "other"
    models.load_model(foreign, device="cpu").save_pretrained(other)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "|<|im_start|>")
    tokenizer.save_pretrained(other)
    second = supplied(ROWS, str(other))
    assert len(list((cache_folder() / "logprobs").glob("*.npy"))) == 2
    assert second["one"][0] != pytest.approx(first["one"][0], abs=1e-4)


def test_what_does_not_fit_a_reference_is_named(supplied, foreign):
    long = {**ROWS[0], "id": "long", "completion": [{"role": "assistant", "content": "it is from malta. " * 12}]}
    with pytest.raises(DataError, match="longer than that model's positions") as caught:
        supplied([*ROWS, long], foreign)
    assert "line 4" in str(caught.value)


def test_an_empty_answer_has_no_score(tiny_model):
    said = ({"role": "assistant", "content": ""},)
    empty = Records([Conversation("empty", tuple(ROWS[0]["prompt"]), said)], kind="conversation", source="here")
    renderer = Renderer(models.load_tokenizer(tiny_model))
    with pytest.raises(DataError, match="record empty: has an empty answer"):
        AnswerText().build(empty, renderer, max_length=100, too_long="error")
    groups, _ = AnswerText(closing=True).build(empty, renderer, max_length=100, too_long="error")
    assert groups[0].branches[0].trained.tolist() == [True]


def test_a_reference_that_cannot_read_a_record_is_named(supplied, foreign, tmp_path):
    other = tmp_path / "other"
    models.load_model(foreign, device="cpu").save_pretrained(other)
    tokenizer = models.load_tokenizer(foreign)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>assistant", "<|im_start|>assistant:")
    tokenizer.save_pretrained(other)
    with pytest.raises(FairleadError, match="other cannot read it"):
        supplied(ROWS, str(other))


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize(
    "row", [{"prompt": "the ship is", "completion": " from malta."}, {"text": "the ship is from malta."}]
)
def test_the_end_of_raw_text_counts_only_when_asked_for(tiny_model, tmp_path, row, closing):
    path = tmp_path / "row.jsonl"
    path.write_text(json.dumps(row))
    tokenizer = models.load_tokenizer(tiny_model)
    groups, lengths = AnswerText(closing).build(read(path), Renderer(tokenizer), max_length=100, too_long="error")
    (branch,) = groups[0].branches
    assert branch.ids[-1] == tokenizer.eos_token_id
    assert branch.trained.tolist() == [True] * (len(branch.ids) - 1) + [closing]
    assert lengths.trained == branch.trained.sum()
