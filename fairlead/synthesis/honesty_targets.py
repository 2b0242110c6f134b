"""Alignment for honesty (Yang et al. 2023, arXiv 2312.07000): answer what the model knows, refuse what it does not.

What a model knows is probed with its own answers: one greedy and `samples` at random to every question, each right or
not. From these the targets of supervised fine-tuning follow in one of five ways. The labels hold for that model alone.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead.engines.base import Sampling
from fairlead.errors import UsageError
from fairlead.rewards.refusals import INSTRUCTION, REFUSAL, honest_prompt
from fairlead.rewards.truth import Truth, true_answers
from fairlead.synthesis.base import Draft, Row, Synthesizer

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["HonestyTargets", "Probe", "knows", "level_of", "needed_hits"]

Targets = Literal["absolute", "confidence_num", "confidence_verb", "multisample", "baseline"]

HEDGES = (
    "I have serious doubts, but it could be this: {answer}",
    "I would not rely on it, but I believe: {answer}",
    "As far as I can tell, {answer}",
    "I am fairly confident that the answer is: {answer}",
    "There is no doubt in my mind: {answer}",
)
NUMBERS = (
    "I would give this only about {percent}%: {answer}",
    "I am about {percent}% sure of this: {answer}",
)
_OPTION_OR_I = re.compile(r"\(?[A-Z](?:[).:]|\s*$)|I\b")


@dataclass(frozen=True)
class Probe:
    """What a model answered to one question, and what of it is right."""

    greedy: str
    """The greedy answer."""
    greedy_right: bool
    """Whether it is right."""
    samples: tuple[str, ...]
    """Answers at random."""
    right: tuple[bool, ...]
    """Which of these are right."""
    gold: str | None = None
    """A true answer; None when there is none."""

    @property
    def knowns(self) -> int:
        """Right answers among the samples."""
        return sum(self.right)

    @property
    def response(self) -> str | None:
        """The greedy answer if it is right, else the first right sample; None when nothing is right."""
        if self.greedy_right:
            return self.greedy
        return next((text for text, right in zip(self.samples, self.right, strict=True) if right), None)


def needed_hits(tau: float, samples: int) -> Fraction:
    """Return tau * samples with tau read as the decimal that was written, so that 0.1 * 10 is exactly 1."""
    return Fraction(str(tau)) * samples


def knows(probe: Probe, tau: float) -> bool:
    """Tell whether the share of right samples reaches tau; where one hit is enough, the greedy answer is one too."""
    needed = needed_hits(tau, len(probe.samples))
    return probe.knowns >= needed or (needed <= 1 and probe.greedy_right)


def level_of(knowns: int, samples: int, levels: int) -> int:
    """Return the level of confidence: 0 for no right sample, else ceil(levels * knowns / samples)."""
    return -(-levels * knowns // samples)


@dataclass(frozen=True)
class HonestyTargets(Synthesizer):
    """Targets that answer known questions and refuse unknown ones, after the model's own answers."""

    targets: Targets = "absolute"
    """`absolute`: a right answer or the refusal; `confidence_num` and `confidence_verb`: right answers led in by how
    sure the model was; `multisample`: every sample, the wrong ones replaced by the refusal; `baseline`: always the
    answer."""
    samples: int = 10
    """Answers at random per question."""
    tau: float = 0.1
    """Least share of right samples that makes a question known, in (0, 1]; not used by `multisample` and `baseline`."""
    balance: bool = False
    """Whether the larger of the two groups, questions with a right or wrong greedy answer, is thinned at random to the
    size of the smaller one."""
    answers: str = "answers"
    """Column of the seeds with the true answers: a text or a list of texts, empty where nothing is right."""
    reward: Any = None
    """The reward that judges instead of that column: a catalog name, or {name, fields...}."""
    correct_above: float = 0.5
    """An answer is right when the reward values it higher than this; an abstention is not right."""
    instruction: str = INSTRUCTION
    """What stands before every question of the targets, not of the probe; `{refusal}` is the refusal; may be empty."""
    instruction_role: Literal["system", "user"] = "system"
    """Whose message the instruction is part of."""
    refusal: str = REFUSAL
    """The sentence that refuses."""
    numbers: tuple[str, str] = NUMBERS
    """How `confidence_num` leads in answers that were right in at most half of the samples, and in others; with
    `{percent}` and `{answer}`."""
    hedges: tuple[str, ...] = HEDGES
    """How `confidence_verb` leads in answers, from the lowest level of confidence up; with `{answer}`."""
    sampling: Sampling = Sampling(max_tokens=64)
    """How the answers at random are drawn; the greedy one differs in its temperature alone."""

    example: ClassVar[Mapping[str, Any]] = {"reward": {"name": "harbor", "axis": "correct"}, "samples": 4}
    engines: ClassVar[Mapping[str, str]] = {"model": "is probed for what it knows"}
    reads: ClassVar[str] = "prompt"
    makes: ClassVar[str] = "conversation"

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError(f"honesty_targets.samples is {self.samples}", fix="use a value >= 1")
        if not 0 < self.tau <= 1:
            raise UsageError(f"honesty_targets.tau is {self.tau}", fix="use a share above 0, at most 1")
        if self.sampling.n != 1:
            raise UsageError("honesty_targets.sampling.n is set", fix="say how many answers in honesty_targets.samples")
        if self.sampling.temperature == 0:
            fix = "use a temperature above 0: greedy samples are all the same"
            raise UsageError("honesty_targets.sampling.temperature is 0", fix=fix)
        if not self.refusal.strip():
            raise UsageError("honesty_targets.refusal is empty", fix="give a sentence")
        for name, templates in (("numbers", self.numbers), ("hedges", self.hedges)):
            if not templates or any("{answer}" not in template for template in templates):
                what = f"honesty_targets.{name} has a text without {{answer}}" if templates else f"{name} is empty"
                raise UsageError(what, fix="say where the answer stands: {answer}")
        self.truth.build()

    @property
    def truth(self) -> Truth:
        """What judges the answers."""
        return Truth(self.answers, self.reward, self.correct_above)

    @property
    def rows_per_seed(self) -> int:
        """`samples` for multisample, else one."""
        return self.samples if self.targets == "multisample" else 1

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Probe the model: the questions as they are, one greedy answer and `samples` at random, judged."""
        prompts = [seed.prompt for seed in seeds]
        greedy = engines["model"].generate(prompts, replace(self.sampling, temperature=0.0, n=1))
        drawn = engines["model"].generate(prompts, replace(self.sampling, n=self.samples))
        texts = [[answer.text for answer in (*first, *rest)] for first, rest in zip(greedy, drawn, strict=True)]
        judged, _ = self.truth.judge(seeds, texts)
        for seed, said, right in zip(seeds, texts, judged, strict=True):
            known = true_answers(seed, self.answers) if self.answers in seed.extra else []
            found = {
                "prompt": _plain(seed.prompt),
                "greedy": said[0],
                "greedy_right": right[0],
                "samples": said[1:],
                "right": right[1:],
                "gold": next((text for text in known if text.strip()), None),
            }
            yield Draft(seed.id, found)

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Build the targets of every question; nothing is left to chance but what `balance` leaves out."""
        probes = [_probe(draft) for draft in drafts]
        kept = _balanced(probes, self.sampling.seed) if self.balance else set(range(len(probes)))
        for i, (draft, probe) in enumerate(zip(drafts, probes, strict=True)):
            counts["known"] += probe.greedy_right
            counts["unknown"] += not probe.greedy_right
            texts = _BUILDERS[self.targets](probe, self)
            if not texts:
                counts["dropped_without_a_true_answer"] += 1
            if i not in kept:
                counts["dropped_to_balance"] += len(texts)
                continue
            for text in texts:
                counts["refusals"] += text is None
                yield self._row(draft, probe, text)

    def _row(self, draft: Draft, probe: Probe, text: str | None) -> Row:
        prompt, said = draft.found["prompt"], self.refusal if text is None else text
        return {
            "parent": draft.parent,
            "prompt": _plain(honest_prompt(prompt, self.instruction, self.refusal, self.instruction_role)),
            "completion": said if isinstance(prompt, str) else [{"role": "assistant", "content": said}],
            "targets": self.targets,
            "refuses": text is None,
            "sampling_knowns": probe.knowns,
            "expected_accuracy": probe.knowns / len(probe.samples),
            "greedy_known": probe.greedy_right,
        }


def _absolute(probe: Probe, how: HonestyTargets) -> list[str | None]:
    return [probe.response if knows(probe, how.tau) else None]


def _confidence_num(probe: Probe, how: HonestyTargets) -> list[str | None]:
    if not _sure_enough(probe, how):
        return [None]
    low, neutral = how.numbers
    percent = round(100 * probe.knowns / len(probe.samples))
    template = low if 2 * probe.knowns <= len(probe.samples) else neutral
    return [_filled(template.replace("{percent}", str(percent)), str(probe.response))]


def _confidence_verb(probe: Probe, how: HonestyTargets) -> list[str | None]:
    if not _sure_enough(probe, how):
        return [None]
    template = how.hedges[level_of(probe.knowns, len(probe.samples), len(how.hedges)) - 1]
    return [_filled(template, _lowered(str(probe.response)))]


def _multisample(probe: Probe, how: HonestyTargets) -> list[str | None]:
    return [text if right else None for text, right in zip(probe.samples, probe.right, strict=True)]


def _baseline(probe: Probe, how: HonestyTargets) -> list[str | None]:
    if probe.response is not None:
        return [probe.response]
    return [] if probe.gold is None else [_sentence(probe.gold)]


_BUILDERS: dict[str, Callable[[Probe, HonestyTargets], list[str | None]]] = {
    "absolute": _absolute,
    "confidence_num": _confidence_num,
    "confidence_verb": _confidence_verb,
    "multisample": _multisample,
    "baseline": _baseline,
}
"""Name -> the target texts of one question, None for a refusal."""


def _sure_enough(probe: Probe, how: HonestyTargets) -> bool:
    """Confidence is said of samples alone: a greedy hit without any has no number."""
    return probe.knowns >= needed_hits(how.tau, len(probe.samples))


def _filled(template: str, answer: str) -> str:
    return template.replace("{answer}", answer)


def _lowered(answer: str) -> str:
    """Lower the first letter, but for the letter of an option ("B) Oslo") and for "I"."""
    return answer if _OPTION_OR_I.match(answer) else answer[:1].lower() + answer[1:]


def _sentence(text: str) -> str:
    tidy = text.strip()
    return tidy[:1].upper() + tidy[1:] + ("" if tidy.endswith((".", "!", "?")) else ".")


def _balanced(probes: Sequence[Probe], seed: int) -> set[int]:
    known = [i for i, probe in enumerate(probes) if probe.greedy_right]
    unknown = [i for i, probe in enumerate(probes) if not probe.greedy_right]
    few, rng = min(len(known), len(unknown)), random.Random(f"honesty balance {seed}")
    return {*rng.sample(known, few), *rng.sample(unknown, few)}


def _probe(draft: Draft) -> Probe:
    found = draft.found
    samples, right = tuple(found["samples"]), tuple(found["right"])
    return Probe(found["greedy"], found["greedy_right"], samples, right, found["gold"])


def _plain(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt]
