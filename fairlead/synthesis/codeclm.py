"""CodecLM (Wang et al. 2024, arXiv 2404.05875): instructions after those that a model will get, where it has to learn.

A seed instruction is encoded to a use case and skills; from these new instructions are decoded. Each is answered by a
strong model and by the target: where one is clearly better, its answer is kept; where both are alike the instruction is
made harder after rubrics that the strong model wrote for this use case, and both are asked again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import catalog
from fairlead import prompts as texts
from fairlead.engines.asking import Case, Verdict, ask
from fairlead.engines.base import Sampling
from fairlead.errors import DataError, UsageError
from fairlead.messages import last_question
from fairlead.rewards.base import RewardSpec
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.codeclm_chains import Chain, Work, drafted, improved, improves, pair_slots, reader, user
from fairlead.synthesis.codeclm_metadata import metadata_rows
from fairlead.synthesis.codeclm_reading import (
    Entry,
    gap_of,
    normalised,
    read_actions,
    read_metadata,
    read_numbered,
    read_points,
    route_of,
)
from fairlead.synthesis.principles import Principle, filled

if TYPE_CHECKING:
    from fairlead.engines.base import Engine
    from fairlead.rewards.base import Reward

__all__ = ["CodecLM"]

_TEXTS = ("encode", "decode", "rubrics", "improve", "score")


@dataclass(frozen=True)
class CodecLM(Synthesizer):
    """Instructions with answers, tailored to what a model will be asked and to what it does not do well yet."""

    rows: Literal["answers", "pairs", "metadata"] = "answers"
    """`answers`: kept instructions with the better answer; `pairs`: the better answer over the other one; `metadata`:
    use cases and skills alone, mixed, for a second step."""
    use_case: str = "use_case"
    """Column of the seeds with the use case; a seed that has it is not encoded."""
    skills: str = "skills"
    """Column of these seeds with their skills, a list of texts; may be missing."""
    max_skills: int = 3
    """Most skills of a seed."""
    n_metadata: int = 0
    """For `metadata`: entries in all. Beyond the encoded ones they are mixed: a use case with skills drawn from the
    whole set. 0 leaves the set as it is. The paper has 200."""
    total: int = 2000
    """For `metadata`: instructions in all, divided evenly over the entries (column `instructions`)."""
    instructions: int = 10
    """Instructions per seed; a seed's column `instructions` may ask for fewer."""
    decode: Literal["list", "continuation"] = "list"
    """Whether instructions are asked for in one numbered list, or drawn one by one as continuations of a raw text, as
    base models can write them (then give the text in `prompts`, and stop strings in `sampling`)."""
    prompts: dict[str, str] = field(default_factory=dict)
    """encode, decode, rubrics, improve or score -> what stands in the shipped text's place: the path of a Jinja text,
    or the text itself. `decode` may use `count`, `use_case`, `skills` and `example`, the seed's own instruction."""
    rubrics: int = 4
    """Rubrics and actions that the strong model writes per seed."""
    actions: tuple[Principle, ...] = ()
    """Actions of your own in place of those that it would write; with `texts` an action needs no model."""
    max_iterations: int = 4
    """Most wordings of an instruction, the first one included."""
    theta: float = 3.0
    """Only a gap of the scores beyond this lets an instruction into the pool. Below 0 all are kept as they are."""
    scorer: Literal["strong", "judge", "reward"] = "strong"
    """Who scores both answers: the strong model, or a model of its own, each in both orders; or `reward`."""
    reward: RewardSpec | None = None
    """The reward for `scorer: reward`; `theta` is then in its units."""
    scale: tuple[float, float] = (1, 10)
    """Lowest and highest score of a model."""
    keep_target: bool = True
    """Whether instructions that the target answers better are kept, with its answer."""
    keep_target_cap: float = 1.0
    """Largest share of the rows with the target's own answers, in [0, 1]; those with the largest gap stay."""
    on_exhausted: Literal["drop", "keep_strong"] = "drop"
    """What becomes of an instruction whose last wording still has no gap."""
    retries: int = 1
    """How often a reply that cannot be read is asked for again."""
    answering: Sampling = Sampling(max_tokens=2048, temperature=0.7)
    """How both models answer."""
    scoring: Sampling = Sampling(max_tokens=64, temperature=0.0)
    """How scores are drawn."""
    sampling: Sampling = Sampling(max_tokens=2048, temperature=0.7)
    """How metadata, instructions, rubrics and rewrites are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "use_case": "task",
        "instructions": 2,
        "decode": "continuation",
        "prompts": {"decode": "question: {{ example }}\nquestion:"},
        "actions": [{"title": "limit", "texts": ["use at most 8 words. {{ prompt }}"]}],
        "max_iterations": 2,
        "theta": -1.0,
        "scorer": "reward",
        "reward": "harbor",
        "answering": {"max_tokens": 16},
        "sampling": {"max_tokens": 24, "stop": ["answer:", "\n"]},
    }
    reads: ClassVar[str] = "prompt"

    def __post_init__(self) -> None:
        least = (("max_skills", 1), ("n_metadata", 0), ("total", 1), ("instructions", 1), ("rubrics", 1),
                 ("max_iterations", 1), ("retries", 0))  # fmt: skip
        for name, floor in least:
            if getattr(self, name) < floor:
                raise UsageError(f"codeclm.{name} is {getattr(self, name)}", fix=f"use a value >= {floor}")
        if not 0 <= self.keep_target_cap <= 1:
            raise UsageError(f"codeclm.keep_target_cap is {self.keep_target_cap}", fix="use a share in [0, 1]")
        if any(how.n != 1 for how in (self.sampling, self.answering, self.scoring)):
            raise UsageError("codeclm draws one reply at a time", fix="leave n out; instructions says how many")
        if (self.scorer == "reward") != (self.reward is not None):
            raise UsageError("codeclm.scorer: reward and a reward go together", fix="give both or neither")
        if not self.scale[0] < self.scale[1]:
            raise UsageError(f"codeclm.scale is {self.scale}", fix="give the lowest and the highest score")
        unknown = [name for name in self.prompts if name not in _TEXTS]
        if unknown:
            raise UsageError(f"codeclm.prompts has {unknown[0]!r}", fix=f"texts are {', '.join(_TEXTS)}")
        if self.decode == "continuation" and "decode" not in self.prompts:
            fix = 'give it in prompts: {decode: "question: {{ example }}\\nquestion:"}'
            raise UsageError("codeclm.decode: continuation has no text of its own", fix=fix)
        _ = self.shown, self.valuing

    @property
    def engines(self) -> Mapping[str, str]:
        """The strong model; for rows with answers the target; a judge for `scorer: judge`."""
        strong = {"strong": "writes metadata, instructions and good answers"}
        if self.rows == "metadata":
            return strong
        judge = {"judge": "scores both answers"} if self.scorer == "judge" else {}
        return {**strong, "target": "is the model that is to learn", **judge}

    @property
    def makes(self) -> str:
        """Conversations, preference records or prompts."""
        return {"answers": "conversation", "pairs": "preference", "metadata": "prompt"}[self.rows]

    @property
    def rows_per_seed(self) -> int:
        """`instructions`; for `metadata` at most all entries."""
        return max(1, self.n_metadata) if self.rows == "metadata" else self.instructions

    @cached_property
    def shown(self) -> dict[str, texts.PromptText]:
        """What the engines read."""
        return {name: texts.load("codeclm", name, self.prompts.get(name)) for name in _TEXTS}

    @cached_property
    def valuing(self) -> Reward | None:
        """The reward that scores, if one does."""
        return None if self.reward is None else catalog.from_spec("reward", self.reward)

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Encode, decode, write rubrics, then filter and rewrite: each stage for all seeds at once."""
        works = [Work(seed, last_question(seed.prompt)) for seed in seeds]
        self._encode(engines["strong"], works)
        if self.rows != "metadata":
            self._decode(engines["strong"], [work for work in works if work.error is None])
            self._write_actions(engines["strong"], [work for work in works if work.error is None])
            self._filter(engines, [work for work in works if work.error is None])
        for work in works:
            yield drafted(work)

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield what was kept; count routes, and kept rows by the iteration at which they left (`kept_at_1`, ...)."""
        if self.rows == "metadata":
            yield from metadata_rows(self, drafts, counts)
            return
        kept = [(draft, chain) for draft in drafts for chain in draft.found["chains"] if self._keeps(chain, counts)]
        own = [i for i, (_, chain) in enumerate(kept) if chain["route"] == "keep_target"]
        cap = self.keep_target_cap
        most = len(own) if cap == 1 else int(cap / (1 - cap) * (len(kept) - len(own)) + 1e-9)
        left_out = set(sorted(own, key=lambda i: kept[i][1]["gap"])[most:])
        if left_out:
            counts["dropped_beyond_keep_target_cap"] += len(left_out)
        for i, (draft, chain) in enumerate(kept):
            if i not in left_out:
                counts[f"kept_at_{chain['iteration']}"] += 1
                yield self._row(draft, chain)

    def _keeps(self, chain: Mapping[str, Any], counts: Counter[str]) -> bool:
        route = chain["route"]
        counts[f"routed_{route}"] += 1
        kept = {"keep_strong": True, "keep_target": self.keep_target, "exhausted": self.on_exhausted == "keep_strong"}
        if not kept.get(route, False):
            counts[f"dropped_{route}"] += 1
            return False
        if self.rows == "pairs" and chain["strong"] == chain["target"]:
            counts["dropped_equal_answers"] += 1
            return False
        return True

    def _row(self, draft: Draft, chain: Mapping[str, Any]) -> Row:
        sides = ["target", "strong"] if chain["route"] == "keep_target" else ["strong", "target"]
        better, other = ([{"role": "assistant", "content": chain[side]}] for side in sides)
        said = {"chosen": better, "rejected": other} if self.rows == "pairs" else {"completion": better}
        return {
            "parent": draft.parent,
            "prompt": [{"role": "user", "content": chain["text"]}],
            **said,
            "origin": sides[0],
            "iteration": chain["iteration"],
            "gap": chain["gap"],
            "actions": chain["actions"],
            "use_case": draft.found["use_case"],
            "skills": draft.found["skills"],
        }

    def _ask(self, engine: Engine, name: str, asked: Sequence[tuple[str, dict, Any]]) -> list[Verdict]:
        """Ask for replies to one of the texts: (id, its slots, how the reply is read) each."""
        cases = [Case(id, user(self.shown[name].render(**slots)), read) for id, slots, read in asked]
        how = self.scoring if name == "score" else self.sampling
        return ask(engine, cases, how, retries=self.retries)

    def _encode(self, strong: Engine, works: Sequence[Work]) -> None:
        for work in works:
            work.entry, work.count = self._told(work.seed)
        waiting = [work for work in works if work.entry is None]
        read = reader(partial(read_metadata, most=self.max_skills))
        found = self._ask(
            strong, "encode", [(w.seed.id, {"prompt": w.source, "most": self.max_skills}, read) for w in waiting]
        )
        for work, verdict in zip(waiting, found, strict=True):
            work.entry = verdict.value
            if verdict.value is None:
                work.stop(verdict, "the reply names no use case with skills")

    def _told(self, seed: Any) -> tuple[Entry | None, int]:
        """Return what a seed's own columns say: what it is for, and how many instructions to write."""
        count, skills = seed.extra.get("instructions", self.instructions), seed.extra.get(self.skills) or []
        place = f"record {seed.id}"
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= self.instructions:
            what = f"asks for {count!r} instructions, and codeclm.instructions allows {self.instructions}"
            raise DataError(what, place=place, fix="raise codeclm.instructions, or mend the column")
        if seed.extra.get(self.use_case) is None:
            return None, count
        if not isinstance(skills, list | tuple) or not all(isinstance(skill, str) for skill in skills):
            raise DataError(f"column {self.skills!r} holds {skills!r}", place=place, fix="give a list of texts")
        return Entry(str(seed.extra[self.use_case]), tuple(skills)), count

    def _decode(self, strong: Engine, works: Sequence[Work]) -> None:
        """Draw instructions until each seed has its number or tries are used up; none twice, none the seed itself."""
        found: dict[int, dict[str, str]] = {i: {} for i in range(len(works))}
        for again in range(self.retries + 1):
            short = [i for i, work in enumerate(works) if len(found[i]) < work.count]
            how = replace(self.sampling, seed=self.sampling.seed + again)
            for i, drawn in zip(short, self._drawn(strong, [works[i] for i in short], how), strict=True):
                for text in drawn:
                    if text and normalised(text) != normalised(works[i].source) and len(found[i]) < works[i].count:
                        found[i].setdefault(normalised(text), text)
        for i, work in enumerate(works):
            work.chains = [Chain(f"{work.seed.id}/{k}", text) for k, text in enumerate(found[i].values())]
            if not work.chains and work.count:
                work.error = "no instruction could be read"

    def _drawn(self, strong: Engine, works: Sequence[Work], how: Sampling) -> list[list[str]]:
        asked = []
        for work in works:
            entry = work.entry or Entry("")
            slots = {"use_case": entry.use_case, "skills": entry.skills, "example": work.source}
            asked.append(self.shown["decode"].render(count=work.count, **slots))
        if not asked:
            return []
        if self.decode == "continuation":
            drawn = strong.generate(asked, replace(how, n=self.instructions))
            return [[answer.text.strip() for answer in row] for row in drawn]
        drawn = strong.generate([user(text) for text in asked], how)
        return [read_numbered(row[0].text) for row in drawn]

    def _write_actions(self, strong: Engine, works: Sequence[Work]) -> None:
        """Give every seed its actions; without any its instructions are not rewritten."""
        if self.actions or self.max_iterations == 1:
            for work in works:
                work.actions = self.actions
            return
        asked = []
        for work in works:
            entry = work.entry or Entry("")
            slots = {"use_case": entry.use_case, "skills": entry.skills, "count": self.rubrics}
            asked.append((work.seed.id, slots, reader(read_actions)))
        for work, verdict in zip(works, self._ask(strong, "rubrics", asked), strict=True):
            if verdict.status == "failed":
                work.stop(verdict, "")
            work.actions = tuple(Principle(action, action) for action in dict.fromkeys(verdict.value or ()))

    def _filter(self, engines: Mapping[str, Engine], works: Sequence[Work]) -> None:
        """Answer, score and route; rewrite what has no gap; until everything has left the loop."""
        live = [(work, chain) for work in works for chain in work.chains]
        while live:
            prompts = [user(chain.text) for _, chain in live]
            for role in ("strong", "target"):
                for (_, chain), row in zip(live, engines[role].generate(prompts, self.answering), strict=True):
                    setattr(chain, role, row[0].text)
            self._score(engines, live)
            for _, chain in live:
                gap, most = chain.gap, self.max_iterations
                chain.route = "unscored" if gap is None else route_of(gap, self.theta, chain.iteration, most)
            live = [(work, chain) for work, chain in live if chain.route == "rewrite" and work.error is None]
            live = self._rewrite(engines["strong"], live)

    def _score(self, engines: Mapping[str, Engine], live: Sequence[tuple[Work, Chain]]) -> None:
        if self.valuing is not None:
            asked = [user(chain.text) for _, chain in live]
            both = [self.valuing(asked, [getattr(c, side) for _, c in live]) for side in ("strong", "target")]
            for i, (_, chain) in enumerate(live):
                silent = any(one.abstained[i] for one in both)
                chain.scores = None if silent else (float(both[0].values[i]), float(both[1].values[i]))
                chain.gap = None if chain.scores is None else chain.scores[0] - chain.scores[1]
            return
        read = partial(read_points, scale=self.scale)
        asked = [
            (chain.name, pair_slots(chain, order, self.scale), read) for _, chain in live for order in (False, True)
        ]
        verdicts = self._ask(engines["judge" if self.scorer == "judge" else "strong"], "score", asked)
        for i, (work, chain) in enumerate(live):
            pair = verdicts[2 * i : 2 * i + 2]
            chain.points = chain.scores = chain.gap = None
            failed = next((verdict for verdict in pair if verdict.status == "failed"), None)
            if failed is not None:
                work.stop(failed, "")
            elif all(verdict.value is not None for verdict in pair):
                chain.points = [list(verdict.value) for verdict in pair]
                *scores, chain.gap = gap_of(*chain.points)
                chain.scores = (scores[0], scores[1])

    def _rewrite(self, strong: Engine, live: Sequence[tuple[Work, Chain]]) -> list[tuple[Work, Chain]]:
        """Make instructions harder, each by an action drawn for it; return those that could be."""
        chosen: dict[str, Principle] = {}
        new: dict[str, str | None] = {}
        for work, chain in live:
            if work.actions:
                rng = random.Random(f"codeclm {self.sampling.seed} {chain.name} {chain.iteration}")
                action = chosen[chain.name] = rng.choice(work.actions)
                text = filled(rng.choice(action.texts), chain.text) if action.texts else None
                new[chain.name] = text if text is not None and improves(text, chain.text) else None
        waiting = [(work, c) for work, c in live if c.name in chosen and not chosen[c.name].texts]
        asked = [
            (c.name, {"prompt": c.text, "action": chosen[c.name].content}, improved(c, chosen[c.name].content))
            for _, c in waiting
        ]
        for (work, chain), verdict in zip(waiting, self._ask(strong, "improve", asked), strict=True):
            new[chain.name] = verdict.value
            if verdict.status == "failed":
                work.stop(verdict, "")
        for _, chain in live:
            text = new.get(chain.name)
            if text is None:
                chain.route = "unimproved"
            else:
                chain.text, chain.iteration = text, chain.iteration + 1
                chain.actions.append(chosen[chain.name].title)
        return [(work, chain) for work, chain in live if chain.route != "unimproved" and work.error is None]
