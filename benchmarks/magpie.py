"""Magpie's offline measures over real answers: what they cost, and what a judge thinks of what a filter keeps.

    python benchmarks/magpie.py ../shared/data/alpaca_eval/preferences.jsonl.gz

Every answer that a judge compared with one strong model's is a record; the judge's preference, from 1 (worse) to 2
(better), is its reward. The distance to the nearest other prompt comes from a sentence embedding, the language of the
prompts from langdetect. Prints CPU seconds, and per model the mean preference of all answers, of the longest that a
filter keeps, and of as many at random.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np

from fairlead.engines.embedding import Embedding
from fairlead.evaluation.forms import Language
from fairlead.records import Conversation
from fairlead.selection.magpie_filter import MagpieFilter


def answers(path: Path) -> list[Conversation]:
    """Return a record per judged answer."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [
        Conversation(str(i), row["instruction"], row["output_2"], {
            "model": row["generator_2"], "reward": float(row["preference"]),
        })
        for i, row in enumerate(rows)
        if row["preference"] is not None and row["output_2"].strip()
    ]  # fmt: skip


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Return the squared distance to the nearest other row of unit vectors, [N]."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    return np.maximum(0.0, 2 - 2 * cosines.max(1))


def main() -> None:
    """Measure, filter, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preferences", type=Path, help="AlpacaEval's preferences.jsonl.gz")
    parser.add_argument("--keep", type=float, default=0.2, help="share of each model's answers that is kept")
    arguments = parser.parse_args()
    records = answers(arguments.preferences)
    prompts = list(dict.fromkeys(str(record.prompt) for record in records))
    start = time.process_time()
    vectors = Embedding("minilm")(prompts)
    embedded = time.process_time()
    distance = dict(zip(prompts, nearest(vectors).tolist(), strict=True))
    measured = time.process_time()
    english = sum(Language("en")(prompt) for prompt in prompts)
    told = time.process_time()
    of_model: dict[str, list[Conversation]] = {}
    for record in records:
        record.extra["min_neighbor_distance"] = distance[str(record.prompt)]
        of_model.setdefault(record.extra["model"], []).append(record)
    found = np.array(list(distance.values()))
    same, near = int((found <= 1e-6).sum()), int((found < 0.05).sum())
    print(f"{len(records)} answers to {len(prompts)} prompts, {english} of these in English")
    print(f"distance: median {np.median(found):.3f}, {same} at 0, {near} below .05")
    before = time.process_time()
    print(f"{'model':32} {'all':>6} {'longest':>8} {'random':>7} {'characters, all and kept':>25}")
    for model, own in of_model.items():
        kept = MagpieFilter(filter="pro3", reward_above=-1.0, keep=arguments.keep)(own)
        rewards = np.array([record.extra["reward"] for record in own])
        draw = np.random.default_rng(0).choice(len(own), len(kept.indices), replace=False)
        means = [rewards.mean(), rewards[kept.indices].mean(), rewards[draw].mean()]
        lengths = [kept.scores.mean(), kept.scores[kept.indices].mean()]
        print(f"{model:32} {means[0]:6.3f} {means[1]:8.3f} {means[2]:7.3f} {lengths[0]:12.0f} {lengths[1]:12.0f}")
    done = time.process_time()
    print(f"CPU seconds: embedding {embedded - start:.1f}, distances {measured - embedded:.2f}, languages "
          f"{told - measured:.1f}, filters {done - before:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
