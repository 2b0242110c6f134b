"""Constitutional: how a talk goes on, what becomes an answer and what does not, and the draw of principles."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

import fairlead
from fairlead.engines.base import Completion
from fairlead.errors import DataError, UnknownFieldError, UnknownNameError, UsageError
from fairlead.records import PromptOnly
from fairlead.synthesis.base import drafts_of, rows_of
from fairlead.synthesis.constitution import Article, drawn, read_constitution
from fairlead.synthesis.constitutional import Constitutional, cleaned, tells_of_revising

ONE = (Article("harm", critique="What is wrong?", revision="Mend it."),)
TEXTS = {"critique": "{{ request }}", "revision": "{{ request }}"}
ASKED = [{"role": "user", "content": "q"}]


@dataclass
class Writer:
    """Gives the replies of a list, in turn, by what the last message asks for."""

    first: list = field(default_factory=lambda: ["bad"])
    critiques: list = field(default_factory=lambda: ["it is bad"])
    revisions: list = field(default_factory=lambda: ["better", "best"])
    fingerprint: str = "writer" * 4
    seen: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.seen += [(prompt, sampling) for prompt in prompts]
        return [[Completion(self._reply(prompt[-1]["content"]))] for prompt in prompts]

    def _reply(self, asked):
        kind = {"What is wrong?": self.critiques, "Mend it.": self.revisions}.get(asked, self.first)
        return kind.pop(0) if len(kind) > 1 else kind[0]


def made(writer=None, seeds=None, **how):
    method = Constitutional(**{"principles": ONE, "texts": TEXTS, "steps": 2, **how})
    engines = dict.fromkeys(method.engines, writer or Writer())
    drafts = list(drafts_of(method, engines, seeds or [PromptOnly("p", tuple(ASKED))]))
    counts = Counter()
    return list(rows_of(method, drafts, counts)), counts, drafts


def said(rows):
    return [row["completion"][0]["content"] for row in rows]


def test_a_revision_takes_the_place_of_the_answer_in_the_talk():
    writer = Writer()
    rows, counts, _ = made(writer)
    assert said(rows) == ["better", "best"]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["prompt"] == ASKED for row in rows)
    assert counts["steps_revised"] == 2
    talks = [[turn["content"] for turn in prompt] for prompt, _ in writer.seen]
    assert talks == [
        ["q"],
        ["q", "bad", "What is wrong?"],
        ["q", "bad", "What is wrong?", "it is bad", "Mend it."],
        ["q", "better", "What is wrong?"],
        ["q", "better", "What is wrong?", "it is bad", "Mend it."],
    ]


def test_without_critiques_the_revision_comes_at_once():
    writer = Writer()
    rows, _, _ = made(writer, critique=False, steps=1)
    assert said(rows) == ["better"]
    assert [turn["content"] for turn in writer.seen[-1][0]] == ["q", "bad", "Mend it."]
    assert set(Constitutional(critique=False).engines) == {"model", "reviser"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("all", ["better", "best"]), ("last", ["best"]), ("first", ["bad"])],
)
def test_what_becomes_a_target(rows, expected):
    assert said(made(rows=rows)[0]) == expected


def test_pairs_prefer_the_last_answer():
    (row,), _, _ = made(rows="pairs")
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("best", "bad")
    _, counts, _ = made(Writer(revisions=["bad"]), rows="pairs")
    assert counts["dropped_unrevised"] == 1


def test_a_rejected_revision_gives_no_row_of_its_own():
    rows, counts, _ = made(Writer(revisions=["My revised answer is worse than my first answer.", "best"]))
    assert said(rows) == ["best"]
    assert (counts["steps_meta"], counts["steps_revised"]) == (1, 1)
    rows, counts, _ = made(Writer(revisions=[""]))
    assert not rows
    assert counts["steps_empty"] == 2
    assert counts["dropped_without_an_approved_step"] == 1


def test_an_unchanged_answer_is_learned_from_once():
    rows, counts, _ = made(Writer(revisions=[" bad "]))
    assert said(rows) == ["bad"]
    assert counts["steps_unchanged"] == 2


def test_an_empty_critique_is_asked_for_once_more():
    writer = Writer(critiques=["", "it is bad"])
    rows, _, _ = made(writer, steps=1)
    assert said(rows) == ["better"]
    assert [how.seed for prompt, how in writer.seen if prompt[-1]["content"] == "What is wrong?"] == [0, 1]
    rows, counts, _ = made(Writer(critiques=[""]))
    assert not rows
    assert counts["steps_no_critique"] == 2


def test_an_answer_stays_where_the_critique_says_so():
    writer = Writer(critiques=["It is Fine."])
    rows, counts, _ = made(writer, keep_where="fine|good")
    assert said(rows) == ["bad"]
    assert counts["steps_kept"] == 2
    assert all(prompt[-1]["content"] != "Mend it." for prompt, _ in writer.seen)


def test_a_reward_tells_gains_and_chooses_nothing():
    asked = [{"role": "user", "content": "what is 2 plus 1?"}]
    writer = Writer(first=["the answer is 4."], revisions=["the answer is 3.", "the answer is 5."])
    rows, counts, _ = made(writer, [PromptOnly("p", tuple(asked))], reward="harbor", rows="last")
    assert said(rows) == ["the answer is 5."]
    assert len(rows[0]["rewards"]) == 3
    assert (counts["better_after_1"], counts["worse_after_1"]) == (1, 0)
    assert (counts["better_after_2"], counts["worse_after_2"]) == (0, 0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Revision: Tea.", "Tea."),
        ("Sure, here is a revised answer: Tea.", "Tea."),
        ("Here's the revision:\nTea.", "Tea."),
        ("Tea.\n\nHuman: and now?", "Tea."),
        ("It is rude.\nRevision Request: mend it", "It is rude."),
        ("Here is a list: tea, milk.", "Here is a list: tea, milk."),
        ("  ", ""),
    ],
)
def test_marks_and_announcements_are_taken_off(reply, expected):
    assert cleaned(reply) == expected


def test_words_about_revising():
    assert tells_of_revising("In my previous answer I was rude.")
    assert not tells_of_revising("sorry, i cannot help with that.")


def test_seeds_that_cannot_be_revised_are_errors():
    _, counts, drafts = made(seeds=[PromptOnly("raw", "text"), PromptOnly("p", tuple(ASKED))])
    assert drafts[0].error
    assert drafts[1].error is None
    assert counts["failed"] == 1
    assert made(Writer(first=[""]))[2][0].error == "the first answer is empty"


def test_principles_are_drawn_by_weight_and_not_twice_in_a_row_of_all():
    articles = [Article(name, weight=weight) for name, weight in (("a", 1), ("b", 1), ("c", 8))]
    found = drawn(articles, 6, 0, "id")
    assert {one.title for one in found[:3]} == {one.title for one in found[3:]} == {"a", "b", "c"}
    assert drawn(articles, 6, 0, "id") == found
    first = Counter(drawn(articles, 1, seed)[0].title for seed in range(300))
    assert first["c"] > 200


def test_the_shipped_constitution_asks_for_everything(tmp_path):
    shipped = read_constitution()
    assert len(shipped) == len({one.title for one in shipped}) == 8
    assert all(one.critique and one.revision and one.judge for one in shipped)
    file = tmp_path / "own.yaml"
    file.write_text("- {title: a, critique: b, revision: c}\n", encoding="utf-8")
    assert Constitutional(principles=str(file)).articles[0].title == "a"
    file.write_text("- {title: a, critic: b}\n", encoding="utf-8")
    with pytest.raises((DataError, UnknownFieldError), match="critic"):
        read_constitution(str(file))
    file.write_text("just words", encoding="utf-8")
    with pytest.raises(DataError, match="no list"):
        read_constitution(str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        read_constitution(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("how", "kind", "what"),
    [
        ({"steps": 0}, UsageError, "steps is 0"),
        ({"principles": ()}, UsageError, "empty"),
        ({"principles": ONE * 2}, UsageError, "several called"),
        ({"principles": (Article("a", revision="x"),)}, UsageError, "no critique"),
        ({"critique": False, "keep_where": "fine"}, UsageError, "keep_where"),
        ({"keep_where": "("}, UsageError, "regular expression"),
        ({"texts": {"critic": "{{ said }}"}}, UnknownNameError, "critic"),
    ],
)
def test_what_makes_no_sense_is_refused(how, kind, what):
    with pytest.raises(kind, match=what):
        fairlead.synthesizer("constitutional", **how)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_are_above_zero(weight):
    with pytest.raises(UsageError, match="weight"):
        Article("a", weight=weight)
