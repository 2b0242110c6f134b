"""`fairlead data enough`: text, JSON, the figure, exit codes, errors with their place."""

from __future__ import annotations

import json

import pytest

from fairlead.cli import main

SIZES, SCORES = (0, 100, 200, 400, 700, 1200, 2000), (50, 58.2, 61.9, 66.5, 68.4, 69.2, 69.3)


@pytest.fixture
def fairlead(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = [f"{n},{y},1" for n, y in zip(SIZES, SCORES)]
    (tmp_path / "scores.csv").write_text("\n".join(["n,y,w", *lines]))

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["data", "enough", *arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


def test_what_is_enough_in_words(fairlead, tmp_path):
    code, out, _ = fairlead("scores.csv", "--share", "0.9", "--at", "4000", "--gain", "1", "--figure", "curve.svg")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("plateau: ")
    assert any(line.startswith("enough, 90% of the way: 458 (") for line in lines)
    assert any(line.startswith("at 4000 records: 69.14 (") for line in lines)
    assert any("1,000 further records bring less than 1 from 906 records on" in line for line in lines)
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")


def test_json_from_other_columns(fairlead, tmp_path):
    rows = [{"records": n, "reward": y, "count": 2} for n, y in zip(SIZES, SCORES)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out, _ = fairlead("rows.jsonl", "--size", "records", "--score", "reward", "--weight", "count", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["verdict"] == "plateau"
    assert found["rate"]["value"] == pytest.approx(0.00502732, abs=1e-7)
    assert found["enough"]["low"] < found["enough"]["value"] < found["enough"]["high"]


def test_no_plateau_is_exit_code_1_and_names_no_ceiling(fairlead, tmp_path):
    (tmp_path / "line.csv").write_text("\n".join(["n,y", *(f"{n},{3 * n}" for n in SIZES)]))
    code, out, _ = fairlead("line.csv")
    assert code == 1
    assert out.startswith("not identifiable: ")
    assert "ceiling" not in out
    assert json.loads(fairlead("line.csv", "--json")[1]).keys().isdisjoint({"ceiling", "enough"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("scores.csv", "--score", "z"), "column 'z'"),
        (("absent.csv",), "no such file"),
        (("scores.csv", "--share", "1"), "share is 1"),
        (("scores.csv", "--gain", "0"), "gain is 0"),
        (("scores.csv", "--at", "-1"), "at is -1"),
    ],
)
def test_errors_name_the_place(fairlead, arguments, said):
    code, _, err = fairlead(*arguments)
    assert code == 2
    assert said in err
