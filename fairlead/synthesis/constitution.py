"""Constitutions: principles with what each asks of a critic, of a reviser and of a judge."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fairlead import fields
from fairlead.errors import DataError, FairleadError, UsageError

__all__ = ["Article", "check_articles", "drawn", "read_constitution"]

_SHIPPED = "constitutional/principles.yaml"


@dataclass(frozen=True)
class Article:
    """One principle of a constitution."""

    title: str
    """What it is called in rows."""
    critique: str = ""
    """Asks what is wrong with an answer."""
    revision: str = ""
    """Asks for a better answer."""
    judge: str = ""
    """Asks which of two answers is better."""
    weight: float = 1.0
    """How often it is drawn, beside the others' weights."""

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise UsageError("a principle has no title", fix="give it one")
        if not 0 < self.weight < float("inf"):
            what = f"principle {self.title!r} has the weight {self.weight}"
            raise UsageError(what, fix="use a number above 0, or leave the principle out")


def read_constitution(path: str | None = None) -> tuple[Article, ...]:
    """Read principles from a YAML list of mappings; without a path the eight that are shipped.

    Raises:
        UsageError: a file that cannot be read.
        DataError: anything in it that is no principle.
    """
    place = path or _SHIPPED
    try:
        file = resources.files("fairlead.prompts").joinpath(place) if path is None else Path(path).expanduser()
        rows = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"principles cannot be read: {error}", place=place, fix="give a YAML list") from error
    if not isinstance(rows, list) or not rows:
        raise DataError("holds no list of principles", place=place, fix='write "- title: ..." and "  critique: ..."')
    return tuple(_article(row, f"{place}, principle {number}") for number, row in enumerate(rows, 1))


def _article(row: Any, place: str) -> Article:
    if not isinstance(row, Mapping):
        raise DataError(f"is {row!r}", place=place, fix="write a mapping of title, critique, revision and judge")
    try:
        return fields.build(Article, row, owner="a principle", place=place)
    except FairleadError as error:
        raise DataError(error.what, place=place, fix=error.fix) from error


def check_articles(articles: Sequence[Article], needed: Sequence[str], owner: str) -> None:
    """Refuse an empty constitution, titles that stand twice, and principles that lack one of `needed`.

    Raises:
        UsageError: naming it.
    """
    if not articles:
        raise UsageError(f"{owner}.principles is empty", fix="give one principle or more")
    title, count = Counter(article.title for article in articles).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{owner}.principles has several called {title!r}", fix="give each a title of its own")
    for article in articles:
        for name in needed:
            if not getattr(article, name).strip():
                raise UsageError(f"principle {article.title!r} has no {name}", fix=f"say what it asks: {name}: ...")


def drawn(articles: Sequence[Article], count: int, *of: object) -> list[Article]:
    """Return `count` principles drawn by weight, none twice before all were drawn.

    Args:
        articles: the constitution.
        count: how many.
        of: what the draw depends on, such as a seed and a record's id.
    """
    rng = random.Random(" ".join(["constitution", *map(str, of)]))
    found: list[Article] = []
    left: list[Article] = []
    for _ in range(count):
        left = left or list(articles)
        found.append(left.pop(rng.choices(range(len(left)), [article.weight for article in left])[0]))
    return found
