"""The contract of decoders: a frozen dataclass whose fields name engines and settings, and which is an engine itself.

So decoders nest: the engine of one may be another one, and whatever takes an engine takes a decoder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from fairlead.engines import engine
from fairlead.engines.base import SETTINGS, Completion, Engine, EngineSpec, Sampling, engine_fields
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Program, run
from fairlead.errors import UnsupportedError, UsageError
from fairlead.fields import to_plain
from fairlead.messages import Prompt

if TYPE_CHECKING:
    from fairlead.engines.local import Local
    from fairlead.engines.rows import Rows
    from fairlead.engines.shifts import Shift
    from fairlead.engines.streaming import Listener

__all__ = ["Decoder", "EngineSpec", "TokenDecoder"]


@dataclass(frozen=True)
class Decoder(ABC):
    """Base of all decoders; a subclass gives `generate`."""

    example: ClassVar[Mapping[str, Any]] = {}
    """Plain field values that build a working instance; docs and tests use it."""
    adjustable: ClassVar[tuple[str, ...]] = ()
    """The fields, besides the parts, that anybody who is served may set: they open no file and run nobody's code."""
    roles: ClassVar[Mapping[str, str]] = {}
    """Fields of `files` that name no data -> what a step of a recipe has to make for them."""
    samples: ClassVar[bool] = True
    """Whether it can draw at a temperature above 0; one that cannot refuses it."""
    honours: ClassVar[frozenset[str]] = SETTINGS
    """The settings of `Sampling` that it honours, itself or by handing them to who answers; `check` refuses others."""

    @property
    def rows_per_answer(self) -> int:
        """The most rows of a model that one answer takes at a time."""
        return max((getattr(part, "rows_per_answer", 1) for part in self.parts.values()), default=1)

    @classmethod
    def engine_fields(cls) -> tuple[str, ...]:
        """Return the names of the fields that say who answers."""
        return engine_fields(cls)

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which of plain `settings` name a file or a data set, by field: a recipe watches their content."""
        return {}

    @cached_property
    def parts(self) -> dict[str, Engine]:
        """The engines by field, opened when first used; a field that is None is left out."""
        specs = {name: getattr(self, name) for name in self.engine_fields()}
        return {name: engine(spec) for name, spec in specs.items() if spec is not None}

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with the settings and with every part."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        known = {name: part.fingerprint for name, part in self.parts.items()}
        text = json.dumps([type(self).__name__, to_plain(settings | known)], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def check(self, sampling: Sampling) -> None:
        """Refuse a way of drawing that the method does not have.

        Raises:
            UsageError: a temperature above 0 for a method that cannot draw.
            UnsupportedError: a setting that it does not honour.
        """
        if sampling.temperature > 0 and not self.samples:
            what = f"{type(self).__name__} draws nothing at random, and sampling.temperature is {sampling.temperature}"
            raise UsageError(what, place="sampling.temperature", fix="use temperature 0")
        for one in dataclasses.fields(sampling):
            if one.name not in self.honours and getattr(sampling, one.name) != one.default:
                place = f"sampling.{one.name}"
                raise UnsupportedError(f"{type(self).__name__} does not honour it", place=place, fix="leave it out")

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, in the order of the prompts."""

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Refuse: what a decoder answers is no distribution that a text has a probability under.

        Raises:
            UnsupportedError: always, unless a decoder says otherwise.
        """
        raise UnsupportedError(
            f"{type(self).__name__} gives no log-probs of a text", fix="ask the model that it decodes with"
        )

    def passes_on(self, prompts: Sequence[Prompt]) -> tuple[Engine, list[Prompt]] | None:
        """Return who answers and the prompts as it is given them, if the method changes nothing but the prompt.

        None for every other method: then no model's next-token distributions are this engine's own.
        """
        return None


@dataclass(frozen=True)
class TokenDecoder(Decoder):
    """Base of decoders that look inside local models: a subclass gives `program`, which makes one answer."""

    honours: ClassVar[frozenset[str]] = frozenset(
        {"max_tokens", "temperature", "top_p", "top_k", "n", "stop", "seed", "logprobs"}
    )

    def local(self, field: str) -> Local:
        """Return a part that must be a model in this process, or a decoder that lends one.

        Raises:
            UnsupportedError: a server, or a decoder whose tokens are no single model's.
        """
        return self._lent(field)[0]

    def lend(self) -> tuple[Local, tuple[Shift, ...]] | None:
        """Return the model whose next-token distributions are this decoder's own, and how its states are shifted.

        None where no single model has them; then no other decoder can look inside this one.
        """
        return None

    def _lent(self, field: str) -> tuple[Local, tuple[Shift, ...]]:
        from fairlead.engines.cache import Cache
        from fairlead.engines.local import Local

        part = self.parts[field]
        if isinstance(part, Cache):
            part = part.engine
        lent = (part, ()) if isinstance(part, Local) else part.lend() if isinstance(part, TokenDecoder) else None
        if lent is None:
            raise UnsupportedError(
                f"{type(self).__name__}.{field} is {type(part).__name__}, whose token distributions are out of reach",
                fix="name a local model: harbor:NAME, a folder or a hub id",
            )
        return lent

    @abstractmethod
    def program(
        self,
        prompt: Prompt,
        index: int,
        sampling: Sampling,
        rows: Mapping[str, Rows],
        tell: Listener | None = None,
    ) -> Program[Completion]:
        """Make answer number `index` to a prompt; `rows` are the parts' rows by field, `tell` hears it being made."""

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index` to a prompt with the desk's models."""
        self.check(sampling)
        return self.program(prompt, index, sampling, self.rows_from(desk), tell)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, in the order of the prompts."""
        self.check(sampling)
        # All greedy samples are equal: one is made.
        samples = sampling.n if sampling.temperature > 0 else 1
        with Desk() as desk:
            rows = self.rows_from(desk)
            starts: list[Callable[[], Program[Completion]]] = [
                partial(self.program, prompt, k, sampling, rows) for prompt in prompts for k in range(samples)
            ]
            most = min(self.local(name).max_rows for name in self.parts)
            made = run(starts, at_once=most, size=self.rows_per_answer)
        answers = [made[k * samples : (k + 1) * samples] for k in range(len(prompts))]
        return [[_copy(own[k % samples]) for k in range(sampling.n)] for own in answers]

    def rows_from(self, desk: Desk) -> dict[str, Rows]:
        """Return the parts' rows by field; a model that serves two parts is lent once."""
        parts = {name: self._lent(name) for name in self.parts}
        return {name: _shifted(desk.rows(local), shifts) for name, (local, shifts) in parts.items()}


def _shifted(rows: Rows, shifts: tuple[Shift, ...]) -> Rows:
    from fairlead.engines.rows import ShiftedRows

    return cast("Rows", ShiftedRows(rows, shifts)) if shifts else rows


def _copy(completion: Completion) -> Completion:
    """Return a completion that shares nothing that its owner could change."""
    ids, logprobs = completion.token_ids, completion.logprobs
    return replace(
        completion,
        token_ids=None if ids is None else list(ids),
        logprobs=None if logprobs is None else logprobs.copy(),
        extra=dict(completion.extra),
    )
