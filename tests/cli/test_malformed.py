"""Malformed inputs through the real command line: one clear error with its place, exit code not 0, no traceback."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead import models
from fairlead.cli import main

MODEL = "harbor:base-300k"
ASK = {"role": "user", "content": "what is the color of the balotin?"}
SAY = {"role": "assistant", "content": "it is red."}
GOOD = {"prompt": [ASK], "completion": [SAY]}

Case = tuple[list[str], list[str]]
"""Arguments, and what the error must contain."""


def lines(*rows: object) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def data(name: str, content: bytes, *expected: str, extra: tuple[str, ...] = ()) -> Callable[[Path], Case]:
    """Train on a file with this content."""

    def build(folder: Path) -> Case:
        (folder / name).write_bytes(content)
        return ["train", "--model", MODEL, "--data", str(folder / name), *extra], [name, *expected]

    return build


def recipe(text: str, *expected: str) -> Callable[[Path], Case]:
    """Run a recipe with this text."""

    def build(folder: Path) -> Case:
        (folder / "r.yaml").write_text(text)
        return ["run", str(folder / "r.yaml")], ["r.yaml", *expected]

    return build


def model(change: Callable[[Path], None], *expected: str) -> Callable[[Path], Case]:
    """Train from a copy of a model that was changed."""

    def build(folder: Path) -> Case:
        shutil.copytree(models.resolve(MODEL), folder / "model")
        change(folder / "model")
        source = str(folder / "model")
        return ["train", "--model", source, "--data", "harbor:demonstrations?n=4"], [source, *expected]

    return build


def plain(*arguments: str, expect: tuple[str, ...]) -> Callable[[Path], Case]:
    return lambda folder: (list(arguments), list(expect))


def without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return change


def template(text: str | None) -> Callable[[Path], None]:
    """Give the tokenizer another chat template, or none."""

    def change(folder: Path) -> None:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config.pop("chat_template", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        if text is not None:
            (folder / "chat_template.jinja").write_text(text)

    return change


STEP = "steps:\n  - id: sft\n    train:\n      model: harbor:base-300k\n      data: harbor:demonstrations?n=4\n"
USERS_ONLY = "{{ bos_token }}{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"

CASES: dict[str, Callable[[Path], Case]] = {
    "broken JSON line": data("d.jsonl", lines(GOOD, b'{"prompt": [', GOOD), "line 2", "JSON"),
    "row is a list": data("d.jsonl", lines(GOOD, [1, 2]), "line 2", "object"),
    "wrong role order": data("d.jsonl", lines({"messages": [ASK, ASK, SAY]}), "line 1", "user, user, assistant"),
    "system in the middle": data("d.jsonl", lines({"messages": [ASK, {"role": "system", "content": "x"}]}), "line 1"),
    "unknown role": data("d.jsonl", lines({"messages": [ASK, {"role": "bot", "content": "x"}]}), "line 1", "bot"),
    "missing field": data(
        "d.jsonl", lines({"prompt": [ASK], "chosen": [SAY]}), "preference row", extra=("--kind", "preference")
    ),
    "missing content": data("d.jsonl", lines({"messages": [ASK, {"role": "assistant"}]}), "line 1", "content"),
    "empty completion": data("d.jsonl", lines(GOOD, GOOD | {"completion": []}), "line 2", "completion"),
    "empty answer": data("d.jsonl", lines(GOOD | {"completion": "", "prompt": "x"}), "line 1", "completion"),
    "content is a number": data("d.jsonl", lines({"messages": [ASK, {"role": "assistant", "content": 7}]}), "line 1"),
    "byte-order mark": data("d.jsonl", b"\xef\xbb\xbf" + lines(GOOD), "byte-order mark"),
    "line of 2 MB": data("d.jsonl", lines(GOOD, GOOD | {"note": "x" * 2_000_000}), "line 2", "bytes"),
    "key twice": data("d.jsonl", lines(b'{"prompt": "a", "prompt": "b", "completion": "c"}'), "line 1", "prompt"),
    "unknown columns": data("d.jsonl", lines({"question": "a", "answer": "b"}), "line 1", "question, answer"),
    "two kinds in one file": data("d.jsonl", lines(GOOD, {"text": "a"}), "line 2", "text row"),
    "id twice": data("d.jsonl", lines(GOOD | {"id": "a"}, GOOD | {"id": "a"}), "line 2", "'a'"),
    "not UTF-8": data("d.jsonl", lines(b'{"text": "caf\xe9"}'), "UTF-8"),
    "empty file": data("d.jsonl", b"", "no rows"),
    "unknown suffix": data("d.docx", b"x", "suffix"),
    "torn gzip": data("d.jsonl.gz", gzip.compress(lines(GOOD) * 500)[:-200], "cannot be read"),
    "not of the format": data("d.jsonl", lines(GOOD), "Human", extra=("--format", "hh")),
    "unknown format": data("d.jsonl", lines(GOOD), "unknown format 'hhh'", extra=("--format", "hhh")),
    "too long": data("d.jsonl", lines({"prompt": "a", "completion": "red " * 900}), "512"),
    "pairs wanted": data("d.jsonl", lines(GOOD), "trains on preference", extra=("--objective", "dpo")),
    "missing data file": plain(
        "train", "--model", MODEL, "--data", "no/such.jsonl", expect=("no/such.jsonl", "no such")
    ),
    "unknown Harbor set": plain(
        "train", "--model", MODEL, "--data", "harbor:demos", expect=("demos", "demonstrations")
    ),
    "unknown set parameter": plain("train", "--model", MODEL, "--data", "harbor:test?m=1", expect=("'m'", "test")),
    "missing model": plain("train", "--model", "no/such/dir", "--data", "harbor:test", expect=("no/such/dir",)),
    "unknown Harbor model": plain("chat", "harbor:base-1b", expect=("base-1b", "base-")),
    "model without tokenizer": model(without("tokenizer.json", "tokenizer_config.json"), "tokenizer"),
    "model without weights": model(without("model.safetensors"), "weights"),
    "model without config": model(without("config.json"), "config.json"),
    "no chat template": model(template(None), "template"),
    "template without assistant turn": model(template(USERS_ONLY), "template"),
    "broken template": model(template("{% for m in messages %}"), "template"),
    "unknown recipe key": recipe(STEP + "      lerning_rate: 1\n", ":6:", "did you mean 'learning_rate'"),
    "key twice in a recipe": recipe(STEP + "      model: x\n", ":6:", "given twice"),
    "broken YAML": recipe("steps: [\n", "not valid YAML"),
    "unknown reference": recipe(STEP.replace("harbor:base-300k", '"@base"'), ":4:", "unknown step 'base'"),
    "expectation of nothing": recipe(STEP + "expect: [sft.loss]\n", ":6:", "not a comparison"),
    "unknown metric": recipe(STEP + "expect: [sfd.loss < 1]\n", ":6:", "did you mean 'sft'"),
    "missing recipe": plain("run", "no/such.yaml", expect=("no/such.yaml", "no such file")),
    "unknown recipe": plain("reproduce", "quikstart", expect=("did you mean 'quickstart'",)),
    "unknown objective": plain(
        "train", "--model", MODEL, "--data", "harbor:test", "--objective", "ddpo", expect=("--objective", "'dpo'")
    ),
    "number expected": plain(
        "train", "--model", MODEL, "--data", "harbor:test", "--epochs", "many", expect=("--epochs", "number")
    ),
    "unknown flag": plain("train", "--model", MODEL, "--data", "x", "--lerning-rate", "1", expect=("lerning-rate",)),
    "flag left out": plain("train", "--model", MODEL, expect=("--data",)),
    "unknown command": plain("trian", expect=("trian",)),
    "unknown method": plain("methods", "ddpo", expect=("did you mean 'dpo'",)),
    "not a ship": plain("harbor", "ship", "titanic!", expect=("titanic!",)),
}


def check(code: int, out: str, error: str, expected: list[str]) -> None:
    assert code == 2, (code, error)
    assert "Traceback" not in error
    assert "Traceback" not in out
    assert error.count("fairlead: ") == 1, error
    assert "fix: " in error, error
    message = error[error.index("fairlead: ") :]
    for part in expected:
        assert part in message, f"{part!r} is not in: {message}"


def test_there_are_enough_of_them():
    assert len(CASES) >= 30


@pytest.mark.parametrize("name", CASES)
def test_in_process(name, tmp_path, monkeypatch, capsys):
    arguments, expected = CASES[name](tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    check(stopped.value.code, captured.out, captured.err, expected)


@pytest.mark.parametrize("name", ["broken JSON line", "unknown recipe key", "missing model"])
def test_as_a_process(name, tmp_path):
    arguments, expected = CASES[name](tmp_path)
    root = Path(__file__).resolve().parents[2]
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(root)!r}); from fairlead.cli import main; main()",
    ]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    check(done.returncode, done.stdout, done.stderr, expected)


def test_debug_shows_where(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--debug", "run", str(tmp_path / "none.yaml")])
    assert stopped.value.code == 2
    assert "Traceback" in capsys.readouterr().err
