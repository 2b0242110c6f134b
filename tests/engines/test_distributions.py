"""What distributions say along answers: by definition, step by step, once per answer, without big tensors."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import build, build_tokenizer
from torch.utils._python_dispatch import TorchDispatchMode

from fairlead.engines import distributions
from fairlead.engines.base import Sampling
from fairlead.engines.cache import Cache
from fairlead.engines.distributions import Distributed, TokenStats, View, reads, tell
from fairlead.engines.http import Http
from fairlead.engines.local import Local
from fairlead.errors import EngineError, UnsupportedError, UsageError

SHIPS = [[{"role": "user", "content": f"where is ship {word}?"}] for word in ("one", "two two", "three")]
BASE = [[2, 1, 0.5, 0, -1], [0, 3, 1, 2, -1], [1, 0.9, 0.8, 0.7, 0.6], [0.2, 0.1, 2.5, 0, -0.3], [0, 0.5, 1, 1.5, 2]]
ALIGNED = [[2.5, 0.5, 0, -1, -1], [0, 1, 1, 4, -1], [0, 0, 0, 3, 0.5], [0, 0, 3, 0, 0], [0, 0, 3.5, 1, 0]]
CHOSEN = [0, 3, 3, 2, 2]


def told(rows, targets, view=View(), other=None):
    logits = [torch.tensor(np.array(side), dtype=torch.float32) for side in (rows, other) if side is not None]
    found = tell(logits, torch.tensor(targets), view)
    return [{name: values.numpy() for name, values in side.items()} for side in found]


@pytest.fixture(scope="module")
def pair(families, tokenizer):
    torch.manual_seed(3)
    other = build("gpt2", len(tokenizer))
    return Local(families("llama"), tokenizer), Local(other, tokenizer)


@pytest.fixture(scope="module")
def answers(pair):
    drawn = pair[0].generate(SHIPS, Sampling(max_tokens=12, n=2, seed=1))
    return [completion.token_ids for group in drawn for completion in group]


ASKED = [prompt for prompt in SHIPS for _ in range(2)]


def test_ranks_probabilities_and_divergences_of_the_worked_example():
    base, aligned = told(BASE, CHOSEN, other=ALIGNED)
    assert base["rank"].tolist() == [1, 2, 4, 1, 3]
    assert aligned["rank"].tolist() == [1, 1, 1, 1, 1]
    assert np.exp(base["logprob"]) == pytest.approx([0.563021, 0.234122, 0.179171, 0.749697, 0.157694], abs=1e-6)
    assert base["divergence"] == pytest.approx([0.131775, 1.470112, 0.990115, 0.026834, 1.453084], abs=1e-6)
    assert aligned["divergence"] == pytest.approx([0.111872, 1.024289, 0.963124, 0.023437, 1.220310], abs=1e-6)


def test_a_model_beside_itself():
    for side in told(BASE, np.argmax(BASE, -1), other=BASE):
        assert side["rank"].tolist() == [1] * 5
        assert side["divergence"].tolist() == [0] * 5


def test_ranks_outlive_scaling_and_probabilities_do_not():
    plain, scaled = told(BASE, CHOSEN)[0], told(np.array(BASE) * 3 + 2, CHOSEN)[0]
    assert scaled["rank"].tolist() == plain["rank"].tolist()
    assert abs(scaled["logprob"] - plain["logprob"]).max() > 0.1


def test_ties_get_the_best_rank():
    assert told([[1, 1, 1, 0]], [2])[0]["rank"].tolist() == [1]


@pytest.mark.parametrize(
    ("top_p", "kept", "entropy"), [(0.9, 4, 1.136917), (1.0, 5, 1.299651), (0.5, 1, 0.0), (0.76, 3, None)]
)
def test_the_nucleus_of_known_probabilities(top_p, kept, entropy):
    probs = [0.5, 0.25, 0.125, 0.0625, 0.0625]
    (found,) = told([np.log(probs)], [1], View(top_p=top_p))
    assert found["kept"].tolist() == [kept]
    if entropy is not None:
        assert found["kept_entropy"][0] == pytest.approx(entropy, abs=1e-6)
    share = 0.25 / (sum(probs[:kept]) + (0.25 if kept < 2 else 0))
    assert found["kept_logprob"][0] == pytest.approx(math.log(share), abs=1e-6)
    assert found["inside"].tolist() == [kept >= 2]


def test_sums_that_reach_the_nucleus_but_for_rounding():
    assert told([np.log([0.6, 0.3, 0.1])], [0], View(top_p=0.9))[0]["kept"].tolist() == [2]


def test_a_token_as_likely_as_the_last_one_kept_is_inside():
    (found,) = told([np.log([0.4, 0.2, 0.2, 0.2])], [3], View(top_p=0.6))
    assert (found["kept"].tolist(), found["inside"].tolist()) == ([2], [True])
    assert found["kept_logprob"][0] == pytest.approx(math.log(0.2 / 0.6), abs=1e-6)


def test_of_equally_likely_tokens_the_first_are_told():
    (found,) = told([[0, 0, 3, 0, 0], [1, 2, 1, 2, 1]], [0, 0], View(top_k=3))
    assert found["top_ids"].tolist() == [[2, 0, 1], [1, 3, 0]]


def test_impossible_tokens_do_no_harm():
    for side in told([[0.0, 1.0, -math.inf]], [1], View(top_p=0.9, top_k=3), other=[[1.0, 0.0, -math.inf]]):
        assert all(np.isfinite(values).all() for name, values in side.items() if name != "top_logprobs")


@pytest.mark.parametrize("size", [7, 3000])
def test_order_of_ids_and_constants_change_nothing_and_more_mass_is_more_entropy(size):
    rng = np.random.default_rng(size)
    rows, targets, order = rng.normal(0, 2, (20, size)), rng.integers(0, size, 20), rng.permutation(size)
    before = np.full(20, -1.0)
    for top_p in (0.2, 0.5, 0.9, 0.999, 1.0):
        plain = told(rows, targets, View(top_p=top_p))[0]
        moved = told(rows[:, order] + 7, np.argsort(order)[targets], View(top_p=top_p))[0]
        for name in ("rank", "logprob", "entropy", "kept", "kept_entropy", "kept_logprob", "inside"):
            assert moved[name] == pytest.approx(plain[name], abs=2e-5), name
        assert (plain["kept_entropy"] >= before - 1e-5).all()
        assert (plain["kept_entropy"] <= np.log(plain["kept"]) + 1e-5).all()
        before = plain["kept_entropy"]


def test_temperature_divides_the_logits():
    warm, divided = told(BASE, CHOSEN, View(temperature=2, top_p=0.8))[0], np.array(BASE) / 2
    plain = told(divided, CHOSEN, View(top_p=0.8))[0]
    assert all(np.array_equal(warm[name], plain[name]) for name in plain)


def test_one_forward_of_a_row_says_what_steps_with_a_cache_say(pair, answers):
    engine, view = pair[0], View(top_p=0.9, temperature=0.8, top_k=3)
    for prompt, answer, stats in zip(ASKED, answers, engine.token_stats(ASKED, answers, view)):
        with engine.rows() as rows:
            row = rows.open()
            steps = [rows.serve([rows.feed(row, ids, last=1).what])[0].logits for ids in _steps(engine, prompt, answer)]
        (slow,) = tell([torch.cat(steps)], torch.tensor(answer), view)
        for name, values in slow.items():
            assert getattr(stats, name) == pytest.approx(values.numpy(), abs=1e-5), name


def _steps(engine, prompt, answer):
    return [engine.renderer.prompt(prompt), *([token] for token in answer[:-1])]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mistral"])
def test_every_family_agrees_with_its_own_logits(families, tokenizer, answers, family):
    engine = Local(families(family), tokenizer, max_batch_tokens=90)
    for prompt, answer, stats in zip(ASKED, answers, engine.token_stats(ASKED, answers, View(top_p=0.9))):
        ids = engine.renderer.prompt(prompt)
        with torch.no_grad():
            logits = engine.model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1]
        (plain,) = tell([logits], torch.tensor(answer), View(top_p=0.9))
        assert stats.logprob == pytest.approx(plain["logprob"].numpy(), abs=1e-4)
        assert stats.kept_entropy == pytest.approx(plain["kept_entropy"].numpy(), abs=1e-3)


def test_two_models_behind_prompts_of_their_own(pair, answers):
    first, second = pair
    texts = [f"Q: {prompt[0]['content']} A:" for prompt in ASKED]
    both = first.token_stats_beside(second, ASKED, texts, answers, View())
    alone = first.token_stats(ASKED, answers, View()), second.token_stats(texts, answers, View())
    for (one, other), one_alone, other_alone in zip(both, *alone):
        assert one.logprob == pytest.approx(one_alone.logprob, abs=1e-5)
        assert other.rank.tolist() == other_alone.rank.tolist()
        assert min(one.divergence.min(), other.divergence.min()) > 0
    for one, other in first.token_stats_beside(first, ASKED, ASKED, answers, View()):
        assert abs(one.divergence).max() == abs(other.divergence).max() == 0


class Counted:
    """Counts the tokens that pass through a model, forward by forward."""

    def __init__(self, engine):
        self.sizes: list[int] = []
        model = engine._policy.plain.base_model
        self.hook = model.register_forward_hook(self.note, with_kwargs=True)

    def note(self, module, inputs, options, output):
        self.sizes.append(output.last_hidden_state.shape[:-1].numel())


@pytest.mark.slow
def test_a_thousand_answers_are_read_once_by_each_model(pair):
    rng = np.random.default_rng(0)
    answers = [rng.integers(10, 300, 5).tolist() for _ in range(1000)]
    prompts = [f"ship {k}" for k in range(1000)]
    for budget in (1, 8192):
        for side in pair:
            side.max_batch_tokens = budget
            side.token_stats(prompts[:2], answers[:2], View())
        counts = [Counted(side) for side in pair]
        pair[0].token_stats_beside(pair[1], prompts, prompts, answers, View(top_p=0.9))
        tokens = sum(len(pair[0].renderer.prompt(p)) + 5 for p in prompts)
        for count in counts:
            count.hook.remove()
            assert sum(count.sizes) == tokens
            assert len(count.sizes) == 1000 if budget == 1 else len(count.sizes) <= 2 * tokens / budget
    for side in pair:
        side.max_batch_tokens = 8192


def test_what_samples_share_is_read_once(pair):
    answers = [[20, 21, 22], [20, 21, 22], [30, 31]]
    pair[0].token_stats(["ship"], [[20]], View())
    count = Counted(pair[0])
    found = pair[0].token_stats(["ship"] * 3, answers, View())
    count.hook.remove()
    assert count.sizes == [len(pair[0].renderer.prompt("ship")) + 5]
    assert np.array_equal(found[0].logprob, found[1].logprob)


class Largest(TorchDispatchMode):
    """Notes the most elements of any tensor that is made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return made


def test_no_tensor_of_tokens_by_vocabulary_is_made(monkeypatch):
    tokenizer, vocabulary = build_tokenizer(), 20_000
    sides = [Local(build("llama", vocabulary, hidden_size=16), tokenizer) for _ in range(2)]
    answers = [np.random.default_rng(k).integers(10, 300, 40).tolist() for k in range(10)]
    monkeypatch.setattr(distributions, "ELEMENTS", 20 * vocabulary)
    prompts = [f"ship {k}" for k in range(10)]
    # A model's output head is checked once, on a few tokens.
    sides[0].token_stats_beside(sides[1], prompts[:1], prompts[:1], [[20]], View())
    with Largest() as largest:
        sides[0].token_stats_beside(sides[1], prompts, prompts, answers, View(top_p=0.9, top_k=10))
    assert largest.elements <= 20 * vocabulary == 400 * vocabulary / 20


MEMORY = """
import resource, sys
import numpy as np
sys.path.insert(0, {tests!r})
from tiny_models import build, build_tokenizer
from fairlead.engines import distributions
from fairlead.engines.local import Local

distributions.ELEMENTS = 1 << 18
engine = Local(build("llama", {vocabulary}, hidden_size=16, max_position_embeddings=512), build_tokenizer())
prompts = [f"ship {{k}}" for k in range(10)]
answers = [np.random.default_rng(k).integers(10, 300, 60).tolist() for k in range(10)]
view = distributions.View(top_k=10)
engine.token_stats(prompts[:1], [answers[0][:20]], view)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine.token_stats_beside(engine, prompts, prompts, answers, view)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_tokens_by_vocabulary():
    vocabulary = 30_000
    program = MEMORY.format(tests=str(Path(__file__).parents[1]), vocabulary=vocabulary)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    grown = int(done.stdout.split()[-1]) * 1024
    assert grown < 600 * vocabulary * 4 / 2


def test_other_tokenizers_are_refused(pair):
    other = build_tokenizer()
    other.add_tokens(["quay"])
    stranger = Local(build("llama", len(other)), other)
    with pytest.raises(UnsupportedError, match="different tokenizers"):
        pair[0].token_stats_beside(stranger, ["a"], ["a"], [[20]], View())
    wider = Local(build("llama", 400), build_tokenizer())
    with pytest.raises(UnsupportedError, match="columns"):
        pair[0].token_stats_beside(wider, ["a"], ["a"], [[20]], View())


def test_bad_input(pair):
    engine = pair[0]
    assert engine.token_stats([], [], View()) == []
    with pytest.raises(UsageError, match="missing or empty"):
        engine.token_stats(["a", "b"], [[20], []], View())
    with pytest.raises(UsageError, match="missing or empty"):
        engine.token_stats(["a"], [], View())
    with pytest.raises(EngineError, match="reads at most"):
        engine.token_stats(["a"], [[20] * 500], View())
    for setting in ({"top_p": 0}, {"temperature": 0}, {"top_k": -1}):
        with pytest.raises(UsageError, match=f"view.{next(iter(setting))}"):
            View(**setting)


def test_who_reads_for_an_engine(pair, tmp_path):
    from fairlead import catalog

    engine = pair[0]
    assert isinstance(engine, Distributed)
    asked = [[{"role": "user", "content": "hello"}]]
    kind = {"examples": "harbor", "layout": "chat", "k": 1, "system": "{{ 'be kind' }}"}
    urial = catalog.build("decoder", "urial", engine=engine, **kind)
    behind, prompts = reads(Cache(urial, tmp_path / "answers"), "kind", asked)
    assert behind is engine
    assert prompts == [urial.assemble(asked[0])]
    assert len(prompts[0]) == 4
    written = catalog.build("decoder", "urial", engine=engine, examples="harbor", layout="lines")
    several = catalog.build("decoder", "best_of_n", engine=engine, reward="harbor", n=2)
    server = Http("http://localhost:9/v1", model="far")
    for other in (written, several, Cache(server, tmp_path / "far")):
        with pytest.raises(UnsupportedError, match=r"engine far: is a \w+, whose next-token distributions"):
            reads(other, "far", asked)


def test_results_are_plain_arrays(pair, answers):
    stats: TokenStats = pair[0].token_stats(ASKED[:1], answers[:1], View(top_k=4))[0]
    length = len(answers[0])
    assert stats.rank.dtype == stats.kept.dtype == stats.top_ids.dtype == np.int32
    assert stats.top_ids.shape == stats.top_logprobs.shape == (length, 4)
    assert stats.inside.all()
    assert (stats.top_logprobs[:, 0] >= stats.logprob - 1e-6).all()
