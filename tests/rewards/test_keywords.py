"""Keywords: lemmas and inflections, whole words, phrases, lists in the prompt, and bounds that hold."""

from __future__ import annotations

import numpy as np
import pytest

import fairlead
from fairlead.errors import UsageError
from fairlead.rewards.base import Bounded

CONCEPTS = ("dog", "frisbee", "catch", "throw")


def value(text, **fields):
    rewards = fairlead.reward("keywords", **{"words": CONCEPTS, **fields})([""], [text])
    return None if rewards.abstained[0] else rewards.values[0]


def test_known_coverage():
    assert value("the dog will catch a frisbee") == 0.75
    assert value("the dog will catch a frisbee", hard=True) == 0
    text = "the dogs caught frisbees, then threw them"
    assert (value(text), value(text, hard=True)) == (1, 1)


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("throw", "throws threw thrown throwing"),
        ("leaf", "leaves"),
        ("knife", "knives"),
        ("city", "cities"),
        ("carry", "carries carried carrying"),
        ("stop", "stops stopped stopping"),
        ("hope", "hopes hoped hoping"),
        ("watch", "watches watched watching"),
        ("open", "opened opening"),
        ("fill", "filled filling"),
        ("agree", "agreed agreeing"),
        ("box", "boxes"),
        ("lie", "lay lain lying lies"),
        ("child", "children child's"),
        ("tie", "tied tying"),
        ("threw", "throw"),
    ],
)
def test_forms_of_a_word(word, forms):
    for form in forms.split():
        assert value(f"They {form.upper()}, then.", words=[word]) == 1, form
        assert value(form, words=[word], inflections=False) == (word in form.split("'"))


@pytest.mark.parametrize(
    ("word", "others"),
    [
        ("cat", "category concatenate cate"),
        ("car", "caring care cared scar"),
        ("hop", "hope hoping hoped"),
        ("be", "bed bee bing"),
        ("glass", "glas"),
        ("sin", "sing since"),
    ],
)
def test_words_that_only_look_alike(word, others):
    for other in others.split():
        assert value(other, words=[word]) == 0, other


def test_phrases_stand_together():
    assert value("two ice creams, please", words=["ice cream"]) == 1
    assert value("cream on the ice", words=["ice cream"]) == 0
    assert value("well-known", words=["well known"]) == 1


def test_the_list_in_the_prompt():
    reward = fairlead.reward("keywords", find="the words (.+?)[.]")
    prompts = [
        [
            {"role": "user", "content": "write a note with the words salt, Tea and red wine."},
            {"role": "assistant", "content": "no."},
            {"role": "user", "content": "say it with the words finn, and ada."},
        ],
        "a note with the words salt, tea and red wine.",
        "hello",
    ]
    assert [reward.wanted(prompt) for prompt in prompts] == [("finn", "ada"), ("salt", "tea", "red wine"), ()]
    rewards = reward(prompts, ["Finn left.", "red wine and salt", "hi"])
    assert rewards.abstained.tolist() == [False, False, True]
    assert rewards.values[:2] == pytest.approx([1 / 2, 2 / 3])


@pytest.mark.parametrize("hard", [False, True])
def test_bounds_hold_for_every_beginning(hard):
    reward = fairlead.reward("keywords", words=[*CONCEPTS, "ice cream"], hard=hard)
    assert isinstance(reward, Bounded)
    for text in ("Dogs threw the frisbee; ice creams caught it.", "a dogma, ice-cold", "", "throw"):
        final = reward([""], [text]).values[0]
        beginnings = [text[:k] for k in range(len(text) + 1)]
        low, high = reward.bounds([""] * len(beginnings), beginnings)
        assert (low <= final).all()
        assert (final <= high).all()
        assert (np.diff(low) >= 0).all()
    assert reward.bounds([""], ["the dog"])[0] == 0  # it could become a dogma
    if not hard:
        assert reward.bounds([""], ["the dog "])[0] == pytest.approx(1 / 5)


def test_what_makes_no_sense():
    with pytest.raises(UsageError, match="wants no words"):
        fairlead.reward("keywords")
    with pytest.raises(UsageError, match="holds no word"):
        fairlead.reward("keywords", words=["--"])
    with pytest.raises(UsageError, match="no group"):
        fairlead.reward("keywords", find="words")
    with pytest.raises(UsageError, match="find"):
        fairlead.reward("keywords", find="(")
    with pytest.raises(UsageError, match="2 prompts but 1"):
        fairlead.reward("keywords", words=["a"])(["", ""], ["x"])
