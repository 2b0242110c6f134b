"""The documentation tells the truth: its code runs, its recipes parse, its markers fill, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fairlead import catalog, fields

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


def specs_in(value: object):
    """Yield every mapping in parsed YAML that builds a method: it has a name and lies where a kind is expected."""
    slots = {"objective": "objective", "reward": "reward", "rewards": "reward", "evaluators": "evaluator"}
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
def test_yaml_builds_the_methods_it_names(text):
    parsed = yaml.safe_load(text)
    for kind, spec in specs_in(parsed):
        assert catalog.from_spec(kind, spec) is not None
    for step in parsed.get("steps", []) if isinstance(parsed, dict) else []:
        assert len(set(step) - {"id"}) == 1, f"a step is an id and one action: {step}"


@pytest.mark.parametrize("text", blocks("python"))
def test_python_runs(text, tmp_path):
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
