"""info_sampling over real answers: what it costs, and which answers it finds.

    python benchmarks/information.py ../shared/data/alpaca_eval/outputs.jsonl.gz --vectors vectors

Every answer of every model is one record. Prints CPU seconds for embedding and for every choice, and of each the
entropy, the correlation with length, whose answers are kept, and how many near-copies (cosine >= .95) the choice holds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np

from fairlead.engines.embedding import Embedding
from fairlead.records import Conversation
from fairlead.selection.info_sampling import InfoSampling
from fairlead.selection.pool import Pool, text_of
from fairlead.selection.random_sample import RandomSample

CHOICES = {
    "random": RandomSample(keep=0.1),
    "max": InfoSampling(),
    "max, no guard": InfoSampling(clip=0.0),
    "max, refitted": InfoSampling(entropy="mixture_refit"),
    "min": InfoSampling(direction="min"),
    "stratified": InfoSampling(direction="stratified"),
    "logdet": InfoSampling(objective="logdet"),
    "one Gaussian": InfoSampling(entropy="gaussian"),
}


def answers(path: Path) -> list[Conversation]:
    """Return a record per prompt and model of AlpacaEval's outputs."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [
        Conversation(f"{number}-{model}", row["instruction"], text, {"model": model})
        for number, row in enumerate(rows)
        for model, text in row["outputs"].items()
    ]


def near_copies(vectors: np.ndarray, kept: np.ndarray) -> float:
    """Return the share of kept rows with another kept row at a cosine of .95 or more."""
    rows = vectors[kept]
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1)
    return float((cosines.max(1) >= 0.95).mean())


def main() -> None:
    """Embed, choose in every way, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path, help="AlpacaEval's outputs.jsonl.gz")
    parser.add_argument("--vectors", type=Path, required=True, help="folder in which vectors are kept")
    parser.add_argument("--shortest", type=int, help="only so many records, those of the fewest characters")
    args = parser.parse_args()
    found = answers(args.outputs)
    if args.shortest is not None:
        found = sorted(found, key=lambda record: len(text_of(record)))[: args.shortest]
    pool = Pool(found, vectors=args.vectors)
    before = time.process_time()
    vectors = pool.vectors(Embedding(), "all")
    print(f"{len(pool):,} answers embedded in {time.process_time() - before:.0f} CPU s (kept ones are only read)")
    lengths = np.array([float(len(text)) for text in pool.texts("answer")])
    copies = near_copies(vectors, np.arange(len(pool)))
    print(f"pool: {lengths.mean():.0f} characters per answer; near-copies {copies:.3f}")
    for name, method in CHOICES.items():
        before = time.process_time()
        found = method(pool)
        seconds = time.process_time() - before
        whose = Counter(pool[int(i)].extra["model"] for i in found.indices)
        told = {axis: round(value, 3) for axis, value in found.metrics.items()}
        print(
            f"{name}: {seconds:.1f} CPU s, {len(found.indices)} kept, {lengths[found.indices].mean():.0f} characters,"
        )
        print(f"  near-copies {near_copies(vectors, found.indices):.3f}, {told}")
        print(f"  most kept of {whose.most_common(3)}, least of {whose.most_common()[-2:]}")
        for note in found.notes[-2:] if name in ("max", "max, no guard") else ():
            print(f"  {note}")


if __name__ == "__main__":
    main()
