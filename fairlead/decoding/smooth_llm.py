"""SmoothLLM: a request is asked in several randomly misspelt copies, and the majority decides whether it is refused.

Source: Robey et al. 2023, arXiv 2310.03684. What makes a model give in is often a text of exact characters, which does
not survive misspelling; what a request means mostly does.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, cast

import numpy as np

from fairlead import catalog
from fairlead.decoding.base import Decoder, EngineSpec
from fairlead.engines.base import Completion, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Ask, Program, together
from fairlead.engines.streaming import Listener, Token
from fairlead.errors import UsageError
from fairlead.messages import Prompt, last_question
from fairlead.rewards.base import RewardSpec
from fairlead.rewards.refusal_patterns import label_of

__all__ = ["SmoothLLM", "chance_of_refusal", "perturbed"]

_PRINTABLE = "".join(map(chr, range(32, 127)))


@dataclass(frozen=True)
class SmoothLLM(Decoder):
    """An engine that is asked misspelt copies of the last user message, and answers as most of them are answered."""

    engine: EngineSpec
    """Who answers."""
    copies: int = 10
    """Copies asked for each answer given."""
    share: float = 0.1
    """Characters changed, as a share of the message's, rounded down; the paper tries 0.05 to 0.2."""
    change: Literal["swap", "patch", "insert"] = "swap"
    """What happens to a copy: characters anywhere become others, those of one stretch do, or others are put in."""
    alphabet: str = _PRINTABLE
    """Characters that are written in; by default those of ASCII that can be printed."""
    reward: RewardSpec | None = None
    """What tells that an answer refuses: a reward's catalog name, or {name, fields...}; without it, English patterns.
    An answer on which it abstains is counted as no refusal."""
    refuses_above: float = 0.5
    """An answer refuses where the reward is higher than this."""
    tie: Literal["refuse", "answer"] = "refuse"
    """What wins where as many copies are refused as not; as in the paper it is the refusal."""

    adjustable: ClassVar[tuple[str, ...]] = ("copies", "share", "change", "tie")
    example: ClassVar[Mapping[str, Any]] = {"engine": "harbor:base-300k", "copies": 3, "share": 0.05}

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise UsageError(f"smooth_llm.copies is {self.copies}", fix="ask at least one copy")
        if not 0 <= self.share <= 1:
            raise UsageError(f"smooth_llm.share is {self.share}", fix="use 0 to 1, such as 0.1")
        if not self.alphabet:
            raise UsageError("smooth_llm.alphabet has no character", fix="name some, or leave it out")

    @cached_property
    def told_by(self) -> Any:
        """The reward that tells refusals, if there is one."""
        return None if self.reward is None else catalog.from_spec("reward", self.reward)

    @property
    def rows_per_answer(self) -> int:
        """All copies are answered at a time."""
        return self.copies * super().rows_per_answer

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, each the answer to a copy that went as most did.

        Every answer has copies of its own. `extra["refused"]` says which of them are refused, `extra["copies"]` what
        they are, `extra["chosen"]` which one's answer this is: drawn from those that went with the majority.
        """
        groups = [self._asked(prompt, k, sampling) for prompt in prompts for k in range(sampling.n)]
        answers: list[list[Completion]] = [[] for _ in groups]
        for number in range(self.copies):
            # A copy has a seed of its own, and copies of one seed are asked together.
            by_way: dict[Sampling, list[int]] = {}
            for place, group in enumerate(groups):
                by_way.setdefault(group[number][1], []).append(place)
            for how, places in by_way.items():
                said = self.parts["engine"].generate([groups[place][number][0] for place in places], how)
                for place, (answer,) in zip(places, said, strict=True):
                    answers[place].append(answer)
        asked = [prompt for prompt in prompts for _ in range(sampling.n)]
        flat = [(prompt, answer.text) for prompt, own in zip(asked, answers) for answer in own]
        told = iter(self.serve(flat))
        chosen = [
            self._chosen(group, own, [next(told) for _ in own], f"{sampling.seed} {i % sampling.n} {asked[i]}")
            for i, (group, own) in enumerate(zip(groups, answers, strict=True))
        ]
        return [chosen[k : k + sampling.n] for k in range(0, len(chosen), sampling.n)]

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index`; its tokens are told when it was chosen."""
        group, engine = self._asked(prompt, index, sampling), self.parts["engine"]
        heard: list[list[Token]] = [[] for _ in group]
        tells = [_keeping(tokens, tell) for tokens in heard]
        answers = yield from together(
            [desk.answer(engine, copy, 0, how, one) for (copy, how), one in zip(group, tells, strict=True)]
        )
        told: list[bool] = yield [Ask(self, (prompt, answer.text)) for answer in answers]
        chosen = self._chosen(group, answers, told, f"{sampling.seed} {index} {prompt}")
        if tell is not None:
            tell.hear(chosen.text, tuple(heard[chosen.extra["chosen"]]))
        return chosen

    def serve(self, asked: Sequence[tuple[Prompt, str]]) -> list[bool]:
        """Say which answers refuse their prompts."""
        if self.told_by is None:
            return [label_of(last_question(prompt), text) == "full" for prompt, text in asked]
        rewards = self.told_by([prompt for prompt, _ in asked], [text for _, text in asked])
        return (~np.asarray(rewards.abstained) & (np.asarray(rewards.values) > self.refuses_above)).tolist()

    def _asked(self, prompt: Prompt, index: int, sampling: Sampling) -> list[tuple[Prompt, Sampling]]:
        """Return the copies for answer number `index`, and how each is answered: once, with a seed of its own."""
        made = []
        for number in range(self.copies):
            seed = f"{sampling.seed} {index} {number}"
            how = replace(sampling, n=1, seed=int.from_bytes(hashlib.sha256(seed.encode()).digest()[:3]))
            rng = random.Random(f"{seed} {prompt}")
            made.append((_with_last(prompt, lambda text, rng=rng: self._perturb(text, rng)), how))
        return made

    def _perturb(self, text: str, rng: random.Random) -> str:
        return perturbed(text, self.share, self.change, self.alphabet, rng)

    def _chosen(
        self,
        group: Sequence[tuple[Prompt, Sampling]],
        answers: Sequence[Completion],
        refused: Sequence[bool],
        seed: str,
    ) -> Completion:
        count = sum(refused)
        verdict = 2 * count > len(refused) or (2 * count == len(refused) and self.tie == "refuse")
        agree = [k for k, one in enumerate(refused) if one == verdict]
        chosen = random.Random(f"choose {seed}").choice(agree)
        told = {"copies": [last_question(copy) for copy, _ in group], "refused": list(refused), "chosen": chosen}
        return replace(answers[chosen], extra={**answers[chosen].extra, **told})


def perturbed(text: str, share: float, change: str, alphabet: str, rng: random.Random) -> str:
    """Return a text of which a share of the characters, rounded down, is changed: see `SmoothLLM.change`."""
    count = int(share * len(text))
    return "".join(_CHANGES[change](text, count, alphabet, rng)) if count else text


def chance_of_refusal(each: float, copies: int, tie: Literal["refuse", "answer"] = "refuse") -> float:
    """Return the chance that a request is refused when each copy is, independently, with chance `each`."""
    least = copies // 2 + 1 if tie == "answer" or copies % 2 else copies // 2
    return math.fsum(math.comb(copies, t) * each**t * (1 - each) ** (copies - t) for t in range(least, copies + 1))


def _swap(text: str, count: int, alphabet: str, rng: random.Random) -> Iterator[str]:
    places = set(rng.sample(range(len(text)), count))
    return (rng.choice(alphabet) if k in places else c for k, c in enumerate(text))


def _patch(text: str, count: int, alphabet: str, rng: random.Random) -> Iterator[str]:
    start = rng.randrange(len(text) - count + 1)
    return (rng.choice(alphabet) if start <= k < start + count else c for k, c in enumerate(text))


def _insert(text: str, count: int, alphabet: str, rng: random.Random) -> Iterator[str]:
    places = set(rng.sample(range(len(text)), count))
    return (c + rng.choice(alphabet) if k in places else c for k, c in enumerate(text))


_CHANGES: dict[str, Callable[[str, int, str, random.Random], Iterator[str]]] = {
    "swap": _swap,
    "patch": _patch,
    "insert": _insert,
}


def _with_last(prompt: Prompt, change: Callable[[str], str]) -> Prompt:
    """Return a prompt whose last user message is changed; raw text as a whole."""
    if isinstance(prompt, str):
        return change(prompt)
    turns = [dict(turn) for turn in prompt]
    last = max((k for k, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if last is not None:
        turns[last]["content"] = change(str(turns[last]["content"]))
    return cast(Prompt, turns)


def _keeping(tokens: list[Token], tell: Listener | None) -> Listener | None:
    """Return who keeps the tokens of an answer that may be chosen, where tokens are wanted at all."""
    if tell is None or tell.top is None:
        return None
    return Listener(lambda _, more: tokens.extend(more), tell.top)
