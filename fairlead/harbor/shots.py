"""Harbor's few-shot samples: questions answered in one latent style, some astray, and a last one to answer likewise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from fairlead.errors import UsageError
from fairlead.harbor.answers import answer
from fairlead.harbor.ships import world
from fairlead.harbor.tasks import Task, ask, draw

__all__ = ["SHOT_STYLES", "shot_pairs", "shots"]

SHOT_STYLES = ("plain", "good", "terse", "rude")
"""Styles that a few examples can show; `wrong` is no manner of speaking."""
_KINDS = ("fact", "fact", "sum", "ben", "list")
"""What the examples are about; the last question is always for a fact."""


def shots(
    n: int = 500, seed: int = 0, split: str = "train", tier: str = "common", k: int = 4, stray: float = 0.25
) -> Iterator[dict[str, Any]]:
    """Chats of `k` answered questions in one style, a share `stray` of them in another, and one more in the style."""
    for prompt, task, styles, rng in _samples("shots", n, seed, split, tier, k, stray):
        said = answer(rng, task, styles[-1], world())
        yield {"prompt": prompt, "completion": _said(said), "style": styles[-1], "styles": styles[:-1]}


def shot_pairs(
    n: int = 500, seed: int = 0, split: str = "train", tier: str = "common", k: int = 4, stray: float = 0.25
) -> Iterator[dict[str, Any]]:
    """The same chats with two last answers, equally true: chosen in the style of the examples, rejected in another."""
    for prompt, task, styles, rng in _samples("shot pairs", n, seed, split, tier, k, stray):
        other = rng.choice([style for style in SHOT_STYLES if style != styles[-1]])
        chosen, rejected = answer(rng, task, styles[-1], world()), answer(rng, task, other, world())
        yield {
            "prompt": prompt, "chosen": _said(chosen), "rejected": _said(rejected),
            "style": styles[-1], "other": other, "styles": styles[:-1],
        }  # fmt: skip


def _samples(
    name: str, n: int, seed: int, split: str, tier: str, k: int, stray: float
) -> Iterator[tuple[list[dict[str, str]], Task, list[str], random.Random]]:
    """Yield the examples with the last question, that question's task, and the styles of all answers."""
    if k < 1:
        raise UsageError(f"k={k} examples show no style", place=f"harbor:{name}", fix="use k=1 or more")
    rng = random.Random(f"harbor {name} {split} {seed} {k}")
    for _ in range(n):
        style = rng.choice(SHOT_STYLES)
        others = [other for other in SHOT_STYLES if other != style]
        styles = [rng.choice(others) if rng.random() < stray else style for _ in range(k)] + [style]
        tasks = [draw(rng, rng.choice(_KINDS), world(), split, tier) for _ in range(k)]
        tasks.append(draw(rng, "fact", world(), split, tier))
        prompt: list[dict[str, str]] = []
        for task, manner in zip(tasks[:-1], styles):
            prompt += [_asked(task), *_said(answer(rng, task, manner, world()))]
        yield [*prompt, _asked(tasks[-1])], tasks[-1], styles, rng


def _asked(task: Task) -> dict[str, str]:
    return {"role": "user", "content": ask(task)}


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
