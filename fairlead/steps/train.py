"""The `train` step: any objective on any data, from any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fairlead.steps.base import Context, Outcome, Preview, Use, data_uses, reward_uses
from fairlead.training.config import TrainConfig

__all__ = ["Train"]


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train a model with any objective; the result is a plain Hugging Face folder."""

    produces: ClassVar[str | None] = "model"
    """What "@id" of this step stands for."""

    def uses(self) -> tuple[Use, ...]:
        """Return the model, the data and the objective."""
        held_out = self.evaluation_data or ()
        rewards = {} if self.rollout is None else self.rollout.named
        at = ("rewards",) if self.rollout is not None and self.rollout.rewards else ()
        return (
            Use(("model",), "model", self.model),
            *data_uses("data", self.data),
            *data_uses("evaluation_data", held_out),
            Use(("objective",), "objective", self.objective),
            *(Use(("rollout", *at, name), "reward", spec) for name, spec in rewards.items()),
            *(use for name, spec in rewards.items() for use in reward_uses(("rollout", *at, name), spec)),
        )

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Plan the run as the loop itself would, or say what it depends on."""
        from fairlead.steps.outlook import train_preview

        return train_preview(self, before)

    def __call__(self, context: Context) -> Outcome:
        """Train; goes on from the newest checkpoint in the folder."""
        from fairlead.training.loop import train

        result = train(self, context.folder, resume=True, quiet=context.quiet)
        metrics = {**result.metrics, "steps": float(result.steps), "seconds": float(result.seconds)}
        return Outcome({"model": str(result.model.relative_to(context.folder))}, metrics)
