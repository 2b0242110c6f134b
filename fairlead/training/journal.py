"""What a run says while it runs: metrics as JSON lines, progress with time left, and what it shows before step 1."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from fairlead.forward.layout import Group
from fairlead.render import Rendered, Renderer

__all__ = ["Journal", "coloured", "marked_rows"]


class Journal:
    """Writes `metrics.jsonl` and the progress bar of one run (the main process only)."""

    def __init__(self, folder: Path, *, steps: int, start: int, quiet: bool, main: bool):
        """Continue the journal after step `start`, forgetting lines of steps that will be done again."""
        self.path, self.samples = folder / "metrics.jsonl", folder / "rollouts.jsonl"
        self.main = main
        self.console = Console(stderr=True, quiet=quiet or not main)
        for path in (self.path, self.samples):
            self._trim(path, start)
        self._began, self._from = time.monotonic(), start
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=False,
        )
        self.task = self.progress.add_task("training", total=steps, completed=start, note="")

    def __enter__(self) -> Journal:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line of metrics; numbers that JSON cannot hold become null."""
        if not self.main:
            return
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(plain) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def sample(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append some completions of a rollout, with what they were worth."""
        if self.main and rows:
            with self.samples.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def step(self, line: Mapping[str, Any]) -> None:
        """Write a training step's metrics and move the bar."""
        self.write(line)
        worth = f"reward {line['reward']:.3f}" if "reward" in line else f"loss {line['loss']:.4f}"
        note = f"{worth}  {line['tokens_per_second']:.0f} tok/s"
        self.progress.update(self.task, completed=line["step"], note=note)

    def say(self, text: str | Text) -> None:
        """Print a line above the bar."""
        self.console.print(text, highlight=False)

    def _trim(self, path: Path, start: int) -> None:
        if not self.main or not path.is_file():
            return
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= start and start > 0]
        half = path.with_suffix(".half")
        half.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        half.replace(path)


def marked_rows(groups: Sequence[Group], renderer: Renderer, count: int = 3) -> list[dict[str, Any]]:
    """Return the first groups as text in parts, each marked as trained or not: [{"id", "parts": [[text, trained]]}]."""
    rows = []
    for group in groups[:count]:
        if not group.branches:
            prompt = Rendered(group.prompt.tolist(), [False] * len(group.prompt), [], len(group.prompt))
            rows.append({"id": group.id, "parts": [list(part) for part in renderer.parts(prompt)]})
        for k, branch in enumerate(group.branches):
            split = len(group.prompt)
            ids = [*group.prompt.tolist(), *branch.ids.tolist()]
            rendered = Rendered(ids, [False] * split + branch.trained.tolist(), [], split)
            name = group.id if len(group.branches) == 1 else f"{group.id} [{k}]"
            rows.append({"id": name, "parts": [list(part) for part in renderer.parts(rendered)]})
    return rows


def coloured(row: Mapping[str, Any]) -> Text:
    """Return a marked row for the terminal: trained parts green, the rest dim."""
    text = Text(f"{row['id']}: ", style="bold")
    for part, trained in row["parts"]:
        text.append(part, style="green" if trained else "dim")
    return text
