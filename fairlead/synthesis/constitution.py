"""Constitutions: principles with what each asks of a critic, of a reviser and of a judge."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.errors import UsageError
from fairlead.prompts import read_entries

__all__ = ["Article", "check_articles", "drawn", "read_constitution"]


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
    return read_entries(Article, "constitutional/principles.yaml", path, called="principle")


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
