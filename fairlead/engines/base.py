"""The contract of everything that answers: prompts in, completions out.

Engines are composable: a local model, a server, a cache and every decoding-time method have this one shape.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from fairlead.errors import UsageError
from fairlead.messages import Message, Prompt

__all__ = [
    "SETTINGS",
    "Completion",
    "Engine",
    "EngineSpec",
    "FinishReason",
    "Message",
    "Prompt",
    "Sampling",
    "engine_fields",
    "engine_values",
]

EngineSpec: TypeAlias = Annotated[Any, "an engine"]
"""Who answers: a model's name, a mapping of a decoder's `name` and fields, or an engine. A field of a method that is so
annotated (or as `EngineSpec | None`, or `dict[str, EngineSpec]` for several) is seen by recipes."""

_ONE = ("EngineSpec", "EngineSpec | None")
_SEVERAL = ("dict[str, EngineSpec]",)


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """An end-of-turn token or a stop string."""
    LENGTH = "length"
    """The token limit."""


@dataclass(frozen=True)
class Sampling:
    """How to draw completions."""

    max_tokens: int = 256
    """Most tokens per completion."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Smallest set of tokens whose probabilities reach this is kept, in (0, 1]."""
    top_k: int = 0
    """Tokens kept by probability; 0 keeps all."""
    n: int = 1
    """Completions per prompt."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; the text itself is not part of it."""
    seed: int = 0
    """Randomness of a completion depends on this seed, its prompt and its index alone, never on its batch."""
    logprobs: bool = False
    """Whether completions carry per-token log-probs (nats, of the model's own distribution: untempered, unbiased)."""
    min_p: float = 0.0
    """Tokens less likely than this share of the likeliest one's probability are not drawn, in [0, 1]; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divides the positive and multiplies the negative logits of tokens that the prompt or the answer so far has; above
    1 they become less likely."""
    presence_penalty: float = 0.0
    """Taken from the logits of tokens that the answer so far has, in [-2, 2]."""
    frequency_penalty: float = 0.0
    """Taken from the logit of a token once for every time that the answer so far has it, in [-2, 2]."""
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    """Token id -> what is added to its logit, in [-100, 100]; kept as pairs in the order of the ids."""
    min_tokens: int = 0
    """Tokens before which no end-of-turn token and none of `stop_token_ids` is drawn; a stop text that is complete
    within them ends nothing."""
    ignore_eos: bool = False
    """Whether an answer goes on behind an end-of-turn token."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end an answer besides the model's own ones; the text ends before them."""
    choices: tuple[str, ...] = ()
    """Texts of which an answer is one, whole; none for free text."""
    schema: Mapping[str, Any] | str | None = None
    """JSON schema of what an answer is, as a mapping or as text, kept as text; None for free text. Servers alone can
    keep to one."""
    top_logprobs: int = 0
    """Likeliest tokens told at each place, with their log-probs, in `extra["top_logprobs"]`: a list with text -> nats
    per token; 0 for none. Servers alone tell them: a model of this process scores whole texts instead."""

    def __post_init__(self) -> None:
        checks = [
            ("max_tokens", self.max_tokens >= 1, ">= 1"),
            ("temperature", self.temperature >= 0, ">= 0"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("top_k", self.top_k >= 0, ">= 0"),
            ("n", self.n >= 1, ">= 1"),
            ("min_p", 0 <= self.min_p <= 1, "in [0, 1]"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "> 0"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "in [-2, 2]"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "in [-2, 2]"),
            ("min_tokens", self.min_tokens >= 0, ">= 0"),
            ("top_logprobs", self.top_logprobs >= 0, ">= 0"),
        ]
        for name, holds, wanted in checks:
            if not holds:
                raise UsageError(f"sampling.{name} is {getattr(self, name)}", fix=f"use a value {wanted}")
        if self.min_tokens > self.max_tokens:
            what = f"is {self.min_tokens}, more than max_tokens, {self.max_tokens}"
            raise UsageError(what, place="sampling.min_tokens", fix="lower it, or raise max_tokens")
        if isinstance(self.stop, str) or any(not s for s in self.stop):
            raise UsageError("sampling.stop must be a list of non-empty texts", fix='for one text use ["text"]')
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        for name, tokens in self.tokens_named().items():
            for token in tokens:
                if not isinstance(token, int) or token < 0:
                    raise UsageError(f"sampling.{name} names token {token!r}", fix="use whole numbers from 0")
        for token, bias in dict(self.logit_bias).items():
            if not -100 <= bias <= 100:
                raise UsageError(f"sampling.logit_bias of token {token} is {bias}", fix="use a value in [-100, 100]")
        object.__setattr__(self, "logit_bias", tuple(sorted(dict(self.logit_bias).items())))
        self._check_form()

    def _check_form(self) -> None:
        """Look at what an answer is to be."""
        if isinstance(self.choices, str) or any(not isinstance(one, str) or not one for one in self.choices):
            raise UsageError("sampling.choices must be a list of non-empty texts", fix='e.g. ["yes", "no"]')
        object.__setattr__(self, "choices", tuple(dict.fromkeys(self.choices)))
        if self.choices and (self.schema is not None or self.ignore_eos):
            other = "ignore_eos" if self.ignore_eos else "schema"
            what = f"goes with no {other}: an answer that is one of them ends there"
            raise UsageError(what, place="sampling.choices", fix="leave one of them out")
        if self.schema is None:
            return
        try:
            known = json.loads(self.schema) if isinstance(self.schema, str) else dict(self.schema)
            text = json.dumps(known, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"is no JSON: {error}", place="sampling.schema", fix="give a JSON schema") from error
        if not isinstance(known, dict):
            raise UsageError("is no JSON object", place="sampling.schema", fix='e.g. {"type": "object"}')
        object.__setattr__(self, "schema", text)

    def tokens_named(self) -> dict[str, tuple[int, ...]]:
        """Return the token ids that each setting names."""
        return {"logit_bias": tuple(dict(self.logit_bias)), "stop_token_ids": self.stop_token_ids}


SETTINGS = frozenset(one.name for one in fields(Sampling))
"""All that can be said about how to draw."""


@dataclass
class Completion:
    """One answer."""

    text: str
    """The answer, without end-of-turn token and stop string."""
    token_ids: list[int] | None = None
    """Ids as sampled, the end-of-turn token included when one was drawn; None when the engine does not know."""
    logprobs: np.ndarray | None = None
    """float32 [T], nats, aligned with `token_ids`; None unless asked for."""
    finish_reason: FinishReason = FinishReason.STOP
    """Why it ended."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What a decoder adds: candidates, per-token sources, token counts..."""


@runtime_checkable
class Engine(Protocol):
    """Anything that answers."""

    @property
    def fingerprint(self) -> str:
        """A text that changes whenever answers could: model weights, template, method, parameters."""
        ...

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, in the order of the prompts."""
        ...

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Return teacher-forced per-token log-probs, float32 [T_i] each, end-of-turn token included.

        Raises:
            UnsupportedError: engines that cannot say so.
        """
        ...


def engine_fields(cls: type) -> tuple[str, ...]:
    """Return the names of a method's fields that say who answers."""
    return tuple(f.name for f in fields(cls) if f.type == EngineSpec or f.type in (*_ONE, *_SEVERAL))


def engine_values(cls: type, values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield who answers in plain `values` of a method's fields, each with the keys under which it stands."""
    for one in fields(cls):
        given = values.get(one.name)
        if given is None:
            continue
        if one.type == EngineSpec or one.type in _ONE:
            yield (one.name,), given
        elif one.type in _SEVERAL and isinstance(given, Mapping):
            yield from (((one.name, key), inner) for key, inner in given.items())
