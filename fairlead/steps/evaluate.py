"""The `evaluate` step: several models side by side on held-out data, under any evaluators."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead import catalog
from fairlead.engines.base import Sampling, engine_values
from fairlead.errors import UsageError
from fairlead.fields import to_plain
from fairlead.steps.answering import open_engine
from fairlead.steps.base import Answerer, Context, Outcome, Preview, Use, data_uses, evaluator_uses, model_uses
from fairlead.steps.rows import write_rows

if TYPE_CHECKING:
    from fairlead.engines.base import Engine
    from fairlead.evaluation.base import Report

__all__ = ["Evaluate"]

_USUAL = Sampling(temperature=0.0)
"""One greedy answer per prompt."""
_NOT_SCORES = (
    *("id", "engine", "sample", "answer", "group", "tries", "points", "points_swapped"),
    *("first_slot", "prefers_longer", "prefers_list"),
)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Compare models on held-out data; equal answers are drawn once and kept on disk."""

    models: dict[str, Answerer]
    """name -> model (`harbor:NAME`, a directory, a hub id, "URL#model" of a server, or a decoding method as a mapping
    of its `name` and fields), in the order of the report."""
    data: str | tuple[str, ...] | None = None
    """Held-out records: a path, `harbor:SET`, a hub id, or several; None where every evaluator brings its own
    questions."""
    evaluators: tuple[str | dict[str, Any], ...] | dict[str, str | dict[str, Any]]
    """What is measured: catalog names or mappings of `name` and fields; a mapping gives each a label of its own."""
    sampling: Sampling = _USUAL
    """How answers are drawn, but for evaluators that need it otherwise (drift) or say so themselves."""
    format: str | None = None
    """Row format of the data when it is not one of Fairlead's own: hh, alpaca, sharegpt, bbq, arena."""
    kind: str | None = None
    """Kind to read records as where they can be converted, such as `prompt`."""
    limit: int | None = None
    """Use only the first so many records."""
    samples: int = 100
    """Answers shown side by side in the report; they are the first answers to the first so many records."""
    dtype: str | None = None
    """Number format of local models: float32, bfloat16; by default the engine's own choice."""

    produces: ClassVar[str | None] = None
    """An evaluation makes nothing that a later step could use."""

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError("evaluate.models is empty", fix="name at least one model: {base: harbor:base-1m}")
        for name in self.models:
            if not name.isidentifier():
                raise UsageError(f"evaluate.models: {name!r} is no name", fix="use letters, digits and _")
        if not self.evaluators:
            raise UsageError(
                "evaluate.evaluators is empty", fix="e.g. [{name: rewards, reward: harbor, axes: [total]}]"
            )
        for name, value, least in (("limit", self.limit, 1), ("samples", self.samples, 0)):
            if value is not None and value < least:
                raise UsageError(f"evaluate.{name} is {value}", fix=f"use a value >= {least}")
        _ = self.labels
        if self.data is None:
            self._check_without_data()

    def _check_without_data(self) -> None:
        """Refuse evaluators that read records, and settings of the data, where there is none."""
        given = next((name for name in ("format", "kind", "limit") if getattr(self, name) is not None), None)
        if given is not None:
            raise UsageError(f"evaluate.{given} is given without data", fix=f"set evaluate.data, or leave {given} out")
        reading = [label for label, evaluator in self.build().items() if getattr(evaluator, "needs_records", True)]
        if reading:
            what = f"evaluate.data is not given, and {', '.join(reading)} measures on records"
            raise UsageError(what, fix="set evaluate.data: a path, harbor:SET or a hub id")

    @property
    def sources(self) -> list[str]:
        """Where the records come from."""
        return [] if self.data is None else [self.data] if isinstance(self.data, str) else list(self.data)

    @property
    def labels(self) -> tuple[str, ...]:
        """The evaluators' names in files and metrics."""
        if isinstance(self.evaluators, Mapping):
            return tuple(self.evaluators)
        found = tuple(spec if isinstance(spec, str) else str(spec.get("name")) for spec in self.evaluators)
        twice = next((label for label in found if found.count(label) > 1), None)
        if twice is not None:
            fix = f"write a mapping with labels of your own: {{first: {{name: {twice}, ...}}, second: ...}}"
            raise UsageError(f"evaluate.evaluators has {twice!r} twice", fix=fix)
        return found

    def uses(self) -> tuple[Use, ...]:
        """Return the models, the data and the evaluators."""
        keyed = self.evaluators.items() if isinstance(self.evaluators, Mapping) else enumerate(self.evaluators)
        return (
            *(use for name, model in self.models.items() for use in model_uses(("models", name), model)),
            *(data_uses("data", self.data) if self.data is not None else ()),
            *(use for key, spec in keyed for use in evaluator_uses(("evaluators", key), spec)),
        )

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say how many answers will be drawn."""
        from fairlead.steps.outlook import evaluate_preview

        return evaluate_preview(self, before)

    def __call__(self, context: Context) -> Outcome:
        """Draw, measure, and write one report per evaluator."""
        from fairlead import records
        from fairlead.engines.cache import Cache

        held_out: Sequence[Any] = []
        if self.data is not None:
            source = self.data if isinstance(self.data, str) else self.sources
            held_out = records.read(source, kind=self.kind, format=self.format, limit=self.limit)
        opened: dict[str, Cache] = {}

        def open_once(who: Answerer, dtype: str | None = None) -> Cache:
            key = json.dumps([who, dtype], sort_keys=True, default=repr)
            if key not in opened:
                opened[key] = Cache(open_engine(who, dtype), context.cache)
            return opened[key]

        def open_helper(who: Answerer) -> Cache:
            remote = isinstance(who, str) and who.startswith(("http://", "https://"))
            return open_once(who, None if remote else self.dtype)

        engines = {name: open_once(model, self.dtype) for name, model in self.models.items()}
        metrics: dict[str, float] = {}
        notes: list[str] = []
        reports: dict[str, Report] = {}
        samplings: list[Sampling] = []
        for label, evaluator in self.build(open_helper).items():
            reports[label] = evaluator(engines, held_out)
            reports[label].save(context.folder, label)
            metrics |= {f"{label}.{name}": value for name, value in reports[label].metrics().items()}
            notes += [f"{label}: {note}" for note in reports[label].notes]
            if getattr(evaluator, "sampling", None) is not None:
                samplings.append(evaluator.sampling)
        outputs = {"reports": "."}
        if samplings and self.samples and held_out:
            shown = held_out[: self.samples]
            write_rows(context.folder / "samples.jsonl", _samples(engines, shown, samplings[0], reports))
            outputs["samples"] = "samples.jsonl"
        return Outcome(outputs, metrics, tuple(notes))

    def build(self, opened: Callable[[Answerer], Engine] | None = None) -> dict[str, Any]:
        """Return the evaluators by label, with this step's sampling where they do not have their own.

        Args:
            opened: opens the models that evaluators name for themselves (a judge); None leaves them unopened.
        """
        specs = list(self.evaluators.values() if isinstance(self.evaluators, Mapping) else self.evaluators)
        built = {}
        for label, spec in zip(self.labels, specs, strict=True):
            values = {"name": spec} if isinstance(spec, str) else dict(spec)
            kind = catalog.find("evaluator", values["name"]).load()
            known = {field.name: field.default for field in fields(kind)}
            # Evaluators with a default of their own (drift draws from the policy itself) keep it.
            if known.get("sampling") == _USUAL and "sampling" not in values:
                values["sampling"] = to_plain(self.sampling)
            if opened is not None:
                for keys, who in list(engine_values(kind, values)):
                    _put(values, keys, opened(who))
            built[label] = catalog.from_spec("evaluator", values)
        return built


def _put(values: dict[str, Any], keys: Sequence[str], new: Any) -> None:
    """Set a value inside nested mappings, of which only copies are changed."""
    first, *rest = keys
    if rest:
        values[first] = dict(values[first])
        _put(values[first], rest, new)
    else:
        values[first] = new


def _samples(
    engines: Mapping[str, Engine], shown: Sequence[Any], sampling: Sampling, reports: Mapping[str, Report]
) -> list[dict[str, Any]]:
    """Build the side-by-side rows: every engine's first answer to each prompt, with its scores."""
    scores = _scores(reports)
    answers = {name: engine.generate([record.prompt for record in shown], sampling) for name, engine in engines.items()}
    return [
        {
            "id": record.id,
            "prompt": record.prompt if isinstance(record.prompt, str) else [dict(m) for m in record.prompt],
            "answers": {name: drawn[i][0].text for name, drawn in answers.items()},
            "scores": {name: scores.get((str(record.id), name), {}) for name in engines},
        }
        for i, record in enumerate(shown)
    ]


def _scores(reports: Mapping[str, Report]) -> dict[tuple[str, str], dict[str, float]]:
    """Collect the numbers of each (record, engine)'s first sample; a column met before is told apart by its label."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    owner: dict[str, str] = {}
    for label, report in reports.items():
        for row in report.rows:
            if row.get("sample", 0) != 0 or "engine" not in row:
                continue
            scores = found.setdefault((str(row["id"]), row["engine"]), {})
            for column, value in row.items():
                if column not in _NOT_SCORES and isinstance(value, int | float) and not isinstance(value, bool):
                    first = owner.setdefault(column, label)
                    scores[column if first == label else f"{label}.{column}"] = value
    return found
