"""The sanitiser's rules, one by one: what is kept, and the number of the rule that decided."""

from __future__ import annotations

import pytest

from fairlead.synthesis.magpie_sanitiser import sanitised

CASES = [
    ("1. Why is the sea salty?", "Why is the sea salty?", 99.1),
    ("a) Why is the sea salty? I ask because I swim.", "Why is the sea salty?", 99.1),
    ("**Task:** Write a poem.", "Write a poem.", 0),
    ("**Task**: Write a poem.", "Write a poem.", 0),
    ("# Problem\nWhat is 2 + 2?\nIt is 4.", "What is 2 + 2?", 99.1),
    ("## Question 3: What is 2 + 2?", "What is 2 + 2?", 99.1),
    ("Question 3: What is 2 + 2?", "What is 2 + 2?", 99.1),
    ("Q3. What is 2 + 2?", "What is 2 + 2?", 99.1),
    ("Part 2: Task: name a port.", "name a port.", 0),
    ("*Why* is it **salty**? Because.", "Why is it salty?", 1),
    ('"Why is it so?" he asked.', "Why is it so?", 2.1),
    ('"All that glitters"\nis not gold', "All that glitters", 2.2),
    ("<b>Name</b> a *port*.\nNow.", "<b>Name</b> a port.\nNow.", 3),
    ("Add 2 and 2.\nAnswer: 4", "Add 2 and 2.", 4),
    ("Add 2 and 2.\n**Answer:** 4", "Add 2 and 2.", 4),
    ("Add 2 and 2. The answer is: 4", "Add 2 and 2.", 4),
    ("Add 2 and 2. answer: 4", "Add 2 and 2. answer: 4", 0),
    ("Bake a cake.\n### Step 1\nMelt it.", "Bake a cake.", 5),
    ("Bake these:\nbread\n# Solution by heart", "Bake these:\nbread", 6.1),
    ("Tell me this:\nwhy is it so? And more.", "Tell me this:\nwhy is it so?", 6.2),
    ("Do these:\nbread, cake", "Do these:", 6.3),
    ("Why now? And then.", "Why now?", 99.1),
    ("Write a letter.\nKeep it short.", "Write a letter.\nKeep it short.", 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kept", "number"), CASES)
def test_the_first_rule_that_applies_decides(text, kept, number):
    assert sanitised(text, "llama-3") == (kept, number)


def test_the_last_rule_cuts_to_a_line_only_when_asked_to():
    assert sanitised("Write a letter.\nKeep it short.", "llama-3", first_line=True) == ("Write a letter.", 99.2)
    assert sanitised("Write a letter.\nKeep it short.", "gemma-2", first_line=True) == ("Write a letter.", 6.2)


@pytest.mark.parametrize(
    ("text", "kept", "number"),
    [
        ("Bake a cake.\n### Step 1\nMelt it.", "Bake a cake.\n### Step 1\nMelt it.", 0),
        ("Do these:\nbread, cake", "Do these:", 5.3),
        ("Why now? And then.", "Why now?", 6.1),
        ("Add 2 and 2.\nAnswer: 4", "Add 2 and 2.", 4),
    ],
)
def test_gemma_has_no_steps_and_numbers_of_its_own(text, kept, number):
    assert sanitised(text, "gemma-2") == (kept, number)


def test_an_answer_without_a_question_leaves_nothing():
    assert sanitised("Answer: 4", "llama-3") == ("", 4)
