"""The `synthesize` step: new records from seed records, by any synthesizer of the catalog.

What the engines said about every seed goes to `drafts.jsonl` as soon as it is there, under a hash of all it depends on,
so a killed step goes on behind the last one; `records.jsonl`, what later steps read, follows from that file alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead import catalog
from fairlead.errors import DataError, UsageError
from fairlead.steps.base import Answerer, Context, Outcome, Preview, Use, data_uses, model_uses, synthesizer_uses
from fairlead.steps.ray_drafting import Work, address_of, draft_on_ray
from fairlead.steps.rows import append_rows, progress, read_rows, write_rows

if TYPE_CHECKING:
    from fairlead.engines.meter import Spent
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
    """Row format of the data when it is not one of Fairlead's own: hh, alpaca, sharegpt, bbq, arena."""
    limit: int | None = None
    """Use only the first so many seeds."""
    shard: str | None = None
    """Use only every N-th seed, from the I-th on, as "I/N": N machines with one shard each make all."""
    dtype: str | None = None
    """Number format of local models: float32, bfloat16; by default the engine's own choice."""
    at_once: int = 64
    """Seeds per call of the method; a killed step loses at most so many."""
    on: str | None = None
    """Where drafts are made: `ray`, by a pool of workers that Ray starts here, or `ray:ADDRESS`, on the cluster there
    (extra `ray`); by default in this process. The records are the same."""
    workers: int = 1
    """Workers on Ray, at most; each opens the models for itself."""
    seed: int = 0
    """Seed of the method's sampling, unless that gives its own."""

    produces: ClassVar[str | None] = "records"
    """What "@id" of this step stands for."""
    immaterial: ClassVar[tuple[str, ...]] = ("on", "workers")
    """Settings that change nothing of what it makes."""

    def __post_init__(self) -> None:
        if self.on is not None:
            _ = address_of(self.on)
        numbers = ("at_once", "limit", "count", "workers")
        for name, value in ((name, getattr(self, name)) for name in numbers):
            if value is not None and value < 1:
                raise UsageError(f"synthesize.{name} is {value}", fix="use a value >= 1")
        _ = self._share
        if (self.data is None) == (self.count is None):
            fix = "give the seeds as data; a method that starts from nothing wants a count instead"
            raise UsageError("synthesize needs either data or count", fix=fix)
        self.build()

    def uses(self) -> tuple[Use, ...]:
        """Return the models, the data, the method and what its own fields name."""
        data = () if self.data is None else data_uses("data", self.data)
        models = (use for role, model in self.models.items() for use in model_uses(("models", role), model))
        return (*models, *data, *synthesizer_uses(("synthesizer",), self.synthesizer))

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
        from fairlead.engines.meter import Spent
        from fairlead.steps.drafting import drafts_done, read_spent, tell_spent, write_spent

        method = self.build()
        seeds = self._seeds(method)
        kept = context.folder / "drafts.jsonl"
        done, before = drafts_done(kept), read_spent(context.folder)
        keys: dict[int, str] = {}
        with progress("synthesize", len(seeds), quiet=context.quiet) as advance:
            for found, rows, spent in self._drafts(method, seeds, frozenset(done), context):
                if rows:
                    append_rows(kept, rows)
                keys |= found
                spent = {role: one + before.get(role, Spent()) for role, one in spent.items()}
                write_spent(context.folder, spent)
                advance(len(found), tell_spent(spent))
        return self._finish(method, context.folder, kept, [keys[i] for i in range(len(seeds))])

    def _drafts(
        self, method: Synthesizer, seeds: Sequence[Record], done: frozenset[str], context: Context
    ) -> Iterator[tuple[dict[int, str], list[dict[str, Any]], dict[str, Spent]]]:
        """Yield place of a seed -> key of its draft, drafts that are new, and what this call spent so far, by role."""
        from fairlead.steps.drafting import Drafter

        if self.on is not None:
            work = Work(method, self.models, self.dtype, done)
            yield from draft_on_ray(work, seeds, on=self.on, workers=self.workers, at_once=self.at_once)
            return
        drafter = Drafter.open(method, self.models, self.dtype, context.cache)
        keys = dict(enumerate(map(drafter.key, seeds)))
        waiting = [i for i, key in keys.items() if key not in done]
        yield {i: key for i, key in keys.items() if key in done}, [], drafter.spent
        for start in range(0, len(waiting), self.at_once):
            chunk = waiting[start : start + self.at_once]
            rows = list(drafter.rows([seeds[i] for i in chunk]))
            yield {i: keys[i] for i in chunk}, rows, drafter.spent

    def _seeds(self, method: Synthesizer) -> Sequence[Record]:
        from fairlead import records
        from fairlead.synthesis.base import blank_seeds

        own, of = self._share
        if self.data is None:
            found: Sequence[Record] = blank_seeds(min(self.count or 1, self.limit or self.count or 1))
        else:
            source = self.data if isinstance(self.data, str) else list(self.data)
            found = records.read(source, kind=method.reads, format=self.format, limit=self.limit)
        if own > len(found):
            raise DataError(f"shard {self.shard} of {len(found)} seeds is empty", fix="use fewer shards")
        return [found[i] for i in range(own - 1, len(found), of)]

    @property
    def _share(self) -> tuple[int, int]:
        """Which shard of how many this is, from 1."""
        if self.shard is None:
            return 1, 1
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        own, of = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= own <= of:
            raise UsageError(f"synthesize.shard is {self.shard!r}", fix='write "1/4" to "4/4" for four shards')
        return own, of

    def _finish(self, method: Synthesizer, folder: Path, kept: Path, keys: Sequence[str]) -> Outcome:
        from fairlead.steps.drafting import draft_of, read_spent
        from fairlead.synthesis.base import rows_of

        found = {row["key"]: draft_of(row) for row in read_rows(kept) if "key" in row}
        drafts = [found[key] for key in keys]
        counts: Counter[str] = Counter()
        rows = list(rows_of(method, drafts, counts))
        notes = _notes(drafts, counts)
        if not rows:
            what = f"no row is left of {len(keys)} seeds"
            fix = "; ".join(notes) or "use other seeds or another model"
            raise DataError(what, place=str(kept), fix=fix)
        write_rows(folder / "records.jsonl", rows)
        metrics = {"seeds": float(len(keys)), "rows": float(len(rows))}
        metrics |= {name: float(count) for name, count in sorted(counts.items())}
        metrics |= {f"tokens_{role}": float(one.tokens) for role, one in read_spent(folder).items()}
        return Outcome({"records": "records.jsonl", "drafts": "drafts.jsonl"}, metrics, notes)


def _notes(drafts: Sequence[Draft], counts: Counter[str]) -> tuple[str, ...]:
    """Say what was left out, and why."""
    errors = Counter(draft.error for draft in drafts if draft.error is not None)
    dropped = {name.removeprefix("dropped_"): n for name, n in sorted(counts.items()) if name.startswith("dropped_")}
    left_out = ", ".join(f"{number} rows {name.replace('_', ' ')}" for name, number in dropped.items())
    failed = [f"{count} of {len(drafts)} seeds failed: {error}" for error, count in errors.most_common()]
    if any(draft.failed for draft in drafts):
        failed.append("to ask again for seeds at which an engine failed, delete step.json of this step and run again")
    return (*failed, *([f"left out: {left_out}"] if left_out else []))
