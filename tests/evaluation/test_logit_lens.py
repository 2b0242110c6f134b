"""The logit lens as an evaluator: known layers, real models, and engines without layers."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from known import Unigram, rows

import fairlead
from fairlead.engines.lens import stats_of_layers
from fairlead.errors import UnsupportedError, UsageError
from fairlead.evaluation.logit_lens import LogitLens


@dataclass(frozen=True)
class Layers(Unigram):
    """Settles on its first word at layer 1 of 2 behind even prompts, at layer 2 behind odd ones."""

    def layer_stats(self, prompts):
        odd = [int(prompt[-1]["content"].split()[1]) % 2 for prompt in prompts]
        return [stats_of_layers(torch.eye(2)[[1, one, 0]]) for one in odd]


def test_known_layers():
    report = LogitLens()({"m": Layers({"aye": 1.0, "nay": 1.0})}, rows(4))
    found = report.summary["m"]
    assert (found["settled"].value, found["settled"].n) == (0.75, 4)
    gap = float((torch.tensor([1.0, 0.0]).softmax(-1) * torch.tensor([1.0, -1.0])).sum())
    assert found["divergence_half"].value == pytest.approx(gap / 2, abs=1e-6)
    assert [row["settled"] for row in report.rows] == [0.5, 1, 0.5, 1]
    assert {row["token"] for row in report.rows} == {" aye"}
    assert json.loads(report.rows[1]["layers"])["rank"] == [2, 2, 1]


def test_harbor_models():
    """A refusal's first word is settled half way, and the base's uncertainty is there to the end."""
    engines = {name: fairlead.engine(f"harbor:{name}-1m") for name in ("base", "aligned")}
    summary = LogitLens()(engines, fairlead.read("harbor:harmful?n=8")).summary
    assert summary["aligned"]["entropy"].value < 0.2 < summary["base"]["entropy"].value
    assert 0 < summary["aligned"]["settled"].value < 1


class Shallow(Unigram):
    """Has distributions, and no layers."""

    layer_stats = None


def test_what_is_refused():
    with pytest.raises(UnsupportedError, match="layers are out of reach"):
        LogitLens()({"m": Shallow({"aye": 1.0})}, rows(1))
    with pytest.raises(UsageError, match="confidence"):
        LogitLens(confidence=1)
    with pytest.raises(UsageError, match="no engine"):
        LogitLens()({}, rows(1))
