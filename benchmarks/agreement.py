"""How often BLEU and others name the same winner as a strong judge does, on AlpacaEval's answers.

    python benchmarks/agreement.py ../shared/data/alpaca_eval

`preferences.jsonl.gz` has GPT-4-Turbo's verdicts on five models' answers beside those of gpt4_1106_preview, which win
19 times in 20. So that the model alone does not decide, the verdicts are also put into pairs of two of the five models'
answers: of these the one that beat the common opponent is better than the one that did not. References are answers of
other models in `outputs.jsonl.gz`, none of which is judged.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

from fairlead.evaluation.reward_agreement import RewardAgreement
from fairlead.records import Ranking

REFERENCES = ("gpt4", "Llama3-PBM-Nova-70B", "Meta-Llama-3-8B-Instruct", "Mistral-7B-Instruct-v0.2", "zephyr-7b-beta")


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a packed file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def verdicts(found: list[dict[str, Any]]) -> dict[str, list[Ranking]]:
    """Return the pairs as they were judged, and the implied ones."""
    judged, beside = [], defaultdict(list)
    for number, row in enumerate(found):
        if row["preference"] is None or not row["output_1"].strip() or not row["output_2"].strip():
            continue
        won = row["preference"] - 1
        scores = (0.5, 0.5) if won == 0.5 else (float(won < 0.5), float(won > 0.5))
        answers = (row["output_1"], row["output_2"])
        judged.append(Ranking(f"{number}", row["instruction"], answers, scores))
        beside[row["instruction"]].append((won, row["output_2"]))
    implied = []
    for instruction, answers in beside.items():
        for (one, first), (other, second) in combinations(answers, 2):
            if (one - 0.5) * (other - 0.5) < 0:
                scores = (float(one > other), float(other > one))
                implied.append(Ranking(f"{len(implied)}", instruction, (first, second), scores))
    return {"as judged": judged, "implied": implied}


def rewards(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return BLEU by number of references, its controls, and ROUGE-L."""

    def known(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        texts = {row["instruction"]: [row["outputs"][name] for name in names] for row in outputs}
        return {asked: tuple(t for t in answers if t.strip()) or ("none",) for asked, answers in texts.items()}

    each = {name: known((name,)) for name in REFERENCES}
    bleu = {"name": "bleu", "tokenise": "characters"}
    return {
        **{f"bleu, {name}": bleu | {"references": references} for name, references in each.items()},
        **{f"bleu, first {k}": bleu | {"references": known(REFERENCES[:k])} for k in (2, 3, 4, 5)},
        "bleu, first 5, closest length": bleu | {"references": known(REFERENCES), "reflen": "closest"},
        "brevity alone, gpt4": bleu | {"references": each["gpt4"], "parts": "brevity"},
        "without brevity, gpt4": bleu | {"references": each["gpt4"], "parts": "precision"},
        "rouge_l, gpt4": {"name": "rouge_l", "references": each["gpt4"]},
    }


def main() -> None:
    """Compare and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with preferences.jsonl.gz and outputs.jsonl.gz")
    folder = parser.parse_args().folder
    evaluator = RewardAgreement(
        rewards(rows(folder / "outputs.jsonl.gz")), joined={"bleu and rouge_l, gpt4": ("bleu, gpt4", "rouge_l, gpt4")}
    )
    pairs = verdicts(rows(folder / "preferences.jsonl.gz"))
    reports = {name: evaluator({}, records) for name, records in pairs.items()}
    print("| reward | " + " | ".join(f"{name} ({len(pairs[name]):,} pairs)" for name in pairs) + " |")
    print("|---|---|---|")
    for subject in reports["implied"].summary:
        told = [reports[name].summary[subject]["agreement"] for name in pairs]
        print(f"| {subject} | " + " | ".join(f"{e.value:.3f} ({e.low:.3f} - {e.high:.3f})" for e in told) + " |")
    print(*(note for report in reports.values() for note in report.notes), sep="\n")


if __name__ == "__main__":
    main()
