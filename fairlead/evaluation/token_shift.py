"""Token distribution shift (Lin et al. 2024, arXiv 2312.01552): at which tokens an aligned model leaves its base.

The aligned model answers; both models then read the answer, and the rank of every token in the base's distribution
tells whether the base would have said it anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Completion, Engine, FinishReason, Sampling
from fairlead.engines.base_prompt import as_base_reads, check_form
from fairlead.engines.distributions import Distributed, TokenStats, View, reads
from fairlead.errors import EngineError, UnsupportedError, UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_ratio, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import GREEDY, draw, other_engines, prompts_of, sample_rows
from fairlead.evaluation.shift_figures import figures, shown
from fairlead.evaluation.shift_tokens import CONTENT, END, Answer, Tokens, roles_of, truncated
from fairlead.messages import Prompt

__all__ = ["TokenShift"]

_PROMPTS_AT_ONCE = 256


@dataclass(frozen=True)
class TokenShift:
    """How often, where and how far an aligned model's tokens are not those of its base.

    A token is `unshifted` where the base finds it likeliest, `marginal` where the base ranks it up to `marginal`, and
    `shifted` beyond. Shares are pooled over the tokens of all answers; intervals are over prompts.
    """

    base: str
    """Name of the engine that the others came from; all must share a tokenizer."""
    base_prompt: str = "template"
    """How the base is asked: "template" (the chat template, as the others), or a plain text with {question} (and
    {system} where the prompts have one); then tokens that only end an answer are left out."""
    marginal: int = 3
    """Last rank under the base of a marginal token."""
    top_k: int = 10
    """Likeliest tokens on each side that `kl_topk` and `jaccard` compare."""
    phrases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Role -> texts. Tokens of an answer that lie in one of the texts have that role, the others are `content`, the
    token that ends the answer is `end`; with roles the report tells each one's share."""
    listed: int = 12
    """Tokens that the figure of the most shifted ones shows."""
    sampling: Sampling = GREEDY
    """How the aligned models' answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {"base": "base", "phrases": {"closer": ["please stay safe"]}}

    def __post_init__(self) -> None:
        check_form(self.base_prompt)
        least = {"marginal": 1, "top_k": 1, "listed": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"token_shift.{name} is {getattr(self, name)}", fix=f"use {low} or more")
        for role, texts in self.phrases.items():
            if not role.isidentifier() or role in (END, "content", "first", "later"):
                raise UsageError(f"token_shift.phrases: {role!r} is no name of a role", fix="use another word")
            if isinstance(texts, str) or not texts or not all(texts):
                raise UsageError(f"token_shift.phrases.{role} must be a list of texts", fix='write ["of course"]')

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Compare every other engine's answers with what the base would have said.

        Axes: `unshifted`, `marginal`, `shifted` (shares of tokens), `base_prob` and `base_rank` (means),
        `kl_aligned_base`, `kl_base_aligned` and its truncated kind `kl_topk` (mean per token, nats), `jaccard` (of the
        top-k sets), `shifted_first`, `kl_first`, `shifted_later` and `kl_later` (of first tokens, of all others; the KL
        is the aligned model's from the base), `tokens` (per answer), and with `phrases`, per role: `shifted_<role>`,
        `marginal_<role>`, and `share_<role>` of all shifted tokens.
        Rows: id, engine, sample, answer, tokens, shifted_tokens, marginal_tokens, and per token the lists pieces,
        base_ranks, base_probs, kls (aligned from base) and roles.

        Raises:
            UnsupportedError: an engine whose distributions are out of reach, or whose tokenizer is not the base's.
        """
        others = other_engines(engines, self.base, "base")
        prompts, report = prompts_of(records), Report({})
        base, base_prompts = reads(engines[self.base], self.base, [as_base_reads(p, self.base_prompt) for p in prompts])
        readers = {name: reads(engine, name, prompts) for name, engine in others.items()}
        for name, (reader, _) in readers.items():
            if reader.vocabulary != base.vocabulary:
                what = f"its tokenizer is not that of the base engine {self.base}, so no token has a rank there"
                raise UnsupportedError(what, place=f"engine {name}", fix="compare models of one family")
        found: dict[str, Tokens] = {}
        for name, (reader, own_prompts) in readers.items():
            answers = draw({name: others[name]}, prompts, self.sampling)[name]
            sides = (base, base_prompts), (reader, own_prompts)
            found[name] = self._tokens(name, sides, answers)
            report.summary[name] = self._summary(found[name])
            report.rows += self._rows(name, records, answers, found[name])
            report.notes += self._notes(name, found[name])
        report.figures = figures(found, list(engines), self.marginal, self.listed)
        return report

    def _tokens(
        self, name: str, sides: Sequence[tuple[Distributed, Sequence[Prompt]]], answers: Sequence[list[Completion]]
    ) -> Tokens:
        """Let the base and the aligned model read the answers, a few prompts at a time."""
        (base, base_prompts), (reader, own_prompts) = sides
        found: list[Answer] = []
        for start in range(0, len(answers), _PROMPTS_AT_ONCE):
            read: list[tuple[int, int, list[int], list[str], bool]] = []
            for k in range(start, min(start + _PROMPTS_AT_ONCE, len(answers))):
                for j, answer in enumerate(answers[k]):
                    if answer.token_ids is None:
                        raise EngineError("it does not tell the tokens of its answers", place=f"engine {name}")
                    ids, pieces = list(answer.token_ids), reader.spell(answer.token_ids)
                    ended = answer.finish_reason is FinishReason.STOP and pieces[-1:] == [""]
                    if ended and self.base_prompt != "template":
                        ids, pieces, ended = ids[:-1], pieces[:-1], False
                    if ids:
                        read.append((k, j, ids, pieces, ended))
            own, theirs = ([prompts[k] for k, *_ in read] for prompts in (base_prompts, own_prompts))
            ids = [ids for _, _, ids, *_ in read]
            stats = base.token_stats_beside(reader, own, theirs, ids, View(top_k=self.top_k))
            for (k, j, _, pieces, ended), pair in zip(read, stats, strict=True):
                found.append(Answer(k, j, pieces, roles_of(pieces, self.phrases, ended=ended), _numbers(*pair)))
        return Tokens(found, (len(answers), self.sampling.n))

    def _summary(self, tokens: Tokens) -> dict[str, Estimate]:
        def share(what: np.ndarray, among: np.ndarray | None = None) -> Estimate:
            sums, counts = tokens.per_prompt(what, among)
            return estimate_ratio(sums, counts, confidence=self.confidence, seed=self.seed)

        kinds, first = tokens.kinds(self.marginal), tokens.position == 0
        axes = {kind: share(mask) for kind, mask in kinds.items()}
        for axis, number in (("shifted", kinds["shifted"]), ("kl", tokens["kl_aligned_base"])):
            axes |= {f"{axis}_first": share(number, first), f"{axis}_later": share(number, ~first)}
        axes |= {"base_prob": share(tokens["prob"]), "base_rank": share(tokens["rank"])}
        axes |= {name: share(tokens[name]) for name in ("kl_aligned_base", "kl_base_aligned", "kl_topk", "jaccard")}
        lengths = per_prompt(tokens.lengths)
        axes["tokens"] = estimate_mean(lengths, confidence=self.confidence, seed=self.seed)
        for role in (*self.phrases, CONTENT, END) if self.phrases else ():
            own = tokens.role == role
            axes[f"shifted_{role}"] = share(kinds["shifted"], own)
            axes[f"marginal_{role}"] = share(kinds["marginal"], own)
            axes[f"share_{role}"] = share(own, kinds["shifted"])
        return axes

    def _rows(
        self, name: str, records: Sequence[Any], answers: Sequence[Sequence[Completion]], tokens: Tokens
    ) -> list[dict[str, Any]]:
        counts = ("tokens", "shifted_tokens", "marginal_tokens")
        lists = ("pieces", "base_ranks", "base_probs", "kls", "roles")
        columns: dict[str, list[list[Any]]] = {"answer": [[answer.text for answer in group] for group in answers]}
        columns |= {column: [[0] * len(group) for group in answers] for column in counts}
        columns |= {column: [[[]] * len(group) for group in answers] for column in lists}
        for one in tokens.answers:
            ranks = one.numbers["rank"].astype(int)
            values = (len(ranks), _count(ranks, self.marginal), _count(ranks, 1) - _count(ranks, self.marginal))
            listed = (ranks.tolist(), one.numbers["prob"].tolist(), one.numbers["kl_aligned_base"].tolist())
            for column, value in zip((*counts, *lists), (*values, one.pieces, *listed, one.roles)):
                columns[column][one.prompt][one.sample] = value
        return sample_rows(name, records, columns)

    def _notes(self, name: str, tokens: Tokens) -> list[str]:
        asked = "the chat template" if self.base_prompt == "template" else repr(self.base_prompt)
        read, drawn = len(tokens.answers), tokens.shape[0] * tokens.shape[1]
        notes = [f"{name}: {len(tokens.rank)} tokens of {read} answers, {self.base} asked by {asked}"]
        if drawn > read:
            notes.append(f"{name}: {drawn - read} of {drawn} answers have no token to compare")
        unlike = int((tokens["own_rank"] > 1).sum())
        if unlike and self.sampling.temperature == 0:
            notes.append(f"{name}: {unlike} greedy tokens are not the likeliest where the answer is read at once")
        shifted = Counter(tokens.piece[tokens.kinds(self.marginal)["shifted"]].tolist())
        if shifted:
            total = Counter(tokens.piece.tolist())
            most = sorted(shifted.items(), key=lambda one: (-one[1], one[0]))[:8]
            said = ", ".join(f"{shown(piece)} ({count} of {total[piece]})" for piece, count in most)
            notes.append(f"{name}: shifted most often are {said}")
        return notes


def _count(ranks: np.ndarray, beyond: int) -> int:
    return int((ranks > beyond).sum())


def _numbers(base: TokenStats, aligned: TokenStats) -> dict[str, np.ndarray]:
    kl_topk, jaccard = truncated(base, aligned)
    found = {
        "rank": base.rank,
        "prob": np.exp(base.logprob),
        "own_rank": aligned.rank,
        "kl_aligned_base": aligned.divergence,
        "kl_base_aligned": base.divergence,
        "kl_topk": kl_topk,
        "jaccard": jaccard,
    }
    return {number: values.astype(float) for number, values in found.items()}
