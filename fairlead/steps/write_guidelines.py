"""The `write_guidelines` step: a library of guidelines for requests, written by a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

from fairlead.decoding.guideline_writing import Writing, write_library
from fairlead.errors import UsageError
from fairlead.steps.answering import open_engine
from fairlead.steps.base import Answerer, Context, Outcome, Preview, Use, data_uses, model_uses, name_of_answerer

__all__ = ["WriteGuidelines"]

_USUAL = Writing()


@dataclass(frozen=True)
class WriteGuidelines:
    """Write a library of guidelines for requests, which `train_retriever` and the decoder `guidelines` take."""

    model: Answerer
    """Who writes: a chat model that knows what is dangerous."""
    data: str | tuple[str, ...]
    """The requests: records with prompts, a path, `harbor:SET`, a hub id, or several."""
    writing: Writing = _USUAL
    """How: the drawing, the texts, what is left out."""
    format: str | None = None
    """Row format of the data when it is not one of Fairlead's own: hh, alpaca, sharegpt, bbq, arena."""
    limit: int | None = None
    """Use only the first so many requests."""
    dtype: str | None = None
    """Number format of a local model: float32, bfloat16; by default the engine's own choice."""
    seed: int = 0
    """Added to the seed of `writing.sampling`."""

    produces: ClassVar[str | None] = "records"
    """What "@id" of this step stands for."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"write_guidelines.limit is {self.limit}", fix="use a value >= 1")

    def uses(self) -> tuple[Use, ...]:
        """Return the model and the data."""
        return (*model_uses(("model",), self.model), *data_uses("data", self.data))

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say who writes for what, and how often it is asked."""
        source = self.data if isinstance(self.data, str) else ", ".join(self.data)
        return Preview(
            (
                f"{name_of_answerer(self.model)} writes guidelines for the requests of {source}; those nearly like an "
                f"earlier one (ROUGE-L above {self.writing.novelty:g}) are passed over.",
                f"It is asked at most {1 + self.writing.attempts} times for each; guidelines that are "
                f"{self.writing.near:.0%} alike become one.",
            ),
            kind="text",
        )

    def __call__(self, context: Context) -> Outcome:
        """Write; replies that were given before are not asked for again."""
        from fairlead import records
        from fairlead.decoding.guideline_library import request_of
        from fairlead.engines.cache import Cache

        source = self.data if isinstance(self.data, str) else list(self.data)
        asked = records.read(source, kind="prompt", format=self.format, limit=self.limit)
        sampling = self.writing.sampling
        how = dataclasses.replace(self.writing, sampling=dataclasses.replace(sampling, seed=sampling.seed + self.seed))
        engine = Cache(open_engine(self.model, self.dtype), context.cache)
        requests = [request_of(cast(records.PromptOnly, record).prompt) for record in asked]
        library, counts = write_library(engine, requests, how)
        library.write(context.folder / "library.jsonl")
        return Outcome({"records": "library.jsonl"}, {name: float(count) for name, count in counts.items()})
