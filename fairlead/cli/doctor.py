"""`fairlead doctor`: what is installed, what it runs on, and whether it works."""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

__all__ = ["doctor"]

_CORE = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "pyarrow", "numpy", "scipy", "pydantic")
_EXTRAS = {"peft": "peft", "trackers": "tensorboard"}
_LEAST_FREE = 2 * 2**30
_MODEL = "harbor:base-300k"


def doctor() -> int:
    """Check this installation: versions, devices, extras, disk, and a self-test of a few seconds.

    The exit code is 1 when something does not work.

    For example:

    ```
    fairlead doctor
    ```
    """
    checks = (
        ("versions", _versions),
        ("extras", _extras),
        ("devices", _devices),
        ("disk", _disk),
        ("self-test", _self_test),
    )
    wrong = 0
    for name, check in checks:
        for good, text in _told(check):
            wrong += not good
            print(f"{'ok  ' if good else 'FAIL'} {name:<10} {text}", flush=True)
    return 1 if wrong else 0


def _told(check: Callable[[], Iterator[tuple[bool, str]]]) -> Iterator[tuple[bool, str]]:
    """Pass on what a check finds; a check that breaks is itself a finding."""
    try:
        yield from check()
    except Exception as error:
        yield False, f"{type(error).__name__}: {error}"


def _versions() -> Iterator[tuple[bool, str]]:
    from fairlead import __version__

    yield True, f"fairlead {__version__}, Python {platform.python_version()}, {platform.platform()}"
    found = []
    for package in _CORE:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            yield False, f"{package} is missing: reinstall fairlead"
    yield True, ", ".join(found)


def _extras() -> Iterator[tuple[bool, str]]:
    for extra, package in _EXTRAS.items():
        try:
            yield True, f"{extra}: {package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            yield True, f"{extra}: not installed (pip install 'fairlead[{extra}]')"


def _devices() -> Iterator[tuple[bool, str]]:
    import os

    import torch

    from fairlead.models import pick_device

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield True, f"{cores} CPU cores, {torch.get_num_threads()} threads for torch"
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield True, f"cuda:{index} {about.name}, {about.total_memory / 2**30:.0f} GiB"
    yield True, f"models go to {pick_device()} by default"


def _disk() -> Iterator[tuple[bool, str]]:
    for name, folder in (("here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        yield free >= _LEAST_FREE, f"{free / 2**30:.1f} GiB free for {name} ({folder})"


def _self_test() -> Iterator[tuple[bool, str]]:
    """Answer questions in a batch and alone, and train two steps."""
    import math

    from fairlead import engine, read, reward
    from fairlead.engines.base import Sampling
    from fairlead.records import PromptOnly
    from fairlead.training.config import TrainConfig
    from fairlead.training.loop import train

    start = time.perf_counter()
    prompts = [record.prompt for record in read("harbor:test?n=8") if isinstance(record, PromptOnly)]
    answerer = engine(_MODEL)
    sampling = Sampling(max_tokens=24, temperature=0.0)
    together = [drawn[0].text for drawn in answerer.generate(prompts, sampling)]
    alone = answerer.generate(prompts[:1], sampling)[0][0].text
    yield together[0] == alone, f"{_MODEL} answers the same in a batch as alone: {alone!r}"
    values = reward("harbor")(prompts, together).values
    yield len(values) == len(prompts), f"the exact reward values {len(values)} answers"
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(model=_MODEL, data="harbor:demonstrations?n=16", batch_size=8, max_steps=2)
        loss = train(config, Path(folder) / "run", quiet=True).metrics["loss"]
    yield math.isfinite(loss), f"two training steps, loss {loss:.3f}"
    yield True, f"took {time.perf_counter() - start:.1f} s"
