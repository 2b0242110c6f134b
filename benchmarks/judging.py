"""10,000 judged pairs, of which every reply is in the cache: seconds until the report is there.

    OMP_NUM_THREADS=1 python benchmarks/judging.py [--pairs 10000] [--repeat 3]

Two engines that answer at once, a judge of pairs in both orders, all three behind one cache on disk. The first pass
fills it; the passes after it draw, look up, read and summarise (rates, biases, the rate at equal lengths with 200
refits, rows, figures). Seconds are this process's CPU time, which others disturb least; --clock wall for the clock's.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

from fairlead.engines import Cache, Completion, Sampling
from fairlead.evaluation.judging import ask
from fairlead.evaluation.pairwise_judge import PairwiseJudge
from fairlead.evaluation.reward_judge import RewardJudge
from fairlead.records import PromptOnly

WORDS = ("the", "ship", "carries", "salt")


class Writer:
    """Answers of 20 to 200 words, by the hash of the question."""

    def __init__(self, fingerprint: str):
        self.fingerprint = fingerprint

    def generate(self, prompts, sampling: Sampling) -> list[list[Completion]]:
        return [[Completion(self.answer(prompt[-1]["content"]))] for prompt in prompts]

    def answer(self, question: str) -> str:
        digest = hashlib.sha256(f"{self.fingerprint} {question}".encode()).digest()
        return " ".join(WORDS[digest[k % 32] % 4] for k in range(20 + digest[0] % 180))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    args = parser.parse_args()
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    records = [PromptOnly(f"q{i}", [{"role": "user", "content": f"question {i}"}]) for i in range(args.pairs)]
    reward = RewardJudge({"name": "harbor_proxy", "proxy": "length", "noise": 40.0}, first_bonus=10.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.sqlite"
        engines = {name: Cache(Writer(name), path) for name in ("one", "two")}
        judge = Cache(reward, path)
        spent = {"verdicts": 0.0}

        class Timed(PairwiseJudge):
            def verdicts(self, judge, cases):
                start = now()
                found = ask(judge, cases, self.judge_sampling)
                spent["verdicts"] = now() - start
                return found

        evaluator = Timed(baseline="one", judge=judge)
        evaluator(engines, records)
        asked = judge.misses
        passes = []
        for _ in range(args.repeat):
            start = now()
            report = evaluator(engines, records)
            passes.append((now() - start, spent["verdicts"]))
        assert judge.misses == asked, "a reply was not in the cache"
        whole, looked_up = min(passes)
    found = report.summary["two"]
    print(f"{args.pairs:,} pairs, {asked:,} replies: {whole:.2f} s, of which verdicts {looked_up:.2f} s")
    print(f"rate {found['rate'].value:.4f}, first slot {found['first_slot'].value:.4f}, n {found['rate'].n}")


if __name__ == "__main__":
    main()
