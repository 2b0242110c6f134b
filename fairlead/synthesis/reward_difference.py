"""What a reward says of answers, and how much more than of a base model's answers to the same prompts.

Magpie (Xu et al. 2024, arXiv 2406.08464, section 3.2) keeps conversations whose answer a reward model values more than
that of a base model which is brought to answer by a constant prompt: what a base model answers as well teaches nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead import catalog
from fairlead.engines.base import Sampling
from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt
from fairlead.records import to_row
from fairlead.rewards.base import RewardSpec
from fairlead.synthesis.base import Draft, Row, Synthesizer

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["RewardDifference"]


@dataclass(frozen=True)
class RewardDifference(Synthesizer):
    """Adds columns to conversations: `reward`, and beside a base model `base_reward` and `reward_difference`."""

    reward: RewardSpec
    """Who values the last answer of a conversation: a catalog name, or {name, fields...}."""
    difference: bool = True
    """Whether the role `base` answers as well; without, only `reward` is added and no engine is asked."""
    keep_answer: bool = False
    """Whether the base model's answer is kept, as the column `base_answer`."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=2048)
    """How the base model's answers are drawn."""

    example: ClassVar[Mapping[str, Any]] = {"reward": "harbor", "sampling": {"max_tokens": 24, "temperature": 0}}
    reads: ClassVar[str] = "conversation"
    makes: ClassVar[str] = "conversation"
    rows_per_seed: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.sampling.n != 1:
            raise UsageError("reward_difference.sampling.n is set", fix="leave it out: one answer is compared")
        if self.keep_answer and not self.difference:
            raise UsageError("reward_difference.keep_answer: there is no base model", fix="set difference: true")
        catalog.from_spec("reward", self.reward)

    @property
    def engines(self) -> Mapping[str, str]:
        """The base model, where there is one."""
        return {"base": "answers too, to be compared with"} if self.difference else {}

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Value the answers, let the base model answer, and value its answers.

        Raises:
            DataError: a conversation that does not end with an answer.
        """
        prompts, answers = zip(*(_parted(seed) for seed in seeds), strict=True)
        values = self._values(prompts, answers)
        others: list[str | None] = [None] * len(seeds)
        of_others: list[float | None] = [None] * len(seeds)
        if self.difference:
            others = [row[0].text for row in engines["base"].generate(list(prompts), self.sampling)]
            of_others = self._values(prompts, [str(text) for text in others])
        for seed, value, other, of_other in zip(seeds, values, others, of_others, strict=True):
            yield Draft(seed.id, {"row": to_row(seed), "value": value, "other": other, "of_other": of_other})

    def _values(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float | None]:
        found = catalog.from_spec("reward", self.reward)(prompts, answers)
        return [None if a else float(v) for v, a in zip(found.values, found.abstained, strict=True)]

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield the records with their values, None where the reward abstains."""
        for draft in drafts:
            value, other = draft.found["value"], draft.found["of_other"]
            row: Row = {**draft.found["row"], "parent": draft.parent, "reward": value}
            counts["without_reward"] += value is None
            if self.difference:
                more = None if value is None or other is None else value - other
                counts["without_difference"] += more is None
                row |= {"base_reward": other, "reward_difference": more}
            yield row | ({"base_answer": draft.found["other"]} if self.keep_answer else {})


def _parted(record: Any) -> tuple[Prompt, str]:
    """Return what the last answer of a conversation follows, and that answer."""
    said = record.completion
    if isinstance(said, str):
        return record.prompt, said
    turns = [*record.prompt, *said]
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise DataError("does not end with an answer", place=record.id, fix="leave it out, or add the answer")
    return turns[:-1], turns[-1]["content"]
