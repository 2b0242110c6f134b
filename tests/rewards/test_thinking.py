"""Blocks of thinking and answering: whether the form is kept, across lines, and what the answer is."""

from __future__ import annotations

import pytest

import fairlead
from fairlead.errors import UsageError
from fairlead.rewards.thinking import answer_part


def kept(text, **fields):
    return fairlead.reward("format", **fields)([""], [text]).values[0]


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think><answer>b</answer>",
        "<think>\nfirst\nthen\n</think>\n\n<answer>\none\ntwo\n</answer>\n",
        "<think></think><answer></answer>",
    ],
)
def test_the_form_is_kept_across_lines(text):
    assert kept(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "<answer>b</answer>",
        "<answer>b</answer><think>a</think>",
        "<think>a</think><answer>b",
        "so: <think>a</think><answer>b</answer>",
        "<think>a</think><answer>b</answer> and more",
        "<think>a</think><answer>b</answer><answer>c</answer>",
        "<think>a</think> or <answer>b</answer>",
        "<think>a<answer></think>b</answer>",
    ],
)
def test_the_form_is_broken(text):
    assert kept(text) == 0


def test_tags_of_ones_own():
    assert kept("<plan>a</plan><reply>b</reply>", think_tag="plan", answer_tag="reply") == 1
    with pytest.raises(UsageError, match="the same tag"):
        fairlead.reward("format", think_tag="answer")
    with pytest.raises(UsageError, match="no name of a tag"):
        fairlead.reward("format", answer_tag="</answer>")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("<think>a</think><answer>b\nc</answer> d", "b\nc"),
        ("<answer>b", "b"),
        ("b</answer>", "b</answer>"),
        ("plain", "plain"),
        ("<answer>b</answer><answer>c</answer>", "b"),
    ],
)
def test_what_the_answer_is(text, part):
    assert answer_part(text, "answer") == part
