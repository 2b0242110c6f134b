"""The `train_retriever` step: two encoders that find guidelines for requests, trained on a library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fairlead.decoding.guideline_config import RetrieverConfig
from fairlead.steps.base import Context, Outcome, Preview, Use
from fairlead.steps.rows import progress

__all__ = ["TrainRetriever"]


@dataclass(frozen=True)
class TrainRetriever(RetrieverConfig):
    """Train a retriever of guidelines, which the decoder `guidelines` takes, and measure it on held-out requests."""

    produces: ClassVar[str | None] = "retriever"
    """What "@id" of this step stands for."""

    def uses(self) -> tuple[Use, ...]:
        """Return the encoder to begin with, the library and the held-out requests."""
        named = (("library", self.library), ("evaluation_data", self.evaluation_data))
        data = (Use((key,), "data", value) for key, value in named if isinstance(value, str))
        return (Use(("model",), "model", self.model), *data)

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say what learns from what."""
        library = self.library if isinstance(self.library, str) else f"{len(self.library)} guidelines"
        encoders = "two encoders that begin as" if self.encoders == "two" else "one encoder that begins as"
        asked = self.evaluation_data or f"{self.held_out:.0%} of its requests"
        beside = f", beside {', '.join(self.baselines)}" if self.baselines else ""
        return Preview(
            (
                f"Trains {encoders} {self.model} to find the guidelines of {library}, in {self.epochs} epochs of "
                f"{self.batch_size} requests a step, each beside {self.other_negatives} random and "
                f"{self.hard_negatives} hard guidelines of others.",
                f"Measures what it finds for {asked}{beside}.",
            )
        )

    def __call__(self, context: Context) -> Outcome:
        """Train; goes on behind the last whole epoch."""
        from fairlead.decoding.guideline_training import train_retriever

        with progress("train_retriever", self.epochs, quiet=context.quiet) as advance:
            result = train_retriever(self, context.folder, advance=advance)
        metrics = {f"{name}.{key}": v for name, found in result.figures.items() for key, v in found.metrics().items()}
        metrics |= {"loss": result.loss} | {name: float(count) for name, count in result.counts.items()}
        return Outcome({"retriever": result.folder.name}, metrics, _notes(self, result.counts))


def _notes(config: RetrieverConfig, counts: Mapping[str, int]) -> tuple[str, ...]:
    said = {
        "cut": f"{counts['cut']} texts were cut at {config.max_length} tokens",
        "unknown": f"{counts['unknown']} held-out requests left out: the library has none of their guidelines",
    }
    return tuple(text for name, text in said.items() if counts[name])
