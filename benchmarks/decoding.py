"""Decoding beside transformers' generate() and beside the naive algorithm of each method.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python benchmarks/decoding.py
    OMP_NUM_THREADS=1 python benchmarks/decoding.py --only nudging deal --repeat 2

Every row is one process's CPU time on one thread; the contestants of a row take turns, and the least time of each is
taken. "forwards" are forward passes per token of the answers.

- greedy: random weights of the sizes S and M, prompts of 64 random tokens, every row as long as the others.
- assisted: greedy answers to Harbor's questions; the draft model proposes, the other checks (transformers' assisted
  generation). The models are Harbor's 3m models grown to M (base) and S (aligned): their answers at the larger size's
  cost (`shapes.grown`).
- nudging: the same two models. The ideal is what the tokens that each model writes take in a bare loop of transformers:
  the base its part of the answer, the nudger all that it drafts; prompts included, tests of drafts and all else not.
  "naive" computes every draft, test and run anew from the whole text, with a cache inside each of them only.
- deal: base-3m at size S, words to use from the question, k 5, lookahead 16. "naive" is the search as it is defined,
  on the same fast forwards.
- best: 16 answers of a prompt of 300 tokens and the best of them, against sixteen calls for one answer.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from generate import alternate, bare, plain
from shapes import SHAPES, grown, random_model, saved
from transformers import DynamicCache

import fairlead
from fairlead import harbor, models
from fairlead.engines import Local, Sampling
from fairlead.harbor.tokenizer import build_tokenizer

Runs = dict[str, Callable[[], int]]
"""What is compared: each returns how many tokens it wrote."""


# --- measuring --------------------------------------------------------------------------------------------------------


@contextmanager
def counting(*nets: Any) -> Iterator[list[int]]:
    """Count forwards of models: their embedding is called once in each, whoever does it."""
    count = [0]

    def note(*_: Any) -> None:
        count[0] += 1

    handles = [net.get_input_embeddings().register_forward_hook(note) for net in nets]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


def compare(case: str, runs: Runs, nets: list[Any], options: argparse.Namespace, against: str) -> dict[str, float]:
    """Print one line per contestant; return the seconds per token of each."""
    tokens, forwards = {}, {}
    for name, run in runs.items():  # which warms up, too
        with counting(*nets) as count:
            tokens[name] = run()
        forwards[name] = count[0] / tokens[name]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeat):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    each = {name: min(seconds[name]) / tokens[name] for name in runs}
    for name in runs:
        cells = [case, name, f"{1 / each[name]:.1f}", f"{forwards[name]:.3f}", f"{each[against] / each[name]:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
    return each


def written(answers: list[list[Any]], local: Local) -> int:
    """Count the tokens of answers; of those without ids, the tokens of their text."""
    return sum(
        len(one.token_ids) if one.token_ids is not None else len(local.renderer.spelling.encode(one.text).ids)
        for row in answers
        for one in row
    )


# --- the cases --------------------------------------------------------------------------------------------------------


def greedy(options: argparse.Namespace) -> None:
    sampling = Sampling(max_tokens=options.new, temperature=0)
    for name in options.models:
        net = random_model(name, torch.bfloat16)
        for batch in options.batches:
            torch.manual_seed(0)
            ids = torch.randint(3, net.config.vocab_size, (batch, 64))
            local = saved(net, build_tokenizer(), dtype="bfloat16", max_rows=batch, max_batch_tokens=16384)
            local.renderer.stops = frozenset()
            total = batch * options.new
            runs: Runs = {
                "generate()": lambda net=net, ids=ids, total=total: (plain(net, ids, options.new), total)[1],
                "bare loop": lambda net=net, ids=ids, total=total: (bare(net, ids, options.new), total)[1],
                "Fairlead": lambda local=local, ids=ids: written(local.generate_ids(ids.tolist(), sampling), local),
            }
            compare(f"greedy {name}, batch {batch}", runs, [net, local.model], options, "generate()")


def grown_pair() -> tuple[Local, Local]:
    """Return base-3m at size M and aligned-3m at size S, in bfloat16."""
    pair = []
    for source, size in (("harbor:base-3m", "M"), ("harbor:aligned-3m", "S")):
        net = grown(models.load_model(source), size).to(torch.bfloat16)
        pair.append(saved(net, models.load_tokenizer(source), dtype="bfloat16"))
    return pair[0], pair[1]


def questions(count: int, spec: str = "test") -> list[Any]:
    """Return the first prompts of one of Harbor's sets."""
    return [row["prompt"] for row in islice(harbor.rows(spec), count)]


def assisted(options: argparse.Namespace) -> None:
    base, _ = grown_pair()
    draft = grown(models.load_model("harbor:aligned-3m"), "S", vocab_size=SHAPES["M"]["vocab_size"])
    draft = draft.to(torch.bfloat16)
    prompts = questions(8)
    ids = [torch.tensor([base.prompt_ids(prompt)]) for prompt in prompts]
    sampling = Sampling(max_tokens=options.new, temperature=0)

    def theirs(**more: Any) -> int:
        ends = {"eos_token_id": sorted(base.renderer.stops), "pad_token_id": 0}
        with torch.inference_mode():
            return sum(
                base.model.generate(one, attention_mask=torch.ones_like(one), max_new_tokens=options.new,
                                    do_sample=False, **ends, **more).shape[1] - one.shape[1]
                for one in ids
            )  # fmt: skip

    def ours(size: int) -> int:
        parts = [prompts[k : k + size] for k in range(0, len(prompts), size)]
        return sum(written(base.generate(part, sampling), base) for part in parts)

    runs: Runs = {
        "generate()": theirs,
        "generate(), assisted": lambda: theirs(assistant_model=draft),
        "Fairlead greedy": lambda: ours(1),
        "Fairlead greedy, 8 at once": lambda: ours(8),
    }
    compare("answers of base-3m at size M", runs, [base.model], options, "generate()")


def nudging(options: argparse.Namespace) -> None:
    for draft in (3, 16):
        nudge("nudging M by S", *grown_pair(), draft, options)
    small = [Local(name) for name in ("harbor:base-3m", "harbor:aligned-300k")]
    nudge("nudging base-3m by aligned-300k, float32", *small, 3, options)


def nudge(case: str, base: Local, nudger: Local, draft: int, options: argparse.Namespace) -> None:
    """Compare nudging with drafts of so many tokens with its naive form and with its ideal."""
    prompts, case = questions(8), f"{case}, drafts of {draft}"
    sampling = Sampling(max_tokens=options.new, temperature=0)
    decoder = fairlead.decoder("nudging", base=base, nudger=nudger, gamma=0.3, draft_tokens=draft)
    answers = [row[0] for row in decoder.generate(prompts, sampling)]
    same = sum(a.text == b for a, b in zip(answers, plain_nudging(decoder, prompts, options.new)))
    stats = [one.extra["stats"] for one in answers]
    total = {key: sum(one[key] for one in stats) for key in stats[0]}
    bare_loops = {name: bare_seconds(local, prompts, options) for name, local in (("base", base), ("nudger", nudger))}

    def naive() -> int:
        texts = plain_nudging(decoder, prompts, options.new)
        return sum(len(base.renderer.spelling.encode(text).ids) for text in texts)

    def ours(size: int) -> int:
        parts = [prompts[k : k + size] for k in range(0, len(prompts), size)]
        return sum(written(decoder.generate(part, sampling), base) for part in parts)

    runs: Runs = {"naive": naive, "Fairlead": lambda: ours(1), "Fairlead, 8 at once": lambda: ours(8)}
    each = compare(case, runs, [base.model, nudger.model], options, "naive")
    ideals = {}
    for name, of_nudger in (("drafted", total["nudger_forwards"]), ("in the answer", total["tokens_nudge"])):
        seconds = total["tokens_base"] * bare_loops["base"] + of_nudger * bare_loops["nudger"]
        ideals[name] = seconds / (total["tokens_base"] + total["tokens_nudge"])
    shares = "; ".join(
        f"of the ideal with the nudger's tokens {name}: {one / each['Fairlead']:.2f} alone, "
        f"{one / each['Fairlead, 8 at once']:.2f} 8 at once"
        for name, one in ideals.items()
    )
    print(
        f"# {case}: bare loops {1e3 * bare_loops['base']:.2f} and {1e3 * bare_loops['nudger']:.2f} ms per token; "
        f"{total['tokens_base']} tokens of the base, {total['tokens_nudge']} of the nudger, {total['rounds']} drafts, "
        f"{total['base_forwards']} and {total['nudger_forwards']} forwards; {shares}; "
        f"{same} of {len(prompts)} answers equal the naive ones",
        flush=True,
    )


def bare_seconds(local: Local, prompts: list[Any], options: argparse.Namespace) -> float:
    """Return what a bare loop of transformers takes per token of answers of the usual length to these prompts."""
    ids = [torch.tensor([local.prompt_ids(prompt)]) for prompt in prompts]
    most = 20  # Harbor's answers are that long
    runs = {"bare": lambda: [bare(local.model, one, most) for one in ids]}
    return alternate(runs, options.repeat + 1, time.process_time)["bare"] / (len(prompts) * most)


def plain_nudging(decoder: Any, prompts: list[Any], limit: int) -> list[str]:
    """Nudge as the definition says."""
    oracle = _oracle()

    class Model(oracle.Model):
        """Keeps keys as long as tokens are only appended: inside one draft or one run."""

        read: tuple[int, ...] = (-1,)

        def encode(self, text: str) -> list[int]:
            return self.spelling.encode(text).ids

        def raw(self, ids: list[int], after: list[int]) -> bytes:
            return self.spelling.spelled(ids, after)

        @torch.inference_mode()
        def after(self, ids: list[int]) -> tuple[int, float]:
            if tuple(ids[:-1]) != self.read:
                self.cache = DynamicCache(config=self.model.config)
            new = ids[-1:] if tuple(ids[:-1]) == self.read else [*self.prompt, *ids]
            self.read = tuple(ids)
            found = self.model(torch.tensor([new]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            top, token = torch.softmax(found.logits[0, -1].float(), -1).max(-1)
            return int(token), float(top)

    answers = []
    for prompt in prompts:
        pair = []
        for part in ("base", "nudger"):
            local = decoder.local(part)
            stops = set(local.renderer.stops)
            pair.append(Model(local.model, local.renderer.tokenizer, local.prompt_ids(prompt), stops))
            pair[-1].spelling = local.renderer.spelling
        segments, _ = oracle.nudged(*pair, decoder, limit)
        answers.append("".join(text for _, text in segments))
    return answers


def _oracle() -> Any:
    """Load nudging as it is written down for the tests."""
    file = Path(__file__).resolve().parents[1] / "tests" / "decoding" / "naive_nudging.py"
    spec = importlib.util.spec_from_file_location("naive_nudging", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["naive_nudging"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def deal(options: argparse.Namespace) -> None:
    source = "harbor:base-3m"
    net = grown(models.load_model(source), "S").to(torch.bfloat16)
    base = saved(net, models.load_tokenizer(source), dtype="bfloat16")
    prompts = questions(8, "keywords?split=test")
    sampling = Sampling(max_tokens=options.new, temperature=0)
    rewards = {
        "words (bounded)": {"name": "keywords", "find": "with the words ([a-z, ]+)"},
        "words, unbounded": _Unbounded(),
    }
    for name, reward in rewards.items():
        settings = {"engine": base, "heuristics": [{"reward": reward}], "k": 5, "lookahead": 16, "strength": 20}
        settings["instruction"] = "be polite, safe and honest."
        fast, naive = (fairlead.decoder("deal", **settings, mode=mode) for mode in ("fast", "naive"))

        def done(decoder: Any, size: int) -> int:
            parts = [prompts[k : k + size] for k in range(0, len(prompts), size)]
            return sum(written(decoder.generate(part, sampling), base) for part in parts)

        runs: Runs = {
            "naive": lambda one=naive: done(one, 1),
            "Fairlead": lambda one=fast: done(one, 1),
            "naive, 8 at once": lambda one=naive: done(one, 8),
            "Fairlead, 8 at once": lambda one=fast: done(one, 8),
            "greedy, the same prompts": lambda: written([base.generate([p], sampling)[0] for p in prompts], base),
        }
        stats = [row[0].extra["stats"] for row in fast.generate(prompts, sampling)]
        steps, contested = (sum(one[key] for one in stats) for key in ("steps", "contested"))
        case = f"deal, {name}"
        each = compare(case, runs, [base.model], options, "naive")
        ratio = each["naive, 8 at once"] / each["Fairlead, 8 at once"]
        print(
            f"# {case}: {ratio:.2f} times as fast as naive when both do 8 at once; "
            f"{contested} of {steps} choices needed a look ahead",
            flush=True,
        )


class _Unbounded:
    """Words found, without a word about what an unfinished text can still come to."""

    def __init__(self) -> None:
        self.own = fairlead.reward("keywords", find="with the words ([a-z, ]+)")

    def __call__(self, prompts: Any, completions: Any) -> Any:
        return self.own(prompts, completions)


def best(options: argparse.Namespace) -> None:
    reward = fairlead.reward("harbor_proxy", proxy="length")

    def chosen(answers: list[Any]) -> int:
        values = reward([""] * len(answers), [one.text for one in answers]).values
        assert len(values) == 16
        return sum(len(one.token_ids) for one in answers)

    for name in options.models:
        net = random_model(name, torch.bfloat16)
        torch.manual_seed(1)
        ids = torch.randint(3, net.config.vocab_size, (1, 300))
        local = saved(net, build_tokenizer(), dtype="bfloat16")
        local.renderer.stops = frozenset()

        def ours(together: bool, local=local, ids=ids) -> int:
            one = [ids[0].tolist()]
            if together:
                return chosen(local.generate_ids(one, Sampling(max_tokens=options.new, n=16))[0])
            calls = [local.generate_ids(one, Sampling(max_tokens=options.new, seed=k)) for k in range(16)]
            return chosen([call[0][0] for call in calls])

        def theirs(count: int, net=net, ids=ids) -> int:
            for _ in range(16 // count):
                net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=options.new, do_sample=True,
                             top_k=0, num_return_sequences=count)  # fmt: skip
            return 16 * options.new

        runs: Runs = {
            "16 calls": lambda: ours(False),
            "Fairlead": lambda: ours(True),
            "generate(), 16 calls": lambda: theirs(1),
            "generate(), 16 sequences": lambda: theirs(16),
        }
        compare(f"best of 16, {name}", runs, [net, local.model], options, "16 calls")


CASES = {"greedy": greedy, "assisted": assisted, "nudging": nudging, "deal": deal, "best": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--models", nargs="+", default=["S", "M"], choices=["S", "M"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--new", type=int, default=48, help="most tokens of an answer")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| case | how | tokens/s | forwards | times as fast |")
    print("|---|---|---|---|---|")
    for name in options.only:
        CASES[name](options)


if __name__ == "__main__":
    main()
