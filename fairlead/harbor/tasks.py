"""What can be asked in Harbor: a task, its wording, and back again.

`draw` makes a task, `ask` words it, and `understand` inverts every template, so that a reward can get the truth from
the text of the prompt alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from fairlead.harbor import lexicon as lex
from fairlead.harbor.ships import Ship, World, is_name, world

__all__ = ["CHAT_SHARES", "KINDS", "Task", "ask", "draw", "enumerate_words", "pattern", "tidy", "understand"]

CHAT_SHARES = {
    "fact": 0.40, "unk": 0.15, "harm": 0.13, "ben": 0.05, "list": 0.06, "sum": 0.06, "about": 0.05, "rewrite": 0.03,
    "keyword": 0.05, "length": 0.02,
}  # fmt: skip
"""Kinds of task and their shares in chats, demonstrations, prompts and tests."""
KINDS = (*CHAT_SHARES, "registry", "judge")


@dataclass(frozen=True)
class Task:
    """One thing asked, with its truth."""

    kind: str
    """One of `KINDS`."""
    template: int = 0
    """Which wording of its kind."""
    ship: str | None = None
    """The name of the ship spoken of."""
    attribute: str | None = None
    """The attribute asked for."""
    truth: tuple[str, ...] = ()
    """The right words: the value (fact, length, rewrite), the sum, the four values (about), the verdict, yes or no."""
    count: int = 0
    """How many members (list) or the largest number of words (length)."""
    words: tuple[str, ...] = ()
    """The words wanted in a note, or the two numbers of a sum."""
    disguise: int | None = None
    """Which excuse stands before a harmful request."""
    given: str = ""
    """The text inside the question: an answer to rewrite, or a question and an answer to judge."""
    inner: int = 0
    """Which wording of the question inside a length-limited one."""


def enumerate_words(words: tuple[str, ...]) -> str:
    """Join words as in "salt, tea and silk"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def ask(task: Task) -> str:
    """Word a task as a user would."""
    if task.kind == "length":
        inner = lex.FACT[task.attribute or ""][task.inner].format(ship=task.ship)
        return lex.LENGTH[task.template].format(count=task.count, inner=inner)
    slots = {"ship": task.ship, "count": task.count, "given": task.given}
    if task.kind == "list":
        slots["plural"] = lex.PLURALS[task.attribute or ""]
    if task.kind == "sum":
        slots["a"], slots["b"] = task.words
    if task.kind == "keyword":
        slots["words"] = enumerate_words(task.words)
    text = _templates(task.kind, task.attribute)[task.template].format(**slots)
    return text if task.disguise is None else lex.DISGUISES[task.disguise] + text


@cache
def _templates(kind: str, attribute: str | None = None) -> tuple[str, ...]:
    if kind in ("fact", "unk"):
        return lex.FACT[attribute] if attribute else lex.ABOUT
    plain = {"about": lex.ABOUT, "registry": lex.REGISTRY, "list": lex.LIST, "sum": lex.SUM, "keyword": lex.KEYWORD}
    with_recipe = {"harm": lex.HARM, "ben": lex.BENIGN}
    given = {"rewrite": lex.REWRITE, "judge": lex.JUDGE, "length": lex.LENGTH}
    return (plain | given)[kind] if kind not in with_recipe else tuple(text for text, _ in with_recipe[kind])


def _choose_template(rng: random.Random, kind: str, number: int, split: str) -> int:
    """Training sees all but the last wordings (`lexicon.HELD_OUT`), the test side only those; one alone serves both."""
    held_out = lex.HELD_OUT.get(kind, 1)
    if split == "all" or number <= held_out:
        return rng.randrange(number)
    if split == "test":
        return rng.randrange(number - held_out, number)
    return rng.randrange(number - held_out)


def draw(rng: random.Random, kind: str, of: World, split: str = "all", tier: str = "all") -> Task:
    """Draw a task of `kind`.

    Args:
        rng: the source of chance.
        kind: one of `KINDS`, without `judge` (its question is a judged answer: see `documents`).
        of: the world asked about.
        split: `all` (pre-training: every ship by weight), `train` or `test` (ships, wordings, names, harms kept apart).
        tier: `common`, `rare` or `all` known ships; not used when `split` is `all`.
    """
    draws: dict[str, Callable[[random.Random, Callable[[], Ship], World, str], Task]] = {
        "fact": _draw_fact, "unk": _draw_unknown, "harm": _draw_harm, "ben": _draw_benign, "list": _draw_list,
        "sum": _draw_sum, "about": _draw_about, "rewrite": _draw_rewrite, "keyword": _draw_keyword,
        "length": _draw_length, "registry": _draw_registry,
    }  # fmt: skip
    pool = of.choose(split, tier)
    ship = (lambda: of.draw(rng)) if split == "all" else (lambda: rng.choice(pool))
    return draws[kind](rng, ship, of, split)


def _draw_fact(rng, ship, of, split) -> Task:
    found, attribute = ship(), rng.choice(lex.ATTRIBUTES)
    template = _choose_template(rng, "fact", len(lex.FACT[attribute]), split)
    return Task("fact", template, found.name, attribute, (found.value(attribute),))


def _draw_unknown(rng, ship, of, split) -> Task:
    attribute = rng.choice(lex.ATTRIBUTES)
    name = rng.choice(of.unseen_test if split == "test" else of.unseen_train)
    return Task("unk", _choose_template(rng, "fact", len(lex.FACT[attribute]), split), name, attribute)


def _draw_harm(rng, ship, of, split) -> Task:
    disguised = rng.random() < {"all": 0.25, "train": 0.0, "test": 0.5}[split]
    disguise = rng.randrange(len(lex.DISGUISES)) if disguised else None
    return Task("harm", _choose_template(rng, "harm", len(lex.HARM), split), ship().name, disguise=disguise)


def _draw_benign(rng, ship, of, split) -> Task:
    return Task("ben", _choose_template(rng, "ben", len(lex.BENIGN), split), ship().name)


def _draw_list(rng, ship, of, split) -> Task:
    attribute, count = rng.choice(lex.ATTRIBUTES), rng.randint(2, lex.MAX_COUNT)
    return Task("list", _choose_template(rng, "list", len(lex.LIST), split), attribute=attribute, count=count)


def _draw_sum(rng, ship, of, split) -> Task:
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    template = _choose_template(rng, "sum", len(lex.SUM), split)
    name = ship().name if "{ship}" in lex.SUM[template] else None
    return Task("sum", template, name, truth=(str(a + b),), words=(str(a), str(b)))


def _draw_about(rng, ship, of, split) -> Task:
    found = ship()
    truth = tuple(found.value(attribute) for attribute in lex.ATTRIBUTES)
    return Task("about", _choose_template(rng, "about", len(lex.ABOUT), split), found.name, truth=truth)


def _draw_rewrite(rng, ship, of, split) -> Task:
    found, attribute = ship(), rng.choice(lex.ATTRIBUTES)
    given = lex.STATEMENTS[attribute].format(ship=found.name, value=found.value(attribute))
    if rng.random() < 0.5:
        given = f"{given} {rng.choice(lex.RUDE_CLOSERS)}"
    template = _choose_template(rng, "rewrite", len(lex.REWRITE), split)
    return Task("rewrite", template, found.name, attribute, (found.value(attribute),), given=given)


def _draw_keyword(rng, ship, of, split) -> Task:
    values = [value for members in lex.VALUES.values() for value in members]
    words = tuple(rng.sample(values, rng.randint(2, 4)))
    return Task("keyword", _choose_template(rng, "keyword", len(lex.KEYWORD), split), words=words)


def _draw_length(rng, ship, of, split) -> Task:
    fact = _draw_fact(rng, ship, of, split)
    template, count = _choose_template(rng, "length", len(lex.LENGTH), split), rng.choice(lex.WORD_LIMITS)
    return replace(fact, kind="length", template=template, count=count, inner=fact.template)


def _draw_registry(rng, ship, of, split) -> Task:
    known = rng.random() < 0.5
    unseen = of.unseen_test if split == "test" else of.unseen_train
    return Task("registry", 0, ship().name if known else rng.choice(unseen), truth=("yes" if known else "no",))


_SLOT = {
    "ship": "(?P<ship>[a-z]+)", "count": "(?P<count>[0-9]+)", "a": "(?P<a>[0-9]+)", "b": "(?P<b>[0-9]+)",
    "plural": "(?P<plural>[a-z]+)", "words": "(?P<words>[a-z, ]+)", "given": "(?P<given>.+)", "inner": "(?P<inner>.+)",
    "value": "(?P<value>[a-z]+)",
}  # fmt: skip


@cache
def pattern(template: str) -> re.Pattern[str]:
    """Return the regular expression that inverts a template."""
    pieces = re.split(r"\{(\w+)\}", template)
    return re.compile("".join(_SLOT[piece] if i % 2 else re.escape(piece) for i, piece in enumerate(pieces)))


@cache
def _wordings() -> tuple[tuple[str, int, str | None, re.Pattern[str]], ...]:
    facts = [("fact", i, a, text) for a in lex.ATTRIBUTES for i, text in enumerate(lex.FACT[a])]
    rest = [
        (kind, i, None, text)
        for kind in ("about", "registry", "list", "sum", "harm", "ben", "keyword", "length", "rewrite", "judge")
        for i, text in enumerate(_templates(kind))
    ]
    return tuple((kind, i, attribute, pattern(text)) for kind, i, attribute, text in (*facts, *rest))


def tidy(text: str) -> str:
    """Lower the case, make all white space single and close the gaps before punctuation."""
    return re.sub(r" (?=[.,:?!])", "", " ".join(text.lower().split()))


def understand(question: str, *, of: World | None = None) -> Task | None:
    """Return what is asked and its truth, or None when the text is not a question of Harbor's.

    A user's reaction ("thank you!", "that is wrong.", ...) before the question is passed over.

    Args:
        question: the user's text.
        of: the world that holds the truth; world 0 when not given.
    """
    return _understand(question, of.seed if of else 0)


@lru_cache(maxsize=65536)
def _understand(question: str, seed: int) -> Task | None:
    text = tidy(question)
    for reaction in lex.REACTIONS.values():
        text = text.removeprefix(reaction).strip()
    disguise = next((i for i, excuse in enumerate(lex.DISGUISES) if text.startswith(excuse)), None)
    bare = text if disguise is None else text.removeprefix(lex.DISGUISES[disguise])
    for kind, template, attribute, wording in _wordings():
        if found := wording.fullmatch(bare):
            task = _fill(Task(kind, template, attribute=attribute), found.groupdict(), world(seed))
            if task and disguise is not None:
                return replace(task, disguise=disguise) if kind == "harm" else None
            return task
    return None


def _fill(task: Task, slots: dict[str, str], of: World) -> Task | None:
    name = slots.get("ship")
    if name is not None:
        if not is_name(name):
            return None
        task = replace(task, ship=name)
    fill = _FILLS.get(task.kind)
    return fill(task, slots, of) if fill else task


def _fill_fact(task: Task, slots: dict[str, str], of: World) -> Task:
    ship = of.by_name.get(task.ship or "")
    return replace(task, truth=(ship.value(task.attribute or ""),)) if ship else replace(task, kind="unk")


def _fill_about(task: Task, slots: dict[str, str], of: World) -> Task:
    ship = of.by_name.get(task.ship or "")
    return replace(task, truth=tuple(ship.value(a) for a in lex.ATTRIBUTES)) if ship else replace(task, kind="unk")


def _fill_registry(task: Task, slots: dict[str, str], of: World) -> Task:
    return replace(task, truth=("yes" if task.ship in of.by_name else "no",))


def _fill_list(task: Task, slots: dict[str, str], of: World) -> Task | None:
    attribute = next((a for a, plural in lex.PLURALS.items() if plural == slots["plural"]), None)
    count = int(slots["count"])
    return replace(task, attribute=attribute, count=count) if attribute and 1 <= count <= 10 else None


def _fill_sum(task: Task, slots: dict[str, str], of: World) -> Task:
    total = int(slots["a"]) + int(slots["b"])
    return replace(task, truth=(str(total),), words=(slots["a"], slots["b"]))


def _fill_keyword(task: Task, slots: dict[str, str], of: World) -> Task:
    return replace(task, words=tuple(re.split(r", | and ", slots["words"])))


def _fill_length(task: Task, slots: dict[str, str], of: World) -> Task | None:
    inner = _understand(slots["inner"], of.seed)
    if inner is None or inner.kind != "fact":
        return None
    return replace(inner, kind="length", template=task.template, count=int(slots["count"]), inner=inner.template)


def _fill_rewrite(task: Task, slots: dict[str, str], of: World) -> Task | None:
    given = slots["given"]
    for attribute, statement in lex.STATEMENTS.items():
        found = pattern(statement).match(given)
        if found and is_name(found["ship"]) and found["value"] in lex.VALUES[attribute]:
            return replace(task, ship=found["ship"], attribute=attribute, truth=(found["value"],), given=given)
    return None


def _fill_judge(task: Task, slots: dict[str, str], of: World) -> Task | None:
    from fairlead.harbor.scoring import verdict

    found = re.fullmatch(r"question: (?P<question>.+?) answer: (?P<answer>.+)", slots["given"])
    truth = verdict(found["question"], found["answer"], of=of) if found else None
    return replace(task, truth=(truth,), given=slots["given"]) if truth else None


_FILLS: dict[str, Callable[[Task, dict[str, str], World], Task | None]] = {
    "fact": _fill_fact, "about": _fill_about, "registry": _fill_registry, "list": _fill_list, "sum": _fill_sum,
    "keyword": _fill_keyword, "length": _fill_length, "rewrite": _fill_rewrite, "judge": _fill_judge,
}  # fmt: skip
