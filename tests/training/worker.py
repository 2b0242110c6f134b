"""Runs one step of each of several runs in one of several ranks, and writes losses and gradients.

`worker.py CONFIGS.json OUT.pt`, launched by torch.distributed.run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from fairlead.fields import build
from fairlead.training.config import TrainConfig
from fairlead.training.loop import accelerator_for
from fairlead.training.run import prepare
from fairlead.training.setup import gather


def one_step(config: TrainConfig, folder: Path) -> dict:
    """Return the first step's metrics and the gradients that the optimizer got."""
    with accelerator_for(config, folder) as accelerator:
        run = prepare(gather(config), accelerator)
        kept = {}
        names = {id(p): n for n, p in run.plain.named_parameters()}
        run.optimizer.step = lambda: kept.update(
            {names[id(p)]: p.grad.clone() for p in run.plain.parameters() if p.grad is not None}
        )
        line = run.step()
        return {"loss": line["loss"], "gradients": kept, "ranks": accelerator.num_processes, "metrics": line}


if __name__ == "__main__":
    torch.set_num_threads(1)
    configs = json.loads(Path(sys.argv[1]).read_text())
    target = Path(sys.argv[2])
    found = {name: one_step(build(TrainConfig, c, owner="train"), target.parent) for name, c in configs.items()}
    if os.environ.get("RANK", "0") == "0":
        torch.save(found, target)
