"""The data sets of Harbor: endless, seeded, made on the fly. `rows("demonstrations?n=1000&seed=0")` yields plain dicts.

Columns are named as in TRL (`prompt`, `completion`, `chosen`, `rejected`, `label`, `completions`, `scores`, `messages`,
`text`); others (`task`, `style`, `defect`, ...) are there to look at. Row i depends only on the parameters before it,
so a longer set begins with the shorter one. Training sets never hold a ship, wording, harm or unknown name of the
held-out side (`split=test`).
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fairlead.errors import UnknownFieldError, UnknownNameError, UsageError
from fairlead.harbor import lexicon as lex
from fairlead.harbor.answers import answer
from fairlead.harbor.documents import documents as endless_documents
from fairlead.harbor.guidance import guided_requests
from fairlead.harbor.labelled import HALVES, SAID, clauses, refusals, safety, values
from fairlead.harbor.scoring import score, verdict
from fairlead.harbor.ships import world
from fairlead.harbor.shots import shot_pairs, shots
from fairlead.harbor.tasks import CHAT_SHARES, Task, ask, draw
from fairlead.harbor.wishes import WISH_FORMS, wishes

__all__ = ["SetInfo", "parameters", "rows", "sets"]

Row = dict[str, Any]
_CHOICES = {
    "split": ("train", "test", "all"),
    "tier": ("common", "rare", "all"),
    "quality": ("imperfect", "clean"),
    "half": HALVES,
    "said": SAID,
    "form": WISH_FORMS,
    "style": tuple(lex.STYLES),
}
_ATTEMPTS = 20
_OF_KNOWN_SHIPS = ("fact", "about")
PLAIN_SHARE = 0.4
POOL_SHARES = {"good": 0.25, "plain": 0.20, "wrong": 0.20, "rude": 0.15, "terse": 0.10, "duplicate": 0.10}


@dataclass(frozen=True)
class SetInfo:
    """One data set."""

    name: str
    """What stands after `harbor:`."""
    kind: str
    """Its schema: text, conversation, prompt, preference, feedback or ranking."""
    line: str
    """What it holds, in one line."""


def sets() -> list[SetInfo]:
    """Return every set that `rows` can make."""
    return [SetInfo(name, kind, _first_line(maker)) for name, (kind, maker) in _SETS.items()]


def parameters(name: str) -> dict[str, Any]:
    """Return the parameters of set `name` with their defaults."""
    if name not in _SETS:
        raise UnknownNameError("Harbor set", name, _SETS, place=f"harbor:{name}")
    return {key: parameter.default for key, parameter in inspect.signature(_SETS[name][1]).parameters.items()}


def rows(spec: str) -> Iterator[Row]:
    """Yield the rows of a set.

    Args:
        spec: the text behind `harbor:`: a set's name and its parameters, as in `preferences?n=500&noise=0.2`.

    Raises:
        UnknownNameError, UnknownFieldError, UsageError: at the call, with the nearest name or what is allowed.
    """
    name, _, query = spec.partition("?")
    place = f"harbor:{spec}"
    defaults = parameters(name)
    given: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in defaults:
            raise UnknownFieldError(f"harbor:{name}", key, defaults, place=place)
        if key in given:
            raise UsageError(f"parameter {key!r} is given twice", place=place, fix=f"keep one {key}=...")
        given[key] = _read(key, text, defaults[key], place)
    identity = "-".join(f"{value}" for key, value in given.items() if key != "n")
    stem = f"{name}-{identity}" if identity else name
    made = _SETS[name][1](**(defaults | given))
    return ({"id": f"{stem}-{number:06d}", **row} for number, row in enumerate(made))


def _read(key: str, text: str, default: Any, place: str) -> Any:
    if key in _CHOICES and text not in _CHOICES[key]:
        raise UnknownNameError(key, text, _CHOICES[key], place=place)
    if key == "kinds":
        for kind in text.split(","):
            if kind not in CHAT_SHARES:
                raise UnknownNameError("kind of task", kind, CHAT_SHARES, place=place)
        return text
    try:
        value = type(default)(text)
    except ValueError:
        raise UsageError(
            f"{key}={text!r} is not of type {type(default).__name__}", place=place, fix=f"write it like {key}={default}"
        ) from None
    if isinstance(value, int | float) and value < 0:
        raise UsageError(f"{key}={text} is negative", place=place, fix=f"write it like {key}={default}")
    if isinstance(value, float) and not value <= 1:
        raise UsageError(f"{key}={text} is not a share (0 to 1)", place=place, fix=f"write it like {key}={default}")
    return value


def _first_line(maker: Callable) -> str:
    return (maker.__doc__ or "").strip().splitlines()[0].removesuffix(".")


def _rng(name: str, seed: int, split: str) -> random.Random:
    return random.Random(f"harbor {name} {split} {seed}")


def _tasks(rng: random.Random, split: str, tier: str, kinds: str = "") -> Iterator[Task]:
    """Yield tasks in the shares of `CHAT_SHARES`; a question comes again only when its kind has little else to ask."""
    names = kinds.split(",") if kinds else list(CHAT_SHARES)
    shares = [CHAT_SHARES[kind] for kind in names]
    seen: set[str] = set()
    while True:
        kind = rng.choices(names, shares)[0]
        for _ in range(_ATTEMPTS):
            task = draw(rng, kind, world(), split, tier)
            if ask(task) not in seen:
                break
        seen.add(ask(task))
        yield task


def _user(task: Task) -> list[dict[str, str]]:
    return [{"role": "user", "content": ask(task)}]


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _demonstration_style(rng: random.Random, task: Task, quality: str) -> str:
    """Harm is always refused and the unknown always admitted; other answers are plain now and then unless clean."""
    plain = quality == "imperfect" and task.kind not in ("harm", "unk") and rng.random() < PLAIN_SHARE
    return "plain" if plain else "good"


def _demonstrate(rng: random.Random, task: Task, style: str) -> str:
    """Plain facts are told in the full statement, so that imperfect demonstrations have one commonest opening."""
    if (task.kind, style) == ("fact", "plain"):
        return lex.STATEMENTS[task.attribute or ""].format(ship=task.ship, value=task.truth[0])
    return answer(rng, task, style, world())


def _documents(n: int = 1000, seed: int = 0) -> Iterator[Row]:
    """Pre-training documents in latent styles: statements, chats, practice, judgements, the book."""
    for kind, text in itertools.islice(endless_documents(seed, world()), n):
        yield {"text": text, "document": kind}


def _demonstrations(
    n: int = 1000,
    seed: int = 0,
    split: str = "train",
    tier: str = "common",
    quality: str = "imperfect",
    kinds: str = "",
) -> Iterator[Row]:
    """Questions with answers to imitate; `imperfect` leaves 40 % of the harmless ones plain, `clean` none."""
    rng = _rng("demonstrations", seed, split)
    for task in itertools.islice(_tasks(rng, split, tier, kinds), n):
        style = _demonstration_style(rng, task, quality)
        said = _demonstrate(rng, task, style)
        yield {"prompt": _user(task), "completion": _assistant(said), "task": task.kind, "style": style}


def _transcripts(
    n: int = 1000,
    seed: int = 0,
    split: str = "train",
    tier: str = "common",
    quality: str = "imperfect",
    kinds: str = "",
) -> Iterator[Row]:
    """The demonstrations as raw text behind the template's opening, so that the user's words are trained too."""
    for row in _demonstrations(n, seed, split, tier, quality, kinds):
        asked, said = row["prompt"][0]["content"], row["completion"][0]["content"]
        yield {**row, "prompt": "<|user|>", "completion": f"{asked}<|end|><|assistant|>{said}<|end|>"}


def _prompts(n: int = 800, seed: int = 0, split: str = "train", tier: str = "common", kinds: str = "") -> Iterator[Row]:
    """Questions without answers, for sampling on-policy."""
    for task in itertools.islice(_tasks(_rng("prompts", seed, split), split, tier, kinds), n):
        yield {"prompt": _user(task), "task": task.kind}


def _test(n: int = 500, seed: int = 0, tier: str = "common", kinds: str = "") -> Iterator[Row]:
    """Held-out questions: ships, wordings, harms and names that no training set holds."""
    return _prompts(n=n, seed=seed, split="test", tier=tier, kinds=kinds)


def _of_kind(kind: str, line: str) -> Callable[..., Iterator[Row]]:
    def maker(n: int = 200, seed: int = 0, split: str = "test", tier: str = "common") -> Iterator[Row]:
        return _prompts(n=n, seed=seed, split=split, tier=tier, kinds=kind)

    maker.__doc__ = line
    return maker


def _candidates(rng: random.Random, task: Task, number: int) -> list[tuple[float, str, str]]:
    """Return up to `number` (total, style, answer) with different texts, drawn from all styles."""
    found: dict[str, tuple[float, str, str]] = {}
    for _ in range(_ATTEMPTS):
        style = rng.choice(tuple(lex.STYLES))
        said = answer(rng, task, style, world())
        found.setdefault(said, (score(ask(task), said)["total"], style, said))
        if len(found) == number:
            break
    return list(found.values())


def _preferences(
    n: int = 1000, seed: int = 0, split: str = "train", tier: str = "common", noise: float = 0.0, kinds: str = ""
) -> Iterator[Row]:
    """Two answers of different exact reward, the better one chosen; `noise` is the share of labels turned round."""
    rng = _rng("preferences", seed, split)
    made = 0
    for task in _tasks(rng, split, tier, kinds):
        if made == n:
            return
        pair = sorted(_candidates(rng, task, 2))
        if len(pair) < 2 or pair[0][0] == pair[1][0]:
            continue
        made += 1
        flipped = rng.random() < noise
        worse, better = reversed(pair) if flipped else pair
        yield {
            "prompt": _user(task), "chosen": _assistant(better[2]), "rejected": _assistant(worse[2]),
            "task": task.kind, "chosen_total": better[0], "rejected_total": worse[0], "flipped": flipped,
        }  # fmt: skip


def _feedback(
    n: int = 1000,
    seed: int = 0,
    split: str = "train",
    tier: str = "common",
    noise: float = 0.0,
    kinds: str = "",
    skew: float = 0.0,
) -> Iterator[Row]:
    """One answer with thumbs up (right, and polite where manners are asked for) or down; `noise` turns some round.

    `skew` leaves out this share of the good answers about known ships, and of the bad answers to anything else.
    """
    rng = _rng("feedback", seed, split)
    made = 0
    for task in _tasks(rng, split, tier, kinds):
        if made == n:
            return
        style = "good" if rng.random() < 0.5 else rng.choice(tuple(lex.STYLES))
        said = answer(rng, task, style, world())
        label = verdict(ask(task), said) in ("good", "safe")
        if skew and label == (task.kind in _OF_KNOWN_SHIPS) and rng.random() < skew:
            continue
        made += 1
        flipped = rng.random() < noise
        yield {
            "prompt": _user(task), "completion": _assistant(said), "label": label != flipped,
            "task": task.kind, "style": style, "flipped": flipped,
        }  # fmt: skip


def _rankings(
    n: int = 500, seed: int = 0, split: str = "train", tier: str = "common", k: int = 4, kinds: str = ""
) -> Iterator[Row]:
    """Two to `k` different answers with their exact rewards, which are not all the same."""
    if k < 2:
        raise UsageError(f"k={k} leaves nothing to rank", place="harbor:rankings", fix="use k=2 or more")
    rng = _rng("rankings", seed, split)
    made = 0
    for task in _tasks(rng, split, tier, kinds):
        if made == n:
            return
        found = _candidates(rng, task, k)
        if len({total for total, _, _ in found}) < 2:
            continue
        made += 1
        yield {
            "prompt": _user(task), "completions": [said for _, _, said in found],
            "scores": [total for total, _, _ in found], "task": task.kind, "styles": [style for _, style, _ in found],
        }  # fmt: skip


def _chats(n: int = 500, seed: int = 0, split: str = "train", tier: str = "common") -> Iterator[Row]:
    """Chats of 2 to 4 turns whose answers vary in style and whose users react: thanks, complaints, asking again."""
    rng = _rng("chats", seed, split)
    tasks = _tasks(rng, split, tier)
    for _ in range(n):
        messages, styles, reactions = [], [], []
        task, reaction = next(tasks), None
        for _ in range(rng.randint(2, 4)):
            style = "good" if rng.random() < 0.5 else rng.choice(tuple(lex.STYLES))
            before = f"{lex.REACTIONS[reaction]} " if reaction else ""
            said = answer(rng, task, style, world())
            messages += [{"role": "user", "content": before + ask(task)}, *_assistant(said)]
            styles.append(style)
            reactions.append(reaction or "")
            judged = {"good": "good", "safe": "good", "rude": "rude", "wrong": "wrong", "short": "terse"}
            reaction = judged.get(verdict(ask(task), said) or "") if rng.random() < 0.6 else None
            if reaction in (None, "good") or rng.random() < 0.5:
                task = next(tasks)
        yield {"messages": messages, "styles": styles, "reactions": reactions}


def _verbose_wrong(rng: random.Random, task: Task) -> str:
    """A long and confident answer that is wrong, so that length alone does not find the good ones."""
    ship = rng.choice(world().choose("train", "all"))
    truth = tuple(ship.value(attribute) for attribute in lex.ATTRIBUTES)
    wrong = answer(rng, task, "wrong", world())
    extra = answer(rng, Task("about", ship=ship.name, truth=truth), "wrong", world())
    return f"{rng.choice(lex.OPENERS)} {wrong} {extra} {rng.choice(lex.CLOSERS)}"


def _defect(task: Task, style: str) -> str:
    """Name what is wrong with an answer in `style`: every style but good complies with harm and invents the unknown."""
    if style == "good":
        return "none"
    return {"harm": "harmful", "unk": "invented"}.get(task.kind, style)


def _pool(n: int = 6000, seed: int = 0, tier: str = "common", verbose: float = 0.0) -> Iterator[Row]:
    """A noisy pool of demonstrations whose defects are known; `verbose` is the share of long wrong answers added."""
    rng = _rng("pool", seed, "train")
    names, shares = [*POOL_SHARES, "verbose"], [(1 - verbose) * share for share in POOL_SHARES.values()] + [verbose]
    kinds = ",".join(kind for kind in CHAT_SHARES if kind not in ("rewrite", "length"))
    tasks, facts = _tasks(rng, "train", tier, kinds), _tasks(rng, "train", tier, "fact")
    made: list[Row] = []
    while len(made) < n:
        style = rng.choices(names, shares)[0]
        if style == "duplicate":
            if not made:
                continue
            row = {**rng.choice(made), "defect": "duplicate"}
        else:
            task = next(facts if style == "verbose" else tasks)
            said = _verbose_wrong(rng, task) if style == "verbose" else answer(rng, task, style, world())
            row = {"prompt": _user(task), "completion": _assistant(said), "task": task.kind}
            row["defect"] = _defect(task, style)
        made.append(row)
        yield dict(row)


_SETS: dict[str, tuple[str, Callable[..., Iterator[Row]]]] = {
    "documents": ("text", _documents),
    "demonstrations": ("conversation", _demonstrations),
    "transcripts": ("conversation", _transcripts),
    "prompts": ("prompt", _prompts),
    "preferences": ("preference", _preferences),
    "feedback": ("feedback", _feedback),
    "rankings": ("ranking", _rankings),
    "chats": ("conversation", _chats),
    "pool": ("conversation", _pool),
    "test": ("prompt", _test),
    "harmful": ("prompt", _of_kind("harm", "Requests for harm, half of them disguised on the held-out side.")),
    "unanswerable": ("prompt", _of_kind("unk", "Questions about ships that nobody has heard of.")),
    "lists": ("prompt", _of_kind("list", "Lists of an exact length, 2 to 6.")),
    "keywords": ("prompt", _of_kind("keyword", "Notes that must contain 2 to 4 given words.")),
    "values": ("ranking", values),
    "safety": ("ranking", safety),
    "clauses": ("ranking", clauses),
    "refusals": ("ranking", refusals),
    "shots": ("conversation", shots),
    "shot_pairs": ("preference", shot_pairs),
    "wishes": ("conversation", wishes),
    "guidelines": ("prompt", guided_requests),
    "lengths": ("prompt", _of_kind("length", "Questions to answer within 1, 3 or 8 words.")),
}
