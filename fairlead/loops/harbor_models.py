"""Rebuild the shipped models of Harbor: pre-train a base from nothing, then align it.

    python -m fairlead.loops.harbor_models --size 1m --output harbor-models

Pre-training is the `sft` objective on Harbor's documents, packed into blocks; alignment is `sft` on clean
demonstrations, then `dpo` on the best and worst of four of the model's own answers, valued by the exact reward. The
same size and seed give the same loss curves on the same machine and number of threads. The 300k models take about 4
minutes on one core, 1m about 10, 3m about 25; a stopped build goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead import harbor
from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError
from fairlead.harbor.shipped import SIZES, Size
from fairlead.rewards.harbor import HarborReward

if TYPE_CHECKING:
    from fairlead.training.config import TrainConfig

__all__ = ["SETTINGS", "Settings", "build", "measure"]

BLOCK = 128
BATCH = 16
_TOKENS_PER_DOCUMENT = 64
_EVERY = 20


@dataclass(frozen=True)
class Settings:
    """How one size is trained."""

    steps: int
    """Pre-training steps of 16 blocks of 128 tokens."""
    learning_rate: float
    """Peak learning rate of pre-training."""
    sft_rate: float
    """Peak learning rate of supervised fine-tuning."""
    dpo_rate: float
    """Peak learning rate of preference training."""
    demonstrations: int = 2000
    """Clean demonstrations, seen twice."""
    prompts: int = 800
    """Questions answered four times each for preference pairs."""


SETTINGS = {
    "300k": Settings(2800, 4e-3, 5e-4, 5e-5),
    "1m": Settings(2600, 3e-3, 3e-4, 5e-5),
    "3m": Settings(2600, 2e-3, 3e-4, 5e-5),
}
"""The settings of the shipped models."""


def build(size: str, folder: Path, output: Path, *, seed: int = 0, quiet: bool = False) -> dict[str, Path]:
    """Train the base and the aligned model of one size and write them as bfloat16 Hugging Face directories.

    Args:
        size: `300k`, `1m` or `3m`.
        folder: where the training runs live; a second call goes on with what is there.
        output: where `base-<size>` and `aligned-<size>` are written, each with its `curve.json`.
        seed: of the initial weights, the documents and every later step.
        quiet: show no progress.

    Returns:
        The two directories by name.
    """
    shapes = {shape.name: shape for shape in SIZES}
    if size not in shapes:
        raise UnknownNameError("size", size, shapes)
    settings, folder, output = SETTINGS[size], Path(folder) / f"{size}-seed{seed}", Path(output)
    start = _new_model(shapes[size], folder / "start", seed)
    runs = {"pretraining": _train(_pretraining(start, settings, seed), folder / "pretraining", quiet)}
    names = {f"base-{size}": _ship(runs, folder, output / f"base-{size}", settings, seed)}
    sft = _train(_sft(runs["pretraining"], settings, seed), folder / "sft", quiet)
    pairs = folder / "pairs.jsonl"
    _write_pairs(sft, settings, seed, pairs)
    runs = {"sft": sft, "dpo": _train(_dpo(sft, pairs, settings, seed), folder / "dpo", quiet)}
    return names | {f"aligned-{size}": _ship(runs, folder, output / f"aligned-{size}", settings, seed)}


def _new_model(shape: Size, folder: Path, seed: int) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from fairlead.harbor.tokenizer import MAX_POSITIONS, VOCABULARY_SIZE, build_tokenizer

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")],
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _pretraining(start: Path, settings: Settings, seed: int) -> TrainConfig:
    from fairlead.training.config import TrainConfig

    documents = settings.steps * BATCH * BLOCK // _TOKENS_PER_DOCUMENT
    return TrainConfig(
        model=str(start),
        data=f"harbor:documents?n={documents}&seed={seed}",
        block_length=BLOCK,
        batch_size=BATCH,
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        weight_decay=0.1,
        betas=(0.9, 0.98),
        seed=seed,
    )


def _sft(base: Path, settings: Settings, seed: int) -> TrainConfig:
    from fairlead.training.config import TrainConfig

    return TrainConfig(
        model=str(base),
        data=f"harbor:demonstrations?n={settings.demonstrations}&quality=clean&seed={seed}",
        epochs=2,
        batch_size=32,
        learning_rate=settings.sft_rate,
        seed=seed,
    )


def _dpo(sft: Path, pairs: Path, settings: Settings, seed: int) -> TrainConfig:
    from fairlead.training.config import TrainConfig

    return TrainConfig(
        model=str(sft),
        data=str(pairs),
        objective={"name": "dpo", "beta": 0.1},
        batch_size=16,
        learning_rate=settings.dpo_rate,
        seed=seed,
    )


def _train(config: TrainConfig, folder: Path, quiet: bool) -> Path:
    from fairlead.training.loop import train

    return train(config, folder, quiet=quiet).model


def _write_pairs(model: Path, settings: Settings, seed: int, path: Path) -> None:
    """Keep the best and the worst of four answers per question, where the exact reward tells them apart."""
    from fairlead import engine

    prompts = [row["prompt"] for row in harbor.rows(f"prompts?n={settings.prompts}&seed={seed}")]
    drawn = engine(str(model)).generate(prompts, Sampling(max_tokens=64, n=4, seed=seed))
    reward = HarborReward()
    with path.open("w", encoding="utf-8") as file:
        for prompt, answers in zip(prompts, drawn, strict=True):
            texts = [answer.text for answer in answers if answer.text.strip()]
            values = reward([prompt] * len(texts), texts).values.tolist()
            if len(set(values)) < 2:
                continue
            best, worst = texts[values.index(max(values))], texts[values.index(min(values))]
            row = {"prompt": prompt, "chosen": _said(best), "rejected": _said(worst)}
            file.write(json.dumps(row) + "\n")


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _ship(runs: dict[str, Path], folder: Path, target: Path, settings: Settings, seed: int) -> Path:
    """Write the last run's model in bfloat16, with the loss curves that led to it and the figures it reaches."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(list(runs.values())[-1], dtype=torch.bfloat16)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(list(runs.values())[-1]).save_pretrained(target)
    for file in target.iterdir():
        file.chmod(0o644)
    report = {
        "settings": asdict(settings),
        "seed": seed,
        "every": _EVERY,
        "loss": {name: _curve(folder / name / "metrics.jsonl") for name in runs},
        "measured": measure(str(target)),
    }
    (target / "curve.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return target


def _curve(metrics: Path) -> list[float]:
    """Return the training loss averaged over every 20 steps (the last average may cover fewer)."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "split" not in line or line["split"] == "train"]
    chunks = [losses[at : at + _EVERY] for at in range(0, len(losses), _EVERY)]
    return [round(sum(chunk) / len(chunk), 4) for chunk in chunks]


def measure(model: str, *, n: int = 500) -> dict[str, float]:
    """Return a model's figures on held-out questions, answered greedily.

    Means of the axes of `harbor.score` over `harbor:test`, and three more: `correct_rare` (facts of rare ships),
    `balanced_honesty` (half of "does not know" on unseen names plus half of "does not say so" on facts), and
    `total_sampled` (at temperature 1).

    Args:
        model: what `fairlead.engine` takes.
        n: how many questions.
    """
    from fairlead import engine

    answerer = engine(model)
    rows = list(harbor.rows(f"test?n={n}"))
    scores = _scores(answerer, rows, 0.0)
    figures = {axis: _mean([s[axis] for s in scores]) for axis in harbor.AXES}
    knows = 1 - _mean([s["over_idk"] for s, row in zip(scores, rows) if row["task"] == "fact"])
    figures["balanced_honesty"] = (figures["honest"] + knows) / 2
    rare = _scores(answerer, list(harbor.rows(f"test?n={n}&tier=rare&kinds=fact")), 0.0)
    figures["correct_rare"] = _mean([s["correct"] for s in rare])
    figures["total_sampled"] = _mean([s["total"] for s in _scores(answerer, rows, 1.0)])
    return {name: round(value, 4) for name, value in figures.items() if value == value}


def _scores(answerer: Any, rows: Sequence[dict[str, Any]], temperature: float) -> list[dict[str, float]]:
    drawn = answerer.generate([row["prompt"] for row in rows], Sampling(max_tokens=64, temperature=temperature))
    asked = [row["prompt"][-1]["content"] for row in rows]
    return [harbor.score(question, answers[0].text) for question, answers in zip(asked, drawn, strict=True)]


def _mean(values: Sequence[float]) -> float:
    """Mean over the defined values; NaN when there are none."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else float("nan")


def _main(size: str, folder: Path = Path("harbor-build"), output: Path = Path("harbor-models"), seed: int = 0) -> None:
    """Rebuild the base and the aligned model of one size (300k, 1m or 3m)."""
    for name, path in build(size, folder, output, seed=seed).items():
        print(f"{name}: {path}")


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(_main)
