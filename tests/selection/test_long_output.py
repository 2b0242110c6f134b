"""The two-stage filter: what stays, every reason for which a record goes, what the parsers read differently."""

from __future__ import annotations

import pytest

from fairlead.errors import DataError, UsageError
from fairlead.records import Conversation, Feedback, Preference, PromptOnly, Ranking
from fairlead.selection.long_output import LongOutput


def asking(*rows, **extra):
    """(question, words in the answer) -> a record each."""
    return [
        Conversation(f"r{i}", question, " ".join(["ship"] * n), dict(extra)) for i, (question, n) in enumerate(rows)
    ]


STORY = "Write a {} words story"


def test_both_stages_with_a_reason_for_every_record():
    pool = asking(
        (STORY.format(100), 160), (STORY.format(100), 161), (STORY.format(70), 50), (STORY.format(70), 49),
        (STORY.format(100), 100), ("a story", 9), ("2 chapters of 50 words, 100 words in all", 100),
        ("0 words", 3), (STORY.format(9), 0),
    )  # fmt: skip
    found = LongOutput()(pool)
    assert found.indices.tolist() == [4, 0, 2]  # the nearest first; both edges of 5/7 to 8/5 belong to it
    assert found.reasons == (
        "", "too long", "", "too short", "", "asks for no length", "asks for several lengths", "asks for length 0",
        "no words in the answer",
    )  # fmt: skip
    assert found.metrics["one_length"] == 6
    assert found.metrics["obeying"] == 3
    assert found.columns["required"] == [100, 100, 70, 70, 100, None, None, None, 9]
    assert found.columns["words"] == [160, 161, 50, 49, 100, 9, 100, 3, 0]
    assert found.scores[:5].tolist() == pytest.approx([80, 100 * (1 - 0.61 / 3), 80, 100 * (1 - 3 / 14), 100])


@pytest.mark.parametrize(
    ("question", "strict", "extended"),
    [
        ("Write a 2000 words story", 2000, 2000),
        ("Write a 2,000 words story", None, 2000),
        ("Write a 2000-word story", None, 2000),
        ("请写两千字 about 2000 words", None, 2000),
        ("写二十万字", None, 200000),
        ("写一万字的小说，每章1000字", None, None),
        ("几百字即可", None, None),
    ],
)
def test_the_parsers_are_options_and_their_difference_is_told(question, strict, extended):
    pool = asking((question, 2000), ("Write a 2000 words story", 2000))
    found = LongOutput(parser="strict")(pool)
    assert (0 in found.indices.tolist()) == (strict == 2000)
    assert found.columns["strict_required"] == [strict, 2000]
    assert found.columns["extended_required"] == [extended, 2000]
    assert found.columns["parsers_differ"] == [strict != extended, False]
    assert any("differently: r0" in note for note in found.notes) == (strict != extended)
    assert (0 in LongOutput()(pool).indices.tolist()) == (extended == 2000)


def test_the_length_may_be_given():
    pool = asking(("a story", 9), ("a story of 50 words", 9))
    assert LongOutput(required=10)(pool).indices.tolist() == [0, 1]
    given = asking(("a story of 50 words", 9), length=9)
    assert LongOutput()(given).indices.tolist() == [0]
    assert LongOutput(column="size")(given).left_out == {"too short": 1}
    with pytest.raises(DataError, match="r0, column 'length'"):
        LongOutput()(asking(("a story", 9), length="nine"))


def test_short_requests_size_and_other_alphabets():
    pool = asking((STORY.format(10), 10), (STORY.format(100), 90), (STORY.format(100), 95))
    assert LongOutput(least=100)(pool).indices.tolist() == [2, 1]
    assert LongOutput(least=100)(pool).left_out == {"asks for fewer than 100 words": 1}
    assert LongOutput(keep=1)(pool).left_out == {"others are nearer to their length": 2}
    russian = [Conversation("a", "4 words", "один два три четыре")]
    assert LongOutput()(russian).left_out == {"no words in the answer": 1}
    assert LongOutput(count="words")(russian).indices.tolist() == [0]


def test_every_record_with_an_answer_will_do():
    question, answer = "in 2 words", "aye aye"
    turns = ({"role": "user", "content": "50 words"}, {"role": "assistant", "content": "no"},
             {"role": "user", "content": question}, {"role": "assistant", "content": answer})  # fmt: skip
    pool = [
        Conversation("turns", "", turns), Preference("pair", question, answer, "no"),
        Feedback("thumb", question, answer, False), Ranking("ranked", question, ("no", answer), (0.0, 1.0)),
    ]  # fmt: skip
    assert LongOutput()(pool).indices.tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match="have no answer: p"):
        LongOutput()([PromptOnly("p", question)])


@pytest.mark.parametrize("bad", [{"score": 0}, {"score": 101}, {"required": 0}, {"least": 0}])
def test_bad_fields_are_named(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        LongOutput(**bad)
