"""Shared by all tests: one torch thread (two oversubscribe two cores), no network, the shared data folder."""

from __future__ import annotations

import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets; tests that use it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FAIRLEAD_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real data folder {folder} is absent (set FAIRLEAD_SHARED_DATA)")
    return folder
