"""`fairlead theory`: tables, JSON, figures, exit codes, errors with their place."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fairlead.cli import main
from fairlead.theory.populations import simulate

PROBLEM = ("--p", "0.5,0.25,0.15,0.1", "--r", "0,1,2,3")


@pytest.fixture
def fairlead(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["theory", *arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def rankings() -> list[dict]:
    rewards = np.random.default_rng(0).choice(4, p=(0.5, 0.25, 0.15, 0.1), size=(30, 64))
    return [{"id": str(i), "prompt": f"p{i}", "scores": row.tolist()} for i, row in enumerate(rewards.astype(float))]


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


def test_a_tilt(fairlead, tmp_path):
    code, out, _ = fairlead("tilt", *PROBLEM, "--kl", "0.5", "--figure", "figures/frontier.svg")
    assert code == 0
    assert "0.88879" in out
    assert "0.41896" in out
    assert (tmp_path / "figures" / "frontier.svg").read_text().startswith("<svg")
    found = json.loads(fairlead("tilt", *PROBLEM, "--beta", "1", "--json")[1])
    assert (found["reward"], found["kl"]) == (pytest.approx(2.0765704), pytest.approx(0.6187737))
    assert found["phi"][3] == pytest.approx(0.467488, abs=1e-6)
    best = json.loads(fairlead("tilt", *PROBLEM, "--kl", "3", "--json")[1])
    assert (best["alpha"], best["phi"]) == (None, [0, 0, 0, 1])


def test_the_best_of_n(fairlead):
    code, out, _ = fairlead("best-of-n", *PROBLEM, "--n", "2,4,64")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line.strip() and line.split()[0].isdigit()] == [
        "2",
        "4",
        "64",
    ]
    assert "0.94222" in out
    (ties,) = json.loads(fairlead("best-of-n", "--p", "0.3,0.3,0.2,0.2", "--r", "0,1,1,2", "--n", "3", "--json")[1])
    assert ties["kl"] == pytest.approx(0.3555078, abs=1e-7)
    assert ties["phi"] == pytest.approx([0.027, 0.291, 0.194, 0.488])
    (inverse,) = json.loads(fairlead("best-of-n", *PROBLEM, "--kl", str(ties["kl"]), "--json")[1])
    assert inverse["kl"] == pytest.approx(ties["kl"])
    assert inverse["n"] > 1


def test_rates_and_long_answers(fairlead):
    law = ("--p", "0.7,0.3", "--q", "0.4,0.6", "--kl", "0.1")
    code, out, _ = fairlead("rate", *law, "--at=-0.8,-0.7", "--symbols", "10,50", "--figure", "rate.svg")
    assert code == 0
    assert "0.10679" in out
    assert "-0.74901" in out
    found = json.loads(fairlead("rate", *law, "--at=-0.6,-2", "--symbols", "1000", "--json")[1])
    assert found["rates"][0]["rate"] == pytest.approx(0.1503613, abs=1e-7)
    assert found["rates"][1]["rate"] is None
    assert found["blocks"][0]["kl_to_tilt"] == pytest.approx(0.0019894, abs=1e-7)


def test_what_samples_foretell(fairlead, tmp_path, rankings):
    write(tmp_path / "r.jsonl", [*rankings, {"id": "x", "prompt": "x", "scores": [None] * 64}])
    code, out, _ = fairlead("samples", "r.jsonl", "--at", "4", "--figure", "f.svg")
    assert code == 0
    assert "30 prompts, 64 rewards each" in out
    assert "note: rows left out, for the reward abstained on an answer: 1" in out
    assert "best of N" in (tmp_path / "f.svg").read_text()
    found = json.loads(fairlead("samples", "r.jsonl", "--json")[1])
    assert [row["n"] for row in found["best_of"]] == [1, 2, 4, 8, 16]
    four = found["best_of"][2]
    assert four["reward"]["low"] < 1.9649938 < four["reward"]["high"]
    assert four["kl"]["low"] < 0.5764190 < four["kl"]["high"]
    assert four["bound"] == pytest.approx(0.6362944)
    assert four["error"] < 0.1


def test_rows_of_unequal_length(fairlead, tmp_path, rankings):
    shorter = [row | {"scores": row["scores"][: 60 + i % 5]} for i, row in enumerate(rankings)]
    write(tmp_path / "r.jsonl", shorter)
    assert "rows have 60 to 64 rewards: the first 60 of each are used" in fairlead("samples", "r.jsonl")[1]


def test_the_trilemma(fairlead, tmp_path):
    settings = ("--epsilon", "0.01", "--delta", "0.001", "--context", "50")
    code, out, _ = fairlead("trilemma", *settings, "--groups", "180", "--confidence", "0.999", "--figure", "a.svg")
    assert code == 0
    assert "53.322" in out
    assert "11,514,600" in out
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    for drawn, said in (("poisoning", "replaced"), ("cost", "budget")):
        assert fairlead("trilemma", *settings, "--figure", f"{drawn}.svg", "--draw", drawn)[0] == 0
        assert said in (tmp_path / f"{drawn}.svg").read_text()
    found = json.loads(fairlead("trilemma", "--majority", "0.525,0.6,0.4", "--json")[1])
    assert found["majorities"][0]["turned_by_replacing"] == pytest.approx(0.0476190, abs=1e-7)
    assert found["majorities"][1]["given"] == pytest.approx(0.9829541, abs=1e-7)
    assert found["majorities"][2]["beta_of_99%"] is None


@pytest.fixture
def ratings(tmp_path):
    labels = simulate({"a": 0.9, "b": 0.4}, {"a": 80, "b": 20}, labels=10, seed=0)
    rows = zip(labels.values, labels.groups, labels.people, strict=True)
    lines = [f"{value},{group},{person},{1 + len(person) % 2}" for value, group, person in rows]
    (tmp_path / "ratings.csv").write_text("\n".join(["value,group,annotator,w", *lines]))


@pytest.mark.usefixtures("ratings")
def test_an_audit(fairlead, tmp_path):
    people, tried = ("--population", "{a: 0.5, b: 0.5}"), ("--failures", "3", "--trials", "200", "--delta", "0.05")
    code, out, _ = fairlead("audit", "ratings.csv", *people, *tried, "--context", "80", "--figure", "gaps.svg")
    assert code == 1
    assert "representative: not met" in out
    assert "robust: met" in out
    assert "affordable: not met" in out
    assert "would help (affordable): merge contexts: bits 80 ->" in out
    assert (tmp_path / "gaps.svg").read_text().startswith("<svg")


@pytest.mark.usefixtures("ratings")
def test_an_audit_as_json(fairlead):
    code, out, _ = fairlead("audit", "ratings.csv", "--epsilon", "0.7", "--weight", "w", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["verdicts"] == {"representative": "met"}
    assert list(found["representation"]["groups"]) == ["b", "a"]
    assert found["representation"]["epsilon_worst"]["value"] == pytest.approx(0.4, abs=0.1)
    assert found["robustness"] is None


def test_groups_that_cross(fairlead, tmp_path):
    rows = [
        {"value": i % 2, "sex": "mf"[i % 2], "age": "old" if i < 20 else "young", "annotator": f"p{i}"}
        for i in range(40)
    ]
    write(tmp_path / "r.jsonl", rows)
    found = json.loads(fairlead("audit", "r.jsonl", "--group", "sex,age", "--json")[1])
    assert set(found["representation"]["groups"]) == {"m x old", "m x young", "f x old", "f x young"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tilt", "--p", "0.5,0.4", "--r", "0,1", "--kl", "1"), "p sums to 0.9"),
        (("tilt", "--p", "0.5,x", "--r", "0,1", "--kl", "1"), "'x' is no number"),
        (("tilt", "--p", "0.5,0.5", "--r", "0,nan", "--kl", "1"), "r[1] is nan"),
        (("tilt", "--p", "0.5,0.5", "--kl", "1"), "give --r or --q"),
        (("tilt", *PROBLEM), "--alpha, --beta or --kl, one of them"),
        (("tilt", *PROBLEM, "--kl", "-1"), "a KL of -1"),
        (("tilt", *PROBLEM, "--beta", "0"), "--beta is 0"),
        (("best-of-n", *PROBLEM, "--n", "0.5"), "the best of 0.5 draws"),
        (("best-of-n", *PROBLEM, "--n", "2", "--kl", "1"), "give --n or --kl"),
        (("best-of-n", *PROBLEM, "--kl", "9"), "no N has a KL of 9"),
        (("best-of-n", *PROBLEM, "--n", "1", "--figure", "f.svg"), "nothing to draw"),
        (("rate", *PROBLEM, "--kl", "9"), "only the best answers are left"),
        (("rate", *PROBLEM, "--kl", "0.1", "--symbols", "1.5"), "--symbols is 1.5"),
        (("samples", "absent.jsonl"), "no such file"),
        (("trilemma", "--epsilon", "0"), "epsilon is 0"),
        (("trilemma", "--majority", "1.5"), "majority is not between 0 and 1"),
        (("audit", "absent.csv"), "no such file"),
    ],
)
def test_errors_name_the_place(fairlead, arguments, said):
    code, _, err = fairlead(*arguments)
    assert code == 2
    assert said in err
    assert "fix: " in err


@pytest.mark.parametrize(
    ("row", "arguments", "said"),
    [
        ({"scores": [1.0] * 49}, (), "49 rewards for one prompt"),
        ({"scores": [1.0, "x"] * 30}, (), "no finite number"),
        ({"rewards": [1.0] * 64}, (), "column 'scores'; the columns are rewards"),
        ({"scores": [1.0] * 64}, ("--at", "17"), "--at has 17"),
        ({"scores": [None] * 64}, (), "no row has all its rewards"),
    ],
)
def test_samples_that_do_not_do(fairlead, tmp_path, row, arguments, said):
    write(tmp_path / "r.jsonl", [row])
    code, _, err = fairlead("samples", "r.jsonl", *arguments)
    assert code == 2
    assert said in err
    assert "r.jsonl" in err or "--at" in err


@pytest.mark.parametrize(
    ("row", "arguments", "said"),
    [
        ({"value": 2, "group": "a", "annotator": "x"}, (), "record 1: a value of 2 is not in [0, 1]"),
        ({"value": "good", "group": "a", "annotator": "x"}, (), "'good', and no number"),
        ({"value": 1, "annotator": "x"}, (), "nothing in column 'group'"),
        ({"value": 1, "group": "a", "annotator": "x"}, ("--population", "3"), "--population is '3'"),
        ({"value": 1, "group": "a", "annotator": "x"}, ("--population", "{b: 1}"), "'a'"),
        ({"value": 1, "group": "a", "annotator": "x"}, ("--trials", "5"), "go together"),
    ],
)
def test_ratings_that_do_not_do(fairlead, tmp_path, row, arguments, said):
    write(tmp_path / "r.jsonl", [row])
    code, _, err = fairlead("audit", "r.jsonl", *arguments)
    assert code == 2
    assert said in err


def circle() -> list[dict]:
    pairs = [("x", "y"), ("y", "z"), ("z", "x")]
    return [{"first": a, "second": b, "label": "b" if k == 2 else "a"} for k in range(3) for a, b in pairs]


def test_a_circle_is_exit_code_1(fairlead, tmp_path):
    write(tmp_path / "c.jsonl", circle())
    code, out, _ = fairlead("one-reward", "c.jsonl")
    assert code == 1
    assert "circle: x, y, z" in out
    assert "0.0566 nats" in out


def test_an_order_and_a_mixture(fairlead, tmp_path):
    order = [{"first": "x", "second": "y", "label": 1 - (i % 4 == 0), "worker": f"w{i % 2}"} for i in range(80)]
    write(tmp_path / "c.jsonl", order)
    code, out, _ = fairlead("one-reward", "c.jsonl", "--annotator", "worker")
    assert code == 0
    assert "no circle" in out
    assert "2 rewards instead of one:" in out
    found = json.loads(fairlead("one-reward", "c.jsonl", "--annotator", "worker", "--json")[1])
    assert sum(found["mixture"]["shares"]) == pytest.approx(1)
    assert found["divergence"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"first": "x", "second": "y", "label": "maybe"}, "the verdict 'maybe'"),
        ({"first": "x", "label": "a"}, "nothing in column 'second'"),
        ({"first": "x", "second": "x", "label": "a"}, "'x' plays itself"),
    ],
)
def test_comparisons_that_do_not_do(fairlead, tmp_path, row, said):
    write(tmp_path / "c.jsonl", [row])
    code, _, err = fairlead("one-reward", "c.jsonl")
    assert code == 2
    assert said in err
