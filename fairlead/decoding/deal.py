"""DeAL (Huang et al., ACL 2025, arXiv 2402.06147): decoding as a search that rewards lead from token to token."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.decoding import lookahead, lookahead_naive
from fairlead.decoding.base import EngineSpec, TokenDecoder
from fairlead.decoding.heuristics import Heuristic, Scorer
from fairlead.decoding.hypotheses import Problem, Tops, Winner
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.programs import Ask, Program
from fairlead.engines.rows import Rows
from fairlead.engines.streaming import Listener
from fairlead.engines.writing import Teller
from fairlead.errors import UsageError
from fairlead.messages import Prompt, instruct

__all__ = ["Deal"]

_SEARCHES: dict[str, Callable[[Problem], Generator[Sequence[Ask], list[Any], Winner]]] = {
    "fast": lookahead.search,
    "naive": lookahead_naive.search,
}


@dataclass(frozen=True)
class Deal(TokenDecoder):
    """Answers found by trying `k` tokens at every place and looking ahead what would become of each.

    The token is taken whose `log P(tokens so far) + strength * heuristics(text ahead)` is the greatest.
    """

    engine: EngineSpec
    """Who answers: a model in this process."""
    heuristics: tuple[Heuristic, ...]
    """What is looked for: a sum of rewards, each a mapping of `reward` and, if wanted, `weight`, `mean`, `scale` and
    `otherwise`."""
    k: int = 5
    """Tokens tried at every place, the likeliest ones (paper: 5 to 10)."""
    lookahead: int = 32
    """Greedy tokens beyond the one tried that the heuristics see (paper: 32); 0 shows them the text so far."""
    strength: float = 1.0
    """Weight of the heuristics against log P, in nats per unit of their sum; it belongs to the scale of the rewards.
    0 is greedy decoding, or beam search."""
    beams: int = 1
    """Hypotheses kept (paper: 1)."""
    commit: int = 1
    """Tokens of the best continuation taken at each choice (paper: 1): 2 halves the cost, and chooses half as often."""
    min_tokens: int = 0
    """Tokens before which no end token is tried: rewards that an empty answer fulfils ask for it."""
    per_token: bool = False
    """Whether log P is divided by the number of tokens (paper: no): without it beams prefer short answers."""
    instruction: str = ""
    """What the model is told besides (paper: alignment prompt); the heuristics do not see it."""
    instruction_role: Literal["system", "user"] = "system"
    """Whose message it stands in."""
    trace: bool = False
    """Whether `Completion.extra` holds every choice."""
    mode: Literal["fast", "naive"] = "fast"
    """naive computes all anew at every place: the same answers, to measure and to test the fast one with."""

    adjustable: ClassVar[tuple[str, ...]] = (
        *("heuristics", "k", "lookahead", "strength", "beams", "commit", "min_tokens", "per_token", "instruction"),
        *("instruction_role", "trace"),
    )
    example: ClassVar[Mapping[str, Any]] = {
        "engine": "harbor:base-300k",
        "heuristics": [{"reward": {"name": "harbor_proxy", "proxy": "polite_count"}}],
        "k": 2,
        "lookahead": 4,
        "strength": 0.1,
    }
    samples: ClassVar[bool] = False
    honours: ClassVar[frozenset[str]] = TokenDecoder.honours | {"min_p", "min_tokens", "ignore_eos", "stop_token_ids"}

    def __post_init__(self) -> None:
        least = {"k": 1, "lookahead": 0, "beams": 1, "commit": 1, "min_tokens": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UsageError(f"{name} is {getattr(self, name)}", fix=f"use at least {value}")
        if not 0 <= self.strength < math.inf:
            fix = "use 0 or more, and a negative weight for what is to be avoided"
            raise UsageError(f"strength is {self.strength}", fix=fix)
        if self.commit > self.lookahead + 1:
            what = f"commit takes {self.commit} tokens of which the heuristics see {self.lookahead + 1}"
            raise UsageError(what, fix=f"use commit <= {self.lookahead + 1}, or a longer lookahead")
        if not self.heuristics:
            raise UsageError("deal looks for nothing", fix="name a reward: heuristics: [{reward: ...}]")

    @property
    def rows_per_answer(self) -> int:
        """The rows of the model that one answer can take."""
        return self.beams * self.k

    @cached_property
    def scorer(self) -> Scorer:
        """Values texts, of all answers in progress together."""
        return Scorer(self.heuristics)

    @cached_property
    def _tops(self) -> dict[int, Tops]:
        """Who tells the likeliest tokens, by their number: answers that want as many are asked for together."""
        return {}

    def program(
        self,
        prompt: Prompt,
        index: int,
        sampling: Sampling,
        rows: Mapping[str, Rows],
        tell: Listener | None = None,
    ) -> Program[Completion]:
        """Make the answer to a prompt.

        `extra["logprob"]` is its log-prob, `extra["heuristic"]` the weighted sum of the rewards, `extra["stats"]` what
        it cost, and with `trace` `extra["steps"]` has every choice: the candidates' tokens, log-probs, texts ahead,
        heuristics and scores (None where the choice did not need them) and the numbers of those chosen.

        Raises:
            RenderError: a prompt that cannot be rendered.
            EngineError: a prompt that is empty or leaves no room for an answer.
            DataError: a reward that abstains without `otherwise`.
        """
        problem = self._problem(prompt, sampling, rows["engine"], tell)
        won: Winner = yield from _SEARCHES[self.mode](problem)
        if problem.teller is not None:
            problem.teller.end()
        ids, text, ended = problem.endings.cut(won.best.ids)
        (value,) = yield [self.scorer.ask(prompt, text)]
        told = {"logprob": won.best.total, "heuristic": value, "stats": dict(vars(won.stats))}
        return Completion(
            text,
            ids,
            np.array(won.best.logprobs, dtype=np.float32) if sampling.logprobs else None,
            FinishReason.STOP if ended else FinishReason.LENGTH,
            told | ({"steps": won.steps} if self.trace else {}),
        )

    def _problem(self, prompt: Prompt, sampling: Sampling, rows: Rows, tell: Listener | None) -> Problem:
        local = self.local("engine")
        ids = local.renderer.prompt(instruct(prompt, self.instruction, self.instruction_role))
        local.check_length("a prompt", ids, room=1)
        room = local.room(ids, sampling.max_tokens)
        endings = local.endings(sampling, raw=isinstance(prompt, str))
        least = max(self.min_tokens, sampling.min_tokens)
        count = self.k + (len(endings.held_back) if least else 0)
        return Problem(
            prompt=prompt,
            prompt_ids=ids,
            rows=rows,
            tops=self._tops.setdefault(count, Tops(count)),
            scorer=self.scorer,
            endings=endings,
            room=room,
            min_tokens=least,
            wide=min(_WIDE, local.max_rows),
            teller=Teller(tell, local, endings) if tell else None,
            **{name: getattr(self, name) for name in _SETTINGS},
        )


_WIDE = 32
"""Rows up to which one more costs a forward little."""
_SETTINGS = ("k", "lookahead", "beams", "commit", "strength", "per_token", "trace")
