"""Makes `sample_run` importable and writes one finished run for all tests of this folder."""

from __future__ import annotations

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
    """A finished run to break."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
