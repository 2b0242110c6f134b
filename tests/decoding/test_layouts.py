"""Layouts: assembled to the character, and answers cut and cleaned without harm to what they hold."""

from __future__ import annotations

import pytest

from fairlead.decoding.layouts import Layout, load_layout
from fairlead.errors import UnknownNameError, UsageError

FENCED = load_layout("fenced")
CODE = "Use:\n```python\nprint(1)\n```\nDone."
OPEN = "cut in a block:\n```python\nx\n```\nand\n```python\ny = 1"


def turns(*contents):
    return [{"role": ("user", "assistant")[k % 2], "content": content} for k, content in enumerate(contents)]


def read(text, anywhere=False):
    return FENCED.clean(FENCED.cut(text, anywhere)[0])


def test_assembly_to_the_character():
    text = FENCED.write("SYS", turns("Hi"))
    assert text == "SYS\n# Query:\n```\nHi\n```\n\n# Answer:\n```\n"
    assert len(text) == 39
    assert len(FENCED.write("SYS", turns("Hi", "Hello!", "Bye"))) == 87
    lines = load_layout("lines")
    assert lines.write("", turns("a?", "b.", "c?")) == "question: a? answer: b.\nquestion: c? answer:"
    assert lines.write("be kind.", turns("a?")) == "note: be kind.\nquestion: a? answer:"


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (f"{CODE}\n```\n\n# Query:\n```\nx", CODE),
        (CODE, CODE),
        ("Sure!\n```\n\n# Query:\n```\nnext", "Sure!"),
        ("# Query:\n```\nnext", ""),
        (OPEN, OPEN),
        ("a\n```\nb\n```\nc\n```\n", "a\n```\nb\n```\nc"),
        ("see # Query: there\n```", "see # Query: there"),
        ("the `# User` heading", "the `# User` heading"),
    ],
)  # fmt: skip
def test_cleaning(written, answer):
    assert read(written) == answer


def test_a_stop_text_inside_a_line_counts_only_where_asked():
    assert FENCED.cut("see # Query: there") == ("see # Query: there", False)
    assert FENCED.cut("see # Query: there", anywhere=True) == ("see ", True)
    assert FENCED.cut("so.\n# User\n") == ("so.\n", True)
    assert FENCED.stop_texts(False) == ("\n# Query", "\n# User")
    assert FENCED.stop_texts(True) == ("# Query", "# User")


def test_white_space_behind_a_callers_cut_stays():
    assert FENCED.clean(" a b ", to_the_end=False) == "a b "
    assert FENCED.clean(" a b ") == "a b"
    assert FENCED.clean(" a b \n```", to_the_end=False) == "a b"


def test_contents_are_not_read_as_templates():
    assert load_layout("lines").write("", turns("{text} {{ x }}")) == "question: {text} {{ x }} answer:"


def test_a_layout_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text('user: "Q {text}\\n"\nassistant: "A {text}\\n"\nopening: "A"\n', encoding="utf-8")
    own = load_layout(str(path))
    assert own.write("Be kind.", turns("1", "2", "3")) == "Be kind.Q 1\nA 2\nQ 3\nA"
    assert own.cut("anything\nQ") == ("anything\nQ", False)
    path.write_text('user: "Q {text}"\nopening: "A"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="assistant"):
        load_layout(str(path))
    path.write_text("- a list\n", encoding="utf-8")
    with pytest.raises(UsageError, match="holds list"):
        load_layout(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        load_layout(str(tmp_path / "none.yaml"))


def test_what_no_layout_can_be():
    with pytest.raises(UnknownNameError, match="did you mean 'fenced'"):
        load_layout("fence")
    with pytest.raises(UsageError, match=r"layout\.user"):
        Layout(user="no slot", assistant="{text}", opening="")
    with pytest.raises(UsageError, match="empty text"):
        Layout(user="{text}", assistant="{text}", opening="", stops=("",))
