"""IFEval's instruction ids as constraints: each id, its relations, and records that do not fit."""

from __future__ import annotations

import sys

import pytest
from known import BASE, Row

from fairlead.errors import DataError, MissingExtraError
from fairlead.evaluation import forms
from fairlead.evaluation.constraints import follows, parse
from fairlead.evaluation.ifeval import from_ifeval
from fairlead.evaluation.rules import Rules

CASES = [
    ("keywords:existence", {"keywords": ["sea", "ship"]}, "ship at sea", "ship"),
    ("keywords:forbidden_words", {"forbidden_words": ["sea"]}, "ship", "sea"),
    ("keywords:frequency", {"keyword": "go", "frequency": 2, "relation": "at least"}, "go go", "go"),
    ("keywords:frequency", {"keyword": "go", "frequency": 2, "relation": "less than"}, "go", "go go"),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 1, "let_relation": "less than"}, "a", "e"),
    ("length_constraints:number_words", {"num_words": 2, "relation": "less than"}, "one", "one two"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "A. B.", "A."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}, "[name]", "name"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "* a", "* a\n* b"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*a*", "a"),
    ("detectable_format:json_format", {}, "[]", "["),
    ("detectable_format:title", {}, "<<a>>", "a"),
    ("startend:end_checker", {"end_phrase": "The end."}, "so. the end.", "The end. So"),
    ("startend:quotation", {}, '"a"', "a"),
    ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "at least"}, "A NO b", "no"),
    ("change_case:english_capital", {}, "A B", "A b"),
    ("change_case:english_lowercase", {}, "a b", "A b"),
    ("punctuation:no_comma", {}, "a b", "a, b"),
    ("language:response_language", {"language": "de"}, "Das Schiff ist heute da.", "The ship is here today."),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
        "One.\n\nWeekend, at last.",
        "One.\n\nWeekend, at last.\n\nThree.",
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "So.\nP.P.S. bye", "So. PPS bye"),
    ("detectable_format:constrained_response", {}, "I think: My answer is maybe.", "My answer is perhaps."),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1 a Day 2", "Day 1"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Name a sea. "}, "name a sea. The red one.", "The red one."),
]


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES)
def test_ids_become_constraints(name, arguments, good, bad):
    padded = dict.fromkeys(("keywords", "num_words", "relation", "letter")) | arguments
    plain, unknown = from_ifeval([name], [padded])
    ((_, constraint),) = parse(plain)
    assert unknown == []
    assert follows(constraint, good)
    assert not follows(constraint, bad)


def test_all_its_ids_have_a_check():
    assert len({name for name, *_ in CASES}) == 25


def test_ids_without_a_check_are_told():
    plain, unknown = from_ifeval(["language:politeness", "punctuation:no_comma"], [{"language": "de"}, {}])
    assert (plain, unknown) == ([{"check": "without", "characters": ","}], ["language:politeness"])


def test_without_the_detector_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "langdetect", None)
    forms._detector.cache_clear()
    plain, _ = from_ifeval(["language:response_language"], [{"language": "de"}])
    with pytest.raises(MissingExtraError, match=r"langdetect") as caught:
        parse(plain)
    assert "fairlead[languages]" in str(caught.value)
    record = Row("r1", "say it", extra={"instruction_id_list": ["language:response_language"],
                                        "kwargs": [{"language": "de"}]})  # fmt: skip
    with pytest.raises(DataError, match=r"record r1.*'langdetect'"):
        Rules()({"base": BASE}, [record])
    monkeypatch.undo()
    assert parse(plain)


@pytest.mark.parametrize(
    ("ids", "arguments"),
    [
        ("punctuation:no_comma", [{}]),
        (["punctuation:no_comma"], None),
        (["punctuation:no_comma"], []),
        (["punctuation:no_comma"], ["x"]),
        (["length_constraints:number_words"], [{"num_words": 3}]),
        (["length_constraints:number_words"], [{"num_words": None, "relation": "less than"}]),
        (["length_constraints:number_words"], [{"num_words": 3, "relation": "around"}]),
    ],
)
def test_records_that_do_not_fit_are_errors(ids, arguments):
    with pytest.raises(DataError, match=r"^record r1"):
        from_ifeval(ids, arguments, place="record r1")
