"""Reads a run folder whatever its state: what is there as plain values, what is missing or broken as sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.errors import DataError
from fairlead.evaluation.base import Report

__all__ = ["MEASURING", "RunView", "StepView", "read_run"]

MEASURING = ("evaluate", "harness", "select")
"""Kinds of step that leave reports."""

_NOT_REPORTS = ("step.json", "config.json", "lengths.json", "rendered.json", "result.json")


@dataclass
class StepView:
    """One step of a run."""

    id: str
    """Its name in the recipe."""
    kind: str = "?"
    """train, evaluate, generate, ..."""
    status: str = "not started"
    """not started, running, finished or failed; unknown where step.json does not say."""
    seconds: float | None = None
    """Time spent in it."""
    config: dict[str, Any] = field(default_factory=dict)
    """Its settings, resolved."""
    fingerprint: str = ""
    """Hash of settings and inputs."""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    """Models and data it used: name, fingerprint."""
    outputs: dict[str, str] = field(default_factory=dict)
    """name -> path inside its folder."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Flat name -> number."""
    notes: list[str] = field(default_factory=list)
    """What the step says a reader must know."""
    error: str = ""
    """Why it failed."""
    reports: dict[str, Report] = field(default_factory=dict)
    """label -> what an evaluator found."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Lines of metrics.jsonl."""
    rendered: list[dict[str, Any]] = field(default_factory=list)
    """Rendered rows: id and parts, each a text and whether it is trained."""
    drawn: list[dict[str, Any]] = field(default_factory=list)
    """Completions that an online run drew: step, id, prompt, completion, rewards, advantage."""
    lengths: dict[str, Any] = field(default_factory=dict)
    """The length report."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Answers side by side: id, prompt, answers, scores."""
    missing: list[str] = field(default_factory=list)
    """What should be in its folder and is not, or cannot be read."""

    @property
    def own_notes(self) -> list[str]:
        """The notes that none of its reports makes already."""
        told = {f"{label}: {note}" for label, report in self.reports.items() for note in report.notes}
        return [str(note) for note in self.notes if note not in told]


@dataclass
class RunView:
    """A run."""

    name: str
    """The folder's name."""
    state: dict[str, Any] = field(default_factory=dict)
    """What run.json says."""
    recipe: str = ""
    """The recipe's text."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Lines of events.jsonl."""
    steps: list[StepView] = field(default_factory=list)
    """The steps, in the order of the recipe."""
    missing: list[str] = field(default_factory=list)
    """What should be in the run folder and is not, or cannot be read."""

    @property
    def title(self) -> str:
        """The run's title, or the folder's name."""
        return str(self.state.get("title") or self.name)

    @property
    def status(self) -> str:
        """running, finished or failed; unknown without run.json."""
        return str(self.state.get("status", "unknown"))

    @property
    def expectations(self) -> list[dict[str, Any]]:
        """The recipe's `expect:` lines and how they came out: line, value, holds."""
        found = self.state.get("expectations") or []
        return [dict(e) for e in found if isinstance(e, Mapping) and "line" in e and "holds" in e]

    @property
    def loops(self) -> list[str]:
        """How rounds went that could end before their number, a sentence each."""
        found = self.state.get("loops") or []
        return [str(loop["text"]) for loop in found if isinstance(loop, Mapping) and loop.get("text")]

    @property
    def error(self) -> str:
        """Why the run failed, as far as it says so."""
        said = [self.state.get("error"), *(step.error for step in self.steps)]
        return next((str(text) for text in said if text), "")


def read_run(folder: Path) -> RunView:
    """Read a run folder.

    Raises:
        DataError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise DataError("is no run folder", place=str(folder), fix="give the folder of a run, such as runs/quickstart")
    run = RunView(folder.resolve().name)
    run.state = _json(folder / "run.json", dict, run.missing) or {}
    run.recipe = _text(folder / "recipe.yaml", run.missing) or ""
    run.events = _lines(folder / "events.jsonl", run.missing)
    run.steps = [_read_step(folder / "steps" / name, name) for name in _order(folder, run)]
    return run


def _order(folder: Path, run: RunView) -> list[str]:
    """Return the names of the steps: as run.json lists them, then as they began, then any other folder."""
    listed = run.state.get("steps")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    names += [str(event["step"]) for event in run.events if event.get("step")]
    if (folder / "steps").is_dir():
        names += sorted(path.name for path in (folder / "steps").iterdir() if path.is_dir())
    return [name for name in dict.fromkeys(names) if Path(name).name == name]


def _read_step(folder: Path, name: str) -> StepView:
    step = StepView(name)
    if not folder.is_dir():
        return step
    step.status = "unknown"
    state = _json(folder / "step.json", dict, step.missing) or {}
    for key in ("kind", "status", "fingerprint", "error"):
        setattr(step, key, str(state.get(key) or getattr(step, key)))
    for key, kind in (("config", dict), ("inputs", list), ("outputs", dict), ("metrics", dict), ("notes", list)):
        value = state.get(key)
        setattr(step, key, value if isinstance(value, kind) else kind())
    step.inputs = [entry for entry in step.inputs if isinstance(entry, Mapping)]
    step.seconds = state["seconds"] if isinstance(state.get("seconds"), int | float) else None
    wanted = _WANTED.get(step.kind, ()) if step.status == "finished" else ()
    step.history = _lines(folder / "metrics.jsonl", step.missing, "metrics.jsonl" in wanted)
    step.rendered = _json(folder / "rendered.json", list, step.missing, "rendered.json" in wanted) or []
    step.drawn = _lines(folder / "rollouts.jsonl", step.missing, wanted=False)
    step.lengths = _json(folder / "lengths.json", dict, step.missing, "lengths.json" in wanted) or {}
    step.samples = _lines(folder / "samples.jsonl", step.missing, "samples" in step.outputs)
    if step.kind in MEASURING:
        _read_reports(folder, step)
    return step


_WANTED = {"train": ("metrics.jsonl", "rendered.json", "lengths.json"), "generate": ("lengths.json",)}


def _read_reports(folder: Path, step: StepView) -> None:
    labels = list(dict.fromkeys(name.partition(".")[0] for name in step.metrics if "." in name))
    labels += sorted(path.stem for path in folder.glob("*.json") if path.name not in _NOT_REPORTS)
    for label in dict.fromkeys(labels):
        try:
            step.reports[label] = Report.load(folder, label, rows=False)
        except DataError as error:
            step.missing.append(f"{label}: {error.what}")


def _json(path: Path, kind: type, missing: list[str], wanted: bool = True) -> Any:
    text = _text(path, missing, wanted)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        missing.append(f"{path.name} cannot be read: {error}")
        return None
    if not isinstance(value, kind):
        missing.append(f"{path.name} holds a {type(value).__name__} instead of a {kind.__name__}")
        return None
    return value


def _lines(path: Path, missing: list[str], wanted: bool = True) -> list[dict[str, Any]]:
    """Read JSON lines; a last line that a killed process left unfinished is passed over and told."""
    text = _text(path, missing, wanted)
    found = []
    for number, line in enumerate((text or "").split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            found.append(value)
        else:
            missing.append(f"{path.name}, line {number} cannot be read")
    return found


def _text(path: Path, missing: list[str], wanted: bool = True) -> str | None:
    if not path.exists():
        if wanted:
            missing.append(f"{path.name} is missing")
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        missing.append(f"{path.name} cannot be read: {error}")
        return None
