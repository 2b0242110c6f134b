"""Biases, penalties and ends put off: beside transformers' own processors, in batches and alone, and by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from fairlead.engines.base import FinishReason, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.draw import choose
from fairlead.engines.edits import Past, edited
from fairlead.engines.endings import Endings
from fairlead.engines.local import Local
from fairlead.engines.programs import run
from fairlead.engines.streaming import Listener
from fairlead.errors import EngineError, UsageError

SIZE = 40
PROMPT = [3, 7, 7, 11]
SAID = [7, 20, 20, 20, 5]
ENDS = frozenset({1, 2})


def logits_of(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed)) * 3


def past_of(sampling: Sampling, prompt: list[int] = PROMPT, said: list[int] = SAID) -> Past:
    past = Past.of(sampling, prompt, ENDS)
    assert past is not None
    for token in said:
        past.add(token)
    return past


def changed(sampling: Sampling, logits: torch.Tensor) -> torch.Tensor:
    before = logits.clone()
    found = edited(logits, sampling, [past_of(sampling)] * len(logits))
    assert torch.equal(logits, before)
    return found


def seen(rows: int) -> torch.Tensor:
    return torch.tensor([PROMPT + SAID] * rows)


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_repetition_is_penalised_as_in_transformers(penalty):
    logits = logits_of(5)
    wanted = RepetitionPenaltyLogitsProcessor(penalty)(seen(5), logits.clone())
    torch.testing.assert_close(changed(Sampling(repetition_penalty=penalty), logits), wanted)


def test_biases_are_added_as_in_transformers():
    logits, biases = logits_of(5), {4: 2.5, 39: -100.0, 0: 1}
    wanted = SequenceBiasLogitsProcessor({(token,): float(bias) for token, bias in biases.items()})(seen(5), logits)
    torch.testing.assert_close(changed(Sampling(logit_bias=biases), logits), wanted)


def test_presence_and_frequency_count_the_answer_alone():
    """As the protocol has it: logit - count * frequency - (count > 0) * presence."""
    logits = logits_of(3)
    counts = torch.bincount(torch.tensor(SAID), minlength=SIZE)
    wanted = logits - counts * 0.5 - (counts > 0) * 1.5
    found = changed(Sampling(frequency_penalty=0.5, presence_penalty=1.5), logits)
    torch.testing.assert_close(found, wanted)
    assert torch.equal(found[:, [3, 11]], logits[:, [3, 11]])


@pytest.mark.parametrize("least", [5, 6])
def test_ends_are_put_off_as_in_transformers(least):
    logits = logits_of(2)
    found = changed(Sampling(min_tokens=least), logits)
    hold = MinNewTokensLengthLogitsProcessor(len(PROMPT), least, sorted(ENDS), device="cpu")
    assert torch.equal(found, hold(seen(2), logits))
    assert bool(torch.isneginf(found[:, sorted(ENDS)]).all()) is (least == 6)


def test_biases_come_before_the_penalties():
    logits = torch.zeros(1, SIZE)
    sampling = Sampling(logit_bias={7: 4.0, 20: -1.0}, repetition_penalty=2.0, frequency_penalty=0.5)
    found = changed(sampling, logits)[0]
    assert found[7] == 4.0 / 2 - 0.5
    assert found[20] == -1.0 * 2 - 3 * 0.5


def test_rows_are_edited_each_by_its_own_past():
    sampling = Sampling(
        repetition_penalty=1.4, presence_penalty=0.3, frequency_penalty=-0.2, logit_bias={9: 3.0}, min_tokens=4
    )
    rng = random.Random(0)
    logits, pasts = logits_of(12), []
    for _ in range(12):
        prompt = rng.choices(range(SIZE), k=rng.randint(1, 9))
        pasts.append(past_of(sampling, prompt, rng.choices(range(SIZE), k=rng.randint(0, 150))))
    together = edited(logits, sampling, pasts)
    for row, past in enumerate(pasts):
        assert torch.equal(edited(logits[row : row + 1], sampling, [past])[0], together[row])


def test_the_whole_distribution_is_that_of_transformers_in_our_order():
    """Edits, temperature, top_k, top_p, min_p: what is never drawn, and what the rest is worth."""
    sampling = Sampling(temperature=1.7, top_k=25, top_p=0.95, min_p=0.05, repetition_penalty=1.3, logit_bias={4: 1.0})
    logits = logits_of(4, seed=3)
    wanted = SequenceBiasLogitsProcessor({(4,): 1.0})(seen(4), logits)
    for step in (RepetitionPenaltyLogitsProcessor(1.3), TemperatureLogitsWarper(1.7), TopKLogitsWarper(25)):
        wanted = step(seen(4), wanted)
    for step in (TopPLogitsWarper(0.95), MinPLogitsWarper(0.05)):
        wanted = step(seen(4), wanted)
    due = torch.softmax(wanted, -1).numpy()
    pasts, grid = [past_of(sampling)] * 4, (np.arange(20_000) + 0.5) / 20_000
    drawn = np.stack([choose(logits, sampling, [u] * 4, pasts).numpy() for u in grid])
    for row in range(4):
        shares = np.bincount(drawn[:, row], minlength=SIZE) / len(grid)
        np.testing.assert_allclose(shares, due[row], atol=1e-4)


def test_min_p_alone_keeps_what_transformers_keeps():
    logits = logits_of(6, seed=1)
    kept = torch.isfinite(MinPLogitsWarper(0.2)(seen(6), logits))
    for row in range(6):
        drawn = {int(choose(logits[row : row + 1], Sampling(min_p=0.2), [u])[0]) for u in np.linspace(0, 0.9999, 4000)}
        assert drawn == set(kept[row].nonzero()[:, 0].tolist())


def test_nothing_is_looked_at_where_nothing_is_asked_for():
    assert Past.of(Sampling(min_p=0.1, ignore_eos=True, stop_token_ids=(4,)), PROMPT, ENDS) is None
    sampling, logits = Sampling(min_tokens=2), logits_of(1)
    assert edited(logits, sampling, [past_of(sampling)]) is logits  # there are tokens enough


def test_coarse_logits_are_edited_finely():
    found = changed(Sampling(logit_bias={0: 1e-3}), torch.full((1, SIZE), 100.0, dtype=torch.bfloat16))
    assert found.dtype == torch.float32
    assert found[0, 0] > found[0, 1]


def test_no_token_left_is_an_error():
    logits = torch.full((1, SIZE), -torch.inf)
    logits[0, 1] = 0.0
    with pytest.raises(EngineError, match="min_tokens forbids them"):
        edited(logits, Sampling(min_tokens=9), [past_of(Sampling(min_tokens=9))])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_p": 1.1}, "min_p is 1.1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty is nan"),
        ({"presence_penalty": 2.1}, "presence_penalty is 2.1"),
        ({"frequency_penalty": -3}, "frequency_penalty is -3"),
        ({"min_tokens": 9, "max_tokens": 8}, "sampling.min_tokens: is 9, more than max_tokens, 8"),
        ({"min_tokens": -1}, "min_tokens is -1"),
        ({"logit_bias": {5: 101.0}}, "logit_bias of token 5 is 101"),
        ({"logit_bias": {-5: 1.0}}, "logit_bias names token -5"),
        ({"logit_bias": {"5": 1.0}}, "logit_bias names token '5'"),
        ({"stop_token_ids": [-1]}, "stop_token_ids names token -1"),
    ],
)
def test_values_out_of_range(settings, message):
    with pytest.raises(UsageError, match=message):
        Sampling(**settings)


def test_settings_are_kept_in_one_form():
    one, other = Sampling(logit_bias={5: 1, 2: -1.0}), Sampling(logit_bias=((2, -1.0), (5, 1.0)))
    assert one == other
    assert hash(one) == hash(other)
    assert one.logit_bias == ((2, -1.0), (5, 1.0))
    assert Sampling(stop_token_ids=[4]).stop_token_ids == (4,)


# With a model: what comes out.

PROMPTS = ["the ship", [{"role": "user", "content": "where is the captain?"}], "count: one two three one two three"]
SETTINGS = {
    "min_p": Sampling(min_p=0.3),
    "repetition": Sampling(repetition_penalty=1.5),
    "presence": Sampling(presence_penalty=1.8),
    "frequency": Sampling(frequency_penalty=1.1),
    "bias": Sampling(logit_bias={10: 4.0, 40: 6.0, 2: -100.0}),
    "min_tokens": Sampling(min_tokens=12),
    "ignore_eos": Sampling(ignore_eos=True),
    "stop_token_ids": Sampling(stop_token_ids=tuple(range(40, 80))),
    "choices": Sampling(choices=("the ship is late", "the ship", "no")),
    "stops": Sampling(stop=("a", "e", "s"), min_tokens=6),
    "all": Sampling(
        min_p=0.02,
        repetition_penalty=1.2,
        presence_penalty=0.5,
        frequency_penalty=0.3,
        logit_bias={50: 2.0},
        min_tokens=4,
        ignore_eos=True,
        stop_token_ids=(60, 61, 62),
        stop=("e ",),
    ),
}
every = pytest.mark.parametrize("name", SETTINGS)


def drawn_how(name: str, temperature: float, **more) -> Sampling:
    return replace(SETTINGS[name], max_tokens=16, temperature=temperature, seed=4, logprobs=True, **more)


def same(one, other) -> None:
    assert (one.token_ids, one.text, one.finish_reason) == (other.token_ids, other.text, other.finish_reason)
    np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


@every
def test_batch_equals_alone_and_n_shares_seeds(local, name):
    for temperature in (0.0, 0.9):
        sampling = drawn_how(name, temperature, n=3)
        together = local.generate(PROMPTS, sampling)
        for prompt, wanted in zip(PROMPTS, together):
            for one, other in zip(local.generate([prompt], sampling)[0], wanted):
                same(one, other)
        few = Local(local.model, local.renderer.tokenizer, max_rows=2).generate(PROMPTS, sampling)
        for one, other in zip(chain(*few), chain(*together)):
            same(one, other)
        if temperature == 0:
            assert all(answer.token_ids == row[0].token_ids for row in together for answer in row)


@every
def test_written_token_by_token_they_are_the_same(local, name):
    """A program beside others draws what the sampler draws, tells the same text, and log-probs of the same kind."""
    for temperature in (0.0, 0.9):
        sampling = drawn_how(name, temperature, n=2)
        places = [(i, k) for i in range(len(PROMPTS)) for k in range(2)]
        heard = {place: [] for place in places}
        listeners = [Listener(lambda *what, own=own: own.append(what), 0) for own in heard.values()]
        with Desk() as desk:
            starts = [
                partial(desk.answer, local, PROMPTS[i], k, sampling, one) for (i, k), one in zip(places, listeners)
            ]
            made = run(starts)
        wanted = local.generate(PROMPTS, sampling)
        for (i, k), one in zip(places, made):
            same(one, wanted[i][k])
            tokens = [token for _, more in heard[i, k] for token in more]
            assert one.text.startswith("".join(text for text, _ in heard[i, k]))
            np.testing.assert_allclose([t.logprob for t in tokens], one.logprobs[: len(tokens)], atol=1e-4)


@every
def test_every_setting_changes_answers(local, name):
    """None is ignored: each changes what some prompt is answered, greedily or (min_p) at random."""
    temperature = 1.5 if name == "min_p" else 0.0
    plain = local.generate(PROMPTS, Sampling(max_tokens=16, temperature=temperature, seed=4, n=4))
    found = local.generate(PROMPTS, drawn_how(name, temperature, n=4))
    assert [[c.token_ids for c in row] for row in found] != [[c.token_ids for c in row] for row in plain]


def test_penalised_answers_follow_the_naive_loop(local):
    """Token by token with transformers' processors over plain forwards."""
    sampling = Sampling(
        max_tokens=14, temperature=0, repetition_penalty=1.6, logit_bias={40: 3.0}, min_tokens=5, logprobs=True
    )
    stops = sorted(local.renderer.stops)
    for prompt, (answer,) in zip(PROMPTS, local.generate(PROMPTS, sampling)):
        ids = local.renderer.prompt(prompt)
        hold = MinNewTokensLengthLogitsProcessor(len(ids), 5, stops, device="cpu")
        steps = [SequenceBiasLogitsProcessor({(40,): 3.0}), hold, RepetitionPenaltyLogitsProcessor(1.6)]
        row, logprobs = torch.tensor([ids]), []
        while row.shape[1] < len(ids) + 14 and (row.shape[1] == len(ids) or int(row[0, -1]) not in stops):
            with torch.no_grad():
                raw = local.model(input_ids=row).logits[:, -1].float()
            scores = raw
            for step in steps:
                scores = step(row, scores)
            row = torch.cat([row, scores.argmax(-1, keepdim=True)], -1)
            logprobs.append(float(raw.log_softmax(-1)[0, row[0, -1]]))
        assert answer.token_ids == row[0, len(ids) :].tolist()
        np.testing.assert_allclose(answer.logprobs, logprobs, atol=1e-4)  # of the model's own distribution


CHOICES = ("the ship is late", "the ship", "no")


def test_an_answer_is_one_of_its_choices_and_ends_there(local):
    drawn = Sampling(temperature=3.0, n=20, max_tokens=32, choices=CHOICES, logprobs=True)
    for row in local.generate(PROMPTS, drawn):
        assert {answer.text for answer in row} <= set(CHOICES)
        assert all(answer.finish_reason is FinishReason.STOP for answer in row)
    cut = replace(drawn, max_tokens=3, choices=CHOICES[:1])
    for row in local.generate(PROMPTS, cut):
        assert all(CHOICES[0].startswith(answer.text) and answer.finish_reason is FinishReason.LENGTH for answer in row)


def test_choices_are_drawn_by_what_the_model_thinks_of_them(local):
    """Each token by its probability among those that are left, as one multiplies by hand."""
    prompt, choices = PROMPTS[1], ("yes it is", "no it is not", "no")
    start, ends = local.renderer.prompt(prompt), sorted(local.renderer.stops)
    spelt = [local.renderer.spelling.encode(text).ids for text in choices]
    chances = []
    for ids in spelt:
        chance = 1.0
        for k in range(len(ids) + 1):
            left = {other[k] for other in spelt if other[:k] == ids[:k] and len(other) > k}
            left |= set(ends) if ids[:k] in spelt else set()
            with torch.no_grad():
                logits = local.model(input_ids=torch.tensor([start + ids[:k]])).logits[0, -1].double()
            total = logits[sorted(left)].exp().sum()
            chance *= float(logits[ends if k == len(ids) else [ids[k]]].exp().sum() / total)
        chances.append(chance)
    assert sum(chances) == pytest.approx(1)
    (answers,) = local.generate([prompt], Sampling(choices=choices, n=600, max_tokens=32, seed=2))
    for text, chance in zip(choices, chances):
        share = sum(answer.text == text for answer in answers) / 600
        assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 600) ** 0.5 + 1e-9)


def test_choices_that_cannot_be_are_refused(local):
    for settings, words in [
        ({"choices": "yes"}, "list of non-empty"),
        ({"choices": ("",)}, "list of non-empty"),
        ({"choices": ("a",), "ignore_eos": True}, "goes with no ignore_eos"),
        ({"choices": ("a",), "schema": {}}, "goes with no schema"),
        ({"schema": "{"}, "is no JSON"),
        ({"schema": "[]"}, "no JSON object"),
        ({"top_logprobs": -1}, "top_logprobs"),
    ]:
        with pytest.raises(UsageError, match=words):
            Sampling(**settings)
    with pytest.raises(EngineError, match=r"nothing ends it|min_tokens forbids"):
        local.generate(PROMPTS, Sampling(choices=("no",), min_tokens=9, max_tokens=16))
    assert Sampling(choices=["b", "a", "b"]).choices == ("b", "a")
    assert Sampling(schema={"b": 1, "a": 2}).schema == Sampling(schema='{"b":1,  "a":2}').schema == '{"b": 1, "a": 2}'


def test_ends_wait_and_are_ignored(local):
    stops = local.renderer.stops
    bias = dict.fromkeys(stops, 30.0)
    ends = Sampling(max_tokens=12, temperature=0, logit_bias=bias)
    for (answer,) in local.generate(PROMPTS, ends):
        assert len(answer.token_ids) == 1
        assert (answer.text, answer.finish_reason) == ("", FinishReason.STOP)
    for (answer,) in local.generate(PROMPTS, Sampling(max_tokens=12, temperature=0, logit_bias=bias, min_tokens=5)):
        assert len(answer.token_ids) == 6
        assert not stops & set(answer.token_ids[:5])
        assert answer.text == local.renderer.decode(answer.token_ids[:5], raw=True)
    for (answer,) in local.generate(PROMPTS, Sampling(max_tokens=12, temperature=0, logit_bias=bias, ignore_eos=True)):
        assert len(answer.token_ids) == 12
        assert answer.finish_reason is FinishReason.LENGTH
        assert set(answer.token_ids) <= stops
        assert answer.text == ""


def test_text_goes_on_behind_an_ignored_end(local):
    (end,) = local.renderer.stops - {3} or local.renderer.stops
    ids = [10, 11, end, 12, 13]
    said = local.renderer.decode(ids, raw=True, through=True)
    assert said == local.renderer.decode([10, 11, 12, 13], raw=True)
    assert local.renderer.decode(ids, raw=True) == local.renderer.decode([10, 11], raw=True)


def test_tokens_of_ones_own_end_an_answer(local):
    for prompt in PROMPTS:
        ((whole,),) = local.generate([prompt], Sampling(max_tokens=10, temperature=0))
        own = whole.token_ids[len(whole.token_ids) // 2]
        at = whole.token_ids.index(own)
        ((cut,),) = local.generate([prompt], Sampling(max_tokens=10, temperature=0, stop_token_ids=(own,)))
        assert cut.token_ids == whole.token_ids[: at + 1]
        assert cut.text == local.renderer.decode(whole.token_ids[:at], raw=isinstance(prompt, str))
        assert cut.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("setting", [{"logit_bias": {99999: 1.0}}, {"stop_token_ids": (99999,)}])
def test_tokens_that_the_model_does_not_have(local, setting):
    (name,) = setting
    with pytest.raises(UsageError, match=f"sampling.{name}: names token 99999, and LlamaForCausalLM has tokens 0 to"):
        local.generate(PROMPTS, Sampling(**setting))


def endings(texts: tuple[str, ...], least: int) -> Endings:
    return Endings(lambda ids: "".join(map(chr, ids)), frozenset({0}), texts, least=least)


def test_a_stop_text_within_the_first_tokens_does_not_count():
    ids = list(map(ord, "ab ab ab"))
    for least, wanted in [(0, ("", 2)), (1, ("", 2)), (2, ("ab ", 5)), (4, ("ab ", 5)), (5, ("ab ab ", 8))]:
        own = endings(("ab",), least)
        reached = next(n for n in range(1, 9) if own.reached(ids[:n]))
        kept, text, ended = own.cut(ids[:reached])
        assert (text, len(kept), ended) == (*wanted, True)
        assert own.cut(ids)[:2] == (ids[: wanted[1]], wanted[0])
    own = endings(("ab",), 8)
    assert not own.reached(ids)
    assert own.cut(ids) == (ids, "ab ab ab", False)


def test_a_stop_text_that_is_over_in_the_least_and_one_behind_it():
    """ "bc" was complete early; "abcd", which began with it, counts as it is complete later."""
    own, ids = endings(("abcd", "bc"), 3), list(map(ord, "abcd"))
    assert not own.reached(ids[:3])
    assert own.reached(ids)
    assert own.cut(ids) == (ids, "", True)


@pytest.mark.parametrize("factor", [1e-300, 1e300])
@pytest.mark.parametrize("temperature", [1e-300, 1, 2])
def test_the_largest_penalties_leave_something_to_draw(factor, temperature):
    sampling = Sampling(temperature=temperature, repetition_penalty=factor, min_tokens=3, max_tokens=9)
    past = Past(sampling, PROMPT, ENDS)
    logits = logits_of(1)
    logits[:, 7] = 0
    assert edited(logits, sampling, [past]).amax() < 1e7
    (token,) = choose(logits, sampling, [0.5], [past]).tolist()
    likeliest = max(PROMPT, key=lambda one: float(logits[0, one]))
    assert token not in ENDS
    assert (token in PROMPT and logits[0, token] > 0) if factor < 1 else token not in PROMPT or token == likeliest
