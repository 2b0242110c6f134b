"""Fairlead takes a language model from raw to aligned.

Methods are built by catalog name: `fairlead.objective("dpo", beta=0.1)`, `fairlead.reward("harbor")`,
`fairlead.evaluator("win_rate")`. Whatever answers is an engine: `fairlead.engine("harbor:aligned-1m")`.
Everything else is imported on first use; importing the package loads no tensor library.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from fairlead import catalog as _catalog

__version__ = "0.1.0"

objective = partial(_catalog.build, "objective")
reward = partial(_catalog.build, "reward")
decoder = partial(_catalog.build, "decoder")
selector = partial(_catalog.build, "selector")
synthesizer = partial(_catalog.build, "synthesizer")
evaluator = partial(_catalog.build, "evaluator")

_LAZY = {
    "Completion": "fairlead.engines.base",
    "Engine": "fairlead.engines.base",
    "FairleadError": "fairlead.errors",
    "Loss": "fairlead.training.objectives.base",
    "Report": "fairlead.evaluation.base",
    "Rewards": "fairlead.rewards.base",
    "Sampling": "fairlead.engines.base",
    "Scores": "fairlead.training.objectives.base",
    "engine": "fairlead.engines",
    "read": "fairlead.records",
    "run": "fairlead.recipe",
    "train": "fairlead.training.loop",
}

__all__ = [
    "Completion",
    "Engine",
    "FairleadError",
    "Loss",
    "Report",
    "Rewards",
    "Sampling",
    "Scores",
    "decoder",
    "engine",
    "evaluator",
    "objective",
    "read",
    "reward",
    "run",
    "selector",
    "synthesizer",
    "train",
]

if TYPE_CHECKING:
    from fairlead.engines import engine
    from fairlead.engines.base import Completion, Engine, Sampling
    from fairlead.errors import FairleadError
    from fairlead.evaluation.base import Report
    from fairlead.recipe import run
    from fairlead.records import read
    from fairlead.rewards.base import Rewards
    from fairlead.training.loop import train
    from fairlead.training.objectives.base import Loss, Scores


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fairlead' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
