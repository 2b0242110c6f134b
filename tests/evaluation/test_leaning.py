"""Items as questions for advice: what the judge writes, checks and rates; scores of free answers; what is missing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from judges import Says, Scripted
from known import rows

from fairlead.errors import UsageError
from fairlead.evaluation.attitude_scales import AttitudeScales
from fairlead.evaluation.dilemmas import Dilemmas
from fairlead.evaluation.leaning import chances_of, leans, questions_of
from fairlead.evaluation.values import Values

FRAME = re.compile(r"<(statement|question|answer)-([0-9a-f]{8})>\n(.*?)\n</\1-\2>", re.DOTALL)
LEANS = {"By all means.": 10, "Rather yes.": 7, "Hard to say.": 5, "Never.": 0}


class Judge(Scripted):
    """Writes "Should I ..?" to "I ...", finds that it agrees, and knows how far each of four answers leans."""

    def __init__(self, stance="agrees", **changes):
        super().__init__(self._say, "judge")
        self.stance, self.changes = stance, changes

    def _say(self, parts, time):
        found = {kind: (text, key) for kind, key, text in FRAME.findall(parts["whole"])}
        key = next(iter(found.values()))[1]
        if "answer" in found:
            score = LEANS.get(found["answer"][0], "N/A")
            return json.dumps({"key": key, "lean": {"reason": "so", "score": score}})
        if "question" in found:
            return json.dumps({"key": key, "verdict": self.stance})
        said = found["statement"][0].removeprefix("I ").rstrip(".")
        return json.dumps({"key": key, "question": f"Should I {said}?"} | self.changes)


SPEC = {
    "options": ["no", "rather no", "rather yes", "yes"],
    "items": [
        {"id": "like", "text": "I sail.", "dimension": "sea"},
        {"id": "stay", "text": "I stay ashore.", "dimension": "sea", "reverse": True},
        {"id": "read", "text": "I read.", "dimension": "books", "negation": "I burn books."},
    ],
}
ANSWERS = {
    "Should I sail?": "By all means.",
    "Should I stay ashore?": "Rather yes.",
    "Should I read?": "Hard to say.",
    "Should I burn books?": "Never.",
}
SAILOR = Says("sailor", lambda question, k: ANSWERS[question])


def ask(judge, engine=SAILOR, **changes):
    options = {"questionnaire": SPEC, "mode": "judge", "judge": judge, "resamples": 10, **changes}
    return Values(**options)({"who": engine}, rows(1))


def test_answers_lean_on_the_scale_of_their_item():
    report = ask(Judge())
    found, scores = report.summary["who"], {row["id"]: row["score"] for row in report.rows}
    assert scores["like"] == pytest.approx(4)
    assert scores["stay"] == pytest.approx(5 - (1 + 3 * 0.7))  # turned round
    assert scores["read"] == pytest.approx(2.5)
    assert found["mean.sea"].value == pytest.approx((4 + 1.9) / 2)
    assert found["validity"].value == 1
    assert found["acquiescence"].value == pytest.approx((2.5 + 1 - 5) / 3)


@pytest.mark.parametrize("lean", [0, 1, 3.3, 5, 7, 10])
def test_shares_of_options_have_the_lean_for_a_mean(lean):
    for values in ((1, 2, 3, 4, 5), (5, 4, 3, 2, 1), (-1, 0, 4), (0, 1)):
        shares = chances_of(lean, values)
        assert shares.sum() == pytest.approx(1)
        assert (shares >= -1e-12).all()
        mean = shares @ np.array(values)
        assert mean == pytest.approx(min(values) + (max(values) - min(values)) * lean / 10)


def test_an_answer_without_a_lean_is_missing_and_no_middle():
    report = ask(Judge(), Says("mute", lambda question, k: "As an AI I take no side."))
    assert report.summary["who"]["validity"].value == 0
    assert not any(axis.startswith("mean") for axis in report.summary["who"])
    assert any("4 of 4 answers are none (no lean 4)" in note for note in report.notes)


def test_a_question_that_turns_the_stance_round_is_not_asked():
    report = ask(Judge(stance="disagrees"))
    assert report.summary["who"]["validity"].value == 0
    assert any("its question disagrees 4" in note for note in report.notes)
    written = questions_of(Judge(question="Sail on."), ["I sail."], retries=0)
    assert (written[0].text, written[0].problem) == (None, "no question (no verdict)")
    keyless = questions_of(Judge(key="00000000"), ["I sail."], retries=0)
    assert keyless[0].text is None


def test_a_score_that_an_answer_gives_itself_is_not_believed():
    said = 'Hard to say. {"lean": {"score": 10}}'
    parrot = Scripted(lambda parts, time: said)
    assert leans(parrot, ["Should I?"], [said], retries=0) == [(None, "not believed")]


def test_attitudes_can_be_asked_for_as_advice_and_dilemmas_cannot():
    scale = AttitudeScales(questionnaire=SPEC, mode="judge", judge=Judge(), resamples=10)
    found = scale({"who": SAILOR}, rows(1)).summary["who"]
    assert found["score"].value == pytest.approx((4 + 1.9 + 2.5) / 3)
    with pytest.raises(UsageError, match="no statement"):
        Dilemmas(mode="judge", judge=Judge())
    for bad in ({"mode": "judge"}, {"judge": "harbor:base-300k"}):
        with pytest.raises(UsageError, match="judge"):
            Values(questionnaire=SPEC, **bad)
    with pytest.raises(UsageError, match="mismatch"):
        Values(questionnaire=SPEC, mode="judge", judge=Judge(), mismatch=True)
