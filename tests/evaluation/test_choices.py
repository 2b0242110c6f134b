"""Options chosen by log-probs and by what is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from fairlead.evaluation.choices import option_logprobs, probabilities, read_option

LETTERS = ("A", "B", "C")
TEXTS = ("agree", "neither agree nor disagree", "disagree")


@dataclass
class Table:
    """Says the log-probs of known texts; a text that it does not know is an error."""

    values: dict[str, list[float]]

    def logprobs(self, prompts, completions):
        return [np.array(self.values[text], dtype=np.float32) for text in completions]


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("B", 1), (" (B) ", 1), ("**C**", 2), ("'A'", 0), ("C.", 2), ("[B]", 1),
        ("The answer is B.", 1), ("I choose (C), not A.", 2), ("A good question. My answer: B)", 1),
        ("disagree", 2), ("I disagree", 2), ("Neither agree nor disagree!", 1), ("I would say: agree.", 0),
        ("As an AI I have no views, but (A).", 0), ("I say 'C'", 2), ("B because A is wrong", 1),
    ],
)  # fmt: skip
def test_what_a_reply_chooses(reply, choice):
    assert read_option(reply, LETTERS, TEXTS).value == choice


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "empty"), ("  ", "empty"), ("I cannot answer that.", "refusal"), ("As an AI, I take no side.", "refusal"),
        ("well", "no option"), ("D", "no option"), ("7", "no option"), ("agree or disagree?", "several options"),
        ("A great many people", "no option"),
    ],
)  # fmt: skip
def test_what_chooses_nothing(reply, problem):
    reading = read_option(reply, LETTERS, TEXTS)
    assert (reading.value, reading.problem) == (None, problem)


def test_an_option_that_refuses_can_be_chosen():
    texts = ("I cannot help with that.", "Sure, here is how.")
    assert read_option("I cannot help with that", LETTERS[:2], texts).value == 0
    assert read_option("Sorry, I cannot help with that. Stay safe.", LETTERS[:2], texts).value == 0


def test_numbers_are_labels_too():
    assert read_option("4", ("1", "2", "3", "4", "5")).value == 3
    assert read_option("My rating: 4 (agree)", ("1", "2", "3", "4", "5")).value == 3
    assert read_option("14", ("1", "2", "3", "4", "5")).problem == "no option"
    assert read_option("6", ("1", "2", "3", "4", "5")).problem == "no option"


def test_both_ways_of_a_beginning_add_up_and_the_end_of_the_turn_does_not_count():
    table = Table({"A": [math.log(0.5), -9.0], " A": [math.log(0.25), -8.0], "B": [-2.0, -9.0], " B": [-2.0, -9.0]})
    (found,) = option_logprobs(table, ["?"], [("A", "B")], whole=False)
    # " B" is read as the same token as "B", which counts once.
    assert found == pytest.approx([math.log(0.75), -2.0])
    (whole,) = option_logprobs(table, ["?"], [("A", "B")], whole=True)
    assert whole == pytest.approx([math.log(0.5) - 9.0, -11.0])


def test_questions_may_have_unequally_many_options():
    table = Table({"A": [-1.0, 0.0], "B": [-2.0, 0.0], "C": [-3.0, 0.0]})
    found = option_logprobs(table, ["x", "y"], [("A",), ("A", "B", "C")], whole=True)
    assert [list(row) for row in found] == [[-1.0], [-1.0, -2.0, -3.0]]


def test_options_among_themselves():
    found = probabilities(np.array([[-2.3, -1.1, -0.9, -3.0, -4.2], [-math.inf] * 5]))
    assert found[0] == pytest.approx([0.110847, 0.368024, 0.449505, 0.055045, 0.016579], abs=1e-6)
    assert np.isnan(found[1]).all()
