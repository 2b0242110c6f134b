"""Ensemble of a base and an aligned model: next-token probabilities are averaged (a baseline of arXiv 2410.09300)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from fairlead.decoding.base import EngineSpec, TokenDecoder
from fairlead.decoding.vocabulary import check_one_tokenizer
from fairlead.engines.base import SETTINGS, Completion, Sampling
from fairlead.engines.base_prompt import as_base_reads, check_form
from fairlead.engines.local import Local
from fairlead.engines.programs import Program
from fairlead.engines.rows import Rows, Seen
from fairlead.engines.streaming import Listener
from fairlead.engines.writing import Line, write
from fairlead.errors import UsageError
from fairlead.messages import Prompt

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble(TokenDecoder):
    """The weighted mean of a base and an aligned model's next-token probabilities."""

    base: EngineSpec
    """The base model."""
    aligned: EngineSpec
    """The aligned model. Its end of turn ends the answer. Both have one vocabulary."""
    weight: float = 0.5
    """The aligned model's share, from 0 to 1."""
    candidates: int = 0
    """A token outside a model's likeliest so many counts as impossible for that model (100 where a server tells no
    more); 0: the whole vocabulary."""
    base_prompt: str = "template"
    """How the base is asked: `template` (its own chat template), or a text in which `{question}` stands for the user's
    message and `{system}` for the system's."""

    adjustable: ClassVar[tuple[str, ...]] = ("weight", "candidates")
    honours: ClassVar[frozenset[str]] = SETTINGS
    example: ClassVar[Mapping[str, Any]] = {"base": "harbor:base-300k", "aligned": "harbor:aligned-300k"}

    def __post_init__(self) -> None:
        check_form(self.base_prompt)
        if not 0 <= self.weight <= 1:
            raise UsageError(f"ensemble.weight is {self.weight}", fix="use a value from 0 to 1")
        if self.candidates < 0:
            raise UsageError(f"ensemble.candidates is {self.candidates}", fix="use a value >= 0")

    @cached_property
    def models(self) -> dict[str, Local]:
        """The models by field, which were found to have one vocabulary."""
        found = {name: self.local(name) for name in ("base", "aligned")}
        check_one_tokenizer(found, "ensemble")
        return found

    def program(
        self,
        prompt: Prompt,
        index: int,
        sampling: Sampling,
        rows: Mapping[str, Rows],
        tell: Listener | None = None,
    ) -> Program[Completion]:
        """Make answer number `index` to a prompt; log-probs are those of the mean distribution."""
        asked = {"base": as_base_reads(prompt, self.base_prompt), "aligned": prompt}
        lines = [Line(local, rows[name], rows[name].open(), asked[name]) for name, local in self.models.items()]
        return write(lines, index, sampling, combine=self._combine, tell=tell, stopping=self.models["aligned"])

    def _combine(self, seen: Sequence[Seen]) -> Tensor:
        base, aligned = map(self._listed, seen)
        return ((1 - self.weight) * base + self.weight * aligned).log()

    def _listed(self, seen: Seen) -> Tensor:
        probabilities = torch.softmax(seen.logits, -1)
        if not 0 < self.candidates < probabilities.shape[-1]:
            return probabilities
        least = probabilities.topk(self.candidates).values[:, -1:]
        return probabilities.masked_fill(probabilities < least, 0.0)
