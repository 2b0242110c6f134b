"""How surprising records are to a model: perplexities of answers and of whole records, as columns.

The scores of I-SHEEP's filters by perplexity (arXiv 2408.08072): of the answer and of the pair of instruction and
answer, each read as a text by itself. A third, of the answer behind its prompt, is what training would see.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fairlead.engines.base import Sampling
from fairlead.errors import UsageError
from fairlead.records.schema import to_row
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.deita_prompts import turns_of

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["Perplexity", "perplexity_of"]

_OF = ("answer", "pair", "given")


@dataclass(frozen=True)
class Perplexity(Synthesizer):
    """Conversations with the columns `answer_perplexity`, `pair_perplexity` and `given_perplexity`."""

    of: tuple[Literal["answer", "pair", "given"], ...] = ("answer", "pair")
    """What is read: all answers as a text by themselves, all that was said as one text, or the last answer behind what
    came before it in the model's template."""
    separator: str = "\n"
    """What stands between the turns of a text."""
    sampling: Sampling = Sampling(max_tokens=1)
    """Nothing is drawn; its seed is noted with the rows."""

    example: ClassVar[Mapping[str, Any]] = {}
    reads: ClassVar[str] = "conversation"
    makes: ClassVar[str] = "conversation"
    rows_per_seed: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.of or len(set(self.of)) < len(self.of) or not set(self.of) <= set(_OF):
            raise UsageError(f"perplexity.of is {list(self.of)}", fix=f"name some of {', '.join(_OF)}, each once")

    @property
    def engines(self) -> Mapping[str, str]:
        """The reader."""
        return {"model": "says how likely texts are; a model of this process"}

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Read all texts of a record in one call, so that its numbers depend on itself alone to the last digit.

        Raises:
            UnsupportedError: an engine without log-probs of given texts.
        """
        for seed in seeds:
            texts = self._texts(seed)
            kinds = [kind for kind in self.of if kind in texts]
            if not texts:
                yield Draft(seed.id, error="there is no answer to read")
                continue
            prompts, completions = [texts[kind][0] for kind in kinds], [texts[kind][1] for kind in kinds]
            told = dict(zip(kinds, engines["model"].logprobs(prompts, completions), strict=True)) if kinds else {}
            values = {kind: perplexity_of(one if kind == "given" else one[:-1]) for kind, one in told.items()}
            yield Draft(seed.id, {"row": to_row(seed), "perplexity": values})

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Put the perplexities beside the record's columns; counts `without_<kind>`, texts of which no token counts."""
        for draft in drafts:
            values = draft.found["perplexity"]
            for kind in self.of:
                counts[f"without_{kind}"] += values.get(kind) is None
            columns = {f"{kind}_perplexity": values.get(kind) for kind in self.of}
            yield {**draft.found["row"], "parent": draft.parent, **columns}

    def _texts(self, record: Any) -> dict[str, tuple[Any, str]]:
        """Return what is read of a record, kind -> (what stands before, what is scored); empty without an answer."""
        turns = turns_of(record)
        answers = [answer for _, answer in turns if answer.strip()]
        if not answers:
            return {}
        said = [text for turn in turns for text in turn if text.strip()]
        found = {"answer": ("", self.separator.join(answers)), "pair": ("", self.separator.join(said))}
        if isinstance(record.completion, str):
            return found | {"given": (record.prompt, record.completion)}
        every = [*record.prompt, *record.completion]
        last = max(k for k, message in enumerate(every) if message["role"] == "assistant")
        return found | ({"given": (every[:last], every[last]["content"])} if last else {})


def perplexity_of(logprobs: np.ndarray) -> float | None:
    """Return exp of the mean negative log-prob [T]; None without a token, or beyond what a float holds."""
    if not len(logprobs):
        return None
    found = float(-np.mean(np.asarray(logprobs, np.float64)))
    return math.exp(found) if found < 700 else None
