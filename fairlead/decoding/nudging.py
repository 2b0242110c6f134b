"""Nudging (Fei, Razeghi, Singh, ACL 2025, arXiv 2410.09300): a small aligned model writes the words at which a large
base model is unsure, and the base model writes the rest.

Text is what the models exchange, so any two tokenizers do. A model reads its prompt and the text so far, encoded on its
own; inside one draft or one run its tokens stay as it wrote them. What is done faster than that (one forward for all
hand-overs, drafts as guesses, rows cut back instead of read anew) changes no token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fairlead.decoding.base import EngineSpec, TokenDecoder
from fairlead.decoding.nudge_writing import Writing
from fairlead.decoding.nudged import BOUNDARIES
from fairlead.decoding.reader import Reader
from fairlead.engines.base import Completion, Sampling
from fairlead.engines.base_prompt import as_base_reads, check_form
from fairlead.engines.programs import Program
from fairlead.engines.rows import Rows
from fairlead.engines.streaming import Listener
from fairlead.errors import UnknownNameError, UnsupportedError, UsageError
from fairlead.messages import Prompt

__all__ = ["Nudging"]


@dataclass(frozen=True)
class Nudging(TokenDecoder):
    """A base model that is nudged by an aligned one where it is unsure."""

    base: EngineSpec
    """The large base model, which writes most of the answer."""
    nudger: EngineSpec
    """The small aligned model. Only it can end the answer."""
    gamma: float = 0.3
    """The base writes as long as its likeliest token has at least this probability. The paper: 0.4 for Llama-2, 0.3
    for Gemma-2 and OLMo."""
    draft_tokens: int = 16
    """Tokens that the nudger writes before the base is asked where to take over. An end of the answer among them ends
    it, so it should be well below the usual length of an answer."""
    agree: bool = True
    """Whether the base also takes over, however unsure, where its token is how the nudger goes on."""
    boundary: str = "space"
    """Where the base may take over: `space` (before a space), or `token` (after any of the nudger's tokens), for
    scripts without spaces."""
    max_rounds: int = 150
    """Most drafts of one answer."""
    repeat_limit: int = 3
    """The answer ends when the same nudge was repeated so often in a row; the last one is left out."""
    base_prompt: str = "template"
    """How the base is asked: `template` (its own chat template), or a text in which `{question}` stands for the user's
    message and `{system}` for the system's."""
    base_temperature: float | None = None
    """Temperature of the base; by default the request's. A greedy request (temperature 0) is greedy throughout."""
    nudger_temperature: float | None = None
    """Temperature of the nudger; by default the request's."""
    guesses: int = 0
    """Tokens that the nudger guesses ahead of a run of the base that has left the draft, for the base to check in one
    forward. Changes no answer; saves time where the base is more than about ten times as large."""

    adjustable: ClassVar[tuple[str, ...]] = (
        *("gamma", "draft_tokens", "agree", "boundary", "max_rounds", "repeat_limit"),
        *("base_temperature", "nudger_temperature", "guesses"),
    )
    example: ClassVar[Mapping[str, Any]] = {
        "base": "harbor:base-300k",
        "nudger": "harbor:aligned-300k",
        "gamma": 0.5,
        "draft_tokens": 4,
    }

    honours: ClassVar[frozenset[str]] = TokenDecoder.honours | {"min_p"}

    def __post_init__(self) -> None:
        if self.boundary not in BOUNDARIES:
            raise UnknownNameError("boundary", self.boundary, BOUNDARIES)
        check_form(self.base_prompt)
        checks = [
            ("gamma", 0 <= self.gamma <= 1, "from 0 to 1"),
            ("draft_tokens", self.draft_tokens >= 1, ">= 1"),
            ("max_rounds", self.max_rounds >= 1, ">= 1"),
            ("repeat_limit", self.repeat_limit >= 1, ">= 1"),
            ("guesses", self.guesses >= 0, ">= 0"),
            ("base_temperature", (self.base_temperature or 0) >= 0, ">= 0"),
            ("nudger_temperature", (self.nudger_temperature or 0) >= 0, ">= 0"),
        ]
        for name, holds, wanted in checks:
            if not holds:
                raise UsageError(f"nudging.{name} is {getattr(self, name)}", fix=f"use a value {wanted}")

    def check(self, sampling: Sampling) -> None:
        """Refuse log-probs, as no single distribution has the answer, and what counts tokens of one tokenizer.

        Raises:
            UnsupportedError: `sampling.logprobs`, or a setting that it does not honour.
        """
        super().check(sampling)
        if sampling.logprobs:
            raise UnsupportedError(
                "two models write a nudged answer, so its tokens have no log-probs",
                fix='leave logprobs out; extra["segments"] has every writer\'s top probabilities',
            )

    def program(
        self,
        prompt: Prompt,
        index: int,
        sampling: Sampling,
        rows: Mapping[str, Rows],
        tell: Listener | None = None,
    ) -> Program[Completion]:
        """Make answer number `index` to a prompt.

        `extra` has `segments` (source `nudge` or `base`, text, the writer's token_ids, of which the last can reach
        beyond the text, and top1, its likeliest token's probability at each), `stop_reason` (nudger_eos, stop, length,
        rounds, repeat) and `stats`: drafts (rounds), tests of a draft and the places asked in them, forwards of each
        model, and tokens by source, counted with the base's tokenizer. `token_ids` is None.
        """
        told = None if tell is None else tell.top
        base = Reader(self.local("base"), rows["base"], as_base_reads(prompt, self.base_prompt), "base", told)
        nudger = Reader(self.local("nudger"), rows["nudger"], prompt, "nudge", told)
        try:
            return (yield from Writing(self, base, nudger, index, sampling, tell).write())
        finally:
            base.close()
            nudger.close()
