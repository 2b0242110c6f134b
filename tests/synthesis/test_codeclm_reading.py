"""What CodecLM's replies say, and the routes that follow from scores."""

from __future__ import annotations

import pytest

from fairlead.synthesis.codeclm_reading import (
    Entry,
    even_split,
    gap_of,
    read_actions,
    read_metadata,
    read_numbered,
    read_points,
    route_of,
)


@pytest.mark.parametrize(
    ("reply", "entry"),
    [
        ("Use case: Creative writing\nSkills: role-play, sports", Entry("creative writing", ("role-play", "sports"))),
        ("Task: code generation\nSkills: python", Entry("code generation", ("python",))),
        (
            "Use case: QA\nSkills: Algebra, algebra , number theory, logic, proofs.",
            Entry("qa", ("algebra", "number theory", "logic")),
        ),
        ("Skills: x", None),
        ("Use case: x", None),
        ("Sure.\n\nUSE CASE: x\nskills: proofs.", Entry("x", ("proofs",))),
        ("Use case: x\nSkills: , .", None),
    ],
)
def test_known_metadata(reply, entry):
    assert read_metadata(reply) == entry


def test_a_list_is_read_by_rising_numbers_at_the_starts_of_lines():
    assert read_numbered("Here:\n1. One.\n2) Two\n   goes on\n3. Three") == ["One.", "Two\n   goes on", "Three"]
    assert read_numbered("1. Sort these:\n5. a\n2. b 3. c\n3. d") == ["Sort these:\n5. a", "b 3. c", "d"]
    assert read_numbered("none") == []
    assert read_numbered("1. \n2. x") == ["x"]


@pytest.mark.parametrize(
    "reply",
    [
        "Rubrics:\n1. depth\n2. length\nActions:\n1. ask why\n2. ask twice",
        "**Rubrics**\n1. depth\n\n**Actions:**\n1. ask why\n2. ask twice",
        "1. depth\n2. length\n3. ask why\n4. ask twice",
        "1. depth\n2. length\n\n1. ask why\n2. ask twice",
    ],
)
def test_actions_are_the_second_list(reply):
    assert read_actions(reply) == ["ask why", "ask twice"]


def test_no_actions_in_what_is_no_two_lists():
    assert read_actions("1. a\n2. b\n3. c") == []
    assert read_actions("I cannot do that.") == []


@pytest.mark.parametrize(
    ("reply", "points", "problem"),
    [
        ("8 6.5", (8.0, 6.5), None), ("\n\n8, 6\nBecause 3", (8.0, 6.0), None), ("8/10 6/10", (8.0, 6.0), None),
        ("Scores: 10 1", (10.0, 1.0), None), ("8\n6", None, "no verdict"), ("8 6 4", None, "no verdict"),
        ("11 6", None, "off the scale"), ("0 6", None, "off the scale"), (" ", None, "empty"),
        ("A is better: 8 to 6", None, "no verdict"),
    ],
)  # fmt: skip
def test_points_stand_on_the_first_line(reply, points, problem):
    reading = read_points(reply)
    assert (reading.value, reading.problem) == (points, problem)


KNOWN = [
    ((9, 5), (6, 8), 8.5, 5.5, 3.0, "rewrite"),
    ((9, 4), (5, 9), 9.0, 4.5, 4.5, "keep_strong"),
    ((3, 8), (9, 4), 3.5, 8.5, -5.0, "keep_target"),
    ((10, 2), (9, 3), 6.5, 5.5, 1.0, "rewrite"),
    ((7, 7), (7, 7), 7.0, 7.0, 0.0, "rewrite"),
    ((9, 5), (5, 8), 8.5, 5.0, 3.5, "keep_strong"),
]


@pytest.mark.parametrize(("first", "second", "strong", "target", "gap", "route"), KNOWN)
def test_known_routes(first, second, strong, target, gap, route):
    assert gap_of(first, second) == (strong, target, gap)
    assert route_of(gap, 3.0, 1, 4) == route
    doubled = gap_of([2 * one for one in first], [2 * one for one in second])
    assert route_of(doubled[2], 6.0, 1, 4) == route
    relabelled = gap_of(second, first)
    assert relabelled[2] == -gap


def test_routes_at_the_edges():
    assert route_of(3.0, 3.0, 4, 4) == "exhausted"
    assert route_of(3.0001, 3.0, 4, 4) == "keep_strong"
    assert route_of(0.0, -1.0, 1, 4) == "keep_strong"
    assert route_of(9.0, float("inf"), 4, 4) == "exhausted"


def test_known_splits():
    assert even_split(2000, 200) == [10] * 200
    assert even_split(10, 4) == [3, 3, 2, 2]
