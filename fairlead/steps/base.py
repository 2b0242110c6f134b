"""The contract of steps: what a recipe is made of.

A step is a frozen dataclass. Its fields are the keys of its YAML block and the flags of the command of the same name;
its call does the work inside its own folder and must be repeatable: called again in the folder of a killed call, it
goes on where that one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from fairlead import catalog

__all__ = [
    "Answerer",
    "Context",
    "Outcome",
    "Preview",
    "Step",
    "Use",
    "data_uses",
    "evaluator_uses",
    "model_uses",
    "name_of_answerer",
    "reward_uses",
    "synthesizer_uses",
]

Answerer: TypeAlias = str | dict[str, Any]
"""Who answers: a model (`harbor:NAME`, a directory, a hub id, "URL#model" of a server), or a decoding method as a
mapping of its `name` and fields."""


@dataclass(frozen=True)
class Use:
    """Something that a step needs from outside: a model, data, or a catalogued method."""

    keys: tuple[str | int, ...]
    """Where it stands in the step's block."""
    role: str
    """"model", "data", "retriever", or a kind of method ("objective", "reward", "evaluator")."""
    value: Any
    """As written: a name, a path, "@step", or a method's spec."""


@dataclass(frozen=True)
class Context:
    """Where a step works."""

    folder: Path
    """The step's own folder; it exists."""
    cache: Path
    """SQLite file of answers already given, shared by the steps of a run."""
    quiet: bool = False
    """Whether progress is kept off the terminal."""


@dataclass(frozen=True)
class Outcome:
    """What a finished step left behind."""

    outputs: dict[str, str] = field(default_factory=dict)
    """name ("model", "records", ...) -> path relative to the step's folder."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Flat name -> number; `expect:` lines reach them as `<step>.<name>`."""
    notes: tuple[str, ...] = ()
    """What a reader must know: rows dropped, ties, limits met."""


@dataclass(frozen=True)
class Preview:
    """What is known of a step before it runs."""

    sentences: tuple[str, ...]
    """The plan in words."""
    model: str | None = None
    """A model of the same shape as the one that the step will make; None when there is none yet."""
    rows: int | None = None
    """Most rows the step will write; None when unknown."""
    kind: str | None = None
    """Kind of these rows."""
    parameters: int | None = None
    """Weights of the model; None when unknown."""


@runtime_checkable
class Step(Protocol):
    """A frozen dataclass that does one part of a run."""

    produces: ClassVar[str | None]
    """The output that "@id" stands for: "model", "records", "retriever" or None."""

    def uses(self) -> tuple[Use, ...]:
        """Return everything that the step needs from outside."""
        ...

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say what the step would do, given what the steps before it would leave."""
        ...

    def __call__(self, context: Context) -> Outcome:
        """Do the work; every "@step" has been replaced by a path."""
        ...


def data_uses(key: str, data: str | tuple[str, ...]) -> tuple[Use, ...]:
    """Return what a step's field `key` reads: one source, or several."""
    if isinstance(data, str):
        return (Use((key,), "data", data),)
    return tuple(Use((key, i), "data", source) for i, source in enumerate(data))


def model_uses(keys: tuple[str | int, ...], who: Answerer) -> Iterator[Use]:
    """Yield what an answerer at `keys` needs: a model, or a decoding method and its own answerers."""
    if isinstance(who, str):
        yield Use(keys, "model", who)
        return
    yield Use(keys, "decoder", who)
    known = {entry.name: entry for entry in catalog.entries("decoder")}
    entry = known.get(str(who.get("name")))
    if entry is None:
        return
    decoder = entry.load()
    yield from (Use((*keys, f), decoder.roles.get(f, "data"), source) for f, source in decoder.files(who).items())
    parts = decoder.engine_fields()
    yield from reward_uses(keys, {name: value for name, value in who.items() if name not in parts})
    for part in parts:
        if who.get(part) is not None:
            yield from model_uses((*keys, part), who[part])


def reward_uses(keys: tuple[str | int, ...], value: Any) -> Iterator[Use]:
    """Yield what rewards named anywhere in plain `value` at `keys` read: data (their class's `sources`), and models
    (its `learned`)."""
    if isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from reward_uses((*keys, place), inner)
    if not isinstance(value, Mapping):
        return
    known = {entry.name: entry for entry in catalog.entries("reward")}
    entry = known.get(str(value.get("name")))
    sources, learned = (() if entry is None else getattr(entry.load(), name, ()) for name in ("sources", "learned"))
    for key, inner in value.items():
        if key in learned and isinstance(inner, str):
            yield Use((*keys, key), "model", inner)
        elif key not in sources:
            yield from reward_uses((*keys, key), inner)
        elif isinstance(inner, str):
            yield Use((*keys, key), "data", inner)
        elif isinstance(inner, list | tuple):
            yield from (Use((*keys, key, place), "data", source) for place, source in enumerate(inner))


def evaluator_uses(keys: tuple[str | int, ...], spec: str | Mapping[str, Any]) -> Iterator[Use]:
    """Yield what an evaluator at `keys` needs: itself, and the models that its own fields name."""
    yield Use(keys, "evaluator", spec)
    yield from reward_uses(keys, spec)
    from fairlead.engines.base import engine_values

    known = {entry.name: entry for entry in catalog.entries("evaluator")}
    if isinstance(spec, Mapping) and (entry := known.get(str(spec.get("name")))) is not None:
        evaluator = entry.load()
        if hasattr(evaluator, "files"):
            yield from (Use((*keys, f), "data", source) for f, source in evaluator.files(spec).items())
        for inner, who in engine_values(evaluator, spec):
            if isinstance(who, str | Mapping):
                yield from model_uses((*keys, *inner), dict(who) if isinstance(who, Mapping) else who)


def synthesizer_uses(keys: tuple[str | int, ...], spec: Any) -> Iterator[Use]:
    """Yield what a synthesizer at `keys` needs: itself, and the files and data that its own fields name."""
    yield Use(keys, "synthesizer", spec)
    yield from reward_uses(keys, spec)
    from fairlead.prompts import file_of

    known = {entry.name: entry for entry in catalog.entries("synthesizer")}
    if isinstance(spec, Mapping) and (entry := known.get(str(spec.get("name")))) is not None:
        for name in getattr(entry.load(), "sources", ()):
            given = spec.get(name)
            parts = (
                {(name, key): text for key, text in given.items()} if isinstance(given, Mapping) else {(name,): given}
            )
            named = {inner: file_of(text) for inner, text in parts.items()}
            yield from (Use((*keys, *inner), "data", source) for inner, source in named.items() if source)


def name_of_answerer(who: Answerer) -> str:
    """Say in a few words who answers."""
    if isinstance(who, str):
        return who
    entry = catalog.find("decoder", str(who.get("name")))
    parts = [who[part] for part in entry.load().engine_fields() if who.get(part) is not None]
    return f"{entry.name} of {', '.join(map(name_of_answerer, parts))}" if parts else entry.name
