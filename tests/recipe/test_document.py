"""YAML with places: what is read, and where a fault is said to stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import RecipeError
from fairlead.recipe.document import parse_document, parse_value, read_document


def value(text: str):
    return parse_document(text, "r.yaml").value


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+1", -25.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("7", 7),
        ("1_000", 1000),
        ("007", "007"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("", None),
        ("harbor:test?n=5", "harbor:test?n=5"),
        ("{name: dpo, beta: 0.1}", {"name": "dpo", "beta": 0.1}),
        ("[a, 1]", ["a", 1]),
    ],
)
def test_plain_values(text, meant):
    found = parse_value(text, "--x")
    assert found == meant
    assert type(found) is type(meant)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_back(number):
    assert parse_value(repr(number), "--x") == number


def test_places_are_those_of_the_keys():
    document = parse_document("title: x\nsteps:\n  - id: a\n    train:\n      model: m\n      epochs: 2\n", "r.yaml")
    assert document.place("title") == "r.yaml:1"
    assert document.place("steps", 0, "train", "epochs") == "r.yaml:6"
    assert document.place("steps", 0, "train", "no_such") == "r.yaml:4"
    assert document.place("steps", 0) == "r.yaml:3"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 1\na: 2\n", 2, "'a' is given twice"),
        ("x:\n  y: 1\n  z: 2\n  y: 3\n", 4, "'y' is given twice"),
        ("1: a\n", 1, "a key must be text"),
        ("a: {b: @c}\n", 1, "not valid YAML"),
        ("a: *nowhere\n", 1, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, "single document"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
    ],
)
def test_faults_name_their_line(text, line, what):
    with pytest.raises(RecipeError, match=what) as caught:
        parse_document(text, "r.yaml")
    assert caught.value.place == f"r.yaml:{line}"
    assert caught.value.fix


def test_an_empty_file_and_a_missing_one(tmp_path):
    with pytest.raises(RecipeError, match="empty"):
        parse_document("# nothing\n", "r.yaml")
    with pytest.raises(RecipeError, match="no such file"):
        read_document(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("title: caf\xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match="UTF-8"):
        read_document(tmp_path / "latin.yaml")


def test_anchors_are_shared_values():
    found = value("a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  l: 2\n")
    assert found == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "l": 2}}


def test_variables_of_the_environment(monkeypatch):
    monkeypatch.setenv("FAIRLEAD_TEST_PLACE", "here")
    monkeypatch.delenv("FAIRLEAD_TEST_NONE", raising=False)
    assert value("a: '${FAIRLEAD_TEST_PLACE}/x'") == {"a": "here/x"}
    assert value("a: '${FAIRLEAD_TEST_NONE:-../there}/x'") == {"a": "../there/x"}
    with pytest.raises(RecipeError, match="FAIRLEAD_TEST_NONE is not set") as caught:
        value("a: 1\nb: '${FAIRLEAD_TEST_NONE}'")
    assert caught.value.place == "r.yaml:2"


def test_setting_from_outside():
    document = parse_document("s: {t: {e: 1}}\n", "r.yaml")
    document.set(("s", "t", "o", "beta"), 0.5, "--set x")
    assert document.value == {"s": {"t": {"e": 1, "o": {"beta": 0.5}}}}
    assert document.place("s", "t", "o", "beta") == "--set x"
    with pytest.raises(RecipeError, match=r"s\.t\.e is 1, which has no fields"):
        document.set(("s", "t", "e", "beta"), 0.5, "--set x")
