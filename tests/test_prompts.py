"""The texts of methods: shipped ones, a user's file, a user's text, and what is wrong with them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from fairlead import prompts
from fairlead.errors import UnknownNameError, UsageError


def test_a_users_file_and_text_take_the_shipped_ones_place(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("Look: {{ prompt }}\n", encoding="utf-8")
    assert prompts.load("rewriter", "replace", str(path)).render(prompt="hello") == "Look: hello"
    assert prompts.load("rewriter", "replace", "{{ prompt }}!").render(prompt="hello") == "hello!"
    shipped = prompts.load("rewriter", "replace").render(prompt="hello", history=[], markers=None, words=None)
    assert "<request>\nhello\n</request>" in shipped
    assert (prompts.file_of(str(path)), prompts.file_of("{{ prompt }}"), prompts.file_of(None)) == (
        str(path),
        None,
        None,
    )


def test_values_are_text_and_never_read_as_a_template():
    assert prompts.load("rewriter", "replace", "{{ prompt }}").render(prompt="{{ 1 + 1 }}") == "{{ 1 + 1 }}"


def test_what_cannot_be_used_is_said():
    with pytest.raises(UnknownNameError, match="replace"):
        prompts.load("rewriter", "replac")
    with pytest.raises(UsageError, match="cannot be read"):
        prompts.load("rewriter", "replace", "missing.jinja")
    with pytest.raises(UsageError, match="line 2"):
        prompts.load("rewriter", "replace", "one\n{% if %}")
    with pytest.raises(UsageError, match=r"'wish' is undefined\n  fix: .*may use prompt"):
        prompts.load("rewriter", "replace", "{{ wish }}").render(prompt="hello")


def test_a_text_reaches_no_further_than_its_values():
    with pytest.raises(UsageError, match="cannot be filled"):
        prompts.load("rewriter", "replace", "{{ prompt.__class__.__mro__ }}").render(prompt="hello")


def test_every_shipped_text_can_be_read():
    shipped = sorted(Path(str(resources.files("fairlead.prompts"))).glob("*/*.jinja"))
    names = [(path.parent.name, path.stem) for path in shipped]
    assert ("rewriter", "complement") in names
    for method, name in names:
        assert prompts.load(method, name).source.strip()
