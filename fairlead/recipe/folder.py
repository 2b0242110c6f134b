"""The run folder: what a run leaves on disk, written so that it can be killed at any moment and read without Fairlead.

recipe.yaml      as given
run.json         title, status, times, versions, machine, expectations
events.jsonl     one line whenever a step starts, finishes, fails or is skipped
steps/<id>/      step.json and what the step made
answers.sqlite   answers already drawn
replaced/        steps that `force` set aside
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.errors import RecipeError
from fairlead.steps.rows import append_rows, write_text

__all__ = ["RunFolder", "now"]


class RunFolder:
    """Reads and writes a run folder."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    @property
    def cache(self) -> Path:
        """The SQLite file of answers already drawn."""
        return self.root / "answers.sqlite"

    def step(self, name: str) -> Path:
        """Return the folder of step `name`."""
        return self.root / "steps" / name

    def make(self) -> None:
        """Make the folder, or take that of an earlier run.

        Raises:
            RecipeError: something that is no run folder is in the way.
        """
        if self.root.exists() and not self.root.is_dir():
            raise RecipeError("is a file", place=str(self.root), fix="choose another folder with --out")
        if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / "steps").is_dir():
            what = "is not empty and holds no run"
            raise RecipeError(what, place=str(self.root), fix="choose a new or empty folder with --out")
        try:
            (self.root / "steps").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(
                f"cannot be written: {error}", place=str(self.root), fix="choose another --out"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second run in it (on systems with `flock`)."""
        try:
            import fcntl
        except ImportError:
            yield
            return
        with (self.root / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                fix = "wait for it, or choose another folder with --out"
                raise RecipeError("another run is at work in this folder", place=str(self.root), fix=fix) from error
            yield

    def event(self, step: str | None, event: str, **more: Any) -> None:
        """Append a line to events.jsonl."""
        append_rows(self.root / "events.jsonl", [{"time": now(), "step": step, "event": event, **more}])

    def state(self, name: str) -> dict[str, Any] | None:
        """Return what step.json of step `name` says; None when the step never started.

        Raises:
            RecipeError: a step.json that cannot be read.
        """
        path = self.step(name) / "step.json"
        if not path.exists():
            return None
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            state["metrics"] = {k: math.nan if v is None else float(v) for k, v in state["metrics"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            fix = "run again with --force, which sets this step aside"
            raise RecipeError(f"cannot be read: {error}", place=str(path), fix=fix) from error
        return state

    def write_state(self, name: str, state: Mapping[str, Any]) -> None:
        """Write step.json of step `name`."""
        self.step(name).mkdir(parents=True, exist_ok=True)
        _write_json(self.step(name) / "step.json", state)

    def write_recipe(self, recipe: bytes) -> None:
        """Keep the recipe as it was given."""
        (self.root / "recipe.yaml").write_bytes(recipe)

    def run(self) -> dict[str, Any]:
        """Return what run.json says; empty when there is none."""
        path = self.root / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write_run(self, state: Mapping[str, Any]) -> None:
        """Write run.json."""
        _write_json(self.root / "run.json", state)

    def set_aside(self, name: str) -> Path | None:
        """Move the folder of step `name` under replaced/; nothing is ever deleted."""
        folder = self.step(name)
        if not folder.exists():
            return None
        replaced = self.root / "replaced"
        replaced.mkdir(exist_ok=True)
        number = sum(1 for _ in replaced.glob(f"{name}-*")) + 1
        return folder.rename(replaced / f"{name}-{number}")


def now() -> str:
    """Return the time in UTC as ISO text, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return os.fspath(value) if isinstance(value, Path) else value
