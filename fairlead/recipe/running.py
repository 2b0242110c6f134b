"""Running a recipe: step after step into a run folder, going on where an earlier run stopped."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead import fields
from fairlead.errors import ExpectationError, FairleadError, RecipeError
from fairlead.recipe.expectations import Checked
from fairlead.recipe.folder import RunFolder, now
from fairlead.recipe.identity import Identity, differences, identify
from fairlead.recipe.plan import PlannedStep, Recipe, load, substitute
from fairlead.steps.base import Context, Outcome

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["RunResult", "run"]

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "tokenizers", "datasets", "numpy", "scipy")


@dataclass(frozen=True)
class RunResult:
    """What a finished run left."""

    folder: Path
    """The run folder."""
    report: Path
    """The HTML report in it."""
    metrics: dict[str, float]
    """`<step>.<name>` -> number."""
    expectations: tuple[Checked, ...]
    """How the recipe's `expect:` lines came out."""
    outputs: dict[str, dict[str, Path]] = field(default_factory=dict)
    """step -> output name -> path."""


def run(
    recipe: Recipe | str | Path,
    folder: str | Path | None = None,
    *,
    force: bool = False,
    quiet: bool = False,
    command: str | None = None,
) -> RunResult:
    """Run `recipe` in `folder` (by default `runs/<name of the recipe file>`).

    Finished steps are not repeated; a step that was cut short goes on where it stopped. A report is built in any case.

    Args:
        recipe: a checked recipe, or the path of one.
        folder: new, empty, or that of an earlier run of the same recipe.
        force: set steps whose settings or inputs have changed, and those that depend on them, aside and run them again.
        quiet: keep progress and summary off the terminal.
        command: what was typed, for the record.

    Raises:
        RecipeError: a finished step's settings or inputs have changed and `force` is not given.
        ExpectationError: the run is done, but an `expect:` line does not hold.
        FairleadError: whatever stopped a step.
    """
    checked = recipe if isinstance(recipe, Recipe) else load(recipe)
    place = RunFolder(folder or Path("runs") / Path(checked.source).stem)
    identities = identify(checked.steps, checked.loops)
    place.make()
    with place.locked():
        return _Run(checked, identities, place, force, quiet, command).all()


class _Run:
    """One call of `run`."""

    def __init__(
        self,
        recipe: Recipe,
        identities: Mapping[str, Identity],
        folder: RunFolder,
        force: bool,
        quiet: bool,
        command: str | None,
    ):
        self.recipe, self.identities, self.folder, self.quiet = recipe, identities, folder, quiet
        stale = _stale(recipe, folder, identities, force)
        folder.write_recipe(recipe.text)
        for name in stale:
            folder.event(name, "set_aside", to=str(folder.set_aside(name)))
        self.state: dict[str, Any] = {
            "title": recipe.title,
            "about": recipe.about,
            "seed": recipe.seed,
            "overrides": list(recipe.overrides),
            "started": folder.run().get("started", now()),
            "finished": None,
            "status": "running",
            "versions": _versions(),
            "machine": _machine(),
            "command": command or " ".join(["fairlead", *sys.argv[1:]]),
            "steps": [step.id for step in recipe.steps],
            "expectations": [],
            "loops": [],
        }
        folder.write_run(self.state)
        self.metrics: dict[str, float] = {}
        self.outputs: dict[str, dict[str, Path]] = {}
        self.best: dict[str, str] = {}

    def all(self) -> RunResult:
        try:
            for number, step in enumerate(self.recipe.steps, 1):
                if not self._left_out(step):
                    self._one(step, f"{number}/{len(self.recipe.steps)}")
                self._close_rounds(step)
            checked = tuple(expectation.check(self.metrics) for expectation in self.recipe.expect)
        except (Exception, KeyboardInterrupt) as error:
            self._close("failed", (), error)
            raise
        report = self._close("finished", checked, None)
        assert report is not None
        broken = [c for c in checked if not c.holds]
        if broken:
            lines = "\n  ".join(f"{c.line}   (measured {c.value:.4g})" for c in broken)
            what = f"{len(broken)} of {len(checked)} expectations do not hold:\n  {lines}"
            raise ExpectationError(what, place=self.recipe.source, fix=f"look at {report}")
        return RunResult(self.folder.root, report, self.metrics, checked, self.outputs)

    def _left_out(self, step: PlannedStep) -> bool:
        """Tell whether the rounds that a step belongs to have ended before it."""
        for loop in self.recipe.loops:
            number = loop.round_of(step.id)
            if number > loop.certain:
                before = loop.step(number - 1, loop.names[-1])
                if before not in self.outputs or loop.standing(self.metrics, number - 1).ended:
                    return True
        return False

    def _close_rounds(self, step: PlannedStep) -> None:
        """Behind the last step of rounds that may end early: say how they went, and let the best one stand for them."""
        for loop in self.recipe.loops:
            if step.id != loop.step(loop.rounds, loop.names[-1]):
                continue
            done = sum(loop.step(number, loop.names[-1]) in self.outputs for number in range(1, loop.rounds + 1))
            found = loop.standing(self.metrics, done)
            said = loop.said(found)
            self._say(f"    {said['text']}")
            self.folder.event(None, "rounds", **said)
            self.state["loops"].append(said)
            self.state["steps"] = [name for name in self.state["steps"] if loop.round_of(name) <= done]
            self.folder.write_run(self.state)
            self.metrics |= {f"{loop.id}.rounds": float(done), f"{loop.id}.best": float(found.best)}
            for alias, name in loop.aliases.items():
                best = loop.step(found.best, name)
                self.outputs[alias], self.best[alias] = self.outputs[best], best
                mine = {k: v for k, v in self.metrics.items() if k.startswith(f"{best}.")}
                self.metrics |= {f"{alias}{key[len(best) :]}": value for key, value in mine.items()}

    def _one(self, step: PlannedStep, number: str) -> None:
        identity = self.identities[step.id]
        state = self.folder.state(step.id)
        if state is not None and state["status"] == "finished":
            self.folder.event(step.id, "skip")
            self._say(f"[dim]{number}[/] [bold]{step.id}[/] [dim]{step.kind}: finished before[/]")
        else:
            self._say(f"[dim]{number}[/] [bold]{step.id}[/] [dim]{step.kind}[/]")
            state = self._work(step, identity, state)
            self._say(f"    [dim]{state['seconds']:.1f} s{_notes(state)}[/]")
        self.metrics |= {f"{step.id}.{name}": value for name, value in state["metrics"].items()}
        self.outputs[step.id] = {k: self.folder.step(step.id) / v for k, v in state["outputs"].items()}

    def _work(self, step: PlannedStep, identity: Identity, before: dict[str, Any] | None) -> dict[str, Any]:
        state = {
            "id": step.id,
            "kind": step.kind,
            "config": identity.config,
            "fingerprint": identity.fingerprint,
            "status": "running",
            "seconds": 0.0,
            "outputs": {},
            "metrics": {},
            "notes": [],
            "inputs": [{"name": name, "fingerprint": digest} for name, digest in identity.inputs],
        }
        earlier = before["seconds"] if before else 0.0
        self.folder.write_state(step.id, state | {"seconds": earlier})
        self.folder.event(step.id, "start" if before is None else "resume")
        start = time.perf_counter()
        try:
            outcome = self._call(step, identity)
        except (Exception, KeyboardInterrupt) as error:
            state |= {"status": "failed", "error": _said(error), "seconds": earlier + time.perf_counter() - start}
            self.folder.write_state(step.id, state)
            self.folder.event(step.id, "fail", error=_said(error))
            inputs = ", ".join(name for name, _ in identity.inputs)
            error.add_note(f"in: step {step.id} ({step.kind} with {inputs})")
            raise
        state |= {
            "status": "finished",
            "seconds": earlier + time.perf_counter() - start,
            "outputs": outcome.outputs,
            "metrics": {name: float(value) for name, value in outcome.metrics.items()},
            "notes": list(outcome.notes),
        }
        self.folder.write_state(step.id, state)
        self.folder.event(step.id, "finish", seconds=round(state["seconds"], 3))
        return state

    def _call(self, step: PlannedStep, identity: Identity) -> Outcome:
        paths = {s.id: str(self.outputs[s.id][str(s.config.produces)]) for s in self.recipe.steps if self._made(s)}
        paths |= {alias: paths[best] for alias, best in self.best.items() if best in paths}
        values = substitute(identity.config, paths)
        config = fields.build(type(step.config), values, owner=step.kind, place=step.place)
        outcome = config(Context(self.folder.step(step.id), self.folder.cache, self.quiet))
        if "records" in outcome.outputs:
            from fairlead import records, report

            made = records.read(self.folder.step(step.id) / outcome.outputs["records"])
            report.data_card(made, self.folder.step(step.id) / "card.html")
            outcome = replace(outcome, outputs=outcome.outputs | {"card": "card.html"})
        return outcome

    def _made(self, step: PlannedStep) -> bool:
        return step.config.produces is not None and step.id in self.outputs

    def _close(self, status: str, checked: tuple[Checked, ...], error: BaseException | None) -> Path | None:
        """Write how the run ended and build its report; a fault of the report must not hide the fault of a step."""
        self.state |= {"status": status, "finished": now(), "error": None if error is None else _said(error)}
        self.state["expectations"] = [{"line": c.line, "value": c.value, "holds": c.holds} for c in checked]
        self.folder.write_run(self.state)
        from fairlead import report

        try:
            path = report.build(self.folder.root)
            if not self.quiet:
                report.terminal(self.folder.root)
        except Exception as fault:
            if error is None:
                raise
            self._say(f"[red]the report could not be built: {_said(fault)}[/]")
            return None
        self._say(f"report: [bold]{path}[/]")
        return path

    def _say(self, text: str) -> None:
        if not self.quiet:
            _console().print(text, highlight=False)


def _stale(recipe: Recipe, folder: RunFolder, identities: Mapping[str, Identity], force: bool) -> list[str]:
    """Return the steps whose earlier result no longer fits, all of them to be set aside; refuse without `force`."""
    stale = []
    for step in recipe.steps:
        identity = identities[step.id]
        try:
            state = folder.state(step.id)
            reason = None if state is None else _misfit(step, state, identity, folder)
        except RecipeError as error:
            reason = error.what
        if reason is None:
            continue
        if not force:
            fix = "choose another folder with --out, or run this step and those that depend on it again with --force"
            what = f"step {step.id!r} was run before in {folder.root}, but {reason}"
            raise RecipeError(what, place=step.place, fix=fix)
        stale.append(step.id)
    return stale


def _misfit(step: PlannedStep, state: Mapping[str, Any], identity: Identity, folder: RunFolder) -> str | None:
    if state["fingerprint"] != identity.fingerprint:
        changed = differences(state["config"], identity.config)
        before = {entry["name"]: entry["fingerprint"] for entry in state["inputs"]}
        changed += [f"{name} has changed" for name, digest in identity.inputs if before.get(name) != digest]
        return "; ".join(changed) or f"its kind was {state['kind']}"
    if state["status"] == "finished":
        lost = [path for path in state["outputs"].values() if not (folder.step(step.id) / path).exists()]
        return f"its {lost[0]} is gone" if lost else None
    return None


def _notes(state: Mapping[str, Any]) -> str:
    return "".join(f"; {note}" for note in state["notes"])


def _said(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by the user"
    return str(error) if isinstance(error, FairleadError) else f"{type(error).__name__}: {error}"


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("fairlead", *_PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if "fairlead" not in found:
        from fairlead import __version__

        found["fairlead"] = __version__
    return found


def _machine() -> dict[str, Any]:
    from fairlead import models

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": cpu, "cores": cores, "memory": memory, "device": models.pick_device()}
