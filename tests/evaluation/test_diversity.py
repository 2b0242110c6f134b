"""Diversity of answers: known distributions, extremes, several engines, an encoder of its own, bad settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
from known import END, Unigram, rows

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.diversity import Diversity

EIGHT = Sampling(n=8, max_tokens=12)


@dataclass(frozen=True)
class Says:
    """Answers by a fixed list, from prompt to prompt the same."""

    answers: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def generate(self, prompts, sampling):
        return [
            [Completion(text, None, None, FinishReason.STOP) for text in self.answers[: sampling.n]] for _ in prompts
        ]


def test_one_answer_over_and_over():
    same = Says(("the brig carries salt",) * 4)
    axes = Diversity(sampling=Sampling(n=4), amount=10)({"same": same}, rows(5)).summary["same"]
    assert axes["unique"].value == 0.25
    assert axes["self_bleu"].value == pytest.approx(1)
    assert axes["spread"].value == pytest.approx(0, abs=1e-12)
    assert axes["across_spread"].value == pytest.approx(0, abs=1e-12)
    assert axes["distinct_1"].value == pytest.approx(4 / 16)
    assert axes["distinct_2"].value == pytest.approx(3 / 12)


def test_answers_that_share_nothing():
    apart = Says(("aye", "nay salt", "rope tar oil"))
    axes = Diversity(sampling=Sampling(n=3), amount=5)({"apart": apart}, rows(5)).summary["apart"]
    assert axes["unique"].value == axes["distinct_1"].value == axes["distinct_2"].value == 1
    assert axes["spread"].value == pytest.approx(1)
    assert axes["self_bleu"].value < 0.1


def test_a_flatter_distribution_is_more_diverse():
    words = [f"w{i}" for i in range(30)]
    flat = Unigram({**dict.fromkeys(words, 1.0), END: 3.0})
    steep = Unigram({**{w: 3.0 / (i + 1) ** 2 for i, w in enumerate(words)}, END: 0.5})
    report = Diversity(sampling=EIGHT, amount=100)({"flat": flat, "steep": steep}, rows(120))
    one, two = report.summary["flat"], report.summary["steep"]
    for axis in (
        "unique",
        "distinct_1",
        "distinct_2",
        "spread",
        "across_distinct_1",
        "across_distinct_2",
        "across_spread",
    ):
        assert one[axis].value > two[axis].value, axis
    assert one["spread"].low > two["spread"].high
    assert one["self_bleu"].high < two["self_bleu"].low
    assert not report.notes or all("no words" in note for note in report.notes)


@pytest.mark.slow
def test_intervals_across_prompts_cover():
    words = {**{f"w{i}": 1.0 / (i + 1) for i in range(40)}, END: 0.4}
    evaluator = Diversity(sampling=Sampling(n=1, max_tokens=12), amount=50, orders=(1,))
    found = [
        Diversity(sampling=Sampling(n=1, max_tokens=12, seed=s), amount=50, orders=(1,))(
            {"e": Unigram(words)}, rows(60)
        )
        for s in range(40)
    ]
    truth = evaluator({"e": Unigram(words)}, rows(3000)).summary["e"]
    for axis in ("across_distinct_1", "across_spread"):
        held = [f.summary["e"][axis].low <= truth[axis].value <= f.summary["e"][axis].high for f in found]
        assert np.mean(held) >= 0.85, axis


def test_the_spread_is_the_mean_over_pairs_of_counts():
    engine = Says(("salt salt tar", "salt oil", "tar"))
    found = Diversity(sampling=Sampling(n=3), amount=1)({"e": engine}, rows(1))
    vectors = np.array([[2, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.mean([1 - a @ b for a, b in combinations(vectors, 2)])
    assert found.rows[0]["spread"] == pytest.approx(expected)


def test_answers_without_words_are_told():
    found = Diversity(sampling=Sampling(n=3), amount=1)({"e": Says(("", " ", "aye"))}, rows(2))
    assert math.isnan(found.summary["e"]["self_bleu"].value)
    assert math.isnan(found.summary["e"]["spread"].value)
    assert found.summary["e"]["unique"].value == 1
    assert "e: 4 answers have no words; they have no self-BLEU and no distances" in found.notes


def test_one_answer_per_prompt_leaves_the_axes_across_prompts():
    evaluator = Diversity(sampling=Sampling(temperature=0, n=1), amount=4)
    found = evaluator({"e": Says(("the brig carries salt",))}, rows(6))
    assert math.isnan(found.summary["e"]["self_bleu"].value)
    assert found.summary["e"]["across_distinct_1"].value > 0
    assert "says nothing of the answers to one prompt" in found.notes[0]


def test_too_little_text_is_told():
    found = Diversity(sampling=Sampling(n=2), amount=500)({"e": Says(("a b", "c"))}, rows(4))
    assert found.summary["e"]["across_distinct_2"].n == 0
    assert "all first answers have 4 2-grams, fewer than `amount` (500)" in found.notes[-1]


def test_an_encoder_of_sentences(monkeypatch):
    from fairlead import models

    class Letters:
        def encode(self, texts, show_progress_bar):
            return np.array([[text.count("a"), text.count("b")] for text in texts], dtype=np.float32)

    asked = []
    monkeypatch.setattr(models, "load_embedder", lambda name, what: asked.append(name) or Letters())
    found = Diversity(encoder="some/encoder", sampling=Sampling(n=2), amount=1)({"e": Says(("aa", "bbb"))}, rows(2))
    assert asked == ["some/encoder"]
    assert found.summary["e"]["spread"].value == pytest.approx(1)
    assert found.summary["e"]["across_spread"].value == pytest.approx(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"orders": ()}, "orders is"),
        ({"orders": (0, 1)}, "orders is"),
        ({"orders": (2, 2)}, "orders is"),
        ({"amount": 0}, "amount is 0"),
        ({"sampling": Sampling(temperature=0, n=4)}, "greedy"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(UsageError, match=message):
        Diversity(**settings)
