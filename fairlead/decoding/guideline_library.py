"""A library of guidelines: read, written, rid of duplicates, thinned to different ones; and what models write, parsed.

Guide-Align (Luo et al. 2024, arXiv 2403.11838), stage 1c and the parts of 1b and 2 that work on text.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Indel

from fairlead import fields
from fairlead.errors import DataError, FairleadError, UsageError
from fairlead.messages import Prompt

__all__ = [
    "Guideline",
    "Library",
    "Similarity",
    "awaited",
    "diverse",
    "merge",
    "novel",
    "read_library",
    "request_of",
    "rouge_l",
    "says_unsafe",
    "similarity",
    "split_guidelines",
    "words_of",
]

Similarity = Callable[[str, str], float]
"""How alike two texts are, 0 to 1."""

_WORD = re.compile(r"\w+")
_LIST_MARK = re.compile(r"^\s*(?:[-*\u2022]\s+|\d+\s*[.)]\s*)")
_VERDICT = re.compile(r"(?<![\w-])(yes|no)(?![\w-])", re.IGNORECASE)
_MOST_TITLE_WORDS = 8
_HARBOR = "harbor:"


@dataclass(frozen=True)
class Guideline:
    """One rule for the assistant."""

    text: str
    """The rule, in a sentence or two."""
    title: str = ""
    """What it is about, in a few words; may be empty."""
    sources: tuple[str, ...] = ()
    """Requests that it was written for; retrieval finds it by these, too."""
    count: int = 1
    """How often it was written."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("a guideline without text", fix="write its text, or remove it")
        if self.count < 1:
            raise UsageError(f"a guideline's count is {self.count}", fix="use 1 or more")

    @property
    def line(self) -> str:
        """Title and text in one line."""
        text = " ".join(self.text.split())
        return f"{self.title.strip()}: {text}" if self.title.strip() else text


@dataclass(frozen=True)
class Library:
    """Guidelines in order."""

    items: tuple[Guideline, ...]
    """At least one."""
    place: str = field(default="library", compare=False)
    """Where it is from, for errors."""

    def __post_init__(self) -> None:
        if not self.items:
            raise UsageError("the library has no guideline", place=self.place, fix="give at least one")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with any guideline and with their order."""
        text = json.dumps([asdict(item) for item in self.items], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, path: str | Path) -> None:
        """Write the library as JSON lines, one guideline each."""
        rows = [json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in self.items]
        Path(path).write_text("".join(rows), encoding="utf-8")


def read_library(source: str | Sequence[Any]) -> Library:
    """Return the library at a path, or the one that a list of guidelines is.

    Args:
        source: a JSON Lines file with `text` and, if wanted, `title`, `sources` and `count` in every line, or with a
            request and its own guidelines: `prompt` and `guidelines`; `harbor:guidelines` with its parameters; or a
            list of such mappings, of texts ("Title: rule" or a rule alone), or of guidelines. Guidelines that come with
            their requests are merged.

    Raises:
        DataError: a file that cannot be read, or a line that is no guideline.
        UsageError: no guideline at all, or an entry of the list that is none.
    """
    items: list[Guideline] = []
    collected = False
    for item, place in _entries(source):
        try:
            of_request = isinstance(item, Mapping) and "guidelines" in item
            items += _of_request(item, place) if of_request else [_guideline(item, place)]
            collected = collected or of_request
        except FairleadError as error:
            raise (DataError if isinstance(source, str) else UsageError)(
                error.what, place=place, fix=error.fix
            ) from error
    return Library(tuple(merge(items) if collected else items), source if isinstance(source, str) else "library")


def awaited(source: Any) -> bool:
    """Tell whether a source is what an earlier step of a recipe has yet to make."""
    return isinstance(source, str) and source.startswith("@")


def _entries(source: str | Sequence[Any]) -> Iterator[tuple[Any, str]]:
    """Yield the entries of a library as plain values, with their places."""
    if not isinstance(source, str):
        yield from ((item, f"library, entry {k}") for k, item in enumerate(source, start=1))
        return
    if source.startswith(_HARBOR):
        from fairlead import harbor

        yield from ((row, source) for row in harbor.rows(source.removeprefix(_HARBOR)))
        return
    try:
        lines = Path(source).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the library cannot be read: {error}", place=source, fix="give a JSON Lines file") from error
    for number, line in enumerate(lines, start=1):
        place = f"{source}:{number}"
        try:
            if line.strip():
                yield json.loads(line), place
        except ValueError as error:
            raise DataError(f"no JSON: {error}", place=place, fix="write one guideline per line") from error


def _of_request(row: Mapping[str, Any], place: str) -> list[Guideline]:
    """Return the guidelines that a row has for its request; other columns are for others."""
    prompt, written = row.get("prompt"), row["guidelines"]
    asked = request_of(prompt) if isinstance(prompt, str | list | tuple) else ""
    if not asked or not isinstance(written, list | tuple):
        raise UsageError("a request without text, or whose guidelines are no list", fix="write {prompt, guidelines}")
    return [replace(_guideline(one, place), sources=(asked,)) for one in written]


def request_of(prompt: Prompt) -> str:
    """Return what guidelines are looked up for: the last user message, or the whole of a raw text."""
    if isinstance(prompt, str):
        return prompt
    return next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), "")


def _guideline(item: Any, place: str) -> Guideline:
    if isinstance(item, Guideline):
        return item
    if isinstance(item, str):
        title, text = _titled(item)
        return Guideline(text if title else item.strip(), title)
    if isinstance(item, Mapping):
        return fields.build(Guideline, item, owner="a guideline", place=place)
    raise UsageError(f"a {type(item).__name__} is no guideline", place=place, fix="write {text, title, sources}")


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case and without marks."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def similarity(one: str, other: str) -> float:
    """Return 2 * (longest common subsequence) / (both lengths) in characters, case kept."""
    return fuzz.ratio(one, other) / 100


def rouge_l(one: str, other: str) -> float:
    """Return ROUGE-L F1 of two texts: the same over their words."""
    return Indel.normalized_similarity(words_of(one), words_of(other))


def diverse(
    texts: Sequence[str], k: int, *, below: float = 0.5, alike: Similarity | Sequence[Sequence[float]] = similarity
) -> list[int]:
    """Return the places of the first `k` texts in order that are less alike than `below` to all kept before.

    Args:
        texts: in the order of their rank.
        k: most texts kept.
        below: the similarity that excludes; above 1 nothing does.
        alike: a function of two texts, or a matrix over their places.
    """
    kept: list[int] = []
    for place, text in enumerate(texts):
        if len(kept) == k:
            break
        values = [alike(text, texts[i]) if callable(alike) else alike[place][i] for i in kept]
        if all(value < below for value in values):
            kept.append(place)
    return kept


def novel(texts: Sequence[str], most: float = 0.7) -> list[int]:
    """Return the places of texts whose ROUGE-L F1 with every text kept before is at most `most`."""
    kept: list[int] = []
    for place, text in enumerate(texts):
        if words_of(text) and all(rouge_l(text, texts[i]) <= most for i in kept):
            kept.append(place)
    return kept


def merge(guidelines: Iterable[Guideline], near: float = 0.9) -> list[Guideline]:
    """Return guidelines without duplicates: the most frequent wording stays, counts and sources are added up.

    Two are the same if their words are, or if their words in one line each are at least `near` alike (`similarity`).
    """
    same: dict[str, Guideline] = {}
    for one in guidelines:
        words = " ".join(words_of(one.line))
        same[words] = _joined(same[words], one) if words in same else one
    order = sorted(same, key=lambda words: -same[words].count)
    kept: list[str] = []
    for words in order:
        found = process.extractOne(words, kept, scorer=fuzz.ratio, score_cutoff=100 * near) if kept else None
        if found is None:
            kept.append(words)
        else:
            same[found[0]] = _joined(same[found[0]], same[words])
    return [same[words] for words in kept]


def _joined(one: Guideline, other: Guideline) -> Guideline:
    sources = tuple(dict.fromkeys((*one.sources, *other.sources)))
    return replace(one, sources=sources, count=one.count + other.count)


def split_guidelines(reply: str) -> list[Guideline]:
    """Return the guidelines in what a model wrote: one per line, as "Title: rule".

    Numbers, bullets and bold marks are taken off. Lines without a title, an introduction that ends in a colon and
    closing remarks are left out.
    """
    found = [_titled(_LIST_MARK.sub("", line)) for line in reply.splitlines()]
    return [Guideline(text, title) for title, text in found if title]


def _titled(line: str) -> tuple[str, str]:
    """Return (title, rule) of a line; ("", "") when it has no short title with a rule behind it."""
    title, colon, text = line.replace("**", "").replace("__", "").partition(":")
    title, text = title.strip(), text.strip()
    short = 0 < len(title.split()) <= _MOST_TITLE_WORDS and not re.search(r"[.!?]", title)
    return (title, text) if colon and text and short else ("", "")


def says_unsafe(analysis: str) -> bool | None:
    """Return what the last "yes" or "no" of an analysis says; None when it has neither."""
    found = _VERDICT.findall(analysis)
    return found[-1].casefold() == "yes" if found else None
