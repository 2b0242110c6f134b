"""What evaluators share: prompts out of records, answers out of engines, values out of rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from fairlead.engines.base import Completion, Engine, Prompt, Sampling
from fairlead.errors import DataError, EngineError, UnknownNameError, UsageError
from fairlead.rewards.base import Reward

__all__ = ["GREEDY", "check_plain", "draw", "other_engines", "prompts_of", "sample_rows", "texts", "value"]

GREEDY = Sampling(temperature=0.0)
"""One greedy answer per prompt."""

_PROMPTS_AT_ONCE = 256


def check_plain(sampling: Sampling, owner: str) -> None:
    """Refuse a sampling that draws from anything but the model's own distribution.

    max_tokens, n, seed and logprobs are free.

    Raises:
        UsageError: it names what is set.
    """
    plain = Sampling(max_tokens=sampling.max_tokens, n=sampling.n, seed=sampling.seed, logprobs=sampling.logprobs)
    shaped = [f.name for f in fields(sampling) if getattr(sampling, f.name) != getattr(plain, f.name)]
    if shaped:
        what = f"{owner}.sampling must draw from the policy itself, and sets {', '.join(shaped)}"
        raise UsageError(what, fix=f"give {owner} sampling with temperature 1 and without these")


def prompts_of(records: Sequence[Any]) -> list[Prompt]:
    """Return the prompt of every record.

    Raises:
        DataError: no records, or a record that has no prompt to answer (text, or a whole conversation).
    """
    if not records:
        raise DataError("there is no record to evaluate on", fix="give at least one record with a prompt")
    for record in records:
        if not getattr(record, "prompt", None):
            what = f"a {record.kind} record without a prompt cannot be answered"
            raise DataError(what, place=f"record {record.id}", fix='give rows with a prompt, or read as kind="prompt"')
    return [record.prompt for record in records]


def draw(
    engines: Mapping[str, Engine], prompts: Sequence[Prompt], sampling: Sampling
) -> dict[str, list[list[Completion]]]:
    """Draw `sampling.n` answers per prompt from every engine: name -> [N prompts][n]; shows progress on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    if not engines:
        raise UsageError("there is no engine to evaluate", fix="give at least one engine by name")
    console = Console(stderr=True)
    answers: dict[str, list[list[Completion]]] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for name, engine in engines.items():
            task = progress.add_task(f"{name} answers", total=len(prompts))
            answers[name] = []
            for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
                part = prompts[start : start + _PROMPTS_AT_ONCE]
                drawn = engine.generate(part, sampling)
                if [len(group) for group in drawn] != [sampling.n] * len(part):
                    what = f"{len(part)} prompts and n={sampling.n} gave {[len(g) for g in drawn]} answers"
                    raise EngineError(what, place=f"engine {name}", fix="return n completions per prompt, in order")
                answers[name].extend(drawn)
                progress.advance(task, len(part))
    return answers


def texts(answers: Sequence[Sequence[Completion]]) -> list[list[str]]:
    """Return the texts of [N][n] completions."""
    return [[completion.text for completion in group] for group in answers]


def value(reward: Reward, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Value [N][n] answers: float64 [N, n], NaN where the reward abstained."""
    repeated = [prompt for prompt, group in zip(prompts, answers) for _ in group]
    flat = [text for group in answers for text in group]
    found = reward(repeated, flat)
    if len(found) != len(flat):
        fix = "return one value per completion"
        raise UsageError(f"{type(reward).__name__} valued {len(found)} of {len(flat)} completions", fix=fix)
    return found.values.reshape(len(prompts), -1)


def sample_rows(name: str, records: Sequence[Any], columns: Mapping[str, Any]) -> list[dict]:
    """Build one row per sample of engine `name` from [N][n] columns: id, engine, sample, then the columns.

    NaN becomes None, numpy scalars become Python's.
    """
    rows = []
    for i, record in enumerate(records):
        for j in range(len(next(iter(columns.values()))[i])):
            row = {"id": str(record.id), "engine": name, "sample": j}
            rows.append(row | {column: _plain(values[i][j]) for column, values in columns.items()})
    return rows


def other_engines(engines: Mapping[str, Engine], name: str, role: str) -> dict[str, Engine]:
    """Return the engines besides `name`, which must be there and not alone."""
    if name not in engines:
        raise UnknownNameError(f"{role} engine", name, engines)
    others = {other: engine for other, engine in engines.items() if other != name}
    if not others:
        raise UsageError(f"there is no engine to compare with the {role} {name!r}", fix="give another engine as well")
    return others


def _plain(found: Any) -> Any:
    plain = found.item() if isinstance(found, np.generic) else found
    return None if isinstance(plain, float) and np.isnan(plain) else plain
