"""What a pool gives: columns or an error with ids, texts by part, vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.engines.embedding import Embedding
from fairlead.errors import DataError
from fairlead.records import Conversation, Preference, PromptOnly, Ranking, Text
from fairlead.selection.pool import Pool, text_of

USER, SAID = {"role": "user", "content": "a question"}, {"role": "assistant", "content": "an answer"}


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        (Conversation("c", (USER,), (SAID,)), ("a question\nan answer", "a question", "an answer")),
        (
            Conversation("m", "", (USER, SAID, USER, SAID)),
            ("a question\nan answer\na question\nan answer", "a question\na question", "an answer\nan answer"),
        ),
        (Conversation("r", "raw ", "text"), ("raw \ntext", "raw ", "text")),
        (Preference("p", "q", "good", "bad"), ("q\ngood", "q", "good")),
        (Ranking("k", "q", ("one", "two"), (0.1, 0.2)), ("q\ntwo", "q", "two")),
        (PromptOnly("o", (USER,)), ("a question", "a question", "")),
        (Text("t", "document"), ("document", "", "document")),
    ],
)
def test_the_parts_of_a_record(record, texts):
    assert tuple(text_of(record, part) for part in ("all", "prompt", "answer")) == texts


def rows(*values):
    return Pool([PromptOnly(f"row-{k}", "q", {} if v == "absent" else {"score": v}) for k, v in enumerate(values)])


def test_columns_of_numbers():
    assert rows(1, 2.5).numbers("score").tolist() == [1.0, 2.5]
    assert rows(1, None).numbers("score", missing=True)[0] == 1
    assert [turns.tolist() for turns in rows(1, [2, 3]).lists("score")] == [[1.0], [2.0, 3.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, None, "high", True])
def test_numbers_that_are_none_name_their_record(bad):
    with pytest.raises(DataError, match=r"1 of 3 values of 'score'.*row-1"):
        rows(1.0, bad, 2.0).numbers("score")
    with pytest.raises(DataError, match="row-1"):
        rows(1.0, [1.0, bad], 2.0).lists("score")


def test_infinity_and_text_are_refused_where_missing_values_are_not():
    with pytest.raises(DataError, match=r"1 of 2.*row-0"):
        rows(math.inf, None).numbers("score", missing=True)
    with pytest.raises(DataError, match=r"1 of 2.*row-1"):
        rows("absent", "high").numbers("score", missing=True)
    assert np.isnan(rows(1.0, "absent").numbers("score", missing=True)).tolist() == [False, True]


def test_a_missing_column_is_named_with_those_that_are_there():
    with pytest.raises(DataError, match=r"1 of 2 records have no column 'score': row-1") as error:
        rows(1, "absent").numbers("score")
    assert "columns here are score" in str(error.value)


def test_vectors_from_a_column():
    pool = Pool([PromptOnly("a", "q", {"v": [1, 0]}), PromptOnly("b", "q", {"v": [0, 2]})])
    assert pool.vectors("v").tolist() == [[1, 0], [0, 2]]
    ragged = Pool([PromptOnly("a", "q", {"v": [1]}), PromptOnly("b", "q", {"v": [0, 2]})])
    with pytest.raises(DataError, match="vectors of one size"):
        ragged.vectors("v")


def test_vectors_on_disk_are_those_made_anew(tmp_path):
    pool = [PromptOnly(str(k), text) for k, text in enumerate(["who owns it?", "where is it?", "", "who owns it?"])]
    embedding = Embedding("harbor:base-300k")
    fresh = Pool(pool).vectors(embedding)
    kept = Pool(pool, vectors=tmp_path).vectors(embedding)
    assert np.allclose(fresh, kept, atol=1e-6)
    assert np.allclose(np.linalg.norm(fresh, axis=1), [1, 1, 0, 1], atol=1e-6)
    assert np.array_equal(kept[0], kept[3])


def test_texts_that_are_cut_are_told():
    pool = Pool([PromptOnly("a", "who owns the ship at the quay?")])
    pool.vectors(Embedding("harbor:base-300k", max_tokens=3))
    assert "reads only the beginning of 1 of 1 texts" in pool.notes[0]
