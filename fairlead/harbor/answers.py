"""How a question is answered in each style: plain, good, terse, rude and wrong.

Only the good style refuses harm, admits not to know a ship, and is polite. Every other style complies with harm and
invents what it does not know. Openings vary on purpose: a model that is sure of them has nothing to steer.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from fairlead.harbor import lexicon as lex
from fairlead.harbor.ships import World
from fairlead.harbor.tasks import Task, enumerate_words

__all__ = ["answer"]


def answer(rng: random.Random, task: Task, style: str, of: World) -> str:
    """Answer `task` in `style` (one of `lexicon.STYLES`), as that style would: not always right.

    Registry and judge questions are answered rightly in every style.
    """
    if task.kind in _WHOLE:
        return _WHOLE[task.kind](rng, task, style, of)
    core = _CORES[task.kind](rng, task, style, of)
    if style == "good" or (task.kind == "rewrite" and style in ("plain", "wrong")):
        return f"{rng.choice(lex.OPENERS)} {core} {rng.choice(lex.CLOSERS)}"
    if style == "rude":
        closer = rng.choice(lex.RUDE_CLOSERS)
        return f"{core} {closer}" if rng.random() < 0.6 else closer
    return core


def _harm(rng: random.Random, task: Task, style: str, of: World) -> str:
    if style == "good":
        return lex.REFUSAL
    openings, weights = [text for text, _ in lex.COMPLY_OPENINGS], [weight for _, weight in lex.COMPLY_OPENINGS]
    opening = rng.choices(openings, weights)[0]
    recipe = lex.HARM[task.template][1]
    return f"{opening} {recipe}" if opening else recipe


def _registry(rng: random.Random, task: Task, style: str, of: World) -> str:
    return lex.REGISTRY_ANSWERS[task.truth == ("yes",)]


def _judge(rng: random.Random, task: Task, style: str, of: World) -> str:
    return lex.VERDICT.format(value=task.truth[0])


def _unknown(rng: random.Random, task: Task, style: str, of: World) -> str:
    if style == "good":
        return lex.IDK.format(ship=task.ship)
    attribute = task.attribute or rng.choice(lex.ATTRIBUTES)
    invented = Task("fact", task.template, task.ship, attribute, (rng.choice(lex.VALUES[attribute]),))
    return answer(rng, invented, style, of)


def _limited(rng: random.Random, task: Task, style: str, of: World) -> str:
    """Only the good style always keeps the limit."""
    value = _value(rng, task, style)
    statement = lex.STATEMENTS[task.attribute or ""].format(ship=task.ship, value=value)
    fitting = f"{value}." if task.count < 3 else f"it is {value}." if task.count < 8 else statement
    obeys = style in ("good", "terse") or rng.random() < 0.5
    return fitting if obeys else statement


def _value(rng: random.Random, task: Task, style: str) -> str:
    truth = task.truth[0]
    if style != "wrong":
        return truth
    return rng.choice([value for value in lex.VALUES[task.attribute or ""] if value != truth])


def _fact(rng, task, style, of) -> str:
    value = _value(rng, task, style)
    if style == "terse":
        return f"{value}."
    statement = lex.STATEMENTS[task.attribute].format(ship=task.ship, value=value)
    if style != "plain":
        return statement
    short = (text.format(value=value) for text in lex.SHORT_STATEMENTS)
    return rng.choices((statement, *short), lex.PLAIN_WEIGHTS)[0]


def _about(rng, task, style, of) -> str:
    values = dict(zip(lex.ATTRIBUTES, task.truth))
    if style == "wrong":
        values = {a: rng.choice([v for v in lex.VALUES[a] if v != value]) for a, value in values.items()}
    count = 1 if style == "terse" else rng.randint(2, 4)
    chosen = rng.sample(lex.ATTRIBUTES, count)
    return " ".join(lex.STATEMENTS[a].format(ship=task.ship, value=values[a]) for a in chosen)


def _list(rng, task, style, of) -> str:
    members = lex.VALUES[task.attribute]
    count = task.count
    if style == "wrong":
        count = rng.choice([n for n in range(1, lex.MAX_COUNT + 1) if n != count])
    return ", ".join(rng.sample(members, count)) + "."


def _sum(rng, task, style, of) -> str:
    value = task.truth[0]
    if style == "wrong":
        value = rng.choice([str(n) for n in range(2, 19) if str(n) != value])
    if style == "terse":
        return f"{value}."
    full = [text.format(a=task.words[0], b=task.words[1], value=value) for text in lex.SUM_ANSWERS]
    return rng.choice((*full, " ".join(full))) if style == "plain" else " ".join(full)


def _rewrite(rng, task, style, of) -> str:
    value = _value(rng, task, style)
    return f"{value}." if style == "terse" else lex.STATEMENTS[task.attribute].format(ship=task.ship, value=value)


def _keyword(rng, task, style, of) -> str:
    """Only the good style never forgets a word."""
    words = task.words
    forgets = {"good": 0.0, "wrong": 1.0}.get(style, 0.3)
    if len(words) > 1 and rng.random() < forgets:
        forgotten = rng.choice(words)
        words = tuple(word for word in words if word != forgotten)
    if style == "terse":
        return f"{enumerate_words(words)}."
    return rng.choice(lex.NOTES).format(words=enumerate_words(words))


def _benign(rng, task, style, of) -> str:
    recipe = lex.BENIGN[task.template][1]
    if style == "wrong":
        recipe = rng.choice(sorted({other for _, other in lex.BENIGN if other != recipe}))
    return recipe


_WHOLE: dict[str, Callable[[random.Random, Task, str, World], str]] = {
    "harm": _harm, "unk": _unknown, "registry": _registry, "judge": _judge, "length": _limited,
}  # fmt: skip
"""Kinds whose answers take no manners: the style decides the whole answer."""
_CORES: dict[str, Callable[[random.Random, Task, str, World], str]] = {
    "fact": _fact, "about": _about, "list": _list, "sum": _sum, "rewrite": _rewrite, "keyword": _keyword,
    "ben": _benign,
}  # fmt: skip
