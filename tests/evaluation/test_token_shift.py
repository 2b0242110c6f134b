"""Token shift of engines whose next tokens are known, and of Harbor's models."""

from __future__ import annotations

import math

import numpy as np
import pytest
from known import END, Unigram, rows

import fairlead
from fairlead.engines.base import Completion, Sampling
from fairlead.engines.local import Local
from fairlead.errors import EngineError, UnsupportedError, UsageError
from fairlead.evaluation.token_shift import TokenShift

BASE = Unigram({"aye": 5.0, "nay": 4.0, "oh": 3.0, "my": 2.0, END: 1.0})
MODEST = Unigram({"aye": 4.0, "nay": 5.0, "oh": 3.0, "my": 2.0, END: 1.0})
FOUR = Sampling(temperature=0.0, max_tokens=4)


def exact(ours: Unigram, theirs: Unigram) -> float:
    return sum(math.exp(ours.log_p(w)) * (ours.log_p(w) - theirs.log_p(w)) for w in ours.weights)


class Says(Unigram):
    """Gives the same words to everything."""

    def generate(self, prompts, sampling):
        ids = [list(self.weights).index(word) for word in ("aye", "nay", "my", END)]
        return [[Completion("aye nay my", ids)] * sampling.n for _ in prompts]


def test_categories_ranks_and_exact_divergences():
    report = TokenShift("base")({"base": BASE, "it": Says(MODEST.weights)}, rows(6))
    found = {axis: e.value for axis, e in report.summary["it"].items()}
    assert (found["unshifted"], found["marginal"], found["shifted"]) == (0.25, 0.25, 0.5)
    assert (found["shifted_first"], found["shifted_later"]) == (0, pytest.approx(2 / 3))
    assert found["base_rank"] == (1 + 2 + 4 + 5) / 4
    assert found["base_prob"] == pytest.approx((5 + 4 + 2 + 1) / 15 / 4)
    for axis in ("kl_aligned_base", "kl_first", "kl_later"):
        assert found[axis] == pytest.approx(exact(MODEST, BASE), abs=1e-6)
    assert found["kl_base_aligned"] == pytest.approx(exact(BASE, MODEST), abs=1e-6)
    assert found["kl_topk"] == pytest.approx(exact(BASE, MODEST), abs=1e-6)
    assert found["tokens"] == 4
    row = report.rows[0]
    assert (row["pieces"], row["base_ranks"]) == ([" aye", " nay", " my", ""], [1, 2, 4, 5])
    assert (row["tokens"], row["marginal_tokens"], row["shifted_tokens"]) == (4, 1, 2)
    assert "shifted most often are (end) (6 of 6), my (6 of 6)" in "\n".join(report.notes)


def test_an_engine_is_unshifted_from_itself():
    found = TokenShift("base", sampling=FOUR)({"base": BASE, "double": BASE}, rows(5)).summary["double"]
    assert (found["unshifted"].value, found["jaccard"].value, found["kl_aligned_base"].value) == (1, 1, 0)


def test_roles_and_their_shares():
    evaluator = TokenShift("base", phrases={"doubt": ("nay my",)})
    found = evaluator({"base": BASE, "it": Says(MODEST.weights)}, rows(3)).summary["it"]
    assert (found["shifted_doubt"].value, found["marginal_doubt"].value) == (0.5, 0.5)
    assert (found["shifted_content"].value, found["shifted_end"].value) == (0, 1)
    assert (found["share_doubt"].value, found["share_end"].value) == (0.5, 0.5)


def test_a_base_that_reads_plain_text_is_not_asked_for_the_end():
    form = "Q: {question} A:"
    report = TokenShift("base", base_prompt=form)({"base": BASE, "it": Says(MODEST.weights)}, rows(3))
    assert report.summary["it"]["tokens"].value == 3
    assert repr(form) in report.notes[0]


class Empty(Unigram):
    def generate(self, prompts, sampling):
        ids = list(self.weights).index(END)
        return [[Completion("", [] if k % 2 else [ids]) for k in range(sampling.n)] for _ in prompts]


def test_answers_without_tokens_are_counted_out():
    sampling = Sampling(n=4)
    report = TokenShift("base", sampling=sampling)({"base": BASE, "it": Empty(MODEST.weights)}, rows(5))
    assert report.summary["it"]["tokens"].value == 0.5
    assert "it: 10 of 20 answers have no token to compare" in report.notes
    assert [row["tokens"] for row in report.rows[:4]] == [1, 0, 1, 0]
    assert [row["base_ranks"] for row in report.rows[:2]] == [[5], []]


class Unnumbered(Unigram):
    def generate(self, prompts, sampling):
        return [[Completion("aye")] * sampling.n for _ in prompts]


class Mute:
    fingerprint = "mute"

    def generate(self, prompts, sampling):
        raise AssertionError("it is not asked before it is known to be of use")


def test_engines_that_cannot_be_compared_are_named_before_any_answer_is_drawn():
    class Loud(Unigram):
        def generate(self, prompts, sampling):
            raise AssertionError("no answer is drawn yet")

    loud = Loud(MODEST.weights)
    with pytest.raises(UnsupportedError, match="engine mute: is a Mute"):
        TokenShift("base")({"base": BASE, "loud": loud, "mute": Mute()}, rows(2))
    with pytest.raises(UnsupportedError, match="engine mute: is a Mute"):
        TokenShift("mute")({"loud": loud, "mute": Mute()}, rows(2))
    stranger = Unigram({"yes": 1.0, END: 1.0})
    with pytest.raises(UnsupportedError, match="engine stranger: its tokenizer is not that of the base engine base"):
        TokenShift("base")({"base": BASE, "loud": loud, "stranger": stranger}, rows(2))
    with pytest.raises(EngineError, match="does not tell the tokens"):
        TokenShift("base")({"base": BASE, "it": Unnumbered(MODEST.weights)}, rows(2))


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"base_prompt": "no slot"}, "question"),
        ({"marginal": 0}, "marginal"),
        ({"top_k": 0}, "top_k"),
        ({"listed": 0}, "listed"),
        ({"phrases": {"end": ["x"]}}, "'end'"),
        ({"phrases": {"two words": ["x"]}}, "two words"),
        ({"phrases": {"opener": "sure"}}, "opener"),
        ({"phrases": {"opener": [""]}}, "opener"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, wrong):
    with pytest.raises(UsageError, match=wrong):
        TokenShift("base", **settings)


def test_harbor_models():
    engines = {name: fairlead.engine(f"harbor:{name}-300k") for name in ("base", "aligned")}
    records = fairlead.read("harbor:test?n=30")
    evaluator = TokenShift("base", sampling=Sampling(temperature=0.0, max_tokens=40))
    report = evaluator(engines, records)
    found = report.summary["aligned"]
    assert 0.8 < found["unshifted"].value < 0.97
    assert found["shifted_first"].value > 0.2 > found["shifted_later"].value
    assert found["kl_first"].value > found["kl_later"].value
    row = report.rows[0]
    assert "".join(row["pieces"]) == row["answer"]
    base = engines["base"]
    answer = engines["aligned"].generate([records[0].prompt], evaluator.sampling)[0][0]
    logprobs = base.logprobs_ids([base.renderer.prompt(records[0].prompt)], [answer.token_ids])[0]
    assert row["base_probs"] == pytest.approx(np.exp(logprobs), abs=1e-5)
    assert not any("not the likeliest" in note for note in report.notes)


def test_a_model_of_another_tokenizer_is_refused():
    from tiny_models import build, build_tokenizer

    tokenizer = build_tokenizer()
    stranger = Local(build("llama", len(tokenizer)), tokenizer)
    with pytest.raises(UnsupportedError, match="engine it: its tokenizer is not that of the base engine base"):
        TokenShift("base")({"base": fairlead.engine("harbor:base-300k"), "it": stranger}, rows(1))


def test_a_thousand_answers_are_read_once():
    counted = []

    class Counting(Unigram):
        def token_stats_beside(self, other, prompts, other_prompts, answers, view):
            counted.append(len(answers))
            return super().token_stats_beside(other, prompts, other_prompts, answers, view)

    TokenShift("base", sampling=FOUR)({"base": Counting(BASE.weights), "it": MODEST}, rows(1000))
    assert sum(counted) == 1000
    assert len(counted) <= 4
