"""Agreement of rewards with people: the rule of the winner, ties of either side, controls, BLEU beside references."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

import fairlead
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.evaluation.reward_agreement import RewardAgreement
from fairlead.records import Conversation, Preference, Ranking
from fairlead.rewards.base import Rewards


@dataclass(frozen=True)
class Said:
    """What a completion says of itself; "?" abstains."""

    factor: float = 1.0

    def __call__(self, prompts, completions):
        values = np.array([math.nan if text == "?" else self.factor * float(text) for text in completions])
        return Rewards(values, np.isnan(values))


def ranking(name, answers, scores, **extra):
    return Ranking(name, "q", tuple(answers), tuple(scores), extra)


def outcome(answers, scores):
    report = RewardAgreement({"r": Said()})({}, [ranking("0", answers, scores)])
    return report.summary["r"]["agreement"].value


def test_the_winner_is_the_higher_value_and_equal_values_are_a_tie():
    verdicts = {(1.0, 0.0): (True, False, False), (0.5, 0.5): (False, True, False), (0.0, 1.0): (False, False, True)}
    for people, expected in verdicts.items():
        found = [outcome(answers, people) for answers in ((".3", ".1"), (".5", ".5"), (".2", ".6"))]
        assert found == list(map(float, expected))


def test_agreement_and_its_margin_over_a_few_records():
    records = [
        ranking("0", ["3", "1"], [1, 0]),
        ranking("1", ["10", "2"], [0, 1]),
        ranking("2", ["4", "4"], [1, 0]),
        ranking("3", ["5", "5"], [0.5, 0.5]),
    ]
    report = RewardAgreement({"r": Said()})({}, records)
    found = {name: {axis: e.value for axis, e in axes.items()} for name, axes in report.summary.items()}
    assert found["r"] == {"agreement": 0.5, "tied": 0.5, "gain": 0.25}
    assert found["longer"] == {"agreement": 0.25, "tied": 0.75}
    assert [row["margin"] for row in report.rows[:4]] == [2, -8, 0, None]


def test_what_people_found_bad_altogether_is_left_out():
    records = [ranking("0", ["3", "1"], [1, 0]), ranking("1", ["1", "2"], [0.5, 0.5], winner="tie (bothbad)")]
    report = RewardAgreement({"r": Said()})({}, records)
    assert report.summary["r"]["agreement"].n == 1
    assert "1 of 2 records are left out: people found both answers bad" in report.notes


def test_all_pairs_of_a_longer_ranking_count_and_a_record_counts_once():
    report = RewardAgreement({"r": Said()})(
        {}, [ranking("0", ["3", "1", "2"], [2, 1, 0]), ranking("1", ["1", "0"], [1, 0])]
    )
    assert report.rows[0]["agreement"] == pytest.approx(2 / 3)
    assert report.summary["r"]["agreement"].value == pytest.approx((2 / 3 + 1) / 2)


def test_a_margin_makes_ties_and_abstentions_are_left_out():
    records = [ranking("0", ["3", "2.5"], [1, 0]), ranking("1", ["3", "?"], [1, 0])]
    report = RewardAgreement({"r": Said()}, tie_margin=0.5)({}, records)
    assert (report.summary["r"]["tied"].value, report.summary["r"]["tied"].n) == (1, 1)
    assert "r: it abstains on answers of 1 of 2 records" in report.notes


def test_joined_rewards_are_averaged_in_standard_deviations():
    records = [ranking("0", ["1", "0"], [1, 0]), ranking("1", ["0", "3"], [0, 1])]
    report = RewardAgreement({"r": Said(), "s": Said(-5.0)}, joined={"both": ("r", "s"), "twice": ("r", "r")})(
        {}, records
    )
    assert report.summary["both"]["tied"].value == 1
    assert report.summary["twice"]["agreement"].value == 1
    spread = np.std([1, 0, 0, 3], ddof=1)
    rows = [row for row in report.rows if row["engine"] == "twice"]
    assert [row["margin"] for row in rows] == pytest.approx([1 / spread, 3 / spread])


def test_bleu_beside_references(tmp_path):
    """The references of a pair stand in its own record."""
    rows = [
        {"id": "1", "prompt": "q", "chosen": "the cat is on the mat", "rejected": "dogs bark here all day long",
         "references": ["the cat sat on the mat"]},
        {"id": "2", "prompt": "p", "chosen": "five ships came in", "rejected": "five ships came in at noon, I think",
         "references": ["at noon five ships came in, I think", "it was noon"]},
    ]  # fmt: skip
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bleu = {"name": "bleu", "references": str(path)}
    rewards = {"bleu": bleu, "brevity": bleu | {"parts": "brevity"}, "rouge": bleu | {"name": "rouge_l"}}
    report = RewardAgreement(rewards)({}, fairlead.read(str(path)))
    told = {name: [row["agreement"] for row in report.rows if row["engine"] == name] for name in report.summary}
    assert told["bleu"] == [1, 1]
    assert told["rouge"] == [1, 0]
    assert told["brevity"] == [0, 0]
    assert told["longer"] == [0, 0]


def test_a_coin_agrees_by_half():
    records = [Preference(str(i), "q", "1", "2") for i in range(400)]
    found = RewardAgreement({"r": Said()})({}, records).summary["random"]["agreement"]
    assert found.low < 0.5 < found.high


def test_answers_of_several_turns_are_left_out():
    turns = (
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "2"},
    )
    asked = ({"role": "user", "content": "q"},)
    records = [Preference("0", asked, turns, turns), Preference("1", "q", "2", "1")]
    assert "several turns" in RewardAgreement({"r": Said()})({}, records).notes[0]
    with pytest.raises(DataError, match="no pair of single answers"):
        RewardAgreement({"r": Said()})({}, records[:1])
    with pytest.raises(DataError, match="a conversation record holds no verdict"):
        RewardAgreement({"r": Said()})({}, [Conversation("2", "q", "a")])


@pytest.mark.parametrize(
    "fields",
    [
        {"rewards": {}},
        {"rewards": {"longer": "harbor"}},
        {"rewards": {"r": "harbor"}, "tie_margin": -1.0},
        {"rewards": {"r": "harbor"}, "joined": {"r": ("r", "r")}},
        {"rewards": {"r": "harbor"}, "joined": {"j": ("r",)}},
    ],
)
def test_settings_that_do_not_go_together(fields):
    with pytest.raises(UsageError):
        RewardAgreement(**fields)
    with pytest.raises(UnknownNameError, match="did you mean 'r'"):
        RewardAgreement({"r": "harbor"}, joined={"j": ("r", "rr")})
