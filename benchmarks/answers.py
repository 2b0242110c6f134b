"""Real answers selected: `deita` and `near_duplicates` over AlpacaEval's 9,660, seconds and what is found.

    OMP_NUM_THREADS=1 python benchmarks/answers.py outputs.jsonl.gz --vectors FOLDER [--short 4096]

A record is a prompt with one model's answer; its quality is its length in characters, the plainest score there is.
Vectors are made by the extra `embed` and kept in the folder. --short takes the shortest records alone, which need the
least embedding.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from pathlib import Path

from fairlead.records import Conversation
from fairlead.selection.deita import Deita
from fairlead.selection.near_duplicates import NearDuplicates
from fairlead.selection.pool import Pool, text_of

WAYS = {
    "deita, all that vary": Deita(keep=None, complexity=None),
    "deita, 10 %": Deita(keep=0.1, complexity=None),
    "near_duplicates, lowest": NearDuplicates(),
    "near_duplicates, greedy": NearDuplicates(rule="greedy"),
    "near_duplicates, components": NearDuplicates(rule="components"),
    "near_duplicates, prompt and answer within .1": NearDuplicates(closer_than=0.1),
}
WORDS = {
    "n-grams of answers within .2": NearDuplicates(by="ngrams", closer_than=0.2, part="answer"),
    "n-grams of answers within .5": NearDuplicates(by="ngrams", closer_than=0.5, part="answer"),
    "hashes of answers within .5": NearDuplicates(by="minhash", closer_than=0.5, part="answer"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--short", type=int)
    args = parser.parse_args()
    records = answers(args.outputs)
    show(WORDS, Pool(records))
    if args.vectors:
        records = sorted(records, key=lambda record: len(text_of(record)))[: args.short]
        pool = Pool(records, vectors=args.vectors)
        start = time.process_time()
        pool.vectors(Deita().embedding)
        print(f"{len(pool):,} vectors: {time.process_time() - start:.1f} CPU s (those that were kept are only read)")
        show(WAYS, pool)


def show(ways, pool: Pool) -> None:
    """Choose in every way, with seconds, counts, and whose answers are left out most and least often."""
    for name, method in ways.items():
        start = time.process_time()
        found = method(pool)
        spent = time.process_time() - start
        told = {axis: round(value, 4) for axis, value in found.metrics.items()}
        kept = set(found.indices.tolist())
        length = sum(len(pool[i].completion) for i in kept) / len(kept)
        lost = Counter(record.extra["model"] for i, record in enumerate(pool) if i not in kept).most_common()
        print(f"{name}: {spent:.2f} CPU s, {len(kept):,} of {len(pool):,} kept, {length:.0f} characters, {told}")
        print(f"  left out most {lost[:2]}, least {lost[-2:]}")


def answers(path: Path) -> list[Conversation]:
    """Return a record per prompt and model."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [
        Conversation(f"{k}-{model}", row["instruction"], text, {"model": model, "quality": float(len(text))})
        for k, row in enumerate(rows)
        for model, text in row["outputs"].items()
    ]


if __name__ == "__main__":
    main()
