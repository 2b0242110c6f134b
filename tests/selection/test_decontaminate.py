"""Contamination: runs of words, short rows, shares, vectors, several test sets, what is told of each."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.records import Conversation, PromptOnly
from fairlead.selection.decontaminate import Decontaminate, normalised_words

LONG = "the quick brown fox jumps over the lazy dog and then it sleeps in the warm afternoon sun"  # 18 words


def written(path, **prompts) -> str:
    path.write_text("\n".join(json.dumps({"id": id, "prompt": prompt}) for id, prompt in prompts.items()))
    return str(path)


@pytest.fixture
def tests(tmp_path):
    path = tmp_path / "tests.jsonl"
    rows = [
        {"id": "fox", "prompt": LONG},
        {"id": "ship", "prompt": "Who commands the Nigawat today?"},
        {"id": "yes", "prompt": "yes"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def asked(*texts):
    return [PromptOnly(f"r{i}", text) for i, text in enumerate(texts)]


def test_runs_of_words_in_any_spelling(tests):
    words = LONG.split()
    pool = asked(
        "Look: " + LONG.upper().replace(" ", ",  "),  # all six runs of 13
        "so " + " ".join(words[:13]) + " no more",  # one of six
        "so " + " ".join(words[:12]) + " no more",
        "he wrote: who commands the nigawat today?! yes",  # a short row, whole
        "who commands the nigawat",
    )
    found = Decontaminate(against=tests)(pool)
    assert found.indices.tolist() == [2, 4]
    assert found.left_out == {f"overlaps with {tests}": 3}
    assert found.columns["overlap"] == pytest.approx([1, 1 / 6, 0, 1, 0])
    assert found.columns["overlap_row"] == [f"{tests}#fox", f"{tests}#fox", None, f"{tests}#ship", None]
    assert found.metrics["test_rows_hit"] == 2
    assert found.metrics["test_rows_without_runs"] == 1
    assert "1 of them have fewer than 5 words" in found.notes[0]


def test_a_share_of_the_row_may_be_asked_for(tests):
    pool = asked(LONG, " ".join(LONG.split()[:13]))
    assert Decontaminate(against=tests, share=0.5)(pool).indices.tolist() == [1]
    assert Decontaminate(against=tests, words=14)(pool).indices.tolist() == [1]
    assert Decontaminate(against=tests, words=3, share=0.9)(pool).indices.tolist() == [1]


def test_the_row_of_the_largest_share_is_named(tmp_path):
    path = written(tmp_path / "t.jsonl", half=f"{LONG} a b c d e f", all=LONG)
    assert Decontaminate(against=path)(asked(LONG)).columns["overlap_row"] == [f"{path}#all"]


def test_several_test_sets_and_parts(tests):
    pool = [Conversation("c", "tell me", LONG), Conversation("d", LONG, "aye")]
    assert Decontaminate(against=(tests, "harbor:test?n=5"))(pool).left_out.total() == 2
    assert Decontaminate(against=tests, part="prompt")(pool).indices.tolist() == [0]
    training = asked("what is the color of the ship that nobody asks about")
    assert len(Decontaminate(against=("harbor:test?n=50", tests))(training).indices) == 1


def test_a_copy_of_a_test_row_is_found_in_harbor():
    from fairlead.records import read

    pool = [*read("harbor:prompts?n=40"), *read("harbor:test?n=3")]
    found = Decontaminate(against="harbor:test?n=60")(pool)
    assert found.indices.tolist() == list(range(40))
    assert [name.partition("#")[0] for name in found.columns["overlap_row"][40:]] == ["harbor:test?n=60"] * 3


def test_vectors_that_lie_close(tmp_path):
    path = tmp_path / "near.jsonl"
    path.write_text(json.dumps({"id": "t", "prompt": "one two three four five six", "v": [1.0, 0.0]}))
    vectors = ([1.0, 0.1], [1.0, 1.0], [0.0, 0.0])
    pool = [PromptOnly(f"r{i}", "other words", {"v": list(v)}) for i, v in enumerate(vectors)]
    found = Decontaminate(against=str(path), embedding="v")(pool)
    assert found.left_out == {f"close to {path}": 1}
    assert found.indices.tolist() == [1, 2]
    assert found.columns["cosine"][:2] == pytest.approx([1 / np.hypot(1, 0.1), np.sqrt(0.5)], abs=1e-6)
    assert found.columns["cosine_row"] == [f"{path}#t", f"{path}#t", None]
    assert Decontaminate(against=str(path), embedding="v", above=0.7)(pool).indices.tolist() == [2]


def test_many_records_go_in_blocks():
    rng = np.random.default_rng(0)
    pool = [PromptOnly(f"r{i}", "q", {"v": v.tolist()}) for i, v in enumerate(rng.normal(size=(1100, 3)))]
    from fairlead.selection.decontaminate import _nearest

    rows = np.array([r.extra["v"] for r in pool])
    cosine, nearest = _nearest(rows, rows[::-1])
    assert cosine == pytest.approx(np.ones(1100))
    assert nearest.tolist() == list(range(1099, -1, -1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.5 km -- O.K.?", "it s 3 5 km o k"),
        ("ＡＢＣ café", "abc café"),
        ("写作ok吗", "写 作 ok 吗"),
        ("_a_b_", "a b"),
    ],
)
def test_normalised_words(text, words):
    assert normalised_words(text) == words.split()


def test_an_empty_test_set_is_an_error(tmp_path):
    path = tmp_path / "none.jsonl"
    path.write_text("")
    with pytest.raises(DataError):
        Decontaminate(against=str(path))(asked("a"))


@pytest.mark.parametrize("bad", [{"against": ""}, {"words": 0}, {"shortest": 0}, {"share": 1.5}, {"above": 1.5}])
def test_bad_fields_are_named(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        Decontaminate(**{"against": "harbor:test?n=2", **bad})
