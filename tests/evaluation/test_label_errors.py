"""Rates freed of a labeller's errors: known answers, coverage, hand labels that cannot be used."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.evaluation.label_errors import LabelErrors, label_errors, read_hand_labels


def test_known_rates():
    errors = LabelErrors(found=90, cases=100, passed=97, others=100)
    assert (errors.sensitivity, errors.specificity) == (0.9, 0.97)
    assert errors.correct([1] * 12 + [0] * 88).value == pytest.approx(0.103448, abs=1e-6)
    assert errors.correct([1] * 2 + [0] * 98).value == 0
    assert LabelErrors(50, 50, 50, 50).correct([1, 0, 0, 1, math.nan]).value == 0.5


def test_the_interval_holds_the_true_rate_and_knows_of_the_hand_labels():
    rng, held = np.random.default_rng(0), 0
    for trial in range(150):
        truth = rng.random(300) < 0.3
        told = np.where(truth, rng.random(300) < 0.85, rng.random(300) < 0.1)
        errors = LabelErrors(int(rng.binomial(80, 0.85)), 80, int(rng.binomial(80, 0.9)), 80)
        found = errors.correct(told, seed=trial)
        held += found.low <= 0.3 <= found.high
    assert 0.9 <= held / 150 <= 0.99
    few, many = (LabelErrors(9 * k, 10 * k, 9 * k, 10 * k).correct(told) for k in (3, 300))
    assert few.high - few.low > 1.3 * (many.high - many.low)
    assert few == LabelErrors(27, 30, 27, 30).correct(told)


def test_a_labeller_that_may_know_nothing_leaves_everything_open():
    found = LabelErrors(2, 3, 2, 3).correct([1, 0, 0, 0])
    assert (found.low, found.high) == (0, 1)
    with pytest.raises(UsageError, match="knows nothing"):
        LabelErrors(1, 2, 1, 2).correct([1, 0])


def test_little():
    errors = LabelErrors(9, 10, 9, 10)
    assert errors.correct([]).n == 0
    assert math.isnan(errors.correct([1]).low)


def test_labels_beside_those_of_a_person():
    by_hand = ["full", "full", "none", "partial", "none", "full"]
    errors, notes = label_errors(["full", "none", "none", "full", "none", None], by_hand, "full")
    assert errors == LabelErrors(found=1, cases=2, passed=2, others=3)
    assert "sensitivity 0.500 (1 of 2), specificity 0.667 (2 of 3)" in notes[0]
    assert "5 hand labels are few" in notes[1]
    with pytest.raises(UsageError, match="of 1 hand labels 1 are 'full', and 0 are not"):
        label_errors(["full"], ["full"], "full")


def test_files_of_hand_labels(tmp_path):
    path = tmp_path / "hand.jsonl"
    turns = [{"role": "user", "content": "how?"}]
    rows = [{"prompt": "how?", "answer": "no.", "label": "full"}, {"prompt": turns, "answer": "", "label": "empty"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_hand_labels(str(path), ["full", "empty"])
    assert [(one.prompt, one.answer, one.label) for one in found] == [(turns, "no.", "full"), (turns, "", "empty")]
    with pytest.raises(DataError, match="label 'empty'"):
        read_hand_labels(str(path), ["full"])
    path.write_text(json.dumps({"prompt": "how?", "label": "full"}) + "\n")
    with pytest.raises(DataError, match="no answer"):
        read_hand_labels(str(path), ["full"])
    path.write_text("")
    with pytest.raises(DataError, match="hand"):
        read_hand_labels(str(path), ["full"])
