"""From a base model to an aligned one, as one flat script: the `quickstart` recipe written with the library.

    python examples/sft_dpo.py --out runs/sft_dpo

Four things happen: imitate demonstrations (SFT); let the result answer questions and keep the best and the worst
answer by an exact reward; prefer the one over the other (DPO); ask all three models the same held-out questions. It
differs from `fairlead quickstart` in what it leaves out: no report, no expectations, and a killed run draws its pairs
again. The whole of it takes a minute or two on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import fairlead
from fairlead.records import Preference, write
from fairlead.training.config import TrainConfig


def main() -> None:
    """Run the four stages into one folder and print the table of rewards."""
    arguments = argparse.ArgumentParser(description="base -> SFT -> DPO on Harbor")
    arguments.add_argument("--out", type=Path, default=Path("runs/sft_dpo"), help="folder of everything that is made")
    arguments.add_argument("--base", default="harbor:base-1m", help="model to start from")
    arguments.add_argument("--demonstrations", type=int, default=1000, help="examples to imitate")
    arguments.add_argument("--prompts", type=int, default=800, help="questions answered four times each for pairs")
    arguments.add_argument("--test", type=int, default=500, help="held-out questions")
    given = arguments.parse_args()

    sft = fairlead.train(
        TrainConfig(
            model=given.base,
            data=f"harbor:demonstrations?n={given.demonstrations}",
            objective="sft",
            learning_rate=5e-4,
            epochs=2,
            batch_size=32,
        ),
        given.out / "sft",
    )

    pairs = given.out / "pairs.jsonl"
    write(draw_pairs(str(sft.model), given.prompts), pairs)

    dpo = fairlead.train(
        TrainConfig(
            model=str(sft.model),
            data=str(pairs),
            objective={"name": "dpo", "beta": 0.1},
            learning_rate=2e-4,
            batch_size=16,
        ),
        given.out / "dpo",
    )

    engines = {
        name: fairlead.engine(str(model))
        for name, model in [("base", given.base), ("sft", sft.model), ("dpo", dpo.model)]
    }
    measure = fairlead.evaluator("rewards", reward="harbor", axes=["total", "correct", "harmless", "polite"])
    report = measure(engines, fairlead.read(f"harbor:test?n={given.test}"))
    report.save(given.out, "rewards")
    for name, axes in report.summary.items():
        print(f"{name:6}", *(f"{axis} {e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for axis, e in axes.items()), sep="  ")


def draw_pairs(model: str, prompts: int, n: int = 4) -> list[Preference]:
    """Answer each prompt `n` times and pair its best with its worst answer by the exact reward; ties give no pair."""
    reward = fairlead.reward("harbor", axis="total")
    asked = fairlead.read(f"harbor:prompts?n={prompts}")
    sampling = fairlead.Sampling(n=n, temperature=1.0, max_tokens=48)
    pairs = []
    for record, drawn in zip(asked, fairlead.engine(model).generate([r.prompt for r in asked], sampling), strict=True):
        texts = [answer.text for answer in drawn if answer.text]
        values = reward([record.prompt] * len(texts), texts).values
        if len(texts) > 1 and values.max() > values.min():
            best, worst = ([{"role": "assistant", "content": texts[i]}] for i in (values.argmax(), values.argmin()))
            pairs.append(Preference(id=record.id, prompt=record.prompt, chosen=best, rejected=worst, extra={}))
    print(f"{len(pairs)} pairs from {prompts} prompts")
    return pairs


if __name__ == "__main__":
    main()
