"""Makes `sample_run` importable and writes one finished run for all tests of this folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """A finished run that no test may change."""
    from sample_run import write_run

    return write_run(tmp_path_factory.mktemp("runs") / "sample")


@pytest.fixture
def run_folder(finished_run, tmp_path) -> Path:
    """A finished run to break; of its curves only the loss is left, since drawing takes the time."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    for path in folder.glob("steps/*/metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({"step": line["step"], "loss": line["loss"]}) + "\n" for line in lines))
    return folder
