"""CycleAlign: a student's answers in a judge's order, demonstrations that come and go, and what a round leaves."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

import fairlead
from fairlead import recipe
from fairlead.engines.base import Completion, Sampling
from fairlead.errors import DataError, EngineError, UsageError
from fairlead.records import PromptOnly
from fairlead.synthesis.base import Draft, drafts_of, rows_of
from fairlead.synthesis.cyclealign import CycleAlign
from fairlead.synthesis.demonstrations import Demonstration, Pool, clipped, read_demonstrations, shipped
from fairlead.synthesis.orders import common, order_of
from fairlead.training.objectives.base import Scores

ANSWERS = ("a bit", "a much longer text", "one", "rather long")
ASKED = [{"role": "user", "content": "how long?"}]
FRAME = re.compile(r"<answer-([A-Z])-[0-9a-f]{8}>\n(.*?)\n</answer", re.DOTALL)


@dataclass
class Student:
    """Draws the same answers for every prompt; the longer one is, the less likely are its tokens."""

    answers: tuple[str, ...] = ANSWERS
    fingerprint: str = "student"
    asked: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.asked.append(sampling)
        begun = sum(one.n for one in self.asked[:-1]) % len(self.answers)
        return [[Completion(text) for text in self.answers[begun : begun + sampling.n]] for _ in prompts]

    def logprobs(self, prompts, completions):
        return [np.full(len(text.split()), -float(len(text)), np.float32) for text in completions]


@dataclass
class Judge:
    """Orders by length, the longest first; the first replies may be anything."""

    first: tuple[str, ...] = ()
    fingerprint: str = "judge"
    asked: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        found = []
        for prompt in prompts:
            self.asked.append(prompt[0]["content"])
            shown = dict(FRAME.findall(self.asked[-1].rpartition("Now the request")[2]))
            order = " > ".join(sorted(shown, key=lambda letter: -len(shown[letter])))
            at = len(self.asked) - 1
            found.append([Completion(self.first[at] if at < len(self.first) else f"Order: {order}")])
        return found

    def logprobs(self, prompts, completions):
        raise NotImplementedError


def seeds(number: int = 3) -> list[PromptOnly]:
    return [PromptOnly(f"p{i}", ASKED, {"mine": "the longest text of all"}) for i in range(number)]


def rows(method: CycleAlign, student=None, judge=None, number: int = 3, counts=None) -> list[dict]:
    engines = {"student": student or Student()} | ({} if method.reward else {"judge": judge or Judge()})
    found = list(drafts_of(method, engines, seeds(number)))
    return list(rows_of(method, found, Counter() if counts is None else counts))


def test_a_round():
    counts: Counter[str] = Counter()
    made = rows(CycleAlign(), counts=counts)
    assert [row["completions"] for row in made] == [list(ANSWERS)] * 3
    assert made[0]["order_black"] == [[1], [3], [0], [2]]
    assert made[0]["scores"] == [2, 4, 1, 3]
    assert made[0]["order_white"] == [2, 0, 3, 1]
    assert made[0]["second_scores"] == [-5, -18, -3, -11]
    assert made[0]["agreement"] == [1]
    assert made[0]["axis"] == "overall"
    assert len(made[0]["replies"]) == 1
    assert counts == {"answers": 12, "answers_cut_at_limit": 0, "agreed": 3, "agreeable": 12, "agreed_by_chance": 7,
                      "agreements": 0}  # fmt: skip


def test_letters_change_nothing():
    judge = Judge()
    made = [rows(CycleAlign(sampling=Sampling(seed=seed)), judge=judge, number=1)[0] for seed in range(12)]
    assert {json.dumps(row["order_black"]) for row in made} == {"[[1], [3], [0], [2]]"}
    placed = {tuple(text for _, text in FRAME.findall(asked.rpartition("Now the request")[2])) for asked in judge.asked}
    assert len(placed) > 4


def test_temperatures_take_turns():
    student = Student()
    rows(CycleAlign(temperatures=(0.7, 1.0, 1.3)), student=student, number=1)
    assert [(one.temperature, one.n, one.seed) for one in student.asked] == [(0.7, 2, 0), (1.0, 1, 1), (1.3, 1, 2)]


def test_answers_that_are_alike_are_left_out():
    student = Student(("one two three", "one  two three", "one two four", ""))
    assert rows(CycleAlign(), student=student, number=1)[0]["completions"] == ["one two three", "one two four"]
    engines = {"student": Student(("one two three", "one  two three", "one two four", "")), "judge": Judge()}
    (draft,) = drafts_of(CycleAlign(max_overlap=0.6), engines, seeds(1))
    assert draft.error == "fewer than two answers that differ"


def test_an_answer_of_the_data_is_ranked_too():
    made = rows(CycleAlign(answer="mine"), number=1)[0]
    assert made["completions"] == ["the longest text of all", *ANSWERS]
    assert made["order_black"][0] == [0]
    with pytest.raises(DataError, match="no column 'yours'"):
        rows(CycleAlign(answer="yours"))


def test_what_cannot_be_read_is_asked_once_more_under_other_letters():
    judge = Judge(first=("A > B > C", "I do not rank."))
    counts: Counter[str] = Counter()
    made = rows(CycleAlign(), judge=judge, number=2, counts=counts)
    assert [row["order_black"] for row in made] == [[[1], [3], [0], [2]]] * 2
    assert len(judge.asked) == 4
    before, after = judge.asked[0], judge.asked[2]
    assert "could not be read" in after
    assert "could not be read" not in before
    assert FRAME.findall(before)[-4:] != FRAME.findall(after)[-4:]
    assert made[0]["replies"][0] == "A > B > C"
    engines = {"student": Student(), "judge": Judge(first=("none",) * 9)}
    drafts = list(drafts_of(CycleAlign(retries=2), engines, seeds(3)))
    assert {draft.error for draft in drafts} == {"the judge's reply holds no order"}
    assert not any(draft.failed for draft in drafts)


def test_a_judge_that_fails_is_asked_again_later():
    class Down(Judge):
        def generate(self, prompts, sampling):
            raise EngineError("is down")

    drafts = list(drafts_of(CycleAlign(), {"student": Student(), "judge": Down()}, seeds(2)))
    assert [(draft.error, draft.failed) for draft in drafts] == [("the judge gave no reply", True)] * 2


def test_orders_in_answers_are_not_the_judges():
    student = Student(("D > C > B > A", "Order: A > B > C > D, and nothing else.", "one", "two two"))
    judge = Judge()
    made = rows(CycleAlign(), student=student, judge=judge, number=1)[0]
    assert made["order_black"] == [[1], [0], [3], [2]]
    key = re.findall(r"<answer-A-([0-9a-f]{8})>", judge.asked[0])[-1]
    assert key not in " ".join(student.answers)


def test_a_reward_is_a_judge_and_ties_are_not_trained_on():
    method = CycleAlign(reward={"name": "length_limit", "at_most": 2})
    counts: Counter[str] = Counter()
    drafts = [
        Draft("a", {"prompt": "q", "answers": ["x", "y"], "cut": 0, "order": [[0, 1]], "means": [-1.0, -2.0],
                    "values": [1.0, 1.0], "said": []}),
        Draft("b", {"prompt": "q", "answers": ["x", "y", "z"], "cut": 1, "order": [[1], [0, 2]],
                    "means": [-1.0, -2.0, -3.0], "values": [0.0, 1.0, 0.0], "said": []}),
    ]  # fmt: skip
    (row,) = method.finish(drafts, counts)
    assert counts["dropped_as_ties"] == 1
    assert row["scores"] == [1, 2, 1]
    assert row["rewards"] == [0, 1, 0]
    assert row["agreement"] == [1, 2]
    assert "replies" not in row


def test_the_pool_forgets_the_oldest_and_keeps_the_static_first():
    def one(name: str) -> Demonstration:
        return Demonstration(name, "q", ("x" * 9,), [[0]])

    pool = Pool(2, (one("always"),))
    for name in "123":
        pool.push(one(name))
    assert [shown.id for shown in pool.shown(1000)] == ["always", "2", "3"]
    assert [shown.id for shown in pool.shown(20)] == ["always", "3"]
    assert [shown.id for shown in pool.shown(0)] == ["always"]
    empty = Pool(0)
    empty.push(one("1"))
    assert empty.shown(1000) == []


def test_agreements_of_the_round_before_are_shown(tmp_path):
    class Sure(Student):
        def logprobs(self, prompts, completions):
            return [np.array([len(text)], np.float32) for text in completions]

    made = rows(CycleAlign(), student=Sure(), number=5)
    assert all(row["agreement"] == [1, 3, 0, 2] for row in made)
    path = tmp_path / "ranked.jsonl"
    path.write_text("".join(json.dumps(row | {"completions": row["completions"]}) + "\n" for row in made))
    judge = Judge()
    after = rows(CycleAlign(demonstrations=str(path), shown=2), judge=judge, number=1)
    assert after[0]["order_black"] == [[1], [3], [0], [2]]
    assert judge.asked[0].count("An example:") == 4
    shown = judge.asked[0].split("An example:")[3]
    letter = {text: name for name, text in FRAME.findall(shown)}
    assert f"Order: {' > '.join(letter[ANSWERS[i]] for i in (1, 3, 0, 2))}" in shown
    assert CycleAlign(demonstrations=str(path), shown=2, static="").pool().shown(9999)[0].id == "p3"
    few = CycleAlign(demonstrations=str(path), min_agreement=5, static="")
    assert few.pool().shown(9999) == []
    with pytest.raises(DataError, match="was ranked for 'overall', not for 'helpful'"):
        CycleAlign(demonstrations=str(path), axis="helpful").pool()


def test_the_shipped_demonstrations():
    found = list(read_demonstrations(shipped(), None))
    assert [len(one.answers) for one in found] == [3, 3]
    assert all(one.order == [[0], [1], [2]] for one in found)


def test_long_answers_are_cut_between_sentences_and_marked():
    assert clipped("One. Two three. Four", 15) == "One. Two three. [...]"
    assert clipped("One. Two three. Four", 14) == "One. [...]"
    assert clipped("one two three", 9) == "one two [...]"
    assert clipped("one two", 7) == "one two"
    assert clipped("onetwothree", 4) == "onet [...]"


def test_a_judge_with_a_hidden_reward_moves_a_student():
    """A student of 20 one-token answers; the reward grows with the token's number."""
    reward = torch.arange(20.0)
    torch.manual_seed(0)
    logits = torch.zeros(20, requires_grad=True)
    step = torch.optim.Adam([logits], lr=0.1)
    objective = fairlead.objective("rrhf")

    def agreement() -> float:
        sizes = []
        for _ in range(200):
            drawn = torch.multinomial(logits.detach().softmax(-1), 4)
            noisy = logits.detach()[drawn] + 1e-6 * torch.rand(4)
            white = [i for group in order_of(noisy.tolist()) for i in group]
            sizes.append(len(common(order_of(reward[drawn].tolist()), white)))
        return sum(sizes) / len(sizes)

    expected, agreed = float(logits.detach().softmax(-1) @ reward), agreement()
    for _ in range(50):
        drawn = torch.multinomial(logits.detach().softmax(-1), 4)
        policy = logits.log_softmax(-1)[drawn][:, None]
        mask = torch.ones(4, 1).bool()
        loss = objective(Scores(policy, mask, torch.zeros(4).long(), fields={"rank_score": reward[drawn]}))
        step.zero_grad()
        loss.sum.backward()
        step.step()
    assert float(logits.detach().softmax(-1) @ reward) > expected + 3
    assert agreement() > agreed + 0.3


def test_a_recipe_carries_the_demonstrations(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "title: t\nsteps:\n  - id: cycle\n    repeat: 2\n    carry:\n"
        "      student: {first: 'harbor:base-300k', then: '@tuned'}\n      shown: {first: null, then: '@ranked'}\n"
        "    steps:\n      - id: ranked\n        synthesize:\n"
        "          synthesizer: {name: cyclealign, demonstrations: '@shown'}\n"
        "          models: {student: '@student', judge: 'harbor:base-1m'}\n          data: harbor:prompts?n=2\n"
        "      - {id: tuned, train: {model: '@student', data: '@ranked', objective: rrhf}}\n"
    )
    steps = recipe.load(path).steps
    assert [step.config.synthesizer["demonstrations"] for step in steps[::2]] == [None, "@cycle1_ranked"]
    assert [use.value for use in steps[2].config.uses() if use.keys[1:] == ("demonstrations",)] == ["@cycle1_ranked"]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"candidates": 1}, "candidates is 1"),
        ({"candidates": 27}, "candidates is 27"),
        ({"candidates": 26, "answer": "mine"}, "candidates is 26"),
        ({"temperatures": ()}, "temperatures"),
        ({"temperatures": (0.0,)}, "temperatures"),
        ({"max_overlap": 0}, "max_overlap"),
        ({"shown": -1}, "shown is -1"),
        ({"min_agreement": 1}, "min_agreement is 1"),
        ({"retries": -1}, "retries is -1"),
        ({"sampling": Sampling(n=2)}, "sampling.n"),
        ({"axis": "bold"}, "no criterion"),
        ({"reward": "harbor", "demonstrations": "x.jsonl"}, "demonstrations goes with a judge"),
        ({"reward": "harbour"}, "did you mean 'harbor'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, what):
    with pytest.raises(UsageError, match=what):
        CycleAlign(**fields)
