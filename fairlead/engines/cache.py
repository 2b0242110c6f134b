"""Each answer made once: an SQLite file in front of any engine.

Answers are found by engine fingerprint, prompt and sampling. Several processes may use one file at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.engines.base import Completion, Engine, FinishReason, Sampling
from fairlead.errors import EngineError, UsageError
from fairlead.messages import Prompt

__all__ = ["Cache"]

_SCHEMA = 1
_WAIT = 60.0
"""Seconds that a process waits for another one's write."""
_LATER = frozenset({"choices", "schema", "top_logprobs"})
"""Settings that a key holds only where they say something."""
_LOOKUP = 500
"""Keys asked for in one query."""


class Cache:
    """An engine that asks another one only for answers it has not seen.

    Args:
        engine: the engine that answers.
        path: the SQLite file; made, with its folder, where it is absent.
        commit_every: prompts after which new answers are written, so that a killed run keeps them.
    """

    def __init__(self, engine: Engine, path: str | Path, *, commit_every: int = 256):
        if commit_every < 1:
            raise UsageError(f"commit_every is {commit_every}", fix="use at least 1")
        self.engine, self.path, self.commit_every = engine, Path(path), commit_every
        self.hits = 0
        """Answers found since this object was made (equal prompts of one call count as found after the first)."""
        self.misses = 0
        """Answers that the engine was asked for."""
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"cannot be made: {error}", place=str(self.path.parent), fix="use another path"
            ) from error
        with self._database() as database:
            self._prepare(database)

    @property
    def remote(self) -> bool:
        """Whether the engine answers elsewhere."""
        return getattr(self.engine, "remote", False)

    @property
    def renderer(self) -> Any:
        """Return what turns messages into the engine's tokens; None where it does that elsewhere."""
        return getattr(self.engine, "renderer", None)

    @property
    def fingerprint(self) -> str:
        """Return the engine's own: a cache changes no answer."""
        return self.engine.fingerprint

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, in the order of the prompts."""
        settings = dataclasses.asdict(sampling)
        # Answers kept before these settings were known stay answers to requests without them.
        settings = {name: value for name, value in settings.items() if value or name not in _LATER}
        keys = self._keys("generate", [[_plain(prompt), settings] for prompt in prompts])
        stored = self._answer(
            keys,
            lambda places: [
                json.dumps([_to_json(c) for c in row])
                for row in self.engine.generate([prompts[k] for k in places], sampling)
            ],
        )
        return [[_from_json(c) for c in json.loads(stored[key])] for key in keys]

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Return teacher-forced log-probs, float32 [T_i] each, as the engine says them."""
        if len(prompts) != len(completions):
            raise UsageError(
                f"{len(prompts)} prompts and {len(completions)} completions", fix="give one completion per prompt"
            )
        keys = self._keys("logprobs", [[_plain(p), c] for p, c in zip(prompts, completions)])
        stored = self._answer(
            keys,
            lambda places: [
                json.dumps(row.tolist())
                for row in self.engine.logprobs([prompts[k] for k in places], [str(completions[k]) for k in places])
            ],
        )
        return [np.array(json.loads(stored[key]), dtype=np.float32) for key in keys]

    def _keys(self, kind: str, requests: list[Any]) -> list[str]:
        prefix = f"{kind}\n{self.engine.fingerprint}\n".encode()
        return [hashlib.sha256(prefix + json.dumps(r, sort_keys=True).encode()).hexdigest() for r in requests]

    def _answer(self, keys: list[str], ask: Any) -> dict[str, str]:
        """Return key -> stored answer; `ask` makes those of given places, and they are written as they come."""
        with self._database() as database:
            stored = _lookup(database, list(dict.fromkeys(keys)))
        first_place = {key: place for place, key in reversed(list(enumerate(keys)))}
        missing = sorted(place for key, place in first_place.items() if key not in stored)
        for start in range(0, len(missing), self.commit_every):
            places = missing[start : start + self.commit_every]
            answers = ask(places)
            if len(answers) != len(places):
                raise EngineError(f"the engine gave {len(answers)} answers to {len(places)} prompts")
            rows = [(keys[place], answer) for place, answer in zip(places, answers)]
            with self._database() as database, database:
                database.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
            stored.update(rows)
        with self._lock:
            self.misses += len(missing)
            self.hits += len(keys) - len(missing)
        return stored

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT)) as database:
                yield database
        except sqlite3.Error as error:
            raise EngineError(
                f"the answer cache cannot be used: {error}", place=str(self.path), fix="delete the file, or use another"
            ) from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA journal_mode=WAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA):
            raise EngineError(
                f"the answer cache has format {version}, this Fairlead writes {_SCHEMA}",
                place=str(self.path),
                fix="use another file",
            )
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID")
            database.execute(f"PRAGMA user_version={_SCHEMA}")


def _lookup(database: sqlite3.Connection, keys: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(keys), _LOOKUP):
        part = keys[start : start + _LOOKUP]
        marks = ",".join("?" * len(part))
        found.update(database.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", part).fetchall())
    return found


def _plain(prompt: Prompt) -> Any:
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]


def _to_json(completion: Completion) -> dict[str, Any]:
    return {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "logprobs": None if completion.logprobs is None else completion.logprobs.tolist(),
        "finish_reason": completion.finish_reason.value,
        "extra": _checked(completion.extra, "extra"),
    }


def _from_json(stored: dict[str, Any]) -> Completion:
    logprobs = stored["logprobs"]
    return Completion(
        text=stored["text"],
        token_ids=stored["token_ids"],
        logprobs=None if logprobs is None else np.array(logprobs, dtype=np.float32),
        finish_reason=FinishReason(stored["finish_reason"]),
        extra=stored["extra"],
    )


def _checked(value: Any, place: str) -> Any:
    """Return what JSON gives back unchanged, or refuse it."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, list):
        return [_checked(item, f"{place}[{k}]") for k, item in enumerate(value)]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: _checked(item, f"{place}.{key}") for key, item in value.items()}
    raise EngineError(
        f"{place} of a completion is a {type(value).__name__}, which a cache cannot give back unchanged",
        fix="let the engine put only None, texts, numbers, lists and dictionaries with text keys into extra",
    )
