"""Trains several runs in one of several ranks: `rank_worker.py CONFIGS.json FOLDER`, launched by torch.distributed.run.

A run named NAME:STOP is stopped after as many steps and started again in the same process.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import torch

from fairlead.fields import build
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.run import Run


def trained(config: TrainConfig, folder: Path, stop: int | None) -> None:
    """Train; with `stop`, lose everything after that step's checkpoint first."""
    step = Run.step

    def broken(run):
        if run.progress.step == stop:
            raise InterruptedError
        return step(run)

    if stop is not None:
        Run.step = broken
        with suppress(InterruptedError):
            train(config, folder, quiet=True)
        Run.step = step
    train(config, folder, quiet=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, fields in json.loads(Path(sys.argv[1]).read_text()).items():
        stop = name.partition(":")[2]
        trained(build(TrainConfig, fields, owner="train"), Path(sys.argv[2]) / name, int(stop) if stop else None)
