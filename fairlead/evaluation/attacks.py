"""Attacks on a model's policy: texts around a request, by family, and the random changes of best-of-N.

A text is Jinja with the slots of `slots_of`. Lines `--- user`, `--- assistant` and `--- system` begin a turn; a text
without them is one turn of the user.
"""

from __future__ import annotations

import base64
import codecs
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import cast

from fairlead import prompts as texts_of
from fairlead.errors import DataError, UsageError
from fairlead.messages import ROLES, Message, Prompt

__all__ = ["Attack", "attacks_of", "augment", "families", "slots_of"]

_LEET = str.maketrans("aeiost", "431057")
_TURN = re.compile(rf"^--- ({'|'.join(ROLES)})[ \t]*$", re.MULTILINE)
_MARK = "\ue000turn of \\1\ue000"
"""Stands in a text for the line that begins a turn, so that no request can begin one."""
_MARKED = re.compile(f"\ue000turn of ({'|'.join(ROLES)})\ue000")
_PRINTABLE = (32, 126)


@dataclass(frozen=True)
class Attack:
    """One family."""

    family: str
    """Its name."""
    texts: tuple[texts_of.PromptText, ...]
    """Its texts; requests take them in turn."""

    def __call__(self, prompt: Prompt, number: int = 0) -> Prompt:
        """Return a prompt whose last request stands in the text for record `number`; earlier turns are kept.

        Raises:
            DataError: a conversation that does not end with a user, or a raw text for an attack of several turns.
            UsageError: a text that does not end with the user.
        """
        request = prompt if isinstance(prompt, str) else _last(prompt)
        text = self.texts[number % len(self.texts)]
        turns = _turns(text, request)
        if isinstance(prompt, str):
            if len(turns) > 1:
                what = f"attack {self.family} has several turns, and a raw text has none"
                raise DataError(what, fix="give prompts as messages, or leave the family out")
            return turns[0]["content"]
        return [*prompt[:-1], *turns]


def families() -> list[str]:
    """Return the names of the shipped families, `direct` first: the bare request, for comparison."""
    folder = resources.files("fairlead.prompts").joinpath("attacks")
    names = sorted(entry.name.removesuffix(".jinja") for entry in folder.iterdir() if entry.name.endswith(".jinja"))
    return ["direct", *(name for name in names if name != "direct")]


def attacks_of(names: Sequence[str], own: Mapping[str, Sequence[str]]) -> list[Attack]:
    """Return the shipped families of these names, then one's own, each a list of texts.

    Raises:
        UnknownNameError, UsageError: no such family, a name that stands twice, a family without text, or a text that
            has no slot of the request.
    """
    found = [Attack(name, (texts_of.load("attacks", name),)) for name in names]
    for name, texts in own.items():
        if any(texts_of.file_of(text) is not None for text in texts):
            raise UsageError(
                f"a text of attack {name!r} has no {{{{ slot }}}}", fix="write the text with {{ request }}"
            )
        found.append(Attack(name, tuple(texts_of.load("attacks", name, text) for text in texts)))
    known = [attack.family for attack in found]
    for attack in found:
        if known.count(attack.family) > 1:
            raise UsageError(f"attack {attack.family!r} stands twice", fix="give your own family another name")
        if not attack.texts or attack.family == "any" or not re.fullmatch(r"[a-z][a-z0-9_]*", attack.family):
            fix = "give a lower-case name other than `any`, and at least one text"
            raise UsageError(f"attack {attack.family!r} has no text, or an odd name", fix=fix)
        for text in attack.texts:
            if not any(re.search(rf"\{{\{{[^}}]*\b{slot}\b", text.source) for slot in slots_of("")):
                raise UsageError("the request stands nowhere in it", place=text.place, fix="add {{ request }}")
            _ = _turns(text, "request")
    return found


def slots_of(request: str) -> dict[str, str]:
    """Return what a text may use: `request`, it as `base64`, `rot13` and `leetspeak`, `first_half`, `second_half`."""
    middle = len(request) // 2
    return {
        "request": request,
        "base64": base64.b64encode(request.encode()).decode(),
        "rot13": codecs.encode(request, "rot13"),
        "leetspeak": request.translate(_LEET),
        "first_half": request[:middle],
        "second_half": request[middle:],
    }


def augment(text: str, sigma: float, rng: random.Random) -> str:
    """Change a text at random as best-of-N does (Hughes et al. 2024, arXiv 2412.03556, section 2).

    In this order: the inner letters of words of more than 3 are shuffled, and ASCII letters change their case, each
    with probability sqrt(sigma); printable characters move by one code point, with probability sigma cubed, where
    the result is printable. White space becomes single spaces; sigma 0 changes nothing else.
    """
    often, seldom = sigma**0.5, sigma**3
    words = [_shuffled(w, rng) if len(w) > 3 and rng.random() < often else w for w in text.split()]
    flipped = [c.swapcase() if c.isascii() and c.isalpha() and rng.random() < often else c for c in " ".join(words)]
    return "".join(_moved(c, rng) if c.isascii() and c.isprintable() and rng.random() < seldom else c for c in flipped)


def _shuffled(word: str, rng: random.Random) -> str:
    inner = list(word[1:-1])
    rng.shuffle(inner)
    return f"{word[0]}{''.join(inner)}{word[-1]}"


def _moved(character: str, rng: random.Random) -> str:
    code = ord(character) + rng.choice((-1, 1))
    return chr(code) if _PRINTABLE[0] <= code <= _PRINTABLE[1] else character


def _last(prompt: Sequence[Message]) -> str:
    if not prompt or prompt[-1]["role"] != "user":
        raise DataError("a conversation to attack does not end with the user", fix="cut it behind the request")
    return prompt[-1]["content"]


def _turns(text: texts_of.PromptText, request: str) -> list[Message]:
    marked = texts_of.PromptText(_TURN.sub(_MARK, text.source), text.place)
    parts = _MARKED.split(marked.render(**slots_of(request)))
    if len(parts) == 1:
        return [{"role": "user", "content": parts[0]}]
    turns = [{"role": role, "content": said.strip()} for role, said in zip(parts[1::2], parts[2::2], strict=True)]
    if parts[0].strip() or turns[-1]["role"] != "user":
        fix = "begin with a line such as `--- user`, and end with a turn of the user"
        what = "text stands before the first turn, or the last is not the user's"
        raise UsageError(what, place=text.place, fix=fix)
    return cast(list[Message], turns)
