"""Every error Fairlead raises on purpose, in one tree.

FairleadError                 anything below; `str(error)` names the place, what is wrong and the fix
├── UsageError                an argument, option or name that cannot be used as given
│   ├── UnknownNameError      a name that is not in a catalog or list (suggests the nearest)
│   ├── UnknownFieldError     a field that a method, step or recipe does not have (suggests the nearest)
│   └── MissingExtraError     an optional package that is not installed (names the extra)
├── DataError                 a file, row or field that is not what its schema says
├── RenderError               messages that cannot be turned into tokens, or a template that breaks a promise
├── ModelError                a model or tokenizer that cannot be loaded or used
├── EngineError               an engine that could not answer
│   ├── EngineTimeoutError    no answer before the deadline
│   ├── RequestError          a prompt or setting that an engine cannot take, such as one too long for it
│   └── UnsupportedError      a thing this engine (or method) cannot do by its nature
├── TrainingError             a training run that cannot start or go on
├── RecipeError               a recipe file that does not say a runnable plan
└── ExpectationError          a run whose `expect:` lines do not hold
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "DataError",
    "EngineError",
    "EngineTimeoutError",
    "ExpectationError",
    "FairleadError",
    "MissingExtraError",
    "ModelError",
    "RecipeError",
    "RenderError",
    "RequestError",
    "TrainingError",
    "UnknownFieldError",
    "UnknownNameError",
    "UnsupportedError",
    "UsageError",
    "nearest",
]


class FairleadError(Exception):
    """Base of the tree: what is wrong, where, and what to do about it."""

    def __init__(self, what: str, *, place: str | None = None, fix: str | None = None):
        self.what, self.place, self.fix = what, place, fix
        head = f"{place}: {what}" if place else what
        super().__init__(f"{head}\n  fix: {fix}" if fix else head)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let errors travel between processes whole, whatever their class is made of."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(cls: type[FairleadError], args: tuple[Any, ...], state: dict[str, Any]) -> FairleadError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(FairleadError):
    """An argument, option or name that cannot be used as given."""


class UnknownNameError(UsageError):
    """A name that is not among the known ones of its kind."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, place: str | None = None):
        known = sorted(known)
        self.kind, self.name, self.known = kind, name, known
        super().__init__(f"unknown {kind} {name!r}", place=place, fix=_suggest(name, known))


class UnknownFieldError(UsageError):
    """A field that its owner does not have."""

    def __init__(self, owner: str, field: str, known: Iterable[str], *, place: str | None = None):
        known = sorted(known)
        self.field, self.known = field, known
        super().__init__(f"{owner} has no field {field!r}", place=place, fix=_suggest(field, known))


class MissingExtraError(UsageError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str):
        self.extra = extra
        super().__init__(f"{purpose} needs the package {package!r}", fix=f"pip install 'fairlead[{extra}]'")


class DataError(FairleadError):
    """A file, row or field that is not what its schema says."""


class RenderError(FairleadError):
    """Messages that cannot be turned into tokens, or a template that breaks a promise."""


class ModelError(FairleadError):
    """A model or tokenizer that cannot be loaded or used."""


class EngineError(FairleadError):
    """An engine that could not answer."""


class EngineTimeoutError(EngineError):
    """No answer before the deadline."""


class RequestError(EngineError):
    """A prompt or setting that an engine cannot take."""


class UnsupportedError(EngineError):
    """A thing this engine or method cannot do by its nature."""


class TrainingError(FairleadError):
    """A training run that cannot start or go on."""


class RecipeError(FairleadError):
    """A recipe file that does not say a runnable plan."""


class ExpectationError(FairleadError):
    """A run whose `expect:` lines do not hold."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or None when nothing is close."""
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def _suggest(name: str, known: list[str]) -> str:
    close = nearest(name, known)
    listing = ", ".join(known) if known else "(none)"
    return f"did you mean {close!r}? Known: {listing}" if close else f"use one of: {listing}"
