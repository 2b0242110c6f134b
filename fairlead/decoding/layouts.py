"""Conversations written as text, for models that know no chat template, and answers read back out of the text.

A layout says how each turn is written. A shipped one is a file of `fairlead/prompts/urial/layouts/`; a user's own is a
YAML file with the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fairlead import fields, prompts
from fairlead.errors import UnknownNameError, UsageError
from fairlead.messages import Message

__all__ = ["Layout", "load_layout", "read_yaml"]

_SLOT = "{text}"
_FENCE = "```"
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Layout:
    """How a conversation is written as text; `{text}` is where a turn's content goes."""

    user: str
    """A user's turn."""
    assistant: str
    """A finished turn of the assistant."""
    opening: str
    """What stands before the answer that the model is to write."""
    system: str = "{text}"
    """What stands first; left out where there is no system text."""
    stops: tuple[str, ...] = ()
    """Beginnings of lines at which the model has begun the next turn itself."""
    fenced: bool = False
    """Whether the model begins inside an open code fence, which it closes at the end of its answer."""
    described: str = ""
    """A sentence that explains the layout to the model, for the system text."""

    def __post_init__(self) -> None:
        for name in ("system", "user", "assistant"):
            if getattr(self, name).count(_SLOT) != 1:
                raise UsageError(f"layout.{name} is {getattr(self, name)!r}", fix=f"write {_SLOT} once in it")
        if any(not stop.strip() for stop in self.stops):
            raise UsageError("layout.stops has an empty text", fix="leave it out")

    def write(self, system: str, turns: Sequence[Message]) -> str:
        """Return the text that the model is to continue with the assistant's answer.

        Args:
            system: what stands first, or "".
            turns: past turns of the user and the assistant, the examples among them, the last one the user's.
        """
        said = {"user": self.user, "assistant": self.assistant}
        parts = [self.system.replace(_SLOT, system)] if system else []
        parts += [said[turn["role"]].replace(_SLOT, turn["content"]) for turn in turns]
        return "".join(parts) + self.opening

    def stop_texts(self, anywhere: bool) -> tuple[str, ...]:
        """Return the texts at which an engine can stop drawing: at line starts, or wherever they stand."""
        return self.stops if anywhere else tuple(f"\n{stop}" for stop in self.stops)

    def cut(self, text: str, anywhere: bool = False) -> tuple[str, bool]:
        """Return the text before the next turn that the model began, and whether it began one.

        Args:
            text: what the model wrote.
            anywhere: whether a stop text counts in the middle of a line too.
        """
        if not self.stops:
            return text, False
        stops = "|".join(map(re.escape, self.stops))
        found = re.search(stops if anywhere else f"^(?:{stops})", text, re.MULTILINE)
        return (text, False) if found is None else (text[: found.start()], True)

    def settled(self, text: str, anywhere: bool = False) -> str:
        """Return the beginning of what `cut` and `clean` make of a text that no more text behind it can change.

        The engine keeps back what may be a stop text behind a line break; here one may stand at the very beginning.
        """
        if any(stop.startswith(text) for stop in self.stops):
            return ""
        text = self.cut(text, anywhere)[0]
        if self.fenced:
            lines = text.split("\n")
            fences = [k for k, line in enumerate(lines) if line.strip().startswith(_FENCE)]
            if len(fences) % 2 and lines[fences[-1]].strip() == _FENCE:
                del lines[fences[-1] :]  # it may close the answer
            elif _FENCE.startswith(lines[-1].strip()):
                del lines[-1]
            text = "\n".join(lines)
        return text.strip()

    def clean(self, text: str, *, to_the_end: bool = True) -> str:
        """Return an answer without the fence that closes it and without white space around it.

        Fences inside the answer stay. `to_the_end` says whether the text is known to run to the answer's end; where a
        caller's own stop text may have cut it, white space behind it is the answer's own.
        """
        lines = text.split("\n")
        fences = [k for k, line in enumerate(lines) if line.strip().startswith(_FENCE)]
        # Pairs of fences belong to the answer. One that is left over closes it, unless it opens a block that was cut.
        if self.fenced and len(fences) % 2 and lines[fences[-1]].strip() == _FENCE:
            del lines[fences[-1]]
            return "\n".join(lines).strip()
        return text.strip() if to_the_end else text.lstrip()


def load_layout(name: str) -> Layout:
    """Return a shipped layout, or the one in a user's YAML file.

    Raises:
        UnknownNameError, UsageError: no such layout or file, or one with wrong keys.
    """
    place, values = read_yaml("layouts", name)
    return fields.build(Layout, values, owner="layout", place=place)


def read_yaml(folder: str, name: str) -> tuple[str, Mapping[str, Any]]:
    """Return where a file of texts lies and what it says.

    Args:
        folder: the folder of `fairlead/prompts/urial/` in which the shipped files lie.
        name: a shipped file without its suffix, or the path of a `.yaml` or `.yml` file.

    Raises:
        UnknownNameError, UsageError: no such file, or one that is no mapping.
    """
    shipped = {
        entry.name.removesuffix(_SUFFIXES[0]): entry
        for entry in resources.files("fairlead.prompts").joinpath("urial", folder).iterdir()
    }
    own = Path(name).expanduser() if name.endswith(_SUFFIXES) else None
    if own is None and name not in shipped:
        raise UnknownNameError(folder.removesuffix("s"), name, shipped)
    values = prompts.read_yaml(f"urial/{folder}/{name}{_SUFFIXES[0]}", None if own is None else name)
    if not isinstance(values, dict):
        raise UsageError(f"holds {type(values).__name__}", place=name, fix="write a mapping of keys and texts")
    return name, values
