"""The logit lens (nostalgebraist 2020): at which layer a model has made up its mind about its first token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Engine
from fairlead.engines.distributions import reads
from fairlead.engines.lens import Layered, LayerStats
from fairlead.errors import UnsupportedError, UsageError
from fairlead.estimates import estimate_mean
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import prompts_of
from fairlead.figures import curves, intervals
from fairlead.messages import Prompt

__all__ = ["LogitLens"]

_AXES = ("settled", "entropy", "entropy_half", "divergence_half")


@dataclass(frozen=True, kw_only=True)
class LogitLens:
    """What every engine would say first if it stopped at a layer, for every layer; local models.

    The states at the last token of a prompt go through the model's last norm and its output head: P_0 behind the
    embedding, P_L after the last layer, which is the model's own distribution.
    """

    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {"seed": 1}

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence is {self.confidence}", fix="use a share between 0 and 1, such as 0.95")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Read every engine's layers behind every record's prompt.

        Axes: `settled` (share of the depth from which on the final token stays the likeliest: 0 the embedding, 1 the
        last layer), `entropy` (nats, of the last layer), `entropy_half` (at half the depth, rounded down) and
        `divergence_half` (nats, KL of the last layer's distribution from that one). Rows: id, engine, token, the axes,
        and `layers`: divergence, entropy and rank of the final token at every layer, as JSON.

        Raises:
            UnsupportedError: an engine whose layers are out of reach.
        """
        if not engines:
            raise UsageError("there is no engine to evaluate", fix="give at least one engine by name")
        prompts = prompts_of(records)
        models = {name: _layered(name, engine, prompts) for name, engine in engines.items()}
        report, lines = Report({}), {"divergence": {}, "settled": {}}
        for name, (model, asked) in models.items():
            found = model.layer_stats(asked)
            rows = [_row(name, model, record, stats) for record, stats in zip(records, found, strict=True)]
            report.rows += rows
            report.summary[name] = {
                axis: estimate_mean([row[axis] for row in rows], confidence=self.confidence, seed=self.seed)
                for axis in _AXES
            }
            depth = np.arange(len(found[0].rank))
            lines["divergence"][name] = depth, np.mean([stats.divergence for stats in found], 0)
            lines["settled"][name] = depth, [np.mean([stats.settled <= k for stats in found]) for k in depth]
        report.figures = {
            "where the answer settles": intervals(report.summary, ("settled",), label="share of the depth"),
            "distance from the last layer": curves(lines["divergence"], x="layer", y="KL, nats"),
            "settled by layer": curves(lines["settled"], x="layer", y="share of prompts"),
        }
        return report


def _layered(name: str, engine: Engine, prompts: Sequence[Prompt]) -> tuple[Any, list[Prompt]]:
    model, asked = reads(engine, name, prompts)
    if not isinstance(model, Layered):
        what = f"is a {type(model).__name__}, whose layers are out of reach"
        raise UnsupportedError(
            what, place=f"engine {name}", fix="name a local model: harbor:NAME, a folder or a hub id"
        )
    return model, asked


def _row(name: str, model: Any, record: Any, stats: LayerStats) -> dict[str, Any]:
    last = len(stats.rank) - 1
    half = last // 2
    layers = {
        "divergence": [round(float(one), 6) for one in stats.divergence],
        "entropy": [round(float(one), 6) for one in stats.entropy],
        "rank": stats.rank.tolist(),
    }
    return {
        "id": str(record.id),
        "engine": name,
        "token": "".join(model.spell([stats.token])),
        "settled": stats.settled / last,
        "entropy": float(stats.entropy[-1]),
        "entropy_half": float(stats.entropy[half]),
        "divergence_half": float(stats.divergence[half]),
        "layers": json.dumps(layers),
    }
