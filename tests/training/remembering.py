"""An objective with memory for the tests: SFT that counts the tokens it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fairlead.training.objectives.base import Loss, Needs, Scores
from fairlead.training.objectives.sft import SFT


@dataclass(frozen=True)
class Remembering:
    needs: ClassVar[Needs] = Needs(record="conversation")

    def init(self) -> dict[str, Tensor]:
        return {"seen": torch.zeros(())}

    def __call__(self, scores: Scores, state: Mapping[str, Tensor]) -> Loss:
        loss = SFT()(scores)
        loss.metrics["seen"] = (state["seen"] * loss.count, loss.count)
        return loss

    def remember(self, state: Mapping[str, Tensor], totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        return {"seen": state["seen"] + totals["nll"][1].float()}
