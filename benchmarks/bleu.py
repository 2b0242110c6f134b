"""The reward bleu beside sacrebleu's sentence score, on made texts or on real answers, in one process.

    python benchmarks/bleu.py
    python benchmarks/bleu.py --answers ../shared/data/alpaca_eval/outputs.jsonl.gz

sacrebleu keeps the words of texts that it has seen, Fairlead those of the runs between white space: every turn begins
with both memories empty. First every completion comes with a reference of its own; then eight completions share one,
as a group of draws does, and the reference is known before. Words, clipped counts and lengths are compared, and the
score itself where both have the same formula: one reference, no smoothing, every order matched.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

import fairlead
from fairlead.rewards import ngrams
from fairlead.rewards.ngrams import NgramTable, tokens_13a

Case = tuple[str, str, str]
"""Prompt, completion, reference."""


def made(n: int, group: int, words: int = 60, vocabulary: int = 2000) -> list[Case]:
    """Return n completions, `group` to a reference: seven in ten words are the reference's, at their place."""
    rng = random.Random(0)
    cases = []
    for k in range(0, n, group):
        length = rng.randint(10, 2 * words)
        reference = [f"w{min(vocabulary, int(rng.paretovariate(0.8)))}" for _ in range(length)]
        for _ in range(group):
            said = [w if rng.random() < 0.7 else f"w{rng.randrange(vocabulary)}" for w in reference]
            cases.append((str(k), " ".join(said), " ".join(reference)))
    return cases


def real(path: Path, n: int, group: int) -> list[Case]:
    """Return answers of up to `group` models beside gpt4's to the same instruction."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    cases = []
    for number, row in enumerate(rows):
        answers = {name: text for name, text in row["outputs"].items() if text.strip()}
        reference = answers.pop("gpt4", None)
        cases += [(str(number), text, reference) for text in list(answers.values())[:group] if reference]
    return cases[:n]


def check(cases: Sequence[Case]) -> tuple[float, int]:
    """Return the largest difference from sacrebleu's unsmoothed scores, and how many could be compared."""
    theirs = Tokenizer13a()
    whole = BLEU(tokenize="none", smooth_method="none", effective_order=False)
    worst, compared = 0.0, 0
    for _, said, reference in cases:
        words, table = tokens_13a(said), NgramTable.of([tokens_13a(reference)])
        assert words == theirs(said).split()
        result = whole.sentence_score(" ".join(words), [" ".join(tokens_13a(reference))])
        assert table.precisions(words) == list(zip(result.counts, result.totals))
        assert (len(words), table.lengths[0]) == (result.sys_len, result.ref_len)
        if all(result.counts):
            worst = max(worst, abs(table.bleu(words, smooth=False) - result.score / 100))
            compared += 1
    return worst, compared


def seconds(run: Callable[[], object], prepare: Callable[[], object]) -> float:
    """Return the CPU seconds of a run with every text new to both."""
    Tokenizer13a.__call__.cache_clear()
    TokenizerRegexp.__call__.cache_clear()
    ngrams._WORDS.clear()
    prepare()
    before = time.process_time()
    run()
    return time.process_time() - before


def compare(cases: Sequence[Case], repeat: int, known: bool) -> dict[str, list[float]]:
    """Return completions per second of either side, turn by turn; `known`: references were seen before."""
    metric = BLEU(effective_order=True)
    prompts, said = [c[0] for c in cases], [c[1] for c in cases]
    references = {prompt: (reference,) for prompt, _, reference in cases}
    found: dict[str, list[float]] = {"sacrebleu": [], "fairlead": []}
    for _ in range(repeat):
        reward = fairlead.reward("bleu", references=references)
        runs = {
            "sacrebleu": lambda: [metric.sentence_score(text, [reference]).score for _, text, reference in cases],
            "fairlead": lambda reward=reward: reward(prompts, said),
        }
        warm = {
            "sacrebleu": lambda: [metric.tokenizer(reference) for (reference,) in references.values()],
            "fairlead": lambda reward=reward: reward(list(references), [""] * len(references)),
        }
        for name, run in runs.items():
            found[name].append(len(cases) / seconds(run, warm[name] if known else lambda: None))
    return found


def main() -> None:
    """Check, then time in turns; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=Path, help="AlpacaEval's outputs.jsonl.gz, in place of made texts")
    parser.add_argument("--n", type=int, default=2000, help="completions")
    parser.add_argument("--repeat", type=int, default=5, help="turns")
    given = parser.parse_args()
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    print("| references | words per completion | sacrebleu /s | Fairlead /s | ratio (least - greatest) |")
    print("|---|---|---|---|---|")
    for name, group in (("each its own", 1), ("known, one per 8", 8)):
        cases = real(given.answers, given.n, group) if given.answers else made(given.n, group)
        worst, compared = check(cases)
        assert worst < 1e-9, worst
        found = compare(cases, given.repeat, group > 1)
        ratios = np.array(found["fairlead"]) / np.array(found["sacrebleu"])
        words = statistics.mean(len(tokens_13a(said)) for _, said, _ in cases)
        rates = " | ".join(f"{statistics.median(rates):,.0f}" for rates in (found["sacrebleu"], found["fairlead"]))
        spread = f"{np.median(ratios):.2f} ({ratios.min():.2f} - {ratios.max():.2f})"
        print(f"| {name} | {words:.0f} | {rates} | {spread} |")
        print(f"<!-- {compared} of {len(cases)} scores compared with sacrebleu's, worst difference {worst:.1e} -->")


if __name__ == "__main__":
    main()
