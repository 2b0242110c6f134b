"""Questionnaires: statements with options on a scale, which dimension each measures, and how they are written down.

A questionnaire is a YAML file (or the same mapping):

    title, about, coding, licence      texts for people
    lead                               said before every statement
    options, values                    the answers in their order, and what each scores (1, 2, ... by default)
    dimensions                         names; with `key`, those of the key
    groups                             name -> dimensions that are also taken together
    order                              circular or none: whether neighbouring dimensions are alike
    items                              mappings of id, text, dimension, and where wanted reverse, options, values,
                                       paraphrases, negation, people (shares of people's answers), attention
    key                                a shipped key: then `items` are the texts alone, in their official order
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fairlead.errors import UnknownNameError, UsageError
from fairlead.prompts import read_yaml

__all__ = ["Item", "Questionnaire", "file_named", "keys", "load_questionnaire", "read_questionnaire"]

_SHIPPED = ("everyday", "newcomers", "harbour_dilemmas")
_FIELDS = ("id", "text", "dimension", "reverse", "options", "values", "paraphrases", "negation", "people", "attention")
_KEYS = (
    "title", "about", "coding", "licence", "lead", "options", "values", "dimensions", "groups", "order", "items", "key",
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """A statement or question with its options."""

    id: str
    """What it is called."""
    text: str
    """What is put before the one who answers."""
    dimension: str | None
    """What it measures; None for items that only see whether somebody reads them."""
    options: tuple[str, ...]
    """The answers, in the order of the scale."""
    values: tuple[float, ...]
    """What each answer scores."""
    reverse: bool = False
    """Whether agreeing speaks against the dimension."""
    paraphrases: tuple[str, ...] = ()
    """The same in other words."""
    negation: str | None = None
    """The opposite statement."""
    people: tuple[float, ...] | None = None
    """Shares of people who chose each answer."""
    attention: tuple[float, float] | None = None
    """Least and greatest score of one who reads the items."""

    @property
    def low(self) -> float:
        """The least score."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The greatest score."""
        return max(self.values)


@dataclass(frozen=True)
class Questionnaire:
    """Items and what they measure."""

    title: str
    """What it is called."""
    items: tuple[Item, ...]
    """Its items, in order."""
    dimensions: tuple[str, ...]
    """What they measure, in order."""
    lead: str = ""
    """What is said before every item."""
    coding: str = ""
    """What high scores mean."""
    order: Literal["circular", "none"] = "none"
    """Whether the dimensions form a circle in their order."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Dimensions that are also taken together."""


def load_questionnaire(source: str | Mapping[str, Any]) -> Questionnaire:
    """Return a questionnaire: a shipped one by name, a YAML file by path, or the mapping that such a file holds.

    Raises:
        UsageError, UnknownNameError: what is not as the format has it, with its place.
    """
    place = source if isinstance(source, str) else "questionnaire"
    found = read_questionnaire(source)
    for name in found:
        if name not in _KEYS:
            raise UnknownNameError("key of a questionnaire", str(name), _KEYS, place=place)
    key = None
    if found.get("key") is not None:
        known = keys()
        if found["key"] not in known:
            raise UnknownNameError("key of items", str(found["key"]), known, place=place)
        key = known[found["key"]]
        found = _keyed(found, key, place)
    rows = found.get("items")
    if not isinstance(rows, list) or not rows:
        raise UsageError("has no items", place=place, fix="write a list under `items`")
    named = found.get("dimensions")
    items = tuple(_item(row, number, found, place) for number, row in enumerate(rows, 1))
    twice = [item.id for i, item in enumerate(items) if item.id in {other.id for other in items[:i]}]
    if twice:
        raise UsageError(f"item {twice[0]!r} stands twice", place=place, fix="give every item an id of its own")
    met = tuple(dict.fromkeys(item.dimension for item in items if item.dimension is not None))
    dimensions = tuple(named) if named else met
    _check_dimensions(dimensions, met, found, place)
    order = found.get("order", "none")
    if order not in ("circular", "none"):
        raise UnknownNameError("order of dimensions", str(order), ("circular", "none"), place=place)
    groups = {name: tuple(inner) for name, inner in (found.get("groups") or {}).items()}
    title, lead, coding = (str(found.get(name, "")) for name in ("title", "lead", "coding"))
    return Questionnaire(title or place, items, dimensions, lead, coding, order, groups)


def read_questionnaire(source: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return what a questionnaire's file holds, unread: a shipped one's by name, a YAML file's by path."""
    return _read(source) if isinstance(source, str) else dict(source)


def keys() -> dict[str, dict[str, Any]]:
    """Return the shipped keys by name: which items, by number from 1, belong to which dimension."""
    return read_yaml("questionnaires/keys.yaml")


def file_named(source: Any) -> str | None:
    """Return the path that a setting names; None where it is a shipped questionnaire or the questionnaire itself."""
    return source if isinstance(source, str) and source not in _SHIPPED else None


def _read(source: str) -> dict[str, Any]:
    shipped = source in _SHIPPED
    if not shipped and not source.endswith((".yaml", ".yml")):
        raise UnknownNameError("questionnaire", source, _SHIPPED, place="questionnaire")
    values = read_yaml(f"questionnaires/{source}.yaml", None if shipped else source)
    if not isinstance(values, dict):
        raise UsageError(f"holds {type(values).__name__}", place=source, fix="write a mapping")
    return values


def _keyed(found: Mapping[str, Any], key: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return a questionnaire whose items are texts, with what its key says of each."""
    texts = found.get("items") or []
    if len(texts) != key["items"] or not all(isinstance(text, str) for text in texts):
        fix = f"write the {key['items']} texts of the items in their official order"
        raise UsageError(f"has {len(texts)} items where its key has {key['items']}", place=place, fix=fix)
    of = {number: name for name, numbers in key["dimensions"].items() for number in numbers}
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts, 1):
        row: dict[str, Any] = {"id": str(number), "text": text, "reverse": number in key.get("reverse", [])}
        if number in of:
            row["dimension"] = of[number]
        if number in key.get("attention", {}):
            row["attention"] = key["attention"][number]
        rows.append(row)
    inner = {"dimensions": list(key["dimensions"]), "order": key["order"], "groups": key.get("groups", {})}
    return {**inner, **found, "items": rows}


def _item(row: Any, number: int, whole: Mapping[str, Any], place: str) -> Item:
    where = f"{place}: item {number}"
    if not isinstance(row, Mapping) or not isinstance(row.get("text"), str) or not row["text"].strip():
        raise UsageError(f"is {row!r}", place=where, fix="write a mapping with a `text`")
    for name in row:
        if name not in _FIELDS:
            raise UnknownNameError("field of an item", str(name), _FIELDS, place=where)
    options = tuple(str(option) for option in row.get("options", whole.get("options") or ()))
    values = row.get("values", None if "options" in row else whole.get("values"))
    values = tuple(float(v) for v in (values or range(1, len(options) + 1)))
    attention = row.get("attention")
    checks = (
        (len(options) >= 2, f"has {len(options)} options", "write two or more under `options`"),
        (len(set(options)) == len(options), "has an option twice", "write every option once"),
        (len(values) == len(options), f"has {len(values)} values for {len(options)} options", "one value per option"),
        (len(set(values)) > 1, "has one value for all options", "give the options different values"),
        (row.get("dimension") is not None or attention is not None, "has no dimension", "name its `dimension`"),
        (len(row.get("people") or options) == len(options), "has not one share of people per option", "write one each"),
    )
    for holds, what, fix in checks:
        if not holds:
            raise UsageError(what, place=where, fix=fix)
    people = row.get("people")
    bounds = None
    if attention is not None:
        bounds = (float(attention.get("at_least", -float("inf"))), float(attention.get("at_most", float("inf"))))
    return Item(
        id=str(row.get("id", number)),
        text=row["text"],
        dimension=None if bounds is not None else str(row["dimension"]),
        options=options,
        values=values,
        reverse=bool(row.get("reverse", False)),
        paraphrases=tuple(row.get("paraphrases") or ()),
        negation=row.get("negation"),
        people=None if people is None else tuple(float(share) / sum(people) for share in people),
        attention=bounds,
    )


def _check_dimensions(dimensions: Sequence[str], met: Sequence[str], found: Mapping[str, Any], place: str) -> None:
    for name in met:
        if name not in dimensions:
            raise UnknownNameError("dimension", name, dimensions, place=place)
    for name in dimensions:
        if name not in met:
            raise UsageError(f"no item measures {name!r}", place=place, fix="add an item, or leave the dimension out")
        if "." in name:
            raise UsageError(f"a dimension is called {name!r}", place=place, fix="leave the dot out")
    for group, inner in (found.get("groups") or {}).items():
        for name in inner:
            if name not in dimensions:
                raise UnknownNameError(f"dimension of group {group}", name, dimensions, place=place)
