"""The first token under a rule: what is asked for, what follows, and that draws belong to their place."""

from __future__ import annotations

from collections import Counter

import pytest

import fairlead
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.synthesis.base import blank_seeds, drafts_of, rows_of
from fairlead.synthesis.magpie_first import FIRST, FirstToken, draw_behind, rule_of


class Parts:
    """Writes given first tokens, then the number of the draw."""

    fingerprint = "parts"

    def __init__(self, *firsts):
        self.firsts, self.calls = firsts, []

    def generate(self, prompts, sampling):
        self.calls.append((prompts[0], sampling))
        if sampling.max_tokens == 1:
            ends = (FinishReason.STOP, FinishReason.LENGTH)
            return [[Completion(text, finish_reason=ends[bool(text)]) for text in self.firsts[: sampling.n]]]
        return [[Completion(f" {k}") for k in range(sampling.n)]]


def test_the_rules_of_the_published_code():
    how = Sampling(temperature=0.5, max_tokens=9, logit_bias={7: 1.0}, stop=("x",))
    assert dict(FIRST["llama-3.1"].sampling(how).logit_bias) == {7: 1.0, 2: -100, 567: -100, 14711: -100, 827: -100}
    flaming = FIRST["flaming"].sampling(how)
    assert (flaming.temperature, flaming.max_tokens, flaming.stop) == (pytest.approx(0.6), 1, ("x",))
    assert rule_of("flaming") is FIRST["flaming"]
    assert rule_of(None) is None


def test_what_follows_a_first_token_is_drawn_as_ever():
    engine = Parts("What", "How", "What", "", "\ufffd")
    found = draw_behind(engine, "<user>", Sampling(max_tokens=9, n=5, temperature=1.1), FIRST["flaming"])
    assert [one.text for one in found] == ["What 0", "How 0", "What 1", "", ""]
    (_, first), (one, rest), (two, other) = engine.calls
    assert (first.n, one, rest.n, two, other.n) == (5, "<user>What", 2, "<user>How", 1)
    assert (rest.temperature, rest.max_tokens, rest.logit_bias) == (1.1, 8, ())
    assert [one.text for one in draw_behind(Parts("What", "How", "What"), "", Sampling(n=3), FIRST["flaming"])] == [
        "What 0", "How 0", "What 1"
    ]  # fmt: skip


def made(model, count, at_once, **how):
    method = fairlead.synthesizer("magpie", answers="none", sampling={"max_tokens": 48}, block=16, **how)
    seeds = blank_seeds(count)
    drafts = [d for k in range(0, count, at_once) for d in drafts_of(method, {"model": model}, seeds[k : k + at_once])]
    return [row["prompt"][0]["content"] for row in rows_of(method, drafts, Counter())]


def test_a_banned_beginning_is_not_written_and_batches_do_not_matter():
    model = fairlead.engine("harbor:aligned-300k")
    plain = made(model, 48, 48)
    (common, times), *_ = Counter(text.split()[0] for text in plain).most_common(1)
    assert times > 5
    (token, *_) = model.renderer.tokenizer(common, add_special_tokens=False)["input_ids"]
    ruled = made(model, 48, 48, first_token={"ban": [token]})
    assert not any(text.split()[0] == common for text in ruled)
    assert len(ruled) > 30
    assert made(model, 48, 7, first_token={"ban": [token]}) == ruled


def test_rules_that_make_no_sense():
    with pytest.raises(UnknownNameError, match="flamming"):
        fairlead.synthesizer("magpie", first_token="flamming")
    with pytest.raises(UsageError, match="changes nothing"):
        FirstToken()
    with pytest.raises(UsageError, match="divide is 0"):
        FirstToken(divide=0)
    with pytest.raises(UsageError, match="leaves nothing behind"):
        fairlead.synthesizer("magpie", first_token="flaming", sampling={"max_tokens": 1})
