"""How close requests are to guidelines: by words, against numbers worked out by hand, and by sentence embeddings."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from fairlead.decoding.guideline_library import read_library
from fairlead.decoding.guideline_retrieval import Embedded, Lexical, Neighbours
from fairlead.errors import MissingExtraError, ModelError

LIBRARY = read_library(
    [{"text": "be kind", "sources": ["sink the ship", "burn the ship"]}, {"text": "be brief", "title": "lists"}]
)


def test_scores_are_the_cosine_of_the_closest_text():
    """Four texts: be kind / sink the ship / burn the ship / lists be brief."""
    rare, twice = np.log(5 / 2) + 1, np.log(5 / 3) + 1
    sink = np.sqrt(rare**2 + 2 * twice**2)
    unseen = np.log(5) + 1
    scores = Lexical(LIBRARY)(["Sink the ship!", "the ship", "be", "sink whatever", "zebra"])
    assert scores.shape == (5, 2)
    assert scores[0, 0] == pytest.approx(1)
    assert scores[1, 0] == pytest.approx(2 * twice**2 / (np.sqrt(2) * twice * sink))
    assert scores[2].tolist() == pytest.approx([twice / np.hypot(rare, twice), twice / np.sqrt(2 * rare**2 + twice**2)])
    assert scores[3, 0] == pytest.approx(rare**2 / (np.hypot(rare, unseen) * sink))
    assert scores[4].tolist() == [0, 0]
    assert scores[0, 1] == scores[1, 1] == 0


def test_odd_requests():
    scored = Lexical(LIBRARY)
    assert scored([]).shape == (0, 2)
    assert scored(["", "?!"]).tolist() == [[0, 0], [0, 0]]
    many = scored(["sink it", "burn the ship", "lists"])
    assert many.tolist() == [scored([one])[0].tolist() for one in ("sink it", "burn the ship", "lists")]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory) -> str:
    """A random BERT with a word-level tokenizer; as a sentence-embedding model it is its mean state."""
    pytest.importorskip("sentence_transformers")
    words = ["<pad>", "<unk>", "sink", "burn", "the", "ship", "be", "kind", "brief", "lists"]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=16
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    folder = tmp_path_factory.mktemp("embedder")
    BertModel(config).save_pretrained(folder / "bert")
    fast.save_pretrained(folder / "bert")
    return str(folder / "bert")


def test_a_sentence_embedding_model_scores(embedder):
    scored = Embedded(LIBRARY, embedder)
    requests = ["sink the ship", "lists: be brief", "ship"]
    scores = scored(requests)
    assert scores.shape == (3, 2)
    assert scores[0, 0] == pytest.approx(1, abs=1e-6)
    assert scores[1, 1] == pytest.approx(1, abs=1e-6)
    assert (scores <= 1).all()
    np.testing.assert_array_equal(scores[2], scored(["ship"])[0])
    assert scored([]).shape == (0, 2)


def test_neighbours_are_the_closest_texts_by_any_vectors():
    vectors = {
        "be kind": [1.0, 0.0],
        "sink the ship": [0.0, 2.0],
        "burn the ship": [3.0, 4.0],
        "lists: be brief": [-1.0, 0.0],
    }
    asked = {"a": [0.0, 5.0], "b": [-3.0, 0.0], "zero": [0.0, 0.0]}
    scored = Neighbours(LIBRARY, lambda texts: np.array([(vectors | asked)[text] for text in texts]))
    np.testing.assert_allclose(scored(["a", "b", "zero"]), [[1, 0], [0, 1], [0, 0]], atol=1e-12)
    assert scored.least == 0


def test_what_an_embedder_needs(monkeypatch, tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="sentence-embedding"):
        Embedded(LIBRARY, str(tmp_path / "nothing"))
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"fairlead\[embed\]"):
        Embedded(LIBRARY, "any")
