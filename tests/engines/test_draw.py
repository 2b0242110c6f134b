from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from fairlead.engines.base import Sampling
from fairlead.engines.draw import choose, row_generator, token_logprob


def kept_probs(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """The distribution that sampling should have, token by token."""
    scaled = logits / temperature
    order = np.argsort(-scaled)
    probs = np.exp(scaled - scaled.max())
    if top_k:
        probs[order[top_k:]] = 0
    probs /= probs.sum()
    kept, total = np.zeros(len(probs), dtype=bool), 0.0
    for token in order:
        if total >= top_p:
            break
        kept[token] = True
        total += probs[token]
    probs[~kept] = 0
    return probs / probs.sum()


@pytest.mark.parametrize("size", [5, 300, 3000])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1, 0, 1), (0.5, 0, 1), (1.5, 4, 1), (1, 0, 0.7), (2, 50, 0.9)]
)
def test_draws_follow_the_distribution(size, temperature, top_k, top_p):
    rng = np.random.default_rng(size)
    logits = rng.normal(0, 2, size).astype(np.float32)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    count = 20_000
    rows = torch.from_numpy(logits).expand(500, size)
    drawn = np.concatenate([choose(rows, sampling, rng.random(500)).numpy() for _ in range(count // 500)])
    wanted = kept_probs(logits.astype(np.float64), temperature, top_k, top_p)
    assert (wanted[drawn] > 0).all()
    common = np.flatnonzero(wanted * count >= 10)
    observed = np.bincount(drawn, minlength=size)
    rest = [observed.sum() - observed[common].sum()], [count - wanted[common].sum() * count]
    seen, due = np.append(observed[common], rest[0]), np.append(wanted[common] * count, rest[1])
    if due[-1] < 5:
        seen, due = seen[:-1], due[:-1] * seen[:-1].sum() / due[:-1].sum()
    if len(seen) > 1:
        assert stats.chisquare(seen, due).pvalue > 1e-4


@pytest.mark.parametrize("size", [3, 256, 257, 1000])
def test_the_inverse_transform_is_exact(size):
    """The token drawn is the first whose running sum passes the number, ends included; tokens of no share never are."""
    rng = np.random.default_rng(1)
    weights = rng.random(size)
    weights[rng.random(size) < 0.4] = 0
    weights[size // 2] = 1
    probs = torch.from_numpy((weights / weights.sum()).astype(np.float32))
    sums = probs.double().cumsum(0).numpy() / probs.double().sum().item()
    numbers = [0.0, np.nextafter(1.0, 0.0), *rng.random(200)]
    logits = probs.log().expand(len(numbers), size)
    found = choose(logits, Sampling(), numbers).numpy()
    assert (weights[found] > 0).all()
    wanted = [min(int((sums <= u).sum()), int(np.flatnonzero(weights)[-1])) for u in numbers]
    near = [abs(sums - u).min() < 1e-6 for u in numbers]
    assert all(a == b or close for a, b, close in zip(found, wanted, near))
    assert sum(near) <= 3


def test_greedy_takes_the_first_of_equals():
    logits = torch.tensor([[0.0, 3.0, 3.0], [5.0, 1.0, 5.0]])
    assert choose(logits, Sampling(temperature=0), []).tolist() == [1, 0]


def test_token_logprob_is_of_the_untempered_distribution():
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * 3
    tokens = torch.tensor([0, 7, 49, 3])
    wanted = logits.double().log_softmax(-1)[torch.arange(4), tokens]
    torch.testing.assert_close(token_logprob(logits, tokens).double(), wanted, atol=1e-5, rtol=0)
    coarse = token_logprob(logits.bfloat16(), tokens)
    assert coarse.dtype == torch.float32


def test_generators_differ_by_seed_prompt_and_index():
    keys = [
        (0, [1, 2], 0),
        (1, [1, 2], 0),
        (0, [1, 2], 1),
        (0, [1, 3], 0),
        (0, [1], 0),
        (-1, [1, 2], 0),
        (2**70, [1, 2], 0),
    ]
    drawn = [row_generator(*key).random(4).tolist() for key in keys]
    assert len({tuple(row) for row in drawn}) == len(keys)
    assert row_generator(0, (1, 2), 0).random(4).tolist() == drawn[0]
    assert stats.kstest(row_generator(5, [1], 0).random(4000), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("temperature", [1e-12, 1e-45, 1e-300])
def test_the_lowest_temperatures_draw_the_likeliest_token(temperature):
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)) * 40
    sampling = Sampling(temperature=temperature)
    assert choose(logits, sampling, np.linspace(0, 0.999, 50)).tolist() == logits.argmax(-1).tolist()
