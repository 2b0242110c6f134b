"""The `write_requests` step: requests of every kind of risk, written by a model, for which guidelines are wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fairlead.decoding.guideline_requests import RequestWriting, risks, write_requests
from fairlead.errors import DataError
from fairlead.steps.answering import open_engine
from fairlead.steps.base import Answerer, Context, Outcome, Preview, Use, model_uses, name_of_answerer
from fairlead.steps.rows import write_rows

__all__ = ["WriteRequests"]

_USUAL = RequestWriting(each=100)


@dataclass(frozen=True)
class WriteRequests:
    """Have a model write requests whose answers could do harm, as prompts for `write_guidelines`."""

    model: Answerer
    """Who writes: a chat model."""
    writing: RequestWriting = _USUAL
    """How: how many of each kind (100, where the paper has 10,000), the drawing, what is left out."""
    dtype: str | None = None
    """Number format of a local model: float32, bfloat16; by default the engine's own choice."""
    seed: int = 0
    """Added to the seed of `writing.sampling`."""

    produces: ClassVar[str | None] = "records"
    """What "@id" of this step stands for."""

    def uses(self) -> tuple[Use, ...]:
        """Return the model."""
        return tuple(model_uses(("model",), self.model))

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say how many are asked for."""
        rows = self.writing.each * len(risks())
        said = f"{name_of_answerer(self.model)} writes up to {rows:,} requests, {self.writing.each:,} of each of "
        return Preview((f"{said}{len(risks())} kinds of risk.",), rows=rows, kind="prompt")

    def __call__(self, context: Context) -> Outcome:
        """Write; replies that were given before are not asked for again."""
        from fairlead.engines.cache import Cache

        sampling = self.writing.sampling
        how = dataclasses.replace(self.writing, sampling=dataclasses.replace(sampling, seed=sampling.seed + self.seed))
        found, counts = write_requests(Cache(open_engine(self.model, self.dtype), context.cache), how)
        if not found:
            told = ", ".join(f"{name} {number}" for name, number in counts.items())
            raise DataError(
                f"no request was written ({told})", fix="look at what the model replies, or use another one"
            )
        write_rows(
            context.folder / "records.jsonl",
            (
                {"id": f"{k:06d}", "prompt": [{"role": "user", "content": one.text}], "risk": one.type}
                for k, one in enumerate(found)
            ),
        )
        few = counts["given_up"]
        notes = (f"{few} kinds of risk ran dry before {self.writing.each} requests",) if few else ()
        return Outcome({"records": "records.jsonl"}, {name: float(count) for name, count in counts.items()}, notes)
