"""The `select` step: the records worth keeping, by any selector of the catalog, and why the others are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead import catalog
from fairlead.errors import DataError, UsageError
from fairlead.steps.base import Context, Outcome, Preview, Use, data_uses, reward_uses
from fairlead.steps.rows import progress, write_rows

if TYPE_CHECKING:
    from fairlead.evaluation.base import Report
    from fairlead.records import Record
    from fairlead.selection.base import Selection, Selector

__all__ = ["Select"]

_PACKAGED = "minilm"


@dataclass(frozen=True)
class Select:
    """Choose records with a selector; vectors of texts are made once and kept on disk."""

    selector: str | dict[str, Any]
    """Catalog name of the method, or a mapping of `name` and its fields."""
    data: str | tuple[str, ...]
    """Where the records come from: a path, `harbor:SET`, a hub id, or several."""
    format: str | None = None
    """Row format of the data when it is not one of Fairlead's own: hh, alpaca, sharegpt, bbq, arena."""
    kind: str | None = None
    """Kind to read records as where they can be converted, such as `conversation`."""
    limit: int | None = None
    """Choose only among the first so many records."""

    produces: ClassVar[str | None] = "records"
    """What "@id" of this step stands for."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"select.limit is {self.limit}", fix="use a value >= 1")
        _ = self.method

    @property
    def method(self) -> Selector:
        """The selector."""
        method: Any = catalog.from_spec("selector", self.selector)
        return method

    def uses(self) -> tuple[Use, ...]:
        """Return the data, the method, and the model by which texts are embedded."""
        embedding = self.selector.get("embedding") if isinstance(self.selector, Mapping) else None
        model = embedding.get("model") if isinstance(embedding, Mapping) else None
        models = ()
        if isinstance(model, str) and model != _PACKAGED:
            role = "model" if model.startswith(("@", "harbor:")) else "retriever"
            models = (Use(("selector", "embedding", "model"), role, model),)
        return (*data_uses("data", self.data), Use(("selector",), "selector", self.selector), *models, *self._reads())

    def _reads(self) -> Iterator[Use]:
        """Yield the data that the method, or its reward, reads beside the pool."""
        yield from reward_uses(("selector",), self.selector)
        spec = self.selector if isinstance(self.selector, Mapping) else {}
        for name in self.method.sources if spec else ():
            value = spec.get(name)
            if isinstance(value, str):
                yield Use(("selector", name), "data", value)
            else:
                yield from (Use(("selector", name, i), "data", source) for i, source in enumerate(value or ()))

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say what chooses among how many records."""
        from fairlead.steps.outlook import select_preview

        return select_preview(self, before)

    def __call__(self, context: Context) -> Outcome:
        """Choose, and write the kept records, a table of all, and the figures."""
        from fairlead import records
        from fairlead.records import to_row
        from fairlead.selection.pool import Pool

        source = self.data if isinstance(self.data, str) else list(self.data)
        found = records.read(source, kind=self.kind, format=self.format, limit=self.limit)
        with progress("embed", len(found), quiet=context.quiet) as advance:
            pool = Pool(found, vectors=context.folder / "vectors", advance=advance)
            selection = self.method(pool)
        left_out = tuple(f"{n} of {len(found)} left out: {why}" for why, n in selection.left_out.most_common())
        if not len(selection.indices):
            raise DataError(f"no record is left of {len(found)}", place=found.source, fix="; ".join(left_out))
        report = _report(found, selection)
        report.notes = [*pool.notes, *selection.notes, *left_out]
        report.save(context.folder, "selection")
        rows = [
            to_row(found[i]) | {"selection_rank": rank, "selection_score": _plain(float(selection.scores[i]))}
            for rank, i in enumerate(selection.indices.tolist())
        ]
        write_rows(context.folder / "records.jsonl", rows)
        metrics = {"pool": float(len(found)), "rows": float(len(rows)), "share": len(rows) / len(found)}
        notes = tuple(f"selection: {note}" for note in report.notes)
        return Outcome({"records": "records.jsonl", "reports": "."}, {**metrics, **selection.metrics}, notes)


def _report(found: Any, selection: Selection) -> Report:
    """Return the pool beside what is kept: score, length, and every column of numbers."""
    import numpy as np

    from fairlead.estimates import estimate_mean
    from fairlead.evaluation.base import Report
    from fairlead.figures import distribution
    from fairlead.selection.pool import text_of

    columns: dict[str, Any] = {
        "score": selection.scores,
        "characters": np.array([float(len(text_of(record))) for record in found]),
        **{name: np.array(values, float) for name, values in selection.columns.items() if _are_numbers(values)},
    }
    kept, scores = selection.indices, selection.scores
    summary = {
        "pool": {name: estimate_mean(values) for name, values in columns.items()},
        "kept": {name: estimate_mean(values[kept]) for name, values in columns.items()},
    }
    parts = {
        name: [v for v in values.tolist() if v == v] for name, values in (("pool", scores), ("kept", scores[kept]))
    }
    figures = {"score": distribution(parts, label="score", unit="records")} if parts["pool"] else {}
    return Report(summary, list(_table(found, selection)), figures | dict(selection.figures))


def _table(found: Any, selection: Selection) -> Iterator[dict[str, Any]]:
    rank = {int(i): place for place, i in enumerate(selection.indices)}
    for i, record in enumerate(found):
        row: dict[str, Any] = {"id": _id(record), "kept": i in rank, "rank": rank.get(i)}
        row |= {"score": _plain(selection.scores[i]), "reason": selection.reasons[i]}
        yield row | {name: values[i] for name, values in selection.columns.items()}


def _id(record: Record) -> str:
    return str(record.id)


def _are_numbers(values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _plain(value: float) -> float | None:
    return None if value != value else float(value)
