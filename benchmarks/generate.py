"""The local engine beside transformers' generate() and a bare greedy loop: tokens per second, in one process.

    OMP_NUM_THREADS=1 python benchmarks/generate.py [--models S M] [--batches 1 8 32] [--new 48] [--repeat 5]

Prompts of 64 random tokens, greedy, every row as long as the others (the easiest case for the peers), random weights.
The three take turns; the best of each is shown. Seconds are this process's CPU time on one thread, which others disturb
least; with more threads give --clock wall. "ragged" is the case that engines meet: 32 prompts of 16-256 tokens, 4
samples each, sampled, ends drawn at random; generate() gets them sorted by length in padded batches of 32. "alike" is a
prompt with examples: 32 prompts of 544 tokens, the first 512 the same, greedy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from shapes import SHAPES, random_model, saved
from transformers import DynamicCache

from fairlead.engines import Local, Sampling
from fairlead.harbor.tokenizer import build_tokenizer


def engine(net, rows: int, stops: frozenset[int] = frozenset()) -> Local:
    """The engine on a saved model, as users have it. Random weights end no turn, so stops are set by hand."""
    local = saved(net, build_tokenizer(), max_rows=rows, max_batch_tokens=16384)
    local.renderer.stops = stops
    return local


def plain(net, ids: torch.Tensor, new: int) -> torch.Tensor:
    return net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)[
        :, ids.shape[1] :
    ]


@torch.inference_mode()
def bare(net, ids: torch.Tensor, new: int) -> None:
    cache, token = DynamicCache(config=net.config), ids
    for _ in range(new):
        token = net(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1:].argmax(-1)


def alternate(runs: dict[str, Callable], repeat: int, clock: Callable[[], float]) -> dict[str, float]:
    """The least seconds of each, taking turns."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: min(values) for name, values in seconds.items()}


def even(name: str, dtype: torch.dtype, batch: int, options: argparse.Namespace, clock) -> str:
    net = random_model(name, dtype)
    torch.manual_seed(0)
    ids = torch.randint(3, net.config.vocab_size, (batch, 64))
    local, rows = engine(net, batch), ids.tolist()
    sampling = Sampling(max_tokens=options.new, temperature=0)
    if dtype is torch.float32:
        made = [answers[0].token_ids for answers in local.generate_ids(rows, sampling)]
        assert made == plain(net, ids, options.new).tolist(), "the engine and generate() differ"
    runs = {
        "generate": lambda: plain(net, ids, options.new),
        "bare": lambda: bare(net, ids, options.new),
        "engine": lambda: local.generate_ids(rows, sampling),
    }
    took = alternate(runs, options.repeat, clock)
    speed = {k: batch * options.new / v for k, v in took.items()}
    return _line(name, dtype, f"batch {batch}", speed)


def ragged(name: str, dtype: torch.dtype, options: argparse.Namespace, clock) -> str:
    net = random_model(name, dtype)
    torch.manual_seed(1)
    prompts = [torch.randint(3, net.config.vocab_size, (int(n),)).tolist() for n in torch.randint(16, 257, (32,))]
    stops = list(range(3, 3 + net.config.vocab_size // 40))  # one draw in forty ends a row
    local = engine(net, 32, frozenset(stops))
    sampling = Sampling(max_tokens=128, n=4)
    made = {"generate": 0, "engine": 0}

    def theirs() -> None:
        rows = sorted((p for p in prompts for _ in range(sampling.n)), key=len)
        made["generate"] = 0
        for start in range(0, len(rows), 32):
            part = rows[start : start + 32]
            width = max(map(len, part))
            ids = torch.tensor([[0] * (width - len(p)) + p for p in part])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in part])
            out = net.generate(ids, attention_mask=mask, max_new_tokens=128, do_sample=True, top_k=0,
                               eos_token_id=stops, pad_token_id=0)  # fmt: skip
            made["generate"] += int((out[:, width:] != 0).sum())

    def ours() -> None:
        made["engine"] = sum(len(c.token_ids or ()) for row in local.generate_ids(prompts, sampling) for c in row)

    took = alternate({"generate": theirs, "engine": ours}, max(1, options.repeat // 2), clock)
    return _line(name, dtype, "ragged", {k: made[k] / v for k, v in took.items()})


def alike(name: str, dtype: torch.dtype, options: argparse.Namespace, clock) -> str:
    net = random_model(name, dtype)
    torch.manual_seed(2)
    ids = torch.randint(3, net.config.vocab_size, (32, 544))
    ids[:, :512] = ids[0, :512]
    local, rows = engine(net, 32), ids.tolist()
    sampling = Sampling(max_tokens=options.new, temperature=0)
    if dtype is torch.float32:
        made = [answers[0].token_ids for answers in local.generate_ids(rows, sampling)]
        assert made == plain(net, ids, options.new).tolist(), "the engine and generate() differ"
    runs = {"generate": lambda: plain(net, ids, options.new), "engine": lambda: local.generate_ids(rows, sampling)}
    took = alternate(runs, max(1, options.repeat // 2), clock)
    return _line(name, dtype, "alike", {k: 32 * options.new / v for k, v in took.items()})


def _line(name: str, dtype: torch.dtype, case: str, speed: dict[str, float]) -> str:
    bare_speed = speed.get("bare")
    cells = [name, str(dtype).removeprefix("torch."), case, f"{speed['generate']:.0f}"]
    cells += [f"{bare_speed:.0f}" if bare_speed else "-", f"{speed['engine']:.0f}"]
    cells += [
        f"{speed['engine'] / speed['generate']:.2f}",
        f"{speed['engine'] / bare_speed:.2f}" if bare_speed else "-",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["S", "M"], choices=SHAPES)
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8, 32])
    parser.add_argument("--new", type=int, default=48)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--no-ragged", action="store_true")
    parser.add_argument("--no-alike", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    print("| model | format | case | generate() tok/s | bare loop | engine | / generate() | / bare |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.models:
        for dtype in (torch.float32, torch.bfloat16):
            for batch in options.batches:
                print(even(name, dtype, batch, options, clock), flush=True)
            if not options.no_ragged:
                print(ragged(name, dtype, options, clock), flush=True)
            if not options.no_alike:
                print(alike(name, dtype, options, clock), flush=True)


if __name__ == "__main__":
    main()
