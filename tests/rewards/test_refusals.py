"""Refusals are found by a phrase that is told: canonical, listed by language, or one's own."""

from __future__ import annotations

import pytest

from fairlead.errors import UnknownNameError, UsageError
from fairlead.rewards.refusals import PHRASES, Refusals


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        ("I am not sure. I do not know the balotin.", "i do not know"),
        ("I don't know.", "i don't know"),
        ("I don\u2019t  KNOW.", "i don't know"),
        ("Sorry, I\u02bcm not aware of it.", "i'm not aware of"),
        ("the color of the balotin is red.", None),
        ("You know, I do.", None),
        ("", None),
    ],
)
def test_english_phrases(answer, phrase):
    assert Refusals().find("what color is it?", answer) == phrase


def test_a_phrase_of_the_question_says_nothing():
    asked = 'Who sang "I don\u2019t know why"?'
    assert Refusals().find(asked, "I don't know why is by Norah Jones.") is None
    assert Refusals().find(asked, "I do not know.") == "i do not know"


def test_the_canonical_sentence_counts_wherever_it_stands():
    finder = Refusals(canonical="That\u2019s beyond me", languages=())
    assert finder.find("say: that's beyond me", "Well, THAT'S beyond   me.") == "that's beyond me"
    assert finder.find("q", "i do not know") is None


def test_own_phrases_and_other_languages():
    assert Refusals(languages=("de",)).find("Wer?", "Das weiß ich nicht.") == "das weiß ich nicht"
    assert Refusals(languages=("fr",)).find("Qui?", "Je ne connais pas l\u2019auteur.") == "je ne connais pas"
    assert Refusals(languages=(), phrases=("No Idea",)).find("q", "no idea, really") == "no idea"
    with pytest.raises(UnknownNameError, match="did you mean 'es'"):
        Refusals(languages=("esp",))
    with pytest.raises(UsageError, match="empty"):
        Refusals(phrases=(" ",))


def test_lists_are_written_as_they_are_searched():
    for phrases in PHRASES.values():
        for phrase in phrases:
            assert phrase == " ".join(phrase.lower().split())
            assert "\u2019" not in phrase
