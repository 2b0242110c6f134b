"""The kinds of step that a recipe may have, one module each."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from fairlead.errors import UnknownNameError

__all__ = ["KINDS", "StepKind", "find"]


@dataclass(frozen=True)
class StepKind:
    """One kind of step."""

    name: str
    """Its key in a recipe."""
    target: str
    """Where it lives: "module:class"."""
    line: str
    """What it does, in one line."""

    def load(self) -> type:
        """Import and return the step's dataclass."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


KINDS: tuple[StepKind, ...] = (
    StepKind(
        "new_model", "fairlead.steps.new_model:NewModel", "a tokenizer and a small untrained model from your own text"
    ),
    StepKind("train", "fairlead.steps.train:Train", "train a model with any objective"),
    StepKind("generate", "fairlead.steps.generate:Generate", "answer prompts and keep all answers, the best, or pairs"),
    StepKind("synthesize", "fairlead.steps.synthesize:Synthesize", "make new records with a synthesizer"),
    StepKind("select", "fairlead.steps.select:Select", "keep the records that a selector chooses"),
    StepKind(
        "write_requests",
        "fairlead.steps.write_requests:WriteRequests",
        "requests of every kind of risk, written by a model",
    ),
    StepKind(
        "write_guidelines",
        "fairlead.steps.write_guidelines:WriteGuidelines",
        "a library of guidelines for requests, written by a model",
    ),
    StepKind(
        "train_retriever",
        "fairlead.steps.train_retriever:TrainRetriever",
        "train what finds guidelines for requests, and measure it",
    ),
    StepKind("evaluate", "fairlead.steps.evaluate:Evaluate", "compare models on held-out data"),
    StepKind("harness", "fairlead.steps.harness:Harness", "run tasks of lm-evaluation-harness on models and methods"),
    StepKind("export", "fairlead.steps.export:Export", "merge adapters, change the number format, check the copy"),
)


def find(name: str, *, place: str | None = None) -> StepKind:
    """Return the kind of step called `name`, or raise with the nearest name."""
    known = {kind.name: kind for kind in KINDS}
    if name not in known:
        raise UnknownNameError("kind of step", name, known, place=place)
    return known[name]
