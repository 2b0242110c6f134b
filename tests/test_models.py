from __future__ import annotations

import json
import shutil

import pytest
import torch
from tiny_models import build, build_tokenizer

from fairlead import models
from fairlead.engines import engine
from fairlead.engines.local import Local
from fairlead.errors import ModelError, UnknownFieldError, UnknownNameError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a tiny Llama and its tokenizer."""
    path = tmp_path_factory.mktemp("models") / "llama"
    build("llama", len(build_tokenizer())).save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_resolve(saved):
    assert models.resolve(str(saved)) == str(saved)
    assert models.resolve("org/name") == "org/name"
    assert models.resolve("gpt2") == "gpt2"
    assert models.load_tokenizer("harbor:base-300k").chat_template
    with pytest.raises(UnknownNameError, match="did you mean 'base-300k'"):
        models.resolve("harbor:base-300")


@pytest.mark.parametrize("name", ["./missing", "/no/such/folder", "a/b/c", "~/missing-model", "", " "])
def test_paths_that_are_not_there(name):
    with pytest.raises(ModelError, match="no such model folder"):
        models.resolve(name)


def test_a_file_is_not_a_folder(saved):
    with pytest.raises(ModelError, match=f"use its folder: {saved}"):
        models.resolve(str(saved / "config.json"))


def test_load_model(saved):
    model = models.load_model(str(saved), device="cpu")
    assert not model.training
    assert model.dtype is torch.float32
    assert models.load_model(str(saved), dtype="bfloat16", device="cpu").dtype is torch.bfloat16
    with pytest.raises(UnknownNameError, match="did you mean 'float32'"):
        models.load_model(str(saved), dtype="float")
    with pytest.raises(UnknownNameError, match="unknown head"):
        models.load_model(str(saved), head="value")
    with pytest.raises(ModelError, match="device 'nowhere'"):
        models.load_model(str(saved), device="nowhere")


def test_a_new_score_head_starts_at_zero_and_a_trained_one_is_kept(saved, tmp_path):
    model = models.load_model(str(saved), head="score", device="cpu")
    model.config.pad_token_id = 0
    assert torch.equal(model(input_ids=torch.tensor([[5, 6, 7]])).logits, torch.zeros(1, 1))
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(tmp_path / "scores")
    again = models.load_model(str(tmp_path / "scores"), head="score", device="cpu")
    assert torch.equal(again.score.weight, model.score.weight)
    with pytest.raises(ModelError, match="is a reward model"):
        models.load_model(str(tmp_path / "scores"))
    config = json.loads((tmp_path / "scores" / "config.json").read_text())
    config["id2label"], config["label2id"] = {"0": "a", "1": "b"}, {"a": 0, "b": 1}
    (tmp_path / "scores" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="gives 2 scores"):
        models.load_model(str(tmp_path / "scores"), head="score")


@pytest.mark.parametrize(
    ("lost", "problem"),
    [
        ("model.safetensors", "has no weights"),
        ("config.json", "has no config.json"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_missing_files(folder, lost, problem):
    (folder / lost).unlink()
    with pytest.raises(ModelError, match=f"copy: {problem}"):
        Local(str(folder))


def test_weights_that_do_not_fill_the_model(folder):
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"weights of the architecture are not in the files \(model.layers.3"):
        models.load_model(str(folder))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_damaged_files(folder, file):
    (folder / file).write_bytes(b"\x00 not this")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Local(str(folder))


def test_hub_ids_that_cannot_be_reached():
    for load in (models.load_model, models.load_tokenizer, models.fingerprint):
        with pytest.raises(ModelError, match=r"nobody/nothing: the \w+ cannot be loaded"):
            load("nobody/nothing")


def test_fingerprint_follows_the_content(saved, folder):
    first = models.fingerprint(str(saved))
    assert models.fingerprint(str(folder)) == first
    (folder / "README.md").write_text("a card says nothing about answers")
    assert models.fingerprint(str(folder)) == first
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content + b" ")
        assert models.fingerprint(str(folder)) != first
        (folder / file).write_bytes(content)
    assert models.fingerprint(str(folder)) == first
    (folder / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model files"):
        models.fingerprint(str(folder / "empty"))


def test_adapters_go_on_their_base(saved, folder, tmp_path):
    peft = pytest.importorskip("peft")
    base = models.load_model(str(folder), device="cpu")
    lora = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    lora.save_pretrained(tmp_path / "adapter")
    engine = Local(str(tmp_path / "adapter"))
    plain = Local(str(folder))
    scored, bare = engine.logprobs(["the ship"], ["sails"])[0], plain.logprobs(["the ship"], ["sails"])[0]
    assert abs(scored - bare).max() > 1e-3
    with torch.no_grad():
        row = plain.renderer.example("the ship", "sails")
        wanted = lora.eval()(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
    assert scored[0] == pytest.approx(float(wanted[row.split - 1, row.ids[row.split]]), abs=1e-4)
    before = models.fingerprint(str(tmp_path / "adapter"))
    assert before != models.fingerprint(str(folder))
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert models.fingerprint(str(tmp_path / "adapter")) != before
    (tmp_path / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config\.json: cannot be read"):
        models.load_model(str(tmp_path / "adapter"))


def test_engine_opens_what_a_name_stands_for(saved):
    opened = engine(str(saved), dtype="bfloat16", max_rows=3)
    assert isinstance(opened, Local)
    assert opened.max_rows == 3
    with pytest.raises(UnknownFieldError, match="did you mean 'max_rows'"):
        engine(str(saved), max_row=3)
    with pytest.raises(UnknownFieldError, match="Http engine"):
        engine("http://127.0.0.1:1/v1", dtype="bfloat16")
    with pytest.raises(ModelError):
        engine("./missing")
