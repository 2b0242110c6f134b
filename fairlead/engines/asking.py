"""Asking for verdicts: what a judge is shown, asking again where a reply is none, counting what stays without.

A judge is any engine. Its replies may come from a cache, which keeps raw replies by judge, prompt (with the order of
the answers in it) and sampling; a reply is read anew each time, and every time of asking again has a seed of its own,
so that a reply that is no verdict never stands for one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from fairlead.engines.base import Completion, Engine, FinishReason, Sampling
from fairlead.errors import EngineError, UnsupportedError, UsageError
from fairlead.messages import Prompt
from fairlead.verdicts import Reading, key_of

__all__ = [
    "JUDGING",
    "Case",
    "Guided",
    "Verdict",
    "answer_slots",
    "ask",
    "attempts",
    "check_ids",
    "frame",
    "frame_prompt",
    "key_for",
    "listed",
    "notes_on",
    "plain_prompt",
]

JUDGING = Sampling(temperature=0.0, max_tokens=1024)
"""One greedy verdict."""

Guided: TypeAlias = Literal["auto", "off", "on"]
"""Whether replies are held to the form of a case: where the judge can, never, or always, so that others are refused."""

_AT_ONCE = 64
_THREADS = 8
_HOPELESS = 24
"""Failures in a row that mean that the judge itself is down."""
_NAMED = 10
"""Ids that a note lists; the rows have all."""


@dataclass(frozen=True)
class Case:
    """One thing to be judged."""

    id: str
    """What it is called in notes."""
    prompt: Prompt
    """What the judge reads."""
    read: Callable[[str], Reading]
    """How its reply is read."""
    schema: str | None = None
    """JSON schema of the reply, for judges that can keep to one; None where it has no one form."""
    choices: tuple[str, ...] = ()
    """Texts of which the reply is one, in a schema's stead."""

    def wanted(self, how: Sampling) -> Sampling:
        """Return how a reply of its form is drawn."""
        return replace(how, schema=self.schema, choices=self.choices) if self.schema or self.choices else how


@dataclass(frozen=True)
class Verdict:
    """What became of a case."""

    value: Any
    """The verdict; None where there is none."""
    status: str
    """`ok`; `failed`, the judge gave no reply; or what a reply without verdict is: see `Reading.problem`, and `cut`,
    it ran into its token limit."""
    reply: str | None
    """The last reply; None where the judge gave none."""
    tries: int
    """How often the judge was asked."""
    error: str | None = None
    """What went wrong where the judge gave no reply."""
    guided: bool = False
    """Whether the reply was asked for in the form of its case."""
    unguided: str | None = None
    """Why it was not, where it was to be."""


def ask(
    judge: Engine,
    cases: Sequence[Case],
    sampling: Sampling = JUDGING,
    *,
    retries: int = 2,
    temperature: float = 0.3,
    guided: Guided = "off",
) -> list[Verdict]:
    """Ask a judge about every case, and again where its reply is no verdict; returns one verdict per case, in order.

    A question that the judge fails at is a verdict of status `failed`, and is not asked again.

    Args:
        judge: who is asked.
        cases: about what.
        sampling: how the first reply is drawn.
        retries: how often a case is asked about again, each time with the next seed.
        temperature: of these later replies.
        guided: whether replies are held to the forms of the cases.

    Raises:
        EngineError: the judge fails many times in a row.
        UnsupportedError: a judge that keeps to no such form, where it must.
    """
    found: list[Verdict | None] = [None] * len(cases)
    waiting = list(range(len(cases)))
    for how in attempts(judge, sampling, retries, temperature):
        for i, reply, form in _by_form(judge, cases, waiting, how, guided):
            before = found[i]
            verdict = _verdict(cases[i], reply, 1 if before is None else before.tries + 1)
            found[i] = replace(verdict, guided=form is True, unguided=form if isinstance(form, str) else None)
        waiting = [i for i in waiting if found[i].status not in ("ok", "failed")]  # type: ignore[union-attr]
        if not waiting:
            break
    return [verdict for verdict in found if verdict is not None]


def attempts(judge: Engine, sampling: Sampling, retries: int, temperature: float) -> Iterator[Sampling]:
    """Yield how the first reply is drawn, then how those after it are, which only a judge that can sample gives."""
    yield sampling
    if getattr(judge, "samples", True):
        for k in range(1, retries + 1):
            yield replace(sampling, temperature=max(temperature, sampling.temperature), seed=sampling.seed + k)


def check_ids(records: Sequence[Any]) -> None:
    """Refuse records that share an id: their rows could not be told apart.

    Raises:
        UsageError: naming them.
    """
    counts = Counter(str(record.id) for record in records)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        fix = "give every record an id of its own, or leave the ids out"
        raise UsageError(f"{len(twice)} ids stand more than once: {listed(twice)}", fix=fix)


def key_for(prompt: Prompt, *answers: str) -> str:
    """Return the key of a prompt to a judge."""
    return key_of(json.dumps(frame_prompt(prompt, ""), ensure_ascii=False), *answers)


def answer_slots(prompt: Prompt, answer: str) -> dict[str, Any]:
    """Return what a judge's text may use of one answer: `conversation` and `answer` in marks that bear `key`.

    `question` and `said` are the bare texts.
    """
    key = key_for(prompt, answer)
    return {
        "conversation": frame_prompt(prompt, key),
        "answer": frame("answer", answer, key),
        "question": plain_prompt(prompt),
        "said": answer,
        "key": key,
    }


def frame(kind: str, text: str, key: str) -> str:
    """Return a text between marks that bear its key, which no judged text contains."""
    return f"<{kind}-{key}>\n{text}\n</{kind}-{key}>"


def frame_prompt(prompt: Prompt, key: str) -> str:
    """Return a prompt as a judge is shown it: every turn in a frame of its role, a raw text in one called `text`."""
    if isinstance(prompt, str):
        return frame("text", prompt, key)
    return "\n".join(frame(turn["role"], turn["content"], key) for turn in prompt)


def plain_prompt(prompt: Prompt) -> str:
    """Return a prompt's words without frames: of a single turn its content, of several each behind its role."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def listed(names: Sequence[str]) -> str:
    """Name some and count the rest."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def notes_on(subject: str, ids: Sequence[str], verdicts: Sequence[Verdict]) -> list[str]:
    """Say how many of a subject's verdicts are missing, why, and to which ids [N] they belong."""
    notes = []
    missing = [(name, v) for name, v in zip(ids, verdicts, strict=True) if v.status not in ("ok", "failed")]
    failed = [(name, v) for name, v in zip(ids, verdicts, strict=True) if v.status == "failed"]
    again = sum(v.tries > 1 for v in verdicts)
    if again:
        extra = sum(v.tries - 1 for v in verdicts)
        notes.append(f"{subject}: {again} of {len(verdicts)} verdicts were asked for again, {extra} times in all")
    if missing:
        reasons = Counter(v.status for _, v in missing)
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        names = listed(list(dict.fromkeys(name for name, _ in missing)))
        notes.append(f"{subject}: {len(missing)} of {len(verdicts)} replies hold no verdict ({why}): {names}")
    if failed:
        names = listed(list(dict.fromkeys(name for name, _ in failed)))
        notes.append(f"{subject}: the judge failed at {len(failed)} of {len(verdicts)} ({failed[0][1].error}): {names}")
    return notes


def _by_form(
    judge: Engine, cases: Sequence[Case], places: Sequence[int], how: Sampling, guided: Guided
) -> Iterator[tuple[int, Completion | EngineError, bool | str]]:
    """Yield the place of every case, its reply, and whether it was asked for in the case's form, or why not."""
    groups: dict[Sampling, list[int]] = {}
    for i in places:
        groups.setdefault(how if guided == "off" else cases[i].wanted(how), []).append(i)
    for form, members in groups.items():
        done = 0
        try:
            for reply in _replies(judge, [cases[i].prompt for i in members], form):
                yield members[done], reply, form != how
                done += 1
            continue
        except UnsupportedError as error:
            if guided == "on" or form == how or error.place not in ("sampling.schema", "sampling.choices"):
                raise
            why = error.what
        rest = members[done:]
        for i, reply in zip(rest, _replies(judge, [cases[i].prompt for i in rest], how), strict=True):
            yield i, reply, why


def _verdict(case: Case, reply: Completion | EngineError, tries: int) -> Verdict:
    if isinstance(reply, EngineError):
        return Verdict(None, "failed", None, tries, str(reply))
    reading = case.read(reply.text)
    status = reading.problem or "ok"
    if status in ("no verdict", "incomplete") and reply.finish_reason is FinishReason.LENGTH:
        status = "cut"
    return Verdict(reading.value, status, reply.text, tries)


def _replies(judge: Engine, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion | EngineError]:
    from rich.console import Console
    from rich.progress import Progress

    console, in_a_row = Console(stderr=True), 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("verdicts", total=len(prompts))
        for start in range(0, len(prompts), _AT_ONCE):
            part = prompts[start : start + _AT_ONCE]
            for reply in _part(judge, part, sampling):
                in_a_row = in_a_row + 1 if isinstance(reply, EngineError) else 0
                if isinstance(reply, EngineError) and in_a_row == _HOPELESS:
                    what = f"the judge failed {_HOPELESS} times in a row; the last time: {reply.what}"
                    fix = reply.fix or "see that the judge answers; replies so far are kept where there is a cache"
                    raise EngineError(what, place=reply.place, fix=fix)
                yield reply
            progress.advance(task, len(part))


def _part(judge: Engine, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion | EngineError]:
    """Ask all at once; where that fails each by itself, so that one failure costs one reply."""
    try:
        yield from [row[0] for row in judge.generate(prompts, sampling)]
        return
    except UnsupportedError:
        raise
    except EngineError:
        pass

    def one(prompt: Prompt) -> Completion | EngineError:
        try:
            return judge.generate([prompt], sampling)[0][0]
        except UnsupportedError:
            raise
        except EngineError as error:
            return error

    threads = _THREADS if getattr(judge, "remote", False) else 1
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(prompts), _THREADS):
            yield from pool.map(one, prompts[start : start + _THREADS])
