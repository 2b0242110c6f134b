"""Verifiable constraints: every check on answers that follow and that do not, loose reading, and bad input."""

from __future__ import annotations

import pytest

from fairlead.errors import DataError, UnknownFieldError, UnknownNameError, UsageError
from fairlead.evaluation.constraints import CHECKS, follows, follows_loosely, parse


def one(check: str, **fields):
    ((name, constraint),) = parse([{"check": check, **fields}])
    assert name == check
    return constraint


CASES = [
    ("words", {"at_most": 3}, "don't sail now", "we do not sail"),
    ("words", {"at_least": 3}, "we sail now", "we sail"),
    ("words", {"at_least": 2, "at_most": 2}, "we sail", "we sail now"),
    ("words", {"at_most": 2}, "мы плывём", "мы плывём домой"),
    ("sentences", {"at_least": 2, "at_most": 2}, "One. Two", "One. Two! Three?"),
    ("characters", {"at_most": 5}, "abcde", "abcdef"),
    ("paragraphs", {"at_least": 2, "at_most": 2}, "one\n\ntwo\nstill two\n \n", "one\ntwo"),
    ("paragraphs", {"at_least": 3, "separator": "***"}, "one *** two\n***\nthree", "one\n\ntwo\n\nthree"),
    ("capital_words", {"at_least": 2}, "NO SHIP left", "NO ship left"),
    ("capital_words", {"at_most": 0, "at_least": 0}, "no ship left", "NO ship left"),
    ("bullets", {"at_least": 2, "at_most": 2}, "two:\n* one\n  - two", "* one\n**two**\n--- \nthree"),
    ("highlights", {"at_least": 2}, "*one* and **two**", "*one* and ** two"),
    ("placeholders", {"at_least": 2}, "[name] of [town]", "[name] of []"),
    ("keywords", {"words": ["Ship", "sea"]}, "a ship at SEA", "ships at sea"),
    ("keywords", {"words": ["C++"]}, "c++ is old", "c is old"),
    ("forbidden", {"words": ["ship"]}, "shipping", "a Ship."),
    ("frequency", {"word": "go", "at_least": 2, "at_most": 2}, "go, go! gone", "go go go"),
    ("letter", {"letter": "e", "at_most": 1}, "bee"[:2], "Eel e"),
    ("case", {"letters": "upper"}, "ALL 3!", "All 3!"),
    ("case", {"letters": "lower"}, "all 3!", "123"),
    ("without", {"characters": ",;"}, "none here.", "one; here"),
    ("starts", {"phrase": "Of course"}, "  of course, sir", "sir, of course"),
    ("ends", {"phrase": "Is that all?"}, 'yes. is that all?" ', "is that all? yes"),
    ("quoted", {}, ' "yes" ', '"'),
    ("title", {}, "<<ships>>\nlong ago", "<< >> long ago"),
    ("json", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("json", {}, "[1, 2]", "so: [1, 2]"),
    ("language", {"code": "de"}, "Das Schiff liegt seit gestern am Kai.", "the ship has been at the quay since then"),
    ("language", {"code": "kn"}, "ಹಡಗು ಬಂದರಿನಲ್ಲಿದೆ", "जहाज बंदरगाह में है"),
    ("language", {"code": "en"}, "the ship lies at the quay, and its captain sleeps", "1 + 1 = 2!"),
    ("first_word", {"word": "ship"}, '"Ship," he said\n\nno', "the ship\n\nship"),
    ("first_word", {"word": "sea", "paragraph": 2, "paragraphs": 2}, "a ship\n \nSea!", "a ship\n\nsea\n\nmore"),
    ("first_word", {"word": "sea", "paragraph": 3}, "a\n\nb\n\n\nsea.", "a\n\nsea"),
    ("postscript", {"mark": "P.S."}, "bye\n  p. s. write soon", "bye P.S. write soon"),
    ("postscript", {"mark": "P.P.S"}, "P.S. one\nP.P.S. two", "P.S. one"),
    ("postscript", {}, "P.S.\nwrite", "write\nP.S.\n"),
    ("one_of", {"texts": ["It is so.", "It is not."]}, "Well. It is not.", "It is not so."),
    ("sections", {"word": "SECTION", "at_least": 2}, "SECTION 1\na\nSECTION2\nb", "SECTION 1\nSection 2"),
    ("answers", {}, "one\n******\ntwo\n******", "one\n******\none"),
    ("answers", {"count": 3, "separator": "--"}, "a--b--c", "a--b----c"),
]


def test_every_check_has_a_case():
    assert {check for check, *_ in CASES} == set(CHECKS)


@pytest.mark.parametrize(("check", "fields", "good", "bad"), CASES)
def test_checks_tell_answers_apart(check, fields, good, bad):
    constraint = one(check, **fields)
    assert follows(constraint, good)
    assert not follows(constraint, bad)


@pytest.mark.parametrize("blank", ["", " \n\t"])
def test_a_blank_answer_follows_nothing(blank):
    for constraint in (one("words", at_most=3), one("forbidden", words=["ship"]), one("without", characters=",")):
        assert not follows(constraint, blank)
        assert not follows_loosely(constraint, blank)


@pytest.mark.parametrize(
    ("check", "fields", "answer"),
    [
        ("json", {}, 'Sure:\n{"a": 1}'),
        ("json", {}, '{"a": 1}\nIs there more?'),
        ("json", {}, 'Sure:\n{"a": 1}\nIs there more?'),
        ("starts", {"phrase": "ships"}, "**ships** sail"),
        ("ends", {"phrase": "bye"}, "Well:\ngood **bye**\nyours"),
    ],
)
def test_loose_leaves_out_edges_and_asterisks(check, fields, answer):
    constraint = one(check, **fields)
    assert not follows(constraint, answer)
    assert follows_loosely(constraint, answer)


def test_loose_passes_what_strict_passes_and_not_everything():
    for check, fields, good, _ in CASES:
        assert follows_loosely(one(check, **fields), good)
    assert not follows_loosely(one("forbidden", words=["ship"]), "a\nship\nb")


def test_columns_of_tables_hold_empty_fields():
    assert parse([{"check": "case", "letters": "upper", "at_most": None, "words": None}]) == parse(
        [{"check": "case", "letters": "upper"}]
    )
    assert parse(["json"])[0][0] == "json"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("json", DataError, "list"),
        ([{"at_most": 3}], DataError, "no constraint"),
        ([{"check": "word", "at_most": 3}], UnknownNameError, "words"),
        ([{"check": "words", "most": 3}], UnknownFieldError, "at_most"),
        ([{"check": "words"}], UsageError, "bound"),
        ([{"check": "words", "at_least": 4, "at_most": 3}], UsageError, "leave nothing"),
        ([{"check": "words", "at_most": "few"}], UsageError, "few"),
        ([{"check": "keywords", "words": []}], UsageError, "look for"),
        ([{"check": "frequency", "at_least": 1}], UsageError, "look for"),
        ([{"check": "letter", "letter": "ab", "at_least": 1}], UsageError, "one letter"),
        ([{"check": "case", "letters": "title"}], UsageError, "upper"),
        ([{"check": "language", "code": "english"}], UnknownNameError, "en"),
        ([{"check": "first_word", "word": " "}], UsageError, "no word"),
        ([{"check": "first_word", "word": "a", "paragraph": 3, "paragraphs": 2}], UsageError, "paragraph 3 of 2"),
        ([{"check": "postscript", "mark": " "}], UsageError, "no mark"),
        ([{"check": "one_of", "texts": []}], UsageError, "choose from"),
        ([{"check": "sections", "at_least": 0}], UsageError, "1 or more"),
        ([{"check": "answers", "count": 1}], UsageError, "tell apart"),
    ],
)
def test_bad_constraints_are_named(given, error, words):
    with pytest.raises(error, match=words):
        parse(given, place="record r1")
