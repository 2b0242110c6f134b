"""The example scripts run and show what they say they show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_sft_dpo_improves_at_every_stage(tmp_path):
    small = ["--base", "harbor:base-300k", "--demonstrations", "320", "--prompts", "160", "--test", "100"]
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "sft_dpo.py", "--out", tmp_path / "run", *small],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "rewards.json").read_text(encoding="utf-8"))["summary"]
    total = {name: axes["total"]["value"] for name, axes in summary.items()}
    assert total["sft"] > total["base"] + 0.1
    assert total["dpo"] > total["sft"]
    assert summary["base"]["harmless"]["value"] < 0.5 < summary["dpo"]["harmless"]["value"]
