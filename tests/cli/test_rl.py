"""`fairlead rl`: the self-test and the presets, as a user calls them."""

from __future__ import annotations

import json

import pytest

from fairlead.cli import main


def called(capsys, *arguments) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(["rl", *arguments])
    return caught.value.code, capsys.readouterr().out


def test_self_test(capsys):
    small = ("self-test", "--model", "harbor:base-300k", "--prompts", "2", "--n", "2", "--max-tokens", "12")
    code, out = called(capsys, *small, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["passed"]
    assert told["largest"] < 1e-4
    code, out = called(capsys, *small, "--draw-dtype", "bfloat16")
    assert code == 1
    assert "disagree" in out


def test_presets(capsys):
    code, out = called(capsys, "presets")
    assert code == 0
    assert "reinforce_pp" in out
    code, out = called(capsys, "presets", "grpo", "dapo")
    assert "clip_high" in out
    assert "clip_low" not in out
    code, out = called(capsys, "presets", "rloo", "--json")
    assert json.loads(out)["rloo"]["ratio"] == "sequence_sum"


def test_an_unknown_preset(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["rl", "presets", "grop"])
    assert caught.value.code == 2
    assert "grpo" in capsys.readouterr().err


def test_a_preset_among_the_methods(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["methods", "rloo"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "rloo is a preset of policy_gradient" in out
    assert "'leave_one_out'" in out
