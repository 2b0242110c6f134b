"""What a run leaves in its folder: settings, length report, rendered rows, the finished model and the result.

The result is written last; where it stands, the run is finished.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairlead import models
from fairlead.errors import TrainingError
from fairlead.fields import to_plain
from fairlead.training.card import write_card
from fairlead.training.journal import marked_rows
from fairlead.training.ranks import unsharded
from fairlead.training.run import Run
from fairlead.training.setup import Materials

__all__ = ["TrainResult", "open_folder", "save_model", "write_json"]

RESULT = "result.json"


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves."""

    model: Path
    """Folder of the finished model: plain Hugging Face files, tokenizer and a model card."""
    metrics: dict[str, float]
    """The last step's training metrics, and `evaluation_*` of the finished weights when there is held-out data."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """Wall-clock time of the process that finished it."""


def open_folder(folder: Path, materials: Materials, resume: bool, accelerator: Any) -> TrainResult | None:
    """Claim the folder for this run; return the result if it is finished."""
    owner = folder / "config.json"
    if not resume and accelerator.is_main_process:
        for name in ("checkpoints", "model"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("config.json", "metrics.jsonl", RESULT):
            (folder / name).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    if owner.is_file():
        if json.loads(owner.read_text(encoding="utf-8"))["fingerprint"] != materials.fingerprint:
            raise TrainingError(
                "holds a run with other settings, model or data",
                place=str(folder),
                fix="give another folder, or start over with resume=False",
            )
        if (folder / RESULT).is_file():
            done = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            return TrainResult(folder / "model", **done)
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "lengths.json", materials.lengths.report())
        write_json(folder / "rendered.json", marked_rows(materials.groups, materials.renderer))
        write_json(owner, {"fingerprint": materials.fingerprint, **to_plain(materials.config)})
    accelerator.wait_for_everyone()
    return None


def save_model(run: Run, folder: Path, result: TrainResult) -> None:
    """Write the finished model, then the result that says it is finished."""
    accelerator = run.accelerator
    state = accelerator.get_state_dict(run.policy)
    if accelerator.is_main_process:
        own = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        model = run.plain.model
        if accelerator.is_fsdp2:
            model = unsharded(model, own, run.materials.config)
            own = model.state_dict()
        half = result.model.with_name(".half-model")
        shutil.rmtree(half, ignore_errors=True)
        with models.quiet():
            # The base's embeddings never change under an adapter; left to itself peft asks the hub whether they did.
            options = {} if run.materials.config.adapter is None else {"save_embedding_layers": False}
            model.save_pretrained(half, state_dict=own, **options)
            run.materials.tokenizer.save_pretrained(half)
        write_card(half, run.materials, result.metrics, result.steps)
        shutil.rmtree(result.model, ignore_errors=True)
        half.rename(result.model)
        write_json(folder / RESULT, {k: v for k, v in asdict(result).items() if k != "model"})
    accelerator.wait_for_everyone()


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    half = path.with_name(f".half-{path.name}")
    half.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
    half.replace(path)
