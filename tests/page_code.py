"""Runs the code of a documentation page in a process of its own, forked from one that has the imports behind it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
import types
from pathlib import Path

__all__ = ["run_code"]

PRELOADED = [
    "torch",
    "transformers.models.llama.modeling_llama",
    "fairlead.engines.local",
    "fairlead.records",
    "fairlead.recipe",
    "fairlead.training.loop",
]


def run_code(text: str, folder: Path, seconds: float = 300) -> str:
    """Run `text` as a script in `folder`; return what it wrote to standard error, "" when it ended well."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    errors = folder / "stderr.txt"
    process = context.Process(target=_script, args=(text, str(folder), str(errors)))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        return f"still running after {seconds} s"
    said = errors.read_text(encoding="utf-8") if errors.is_file() else ""
    return "" if process.exitcode == 0 else said or f"exit code {process.exitcode}"


def _script(text: str, folder: str, errors: str) -> None:
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    try:
        exec(compile(text, "page", "exec"), main.__dict__)
    except BaseException:
        Path(errors).write_text(traceback.format_exc(), encoding="utf-8")
        raise
