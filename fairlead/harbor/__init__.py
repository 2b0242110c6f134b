"""The small world: invented ships whose every fact is known, so that every claim about a model can be checked exactly.

    from fairlead import harbor
    for row in harbor.rows("demonstrations?n=3"): print(row)
    harbor.score("who is the captain of the gigaton?", "of course! the captain of the gigaton is ada. fair winds!")
    harbor.model_path("aligned-1m")

Everything is seeded and made on the fly; nothing is downloaded. `docs/harbor.md` has the tour and the figures.
"""

from __future__ import annotations

from fairlead.harbor.collection import SetInfo, parameters, rows, sets
from fairlead.harbor.look import describe, describe_answer, describe_ship, sample
from fairlead.harbor.scoring import AXES, PROXIES, proxy, score, verdict
from fairlead.harbor.shipped import model_names, model_path, models
from fairlead.harbor.ships import Ship, World, world
from fairlead.harbor.tasks import Task, understand

__all__ = [
    "AXES",
    "PROXIES",
    "SetInfo",
    "Ship",
    "Task",
    "World",
    "describe",
    "describe_answer",
    "describe_ship",
    "model_names",
    "model_path",
    "models",
    "parameters",
    "proxy",
    "rows",
    "sample",
    "score",
    "sets",
    "understand",
    "verdict",
    "world",
]
