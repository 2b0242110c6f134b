"""Principles after which an instruction is rewritten, and which of them suit what kind of instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairlead.errors import UsageError
from fairlead.prompts import read_entries

__all__ = ["DOMAINS", "OTHER", "Principle", "filled", "principles_for", "read_principles"]

OTHER = "*"
"""The category that stands for all that have no line of their own."""

_ALWAYS = "Helpfulness"
DOMAINS: dict[str, tuple[str, ...]] = {
    **{domain: (domain, _ALWAYS) for domain in ("Math", "Coding & Debugging", "Honesty", "Harmlessness")},
    OTHER: (_ALWAYS,),
}
"""Category of an instruction -> domains whose principles suit it."""

_PROBE = "what stands here"


@dataclass(frozen=True)
class Principle:
    """One way of improving an instruction."""

    title: str
    """What it is called in trees and rows."""
    content: str = ""
    """What a rewriter is told; ends the sentence "Improve the instruction in this way:"."""
    domain: str = _ALWAYS
    """What kind of instruction it suits."""
    texts: tuple[str, ...] = ()
    """Rewrites that need no rewriter: Jinja texts with `{{ prompt }}`, one of which is drawn."""

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise UsageError("a principle has no title", fix="give it one")
        if not self.content.strip() and not self.texts:
            what = f"principle {self.title!r} says neither what to tell a rewriter nor how to rewrite"
            raise UsageError(what, fix='give it a content, or texts such as "Be honest. {{ prompt }}"')
        for text in self.texts:
            if _PROBE not in filled(text, _PROBE):
                fix = "say where the instruction stands: {{ prompt }}"
                raise UsageError(f"principle {self.title!r} has a text that loses the instruction: {text!r}", fix=fix)


def filled(text: str, prompt: str) -> str:
    """Return a rewrite that needs no rewriter.

    Raises:
        UsageError: a text that Jinja cannot fill with `prompt` alone.
    """
    from fairlead.prompts import PromptText

    return PromptText(text, "text of a principle").render(prompt=prompt)


def principles_for(
    category: str, principles: Sequence[Principle], domains: Mapping[str, Sequence[str]]
) -> tuple[Principle, ...]:
    """Return the principles for a category, in their own order."""
    suit = domains.get(category, domains.get(OTHER, ()))
    return tuple(principle for principle in principles if principle.domain in suit)


def read_principles(path: str | None = None) -> tuple[Principle, ...]:
    """Read principles from a YAML list of mappings; without a path the ten that are shipped.

    Raises:
        UsageError: a file that cannot be read.
        DataError: anything in it that is no principle.
    """
    return read_entries(Principle, "p_aligner/principles.yaml", path, called="principle")
