"""What a step depends on, as hashes: its settings and the content of everything it reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.errors import DataError, ModelError
from fairlead.recipe.plan import PlannedStep, plain_config
from fairlead.recipe.rounds import REFERENCE
from fairlead.recipe.stopping import Loop

__all__ = ["Identity", "data_fingerprint", "differences", "identify", "model_fingerprint"]

_MODEL_CONFIGS = ("config.json", "adapter_config.json")
_FILE_ENDINGS = (".jsonl", ".json", ".gz", ".parquet", ".csv", ".txt", ".arrow")


@dataclass(frozen=True)
class Identity:
    """What a step is made of."""

    fingerprint: str
    """64 hex digits over the kind, the settings and the inputs."""
    config: dict[str, Any]
    """All settings, defaults included."""
    inputs: tuple[tuple[str, str], ...]
    """(name as written, hash) of every model, file and step that it reads."""


def identify(steps: Sequence[PlannedStep], loops: Sequence[Loop] = ()) -> dict[str, Identity]:
    """Return every step's identity; a step that changes changes those that refer to it.

    What stands for the best of several rounds changes with each of them and with the rule that may end them.

    Raises:
        ModelError, DataError: an input that is not there.
    """
    found: dict[str, Identity] = {}
    for step in steps:
        found[step.id] = _identify(step, found)
        for loop in loops:
            if step.id == loop.step(loop.rounds, loop.names[-1]):
                found |= {alias: _best_of(loop, name, found) for alias, name in loop.aliases.items()}
    return found


def _best_of(loop: Loop, name: str, found: Mapping[str, Identity]) -> Identity:
    rounds = [found[loop.step(number, name)].fingerprint for number in range(1, loop.rounds + 1)]
    text = json.dumps([dataclasses.asdict(loop.stop), rounds])
    return Identity(hashlib.sha256(text.encode()).hexdigest(), {}, ())


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Say in words which settings differ."""
    said = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            said += differences(old, new, f"{prefix}{key}.")
        else:
            said.append(f"{prefix}{key} was {old!r}, is {new!r}")
    return said


def model_fingerprint(model: str) -> str:
    """Return a hash of a model's files; a server is known by its URL alone."""
    if model.startswith(("http://", "https://")):
        return hashlib.sha256(model.encode()).hexdigest()
    from fairlead import models

    folder = Path(models.resolve(model))
    if folder.is_dir() and not any((folder / name).is_file() for name in _MODEL_CONFIGS):
        fix = "give the folder that save_pretrained wrote"
        raise ModelError(f"has neither {' nor '.join(_MODEL_CONFIGS)}", place=model, fix=fix)
    return models.fingerprint(model)


def data_fingerprint(source: str) -> str:
    """Return a hash of a file's or folder's content; a `harbor:` set or hub id is known by its name."""
    if source.startswith("harbor:"):
        return hashlib.sha256(source.encode()).hexdigest()
    name, suffix = re.fullmatch(r"([^#?]*)(.*)", source, re.DOTALL).groups()  # type: ignore[union-attr]
    path = Path(name).expanduser()
    whole = hashlib.sha256(suffix.encode())
    if not path.exists():
        if name.endswith(_FILE_ENDINGS) or name.startswith(("/", ".", "~")) or name.count("/") > 1:
            raise DataError("no such file", place=name, fix="check the path; it is relative to where you are")
        return hashlib.sha256(source.encode()).hexdigest()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{file.relative_to(path)}\0{digest}\n".encode())
    return whole.hexdigest()


def _identify(step: PlannedStep, before: Mapping[str, Identity]) -> Identity:
    config = plain_config(step)
    bare = json.loads(json.dumps(config))
    for name in getattr(step.config, "immaterial", ()):
        bare.pop(name, None)
    inputs: dict[str, str] = {}
    hashes = {"model": model_fingerprint, "data": data_fingerprint, "retriever": data_fingerprint}
    for use in step.config.uses():
        if use.role in hashes and not REFERENCE.fullmatch(use.value):
            inputs[use.value] = hashes[use.role](use.value)
            _replace(bare, use.keys, f"input {inputs[use.value]}")
    for name in dict.fromkeys(_referred(config)):
        inputs[f"@{name}"] = before[name].fingerprint
    references = sorted((name, digest) for name, digest in inputs.items() if name.startswith("@"))
    text = json.dumps([step.kind, bare, references], sort_keys=True, ensure_ascii=False)
    return Identity(hashlib.sha256(text.encode()).hexdigest(), config, tuple(inputs.items()))


def _replace(value: Any, keys: tuple[str | int, ...], new: str) -> None:
    for key in keys[:-1]:
        value = value[key]
    value[keys[-1]] = new


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if match := REFERENCE.fullmatch(value):
            yield match[1]
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _referred(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _referred(inner)
