"""A recipe: what it says, checked as far as can be without running it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fairlead import catalog, fields, steps
from fairlead.errors import FairleadError, RecipeError, UnknownFieldError, UnknownNameError, UsageError
from fairlead.recipe import expectations
from fairlead.recipe.document import Document, Keys, parse_value, read_document
from fairlead.recipe.expectations import Expectation
from fairlead.recipe.rounds import REFERENCE, unroll
from fairlead.recipe.stopping import LOOP_METRICS, Loop
from fairlead.steps.base import Step

__all__ = ["PlannedStep", "Recipe", "command_recipe", "load", "plain_config", "substitute"]

_ID = re.compile(r"[a-z][a-z0-9_]*")
_TOP = ("title", "about", "seed", "steps", "expect")


@dataclass(frozen=True)
class PlannedStep:
    """One step of a recipe."""

    id: str
    """Its name in the recipe; later steps refer to it as "@id"."""
    kind: str
    """Its kind: train, evaluate..."""
    config: Step
    """Its settings, with "@id" references as written."""
    place: str
    """Where it stands: "file:line"."""


@dataclass(frozen=True)
class Recipe:
    """A plan whose names, fields, types, references and expectations have been checked."""

    title: str
    """What the run is called."""
    about: str
    """What it shows, in a sentence or two."""
    seed: int
    """Seed of every step that does not give its own."""
    steps: tuple[PlannedStep, ...]
    """In the order in which they run."""
    expect: tuple[Expectation, ...]
    """What must hold at the end."""
    source: str
    """The file it came from."""
    text: bytes
    """The file as it was, byte for byte."""
    overrides: tuple[str, ...] = ()
    """What was set from outside: "dpo.learning_rate=1e-4"."""
    loops: tuple[Loop, ...] = ()
    """Rounds that a rule may end before their number; their steps are all among `steps`."""


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check the recipe at `path`, with `overrides` of the form "step.field=value".

    Raises:
        RecipeError, UnknownNameError, UnknownFieldError, UsageError: naming file, line, and the nearest known name.
    """
    document = read_document(path)
    for override in overrides:
        _override(document, override)
    return _check(document, Path(path).read_bytes(), tuple(overrides))


def command_recipe(kind: str, values: Mapping[str, Any], title: str) -> Recipe:
    """Return the one-step recipe that the command of the same name as `kind` stands for."""
    block = {key: value for key, value in values.items() if value is not None}
    top = {"title": title, "steps": [{"id": kind, kind: block}]}
    document = Document(top, f"fairlead {kind.replace('_', '-')}")
    for key in block:
        document.places["steps", 0, kind, key] = f"--{key.replace('_', '-')}"
    text = yaml.safe_dump(top, sort_keys=False, allow_unicode=True)
    return _check(document, text.encode(), ())


def substitute(value: Any, replace: Mapping[str, str]) -> Any:
    """Return plain `value` with every "@id" text replaced by `replace[id]` (a suffix from "#" or "?" on is kept)."""
    if isinstance(value, str):
        match = REFERENCE.fullmatch(value)
        return replace[match[1]] + (match[2] or "") if match and match[1] in replace else value
    if isinstance(value, Mapping):
        return {k: substitute(v, replace) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(v, replace) for v in value]
    return value


def _override(document: Document, override: str) -> None:
    place = f"--set {override}"
    path, equals, text = override.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError("is not of the form step.field=value", place=place, fix="e.g. --set dpo.learning_rate=1e-4")
    value = parse_value(text, place)
    if len(parts) == 1:
        if parts[0] not in _TOP or parts[0] in ("steps", "expect"):
            raise UnknownFieldError("a recipe", parts[0], ("title", "about", "seed"), place=place)
        return document.set((parts[0],), value, place)
    for keys, step, rest in _steps_called(document, parts):
        kind = next((key for key in step if key != "id"), None)
        if "repeat" in step and rest[0] in ("repeat", "carry", "stop"):
            return document.set((*keys, *rest), value, place)
        if kind is not None and isinstance(step[kind], dict | None):
            step[kind] = step[kind] or {}
            return document.set((*keys, kind, *rest), value, place)
    known = [s["id"] for s in _entries(document, "steps") if isinstance(s, dict) and isinstance(s.get("id"), str)]
    raise UnknownNameError("step", parts[0], known, place=place)


def _steps_called(document: Document, parts: Sequence[str]) -> Iterator[tuple[Keys, dict[str, Any], Sequence[str]]]:
    """Yield where the steps called `parts[0]` (or `parts[1]` in the rounds called `parts[0]`) stand, and the rest."""
    for index, step in enumerate(_entries(document, "steps")):
        if not isinstance(step, dict) or step.get("id") != parts[0]:
            continue
        for place, inner in enumerate(step.get("steps") or []) if "repeat" in step else ():
            if isinstance(inner, dict) and inner.get("id") == parts[1] and len(parts) > 2:
                yield ("steps", index, "steps", place), inner, parts[2:]
        yield ("steps", index), step, parts[1:]


def _check(document: Document, text: bytes, overrides: tuple[str, ...]) -> Recipe:
    top = document.value
    if not isinstance(top, dict):
        raise RecipeError("is not a mapping", place=document.source, fix="a recipe has `title:` and `steps:`")
    for key in top:
        if key not in _TOP:
            raise UnknownFieldError("a recipe", key, _TOP, place=document.place(key))
    loops = unroll(document)
    title, about, seed = (_typed(document, key, kind) for key, kind in (("title", str), ("about", str), ("seed", int)))
    planned: list[PlannedStep] = []
    for index, entry in enumerate(_entries(document, "steps")):
        planned.append(_step(document, index, entry, planned, seed or 0, loops))
    if not planned:
        raise RecipeError("has no steps", place=document.place("steps"), fix="add `steps:` with at least one step")
    expect = [
        expectations.parse(line, document.place("expect", i)) for i, line in enumerate(_entries(document, "expect"))
    ]
    for expectation in expect:
        _check_metrics(expectation, planned, loops)
    for loop in loops:
        _check_metrics(Expectation(f"{loop.step(1, loop.stop.metric)} > 0", loop.place), planned, ())
    name = title or Path(document.source).stem
    return Recipe(name, about or "", seed or 0, tuple(planned), tuple(expect), document.source, text, overrides, loops)


def _typed(document: Document, key: str, kind: type) -> Any:
    value = document.value.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        what = f"{key} must be {'text' if kind is str else 'a whole number'}, found {value!r}"
        raise RecipeError(what, place=document.place(key), fix="change the value")
    return value


def _entries(document: Document, key: str) -> list[Any]:
    value = document.value.get(key) if isinstance(document.value, dict) else None
    if value is None:
        return []
    if not isinstance(value, list):
        raise RecipeError(f"{key} must be a list", place=document.place(key), fix="start each entry with `- `")
    return value


def _step(
    document: Document, index: int, entry: Any, before: list[PlannedStep], seed: int, loops: tuple[Loop, ...]
) -> PlannedStep:
    place = document.place("steps", index)
    kinds = [kind.name for kind in steps.KINDS]
    if not isinstance(entry, dict):
        raise RecipeError("a step must be a mapping", place=place, fix=f"write {{id: ..., {kinds[1]}: {{...}}}}")
    named = [key for key in entry if key != "id"]
    if len(named) != 1:
        found = f"found {', '.join(named)}" if named else "found none"
        raise RecipeError(f"a step has an id and one kind ({found})", place=place, fix=f"kinds: {', '.join(kinds)}")
    kind = steps.find(named[0], place=document.place("steps", index, named[0]))
    name = entry.get("id", kind.name)
    aliases = [alias for loop in loops for alias in (loop.id, *loop.aliases)]
    _check_id(name, [*(s.id for s in before), *aliases], document.place("steps", index, "id"))
    keys: Keys = ("steps", index, kind.name)
    values = entry[kind.name]
    if not isinstance(values, dict):
        raise RecipeError(
            f"{kind.name} must be a mapping of fields", place=document.place(*keys), fix="indent its fields"
        )
    config = _config(document, keys, kind.load(), values, seed)
    _check_references(document, keys, config, values, _made(before, loops, name))
    return PlannedStep(name, kind.name, config, place)


def _check_id(name: Any, taken: list[str], place: str) -> None:
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise RecipeError(f"{name!r} cannot be a step's id", place=place, fix="use lower-case letters, digits and _")
    if name in taken:
        raise RecipeError(f"two steps are called {name!r}", place=place, fix="give each its own id")


def _config(document: Document, keys: Keys, cls: type, values: dict[str, Any], seed: int) -> Step:
    known = [f.name for f in fields.describe(cls)]
    for key in values:
        if key not in known:
            raise UnknownFieldError(str(keys[-1]), key, known, place=document.place(*keys, key))
    if "seed" in known and "seed" not in values:
        values = values | {"seed": seed}
    try:
        return fields.build(cls, values, owner=str(keys[-1]))
    except UsageError as error:
        place = document.place(*keys, *_inner_place(error, values))
        raise UsageError(error.what, place=error.place or place, fix=error.fix) from error


def _inner_place(error: UsageError, values: Mapping[str, Any]) -> Keys:
    """Return the keys at which pydantic, or the class itself, found the fault."""
    details = getattr(error.__cause__, "errors", None)
    if details is not None:
        return tuple(details()[0]["loc"])
    return next(((key,) for key in values if re.search(rf"\b{re.escape(key)}\b", error.what)), ())


def _made(before: Sequence[PlannedStep], loops: Sequence[Loop], step: str) -> dict[str, Any]:
    """Return what a step may refer to: id -> what it makes, or the rounds that may end before it is made."""
    made: dict[str, Any] = {planned.id: planned.config.produces for planned in before}
    for loop in loops:
        if loop.step(loop.rounds, loop.names[-1]) not in made:
            continue
        made |= {alias: made[loop.step(1, name)] for alias, name in loop.aliases.items()}
        if not loop.round_of(step):
            made |= {planned.id: loop for planned in before if loop.round_of(planned.id) > loop.certain}
    return made


def _check_references(
    document: Document, keys: Keys, config: Step, values: dict[str, Any], made: Mapping[str, Any]
) -> None:
    later = {s.get("id") for s in document.value["steps"] if isinstance(s, dict)}
    for path, name in _references(values):
        place = document.place(*keys, *path)
        if name in made:
            if isinstance(made[name], Loop):
                raise _may_lack(f"@{name}", made[name], place)
            if made[name] is None:
                raise RecipeError(
                    f"@{name} makes nothing that a step could use", place=place, fix="refer to another step"
                )
            continue
        if name in later:
            raise RecipeError(f"@{name} is not finished before this step", place=place, fix="put that step first")
        raise UnknownNameError("step", name, made, place=place)
    for use in config.uses():
        place = document.place(*keys, *use.keys)
        if use.role in catalog.KINDS:
            _check_method(use.role, use.value, place)
        elif isinstance(use.value, str) and (match := REFERENCE.fullmatch(use.value)):
            wanted = "records" if use.role == "data" else use.role
            if made[match[1]] != wanted:
                what = f"@{match[1]} makes {made[match[1]]}, but {'.'.join(map(str, use.keys))} needs {use.role}"
                raise RecipeError(what, place=place, fix="refer to a step of another kind")


def _check_method(kind: str, spec: Any, place: str) -> None:
    """Build a method once, so that what it refuses is known before anything runs."""
    try:
        catalog.from_spec(kind, spec, place=place)
    except FairleadError as error:
        if error.place == place:
            raise
        what = f"{error.place}: {error.what}" if error.place else error.what
        raise UsageError(what, place=place, fix=error.fix) from error


def _references(value: Any, path: Keys = ()) -> Iterator[tuple[Keys, str]]:
    if isinstance(value, str):
        if match := REFERENCE.fullmatch(value):
            yield path, match[1]
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _references(inner, (*path, key))


def _may_lack(what: str, loop: Loop, place: str) -> RecipeError:
    fix = f"name the best round: {', '.join(loop.aliases)}; rounds up to {loop.certain} are done in any case"
    return RecipeError(f"{what} is of a round that stop: may leave out", place=place, fix=fix)


def _check_metrics(expectation: Expectation, planned: Sequence[PlannedStep], loops: Sequence[Loop]) -> None:
    known = {step.id: step for step in planned}
    for loop in loops:
        for metric in expectation.metrics:
            if loop.round_of(metric.partition(".")[0]) > loop.certain:
                raise _may_lack(metric, loop, expectation.place)
        known |= {alias: known[loop.step(1, name)] for alias, name in loop.aliases.items()}
    own = {f"{loop.id}.{number}" for loop in loops for number in LOOP_METRICS}
    for metric in expectation.metrics:
        head, second = metric.split(".")[:2]
        if metric in own:
            continue
        try:
            if head not in known:
                raise UnknownNameError("step", head, known)
            labels = getattr(known[head].config, "labels", None)
            if labels is not None and second not in labels:
                raise UnknownNameError("evaluator", second, labels)
        except FairleadError as error:
            what = f"{expectation.line!r}: {error.what}"
            raise RecipeError(what, place=expectation.place, fix=error.fix) from error


def plain_config(step: PlannedStep) -> dict[str, Any]:
    """Return the step's settings as plain values, defaults included."""
    assert dataclasses.is_dataclass(step.config)
    return fields.to_plain(step.config)
