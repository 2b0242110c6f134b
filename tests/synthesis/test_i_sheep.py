"""I-SHEEP: a model's own instructions and answers, graded by itself; what is left out, and why."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import pytest

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.rewards.overlap import rouge_l
from fairlead.steps.base import Context
from fairlead.steps.rows import read_rows
from fairlead.steps.synthesize import Synthesize
from fairlead.synthesis.base import Draft, blank_seeds, drafts_of, rows_of
from fairlead.synthesis.i_sheep import ISheep
from fairlead.synthesis.task_rules import INSTRUCTION_RULES, OUTPUT_RULES, Task, first_broken

GRADES = [(9, 9), (8, 10), (10, 8), (10, 10), (9, 7), (7, 9)]
LIST = (
    " Name three long rivers of Asia.\n6. Input:\n<noinput>\n###\n7. Instruction: Draw a ship on the sea.\n7. Input:\n"
    "<noinput>\n###\n8. Instruction: Put this sentence into the past tense.\n8. Input:\nShe walks.\n###\n9. Inst"
)


@pytest.fixture
def tasks(tmp_path):
    path = tmp_path / "tasks.jsonl"
    rows = [{"prompt": f"Tell me fact number {i} about the moon.", "completion": "It is round."} for i in range(6)]
    rows += [{"prompt": "x y", "completion": "z", "instruction": "Sort these words by length.", "input": "oak, fir"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@dataclass
class Model:
    """Writes the list above, answers, and gives grades in turn."""

    grades: tuple[str, ...] = ("9||fine", "10||yes")
    answer: str = "The Lena, the Ob and the Amur."
    fingerprint: str = "model"
    asked: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.asked += [(prompt, sampling) for prompt in prompts]
        return [[Completion(self._said(prompt if isinstance(prompt, str) else prompt[0]["content"]))]
                for prompt in prompts]  # fmt: skip

    def _said(self, text: str) -> str:
        if text.endswith("6. Instruction:"):
            return LIST
        if text.endswith("Score:"):
            return self.grades["How well does" in text]
        return self.answer

    def logprobs(self, prompts, completions):
        raise NotImplementedError


def graded(grades=GRADES, **found) -> list[Draft]:
    words = ("rivers", "planets", "colours", "metals", "birds", "wines")
    works = [
        {"task": {"instruction": f"Tell me {i} things about {words[i]}.", "input": "", "output": "yes"}, "broken": None,
         "cut": False, "scores": dict(zip(("quality", "following"), pair)), "replies": [], **found}
        for i, pair in enumerate(grades)
    ]  # fmt: skip
    return [Draft("a", {"tasks": works})]


def kept(drafts, counts=None, **fields) -> list[int]:
    method = ISheep(write="opening", **{"novelty": 1.0, **fields})
    rows = method.finish(drafts, Counter() if counts is None else counts)
    return [int(row["instruction"].split()[2]) for row in rows]


def test_the_threshold_is_passed_only_above_it():
    assert kept(graded()) == [0, 3]
    assert kept(graded(), keep="quality") == [0, 2, 3, 4]
    assert kept(graded(), keep="following") == [0, 1, 3, 5]
    assert kept(graded(), threshold=0) == [0, 1, 2, 3, 4, 5]
    for threshold in range(11):
        both = {*kept(graded(), threshold=threshold)}
        assert both <= {*kept(graded(), threshold=threshold, keep="quality")}
        assert both <= {*kept(graded(), threshold=threshold, keep="following")}


def test_what_is_left_out_is_counted():
    counts: Counter[str] = Counter()
    drafts = [*graded([(9, 9), (1, 9)]), *graded([(9,)]), *graded([(9, 9)], broken="length"),
              *graded([(9, 9)], broken="speaker")]  # fmt: skip
    assert kept(drafts, counts) == [0]
    assert counts == {"instructions": 5, "answers_cut_at_limit": 0, "graded": 2, "dropped_by_grade": 1,
                      "dropped_without_grade": 1, "dropped_by_length": 1, "dropped_by_speaker": 1}  # fmt: skip
    counts = Counter()
    assert kept(graded([(10, 10)] * 4), counts, most=3) == [0, 1, 2]
    assert counts["dropped_beyond_most"] == 1


def test_without_grades_all_that_the_rules_keep_is_kept():
    assert kept(graded([()] * 4), assess="none") == [0, 1, 2, 3]


def test_one_grade_is_enough_where_one_is_asked_for():
    assert kept(graded([(9,), (8,)]), assess="in_context") == [0]


def test_kept_instructions_are_new(tasks):
    drafts = graded([(9, 9)] * 6) + graded([(9, 9)] * 6)
    assert kept(drafts, novelty=0.99) == [0, 1, 2, 3, 4, 5]
    few = kept(drafts, novelty=0.5)
    texts = [draft["task"]["instruction"] for draft in drafts[0].found["tasks"]]
    assert all(rouge_l(texts[i], texts[j]) <= 0.5 for i in few for j in few if i < j)
    assert len(few) < 6
    moon = [Draft("a", {"tasks": [{**graded()[0].found["tasks"][0], "task": {
        "instruction": "Tell me fact number 9 about the moon.", "input": "", "output": "x"}}]})]  # fmt: skip
    counts: Counter[str] = Counter()
    assert list(ISheep(write="opening", tasks=tasks).finish(moon, counts)) == []
    assert counts["dropped_as_known"] == 1
    assert len(list(ISheep(write="opening").finish(moon, Counter()))) == 1
    assert list(ISheep(write="opening", known=tasks).finish(moon, Counter())) == []


@pytest.mark.parametrize("form", ["raw", "chat"])
def test_a_round(tasks, form):
    model, counts = Model(), Counter()
    method = ISheep(tasks=tasks, form=form)
    drafts = list(drafts_of(method, {"model": model}, blank_seeds(2)))
    rows = list(rows_of(method, drafts, counts))
    assert [row["instruction"] for row in rows] == [
        "Name three long rivers of Asia.", "Put this sentence into the past tense.",
    ]  # fmt: skip
    assert rows[1]["prompt"] == [{"role": "user", "content": "Put this sentence into the past tense.\nShe walks."}]
    assert rows[0]["completion"] == [{"role": "assistant", "content": model.answer}]
    assert (rows[0]["quality_score"], rows[0]["following_score"]) == (9, 10)
    assert counts == {"instructions": 6, "dropped_by_undoable": 2, "dropped_as_known": 2, "answers_cut_at_limit": 0,
                      "graded": 2}  # fmt: skip
    for row in rows:
        task = Task(row["instruction"], row["input"], row["completion"][0]["content"])
        assert first_broken(task, INSTRUCTION_RULES, tuple(INSTRUCTION_RULES)) is None
        assert first_broken(task, OUTPUT_RULES, tuple(OUTPUT_RULES)) is None
    prompt, how = model.asked[0]
    assert isinstance(prompt, str) == (form == "raw")
    assert how.stop == ("\n21.",)
    if form == "raw":
        assert prompt.count("###") == 6
        assert prompt.endswith("6. Instruction:")
        assert prompt != model.asked[1][0]
        assert model.asked[2][0] == "Name three long rivers of Asia.\n"


def test_what_has_no_first_grade_is_not_asked_for_the_second(tasks):
    model = Model(grades=("I like it", "10||yes"))
    drafts = list(drafts_of(ISheep(tasks=tasks, form="raw"), {"model": model}, blank_seeds(1)))
    assert not any("How well does" in prompt for prompt, _ in model.asked)
    counts: Counter[str] = Counter()
    assert list(ISheep(tasks=tasks).finish(drafts, counts)) == []
    assert counts["dropped_without_grade"] == 2


def test_grades_in_words_and_an_assessor_of_its_own(tasks):
    model, other = Model(), Model(grades=("it is good.", "good or bad"), fingerprint="other")
    method = ISheep(tasks=tasks, assessor="other", words={"good": 10, "bad": 1}, keep="quality")
    drafts = list(drafts_of(method, {"model": model, "assessor": other}, blank_seeds(1)))
    assert [work["scores"] for work in drafts[0].found["tasks"]][::2] == [{"quality": 10}] * 2
    assert list(method.finish(drafts, Counter())) == []
    assert len(other.asked) == 4


def test_a_list_without_a_whole_task_fails_by_itself(tasks):
    class Rambler(Model):
        def _said(self, text):
            return " and so on, without an end"

    (draft,) = drafts_of(ISheep(tasks=tasks), {"model": Rambler()}, blank_seeds(1))
    assert draft.error == "the list has no whole task"
    with pytest.raises(DataError, match="has 7 tasks, and 8 are shown"):
        list(drafts_of(ISheep(tasks=tasks, demonstrations=8), {"model": Model()}, blank_seeds(1)))


def test_cut_answers_are_told(tasks):
    class Cut(Model):
        def generate(self, prompts, sampling):
            return [
                [Completion(one.text, finish_reason=FinishReason.LENGTH)]
                for (one,) in super().generate(prompts, sampling)
            ]

    counts: Counter[str] = Counter()
    method = ISheep(tasks=tasks)
    list(rows_of(method, list(drafts_of(method, {"model": Cut()}, blank_seeds(1))), counts))
    assert counts["answers_cut_at_limit"] == 2


def test_a_later_step_leaves_out_what_an_earlier_one_made(tmp_path):
    sheep = {"name": "i_sheep", "write": "opening", "novelty": 0.99, "assess": "none", "sampling": {"max_tokens": 40},
             "answering": {"max_tokens": 8}}  # fmt: skip
    models = {"model": "harbor:base-300k"}
    found = []
    for name, known, count in (("made", None, 5), ("more", str(tmp_path / "made/records.jsonl"), 10)):
        (tmp_path / name).mkdir()
        step = Synthesize(sheep | {"known": known}, models, count=count)
        assert [use.value for use in step.uses() if use.role == "data"] == [known] * (known is not None)
        outcome = step(Context(tmp_path / name, tmp_path / "answers.sqlite", quiet=True))
        found.append([row["instruction"] for row in read_rows(tmp_path / name / "records.jsonl")])
    made, more = found
    assert made
    assert more
    assert not {*made} & {*more}
    assert outcome.metrics["dropped_as_known"] >= len(made)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"write": "list"}, "tasks is missing"),
        ({"demonstrations": 0}, "demonstrations is 0"),
        ({"demonstrations": 20}, "demonstrations is 20"),
        ({"novelty": 0}, "novelty is 0"),
        ({"assess": "in_context", "keep": "following"}, "gives no grade"),
        ({"words": {"good": 11}}, "not from 1 to 10"),
        ({"most": 0}, "most is 0"),
        ({"answering": Sampling(n=2)}, "answering.n"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, what):
    with pytest.raises(UsageError, match=what):
        ISheep(**{"write": "opening", **fields})
    with pytest.raises(UnknownNameError, match="lenght"):
        ISheep(write="opening", rules=("lenght",))
    with pytest.raises(UnknownNameError, match="qualty"):
        ISheep(write="opening", prompts={"qualty": "x"})
