"""Drafting in rows: each seed's draft is kept under a hash of all it depends on, and a seed that fails costs no other.

A killed `synthesize` finds by these keys what is done. A seed at which an engine failed is a draft with its error; the
next call asks for it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.engines.cache import Cache
from fairlead.engines.meter import Meter, Spent
from fairlead.errors import EngineError, RenderError, RequestError, UnsupportedError
from fairlead.fields import to_plain
from fairlead.steps.answering import open_engine
from fairlead.steps.rows import read_rows, write_text
from fairlead.synthesis.base import Draft, drafts_of, name_of

if TYPE_CHECKING:
    from fairlead.engines.base import Engine
    from fairlead.records import Record
    from fairlead.steps.base import Answerer
    from fairlead.synthesis.base import Synthesizer

__all__ = ["Drafter", "draft_of", "drafts_done", "read_spent", "tell_spent", "write_spent"]

_HOPELESS = 24
"""Failures in a row that mean that an engine itself is down."""


@dataclass
class Drafter:
    """A method with its engines, which drafts seeds in any batches."""

    method: Synthesizer
    """What drafts."""
    engines: Mapping[str, Engine]
    """role -> who answers."""
    in_a_row: int = 0
    """Seeds at which an engine failed since one went well."""

    @classmethod
    def open(cls, method: Synthesizer, models: Mapping[str, Answerer], dtype: str | None, cache: Path) -> Drafter:
        """Open the engines behind a cache on disk; equal models are loaded once."""
        opened: dict[str, Engine] = {}
        engines: dict[str, Engine] = {}
        for role, model in models.items():
            name = json.dumps(model, sort_keys=True, default=repr)
            opened.setdefault(name, open_engine(model, dtype))
            engines[role] = Cache(Meter(opened[name]), cache)
        return cls(method, engines)

    @property
    def spent(self) -> dict[str, Spent]:
        """role -> what its engine was asked for, answers from the cache aside."""
        return {role: engine.engine.spent for role, engine in self.engines.items()}  # type: ignore[union-attr]

    def key(self, record: Record) -> str:
        """Return 24 hex digits of what a seed's draft depends on: the method, the engines, the seed's content."""
        from fairlead.records import to_row

        models = {role: self.engines[role].fingerprint for role in self.method.engines}
        whole = [name_of(self.method), to_plain(self.method), models, record.kind, to_row(record)]
        text = json.dumps(whole, sort_keys=True, ensure_ascii=False, default=repr)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]

    def rows(self, seeds: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """Yield a plain row per seed, in order: its draft and its key.

        Where an engine fails all seeds are drafted one by one, and each that fails is a row with the error.

        Raises:
            EngineError: engines fail at many seeds in a row.
            UnsupportedError: an engine cannot do what the method asks for.
        """
        for seed, draft in zip(seeds, self._drafts(seeds), strict=True):
            self.in_a_row = self.in_a_row + 1 if draft.failed else 0
            yield {"key": self.key(seed), **dataclasses.asdict(draft)}

    def _drafts(self, seeds: Sequence[Record]) -> Iterator[Draft]:
        if not seeds:
            return
        try:
            yield from list(drafts_of(self.method, self.engines, seeds))
            return
        except UnsupportedError:
            raise
        except (EngineError, RenderError):
            pass
        for seed in seeds:
            yield self._alone(seed)

    def _alone(self, seed: Record) -> Draft:
        try:
            return next(drafts_of(self.method, self.engines, [seed]))
        except UnsupportedError:
            raise
        except (EngineError, RenderError) as error:
            own_fault = isinstance(error, RequestError | RenderError)
            if not own_fault and self.in_a_row + 1 >= _HOPELESS:
                what = f"the engines failed at {_HOPELESS} seeds in a row; the last time: {error.what}"
                fix = error.fix or "see that they answer, and start again: what was drafted is kept"
                raise EngineError(what, place=error.place, fix=fix) from error
            what = "an engine cannot take it" if own_fault else "an engine failed"
            return Draft(seed.id, error=f"{what}: {error.what}", failed=not own_fault)


def drafts_done(path: Path) -> dict[str, dict[str, Any]]:
    """Return key -> row of every draft in a file that need not be made again; a later row replaces an earlier one."""
    rows = {row["key"]: row for row in read_rows(path) if "key" in row}
    return {key: row for key, row in rows.items() if not row["failed"]}


def draft_of(row: Mapping[str, Any]) -> Draft:
    """Return the draft of a row."""
    return Draft(**{name: value for name, value in row.items() if name != "key"})


def tell_spent(spent: Mapping[str, Spent]) -> str:
    """Say how many tokens were written so far."""
    tokens = sum(one.tokens for one in spent.values())
    return f"{tokens:,} tokens" if tokens else ""


def write_spent(folder: Path, spent: Mapping[str, Spent]) -> None:
    """Keep what was spent, over all calls of a step."""
    rows = {role: dataclasses.asdict(one) for role, one in spent.items()}
    write_text(folder / "spent.json", json.dumps(rows, indent=1) + "\n")


def read_spent(folder: Path) -> dict[str, Spent]:
    """Return what earlier calls of a step spent, by role."""
    path = folder / "spent.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {role: Spent(**row) for role, row in rows.items()}
