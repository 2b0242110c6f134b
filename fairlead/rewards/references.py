"""Rewards that compare a completion with references: good answers to the same prompt, looked up by its turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import numpy as np

from fairlead import records
from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt
from fairlead.rewards.base import Rewards, check_lengths
from fairlead.rewards.thinking import answer_part, check_tag

__all__ = ["Referenced", "pooled", "prompt_key"]

T = TypeVar("T")

Key: TypeAlias = tuple[tuple[str, str], ...]
"""Role and text of every turn of a prompt but system messages."""

_KEPT = 4096
"""Prompts whose prepared references are kept at a time: the epochs and the completions of a prompt share them."""
_ANSWERS = {"conversation": "completion", "preference": "chosen"}
"""Kind of record -> the column with an answer that may be a reference."""


@dataclass(frozen=True)
class Referenced(Generic[T]):
    """A reward of a completion beside the references to its prompt; a blank completion is worth 0."""

    references: str | tuple[str, ...] | dict[str, str | tuple[str, ...]]
    """Where the references are: records of a file, `harbor:SET` or "@step" of a recipe, or several of them; or a
    mapping of prompts (one user turn, or raw text) to one reference or more. Equal prompts share their references;
    system messages do not count in a prompt."""
    columns: tuple[str, ...] = ()
    """Columns that hold references, each a text or a list of texts; `completion` and `chosen` are the answers of
    conversations and preferences. Empty: the column `references` where a record has one, and the completion of
    conversations."""
    most: int | None = None
    """Most references of a prompt, the first ones; by default all."""
    unknown: Literal["error", "abstain"] = "error"
    """What a prompt without references is: an error that names it, or an abstention."""
    answer_tag: str | None = None
    """Value only what stands between `<TAG>` and `</TAG>`: all behind the opening tag where the closing one is missing,
    and the whole text where neither is there. "answer" for prompts that ask for thinking first."""

    sources: ClassVar[tuple[str, ...]] = ("references",)

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if not self.references:
            raise UsageError(f"{owner}.references is empty", fix="name the records that hold the references")
        if self.most is not None and self.most < 1:
            raise UsageError(f"{owner}.most is {self.most}", fix="use 1 or more")
        if self.answer_tag is not None:
            check_tag(self.answer_tag, f"{owner}.answer_tag")
        if isinstance(self.references, Mapping):
            if self.columns:
                raise UsageError(f"{owner}.columns: a mapping has no columns", fix="leave columns out")
            _ = self._pool

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i; returns N values in [0, 1].

        Raises:
            UsageError: not one prompt per completion, or a prompt without references (unless `unknown` is abstain).
            DataError: references that cannot be read, are missing or blank.
        """
        check_lengths(prompts, completions)
        values = np.full(len(completions), np.nan)
        for i, (prompt, text) in enumerate(zip(prompts, completions, strict=True)):
            prepared = self._known(prompt)
            if prepared is not None:
                said = text if self.answer_tag is None else answer_part(text, self.answer_tag)
                values[i] = self._compare(said, prepared) if said.strip() else 0.0
        return Rewards(values, np.isnan(values))

    def prepare(self, references: tuple[str, ...]) -> T:
        """Return what all completions of a prompt are compared with."""
        raise NotImplementedError

    def _compare(self, text: str, prepared: T) -> float:
        raise NotImplementedError

    def _known(self, prompt: Prompt) -> T | None:
        key = prompt_key(prompt)
        found = self._prepared.get(key)
        if found is not None:
            return found
        texts = self._pool.get(key)
        if texts is None:
            if self.unknown == "abstain":
                return None
            shown = repr(key[-1][1][:200] if key else "")
            fix = "add references to it, or set unknown: abstain"
            raise UsageError(f"no reference to the prompt {shown}", place=type(self).__name__, fix=fix)
        while len(self._prepared) >= _KEPT:
            del self._prepared[next(iter(self._prepared))]
        self._prepared[key] = self.prepare(texts)
        return self._prepared[key]

    @cached_property
    def _pool(self) -> dict[Key, tuple[str, ...]]:
        return pooled(self.references, self.columns, self.most)

    @cached_property
    def _prepared(self) -> dict[Key, T]:
        return {}


def prompt_key(prompt: Prompt) -> Key:
    """Return what makes a prompt the same: its turns without system messages; raw text counts as one user turn."""
    if isinstance(prompt, str):
        return (("user", prompt),)
    return tuple((turn["role"], turn["content"]) for turn in prompt if turn["role"] != "system")


def pooled(
    references: str | Sequence[str] | Mapping[str, str | Sequence[str]],
    columns: Sequence[str] = (),
    most: int | None = None,
) -> dict[Key, tuple[str, ...]]:
    """Return the references to every prompt, in the order in which they were found, equal ones once.

    Args:
        references: sources of records, or prompt -> references.
        columns: see `Referenced.columns`.
        most: most references of a prompt.

    Raises:
        DataError: a record without references, or with one that is blank or no text.
    """
    found: dict[Key, dict[str, None]] = {}
    for key, text, place in _given(references) if isinstance(references, Mapping) else _read(references, columns):
        if not isinstance(text, str) or not text.strip():
            what = f"a reference is {text!r}, not a text with words"
            raise DataError(what, place=place, fix="leave the prompt out, or give it a reference")
        found.setdefault(key, {})[text] = None
    return {key: tuple(texts)[:most] for key, texts in found.items()}


def _given(references: Mapping[str, str | Sequence[str]]) -> Iterator[tuple[Key, Any, str]]:
    for prompt, given in references.items():
        place = f"references to {prompt[:80]!r}"
        for text in _listed(given, place):
            yield prompt_key(prompt), text, place


def _read(sources: str | Sequence[str], columns: Sequence[str]) -> Iterator[tuple[Key, Any, str]]:
    for record in records.read(sources if isinstance(sources, str) else list(sources)):
        place = f"record {record.id}"
        prompt, answer = _parted(record)
        if not prompt:
            raise DataError("no prompt says what is answered here", place=place, fix="leave the record out")
        own = _ANSWERS.get(record.kind)
        if not columns and "references" not in record.extra and record.kind != "conversation":
            fix = "give a column `references`, or name the columns that hold them"
            raise DataError(f"a {record.kind} record without references", place=place, fix=fix)
        default = ("completion", "references") if record.kind == "conversation" else ("references",)
        for column in columns or default:
            if column == own:
                yield prompt_key(prompt), answer, place
            elif column in record.extra:
                for text in _listed(record.extra[column], f"{place}, column {column!r}"):
                    yield prompt_key(prompt), text, place
            elif columns:
                fix = f"there are {', '.join(sorted(record.extra)) or 'no other columns'}"
                raise DataError(f"has no column {column!r} with references", place=place, fix=fix)


def _listed(given: Any, place: str) -> list[Any]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not texts:
        raise DataError(f"no references, but {given!r}", place=place, fix="give a text or a list of texts")
    return list(texts)


def _parted(record: Any) -> tuple[Prompt, Any]:
    """Return a record's prompt and the answer to it, None where it has none; of a whole conversation the last turn."""
    answer = getattr(record, _ANSWERS.get(record.kind, ""), None)
    if record.kind == "conversation" and not record.prompt and not isinstance(answer, str) and answer:
        return answer[:-1], answer[-1]["content"] if answer[-1]["role"] == "assistant" else None
    said = answer if answer is None or isinstance(answer, str) else answer[0]["content"]
    return getattr(record, "prompt", ""), said
