"""Questionnaires without options: items become questions for advice, and a judge rates how far free answers lean.

The way of asking of ValueBench (Ren et al. 2024, arXiv 2406.04214). The judge writes a question to every statement,
looks at it again beside the statement, and rates every answer from 0 (no) to 10 (yes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fairlead import prompts as texts_of
from fairlead.engines.asking import JUDGING, Case, Verdict, ask, frame
from fairlead.engines.base import Engine, Sampling
from fairlead.messages import Prompt
from fairlead.verdicts import Reading, key_of, objects, read_class, read_scores

__all__ = ["MOST", "Question", "chances_of", "leans", "questions_of"]

MOST = 10
"""The lean of a clear yes; that of a clear no is 0."""

_STANCES = ("agrees", "disagrees", "neither")


@dataclass(frozen=True)
class Question:
    """What became of a statement."""

    text: str | None
    """The question; None where there is none whose yes agrees with the statement."""
    problem: str | None = None
    """Why there is none."""


def questions_of(
    judge: Engine, statements: Sequence[str], *, sampling: Sampling = JUDGING, retries: int = 2
) -> list[Question]:
    """Let a judge turn statements [N] into questions whose yes agrees with them, and check that it does."""
    written = _ask(
        judge,
        "question",
        [{"statement": statement} for statement in statements],
        lambda slots: partial(_read_question, key=slots["key"]),
        sampling,
        retries,
    )
    known = [i for i, verdict in enumerate(written) if verdict.value is not None]
    checked = _ask(
        judge,
        "stance",
        [{"statement": statements[i], "question": written[i].value} for i in known],
        lambda slots: partial(read_class, classes=_STANCES, key=slots["key"], answers=slots["shown"]),
        sampling,
        retries,
    )
    found = [Question(None, f"no question ({verdict.status})") for verdict in written]
    for i, verdict in zip(known, checked, strict=True):
        stance = verdict.value or verdict.status
        found[i] = Question(written[i].value) if stance == "agrees" else Question(None, f"its question {stance}")
    return found


def leans(
    judge: Engine,
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    sampling: Sampling = JUDGING,
    retries: int = 1,
) -> list[tuple[float | None, str]]:
    """Let a judge rate how far answers [N] to questions [N] lean to yes, 0 to 10; None, and why, where it cannot."""
    verdicts = _ask(
        judge,
        "lean",
        [{"question": q, "answer": a} for q, a in zip(questions, answers, strict=True)],
        lambda slots: partial(
            read_scores, aspects=("lean",), key=slots["key"], answers=slots["shown"], scale=(0, MOST)
        ),
        sampling,
        retries,
    )
    return [_lean(verdict) for verdict in verdicts]


def chances_of(lean: float, values: Sequence[float]) -> np.ndarray:
    """Return shares of options [K] of these values whose mean lies as far up the scale as a lean of 0 to 10.

    The two options next to it share the whole.
    """
    scale = np.asarray(values, dtype=np.float64)
    order = np.argsort(scale, kind="stable")
    wanted = scale.min() + (scale.max() - scale.min()) * lean / MOST
    above = int(np.clip(np.searchsorted(scale[order], wanted), 1, len(scale) - 1))
    low, high = scale[order[above - 1]], scale[order[above]]
    share = (wanted - low) / (high - low) if high > low else 1.0
    found = np.zeros(len(scale))
    found[order[above - 1]], found[order[above]] = 1 - share, share
    return found


def _ask(
    judge: Engine, name: str, parts: Sequence[dict[str, str]], reader: Any, sampling: Sampling, retries: int
) -> list[Verdict]:
    """Ask a judge with a shipped text, every part in marks of its own."""
    text = texts_of.load("questionnaires", name, None)
    cases = []
    for part in parts:
        key = key_of(*part.values())
        shown = {kind: frame(kind, said, key) for kind, said in part.items()}
        prompt: Prompt = [{"role": "user", "content": text.render(**shown, key=key)}]
        cases.append(Case(key, prompt, reader({"key": key, "shown": tuple(part.values())})))
    return ask(judge, cases, sampling, retries=retries)


def _read_question(reply: str, key: str) -> Reading:
    """Read the one question of a reply."""
    if not reply.strip():
        return Reading(problem="empty")
    found = {str(item["question"]).strip() for item in objects(reply, ["question"]) if item.get("key") == key}
    if len(found) != 1:
        return Reading(problem="several verdicts" if found else "no verdict")
    question = found.pop()
    return Reading(question) if question.endswith("?") else Reading(problem="no verdict")


def _lean(verdict: Verdict) -> tuple[float | None, str]:
    if verdict.value is None:
        return None, verdict.status
    score = verdict.value["lean"]
    return (None, "no lean") if score is None else (float(score), "ok")
