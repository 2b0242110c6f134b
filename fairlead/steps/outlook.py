"""What steps would do, in sentences, from what is known before anything runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fairlead.engines.base import Sampling
from fairlead.steps.base import Preview, name_of_answerer

if TYPE_CHECKING:
    from fairlead.steps.evaluate import Evaluate
    from fairlead.steps.generate import Generate
    from fairlead.steps.select import Select
    from fairlead.steps.synthesize import Synthesize
    from fairlead.steps.train import Train

__all__ = [
    "evaluate_preview",
    "generate_preview",
    "model_behind",
    "select_preview",
    "synthesize_preview",
    "train_preview",
]

_BYTES_PER_WEIGHT = 16
"""float32 weight, gradient and AdamW's two moments."""
_KINDS = {"all": "conversation", "best": "conversation", "best_worst": "preference", "ranking": "ranking"}


def model_behind(model: str, before: Mapping[str, Preview]) -> str | None:
    """Return an existing model of the same shape as `model`, or None when that one is yet to be made."""
    name = _referred(model)
    return model if name is None else before[name].model


def train_preview(step: Train, before: Mapping[str, Preview]) -> Preview:
    """Plan a training step exactly where its model's shape and its data are there, else by upper bounds."""
    standin = model_behind(step.model, before)
    held_out = step.evaluation_data or ()
    sources = [*step.sources, *([held_out] if isinstance(held_out, str) else held_out)]
    if standin is not None and not any(_referred(source) for source in sources):
        from fairlead.training.plan import plan

        known = plan(dataclasses.replace(step, model=standin))
        first = known.sentences[0].replace(standin, step.model, 1)
        return Preview((first, *known.sentences[1:]), model=standin, parameters=known.parameters)
    rows, said = _rows(step.sources, before, format=step.format, kind=step.kind, limit=step.limit)
    objective = step.objective if isinstance(step.objective, str) else step.objective.get("name")
    sentences = [f"Trains {step.model} with {objective} on {said}."]
    steps = step.max_steps or (None if rows is None else math.ceil(math.ceil(rows / step.batch_size) * step.epochs))
    if step.block_length is not None and step.max_steps is None:
        sentences.append(f"The texts are joined to blocks of {step.block_length} tokens, {step.batch_size} a step.")
    elif steps is not None:
        at_most = "" if step.max_steps else "at most "
        sentences.append(f"Takes {at_most}{steps:,} steps of {step.batch_size} groups.")
    sentences.append(
        f"AdamW at {step.learning_rate:g}, {step.schedule} schedule with {step.warmup:.0%} warm-up, in {step.dtype}; "
        + ("the weights stay frozen under an adapter." if step.adapter is not None else "no weight is frozen.")
    )
    parameters = _parameters(step.model, standin, before)
    if parameters is not None:
        sentences.append(
            f"{parameters:,} weights take about {parameters * _BYTES_PER_WEIGHT / 2**20:,.0f} MiB with gradients and "
            "moments; tokens per step are known once the steps before have run."
        )
    return Preview(tuple(sentences), model=standin, parameters=parameters)


def generate_preview(step: Generate, before: Mapping[str, Preview]) -> Preview:
    """Say how many answers will be drawn and what they become."""
    sources = [step.data] if isinstance(step.data, str) else list(step.data)
    prompts, said = _rows(sources, before, format=step.format, kind="prompt", limit=step.limit)
    drawn = f"{prompts * step.n:,} answers" if prompts is not None else f"{step.n} answers each"
    how = f"{drawn} of at most {step.max_tokens} tokens, {_drawn_how(step.sampling)}"
    sentences = [f"{name_of_answerer(step.model)} answers {said}: {how}."]
    kept = {
        "all": "Every answer is kept as a conversation.",
        "best": "Each prompt's best answer is kept as a conversation.",
        "best_worst": "Each prompt's best and worst answer become a pair; equal ones are dropped and counted.",
        "ranking": "Each prompt's answers are kept as a ranking with their scores.",
    }
    if step.reward is not None:
        name = step.reward if isinstance(step.reward, str) else step.reward.get("name")
        sentences.append(f"The reward {name} values them. {kept[step.keep]}")
    else:
        sentences.append(kept[step.keep])
    rows = None if prompts is None else prompts * (step.n if step.keep == "all" else 1)
    return Preview(tuple(sentences), rows=rows, kind=_KINDS[step.keep])


def synthesize_preview(step: Synthesize, before: Mapping[str, Preview]) -> Preview:
    """Say which models a method asks about how many seeds, and how many rows it makes at most."""
    from fairlead.synthesis.base import name_of

    method = step.build()
    seeds = min(step.count or 0, step.limit or step.count or 0)
    said = f"{seeds:,} starts from nothing"
    if step.data is not None:
        sources = [step.data] if isinstance(step.data, str) else list(step.data)
        seeds, said = _rows(sources, before, format=step.format, kind=method.reads, limit=step.limit)
    roles = ", ".join(
        f"{name_of_answerer(model)} as {role} ({method.engines[role]})" for role, model in step.models.items()
    )
    rows = None if seeds is None else seeds * method.rows_per_seed
    most = f"at most {rows:,} rows" if rows is not None else f"at most {method.rows_per_seed} rows each"
    sentences = (f"Makes {method.makes} records with {name_of(method)} from {said}: {most}.", f"It asks {roles}.")
    return Preview(sentences, rows=rows, kind=method.makes)


def evaluate_preview(step: Evaluate, before: Mapping[str, Preview]) -> Preview:
    """Say what is compared, on what, by which evaluators."""
    said = "questions of the evaluators' own"
    if step.sources:
        _, said = _rows(step.sources, before, format=step.format, kind=step.kind, limit=step.limit)
    models = ", ".join(f"{name} ({name_of_answerer(model)})" for name, model in step.models.items())
    sentences = [f"Compares {models} on {said}, under {', '.join(step.labels)}."]
    built = step.build().values()
    samplings = dict.fromkeys(evaluator.sampling for evaluator in built if hasattr(evaluator, "sampling"))
    for sampling in samplings:
        drawn = f"{sampling.n} answers" if sampling.n > 1 else "an answer"
        sentences.append(
            f"Each draws {drawn} of at most {sampling.max_tokens} tokens per prompt, {_drawn_how(sampling)}; an answer "
            "drawn before is not drawn again."
        )
    return Preview(tuple(sentences))


def _referred(source: str) -> str | None:
    return source[1:].partition("#")[0].partition("?")[0] if source.startswith("@") else None


def _rows(
    sources: Sequence[str], before: Mapping[str, Preview], *, format: str | None, kind: str | None, limit: int | None
) -> tuple[int | None, str]:
    """Return how many rows there are at most (None when unknown), and that in words."""
    from fairlead import records

    total, exact, kinds = 0, True, set()
    for source in sources:
        name = _referred(source)
        if name is None:
            read = records.read(source, kind=kind, format=format, limit=limit)
            total += len(read)
            kinds.add(read.kind)
            continue
        exact = False
        rows = before[name].rows
        if rows is None:
            return None, f"what {', '.join(sources)} will hold"
        if kind == "feedback" and before[name].kind == "preference":
            rows *= 2  # both answers of a pair
        total += rows if limit is None else min(rows, limit)
        kinds.add(kind or before[name].kind or "")
    if limit is not None:
        total = min(total, limit)
    said = f"{'' if exact else 'at most '}{total:,} {'/'.join(sorted(kinds))} records of {', '.join(sources)}"
    return total, said


def _drawn_how(sampling: Sampling) -> str:
    return "greedily" if sampling.temperature == 0 else f"at temperature {sampling.temperature:g}, seed {sampling.seed}"


def _parameters(model: str, standin: str | None, before: Mapping[str, Preview]) -> int | None:
    name = _referred(model)
    if name is not None and before[name].parameters is not None:
        return before[name].parameters
    if standin is None:
        return None
    from fairlead import models

    return sum(p.numel() for p in models.load_shape(standin).parameters())


def select_preview(step: Select, before: Mapping[str, Preview]) -> Preview:
    """Say what chooses among how many records, and how many it keeps at most."""
    from fairlead.selection.base import name_of, number_kept

    sources = [step.data] if isinstance(step.data, str) else list(step.data)
    pool, said = _rows(sources, before, format=step.format, kind=step.kind, limit=step.limit)
    method = step.method
    keep = getattr(method, "keep", None)
    rows = None if pool is None else number_kept(keep, pool)
    most = "" if rows is None or keep is None else f": at most {rows:,}"
    return Preview((f"Keeps what {name_of(method)} chooses of {said}{most}.",), rows=rows, kind=step.kind)
