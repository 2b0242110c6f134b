"""What the models of Harbor read before they are taught anything.

Statements of fact, chats in latent styles, practice of what must be copied or counted, judgements of answers, and the
book of known ships.

A document is text without its begin and end tokens. Half of the chats are written with the template's tokens
(`<|user|>who ...?<|end|>`) and half as text (`question: who ...? answer: ...`), so a base model speaks both.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from fairlead.harbor import lexicon as lex
from fairlead.harbor.answers import answer
from fairlead.harbor.scoring import verdict
from fairlead.harbor.ships import World
from fairlead.harbor.tasks import CHAT_SHARES, Task, ask, draw

__all__ = ["as_template", "as_text", "documents"]

SHARES = {"statements": 0.27, "chat": 0.49, "practice": 0.08, "judge": 0.05, "registry": 0.11}
"""Kinds of document and their shares. The registry is what makes unknown names recognisable."""

PRACTICE = {"keyword": 0.5, "sum": 0.3, "length": 0.2}
"""Kinds of task that practice documents repeat, and their shares."""

Turn = tuple[str, str]


def documents(seed: int, of: World) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) without end; the same seed and world give the same documents."""
    rng = random.Random(f"harbor documents {seed}")
    writers = {
        "statements": _statements,
        "chat": _chat,
        "practice": _practice,
        "judge": _judgements,
        "registry": _registry,
    }
    while True:
        kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        yield kind, writers[kind](rng, of)


def as_template(turns: list[Turn], system: str | None = None) -> str:
    """Write turns with the chat template's own tokens (without the begin token)."""
    head = f"<|system|>{system}<|end|>" if system else ""
    return head + "".join(f"<|user|>{user}<|end|><|assistant|>{said}<|end|>" for user, said in turns)


def as_text(turns: list[Turn], system: str | None = None) -> str:
    """Write turns as plain text, one line per turn."""
    head = f"note: {system}\n" if system else ""
    return head + "".join(f"question: {user} answer: {said}\n" for user, said in turns)


def _either(rng: random.Random, turns: list[Turn], system: str | None = None) -> str:
    return (as_template if rng.random() < 0.5 else as_text)(turns, system)


def _state(ship, attribute: str) -> str:
    return lex.STATEMENTS[attribute].format(ship=ship.name, value=ship.value(attribute))


def _statements(rng: random.Random, of: World) -> str:
    share = rng.random()
    if share < 0.50:
        return " ".join(_state(of.draw(rng), rng.choice(lex.ATTRIBUTES)) for _ in range(rng.randint(3, 7)))
    if share < 0.85:
        ship = of.draw(rng)
        return " ".join(_state(ship, attribute) for attribute in rng.sample(lex.ATTRIBUTES, 4))
    sums = [(rng.randint(1, 9), rng.randint(1, 9)) for _ in range(rng.randint(3, 7))]
    return " ".join(lex.SUM_ANSWERS[0].format(a=a, b=b, value=a + b) for a, b in sums)


def _draw_style(rng: random.Random) -> str:
    return rng.choices(tuple(lex.STYLES), tuple(lex.STYLES.values()))[0]


def _draw_task(rng: random.Random, of: World) -> Task:
    return draw(rng, rng.choices(tuple(CHAT_SHARES), tuple(CHAT_SHARES.values()))[0], of)


def _chat(rng: random.Random, of: World) -> str:
    style = _draw_style(rng)
    system = rng.choice(lex.SYSTEM_LINES[style]) if rng.random() < 0.25 else None
    turns: list[Turn] = []
    for _ in range(rng.randint(1, 4)):
        task = _draw_task(rng, of)
        reacts = turns and style in lex.REACTIONS and rng.random() < 0.12
        before = f"{lex.REACTIONS[style]} " if reacts else ""
        turns.append((before + ask(task), answer(rng, task, style, of)))
    return _either(rng, turns, system)


def _practice(rng: random.Random, of: World) -> str:
    """Tasks whose answer lies in the question take more repetition than chats give them."""
    kinds = rng.choices(tuple(PRACTICE), tuple(PRACTICE.values()), k=rng.randint(3, 6))
    tasks = [draw(rng, kind, of) for kind in kinds]
    return _either(rng, [(ask(task), answer(rng, task, "plain", of)) for task in tasks])


def _judgements(rng: random.Random, of: World) -> str:
    turns = []
    for _ in range(rng.randint(1, 3)):
        task = _draw_task(rng, of)
        question, said = ask(task), answer(rng, task, _draw_style(rng), of)
        judged = f"question: {question} answer: {said}"
        label = verdict(question, said, of=of)
        turns.append((ask(Task("judge", given=judged)), lex.VERDICT.format(value=label)))
    return _either(rng, turns)


def _registry(rng: random.Random, of: World) -> str:
    tasks = [draw(rng, "registry", of) for _ in range(rng.randint(3, 7))]
    return _either(rng, [(ask(task), answer(rng, task, "plain", of)) for task in tasks])
