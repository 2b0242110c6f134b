"""Tasks of a model's own: read from its list, left out by rules, graded by how a reply begins."""

from __future__ import annotations

import pytest

from fairlead.synthesis.task_rules import (
    INSTRUCTION_RULES,
    OUTPUT_RULES,
    Task,
    first_broken,
    read_score,
    read_tasks,
)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("9||Good", 9),
        (" 8.5||ok", 8),
        ("9.5||great", 10),
        ("7.5||well", 8),
        ("10/10 perfect", 10),
        ("Score: 9||fine", None),
        ("<7>||x", 7),
        ("-3||bad", 3),
        ("0||none", None),
        ("11||x", None),
        ("85", None),
        ("||8", 8),
        ("I rate it 9", None),
        ("9,5||", 9),
        ("\n\n 10 || y", 10),
        ("9.4999||", 9),
        ("", None),
    ],
)
def test_scores(reply, score):
    assert read_score(reply) == score


def test_a_list_is_read_item_by_item():
    text = (
        " Name three rivers of Asia.\n6. Input:\n<noinput>\n###\n"
        "7. Instruction: Put this into the past tense.\n7. Input:\nShe walks.\n###\n"
        "8. Instruction: Without an input.\n###\n"
        "9. Instruction: Count the words.\n9. Input:\none two\n###\n10. Instruction: Never cl"
    )
    assert read_tasks(text, 6) == [
        Task("Name three rivers of Asia."),
        Task("Put this into the past tense.", "She walks."),
        Task("Count the words.", "one two"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " Name three rivers of Asia.\n6. Input:\n<noinput>\n",
        " Name three rivers of Asia.\n7. Input:\n<noinput>\n###",
        " One. 6. Instruction: Two. 6. Input: x ###",
    ],
)
def test_an_item_that_is_not_whole_is_none(text):
    assert read_tasks(text, 6) == []


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        (Task("Name three ports."), "length"),
        (Task("word " * 151), "length"),
        (Task("Draw a ship on the sea."), "undoable"),
        (Task("Say what this shows, please.", "an image of a cat"), "undoable"),
        (Task("- Name the three largest rivers."), "beginning"),
        (Task("Écris une phrase en français."), "beginning"),
        (Task("Answer this. Input: the text below"), "labels"),
        (Task("Sum up https://example.com/a in one line."), "link"),
        (Task("Tell a joke with no input at all."), "no_input"),
        (Task("Sum up the text in a line.", "<text here>"), "no_input"),
        (Task("Put she walks into the past.", "she walks"), "repeated_input"),
        (Task("Name the three largest rivers."), None),
        (Task("Explain what drawing conclusions means, nonetheless."), None),
    ],
)
def test_instructions_of_no_use(task, rule):
    assert first_broken(task, INSTRUCTION_RULES, tuple(INSTRUCTION_RULES)) == rule
    assert first_broken(task, INSTRUCTION_RULES, ()) is None


@pytest.mark.parametrize(
    ("output", "rule"),
    [
        (" \n", "empty"),
        ("It is Oslo.\nUser: and Sweden?", "speaker"),
        ("assistant\nIt is Oslo.", "speaker"),
        ("Answer Choices: yes, no.", "asks_back"),
        ("It is Oslo.\nWhat is the largest one?", "asks_back"),
        ("Do you like it?", "asks_back"),
        ("Choose one.\nA. Oslo\n(b) Rome", "options"),
        ("It is \u6771\u4eac.", "chinese"),
        ("It has vitamin C. See Appendix A.", None),
        ("It is Oslo. Why? Because it was founded there.", None),
    ],
)
def test_answers_of_no_use(output, rule):
    assert first_broken(Task("a", "", output), OUTPUT_RULES, tuple(OUTPUT_RULES)) == rule
