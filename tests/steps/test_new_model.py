"""The new_model step: size, tokenizer and template from one's own text."""

from __future__ import annotations

import pytest

from fairlead import models
from fairlead.errors import DataError, UsageError
from fairlead.render import Renderer
from fairlead.steps.base import Context
from fairlead.steps.new_model import NewModel

TEXT = "the quick brown fox jumps over the lazy dog. naïve café, 東京! <|user|> is only text here.\n" * 30


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    (folder / "t.txt").write_text(TEXT, encoding="utf-8")
    step = NewModel(data=str(folder / "t.txt"), vocab_size=400, parameters="200K", max_positions=128, seed=1)
    return folder, step, step(Context(folder, folder / "c"))


def test_the_folder_loads_as_a_model(made):
    folder, step, outcome = made
    model = models.load_model(str(folder / "model"))
    assert sum(p.numel() for p in model.parameters()) == outcome.metrics["parameters"]
    assert 150_000 <= outcome.metrics["parameters"] <= 250_000
    assert model.config.max_position_embeddings == 128
    shape = step.shape(int(outcome.metrics["vocabulary"]))
    assert shape.parameters(int(outcome.metrics["vocabulary"])) == outcome.metrics["parameters"]


def test_the_tokenizer_reads_any_text_back(made):
    folder, _, outcome = made
    tokenizer = models.load_tokenizer(str(folder / "model"))
    assert len(tokenizer) == outcome.metrics["vocabulary"] <= 400
    for text in (TEXT, "unseen ÆØÅ \x00\n\t  spaces ", "🚢"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert tokenizer("x").input_ids[0] == tokenizer.bos_token_id


def test_the_template_passes_the_renderer(made):
    folder, _, _ = made
    renderer = Renderer(models.load_tokenizer(str(folder / "model")))
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "the fox"}]
    row = renderer.example(chat, [{"role": "assistant", "content": "the dog"}])
    trained = renderer.tokenizer.decode([i for i, t in zip(row.ids, row.loss_mask, strict=True) if t])
    assert trained == "the dog<|end|>"
    assert renderer.tokenizer.convert_tokens_to_ids("<|end|>") in renderer.stops


def test_equal_seeds_give_equal_bytes(made, tmp_path):
    folder, step, _ = made
    step(Context(tmp_path, tmp_path / "c"))
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "model" / name).read_bytes() == (folder / "model" / name).read_bytes()


def test_records_of_any_kind_are_text(tmp_path):
    outcome = NewModel(data="harbor:preferences?n=50", vocab_size=300, layers=1, hidden=32)(Context(tmp_path, tmp_path))
    assert outcome.metrics["vocabulary"] == 300


def test_little_text_gives_a_small_vocabulary_and_a_note(tmp_path):
    (tmp_path / "t.txt").write_text("ab ab\n")
    outcome = NewModel(data=str(tmp_path / "t.txt"), vocab_size=5000, layers=1, hidden=32)(Context(tmp_path, tmp_path))
    assert outcome.metrics["vocabulary"] < 300
    assert "fewer than vocab_size" in outcome.notes[0]


@pytest.mark.parametrize("wanted", ["500K", "2M", "3M", "5M", "30M", "125M", "1.1B"])
def test_sizes_are_met(wanted):
    count = int(float(wanted[:-1]) * {"K": 1e3, "M": 1e6, "B": 1e9}[wanted[-1]])
    step = NewModel(data="d", vocab_size=4096, parameters=wanted)
    shape = step.shape(4096)
    assert shape.parameters(4096) == pytest.approx(count, rel=0.1)
    assert shape.hidden % shape.heads == 0


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({}, "size said once"),
        ({"parameters": "3M", "layers": 2, "hidden": 64}, "size said once"),
        ({"layers": 2}, "size said once"),
        ({"parameters": "many"}, "parameters is 'many'"),
        ({"parameters": "1K"}, "nearest size"),
        ({"parameters": "3M", "vocab_size": 100}, "vocab_size is 100"),
        ({"layers": 2, "hidden": 65, "heads": 2}, "even whole number"),
        ({"parameters": "3M", "max_positions": 1}, "max_positions"),
    ],
)
def test_settings_that_make_no_sense(values, what):
    with pytest.raises(UsageError, match=what):
        NewModel(data="d", **values)


def test_no_text_is_an_error(tmp_path):
    (tmp_path / "t.txt").write_text("\n\n")
    for data, what in ((tmp_path / "t.txt", "holds no text"), (tmp_path / "none.txt", "cannot be read")):
        with pytest.raises(DataError, match=what):
            NewModel(data=str(data), layers=1, hidden=32)(Context(tmp_path, tmp_path))
