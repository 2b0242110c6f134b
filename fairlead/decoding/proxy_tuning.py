"""Proxy tuning (Liu et al. 2024, arXiv 2401.08565): the difference that tuning made to a small model's logits is added
to a large model's, token by token.
"""

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

__all__ = ["ProxyTuning"]


@dataclass(frozen=True)
class ProxyTuning(TokenDecoder):
    """A large base model, tuned by proxy: softmax(z_base + strength (z_tuned - z_untuned))."""

    base: EngineSpec
    """The large base model."""
    tuned: EngineSpec
    """The small aligned model. Its end of turn ends the answer."""
    untuned: EngineSpec
    """The small model before its alignment. All three have one vocabulary."""
    strength: float = 1.0
    """How many times the difference is added."""
    candidates: int = 0
    """Only tokens among the likeliest so many of all three models can be drawn (100 where a server tells no more); 0:
    the whole vocabulary, as the equation says. Where no token is in all three lists, it is the whole vocabulary too."""
    base_prompt: str = "template"
    """How the base and the untuned model are asked: `template` (their own chat template), or a text in which
    `{question}` stands for the user's message and `{system}` for the system's."""

    adjustable: ClassVar[tuple[str, ...]] = ("strength", "candidates")
    honours: ClassVar[frozenset[str]] = SETTINGS
    example: ClassVar[Mapping[str, Any]] = {
        "base": "harbor:base-300k",
        "tuned": "harbor:aligned-300k",
        "untuned": "harbor:base-300k",
    }

    def __post_init__(self) -> None:
        check_form(self.base_prompt)
        if self.candidates < 0:
            raise UsageError(f"proxy_tuning.candidates is {self.candidates}", fix="use a value >= 0")

    @cached_property
    def models(self) -> dict[str, Local]:
        """The models by field, which were found to have one vocabulary."""
        found = {name: self.local(name) for name in ("base", "tuned", "untuned")}
        check_one_tokenizer(found, "proxy_tuning")
        return found

    def program(
        self,
        prompt: Prompt,
        index: int,
        sampling: Sampling,
        rows: Mapping[str, Rows],
        tell: Listener | None = None,
    ) -> Program[Completion]:
        """Make answer number `index` to a prompt; log-probs are those of the combined distribution."""
        plain = as_base_reads(prompt, self.base_prompt)
        asked = {"base": plain, "tuned": prompt, "untuned": plain}
        lines = [Line(local, rows[name], rows[name].open(), asked[name]) for name, local in self.models.items()]
        return write(lines, index, sampling, combine=self._combine, tell=tell, stopping=self.models["tuned"])

    def _combine(self, seen: Sequence[Seen]) -> Tensor:
        base, tuned, untuned = (one.logits for one in seen)
        combined = base + self.strength * (tuned - untuned)
        if 0 < self.candidates < combined.shape[-1]:
            listed = torch.ones_like(combined, dtype=torch.bool)
            for logits in (base, tuned, untuned):
                listed &= logits >= logits.topk(self.candidates).values[:, -1:]
            if listed.any():
                combined = combined.masked_fill(~listed, -torch.inf)
        return combined
