"""P-Aligner's data (arXiv 2508.04626): rewrites of an instruction, found by a search along principles.

A wording is worth what a reward says of answers to it, seen as answers to the instruction as it was: so the intent is
kept. From the best and the worst wording of each tree a small rewriter learns, which the decoder `rewriter` puts in
front of a model that nobody trains.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import catalog
from fairlead import prompts as texts
from fairlead.engines.asking import attempts
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import UsageError
from fairlead.rewards.base import RewardSpec
from fairlead.rewrites import last_user, losses, message_at, with_message
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.principles import DOMAINS, Principle, filled, principles_for, read_principles
from fairlead.synthesis.rewrite_rows import ROWS
from fairlead.synthesis.rewrite_tree import QualityRule, Tree

if TYPE_CHECKING:
    from fairlead.engines.base import Engine
    from fairlead.rewards.base import Reward

__all__ = ["PAligner"]

_FENCED = re.compile(r"```\w*\n(.*)\n```", re.DOTALL)
_QUOTED = re.compile(r"\"([^\"]*)\"|\u201c([^\u201d]*)\u201d|\[([^\[\]]*)\]", re.DOTALL)


@dataclass
class _Search:
    """The search on one seed."""

    seed: Any
    message: str
    actions: dict[str, Principle]
    tree: Tree
    known: dict[str, list[float] | None] = field(default_factory=dict)
    place: int = 0
    action: str = ""

    def rng(self, seed: int) -> random.Random:
        return random.Random(f"p_aligner {seed} {self.seed.id} {self.tree.tries}")


@dataclass(frozen=True)
class PAligner(Synthesizer):
    """Wordings of an instruction and what they are worth, as rows that a rewriter learns from."""

    reward: RewardSpec
    """What values the answers, given the instruction as it was. A wording for which it abstains is left out."""
    rows: Literal["pairs", "chosen", "steps"] = "pairs"
    """`pairs`: best over worst wording; `chosen`: the best one; `steps`: every rewrite that gained on what it was made
    from, with its principle in the prompt."""
    iterations: int = 20
    """Wordings tried per instruction."""
    responses: int = 3
    """Answers per wording, whose mean reward is its worth."""
    exploration: float = 0.1
    """Weight of the bound's second term, in units of the reward; 0 follows the best so far."""
    quality: QualityRule = "subtree_mean_of_means"
    """What a node is worth to the search: the mean of its own value and its children's worths, the mean over its
    subtree, or the greatest value there."""
    expand: Literal["random", "fixed"] = "random"
    """Whether the next principle of a node is drawn or the first one left."""
    principles: str | tuple[Principle, ...] | None = None
    """Ways of rewriting: a YAML file, or the list itself; by default the ten that are shipped. Where all have `texts`
    no rewriter is needed."""
    domains: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(DOMAINS))
    """Category -> domains whose principles are tried; "*" stands for every other category."""
    category: str = "category"
    """Column of the seeds that says the category; seeds without it are of no category."""
    min_margin: float = 0.0
    """Best and worst wording must be further apart than this, in units of the reward."""
    rescore: int = 0
    """Fresh answers to the best and the worst wording, whose mean takes the place of the one that chose them; 0 for
    none. The greatest of many noisy means is too great."""
    guard: bool = True
    """Whether a rewrite that loses a number, an address or a code block of the instruction is left out."""
    max_length_ratio: float | None = None
    """Longest wording, in characters per character of the instruction."""
    mode: Literal["replace", "append", "prepend"] = "replace"
    """What the rewriter is to write, as in the decoder `rewriter`: the whole wording, or what stands behind or before
    the instruction; then wordings that are anything else are left out."""
    template: str | None = None
    """What the rewriter is asked: see the decoder `rewriter`. With `steps` it may use `principle` too."""
    markers: tuple[str, str] | None = ("<rewrite>", "</rewrite>")
    """Texts around the rewrite in the rows; None for the bare rewrite. Give the decoder the same."""
    separator: str = "\n"
    """What stands between the instruction and what is added."""
    rewriting: Sampling = Sampling(max_tokens=1024)
    """How rewrites are drawn."""
    retries: int = 2
    """How often a rewrite that is of no use is asked for again, before its principle is passed over."""
    sampling: Sampling = Sampling(max_tokens=1024)
    """How answers are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "reward": "harbor",
        "iterations": 4,
        "responses": 2,
        "mode": "prepend",
        "separator": " ",
        "template": "{{ prompt }}",
        "markers": None,
        "principles": [
            {"title": "manner", "texts": ["be polite, safe and honest. {{ prompt }}"]},
            {"title": "brevity", "texts": ["be short. {{ prompt }}"]},
        ],
        "sampling": {"max_tokens": 24},
    }
    reads: ClassVar[str] = "prompt"
    sources: ClassVar[tuple[str, ...]] = ("principles", "template")

    def __post_init__(self) -> None:
        least = (("iterations", 1), ("responses", 1), ("exploration", 0), ("min_margin", 0), ("rescore", 0),
                 ("retries", 0))  # fmt: skip
        for name, floor in least:
            if getattr(self, name) < floor:
                raise UsageError(f"p_aligner.{name} is {getattr(self, name)}", fix=f"use a value >= {floor}")
        for name in ("sampling", "rewriting"):
            if getattr(self, name).n != 1:
                fix = "answers are counted by p_aligner.responses; rewrites are drawn one by one"
                raise UsageError(f"p_aligner.{name}.n is set", fix=fix)
        if self.sampling.temperature == 0 and self.responses > 1:
            raise UsageError("p_aligner.responses are all the same at temperature 0", fix="set responses: 1")
        if self.max_length_ratio is not None and self.max_length_ratio <= 0:
            raise UsageError(f"p_aligner.max_length_ratio is {self.max_length_ratio}", fix="use a value above 0")
        if self.markers is not None and not all(self.markers):
            raise UsageError("p_aligner.markers has an empty text", fix='give both, as in ["<new>", "</new>"]')
        titles = Counter(principle.title for principle in self.bank)
        twice = [title for title, count in titles.items() if count > 1]
        if twice or not titles:
            what = f"p_aligner.principles has several called {twice[0]!r}" if twice else "p_aligner.principles is empty"
            raise UsageError(what, fix="give every principle a title of its own")
        _ = self.valuing, self.asked

    @property
    def engines(self) -> Mapping[str, str]:
        """The generator, and the rewriter where a principle has no texts of its own."""
        writes = {"rewriter": "rewrites an instruction after a principle"}
        needed = any(not principle.texts for principle in self.bank)
        return {"generator": "answers the wordings", **(writes if needed else {})}

    @property
    def makes(self) -> str:
        """Preference records for `pairs`, else conversations."""
        return "preference" if self.rows == "pairs" else "conversation"

    @property
    def rows_per_seed(self) -> int:
        """One; for `steps` as many as wordings are tried."""
        return self.iterations if self.rows == "steps" else 1

    @cached_property
    def bank(self) -> tuple[Principle, ...]:
        """All principles."""
        own = self.principles
        return read_principles(own) if own is None or isinstance(own, str) else own

    @cached_property
    def valuing(self) -> Reward:
        """The reward."""
        return catalog.from_spec("reward", self.reward)

    @cached_property
    def asked(self) -> texts.PromptText:
        """What the rewriter that learns from the rows is asked."""
        if self.rows == "steps":
            return texts.load("p_aligner", "step", self.template)
        return texts.load("rewriter", "replace" if self.mode == "replace" else "complement", self.template)

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Grow all trees by one wording at a time, each wave with one call to either engine; then value the roots."""
        searches = [self._begin(seed) for seed in seeds]
        going = [search for search in searches if search.actions and search.message.strip()]
        while growing := [search for search in going if self._choose(search)]:
            self._grow(engines, growing)
        roots = self._values(engines, [(search, search.message) for search in going])
        for search, rewards in zip(going, roots, strict=True):
            search.tree.nodes[0].rewards = rewards or []
        sound = [search for search in going if search.tree.nodes[0].rewards]
        again = self._again(engines, sound)
        for search in searches:
            yield self._drafted(search, again.get(search.seed.id))

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Read the rows off the trees.

        Counts `improved` trees, in which a rewrite is worth more than the instruction, `gains`, rewrites worth more
        than what they were made from, and `useless` rewrites.
        """
        for draft in drafts:
            tree = Tree.from_plain(draft.found["tree"])
            counts["improved"] += tree.ends()[0] != 0
            counts["gains"] += len(tree.gains())
            counts["useless"] += sum(len(node.barren) for node in tree.nodes)
            yield from ROWS[self.rows](self, draft, tree, counts)

    def _begin(self, seed: Any) -> _Search:
        message = message_at(seed.prompt, last_user(seed.prompt))
        suit = principles_for(str(seed.extra.get(self.category, "")), self.bank, self.domains)
        return _Search(seed, message, {principle.title: principle for principle in suit}, Tree.of(message))

    def _choose(self, search: _Search) -> bool:
        """Set which node is to be rewritten after which principle; False where the search has ended."""
        titles = list(search.actions)
        place = search.tree.select(titles, self.exploration, self.quality)
        if place is None or len(search.tree.nodes) > self.iterations:
            return False
        left = search.tree.unused(place, titles)
        search.place = place
        search.action = left[0] if self.expand == "fixed" else search.rng(self.sampling.seed).choice(left)
        return True

    def _grow(self, engines: Mapping[str, Engine], growing: Sequence[_Search]) -> None:
        found = self._rewrites(engines, growing)
        fresh = [(search, text) for search, text in zip(growing, found, strict=True) if text is not None]
        values = iter(self._values(engines, fresh))
        for search, text in zip(growing, found, strict=True):
            rewards = None if text is None else next(values)
            if text is None or rewards is None:
                search.tree.nodes[search.place].barren.append(search.action)
            else:
                search.tree.add(search.place, search.action, text, rewards)

    def _rewrites(self, engines: Mapping[str, Engine], growing: Sequence[_Search]) -> list[str | None]:
        """Return the next wording of each search, None where nothing came that can be used."""
        found: list[str | None] = [None] * len(growing)
        waiting = []
        for i, search in enumerate(growing):
            own = search.actions[search.action].texts
            if own:
                before = search.tree.nodes[search.place].text
                text = filled(search.rng(self.sampling.seed + 1).choice(own), before)
                found[i] = text if self._usable(search, text) else None
            else:
                waiting.append(i)
        how = [] if not waiting else attempts(engines["rewriter"], self.rewriting, self.retries, 0.3)
        for sampling in how:
            asked = [self._question(growing[i]) for i in waiting]
            replies = engines["rewriter"].generate(asked, sampling) if asked else []
            for i, (reply, *_) in zip(waiting, replies, strict=True):
                text = _tidied(reply)
                found[i] = text if text is not None and self._usable(growing[i], text) else None
            waiting = [i for i in waiting if found[i] is None]
        return found

    def _question(self, search: _Search) -> list[Any]:
        prompt, principle = search.tree.nodes[search.place].text, search.actions[search.action].content
        shown = texts.load("p_aligner", "rewrite").render(
            prompt=prompt, history=_history_of(search.seed.prompt), principle=principle
        )
        return [{"role": "user", "content": shown}]

    def _usable(self, search: _Search, text: str) -> bool:
        ratio = self.max_length_ratio
        faults = (
            not text.strip(),
            text.strip() == search.tree.nodes[search.place].text.strip(),
            ratio is not None and len(text) > ratio * len(search.message),
            self.guard and bool(losses(search.message, text)),
        )
        return not any(faults)

    def _values(
        self, engines: Mapping[str, Engine], asked: Sequence[tuple[_Search, str]], n: int | None = None, fresh: int = 0
    ) -> list[list[float] | None]:
        """Return the rewards of the answers to each wording, None where the reward abstains on any of them."""
        new = [(search, text) for search, text in asked if fresh or text not in search.known]
        if not new:
            return [search.known[text] for search, text in asked]
        raw = [search.seed.prompt for search, _ in new]
        prompts = [with_message(prompt, last_user(prompt), text) for prompt, (_, text) in zip(raw, new, strict=True)]
        how = replace(self.sampling, n=n or self.responses, seed=self.sampling.seed + fresh)
        drawn = engines["generator"].generate(prompts, how)
        valued = self.valuing([p for p in raw for _ in range(how.n)], [a.text for row in drawn for a in row])
        parts = [slice(i * how.n, (i + 1) * how.n) for i in range(len(new))]
        found = [None if valued.abstained[part].any() else valued.values[part].tolist() for part in parts]
        if fresh:
            return found
        for (search, text), rewards in zip(new, found, strict=True):
            search.known[text] = rewards
        return [search.known[text] for search, text in asked]

    def _again(self, engines: Mapping[str, Engine], searches: Sequence[_Search]) -> dict[str, list[float | None]]:
        """Return seed -> the means of fresh answers to its best and its worst wording."""
        if not self.rescore:
            return {}
        asked = [(search, search.tree.nodes[place].text) for search in searches for place in search.tree.ends()]
        fresh = self._values(engines, asked, self.rescore, 1)
        means = [None if rewards is None else sum(rewards) / len(rewards) for rewards in fresh]
        return {search.seed.id: means[2 * i : 2 * i + 2] for i, search in enumerate(searches)}

    def _drafted(self, search: _Search, again: list[float | None] | None) -> Draft:
        seed = search.seed
        faults = {
            "it has no user message to rewrite": not search.message.strip(),
            "no principle is for its category": not search.actions,
            "the reward abstains on answers to it": not search.tree.nodes[0].rewards,
            "the reward abstains on fresh answers to a rewrite": again is not None and None in again,
        }
        error = next((words for words, holds in faults.items() if holds), None)
        if error is not None:
            return Draft(seed.id, error=error)
        found = {
            "history": _history_of(seed.prompt),
            "category": seed.extra.get(self.category),
            "tree": search.tree.to_plain(),
            "contents": {title: principle.content for title, principle in search.actions.items()},
            "again": again,
        }
        return Draft(seed.id, found)


def _history_of(prompt: Any) -> list[dict[str, str]]:
    """Return the turns before the last user message."""
    return [] if isinstance(prompt, str) else [dict(turn) for turn in prompt[: max(last_user(prompt), 0)]]


def _tidied(reply: Completion) -> str | None:
    """Return a reply without the fence or quotes around the whole of it; None where it was cut off."""
    if reply.finish_reason is FinishReason.LENGTH:
        return None
    text = reply.text.strip()
    for wrapping in (_FENCED, _QUOTED):
        match = wrapping.fullmatch(text)
        if match is not None:
            text = next(part for part in match.groups() if part is not None).strip()
    return text
