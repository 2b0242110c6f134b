"""The `synthesize` step: new records from seed records, by any synthesizer of the catalog.

What the engines said about every seed goes to `drafts.jsonl` as soon as it is there, so a killed step goes on behind
the last one; `records.jsonl`, what later steps read, follows from that file alone.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead import catalog
from fairlead.errors import DataError, UsageError
from fairlead.steps.answering import open_engine
from fairlead.steps.base import Answerer, Context, Outcome, Preview, Use, data_uses, model_uses
from fairlead.steps.rows import append_rows, progress, read_rows, write_rows

if TYPE_CHECKING:
    from fairlead.records import Record
    from fairlead.synthesis.base import Draft, Synthesizer

__all__ = ["Synthesize"]


@dataclass(frozen=True)
class Synthesize:
    """Make new records with a synthesizer; equal answers are drawn once in a run and kept on disk."""

    synthesizer: str | dict[str, Any]
    """Catalog name of the method, or a mapping of `name` and its fields."""
    models: dict[str, Answerer]
    """role -> model (`harbor:NAME`, a directory, a hub id, or "URL#model" of a server), one for each role."""
    data: str | tuple[str, ...] | None = None
    """Where the seeds come from: a path, `harbor:SET`, a hub id, or several; left out for methods without seeds."""
    count: int | None = None
    """How often a method without seeds starts."""
    format: str | None = None
    """Row format of the data when it is not one of Fairlead's own: hh, alpaca, sharegpt."""
    limit: int | None = None
    """Use only the first so many seeds."""
    dtype: str | None = None
    """Number format of local models: float32, bfloat16; by default the engine's own choice."""
    at_once: int = 64
    """Seeds per call of the method; a killed step loses at most so many."""
    seed: int = 0
    """Seed of the method's sampling, unless that gives its own."""

    produces: ClassVar[str | None] = "records"
    """What "@id" of this step stands for."""

    def __post_init__(self) -> None:
        for name, value in (("at_once", self.at_once), ("limit", self.limit), ("count", self.count)):
            if value is not None and value < 1:
                raise UsageError(f"synthesize.{name} is {value}", fix="use a value >= 1")
        if (self.data is None) == (self.count is None):
            fix = "give the seeds as data; a method that starts from nothing wants a count instead"
            raise UsageError("synthesize needs either data or count", fix=fix)
        self.build()

    def uses(self) -> tuple[Use, ...]:
        """Return the models, the data and the method."""
        data = () if self.data is None else data_uses("data", self.data)
        models = (use for role, model in self.models.items() for use in model_uses(("models", role), model))
        return (*models, *data, Use(("synthesizer",), "synthesizer", self.synthesizer))

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say which engines are asked about how many seeds, and how many rows that gives at most."""
        from fairlead.steps.outlook import synthesize_preview

        return synthesize_preview(self, before)

    def build(self) -> Synthesizer:
        """Return the method with this step's seed, after checking that models and seeds are what it wants.

        Raises:
            UnknownNameError, UsageError: a role without a model, a model without a role, seeds that do not fit.
        """
        from fairlead.synthesis.base import check_engines

        method: Any = catalog.from_spec("synthesizer", self.synthesizer)
        spec = {"name": self.synthesizer} if isinstance(self.synthesizer, str) else self.synthesizer
        if isinstance(spec, Mapping) and "seed" not in (spec.get("sampling") or {}):
            method = dataclasses.replace(method, sampling=dataclasses.replace(method.sampling, seed=self.seed))
        check_engines(method, self.models, place="synthesize.models")
        if (method.reads is None) != (self.data is None):
            what, fix = ("makes its own", "give a count") if method.reads is None else ("needs them", "give data")
            raise UsageError(f"synthesize.data: the method {what} seeds", fix=f"{fix} instead")
        return method

    def __call__(self, context: Context) -> Outcome:
        """Draft what is not drafted yet, then write the rows."""
        from fairlead.synthesis.base import drafts_of

        method = self.build()
        seeds = self._seeds(method)
        kept = context.folder / "drafts.jsonl"
        done = {row["parent"] for row in read_rows(kept)}
        waiting = [record for record in seeds if record.id not in done]
        if waiting:
            from fairlead.engines.cache import Cache

            engines = {role: Cache(open_engine(m, self.dtype), context.cache) for role, m in self.models.items()}
            with progress("synthesize", len(seeds), start=len(done), quiet=context.quiet) as advance:
                for start in range(0, len(waiting), self.at_once):
                    chunk = waiting[start : start + self.at_once]
                    append_rows(kept, map(dataclasses.asdict, drafts_of(method, engines, chunk)))
                    advance(len(chunk))
        return self._finish(method, context.folder, kept, [record.id for record in seeds])

    def _seeds(self, method: Synthesizer) -> Sequence[Record]:
        from fairlead import records
        from fairlead.synthesis.base import blank_seeds

        if self.data is None:
            return blank_seeds(min(self.count or 1, self.limit or self.count or 1))
        source = self.data if isinstance(self.data, str) else list(self.data)
        return records.read(source, kind=method.reads, format=self.format, limit=self.limit)

    def _finish(self, method: Synthesizer, folder: Path, kept: Path, order: Sequence[str]) -> Outcome:
        from fairlead.synthesis.base import Draft, rows_of

        found = {row["parent"]: Draft(**row) for row in read_rows(kept)}
        drafts = [found[name] for name in order]
        counts: Counter[str] = Counter()
        rows = list(rows_of(method, drafts, counts))
        notes = _notes(drafts, counts)
        if not rows:
            what = f"no row is left of {len(order)} seeds"
            fix = "; ".join(notes) or "use other seeds or another model"
            raise DataError(what, place=str(kept), fix=fix)
        write_rows(folder / "records.jsonl", rows)
        metrics = {"seeds": float(len(order)), "rows": float(len(rows))}
        metrics |= {name: float(count) for name, count in sorted(counts.items())}
        return Outcome({"records": "records.jsonl", "drafts": "drafts.jsonl"}, metrics, notes)


def _notes(drafts: Sequence[Draft], counts: Counter[str]) -> tuple[str, ...]:
    """Say what was left out, and why."""
    errors = Counter(draft.error for draft in drafts if draft.error is not None)
    dropped = {name.removeprefix("dropped_"): n for name, n in sorted(counts.items()) if name.startswith("dropped_")}
    left_out = ", ".join(f"{number} rows {name.replace('_', ' ')}" for name, number in dropped.items())
    failed = [f"{count} of {len(drafts)} seeds failed: {error}" for error, count in errors.most_common()]
    return (*failed, *([f"left out: {left_out}"] if left_out else []))
