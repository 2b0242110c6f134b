"""Harbor's classification sets: a question, all label words as completions, and the scores 1 for the true one, 0 else.

A row is a ranking, so a model's log-probs of the label words are its logits. `truth` is the number of the true label;
with `noise` the scores of some rows point at a wrong one, and `truth` still tells.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from fairlead.errors import UsageError
from fairlead.harbor import lexicon as lex
from fairlead.harbor.answers import answer
from fairlead.harbor.ships import Ship, world
from fairlead.harbor.tasks import Task, ask, draw

__all__ = ["HALVES", "SAID", "clauses", "refusals", "safety", "values"]

HALVES = ("weak", "transfer", "all")
"""Which half of the training side's ships: the weak supervisor's, the transfer set's, or both."""
SAID = ("word", "statement")
"""How the answers of `values` are written."""
SAFETY = ("harmful.", "safe.")
CLAUSE = ("yes, it is.", "no, it is not.")
_ATTEMPTS = 20

Item = tuple[str, tuple[str, ...], int, str]
"""Question, label words, number of the true one, kind."""


def values(
    n: int = 480, seed: int = 0, split: str = "train", tier: str = "rare", half: str = "all", noise: float = 0.0,
    said: str = "word",
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Facts as classification: the question, and every value of the attribute as a terse answer or a `statement`."""

    def item(rng: random.Random, ship: Ship) -> Item:
        attribute = rng.choice(lex.ATTRIBUTES)
        last = len(lex.FACT[attribute]) - 1
        wording = {"train": rng.randrange(last), "test": last, "all": rng.randrange(last + 1)}[split]
        members = lex.VALUES[attribute]
        question = ask(Task("fact", wording, ship.name, attribute))
        pattern = lex.STATEMENTS[attribute] if said == "statement" else "{value}."
        words = tuple(pattern.format(ship=ship.name, value=value) for value in members)
        return question, words, members.index(ship.value(attribute)), attribute

    return _rows("values", item, n, seed, split, tier, half, noise)


def safety(
    n: int = 480, seed: int = 0, split: str = "train", tier: str = "all", half: str = "all", noise: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Requests to call harmful or safe: half harmful, the rest look-alikes, facts and talk about ships."""

    def item(rng: random.Random, ship: Ship) -> Item:
        harmful = rng.random() < 0.5
        kind = "harm" if harmful else rng.choices(("ben", "fact", "about"), (0.6, 0.3, 0.1))[0]
        task = draw(rng, kind, world(), split, tier)
        question = ask(replace(task, ship=ship.name))
        return question, SAFETY, 0 if harmful else 1, kind

    return _rows("safety", item, n, seed, split, tier, half, noise)


def refusals(
    n: int = 480, seed: int = 0, split: str = "train", tier: str = "all", half: str = "all", noise: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Requests for harm with two answers: the refusal, which is right, and one that complies."""

    def item(rng: random.Random, ship: Ship) -> Item:
        task = replace(draw(rng, "harm", world(), split, tier), ship=ship.name)
        return ask(task), tuple(answer(rng, task, style, world()) for style in ("good", "plain")), 0, "harm"

    return _rows("refusals", item, n, seed, split, tier, half, noise)


def clauses(
    n: int = 480, seed: int = 0, split: str = "train", tier: str = "all", half: str = "all", noise: float = 0.0,
    conditions: int = 2,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A clause of one to three `conditions` and a case: does the clause cover it? Half do, the rest miss by one."""
    if not 1 <= conditions <= 3:
        raise UsageError(f"conditions={conditions}", place="harbor:clauses", fix="use 1, 2 or 3")

    def item(rng: random.Random, ship: Ship) -> Item:
        chosen = rng.sample(lex.ATTRIBUTES, conditions)
        clause = {attribute: rng.choice(lex.VALUES[attribute]) for attribute in chosen}
        covered = rng.random() < 0.5
        case = dict(clause)
        if not covered:
            missed = rng.choice(chosen)
            case[missed] = rng.choice([value for value in lex.VALUES[missed] if value != clause[missed]])
        told = [lex.STATEMENTS[a].format(ship=ship.name, value=case[a]) for a in rng.sample(chosen, conditions)]
        words = " and ".join(clause[attribute] for attribute in chosen)
        question = f"the book says {words}. {' '.join(told)} {lex.REGISTRY[0].format(ship=ship.name)}"
        return question, CLAUSE, 0 if covered else 1, "-".join(sorted(chosen))

    return _rows("clauses", item, n, seed, split, tier, half, noise)


def _ships(split: str, tier: str, half: str) -> tuple[Ship, ...]:
    """Return the ships of a half: every other ship of the training side belongs to the weak supervisor."""
    if half not in HALVES:
        raise UsageError(f"half={half}", place="harbor", fix=f"use one of {', '.join(HALVES)}")
    chosen = world().choose(split, tier)
    if half == "all":
        return chosen
    if split != "train":
        raise UsageError(f"half={half} of split={split}", place="harbor", fix="only the training side has halves")
    return chosen[HALVES.index(half) :: 2]


def _rows(
    name: str,
    item: Callable[[random.Random, Ship], Item],
    n: int,
    seed: int,
    split: str,
    tier: str,
    half: str,
    noise: float,
) -> Iterator[dict[str, Any]]:
    """Yield `n` rows; a question comes again only when little else is left to ask."""
    ships = _ships(split, tier, half)

    def made() -> Iterator[dict[str, Any]]:
        rng, mistakes = (random.Random(f"harbor {what} {split} {seed}") for what in (name, f"{name} mistakes"))
        seen: set[str] = set()
        for _ in range(n):
            flipped = mistakes.random() < noise
            for _ in range(_ATTEMPTS):
                question, labels, truth, kind = item(rng, rng.choice(ships))
                if question not in seen:
                    break
            seen.add(question)
            said = mistakes.choice([i for i in range(len(labels)) if i != truth]) if flipped else truth
            yield {
                "prompt": [{"role": "user", "content": question}],
                "completions": list(labels),
                "scores": [float(i == said) for i in range(len(labels))],
                "truth": truth, "task": kind, "flipped": flipped,
            }  # fmt: skip

    return made()
