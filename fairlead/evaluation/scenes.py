"""Scenes about two people, one of whom a prejudice speaks against: ambiguous as they stand, decided by a fact.

A file of scenes is YAML (or the same mapping):

    title, about    texts for people
    unknown         the option that says nothing is known
    templates       mappings of id, target (about whom the prejudice is), other, context, facts, negative, positive,
                    and where wanted unknown

`context` names {first} and {second}; `facts` say what makes {first} the answer to the question `negative` and {second}
the answer to `positive`. Each of the two people is {first} once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.errors import UnknownNameError, UsageError
from fairlead.prompts import read_yaml

__all__ = ["Scene", "load_scenes", "scenes_file"]

RECORDS = "records"
"""Says that the scenes are the data's records."""
_SHIPPED = ("everyday",)
_KEYS = ("title", "about", "unknown", "templates")
_TEXTS = ("target", "other", "context", "facts", "negative", "positive")
_FIELDS = ("id", *_TEXTS, "unknown")


@dataclass(frozen=True)
class Scene:
    """One question about one scene; its options are the target, the other and the unknown one, in this order."""

    id: str
    """Its template, who is first, condition and question."""
    template: str
    """The template that it comes from."""
    ambiguous: bool
    """Whether the facts are left out."""
    negative: bool
    """Whether the question is the one with which the prejudice accuses."""
    first: int
    """Who is first: option 0 or 1. Where the facts are told, they make this one the answer to a negative question."""
    text: str
    """Scene and question."""
    options: tuple[str, str, str]
    """Target, other, unknown."""

    @property
    def right(self) -> int:
        """The right option."""
        if self.ambiguous:
            return 2
        return self.first if self.negative else 1 - self.first

    @property
    def biased(self) -> int:
        """The option that the prejudice would choose."""
        return 0 if self.negative else 1


def load_scenes(source: str | Mapping[str, Any]) -> list[Scene]:
    """Return the eight scenes of every template: a shipped file by name, a YAML file by path, or what it holds.

    Raises:
        UsageError, UnknownNameError: what is not as the format has it, with its place.
    """
    place = source if isinstance(source, str) else "templates"
    found = _read(source) if isinstance(source, str) else source
    for name in found:
        if name not in _KEYS:
            raise UnknownNameError("key of scenes", str(name), _KEYS, place=place)
    rows = found.get("templates")
    if not isinstance(rows, list | tuple) or not rows:
        raise UsageError("has no templates", place=place, fix="write a list under `templates`")
    scenes: list[Scene] = []
    names: set[str] = set()
    for number, row in enumerate(rows, 1):
        made = _scenes(row, number, found.get("unknown"), f"{place}: template {number}")
        if made[0].template in names:
            fix = "give every template an id of its own"
            raise UsageError(f"template {made[0].template!r} stands twice", place=place, fix=fix)
        names.add(made[0].template)
        scenes += made
    return scenes


def scenes_file(source: Any) -> str | None:
    """Return the path that a setting names; None where it is a shipped file, the records, or the scenes themselves."""
    return source if isinstance(source, str) and source not in (*_SHIPPED, RECORDS) else None


def _read(source: str) -> Mapping[str, Any]:
    shipped = source in _SHIPPED
    if not shipped and not source.endswith((".yaml", ".yml")):
        raise UnknownNameError("scenes", source, _SHIPPED, place="templates")
    values = read_yaml(f"bias/{source}.yaml", None if shipped else source)
    if not isinstance(values, dict):
        raise UsageError(f"holds {type(values).__name__}", place=source, fix="write a mapping")
    return values


def _scenes(row: Any, number: int, unknown: Any, place: str) -> list[Scene]:
    if not isinstance(row, Mapping):
        raise UsageError(f"is {row!r}", place=place, fix=f"write a mapping of {', '.join(_FIELDS)}")
    for name in row:
        if name not in _FIELDS:
            raise UnknownNameError("field of a template", str(name), _FIELDS, place=place)
    texts: dict[str, str] = {}
    for name in (*_TEXTS, "unknown"):
        text = row.get(name, unknown if name == "unknown" else None)
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{name} is {text!r}", place=place, fix=f"write a text for `{name}`")
        texts[name] = text
    for slot in ("{first}", "{second}"):
        if slot not in texts["context"]:
            raise UsageError(f"the context does not name {slot}", place=place, fix="name both people")
    if "{first}" not in texts["facts"] and "{second}" not in texts["facts"]:
        raise UsageError("the facts name neither {first} nor {second}", place=place, fix="say who did what")
    people = (texts["target"], texts["other"])
    options = (*people, texts["unknown"])
    if len(set(options)) < 3:
        raise UsageError(
            f"the options are {options}", place=place, fix="give target, other and unknown different texts"
        )
    name = str(row.get("id", number))
    scenes = []
    for first in (0, 1):
        for ambiguous in (True, False):
            for negative in (True, False):
                parts = [texts["context"]] + ([] if ambiguous else [texts["facts"]])
                text = " ".join([*parts, texts["negative" if negative else "positive"]])
                text = text.replace("{first}", people[first]).replace("{second}", people[1 - first])
                words = ("target" if first == 0 else "other", "ambiguous" if ambiguous else "decided")
                scene = f"{name}-{words[0]}-{words[1]}-{'negative' if negative else 'positive'}"
                scenes.append(Scene(scene, name, ambiguous, negative, first, text, options))
    return scenes
