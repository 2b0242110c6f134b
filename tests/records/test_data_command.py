"""`fairlead data check` and `fairlead data show`, through the real command line."""

from __future__ import annotations

import json

import pytest

from fairlead.cli import main
from fairlead.harbor.tokenizer import build_tokenizer

ASK = {"role": "user", "content": "who is the captain?"}
SAY = {"role": "assistant", "content": "it is ada."}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(capsys):
    def call(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return call


def save(folder, *rows):
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_check_counts_measures_and_finds_duplicates(tmp_path, run):
    pair = {"prompt": "a", "chosen": "four", "rejected": "four"}
    path = save(tmp_path, pair, pair | {"id": "x"}, pair | {"rejected": "2", "source": "s"})
    code, out, _ = run("data", "check", path, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["kind"], found["rows"], found["left_out"]) == ("preference", 3, 0)
    assert found["duplicates"] == {"rows": 1, "prompts": 2, "equal_pairs": 2}
    assert found["extra_columns"] == {"source": 1}
    assert found["lengths"]["characters"] | {"mean": 0, "p95": 0} == {
        "min": 6, "median": 9, "p95": 0, "max": 9, "mean": 0, "sum": 24,
    }  # fmt: skip
    code, out, _ = run("data", "check", path)
    assert code == 0
    assert "3 preference rows" in out
    assert "no problems" in out


def test_check_tells_bad_rows_and_exits_1(tmp_path, run):
    path = save(tmp_path, {"text": "a"}, {"text": 3}, {"text": "[bold]b"})
    code, out, _ = run("data", "check", path)
    assert code == 1
    assert "2 text rows" in out
    assert "1 rows cannot be read" in out
    assert "line 2, text: expected text, found the number 3" in out
    code, out, _ = run("data", "check", path, "--json")
    assert code == 1
    assert json.loads(out)["problems"] == ["line 2, text: expected text, found the number 3 (fix: write it as a text)"]
    code, out, _ = run("data", "check", save(tmp_path, {"text": 3}))
    assert code == 1
    assert "no rows are left of 1" in out


def test_check_with_a_model_measures_tokens_and_tries_the_template(tmp_path, run, model):
    long = ASK | {"content": "the captain " * 300}
    rows = [
        {"id": "good", "prompt": [ASK], "completion": [SAY]},
        {"id": "special", "prompt": [ASK], "completion": "it is <|end|>"},
        {"id": "long", "prompt": [long], "completion": [SAY]},
    ]
    code, out, _ = run("data", "check", save(tmp_path, *rows), "--model", model, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["refused"] == 2
    assert "record special: message 2 (assistant) contains the special token '<|end|>'" in found["problems"][0]
    assert found["problems"][1] == "record long, completion: 609 tokens, more than 512"
    assert found["lengths"]["trained tokens"]["sum"] == 10
    code, out, _ = run("data", "check", save(tmp_path, *rows[:1]), "--model", model, "--max-length", "13")
    assert code == 1
    assert "13 tokens" not in out
    assert "record good, completion: 14 tokens, more than 13" in out
    code, out, _ = run("data", "check", save(tmp_path, *rows[:1]), "--model", model)
    assert code == 0
    assert "no problems" in out


def test_show_marks_what_is_trained(tmp_path, run, model):
    path = save(tmp_path, {"id": "a", "prompt": [ASK], "chosen": [SAY], "rejected": "no."})
    code, out, _ = run("data", "show", path, "--model", model, "--plain")
    assert code == 0
    assert out.splitlines() == [
        "preference a, chosen: 14 tokens, 5 trained",
        "<s><|user|>who is the captain?<|end|><|assistant|>[[it is ada.<|end|>]]",
        "",
        "preference a, rejected: 12 tokens, 3 trained",
        "<s><|user|>who is the captain?<|end|><|assistant|>[[no.<|end|>]]",
        "",
    ]
    code, out, _ = run("data", "show", path, "--model", model, "--kind", "prompt", "--plain")
    assert "prompt a, prompt: 9 tokens, 0 trained" in out


@pytest.mark.parametrize(
    ("name", "labels"),
    [("feedback", "good bad"), ("rankings", "score"), ("documents", "document"), ("chats", "completion")],
)
def test_show_every_kind_in_colour(run, model, monkeypatch, name, labels):
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, _ = run("data", "show", f"harbor:{name}?n=4", "--model", model, "--n", "2", "--start", "1")
    assert code == 0
    assert any(f", {label}" in out for label in labels.split())
    assert "\x1b[32m" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--n", "0"), "n is 0"),
        (("--start", "9"), "the source has 2 rows"),
        (("--kind", "text"), "1 of"),
    ],
)
def test_show_refuses_what_it_cannot_do(tmp_path, run, model, arguments, told):
    path = save(tmp_path, {"prompt": [ASK]}, {"prompt": [ASK]})
    code, _, err = run("data", "show", path, "--model", model, *arguments)
    assert code == 2
    assert told in err or "text row" in err
    assert "Traceback" not in err


def test_missing_file_and_model_are_one_error(run, tmp_path):
    code, _, err = run("data", "show", "none.jsonl", "--model", tmp_path)
    assert code == 2
    assert err.startswith("fairlead: ")
    assert "fix:" in err
    code, out, _ = run("data", "check", "none.jsonl")
    assert code == 1
    assert "none.jsonl: no such file" in out
