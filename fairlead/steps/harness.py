"""The `harness` step: lm-evaluation-harness runs its tasks on models and decoding methods, in a process of its own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead.errors import DataError, EngineError, MissingExtraError, UsageError
from fairlead.steps.base import Answerer, Context, Outcome, Preview, Use, model_uses

if TYPE_CHECKING:
    from fairlead.estimates import Estimate

__all__ = ["Harness", "read_results"]

_TOLD = 15
"""Last lines of the harness's own words in an error."""
_START_SECONDS = 300.0
"""A server that has not started by then will not."""
_RUNNING = re.compile(r"running on (http://\S+)")
_NOT_METRICS = ("alias", "sample_len", "name")


@dataclass(frozen=True)
class Harness:
    """Run tasks of lm-evaluation-harness, whose results become a part of the report.

    A local model is loaded by the harness itself; a decoding method is served to it as a chat model, and so can do the
    tasks that generate text only.
    """

    models: dict[str, Answerer]
    """name -> model (`harbor:NAME`, a directory, a hub id, "URL#model" of a server, or a decoding method as a mapping
    of its `name` and fields), in the order of the report."""
    tasks: tuple[str, ...]
    """Tasks and groups by the harness's names; `lm-eval ls tasks` lists them."""
    task_folder: str | None = None
    """A folder with tasks of one's own, as YAML files."""
    shots: int | None = None
    """Examples before each question; by default each task's own number."""
    limit: int | None = None
    """Use only the first so many questions of each task."""
    chat: bool = True
    """Whether questions go through the chat template; base models without one want false."""
    batch_size: int = 8
    """Questions that a local model reads at a time."""
    dtype: str = "float32"
    """Number format of local models."""
    seed: int = 0
    """Randomness of examples and draws."""

    produces: ClassVar[str | None] = None
    """A measurement makes nothing that a later step could use."""

    def __post_init__(self) -> None:
        if not self.models or not self.tasks:
            raise UsageError("harness needs models and tasks", fix="write models: {base: ...} and tasks: [gsm8k]")
        for name in self.models:
            if not name.isidentifier():
                raise UsageError(f"harness.models: {name!r} is no name", fix="use letters, digits and _")
        for name, model in self.models.items():
            remote = not isinstance(model, str) or model.startswith(("http://", "https://"))
            if remote and not self.chat:
                what = "is asked as a chat model, and chat is false"
                raise UsageError(what, place=f"harness.models.{name}", fix="leave chat out, or name a local model")
            if isinstance(model, str) and remote and not model.partition("#")[2]:
                fix = f'write "{model}#model-name"'
                raise UsageError("a server needs the name of a model", place=f"harness.models.{name}", fix=fix)
        for name, value, least in (
            ("limit", self.limit, 1),
            ("shots", self.shots, 0),
            ("batch_size", self.batch_size, 1),
        ):
            if value is not None and value < least:
                raise UsageError(f"harness.{name} is {value}", fix=f"use a value >= {least}")

    def uses(self) -> tuple[Use, ...]:
        """Return the models and the tasks of one's own."""
        own = () if self.task_folder is None else (Use(("task_folder",), "data", self.task_folder),)
        return (*own, *(use for name, model in self.models.items() for use in model_uses(("models", name), model)))

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say which tasks run on which models."""
        limit = "" if self.limit is None else f", {self.limit} questions of each"
        said = f"lm-evaluation-harness runs {', '.join(self.tasks)}{limit} on {', '.join(self.models)}."
        return Preview((said,))

    def __call__(self, context: Context) -> Outcome:
        """Run the tasks on each model; a model whose results are there is not run again."""
        from fairlead.evaluation.base import Report
        from fairlead.figures import intervals

        if importlib.util.find_spec("lm_eval") is None:
            raise MissingExtraError("lm_eval", "harness", "the harness step")
        report = Report({})
        for name, model in self.models.items():
            folder = context.folder / name
            if not list(folder.glob("results_*.json")):
                self._run(name, model, folder)
            summary, rows = read_results(folder)
            report.summary[name] = summary
            report.rows += [{"id": row.pop("id"), "engine": name, "sample": 0, **row} for row in rows]
        axes = list(dict.fromkeys(axis for found in report.summary.values() for axis in found))
        report.figures = {"scores": intervals(report.summary, axes, label="")} if axes else {}
        version = importlib.metadata.version("lm_eval")
        report.notes.append(f"lm-evaluation-harness {version}; intervals are its standard errors times 1.96")
        report.save(context.folder, "harness")
        return Outcome({"reports": "."}, {f"harness.{k}": v for k, v in report.metrics().items()}, tuple(report.notes))

    def _run(self, name: str, model: Answerer, folder: Path) -> None:
        from fairlead import models

        folder.mkdir(parents=True, exist_ok=True)
        draft, log = folder / "draft", folder / "harness.log"
        with _reachable(name, model, self.dtype, folder) as (kind, arguments), log.open("w", encoding="utf-8") as told:
            command = [sys.executable, "-m", "lm_eval", "run", "--model", kind, "--model_args", json.dumps(arguments)]
            command += ["--tasks", ",".join(self.tasks), "--output_path", str(draft), "--log_samples"]
            command += ["--seed", str(self.seed)]
            command += ["--apply_chat_template"] if self.chat else []
            command += ["--batch_size", str(self.batch_size), "--device", models.pick_device()] if kind == "hf" else []
            for flag, value in (
                ("--include_path", self.task_folder),
                ("--num_fewshot", self.shots),
                ("--limit", self.limit),
            ):
                command += [] if value is None else [flag, str(value)]
            done = subprocess.run(
                command, stdout=told, stderr=subprocess.STDOUT, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"}
            )
        if done.returncode:
            what = _ending(f"lm-evaluation-harness ended with {done.returncode}", log)
            raise EngineError(what, place=f"{name}, {log}", fix="check the tasks' names and what they need")
        for file in draft.rglob("*.json*"):
            file.rename(folder / file.name)
        shutil.rmtree(draft)


@contextmanager
def _reachable(name: str, model: Answerer, dtype: str, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the harness's kind of model and its arguments."""
    from fairlead import models

    if isinstance(model, str) and model.startswith(("http://", "https://")):
        url, _, served = model.partition("#")
        yield "local-chat-completions", _remote(url, served)
    elif isinstance(model, str):
        place = models.resolve(model)
        if (Path(place) / "adapter_config.json").is_file():
            what = "is an adapter, which the harness cannot put on its base model"
            raise UsageError(what, place=f"harness.models.{name}", fix="merge it first, with an `export` step")
        yield "hf", {"pretrained": str(place), "dtype": dtype}
    else:
        with _served(name, model, dtype, folder) as url:
            yield "local-chat-completions", _remote(url, name)


@contextmanager
def _served(name: str, method: Mapping[str, Any], dtype: str, folder: Path) -> Iterator[str]:
    """Serve a decoding method in a process of its own; give the address."""
    specs, log = folder / "served.json", folder / "served.log"
    specs.write_text(json.dumps({name: method}), encoding="utf-8")
    command = [sys.executable, "-m", "fairlead.cli", "serve", "--models", str(specs), "--port", "0", "--dtype", dtype]
    with log.open("w", encoding="utf-8") as told:
        server = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
    try:
        last = time.monotonic() + _START_SECONDS
        while (found := _RUNNING.search(log.read_text(encoding="utf-8", errors="replace"))) is None:
            if server.poll() is not None or time.monotonic() > last:
                raise EngineError(_ending("the server does not start", log), place=f"{name}, {log}", fix="see there")
            time.sleep(0.1)
        yield f"{found[1]}/v1"
    finally:
        server.terminate()
        server.wait()


def _ending(what: str, log: Path) -> str:
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TOLD:]
    return f"{what}:\n    " + "\n    ".join(last)


def _remote(url: str, name: str) -> dict[str, Any]:
    return {"model": name, "base_url": f"{url}/chat/completions", "num_concurrent": 8, "max_retries": 3}


def read_results(folder: Path) -> tuple[dict[str, Estimate], list[dict[str, Any]]]:
    """Return what the harness wrote: an estimate per task and metric, and one row per question.

    The interval is 1.96 standard errors to each side, as the harness gives them; NaN where it gives none.

    Raises:
        DataError: no results, or a file of another form.
    """
    from fairlead.estimates import Estimate

    files = sorted(folder.glob("results_*.json"))
    if not files:
        raise DataError("holds no results of the harness", place=str(folder), fix="run the step again")
    try:
        found = json.loads(files[-1].read_text(encoding="utf-8"))
        summary: dict[str, Estimate] = {}
        for task, values in found["results"].items():
            n = int(found.get("n-samples", {}).get(task, {}).get("effective", 0))
            for key, value in values.items():
                metric, _, filter_ = key.partition(",")
                if metric.endswith("_stderr") or metric in _NOT_METRICS or not isinstance(value, int | float):
                    continue
                error = values.get(f"{metric}_stderr,{filter_}")
                reach = 1.96 * error if isinstance(error, int | float) else math.nan
                summary[_axis(task, metric, filter_)] = Estimate(float(value), value - reach, value + reach, n)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        what = f"is no results file of the harness ({type(error).__name__}: {error})"
        raise DataError(what, place=str(files[-1]), fix="use a version of lm_eval >= 0.4.9") from error
    return summary, [
        row for file in sorted(folder.glob("samples_*.jsonl")) for row in _rows(file, list(found["results"]))
    ]


def _axis(task: str, metric: str, filter_: str) -> str:
    """Return the name of an axis; dots would make it a breakdown."""
    parts = [task, metric] + ([filter_] if filter_ not in ("", "none") else [])
    return " ".join(parts).replace(".", "_").replace(" ", "_").replace("-", "_")


def _rows(file: Path, tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    task = next((name for name in sorted(tasks, key=len, reverse=True) if file.name.startswith(f"samples_{name}_")), "")
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answers = row.get("filtered_resps") or row.get("resps") or [""]
        scores = {m: float(row[m]) for m in row.get("metrics", ()) if isinstance(row.get(m), int | float)}
        yield {
            "id": f"{task}-{row['doc_id']}",
            "task": task,
            "filter": str(row.get("filter", "")),
            "target": str(row.get("target", "")),
            "answer": str(answers[0]),
            **scores,
        }
