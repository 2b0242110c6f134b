"""Evolved instructions and answers with scores given side by side (Liu et al. 2023, arXiv 2312.15685, section 2).

An instruction is made harder, or an answer better, step by step; then all versions of one seed are scored together,
which tells them apart better than scoring each alone. From these scores scorers for whole pools are trained.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import catalog, prompts
from fairlead.engines.asking import JUDGING, Case, Verdict, ask, frame
from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.messages import Message
from fairlead.rewards.base import RewardSpec
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.verdicts import key_of, read_scores

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["METHODS", "Evolve", "usable"]

Axis = Literal["complexity", "quality"]

METHODS: dict[str, dict[str, str]] = {
    "complexity": {
        "constraints": "add one more condition or requirement that the answer must meet.",
        "depth": "where it asks about something, let it ask for more depth and breadth.",
        "concreteness": "put something specific in the place of something general.",
        "reasoning": "let it need more than one step of thought where one was enough.",
        "input": "add a short piece of data, such as a table or a bit of code, with which it has to be done.",
    },
    "quality": {
        "helpfulness": "make it more helpful to the one who asks.",
        "relevance": "make it more relevant to what is asked, and leave out what is not.",
        "depth": "go deeper into the matter.",
        "creativity": "make it more original.",
        "detail": "add details and examples.",
    },
}
"""Axis -> ways of evolving, in this library's own words."""

_TEXTS = ("evolve", "score")
_META = re.compile(
    r"\b(?:given|rewritten|old|new|original|improved|previous) (?:prompt|instruction|answer|response)\b",
    re.IGNORECASE,
)


@dataclass
class _Chain:
    """The versions of one seed."""

    id: str
    instruction: str
    answer: str
    ways: list[str]
    versions: list[dict[str, Any]] = field(default_factory=list)
    rejected: int = 0


@dataclass(frozen=True)
class Evolve(Synthesizer):
    """All versions of a seed as conversations, each with a column `evolved_score`: its score among them."""

    axis: Axis = "complexity"
    """Whether instructions are made harder or answers better."""
    steps: int = 5
    """How often each is evolved, each time in a way of its own."""
    methods: dict[str, str] | None = None
    """Name -> what the evolver is told; by default five ways for each axis."""
    reward: RewardSpec | None = None
    """Scores the versions by prompt and answer, in the stead of the role `judge`."""
    scale: tuple[int, int] = (1, 6)
    """Least and greatest score of the judge."""
    texts: dict[str, str] = field(default_factory=dict)
    """What engines read in place of the shipped texts, each the path of a Jinja text, or the text itself: `evolve` may
    use `instruction`, `answer` and `method`; `score` may use `axis`, `instruction`, `variants`, `names`, `low`, `high`
    and `key`."""
    retries: int = 2
    """How often the judge is asked again where its reply cannot be read."""
    judging: Sampling = JUDGING
    """How scores are drawn."""
    answering: Sampling = Sampling(max_tokens=1024)
    """How evolved instructions are answered."""
    sampling: Sampling = Sampling(max_tokens=1024)
    """How versions are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "axis": "quality",
        "steps": 1,
        "methods": {"manners": "be polite, safe and honest."},
        "texts": {"evolve": "{{ method }} {{ instruction }}"},
        "reward": "harbor",
        "sampling": {"max_tokens": 24},
    }
    reads: ClassVar[str] = "conversation"
    makes: ClassVar[str] = "conversation"

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= len(self.ways):
            raise UsageError(f"evolve.steps is {self.steps}", fix=f"use 1 to {len(self.ways)}, the number of methods")
        if not self.scale[0] < self.scale[1]:
            raise UsageError(f"evolve.scale is {self.scale}", fix="give the least and then the greatest score")
        if self.retries < 0:
            raise UsageError(f"evolve.retries is {self.retries}", fix="use 0 or more")
        if any(how.n != 1 for how in (self.sampling, self.judging, self.answering)):
            raise UsageError("evolve draws one version at a time", fix="leave n out of all samplings")
        for name in self.texts:
            if name not in _TEXTS:
                raise UnknownNameError("text", name, _TEXTS, place="evolve.texts")
        _ = self.shown
        if self.reward is not None:
            catalog.from_spec("reward", self.reward)

    @property
    def ways(self) -> dict[str, str]:
        """Name -> what the evolver is told."""
        return METHODS[self.axis] if self.methods is None else self.methods

    @property
    def engines(self) -> Mapping[str, str]:
        """The evolver, who answers harder instructions, and the judge where no reward scores."""
        roles = {"evolver": "writes the versions"}
        if self.axis == "complexity":
            roles["model"] = "answers evolved instructions"
        return roles | ({"judge": "scores all versions of a seed together"} if self.reward is None else {})

    @property
    def rows_per_seed(self) -> int:
        """The seed and its versions."""
        return self.steps + 1

    @cached_property
    def shown(self) -> dict[str, prompts.PromptText]:
        """Name -> what engines read."""
        files = {"evolve": self.axis, "score": "score"}
        return {name: prompts.load("evolve", files[name], self.texts.get(name)) for name in _TEXTS}

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Evolve all seeds step by step, answer what is new, and score every seed's versions together."""
        chains = [self._chain(seed) for seed in seeds]
        going = [chain for chain in chains if chain is not None]
        for k in range(self.steps):
            self._step(engines["evolver"], going, k)
        if self.axis == "complexity":
            new = [version for chain in going for version in chain.versions[1:]]
            rows = engines["model"].generate([_user(v["instruction"]) for v in new], self.answering) if new else []
            for version, row in zip(new, rows, strict=True):
                version["answer"] = row[0].text.strip()
        scores = self._rewards(going) if self.reward is not None else self._judged(engines["judge"], going)
        told = {chain.id: (chain, own) for chain, own in zip(going, scores, strict=True)}
        for seed in seeds:
            if seed.id not in told:
                yield Draft(seed.id, error="it is not one instruction with one answer")
                continue
            chain, (values, status) = told[seed.id]
            if status == "failed":
                yield Draft(seed.id, error="the judge gave no reply", failed=True)
                continue
            found = {"versions": chain.versions, "scores": values, "status": status, "rejected": chain.rejected}
            yield Draft(seed.id, found)

    def _chain(self, seed: Any) -> _Chain | None:
        turns = _turns(seed)
        if [turn["role"] for turn in turns] != ["user", "assistant"]:
            return None
        asked, said = (turn["content"] for turn in turns)
        names = random.Random(f"evolve {self.sampling.seed} {seed.id}").sample(sorted(self.ways), self.steps)
        first = {"instruction": asked, "answer": said, "method": None}
        return _Chain(seed.id, asked, said, names, [first])

    def _step(self, evolver: Engine, chains: Sequence[_Chain], k: int) -> None:
        asked = []
        for chain in chains:
            slots = {"instruction": chain.instruction, "answer": chain.answer, "method": self.ways[chain.ways[k]]}
            asked.append(_user(self.shown["evolve"].render(**slots)))
        rows = evolver.generate(asked, replace(self.sampling, seed=self.sampling.seed + k)) if asked else []
        for chain, row in zip(chains, rows, strict=True):
            text = row[0].text.strip()
            known = [version["instruction" if self.axis == "complexity" else "answer"] for version in chain.versions]
            if not usable(text, known):
                chain.rejected += 1
                continue
            if self.axis == "complexity":
                chain.instruction = text
            else:
                chain.answer = text
            version = {"instruction": chain.instruction, "answer": chain.answer, "method": chain.ways[k]}
            chain.versions.append(version)

    def _rewards(self, chains: Sequence[_Chain]) -> list[tuple[list[float] | None, str]]:
        flat = [version for chain in chains for version in chain.versions]
        asked = [_user(version["instruction"]) for version in flat]
        found = catalog.from_spec("reward", self.reward)(asked, [version["answer"] for version in flat])
        values = iter(zip(found.values, found.abstained, strict=True))
        scores: list[tuple[list[float] | None, str]] = []
        for chain in chains:
            own = [next(values) for _ in chain.versions]
            silent = any(abstained for _, abstained in own)
            scores.append((None, "abstained") if silent else ([float(value) for value, _ in own], "ok"))
        return scores

    def _judged(self, judge: Engine, chains: Sequence[_Chain]) -> list[tuple[list[float] | None, str]]:
        orders = [self._order(chain) for chain in chains]
        cases = [self._case(chain, order) for chain, order in zip(chains, orders, strict=True)]
        verdicts = ask(judge, cases, self.judging, retries=self.retries)
        return [_in_order(verdict, order) for verdict, order in zip(verdicts, orders, strict=True)]

    def _order(self, chain: _Chain) -> list[int]:
        """Return the order in which a seed's versions are shown, so that a later place means nothing."""
        order = list(range(len(chain.versions)))
        random.Random(f"evolve order {self.sampling.seed} {chain.id}").shuffle(order)
        return order

    def _case(self, chain: _Chain, order: Sequence[int]) -> Case:
        texts = [chain.versions[i]["instruction" if self.axis == "complexity" else "answer"] for i in order]
        key = key_of(chain.instruction, *texts)
        names = [str(place) for place in range(1, len(texts) + 1)]
        shown = {
            "axis": self.axis,
            "instruction": frame("instruction", chain.instruction, key),
            "variants": [frame(f"number-{name}", text, key) for name, text in zip(names, texts, strict=True)],
        }
        text = self.shown["score"].render(**shown, names=names, low=self.scale[0], high=self.scale[1], key=key)
        return Case(
            chain.id, _user(text), partial(read_scores, aspects=names, key=key, answers=texts, scale=self.scale)
        )

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield every version with its label; counts versions that were no use, and seeds without scores."""
        for draft in drafts:
            found = draft.found
            counts["rejected_versions"] += found["rejected"]
            if found["scores"] is None:
                counts["dropped_unscored"] += len(found["versions"])
                continue
            for k, (version, score) in enumerate(zip(found["versions"], found["scores"], strict=True)):
                if not version["answer"]:
                    counts["dropped_without_an_answer"] += 1
                    continue
                counts["above_their_seed"] += score > found["scores"][0]
                counts["below_their_seed"] += score < found["scores"][0]
                yield {
                    "parent": draft.parent,
                    "prompt": _user(version["instruction"]),
                    "completion": [{"role": "assistant", "content": version["answer"]}],
                    "evolved_score": score,
                    "version": k,
                    "evolved_by": version["method"],
                }


def usable(text: str, known: Sequence[str]) -> bool:
    """Whether a version is new among those before it and does not speak of being one."""
    return bool(text) and text.split() not in [one.split() for one in known] and _META.search(text) is None


def _in_order(verdict: Verdict, order: Sequence[int]) -> tuple[list[float] | None, str]:
    """Return scores in the versions' own order; None where any is missing."""
    if verdict.value is None or None in verdict.value.values():
        return None, verdict.status
    shown = [float(verdict.value[str(place)]) for place in range(1, len(order) + 1)]
    return [shown[order.index(i)] for i in range(len(order))], "ok"


def _turns(record: Any) -> list[Message]:
    if isinstance(record.prompt, str):
        return []
    said = record.completion
    return [*record.prompt, *([{"role": "assistant", "content": said}] if isinstance(said, str) else said)]


def _user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]
