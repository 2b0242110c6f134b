"""Several answers to each of many prompts, looked up by the prompt: what a base policy says, and what it is worth.

Rows are those that a `generate` step leaves with `keep: all` (one per answer) or `keep: ranking` (one per prompt).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt, last_question
from fairlead.rewards.base import Reward

__all__ = ["Rollouts", "key_of", "read_rollouts", "valued_once"]

_AT_ONCE = 4096
_RANKING_FIX = "give the records of a `generate` step with n of 2 or more and keep: all, or keep: ranking"


@dataclass(frozen=True)
class Rollouts:
    """A base policy's answers by prompt."""

    source: str
    """Where they are from."""
    prompts: Mapping[str, Prompt]
    """key -> prompt."""
    answers: Mapping[str, tuple[str, ...]]
    """key -> the answers to it."""
    scores: Mapping[str, np.ndarray]
    """key -> what the file says that they are worth, float64 [K]; NaN where it says nothing."""
    makers: frozenset[str | None]
    """Fingerprints of the engines that answered, as the rows tell; None for rows that do not tell."""

    def find(self, prompt: Prompt) -> str:
        """Return the key of a prompt.

        Raises:
            UsageError: a prompt without answers.
        """
        key = key_of(prompt)
        if key not in self.answers:
            asked = last_question(prompt)[:80]
            what = f"there are no rollouts of the prompt {asked!r} among those of {len(self.answers)} prompts"
            fix = "draw the base model's answers to every prompt that is trained on (`generate` with n and keep: all)"
            raise UsageError(what, place=self.source, fix=fix)
        return key

    def valued(self, reward: Reward) -> dict[str, np.ndarray]:
        """Return what a reward finds the answers worth: key -> float64 [K], NaN where it abstains."""
        keys = [key for key, texts in self.answers.items() for _ in texts]
        said = [text for texts in self.answers.values() for text in texts]
        found = valued_once(reward, [self.prompts[key] for key in keys], said)
        ends = np.cumsum([len(texts) for texts in self.answers.values()])
        return dict(zip(self.answers, np.split(found, ends[:-1]), strict=True))

    def told(self, reward: Reward) -> dict[str, np.ndarray]:
        """Return the scores of the file, or a reward's own values where any is missing.

        The scores of one prompt are compared with the reward's own.

        Raises:
            UsageError: scores that are another reward's.
        """
        if any(np.isnan(scores).any() for scores in self.scores.values()):
            return self.valued(reward)
        key = max(self.scores, key=lambda one: float(np.ptp(self.scores[one])))
        own = reward([self.prompts[key]] * len(self.answers[key]), self.answers[key]).values
        if not np.allclose(own, self.scores[key], rtol=1e-3, atol=1e-3):
            first = int(np.argmax(~np.isclose(own, self.scores[key], rtol=1e-3, atol=1e-3)))
            told = f"a rollout has a score of {self.scores[key][first]:.4g}"
            what = f"{told}, and the reward finds it worth {own[first]:.4g}"
            raise UsageError(what, place=self.source, fix="name the reward that scored them, or set rescore: true")
        return dict(self.scores)


def key_of(prompt: Prompt) -> str:
    """Return a text that two prompts share where they say the same."""
    if isinstance(prompt, str):
        return json.dumps(prompt, ensure_ascii=False)
    return json.dumps([[turn["role"], turn["content"]] for turn in prompt], ensure_ascii=False)


def valued_once(reward: Reward, prompts: Sequence[Prompt], completions: Sequence[str]) -> np.ndarray:
    """Return a reward's values, float64 [N], NaN where it abstains; of equal answers to a prompt it sees one.

    Args:
        reward: one whose values depend on prompt and completion alone.
        prompts: one per completion.
        completions: what is valued.
    """
    places: dict[tuple[str, str], int] = {}
    index = [places.setdefault((key_of(prompt), text), len(places)) for prompt, text in zip(prompts, completions)]
    first = {place: i for i, place in reversed(list(enumerate(index)))}
    asked = [first[place] for place in range(len(places))]
    found: list[np.ndarray] = []
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        found.append(reward([prompts[i] for i in part], [completions[i] for i in part]).values)
    return np.concatenate(found)[index] if found else np.zeros(0)


def read_rollouts(source: str | Sequence[str]) -> Rollouts:
    """Read answers by prompt from what `fairlead.read` takes: rankings, or conversations with one answer each.

    Raises:
        DataError: rows of another kind, or a prompt with a single answer.
    """
    from fairlead import records

    read = records.read(source if isinstance(source, str) else list(source))
    named = str(read.source)
    prompts: dict[str, Prompt] = {}
    answers: dict[str, list[str]] = {}
    scores: dict[str, list[float]] = {}
    makers: set[str | None] = set()
    for record in read:
        prompt: Prompt = getattr(record, "prompt", "")
        if record.kind not in _PARTS or not prompt:
            raise DataError(f"{record.id} is a {record.kind} record", place=named, fix=_RANKING_FIX)
        key = key_of(prompt)
        prompts.setdefault(key, prompt)
        texts, values = _PARTS[record.kind](record)
        answers.setdefault(key, []).extend(_text(text, record.id, named) for text in texts)
        scores.setdefault(key, []).extend(values)
        told = record.extra.get("models")
        makers |= set(told.values()) if isinstance(told, Mapping) else {None}
    for key, texts in answers.items():
        if len(texts) < 2:
            what = f"there is one answer to {last_question(prompts[key])[:80]!r}"
            raise DataError(what, place=named, fix=_RANKING_FIX)
    return Rollouts(
        named,
        prompts,
        {key: tuple(texts) for key, texts in answers.items()},
        {key: np.array(values, dtype=np.float64) for key, values in scores.items()},
        frozenset(makers),
    )


def _ranking(record: Any) -> tuple[Sequence[Any], Sequence[float]]:
    return record.completions, record.scores


def _conversation(record: Any) -> tuple[Sequence[Any], Sequence[float]]:
    value = record.extra.get("reward")
    return (record.completion,), (float("nan") if value is None else float(value),)


_PARTS = {"ranking": _ranking, "conversation": _conversation}


def _text(completion: Any, name: str, place: str) -> str:
    if isinstance(completion, str):
        return completion
    if [turn["role"] for turn in completion] != ["assistant"]:
        raise DataError(f"an answer in {name} is not one assistant turn", place=place, fix=_RANKING_FIX)
    return completion[0]["content"]
