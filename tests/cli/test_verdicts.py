"""`fairlead verdicts`: the table, JSON, the report's folder, errors."""

from __future__ import annotations

import json

import pytest

from fairlead.cli import main
from fairlead.evaluation.base import Report


@pytest.fixture
def fairlead(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["verdicts", *arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


@pytest.fixture
def annotations(tmp_path):
    rows = [
        {"index": i, "generator_1": "old", "generator_2": model, "output_1": "a" * 50, "output_2": "b" * (20 + 9 * i),
         "preference": 1 + (i % 3 != 0 if model == "good" else i % 3 == 0), "annotator": "gpt"}
        for model in ("good", "bad[x]") for i in range(12)
    ]  # fmt: skip
    rows[0]["preference"] = None
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    return str(path)


def test_the_table(fairlead, annotations):
    code, out, _ = fairlead(annotations, "--resamples", "20")
    assert code == 0
    lines = out.splitlines()
    heading = next(line for line in lines if "wins, %" in line)
    assert "at equal lengths" in heading
    assert "Elo" in heading
    first, second = (next(i for i, line in enumerate(lines) if line.startswith(f" {m}")) for m in ("good", "bad[x]"))
    assert first < second
    assert lines[first].split()[-1] == "11"
    assert "judge gpt" in out
    assert "note: good: 1 of 12 verdicts are missing" in out


def test_json_and_folder_agree(fairlead, annotations, tmp_path):
    code, out, _ = fairlead(annotations, "--resamples", "20", "--json", "--out", "board")
    assert code == 0
    found = json.loads(out)
    report = Report.load(tmp_path / "board", "verdicts")
    assert found["notes"] == report.notes
    assert found["summary"]["good"]["rate"]["value"] == report.summary["good"]["rate"].value
    assert len(report.rows) == 24
    assert (tmp_path / "board" / "verdicts-leaderboard.svg").exists()


def test_a_report_of_its_own_can_be_summarised(fairlead, annotations):
    fairlead(annotations, "--resamples", "5", "--out", "board")
    code, out, _ = fairlead("board/verdicts.parquet", "--resamples", "5", "--json")
    assert code == 0
    assert json.loads(out)["summary"]["good"]["rate"]["n"] == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "FILES requires an argument"),
        (["absent.json"], "no such file"),
        (["annotations.json", "--resamples", "-1"], "resamples is -1"),
        (["annotations.json", "--confidence", "2"], "confidence is 2"),
        (["annotations.json", "--c", "0"], "c is 0"),
        (["annotations.json", "--reference", "absent.csv"], "cannot be read"),
    ],
)
def test_errors(fairlead, annotations, arguments, message):
    code, _, err = fairlead(*arguments)
    assert code == 2
    assert message in err
    assert "fix:" in err


def test_people_beside_the_judge(fairlead, annotations, tmp_path):
    rows = json.loads((tmp_path / "annotations.json").read_text())
    people = [row | {"annotator": name, "preference": row["preference"] or 1} for row in rows for name in ("p", "q")]
    (tmp_path / "people.jsonl").write_text("\n".join(map(json.dumps, people)))
    code, out, _ = fairlead(annotations, "--people", "people.jsonl", "--resamples", "5")
    assert code == 0
    assert "with people" in out
    assert "24 of 24 pairs were judged by people" in out


def test_alpaca_eval(fairlead, shared_data):
    folder = shared_data / "alpaca_eval"
    reference = ("--reference", str(folder / "lc_reference.csv"))
    code, out, _ = fairlead(str(folder / "preferences.jsonl.gz"), *reference, "--resamples", "20", "--json")
    assert code == 0
    assert json.loads(out)["summary"]["claude"]["length_controlled"]["value"] == pytest.approx(0.27244, abs=1e-5)
    code, out, _ = fairlead(
        str(folder / "preferences.jsonl.gz"), *reference, "--c", "2.7826", "--resamples", "0", "--json"
    )
    assert code == 0
    assert json.loads(out)["summary"]["claude"]["length_controlled"]["value"] == pytest.approx(0.27290, abs=1e-5)
