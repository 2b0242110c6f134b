"""`fairlead theory win-rate`: the table, JSON, figure, and what is refused."""

from __future__ import annotations

import json

import pytest

from fairlead.cli import main


@pytest.fixture
def fairlead(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["theory", "win-rate", *arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


def test_a_table(fairlead, tmp_path):
    code, out, _ = fairlead("--transform", "identity", "--transform", "exp", "--figure", "figures/rates.svg")
    assert code == 0
    assert "best of 4" in out
    assert "0.8715" in out
    assert (tmp_path / "figures" / "rates.svg").read_text().startswith("<svg")


def test_json(fairlead):
    (row,) = json.loads(fairlead("--kl", "1", "--n", "2", "--transform", "exp", "--sharpness", "5", "--json")[1])
    assert row["kl"] == pytest.approx(1, abs=1e-5)
    assert 0.5 < row["worst"] < row["best"] < 1
    assert row["beta_normalised"] == pytest.approx(row["beta"] / 147.413, rel=1e-4)


def test_what_is_refused(fairlead):
    code, _, err = fairlead("--transform", "expo")
    assert code == 2
    assert "exp" in err
    assert fairlead("--kl", "-1")[0] == 2
