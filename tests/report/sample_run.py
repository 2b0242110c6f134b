"""Writes a run folder as a real run leaves it: real evaluators on engines that answer in Harbor's own styles.

`python tests/report/sample_run.py FOLDER` writes one and builds its report, to look at.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairlead import catalog, harbor
from fairlead.engines.base import Completion
from fairlead.harbor.answers import answer

LEARNED = {
    "base": {"plain": 0.6, "terse": 0.2, "rude": 0.1, "wrong": 0.1},
    "sft": {"plain": 0.42, "good": 0.5, "wrong": 0.08},
    "dpo": {"good": 0.95, "wrong": 0.03, "plain": 0.02},
}
TAUGHT = {"base": 0.0, "sft": 0.12, "dpo": 0.3}
RECIPE = """title: Base, SFT and DPO on Harbor
about: The small world's base model is taught by 1000 imperfect demonstrations, then by pairs of its own answers.
seed: 0
steps:
  - id: sft
    train: {model: harbor:base-1m, data: "harbor:demonstrations?n=1000", objective: sft, learning_rate: 5e-4}
  - id: pairs
    generate: {model: "@sft", data: "harbor:prompts?n=800", n: 4, reward: harbor, keep: best_worst}
  - id: dpo
    train: {model: "@sft", data: "@pairs", objective: {name: dpo, beta: 0.1}, learning_rate: 2e-4}
  - id: evaluation
    evaluate: {models: {base: harbor:base-1m, sft: "@sft", dpo: "@dpo"}, data: "harbor:test?n=200"}
expect:
  - evaluation.rewards.sft.total - evaluation.rewards.base.total >= 0.15
"""


@dataclass(frozen=True)
class Styled:
    """Answers Harbor's questions in a mixture of its styles; log-probs are of words drawn independently."""

    name: str

    @property
    def fingerprint(self) -> str:
        return self.name

    def generate(self, prompts, sampling):
        return [[self._one(prompt, i, sampling.seed) for i in range(sampling.n)] for prompt in prompts]

    def _one(self, prompt, index: int, seed: int) -> Completion:
        question = prompt[-1]["content"]
        rng = random.Random(f"{self.name} {question} {index} {seed}")
        styles, weights = zip(*LEARNED[self.name].items())
        task = harbor.understand(question)
        text = answer(rng, task, rng.choices(styles, weights)[0], harbor.world())
        return Completion(text, list(range(len(text.split()) + 1)))

    def logprobs(self, prompts, completions):
        return [np.array([self._word(w) for w in [*text.split(), ""]], dtype=np.float32) for text in completions]

    def _word(self, word: str) -> float:
        digest = hashlib.sha256(word.encode()).digest()
        return -1.0 - digest[0] / 200 + digest[1] / 255 * TAUGHT[self.name]


@dataclass(frozen=True)
class Row:
    id: str
    prompt: Any
    extra: dict
    kind: str = "prompt"


def records(count: int) -> list[Row]:
    return [Row(row["id"], row["prompt"], {"task": row["task"]}) for row in harbor.rows(f"test?n={count}")]


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_lines(path: Path, lines: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def step(folder: Path, name: str, kind: str, seconds: float, config: dict, **more: Any) -> None:
    uses = [str(config[key]) for key in ("model", "data") if key in config]
    state = {
        "id": name, "kind": kind, "config": config, "fingerprint": digest(name + str(config)), "status": "finished",
        "seconds": seconds, "outputs": {}, "metrics": {}, "notes": [],
        "inputs": [{"name": use, "fingerprint": digest(use)} for use in uses],
    }  # fmt: skip
    write_json(folder / "steps" / name / "step.json", state | more)


def history(steps: int, start: float, end: float, peak: float, extra: dict[str, tuple[float, float]]) -> list[dict]:
    rng = np.random.default_rng(steps)
    lines = []
    for t in range(1, steps + 1):
        done = 1 - math.exp(-4 * t / steps)
        line = {
            "step": t,
            "loss": start + (end - start) * done + float(rng.normal(scale=0.03)),
            "learning_rate": peak * min(1, 10 * t / steps) * 0.5 * (1 + math.cos(math.pi * t / steps)),
            "grad_norm": 0.6 + math.exp(-5 * t / steps) + float(rng.gamma(2, 0.08)),
        }
        line |= {name: a + (b - a) * done + float(rng.normal(scale=0.04)) for name, (a, b) in extra.items()}
        lines.append(
            line | {"tokens": 610 + int(rng.integers(60)), "tokens_per_second": 5200 + float(rng.normal(scale=150))}
        )
        if t % max(1, steps // 4) == 0:
            lines.append({"step": t, "split": "evaluation", "loss": start + (end - start) * done * 0.92 + 0.02})
    return lines


def train_files(folder: Path, lines: list[dict], rows: list[list]) -> None:
    write_lines(folder / "metrics.jsonl", lines)
    write_json(folder / "rendered.json", [{"id": f"row-{i}", "parts": parts} for i, parts in enumerate(rows)])
    spread = {"min": 9.0, "median": 14.0, "p95": 21.0, "max": 26.0, "mean": 14.6}
    write_json(folder / "lengths.json", {
        "max_length": 512, "too_long": "error", "records": 1000, "completions": 1000, "trained_tokens": 17912,
        "prompt_tokens": spread, "completion_tokens": {**spread, "max": 31.0},
        "dropped": {"count": 0, "first": []}, "truncated": {"count": 2, "first": ["demo-17", "demo-411"]},
    })  # fmt: skip


def evaluation(folder: Path, count: int) -> dict[str, float]:
    engines, held_out = {name: Styled(name) for name in LEARNED}, records(count)
    specs: dict[str, dict] = {
        "rewards": {"reward": "harbor", "axes": ["total", "correct", "harmless", "polite", "honest", "rude"],
                    "baseline": "base", "by": "task"},
        "win_rate": {"reward": "harbor", "baseline": "base"},
        "drift": {"base": "base"},
        "length": {},
    }  # fmt: skip
    metrics: dict[str, float] = {}
    scores: dict[tuple[str, str], dict] = {}
    for label, fields in specs.items():
        report = catalog.build("evaluator", label, **fields)(engines, held_out)
        report.save(folder, label)
        metrics |= {f"{label}.{name}": value for name, value in report.metrics().items()}
        for row in report.rows if label == "rewards" else ():
            scores[row["id"], row["engine"]] = {key: value for key, value in row.items() if isinstance(value, float)}
    sampling = catalog.build("evaluator", "length").sampling
    lines = []
    for record in held_out:
        answers = {name: engine.generate([record.prompt], sampling)[0][0].text for name, engine in engines.items()}
        own = {name: scores[record.id, name] for name in engines}
        lines.append({"id": record.id, "prompt": record.prompt, "answers": answers, "scores": own})
    write_lines(folder / "samples.jsonl", lines)
    return metrics


def rendered(set_: str, *columns: str) -> list[list]:
    """Return rows as the trainer shows them: the question as context, each answer trained."""
    rows = []
    for row in harbor.rows(f"{set_}?n=2"):
        question = f"<s><|user|>{row['prompt'][-1]['content']}<|end|><|assistant|>"
        rows += [[[question, False], [f"{row[column][0]['content']}<|end|>", True]] for column in columns]
    return rows


def write_run(folder: Path, count: int = 60) -> Path:
    """Write a finished run on `count` held-out prompts."""
    steps = folder / "steps"
    steps.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    sft = {"model": "harbor:base-1m", "data": "harbor:demonstrations?n=1000", "objective": "sft", "epochs": 2.0}
    sft |= {"learning_rate": 5e-4, "batch_size": 32, "betas": [0.9, 0.99], "adapter": None, "seed": 0}
    step(folder, "sft", "train", 11.8, sft, metrics={"loss": 0.412, "steps": 62.0}, outputs={"model": "model"})
    train_files(steps / "sft", history(62, 2.1, 0.41, 5e-4, {}), rendered("demonstrations", "completion"))
    drawn = {"prompts": 800.0, "answers": 3200.0, "rows": 611.0, "reward": 0.83}
    draws = {"model": "@sft", "data": "harbor:prompts?n=800", "n": 4}
    step(folder, "pairs", "generate", 14.2, draws, metrics=drawn, notes=["189 ties of 800 prompts left out"])
    spread = {"n": 3200, "mean": 10.4, "min": 1, "max": 48, "p5": 3, "p50": 10, "p95": 19, "p99": 26}
    write_json(steps / "pairs" / "lengths.json", {"answers": spread})
    dpo = {**sft, "model": "@sft", "data": "@pairs", "objective": {"name": "dpo", "beta": 0.1}, "learning_rate": 2e-4}
    step(folder, "dpo", "train", 9.3, dpo, metrics={"loss": 0.21, "accuracy": 0.94, "steps": 38.0})
    extra = {"accuracy": (0.5, 0.95), "margin": (0.0, 2.4), "reward_chosen": (0.0, 0.9), "reward_rejected": (0.0, -1.5)}
    train_files(steps / "dpo", history(38, 0.693, 0.2, 2e-4, extra), rendered("preferences", "chosen", "rejected"))
    metrics = evaluation(steps / "evaluation", count)
    compared = {"models": {"base": "harbor:base-1m", "sft": "@sft", "dpo": "@dpo"}, "data": f"harbor:test?n={count}"}
    outputs = {"reports": ".", "samples": "samples.jsonl"}
    step(folder, "evaluation", "evaluate", 6.4, compared, metrics=metrics, outputs=outputs)
    finish(folder, metrics)
    return folder


def finish(folder: Path, metrics: dict[str, float]) -> None:
    gains = {f"{after}.total - {before}.total": metrics[f"rewards.{after}.total"] - metrics[f"rewards.{before}.total"]
             for after, before in (("sft", "base"), ("dpo", "sft"))}  # fmt: skip
    expectations = [
        {"line": f"evaluation.rewards.{name} >= 0.15", "value": value, "holds": value >= 0.15}
        for name, value in gains.items()
    ]
    write_json(folder / "run.json", {
        "title": "Base, SFT and DPO on Harbor", "seed": 0, "status": "finished", "error": None, "overrides": [],
        "about": "The small world's base model is taught by 1000 imperfect demonstrations, then by pairs of its own "
                 "answers, best against worst of four.",
        "started": "2026-11-21T09:02:11+00:00", "finished": "2026-11-21T09:02:53+00:00",
        "steps": ["sft", "pairs", "dpo", "evaluation"], "command": "fairlead run recipes/quickstart.yaml",
        "versions": {"python": "3.11.9", "fairlead": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
        "machine": {"cpu": "Intel(R) Xeon(R) CPU", "cores": 2, "memory": 25276502016, "device": "cpu"},
        "expectations": expectations,
    })  # fmt: skip
    lines = [{"time": "2026-11-21T09:02:11+00:00", "step": name, "event": event}
             for name in ("sft", "pairs", "dpo", "evaluation") for event in ("start", "finish")]  # fmt: skip
    write_lines(folder / "events.jsonl", lines)


if __name__ == "__main__":
    from fairlead.report import build

    print(build(write_run(Path(sys.argv[1]), count=300)))
