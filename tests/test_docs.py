"""The documentation tells the truth: its code runs, its recipes parse, its markers fill, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml
from page_code import run_code

from fairlead import catalog, cli, fields, recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING"))]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(language: str) -> list:
    """Return every fenced block of a language as a parameter (page, text)."""
    found = []
    for page in PAGES:
        for number, block in enumerate(FENCE.finditer(page.read_text(encoding="utf-8"))):
            if block[2] == language and "..." not in block[3]:
                name = f"{page.relative_to(ROOT)}:{number}"
                found.append(pytest.param(re.sub(f"^{block[1]}", "", block[3], flags=re.MULTILINE), id=name))
    return found


def read_in_order(language: str) -> list:
    """Return the blocks of each page as one parameter: what a reader has who types them from top to bottom."""
    pages: dict[str, list[str]] = {}
    for block in blocks(language):
        pages.setdefault(block.id.rpartition(":")[0], []).append(block.values[0])
    return [pytest.param("\n".join(texts), id=page) for page, texts in pages.items()]


def typed_lines() -> list:
    """Return every line of the shell blocks that calls fairlead, make or python, without its comment."""
    found = []
    for block in blocks("bash"):
        for number, line in enumerate(shlex.split(one, comments=True) for one in block.values[0].splitlines()):
            while line and "=" in line[0]:
                line = line[1:]
            if line and line[0] in ("fairlead", "make", "python"):
                found.append(pytest.param(line, id=f"{block.id}:{number} {' '.join(line[:3])}"))
    return found


def specs_in(value: object):
    """Yield every mapping in parsed YAML that builds a method: it has a name and lies where a kind is expected."""
    slots = {
        "objective": "objective",
        "reward": "reward",
        "rewards": "reward",
        "synthesizer": "synthesizer",
        "evaluators": "evaluator",
    }
    if isinstance(value, dict):
        for key, inner in value.items():
            for spec in inner if isinstance(inner, list) else [inner]:
                if key in slots and isinstance(spec, str | dict):
                    yield slots[key], spec
            yield from specs_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from specs_in(inner)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}, which does not exist"


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_builds_what_it_names(text, tmp_path):
    parsed = yaml.safe_load(text)
    if "steps" not in parsed:
        for kind, spec in specs_in(parsed):
            assert catalog.from_spec(kind, spec) is not None
        return
    path = tmp_path / "recipe.yaml"
    path.write_text(text if "title" in parsed else f"title: from the documentation\n{text}", encoding="utf-8")
    assert recipe.load(path).steps


def test_code_that_fails_is_noticed(tmp_path):
    assert "ZeroDivisionError" in run_code("1 / 0", tmp_path)


@pytest.mark.parametrize("text", read_in_order("python"))
def test_python_runs(text, tmp_path):
    assert run_code(text, tmp_path) == ""


@pytest.mark.parametrize("words", typed_lines())
def test_commands_are_understood(words, capsys):
    program, *rest = words
    if program == "fairlead":
        command = list(itertools.takewhile(lambda word: not word.startswith("-"), rest))
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, "--help"])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in rest if word.startswith("--")), f"not in the help: {rest}"
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(rest) <= set(targets)
    else:
        assert (ROOT / rest[0]).is_file() or importlib.util.find_spec(rest[1]), f"{rest} names no script or module"


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda e: f"{e.kind}-{e.name}")
def test_the_page_of_a_method_shows_its_fields(entry, hooks):
    page = (ROOT / "docs" / "methods" / f"{entry.name}.md").read_text(encoding="utf-8")
    filled = hooks.fill(page)
    assert "<!-- fields" not in filled
    assert entry.line in filled
    for info in fields.describe(entry.load()):
        row = next(line for line in filled.splitlines() if line.startswith(f"| `{info.name}` |"))
        assert info.doc, f"{entry.target}.{info.name} has no text"
        assert info.doc.split()[0].replace("|", "\\|") in row


def test_the_list_of_methods_is_the_catalog(hooks):
    filled = hooks.fill("<!-- catalog -->")
    assert len(filled.splitlines()) == 2 + len(catalog.ENTRIES)
    assert all(f"](../methods/{entry.name}.md)" in filled for entry in catalog.ENTRIES)


def test_a_marker_that_names_nothing_stops_the_build(hooks):
    with pytest.raises(Exception, match="did you mean 'dpo'"):
        hooks.fill("<!-- fields: objective dpoo -->")
    with pytest.raises((ImportError, AttributeError)):
        hooks.fill("<!-- fields: fairlead.fields:Nothing -->")
