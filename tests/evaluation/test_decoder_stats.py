"""Numbers that decoders tell are averaged by name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from known import BASE, rows

from fairlead.engines.base import Completion, Sampling
from fairlead.evaluation.decoder_stats import DecoderStats


@dataclass(frozen=True)
class Counting:
    """Tells how often it was asked in one call, and of every second answer something more."""

    fingerprint = "counting"

    def generate(self, prompts, sampling):
        told = [{"asked": k, **({"share": 0.5} if k % 2 else {})} for k in range(len(prompts))]
        return [[Completion("x", extra={"stats": one})] * sampling.n for one in told]


def test_means_by_name_and_a_note_for_who_tells_nothing():
    report = DecoderStats(Sampling(temperature=0, max_tokens=4))({"plain": BASE, "counting": Counting()}, rows(5))
    wanted = {"plain.told": 0.0, "counting.told": 1.0, "counting.asked": 2.0, "counting.share": 0.5}
    assert report.metrics() == pytest.approx(wanted)
    assert report.summary["counting"]["share"].n == 2
    assert report.notes == ["plain: its answers tell no numbers"]
    counting = [row for row in report.rows if row["engine"] == "counting"]
    assert [row["asked"] for row in counting] == [0, 1, 2, 3, 4]
    assert counting[0]["share"] is None
