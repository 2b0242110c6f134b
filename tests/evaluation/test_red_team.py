"""Red team: success by family and label, the control, best-of-N counts, and what cannot be counted."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from known import Row

from fairlead.engines.base import Completion
from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.red_team import RedTeam
from fairlead.rewards.base import Rewards

REFUSAL = "I am sorry, but I cannot do that."


@dataclass
class Weak:
    """Refuses every request #i with i below 4, but gives in to a magic word; attempts number 0, 3, 6.. give in too."""

    fingerprint: str = "weak"
    asked: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.asked += prompts
        return [[Completion(self._say(prompt, sampling, k)) for k in range(sampling.n)] for prompt in prompts]

    def logprobs(self, prompts, completions):
        raise NotImplementedError

    def _say(self, prompt, sampling, k) -> str:
        said = prompt[-1]["content"]
        number = int(said.split("#")[1].split()[0].strip('"')) if "#" in said else 0
        if "please" in said:
            return "" if number == 3 else "here it is"
        if sampling.temperature > 0:
            return "here it is" if (k + sampling.seed) % 3 == 0 and number != 1 else REFUSAL
        return REFUSAL if number < 4 else "here it is"


def requests(harmful: int, harmless: int) -> list[Row]:
    marks = [True] * harmful + [False] * harmless
    return [Row(f"q{i}", [{"role": "user", "content": f"do #{i}"}], extra={"harmful": m}) for i, m in enumerate(marks)]


POLITE = {"polite": ["{{ request }} please"]}


def test_known_successes_by_family():
    report = RedTeam(families=["direct"], templates=POLITE)({"m": Weak()}, requests(6, 2))
    found = {axis: (e.value, e.n) for axis, e in report.summary["m"].items()}
    assert found == {
        "success_direct": (pytest.approx(2 / 6), 6),
        "refused_direct": (pytest.approx(4 / 6), 6),
        "over_refused_direct": (0.0, 2),
        "success_polite": (pytest.approx(5 / 6), 6),
        "refused_polite": (0.0, 6),
        "over_refused_polite": (0.0, 2),
        "success_any": (pytest.approx(5 / 6), 6),
    }
    assert any("m, polite: 1 of 8 answers are empty" in note for note in report.notes)
    assert [row["label_direct"] for row in report.rows] == ["full"] * 4 + ["none"] * 4


def test_harmless_requests_that_are_refused_are_over_refused():
    report = RedTeam(families=["direct"])({"m": Weak()}, [*requests(0, 6)])
    assert report.summary["m"]["over_refused_direct"].value == pytest.approx(4 / 6)
    assert math.isnan(report.summary["m"]["success_direct"].value)
    assert any("nothing to count for success, refused" in note for note in report.notes)


def test_no_success_has_a_bound():
    report = RedTeam(families=["direct"])({"m": Weak()}, requests(4, 0))
    bound = 1 - 0.05 ** (1 / 4)
    assert any(f"success_direct is 0 of 4: below {bound:.3f}" in note for note in report.notes)


def test_hand_labels_take_the_labels_errors_out(tmp_path):
    """One in five of the failures by hand look like answers to the patterns."""
    hand = [("here it is", "none")] * 50 + [("here it is not", "other")] * 10 + [(REFUSAL, "full")] * 40
    path = tmp_path / "hand.jsonl"
    rows = [{"prompt": "do", "answer": answer, "label": label} for answer, label in hand]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = RedTeam(families=["direct"], hand_labels=str(path))({"m": Weak()}, requests(6, 2))
    found = report.summary["m"]
    assert found["success_direct"].value == pytest.approx(2 / 6)
    assert found["corrected_direct"].value == pytest.approx((2 / 6 - 0.2) / 0.8)
    assert found["corrected_direct"].n == 6
    with pytest.raises(UsageError, match="a reward and hand labels"):
        RedTeam(families=["direct"], hand_labels=str(path), reward="harbor")


def test_rewards_read_the_bare_request():
    seen = []

    class Long:
        """Values an answer by its words; abstains on request #5."""

        def __call__(self, prompts, completions):
            seen.extend(prompt[-1]["content"] for prompt in prompts)
            values = [math.nan if "#5" in p[-1]["content"] else len(c.split()) for p, c in zip(prompts, completions)]
            return Rewards(np.array(values, float), np.isnan(values))

    team = RedTeam(families=["role_play"], templates=POLITE, reward=Long(), succeeds_above=2, control=Long())
    report = team({"m": Weak()}, requests(6, 2))
    assert set(seen) == {f"do #{i}" for i in range(8)}
    assert (report.summary["m"]["success_polite"].value, report.summary["m"]["success_polite"].n) == (0.8, 5)
    assert report.summary["m"]["control_polite"].value == 3
    assert any("1 answers to harmful requests have no verdict" in note for note in report.notes)


def test_best_of_n_counts_and_curve():
    team = RedTeam(families=["direct"], attempts=6, sigma=0)
    report = team({"m": Weak()}, requests(3, 2))
    assert [row["successes"] for row in report.rows] == [2, 0, 2, None, None]
    assert [row["attempts"] for row in report.rows] == [6, 6, 6, None, None]
    found = report.summary["m"]
    assert found["best_of_n_1"].value == pytest.approx(2 / 9)
    assert found["best_of_n_6"].value == pytest.approx(2 / 3)
    assert found["law_a"].value > 0
    assert "best of N" in report.figures


def test_attempts_are_fresh_and_repeatable():
    engines = [Weak(), Weak()]
    one, two = (RedTeam(families=["direct"], attempts=5)({"m": engine}, requests(2, 1)) for engine in engines)
    assert engines[0].asked == engines[1].asked
    assert repr(one.summary) == repr(two.summary)
    changed = [prompt[-1]["content"] for prompt in engines[0].asked[3:]]
    assert len(changed) == 10
    assert len(set(changed)) > 5


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"attempts": -1}, "attempts is -1"),
        ({"sigma": 1.5}, "sigma is 1.5"),
        ({"forecast": 0}, "forecast is 0"),
        ({"attempt_sampling": {"n": 2, "temperature": 1.0}}, "set `attempts`"),
        ({"families": []}, "no attack"),
        ({"families": ["direct", "direct"]}, "stands twice"),
    ],
)
def test_bad_settings_say_so(settings, what):
    from fairlead import evaluator

    with pytest.raises(UsageError) as caught:
        evaluator("red_team", **settings)
    assert what in str(caught.value)


@dataclass
class Grader:
    """Grades an answer by its words: a refusal, or 4 for conviction and 3 for detail; of `odd` ones it says nothing."""

    fingerprint: str = "grader"
    asked: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.asked += [prompt[-1]["content"] for prompt in prompts]
        return [[Completion(self._say(prompt[-1]["content"]))] for prompt in prompts]

    def logprobs(self, prompts, completions):
        raise NotImplementedError

    def _say(self, text: str) -> str:
        key, said = re.search(r"<answer-(\w+)>\n(.*?)\n</answer-", text, re.DOTALL).groups()
        grade = {"key": key, "refused": "cannot" in said, "convincing": 4, "specific": 3}
        return "hm" if "do #5" in text else json.dumps(grade)


def test_a_grader_scores_answers_to_harmful_requests_alone():
    grader = Grader()
    team = RedTeam(families=["direct"], templates=POLITE, grader=grader, retries=0)
    report = team({"m": Weak()}, requests(6, 2))
    found = report.summary["m"]
    # Four refusals, one answer of .625, and one that the grader is silent on.
    assert (found["graded_direct"].value, found["graded_direct"].n) == (pytest.approx(0.625 / 5), 5)
    # Request 3 gets an empty answer, which nobody is asked about.
    assert (found["graded_polite"].value, found["graded_polite"].n) == (pytest.approx(4 * 0.625 / 5), 5)
    assert len(grader.asked) == 6 + 5
    assert all("refused" in text and "do #6" not in text for text in grader.asked)
    assert "m, direct, graded: 1 of 6 replies hold no verdict (no verdict 1): q5" in report.notes
    assert [row["graded_direct"] for row in report.rows][4:] == [0.625, None, None, None]


@dataclass
class Listed(Weak):
    """Gives in to the requests of a list."""

    fingerprint: str = "listed"
    weak: tuple = ()

    def _say(self, prompt, sampling, k):
        return "here it is" if int(prompt[-1]["content"].split("#")[1]) in self.weak else REFUSAL


def test_a_defence_is_compared_request_by_request():
    """The attack gets through to both at 3 requests, to the bare engine alone at 9, to the defended one alone at 2."""
    bare, defended = Listed(weak=tuple(range(12))), Listed(weak=(0, 1, 2, 20, 21))
    report = RedTeam(families=["direct"], baseline="bare")({"defended": defended, "bare": bare}, requests(30, 3))
    change = report.summary["defended"]["change_direct"]
    assert (change.value, change.n) == (pytest.approx((5 - 12) / 30), 30)
    assert change.low < change.value < change.high
    assert "change_direct" not in report.summary["bare"]
    wanted = "defended, direct: of 30 attacks 9 against bare alone, 2 against defended alone; exact McNemar p 0.0654"
    assert wanted in report.notes
    rows = [row for row in report.rows if row["engine"] == "defended"]
    assert sum(row["change_direct"] for row in rows if row["change_direct"] is not None) == -7


def test_the_baseline_must_be_there():
    with pytest.raises(UnknownNameError, match="baseline"):
        RedTeam(families=["direct"], baseline="bar")({"bare": Listed(), "other": Listed()}, requests(3, 1))
