"""The command line: help, exit codes, and each command doing its work."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead import cli
from fairlead.cli import main

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [name for name, *_ in cli._COMMANDS]
GROUPS = {
    "data": ("check", "show", "enough"),
    "harbor": ("world", "ship", "show", "score"),
    "rl": ("self-test", "presets"),
    "theory": ("tilt", "best-of-n", "rate", "samples", "win-rate", "trilemma", "audit", "one-reward"),
}
INNER = [f"{group} {command}" for group, commands in GROUPS.items() for command in commands]


@pytest.fixture
def fairlead(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in GROUPS] + INNER)
def test_every_help_has_examples(fairlead, command):
    code, out, _ = fairlead(*command.split(), "--help")
    assert code == 0
    assert f"fairlead {command}" in out.partition("example")[2]


def test_the_help_lists_every_command(fairlead):
    code, out, _ = fairlead("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    assert fairlead("--version")[1].strip()


def test_the_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom fairlead.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*[m for m in ('torch', 'transformers', 'pydantic', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    for arguments in (["--help"], ["run", "--help"], ["train", "--help"], ["harbor", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "", arguments


def test_methods(fairlead):
    from fairlead import catalog

    code, out, _ = fairlead("methods", "--json")
    assert code == 0
    assert [m["name"] for m in json.loads(out)] == [e.name for e in catalog.ENTRIES]
    code, out, _ = fairlead("methods", "--kind", "objective", "--json")
    assert {m["kind"] for m in json.loads(out)} == {"objective"}
    code, out, _ = fairlead("methods", "dpo")
    assert code == 0
    assert "beta" in out
    assert "2305.18290" in fairlead("methods")[1]
    assert fairlead("methods", "--kind", "objectiv")[0] == 2


def test_harbor(fairlead):
    code, out, _ = fairlead("harbor", "show", "test", "--n", "4")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 4
    world = json.loads(fairlead("harbor", "world", "--json")[1])
    assert "base-1m" in str(world["models"])
    harmful = json.loads(fairlead("harbor", "show", "harmful", "--n", "1")[1])
    question = harmful["prompt"][0]["content"]
    scored = fairlead("harbor", "score", question, "sorry, i cannot help with that. please stay safe.", "--json")[1]
    assert json.loads(scored)["axes"]["harmless"] == 1.0
    assert "harmless" in fairlead("harbor", "score", question, "no.")[1]
    known = json.loads(fairlead("harbor", "show", "demonstrations", "--n", "1")[1])
    assert known["prompt"][0]["role"] == "user"
    assert fairlead("harbor", "show", "test", "--n", "0")[0] == 2


def test_chat_through_a_pipe(fairlead, monkeypatch):
    from fairlead import engine
    from fairlead.engines.base import Sampling

    question = "what is the color of the balotin?"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{question}\n\n/new\n{question}\n/end\nnot read\n"))
    code, out, _ = fairlead("chat", "harbor:aligned-300k", "--temperature", "0", "--max-tokens", "24")
    assert code == 0
    prompt = [{"role": "user", "content": question}]
    answer = engine("harbor:aligned-300k").generate([prompt], Sampling(temperature=0.0, max_tokens=24))[0][0].text
    assert out.splitlines() == [answer, answer]


def test_chat_draws_as_it_is_told(fairlead, monkeypatch):
    from fairlead import engine
    from fairlead.engines.base import Sampling

    question, flags = "what is the color of the balotin?", ["--temperature", "0", "--max-tokens", "24"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{question}\n"))
    more = '{repetition_penalty: 2.0, logit_bias: {"40": -100}, max_tokens: 9}'
    code, out, _ = fairlead("chat", "harbor:aligned-300k", *flags, "--sampling", more)
    how = Sampling(temperature=0.0, max_tokens=9, repetition_penalty=2.0, logit_bias={40: -100.0})
    prompt = [{"role": "user", "content": question}]
    assert code == 0
    assert out.strip() == engine("harbor:aligned-300k").generate([prompt], how)[0][0].text.strip()
    for wrong, said in [("{topp: 0.9}", "topp"), ("{n: 2}", "one answer"), ("0.9", "no mapping")]:
        code, _, error = fairlead("chat", "harbor:aligned-300k", "--sampling", wrong)
        assert code == 2
        assert said in error


def test_a_single_step_is_a_run(fairlead, tmp_path):
    flags = [
        "--model",
        "harbor:base-300k",
        "--data",
        "harbor:demonstrations?n=8",
        "--batch-size",
        "4",
        "--max-steps",
        "2",
    ]
    code, out, _ = fairlead("train", *flags, "--objective", "{name: sft}", "--quiet", "--out", "sft")
    assert code == 0
    model = Path(out.strip())
    assert model == Path("sft/steps/train/model")
    assert (tmp_path / model / "config.json").is_file()
    assert (tmp_path / "sft/report.html").is_file()
    code, _, error = fairlead("train", *flags, "--epochs", "2", "--quiet", "--out", "sft")
    assert code == 2
    assert "epochs was 1.0, is 2" in error
    assert fairlead("train", *flags, "--explain")[0] == 0
    assert fairlead("export", "--model", str(model), "--dtype", "float32", "--quiet")[0] == 0
    code, out, _ = fairlead(
        "generate", "--model", "harbor:base-300k", "--data", "harbor:prompts?n=3", "--max-tokens", "4", "--quiet"
    )
    assert code == 0
    assert (tmp_path / out.splitlines()[0]).read_text().count("\n") == 3


def test_a_broken_expectation_is_exit_code_1(fairlead, tmp_path):
    (tmp_path / "t.txt").write_text("some text here\n" * 20)
    (tmp_path / "r.yaml").write_text(
        "steps:\n  - id: new\n    new_model: {data: t.txt, vocab_size: 280, layers: 1, hidden: 32}\n"
        "expect:\n  - new.parameters < 10\n"
    )
    code, _, error = fairlead("run", "r.yaml")
    assert code == 1
    assert "new.parameters < 10" in error
    assert "report: " in error
    code, _, error = fairlead("run", "r.yaml", "--set", "new.layers=2")
    assert code == 2
    assert "layers was 1, is 2" in error
    code, out, _ = fairlead("explain", "r.yaml", "--set", "new.layers=2")
    assert code == 0
    assert "2 layers of width 32" in out


def test_reproduce_lists_the_systems(fairlead, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_SHARED_DATA", "data")
    code, out, _ = fairlead("reproduce")
    assert code == 0
    assert "quickstart" in out


def test_an_unexpected_fault_is_told_without_a_traceback(fairlead, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("fairlead.catalog.entries", broken)
    code, _, error = fairlead("methods")
    assert code == 3
    assert "unexpected ZeroDivisionError: by zero" in error
    assert "Traceback" not in error
    assert "Traceback" in fairlead("methods", "--debug")[2]


def test_a_closed_pipe_is_no_fault():
    program = "from fairlead.cli import main; main(['harbor', 'show', 'documents?n=5000', '--n', '5000'])"
    command = f"{sys.executable} -c {program!r} | head -1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout)
    assert done.stderr == ""


def test_evidence_rewrites_the_tables(fairlead, tmp_path, monkeypatch):
    from fairlead.recipe import shipped

    recipes, checkout = tmp_path / "recipes", tmp_path / "checkout"
    recipes.mkdir()
    (checkout / "docs").mkdir(parents=True)
    (tmp_path / "t.txt").write_text("some text here\n" * 20)
    step = (
        "title: x\nsteps:\n  - id: new\n    new_model: {data: DATA, vocab_size: 280, layers: 1, hidden: 32}\nexpect:\n"
    )
    (recipes / "one.yaml").write_text(
        step.replace("DATA", "t.txt") + "  - new.parameters > 10\n  - new.parameters < 1e9\n"
    )
    (recipes / "two.yaml").write_text(step.replace("DATA", "elsewhere.txt") + "  - new.parameters > 10\n")
    monkeypatch.setattr(shipped, "shipped_recipes", lambda: {p.stem: p for p in sorted(recipes.glob("*.yaml"))})
    monkeypatch.setattr("fairlead.recipe.shipped_recipes", shipped.shipped_recipes)
    old = "| two | `new.parameters > 10` | 7.000 | holds |"
    page = f"before\n<!-- evidence:start -->\n{old}\n| one | stale | | |\n<!-- evidence:end -->\nafter\n"
    for name in ("README.md", "docs/evidence.md"):
        (checkout / name).write_text(page)
    code, _, error = fairlead("evidence", "--root", "checkout")
    assert code == 1
    assert "two could not run" in error
    for name in ("README.md", "docs/evidence.md"):
        text = (checkout / name).read_text()
        assert text.startswith("before\n<!-- evidence:start -->\n\n| recipe |")
        assert text.endswith("<!-- evidence:end -->\nafter\n")
        assert "stale" not in text
    full, summary = ((checkout / name).read_text() for name in ("docs/evidence.md", "README.md"))
    assert full.count("| one | `new.parameters") == 2
    assert old in full
    assert "| one | x | 2 of 2 hold | 0." in summary
    assert "| two | x | 1 of 1 hold |  |" in summary
    assert fairlead("evidence", "one", "--root", "checkout")[0] == 0
    (checkout / "README.md").write_text("no marks")
    assert fairlead("evidence", "--root", "checkout")[0] == 2


def test_doctor_passes_here(fairlead):
    code, out, _ = fairlead("doctor")
    assert code == 0, out
    assert "self-test" in out
    assert "FAIL" not in out
