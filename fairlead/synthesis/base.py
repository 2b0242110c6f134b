"""The contract of synthesizers: engines and seed records in, new records with their provenance out.

The work has two parts. `draft` asks the engines, seed by seed, and costs time; `finish` turns all drafts into rows,
costs nothing and may look at all of them at once (balance, remove duplicates, keep the best). A draft is plain JSON and
depends on its seed alone, so drafts can be kept on disk, made in any batches, and continued after a kill to the same
rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from fairlead import catalog
from fairlead.errors import DataError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from fairlead.engines.base import Engine, Sampling
    from fairlead.records import Record

__all__ = ["PROVENANCE", "Draft", "Synthesizer", "blank_seeds", "check_engines", "drafts_of", "name_of", "rows_of"]

Row: TypeAlias = dict[str, Any]
"""Plain columns that `fairlead.read` takes as a record."""

PROVENANCE = ("parent", "method", "models", "templates", "seed")
"""Columns that every row has: id of its seed record, catalog name, role -> fingerprint of the engine, role -> hash of
its chat template where it tells one, seed."""


@dataclass(frozen=True)
class Draft:
    """What became of one seed record."""

    parent: str
    """Id of the seed record."""
    found: dict[str, Any] = field(default_factory=dict)
    """What the method needs to finish: plain JSON values."""
    error: str | None = None
    """Why this seed gives no row, in words that do not differ from seed to seed; None when all went well."""
    models: dict[str, str] = field(default_factory=dict)
    """role -> fingerprint of the engine; filled in by `drafts_of`."""
    templates: dict[str, str] = field(default_factory=dict)
    """role -> hash of the engine's tokenizer and chat template, where it has them; filled in by `drafts_of`."""
    failed: bool = False
    """Whether an engine failed here, so that asking again may help."""


@runtime_checkable
class Synthesizer(Protocol):
    """A frozen dataclass that makes records; subclass this for the call."""

    example: ClassVar[Mapping[str, Any]]
    """Plain field values that build a working instance; docs and tests use it."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Fields that may name a file or a data set which the method reads beside the seeds, or that are a mapping to such:
    a recipe watches them."""
    sampling: Sampling
    """A field: how answers are drawn. Its `seed` is the seed of the whole method."""

    @property
    def engines(self) -> Mapping[str, str]:
        """Role -> what that engine is for."""
        ...

    @property
    def reads(self) -> str | None:
        """Kind of record that seeds are read as; None for a method that starts from nothing (see `blank_seeds`)."""
        ...

    @property
    def makes(self) -> str:
        """Kind of the records that it makes."""
        ...

    @property
    def rows_per_seed(self) -> int:
        """Most rows that one seed gives."""
        ...

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Record]) -> Iterator[Draft]:
        """Ask the engines; yield one draft per seed, in order, each independent of the other seeds."""
        ...

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Turn the drafts that have no error into rows, each with its `parent`; pure and deterministic.

        What is worth a number goes into `counts`; rows left out on purpose under names that start with "dropped_".
        """
        ...

    def __call__(self, engines: Mapping[str, Engine], seeds: Iterable[Record]) -> Iterator[Row]:
        """Make rows from seed records, with an engine for every role."""
        yield from rows_of(self, list(drafts_of(self, engines, list(seeds))), Counter())


def blank_seeds(count: int) -> list[Record]:
    """Return `count` numbered records with an empty prompt, for methods that start from nothing."""
    from fairlead.records import PromptOnly

    return [PromptOnly(f"{number:06d}", "") for number in range(count)]


def check_engines(method: Synthesizer, names: Iterable[str], place: str | None = None) -> None:
    """Refuse engines that are not the roles of the method.

    Raises:
        UnknownNameError, UsageError: a role that there is not, or one without an engine.
    """
    names = list(names)
    for name in names:
        if name not in method.engines:
            raise UnknownNameError(f"role in {name_of(method)}", name, method.engines, place=place)
    for role, use in method.engines.items():
        if role not in names:
            what = f"{name_of(method)} has no engine for {role!r} ({use})"
            raise UsageError(what, place=place, fix=f"name one: {{{role}: harbor:base-1m}}")


def drafts_of(method: Synthesizer, engines: Mapping[str, Engine], seeds: Sequence[Record]) -> Iterator[Draft]:
    """Yield the method's drafts with the fingerprints of the engines.

    Raises:
        UnknownNameError, UsageError: engines that are not the roles of the method.
        DataError: a method that does not give one draft per seed in order.
    """
    check_engines(method, engines)
    models = {role: engines[role].fingerprint for role in method.engines}
    renderers = {role: getattr(engines[role], "renderer", None) for role in method.engines}
    templates = {role: renderer.fingerprint[:16] for role, renderer in renderers.items() if renderer is not None}
    made = 0
    for draft in method.draft(engines, seeds):
        if made == len(seeds) or draft.parent != seeds[made].id:
            raise DataError(f"{name_of(method)} drafted {draft.parent!r} out of turn", fix="yield one draft per seed")
        made += 1
        yield replace(draft, models=models, templates=templates)
    if made < len(seeds):
        raise DataError(f"{name_of(method)} gave {made} drafts for {len(seeds)} seeds", fix="yield one draft per seed")


def rows_of(method: Synthesizer, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
    """Yield the method's rows with an id, where they have none, and their provenance; count seeds that failed."""
    failed = sum(draft.error is not None for draft in drafts)
    if failed:
        counts["failed"] += failed
    good = {draft.parent: draft for draft in drafts if draft.error is None}
    of_parent: Counter[str] = Counter()
    for row in method.finish(list(good.values()), counts):
        parent = row["parent"]
        name = parent if method.rows_per_seed == 1 else f"{parent}-{of_parent[parent]}"
        of_parent[parent] += 1
        made = {"models": good[parent].models, "templates": good[parent].templates}
        origin = {"method": name_of(method), **made, "seed": method.sampling.seed}
        yield {"id": name, **row, **origin}


def name_of(method: Synthesizer) -> str:
    """Return the method's catalog name, or that of its class where it is not in the catalog."""
    cls = type(method)
    target = f"{cls.__module__}:{cls.__qualname__}"
    return next((entry.name for entry in catalog.entries("synthesizer") if entry.target == target), cls.__name__)
