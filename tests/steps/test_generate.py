"""The generate step: what is kept, what is counted, and that a killed step goes on to the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fairlead import read
from fairlead.engines.base import Sampling
from fairlead.errors import DataError, UsageError
from fairlead.fields import build, describe, to_plain
from fairlead.steps.base import Context
from fairlead.steps.generate import Generate, _kept

MODEL = "harbor:base-300k"


def context(folder: Path) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(folder, folder / "answers.sqlite", quiet=True)


def answered(texts, rewards, prompt="q", name="p"):
    return {"id": name, "prompt": prompt, "answers": texts, "rewards": rewards, "finish": ["stop"] * len(texts)}


def kept(rows, keep):
    counts: Counter[str] = Counter()
    return list(_kept(rows, keep, counts)), dict(counts)


ROWS = [
    answered(["a", "b", "c"], [0.1, 0.9, 0.5], name="1"),
    answered(["a", "b", "c"], [0.5, 0.5, 0.5], name="2"),
    answered(["a", " ", "c"], [0.5, 2.0, None], name="3"),
    answered(["", " ", ""], [0.5, 2.0, 1.0], name="4"),
]


def test_best_worst():
    found, counts = kept(ROWS, "best_worst")
    assert found == [
        {"id": "1", "prompt": "q", "chosen": "b", "rejected": "a", "chosen_reward": 0.9, "rejected_reward": 0.1}
    ]
    assert counts == {"with_equal_rewards": 1, "with_one_usable_answer": 1, "without_usable_answer": 1}


def test_best_ranking_and_all():
    best, counts = kept(ROWS, "best")
    assert [(row["id"], row["completion"], row["reward"]) for row in best] == [
        ("1", "b", 0.9),
        ("2", "a", 0.5),
        ("3", "a", 0.5),
    ]
    assert counts == {"without_usable_answer": 1}
    ranking, counts = kept(ROWS, "ranking")
    assert [(row["id"], row["completions"], row["scores"]) for row in ranking] == [
        ("1", ["a", "b", "c"], [0.1, 0.9, 0.5]),
    ]
    assert counts == {"with_equal_rewards": 1, "with_one_usable_answer": 1, "without_usable_answer": 1}
    every, counts = kept([answered(["a", ""], [None, None], name="1"), answered(["x"], [None], name="2")], "all")
    assert [(row["id"], row["completion"]) for row in every] == [("1-0", "a"), ("2", "x")]
    assert counts == {}


def test_answers_to_messages_are_messages():
    prompt = [{"role": "user", "content": "q"}]
    found, _ = kept([answered(["a", "b"], [1.0, 0.0], prompt=prompt)], "best_worst")
    assert found[0]["chosen"] == [{"role": "assistant", "content": "a"}]


def test_a_real_step_makes_readable_pairs(tmp_path):
    step = Generate(model=MODEL, data="harbor:prompts?n=24", n=4, max_tokens=24, reward="harbor", keep="best_worst")
    outcome = step(context(tmp_path))
    pairs = read(tmp_path / outcome.outputs["records"])
    assert pairs.kind == "preference"
    assert len(pairs) == outcome.metrics["rows"] > 0
    dropped = sum(value for name, value in outcome.metrics.items() if name.startswith("dropped_"))
    assert len(pairs) + dropped == outcome.metrics["prompts"] == 24
    assert outcome.metrics["answers"] == 96
    assert all(record.extra["chosen_reward"] > record.extra["rejected_reward"] for record in pairs)
    assert json.loads((tmp_path / "lengths.json").read_text())["answers"]["n"] == 96


def test_answers_do_not_depend_on_how_many_at_once(tmp_path):
    texts = []
    for at_once in (3, 64):
        step = Generate(model=MODEL, data="harbor:prompts?n=7", n=2, max_tokens=12, at_once=at_once)
        texts.append((tmp_path / f"{at_once}" / step(context(tmp_path / str(at_once))).outputs["records"]).read_bytes())
    assert texts[0] == texts[1]


def test_a_finished_part_is_not_repeated(tmp_path):
    step = Generate(model=MODEL, data="harbor:prompts?n=6", n=1, max_tokens=8, at_once=2)
    step(context(tmp_path))
    whole = (tmp_path / "answers.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    marked = [line.replace(b'"answers": ["', b'"answers": ["kept ', 1) for line in lines[:2]]
    (tmp_path / "answers.jsonl").write_bytes(b"".join(marked) + lines[2][:20])  # a torn third line
    step(context(tmp_path))
    assert (tmp_path / "answers.jsonl").read_bytes() == b"".join(marked) + b"".join(lines[2:])
    assert "kept " in read(tmp_path / "records.jsonl")[0].completion[0]["content"]


KILLED = """
import os, signal, sys
from pathlib import Path
from fairlead.steps import generate
from fairlead.steps.base import Context

folder, last = Path(sys.argv[1]), int(sys.argv[2])
write = generate.append_rows

def write_and_die(path, rows):
    global last
    write(path, rows)
    last -= 1
    if last == 0:
        with path.open("ab") as stream:
            stream.write(b'{"id": "torn')
        os.kill(os.getpid(), signal.SIGKILL)

generate.append_rows = write_and_die
how = dict(n=2, max_tokens=8, at_once=2, reward="harbor", keep="ranking")
place = Context(folder, folder / "c", quiet=True)
generate.Generate(model="harbor:base-300k", data="harbor:prompts?n=16", **how)(place)
"""


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path):
    step = Generate(
        model=MODEL, data="harbor:prompts?n=16", n=2, max_tokens=8, at_once=2, reward="harbor", keep="ranking"
    )
    step(context(tmp_path / "whole"))
    killed = context(tmp_path / "killed").folder
    for writes, lines in ((1, 2), (3, 8)):
        done = subprocess.run([sys.executable, "-c", KILLED, str(killed), str(writes)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert (killed / "answers.jsonl").read_bytes().count(b"\n") == lines
    assert not (killed / "records.jsonl").exists()
    step(context(killed))
    for name in ("answers.jsonl", "records.jsonl"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_nothing_left_is_an_error(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": [{"role": "user", "content": "tell me a story"}]}\n')
    step = Generate(model=MODEL, data=str(tmp_path / "p.jsonl"), n=2, max_tokens=4, reward="harbor", keep="best_worst")
    with pytest.raises(DataError, match="no row is left of 1 prompts"):
        step(context(tmp_path))


def test_every_way_of_drawing_is_a_setting_of_the_step(tmp_path):
    """With the same default, and as text in a recipe has it."""
    own = {f.name: f.default for f in describe(Generate)}
    known = {f.name: f.default for f in describe(Sampling) if f.name not in ("logprobs", "top_logprobs")}
    assert known.items() <= own.items()
    values = {
        "model": MODEL,
        "data": "harbor:prompts?n=2",
        "logit_bias": {"40": -3},
        "stop_token_ids": [41],
        "min_p": 0.2,
    }
    step = build(Generate, values, owner="generate")
    assert step.sampling == Sampling(logit_bias={40: -3.0}, stop_token_ids=(41,), min_p=0.2)
    assert build(Generate, to_plain(step), owner="generate").sampling == step.sampling


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"keep": "best"}, "without a reward"),
        ({"keep": "ranking", "reward": "harbor", "n": 1}, "too few"),
        ({"at_once": 0}, "at_once is 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_tokens": 300}, "min_tokens: is 300"),
        ({"logit_bias": {5: 1000.0}}, "logit_bias of token 5"),
    ],
)
def test_settings_that_make_no_sense(values, what):
    with pytest.raises(UsageError, match=what):
        Generate(model=MODEL, data="d", **values)


def test_rows_tell_who_answered(tmp_path):
    import fairlead
    from fairlead.engines.identity import fingerprint_of

    step = Generate(model=MODEL, data="harbor:prompts?n=3", n=2, max_tokens=8, reward="harbor")
    made = read(tmp_path / step(context(tmp_path)).outputs["records"])
    told = {record.extra["models"]["model"] for record in made}
    assert told == {fairlead.engine(MODEL).fingerprint} == {fingerprint_of(MODEL)}
