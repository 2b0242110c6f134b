"""How long it takes to weigh several rewards: over advantages, whatever the model, and over its gradients.

    OMP_NUM_THREADS=1 python benchmarks/pama.py

First the objective's own share: `join` of raw advantages of 2, 3 and 10 rewards over a rollout of 128 completions of
256 tokens, by token and exactly. Then, for three rewards and Harbor's three sizes of model, one step's passes: PAMA's
one, and MGDA's one per reward with the weights from their gradients.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

import fairlead
from fairlead import models
from fairlead.training.min_norm import mgda

ROWS, TOKENS = 128, 256
PROMPT, BATCH = 32, 16
SIZES = ("300k", "1m", "3m")


def milliseconds(run: Callable[[], object], repeat: int = 7) -> float:
    """Return the median of several runs' CPU time, after one that does not count."""
    run()
    found = []
    for _ in range(repeat):
        began = time.process_time()
        run()
        found.append(1000 * (time.process_time() - began))
    return statistics.median(found)


def joining(rewards: int) -> dict[str, float]:
    """Return the milliseconds of each granularity."""
    rng = torch.Generator().manual_seed(0)
    raw = torch.randn(rewards, ROWS, TOKENS, dtype=torch.float64, generator=rng)
    mask = torch.ones(ROWS, TOKENS, dtype=torch.bool)
    names = tuple(f"r{k}" for k in range(rewards))
    kinds = {"token": {}, "vector_qp": {"granularity": "vector_qp", "noon": False}}
    made = {kind: fairlead.objective("pama", **fields) for kind, fields in kinds.items()}
    return {kind: milliseconds(lambda m=method: m.join(raw, mask, names)) for kind, method in made.items()}


def passes(size: str, rewards: int = 3) -> tuple[int, float, float, float]:
    """Return a model's parameters, and the milliseconds of one pass, of all of MGDA's, and of MGDA's weights alone."""
    model = models.load_model(f"harbor:base-{size}", device="cpu")
    parameters = [p for p in model.parameters() if p.requires_grad]
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (BATCH, PROMPT), generator=rng)
    weights = torch.randn(rewards, BATCH, PROMPT - 1, generator=rng)

    def gradient(advantage: torch.Tensor) -> torch.Tensor:
        logprobs = model(input_ids=ids).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
        found = torch.autograd.grad((advantage * logprobs).mean(), parameters)
        return torch.cat([g.flatten() for g in found])

    table = torch.stack([gradient(one) for one in weights])
    one = milliseconds(lambda: gradient(weights[0]), 3)
    several = milliseconds(lambda: mgda(torch.stack([gradient(w) for w in weights])), 3)
    return table.shape[1], one, several, milliseconds(lambda: mgda(table))


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    print(f"joining, ms of CPU, {ROWS} x {TOKENS} tokens")
    for rewards in (2, 3, 10):
        print(f"  {rewards:2d} rewards: " + ", ".join(f"{kind} {ms:.1f}" for kind, ms in joining(rewards).items()))
    print(f"three rewards, ms of CPU, {BATCH} x {PROMPT} tokens")
    for size in SIZES:
        parameters, one, several, alone = passes(size)
        print(
            f"  {size}: {parameters} parameters, one pass {one:.0f}, MGDA {several:.0f}, its weights alone {alone:.1f}"
        )


if __name__ == "__main__":
    main()
