"""DeAL: known answers on a Markov chain, the fast search finds what the naive one finds, and what it spares."""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny_models import build, build_tokenizer

import fairlead
from fairlead.engines import Local, Sampling
from fairlead.engines.rows import Rows
from fairlead.errors import DataError, EngineError, UnsupportedError, UsageError
from fairlead.rewards.base import Rewards

# A chain over a, b, c and E, the end; each row holds what follows.
CHAIN = {"a": (0.10, 0.55, 0.25, 0.10), "b": (0.50, 0.20, 0.10, 0.20), "c": (0.30, 0.30, 0.05, 0.35)}
SIX = Sampling(max_tokens=6, temperature=0, logprobs=True)


def model_of(rows):
    """A Llama without attention or feed-forward whose next token hangs on the last one alone, as the table says."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2, "E": 3}, []))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="E", pad_token="E")
    shape = {"num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 4, "hidden_size": 4}
    options = {"intermediate_size": 4, "max_position_embeddings": 64, "bos_token_id": None, "rms_norm_eps": 1e-12}
    model = LlamaForCausalLM(LlamaConfig(**shape, **options, eos_token_id=3, tie_word_embeddings=False)).eval()
    table = torch.tensor([*rows, (0.25,) * 4], dtype=torch.float64).log()
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(4))
        model.lm_head.weight.copy_((table.T / 2).float())  # the norm doubles a unit vector of four
    return Local(model, fast)


@pytest.fixture(scope="module")
def chain():
    return model_of(CHAIN.values())


@pytest.fixture(scope="module")
def short_chain():
    """One that leads from a over b and c to the end."""
    return model_of([(0.05, 0.5, 0.35, 0.1), (0.2, 0.1, 0.5, 0.2), (0.3, 0.2, 0.1, 0.4)])


@dataclass(frozen=True)
class HasC:
    """1 where the text has a c; `shift` and `scale` change it."""

    shift: float = 0.0
    scale: float = 1.0

    def __call__(self, prompts, completions):
        values = self.shift + self.scale * np.array([float("c" in text) for text in completions])
        return Rewards(values, np.zeros(len(values), dtype=bool))


@dataclass(frozen=True)
class BoundedHasC(HasC):
    def bounds(self, prompts, beginnings):
        return self(prompts, beginnings).values, np.full(len(prompts), self.shift + self.scale)


def deal(engine, reward, **fields):
    return fairlead.decoder("deal", engine=engine, heuristics=[{"reward": reward}], **fields)


def answer(engine, prompt="a", sampling=SIX, reward=None, **fields):
    ((found,),) = deal(engine, reward or HasC(), **fields).generate([prompt], sampling)
    return found


ways = pytest.mark.parametrize(
    ("reward", "mode"), [(HasC(), "naive"), (HasC(), "fast"), (BoundedHasC(), "fast")], ids=["naive", "fast", "bounded"]
)


@ways
@pytest.mark.parametrize(
    ("strength", "text", "logprob", "reason"),
    [(0, "bababa", -3.872953, "length"), (0.5, "bababa", -3.872953, "length"), (1, "c", -2.436116, "stop"),
     (2, "c", -2.436116, "stop")],
)  # fmt: skip
def test_known_answers(chain, reward, mode, strength, text, logprob, reason):
    found = answer(chain, k=3, lookahead=2, strength=strength, reward=reward, mode=mode)
    assert (found.text, found.finish_reason) == (text, reason)
    assert found.extra["logprob"] == pytest.approx(logprob, abs=1e-5)
    assert found.logprobs.sum() == pytest.approx(logprob, abs=1e-5)
    assert found.extra["heuristic"] == ("c" in text)
    assert len(found.token_ids) == len(found.logprobs) == (6 if text == "bababa" else 2)


@pytest.mark.parametrize("mode", ["naive", "fast"])
def test_known_scores(chain, mode):
    steps = answer(chain, k=3, lookahead=2, strength=1, trace=True, mode=mode).extra["steps"]
    told = [{"abcE"[c["ids"][-1]]: (c["text"], c["score"]) for c in step["candidates"]} for step in steps]
    assert [text for text, _ in told[0].values()] == ["bab", "c", "aba"]
    scores = {name: score for name, (_, score) in told[0].items()}
    assert scores == pytest.approx({"b": -0.597837, "c": -0.386294, "a": -2.302585}, abs=1e-5)
    scores = {name: score for name, (_, score) in told[1].items()}
    assert scores == pytest.approx({"E": -1.436116, "a": -1.590267, "b": -1.590267}, abs=1e-5)
    assert [step["chosen"] for step in steps] == [[1], [0]]


@ways
def test_known_beams(chain, reward, mode):
    found = answer(chain, k=3, lookahead=2, strength=1, beams=2, reward=reward, mode=mode, trace=True)
    steps = found.extra["steps"]
    assert len(steps) == 4
    first, second = (steps[-1]["candidates"][i] for i in steps[-1]["chosen"])
    assert ["".join("abcE"[i] for i in one["ids"]) for one in (first, second)] == ["cE", "bacE"]
    assert (second["logprob"], first["score"]) == pytest.approx((-3.727101, -1.436116), abs=1e-5)
    assert second["score"] in (pytest.approx(-2.727101, abs=1e-5), None)  # bounds may tell that it is the second
    assert second["score"] is not None or reward == BoundedHasC()
    assert found.text == "c"


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("lookahead", [0, 3])
def test_without_strength_it_is_greedy(chain, k, lookahead):
    ((greedy,),) = chain.generate(["a"], SIX)
    found = answer(chain, k=k, lookahead=lookahead, strength=0)
    assert (found.text, found.token_ids) == (greedy.text, greedy.token_ids)
    assert found.extra["stats"]["contested"] == 0


def test_only_differences_of_the_heuristic_matter_and_only_its_product_with_the_strength(chain):
    for strength in (0.5, 1.0):
        text = answer(chain, k=3, lookahead=2, strength=strength).text
        assert answer(chain, k=3, lookahead=2, strength=strength, reward=HasC(shift=8.0)).text == text
        assert answer(chain, k=3, lookahead=2, strength=strength / 4, reward=HasC(scale=4.0)).text == text


# --- fast and naive ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whim:
    """A value between 0 and 1 by chance, the same for the same text."""

    def __call__(self, prompts, completions):
        values = [zlib.crc32(text.encode()) % 1000 / 999 for text in completions]
        return Rewards(np.array(values), np.zeros(len(values), dtype=bool))


@pytest.fixture(scope="module")
def tiny():
    tokenizer = build_tokenizer()
    return Local(build("llama", len(tokenizer)), tokenizer)


def prompts(count=20):
    rng = random.Random(3)
    words = ["ship", "harbor", "noon", "wool", "salt", "lamps", "ferry", "captain"]
    return [" ".join(rng.choices(words, k=rng.randint(1, 6))) for _ in range(count)]


@dataclass(frozen=True)
class Letters:
    """The share of letters that a text has."""

    wanted: str

    def __call__(self, prompts, completions):
        values = np.array([np.mean([letter in text for letter in self.wanted]) for text in completions])
        return Rewards(values, np.zeros(len(values), dtype=bool))

    def bounds(self, prompts, beginnings):
        return self(prompts, beginnings).values, np.ones(len(prompts))


SHORT = {"name": "length_limit", "at_most": 10, "unit": "characters"}


def same(engine, sampling, heuristics, asked, **fields):
    fast, naive = (
        fairlead.decoder("deal", engine=engine, heuristics=heuristics, mode=mode, **fields).generate(asked, sampling)
        for mode in ("fast", "naive")
    )
    for (one,), (other,) in zip(fast, naive):
        assert (one.text, one.token_ids, one.finish_reason) == (other.text, other.token_ids, other.finish_reason)
        assert one.extra["logprob"] == pytest.approx(other.extra["logprob"], abs=1e-3)
        assert one.extra["heuristic"] == other.extra["heuristic"]
    tokens = [sum(a.extra["stats"]["tokens"] for (a,) in answers) for answers in (fast, naive)]
    assert tokens[0] < tokens[1]
    return fast


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("lookahead", [0, 4, 16])
@pytest.mark.parametrize("strength", [0, 0.5, 5])
def test_fast_finds_what_naive_finds(tiny, k, lookahead, strength):
    sampling = Sampling(max_tokens=5, temperature=0)
    reward = {"reward": Whim()} if k == 2 else {"reward": SHORT}
    heuristics = [reward, {"reward": Letters("etaoin sr")}]
    found = same(tiny, sampling, heuristics, prompts(), k=k, lookahead=lookahead, strength=strength)
    greedy = tiny.generate(prompts(), sampling)
    assert ([c.text for (c,) in found] == [c.text for (c,) in greedy]) is (strength == 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"beams": 3, "strength": 3},
        {"beams": 2, "strength": 3, "per_token": True, "commit": 3},
        {"commit": 4, "strength": 5},
        {"commit": 2, "strength": 0, "beams": 2},
        {"min_tokens": 4, "strength": 20, "beams": 2},
        {"strength": 5, "k": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("reward", [Whim(), Letters("etaoin sr")], ids=["chance", "bounded"])
def test_fast_finds_what_naive_finds_in_every_setting(tiny, fields, reward):
    """Stop texts that are there in no time, in tokens that may or may not end with them."""
    sampling = Sampling(max_tokens=7, temperature=0, stop=("s", "en"))
    heuristics = [{"reward": reward}, {"reward": SHORT, "weight": -0.5}]
    found = same(tiny, sampling, heuristics, prompts(6), **{"k": 3, "lookahead": 4, **fields})
    if fields["strength"] < 20:  # beyond, a text that would end early is avoided
        assert any(answer.finish_reason == "stop" for (answer,) in found)


@pytest.mark.parametrize("reward", [Whim(), Letters("abc"), Letters("ccccab")], ids=["chance", "letters", "rare"])
@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("commit", [1, 3])
@pytest.mark.parametrize("min_tokens", [0, 4])
def test_fast_finds_what_naive_finds_where_ends_are_likely(short_chain, reward, beams, commit, min_tokens):
    asked = ["a", "b", "c", "ba", "cc", "abcab"]
    for k, lookahead, strength in [(2, 2, 1.0), (4, 4, 3.0), (3, 3, 0.3)]:
        fields = {"k": k, "lookahead": lookahead, "strength": strength, "beams": beams, "commit": commit}
        same(short_chain, SIX, [{"reward": reward}], asked, min_tokens=min_tokens, **fields)


def test_fast_finds_what_naive_finds_with_keywords():
    words = {"name": "keywords", "find": "the words ([a-z, ]+)"}
    heuristics = [{"reward": words}, {"reward": {"name": "length_limit", "at_most": 6}, "weight": 0.5}]
    asked = [
        [{"role": "user", "content": f"make a note with the words {listed}."}]
        for listed in ("tea, salt and ada", "clara and wool", "red, dover, finn and iron")
    ]
    sampling = Sampling(max_tokens=20, temperature=0)
    same(fairlead.engine("harbor:base-300k"), sampling, heuristics, asked, k=3, lookahead=8, strength=10)


@pytest.mark.parametrize("strength", [0.2, 1, 5])
def test_candidates_of_choices_to_come_are_rolled_out_early(tiny, strength, monkeypatch):
    """Alone an answer has rows to spare: it takes fewer forwards, chooses the same, and keeps to the engine's rows."""
    alive, opened = [], Rows.open

    def noting(rows, *shifts):
        alive.append(len(rows.alive) + 1)
        return opened(rows, *shifts)

    monkeypatch.setattr(Rows, "open", noting)
    forwards = {}
    for most in (4, 12, 64):
        engine = Local(tiny.model, tiny.renderer.tokenizer, max_rows=most)
        alive.clear()
        found = [
            same(engine, Sampling(max_tokens=10, temperature=0, stop=("en",)), [{"reward": Whim()}], [prompt],
                 k=4, lookahead=6, strength=strength)[0][0]
            for prompt in prompts(6)
        ]  # fmt: skip
        assert max(alive) <= most
        forwards[most] = sum(answer.extra["stats"]["forwards"] for answer in found)
    assert forwards[4] > forwards[12] >= forwards[64]


def test_what_the_fast_search_spares(chain):
    """Every row but that of the likeliest candidate is rolled out; bounds spare the rest; naive reads all anew."""
    sampling = Sampling(max_tokens=6, temperature=0)
    read = {"k": 2, "lookahead": 2, "strength": 1e-9}
    # After a the candidates are b and c, and after c comes the end at once; after b they are a and b. The likeliest one
    # is always the one that the last choice rolled out; near the limit there is less to look at.
    tokens = {"prompt": 1, "b, c": 2 + 1, "a, b": 1 + 2, "b, c again": 1 + 1, "a, b again": 1 + 2, "c": 1, "last": 0}
    whole = answer(chain, "a", sampling, reward=HasC(), **read)
    assert whole.text == "bababa"
    told = whole.extra["stats"]
    assert (told["tokens"], told["steps"], told["contested"]) == (sum(tokens.values()), 6, 6)
    assert told["scored"] == 2 * 6 - 2  # "bababa" lies ahead at three places
    bounded = answer(chain, "a", sampling, reward=BoundedHasC(), **read)
    assert bounded.text == "bababa"
    told = bounded.extra["stats"]
    assert (told["tokens"], told["contested"], told["scored"]) == (6, 0, 0)
    naive = answer(chain, "a", sampling, reward=HasC(), mode="naive", **read)
    # At place t, counted from 0: the beginning; then each candidate with its beginning, unless it is the last token.
    looks = [(2, 1), (2, 2), (2, 1), (2, 2), (1, 1), (0, 0)]
    beginnings = sum(1 + t for t in range(6))
    assert naive.extra["stats"]["tokens"] == beginnings + sum(
        1 + t + n for t, two in enumerate(looks) for n in two if n
    )


# --- ends, prompts, parts ---------------------------------------------------------------------------------------------


def test_an_answer_is_not_cut_short_to_please(chain):
    """With a reward for brevity the search ends at once, unless it may not."""

    @dataclass(frozen=True)
    class Brief:
        def __call__(self, prompts, completions):
            return Rewards(np.array([-len(text) for text in completions]), np.zeros(len(completions), dtype=bool))

    fields = {"reward": Brief(), "k": 4, "lookahead": 3, "strength": 50}
    assert answer(chain, **fields).text == ""
    for mode in ("fast", "naive"):
        found = answer(chain, min_tokens=3, mode=mode, **fields)
        assert len(found.text) == 3
        assert found.finish_reason == "stop"


def test_the_instruction_is_for_the_model_alone(chain):
    seen = []

    @dataclass(frozen=True)
    class Listening(HasC):
        def __call__(self, prompts, completions):
            seen.extend(prompts)
            return super().__call__(prompts, completions)

    found = answer(chain, "b", reward=Listening(), k=3, lookahead=2, strength=0.1, instruction="c")
    assert set(seen) == {"b"}
    assert found.text == answer(chain, "c\nb", k=3, lookahead=2, strength=0.1).text


def test_rewards_that_abstain(chain):
    @dataclass(frozen=True)
    class Silent:
        def __call__(self, prompts, completions):
            return Rewards(np.zeros(len(completions)), np.ones(len(completions), dtype=bool))

        def bounds(self, prompts, beginnings):
            return np.full(len(prompts), np.nan), np.full(len(prompts), np.nan)

    with pytest.raises(DataError, match="'a'"):
        answer(chain, reward=Silent())
    both = [{"reward": Silent(), "otherwise": 0.0}, {"reward": BoundedHasC()}]
    ((found,),) = fairlead.decoder("deal", engine=chain, heuristics=both, k=3, lookahead=2).generate(["a"], SIX)
    assert found.text == "c"


def test_weights_decide(chain):
    def found(has_c, brief):
        heuristics = [
            {"reward": HasC(), "weight": has_c},
            {"reward": {"name": "length_limit", "at_least": 6, "unit": "characters"}, "weight": brief},
        ]
        return fairlead.decoder("deal", engine=chain, heuristics=heuristics, k=4, lookahead=5).generate(["a"], SIX)[0][
            0
        ]

    assert found(2, 0).text == "c"
    assert found(0, 2).text == "bababa"
    assert "c" in found(4, 8).text
    assert len(found(4, 8).text) == 6


def test_what_makes_no_sense(chain):
    for fields, match in [
        ({"k": 0}, "k is 0"),
        ({"beams": 0}, "beams is 0"),
        ({"lookahead": -1}, "lookahead is -1"),
        ({"commit": 4, "lookahead": 2}, "commit takes 4 tokens of which the heuristics see 3"),
        ({"strength": -1}, "strength is -1"),
        ({"strength": math.inf}, "strength is inf"),
        ({"mode": "slow"}, "mode"),
    ]:
        with pytest.raises(UsageError, match=match):
            deal(chain, HasC(), **fields)
    with pytest.raises(UsageError, match="looks for nothing"):
        fairlead.decoder("deal", engine=chain, heuristics=[])
    with pytest.raises(UsageError, match="temperature is 1"):
        deal(chain, HasC()).generate(["a"], Sampling())
    with pytest.raises(EngineError, match="reads at most 64"):
        deal(chain, HasC()).generate(["a" * 64], SIX)
    inner = {"name": "best_of_n", "engine": "harbor:base-300k", "reward": "harbor"}
    with pytest.raises(UnsupportedError, match="out of reach"):
        deal(inner, HasC()).generate(["a"], SIX)


def test_an_answer_ends_where_the_model_does(chain):
    """62 tokens of prompt leave room for two, and none for a look beyond."""
    found = answer(chain, "a" * 62, k=3, lookahead=4)
    assert found.token_ids == answer(chain, "a" * 62, k=3, lookahead=4, mode="naive").token_ids
    assert len(found.token_ids) == 2
