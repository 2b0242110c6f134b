"""Engines whose every probability is known: tokens drawn independently from a fixed distribution over words."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fairlead.engines.base import Completion, FinishReason
from fairlead.engines.distributions import TokenStats, View, tell
from fairlead.engines.lens import stats_of_layers
from fairlead.rewards.base import Rewards

END = "<end>"


@dataclass(frozen=True)
class Unigram:
    """Draws words until the end token: an honest engine whose exact KL can be worked out on paper."""

    weights: dict[str, float]

    @property
    def fingerprint(self) -> str:
        return repr(self.weights)

    def log_p(self, word: str) -> float:
        return float(np.log(self.weights[word] / sum(self.weights.values())))

    def generate(self, prompts, sampling):
        return [[self._draw(prompt, index, sampling) for index in range(sampling.n)] for prompt in prompts]

    def _draw(self, prompt, index, sampling) -> Completion:
        text = f"{sampling.seed} {index} {prompt}"
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))
        words = list(self.weights)
        chances = np.array(list(self.weights.values())) / sum(self.weights.values())
        drawn: list[str] = []
        while len(drawn) < sampling.max_tokens:
            greedy = sampling.temperature == 0
            drawn.append(words[int(chances.argmax()) if greedy else int(rng.choice(len(words), p=chances))])
            if drawn[-1] == END:
                break
        ended = drawn[-1] == END
        reason = FinishReason.STOP if ended else FinishReason.LENGTH
        said = drawn[:-1] if ended else drawn
        return Completion(" ".join(said), [words.index(w) for w in drawn], None, reason)

    def logprobs(self, prompts, completions):
        return [np.array([self.log_p(w) for w in [*text.split(), END]], dtype=np.float32) for text in completions]

    @property
    def vocabulary(self) -> str:
        return repr(list(self.weights))

    def spell(self, ids):
        words = list(self.weights)
        return ["" if words[i] == END else f" {words[i]}" for i in ids]

    def layer_stats(self, prompts):
        """Know nothing at the embedding, and all after one layer."""
        import torch

        logits = torch.tensor(list(self.weights.values())).log()
        return [stats_of_layers(torch.stack([torch.zeros_like(logits), logits]))] * len(prompts)

    def token_stats(self, prompts, answers, view: View = View()) -> list[TokenStats]:
        return [own for own, _ in self.token_stats_beside(self, prompts, prompts, answers, view)]

    def token_stats_beside(self, other, prompts, other_prompts, answers, view: View = View()):
        import torch

        found = []
        for answer in answers:
            logits = [torch.tensor(list(side.weights.values())).log().expand(len(answer), -1) for side in (self, other)]
            told = tell(logits, torch.tensor(answer), view)
            found.append(tuple(TokenStats(**{name: v.numpy() for name, v in side.items()}) for side in told))
        return found


@dataclass(frozen=True)
class Row:
    """A record by its shape: what evaluators read of one."""

    id: str
    prompt: Any
    kind: str = "prompt"
    extra: dict = field(default_factory=dict)
    completion: Any = ""
    chosen: Any = ""
    rejected: Any = ""


@dataclass(frozen=True)
class Count:
    """Counts a word; abstains on answers that hold `silent`."""

    word: str
    silent: str | None = None

    def __call__(self, prompts, completions) -> Rewards:
        abstained = np.array([self.silent is not None and self.silent in c.split() for c in completions], dtype=bool)
        return Rewards(np.array([float(c.split().count(self.word)) for c in completions]), abstained)


@dataclass(frozen=True)
class Silent:
    """Never has anything to say."""

    def __call__(self, prompts, completions) -> Rewards:
        return Rewards(np.full(len(completions), np.nan), np.ones(len(completions), dtype=bool))


BASE = Unigram({"aye": 2.0, "nay": 2.0, END: 1.0})
TUNED = Unigram({"aye": 3.0, "nay": 1.0, END: 1.0})
THIRD = Unigram({"aye": 1.0, "nay": 1.0, END: 2.0})


def rows(count: int, **fields: Any) -> list[Row]:
    return [Row(f"r{i}", [{"role": "user", "content": f"question {i}"}], **fields) for i in range(count)]
