"""The one training loop: steps, evaluations, checkpoints, and an end that can be resumed from any kill."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairlead.errors import UnknownNameError, UsageError
from fairlead.training import checkpoint
from fairlead.training.config import TrainConfig
from fairlead.training.folder import TrainResult, open_folder, save_model
from fairlead.training.journal import Journal, coloured, marked_rows
from fairlead.training.ranks import settle
from fairlead.training.run import Run, prepare
from fairlead.training.setup import gather

__all__ = ["TrainResult", "accelerator_for", "train"]


def train(config: TrainConfig, folder: Path | str, *, resume: bool = True, quiet: bool = False) -> TrainResult:
    """Train a model.

    Args:
        config: what to train, on what, how.
        folder: where metrics, checkpoints and the finished model go; only this run may use it.
        resume: continue a run that was stopped in this folder, to the same bytes as if it had not been; False
            starts over and removes what an earlier run of this folder left.
        quiet: show no progress.

    Returns:
        The finished model and its metrics; at once, if the folder holds this run's result already.

    Raises:
        TrainingError: another run's folder, a loss that is not finite, nothing to train.
        KeyboardInterrupt: after Ctrl-C, once the current step is saved.
    """
    folder = Path(folder)
    began = time.monotonic()
    materials = gather(config)
    with accelerator_for(config, folder) as accelerator:
        done = open_folder(folder, materials, resume, accelerator)
        if done is not None:
            return done
        run = prepare(materials, accelerator)
        found = checkpoint.latest(folder / "checkpoints")
        if found is not None:
            run.progress, run.memory = checkpoint.load(found, accelerator)
            if run.rollouts is not None:
                run.rollouts.restore(checkpoint.load_rollout(found))
        _fit(run, folder, quiet)
        steps = run.progress.step
        if config.keep == "best" and run.progress.best_step != steps:
            best = folder / "checkpoints" / f"step-{run.progress.best_step:08d}"
            run.progress, run.memory = checkpoint.load(best, accelerator)
        result = TrainResult(folder / "model", run.progress.metrics, steps, time.monotonic() - began)
        save_model(run, folder, result)
        # Not end_training: the ranks stay connected, so that a script can train again.
        for tracker in accelerator.trackers:
            tracker.finish()
    return result


def _fit(run: Run, folder: Path, quiet: bool) -> None:
    config, steps = run.materials.config, run.materials.order.steps
    tenth = math.ceil(steps / 10)
    save_every = config.save_every or tenth
    evaluate_every = config.evaluate_every or (tenth if config.keep == "best" else steps)
    main = run.accelerator.is_main_process
    journal = Journal(folder, steps=steps, start=run.progress.step, quiet=quiet, main=main)
    with _stop_between_steps() as stopped, journal:
        _introduce(run, journal)
        while run.progress.step < steps:
            line = run.step()
            journal.step(line)
            if run.rollouts is not None:
                journal.sample(run.rollouts.samples)
                run.rollouts.samples.clear()
            run.accelerator.log(line, step=line["step"])
            run.progress.metrics |= {k: v for k, v in line.items() if k not in ("step", "groups")}
            now = run.progress.step
            better = run.held_out.groups and (now % evaluate_every == 0 or now == steps) and _evaluate_now(run, journal)
            if better or now % save_every == 0 or stopped.is_set():
                kept = None if run.rollouts is None else run.rollouts.state(now)
                checkpoint.save(
                    folder / "checkpoints",
                    run.accelerator,
                    run.progress,
                    run.memory,
                    keep=config.keep_checkpoints,
                    rollout=kept,
                )
            if stopped.is_set() and now < steps:
                journal.say(f"stopped after step {now} of {steps}; the same command goes on from there")
                raise KeyboardInterrupt


def _introduce(run: Run, journal: Journal) -> None:
    if run.progress.step:
        journal.say(f"going on after step {run.progress.step}")
        return
    if run.layout_note:
        journal.say(f"layout padded: {run.layout_note}")
    for note in run.notes:
        journal.say(note)
    lengths = run.materials.lengths
    for what, ids in (("dropped", lengths.dropped), ("truncated", lengths.truncated)):
        if ids:
            journal.say(f"{what} {len(ids)} records longer than {lengths.max_length} tokens: {', '.join(ids[:5])}")
    for row in marked_rows(run.materials.groups, run.materials.renderer):
        journal.say(coloured(row))


def _evaluate_now(run: Run, journal: Journal) -> bool:
    """Measure the held-out groups; return whether these are the best weights so far."""
    metrics, progress = run.evaluate(), run.progress
    journal.write({"step": progress.step, "split": "evaluation", **metrics})
    run.accelerator.log({f"evaluation_{k}": v for k, v in metrics.items()}, step=progress.step)
    progress.metrics |= {f"evaluation_{k}": v for k, v in metrics.items()}
    if progress.best_loss is not None and metrics["loss"] >= progress.best_loss:
        return False
    progress.best_loss, progress.best_step = metrics["loss"], progress.step
    return True


@contextmanager
def accelerator_for(config: TrainConfig, folder: Path) -> Iterator[Any]:
    """Give accelerate's runtime; its process-wide state is put back so that a later run can choose other arithmetic."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    _check_trackers(config)
    AcceleratorState._reset_state()
    GradientState._reset_state()
    accelerator = Accelerator(
        mixed_precision="bf16" if config.dtype == "bfloat16" else "no",
        log_with=list(config.trackers) or None,
        project_dir=str(folder),
    )
    try:
        settle(accelerator)
        yield accelerator
    finally:
        accelerator.free_memory()
        AcceleratorState._reset_state()
        GradientState._reset_state()


def _check_trackers(config: TrainConfig) -> None:
    """Refuse trackers that are unknown or not installed; accelerate would leave them out without a word."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = {str(name) for name in get_available_trackers()}
    for name in config.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UnknownNameError("tracker", name, map(str, LOGGER_TYPE_TO_CLASS), place="train.trackers")
        if name not in available:
            fix = f"pip install {name} (tensorboard comes with 'fairlead[trackers]')"
            raise UsageError(f"the tracker {name} is not installed", place="train.trackers", fix=fix)


@contextmanager
def _stop_between_steps() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request to stop after the current step; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, previous)
