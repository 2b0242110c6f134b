"""The words of 13a and the counts of BLEU, against values worked out by hand and against a plain count."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.rewards.ngrams import NgramTable, characters, is_unspaced, ngrams, tokens_13a

P, R1 = "The cat sat on the mat.", "The cat is on the mat."
R2 = "There is a cat sitting on the mat today, my friend."
WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'Prices rose 3.5%, to $1,200 - "wow" (really).',
            'Prices rose 3.5 % , to $ 1,200 - " wow " ( really ) .',
        ),
        ("state-of-the-art 2020-21 a&amp;b don't", "state-of-the-art 2020 - 21 a & b don't"),
        ("one <skipped>two hy-\nphen\nline", "one two hyphen line"),
        ("&quot;a&quot; &lt;b&gt;", '" a " < b >'),
        (",,5.,.5 v1.2.", ", ,5 . , .5 v1.2 ."),
        ("", ""),
    ],
)
def test_words_of_13a(text, words):
    assert tokens_13a(text) == words.split()


@given(st.text("ab12 .,-&;\n\"'(<>/`~_{x", max_size=40))
def test_words_of_13a_are_sacrebleus(text):
    theirs = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    assert tokens_13a(text) == theirs(text).split()


def test_writing_without_spaces():
    assert tokens_13a("我喜欢猫。") == ["我喜欢猫。"]
    assert characters("我喜欢 Fairlead, 猫 3.5%") == ["我", "喜", "欢", "Fairlead", ",", "猫", "3.5", "%"]
    assert is_unspaced("我喜欢猫。")
    assert is_unspaced("ねこが すきです")
    assert not is_unspaced("the sign said 猫 and nothing else")
    assert not is_unspaced("3.5 %")


def test_counts_of_the_known_answer():
    table = NgramTable.of([tokens_13a(R1)])
    assert table.precisions(tokens_13a(P)) == [(6, 7), (4, 6), (2, 5), (1, 4)]
    assert table.lengths == (7,)


def plain(words, references, *, smooth, closest, effective) -> float:
    """BLEU as its definition reads, counted anew for every text."""
    if not words or not min(map(len, references)):
        return 0.0
    logs = []
    for n in range(1, 5):
        runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if effective and not runs:
            continue
        bounds = [Counter(tuple(r[i : i + n]) for i in range(len(r) - n + 1)) for r in references]
        matched = sum(min(count, max(b[run] for b in bounds)) for run, count in Counter(runs).items())
        if not smooth and not matched:
            return 0.0
        logs.append(math.log((matched + smooth) / (len(runs) + smooth)))
    near = min((abs(len(r) - len(words)), len(r)) for r in references)[1]
    length = near if closest else min(map(len, references))
    ratio = len(words) / length
    return (1.0 if ratio > 1 else math.exp(1 - 1 / ratio)) * math.exp(sum(logs) / len(logs))


@given(WORDS, st.lists(WORDS, min_size=1, max_size=3), st.booleans(), st.booleans(), st.booleans())
def test_bleu_is_its_definition(words, references, smooth, closest, effective):
    table = NgramTable.of(references)
    reflen = "closest" if closest else "min"
    if not table.length_for(words, reflen):
        assert table.bleu(words, smooth=smooth, reflen=reflen, effective_order=effective) == 0
        return
    if not min(map(len, references)):
        references = [r for r in references if r]
    found = table.bleu(words, smooth=smooth, reflen=reflen, effective_order=effective)
    assert found == pytest.approx(plain(words, references, smooth=smooth, closest=closest, effective=effective))


@given(WORDS, st.lists(WORDS.filter(bool), min_size=1, max_size=3), WORDS.filter(bool))
def test_another_reference_never_hurts(words, references, another):
    before = NgramTable.of(references).bleu(words)
    assert NgramTable.of([*references, another]).bleu(words) >= before - 1e-12


@given(WORDS.filter(bool), st.lists(WORDS.filter(bool), min_size=1, max_size=3))
def test_the_factors_make_the_whole(words, references):
    table = NgramTable.of(references)
    parts = [table.bleu(words, parts=part) for part in ("brevity", "precision")]
    assert math.prod(parts) == pytest.approx(table.bleu(words))


def test_runs_of_words():
    assert ngrams("abab", 2) == {("a", "b"): 2, ("b", "a"): 1}
    assert not ngrams("a", 2)
