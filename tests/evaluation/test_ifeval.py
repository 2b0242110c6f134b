"""IFEval's instruction ids as constraints: each id, its relations, and records that do not fit."""

from __future__ import annotations

import pytest

from fairlead.errors import DataError
from fairlead.evaluation.constraints import follows, parse
from fairlead.evaluation.ifeval import from_ifeval

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
]


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES)
def test_ids_become_constraints(name, arguments, good, bad):
    padded = dict.fromkeys(("keywords", "num_words", "relation", "letter")) | arguments
    plain, unknown = from_ifeval([name], [padded])
    ((_, constraint),) = parse(plain)
    assert unknown == []
    assert follows(constraint, good)
    assert not follows(constraint, bad)


def test_ids_without_a_check_are_told():
    plain, unknown = from_ifeval(["language:response_language", "punctuation:no_comma"], [{"language": "de"}, {}])
    assert (plain, unknown) == ([{"check": "without", "characters": ","}], ["language:response_language"])


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
