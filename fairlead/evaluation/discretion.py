"""How annotators use their discretion: what they prefer where principles agree, and which principle wins in conflicts.

Source: "AI Alignment at Your Discretion", Buyl et al. 2025 (arXiv 2502.10441). The equations are those of
`fairlead.evaluation.principles`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead import catalog
from fairlead import prompts as texts_of
from fairlead.engines.asking import listed
from fairlead.engines.base import Engine, EngineSpec
from fairlead.errors import UsageError
from fairlead.evaluation.annotators import (
    Asking,
    Opinions,
    PairOf,
    of_policy,
    of_reward,
    pairs_of_preferences,
    principles_named,
)
from fairlead.evaluation.base import Report
from fairlead.evaluation.discretion_report import Priority, add_annotator, add_pairs, figures_of

__all__ = ["Discretion"]

_PAIRS = "pairs"
"""The subject that stands for the data."""


@dataclass(frozen=True, kw_only=True)
class Discretion:
    """Audit of annotators by principles, on pairs of answers.

    Annotators are the engines, the labels of the records, and any rewards. A pair's first answer is the chosen one.
    """

    principles: str | dict[str, Any] = "general"
    """name -> a sentence, which the oracle is asked about, or a reward as {name: ..., ...}, whose higher value keeps to
    the principle better; or a YAML file of sentences; `general` is a shipped one with 21."""
    oracle: EngineSpec | None = None
    """The engine that says which answer keeps to a sentence better."""
    annotators: dict[str, Any] = field(default_factory=dict)
    """name -> a reward that annotates: the answer that it values higher."""
    labels: str | None = "human"
    """What the annotator is called who chose the chosen answers; null leaves it out."""
    engines_as: Literal["policies", "judges"] = "policies"
    """Whether an engine prefers the answer that it finds likelier, or is asked which is better."""
    read: Literal["logprobs", "text"] = "logprobs"
    """Whether the log-probs of "A", "B" and "NA" are what the oracle and judges say, or what they write."""
    orders: Literal["both", "first"] = "both"
    """Whether they see pairs in both orders, or once with the chosen answer first, as the paper's oracle does."""
    margin: float = 0.0
    """Probabilities of "A" and "B" that differ by less say nothing, in [0, 1]."""
    tie_margin: float = 0.0
    """Rewards that differ by no more than this say nothing, in units of the reward."""
    prior_sd: float | None = None
    """Standard deviation of a normal prior on priorities, such as 2, which keeps all finite; null for none."""
    cluster: str | None = None
    """Extra column of the records; pairs with equal values are drawn together for the intervals."""
    least_conflicts: int = 5
    """Supremacy of one principle over another is given from so many decided conflicts on."""
    resamples: int = 1000
    """Bootstrap resamples behind the intervals of priorities and discrepancies."""
    text: str | None = None
    """What the oracle reads: the path of a Jinja text, or the text itself. It may use `principle`, `conversation`,
    `answer_a`, `answer_b` (in marks that bear `key`), `question`, `a`, `b` and `key`."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {
        "principles": {
            "short": {"name": "harbor_proxy", "proxy": "brevity"},
            "courteous": {"name": "harbor_proxy", "proxy": "polite_count"},
        },
        "annotators": {"total": {"name": "harbor", "axis": "total"}},
        "resamples": 20,
    }

    def __post_init__(self) -> None:
        sentences = [name for name, spec in self._named.items() if isinstance(spec, str)]
        if sentences and self.oracle is None:
            fix = "name an oracle, or give principles as rewards"
            raise UsageError(f"nobody says who keeps to {listed(sentences)}", place="discretion.oracle", fix=fix)
        checks = (
            ("tie_margin", self.tie_margin >= 0, "0 or more"),
            ("margin", 0 <= self.margin <= 1, "a number in [0, 1]"),
            ("resamples", self.resamples >= 1, "1 or more"),
            ("least_conflicts", self.least_conflicts >= 1, "1 or more"),
            ("prior_sd", self.prior_sd is None or self.prior_sd > 0, "a number above 0, or null"),
        )
        for name, holds, wanted in checks:
            if not holds:
                raise UsageError(f"{name} is {getattr(self, name)}", place="discretion", fix=f"use {wanted}")
        for name in self.annotators:
            catalog.from_spec("reward", self.annotators[name], place=f"discretion.annotators.{name}")
        _ = self._texts

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which settings name a file, by field."""
        own = settings.get("principles")
        found = {"text": texts_of.file_of(settings.get("text"))}
        found["principles"] = own if isinstance(own, str) and own != "general" else None
        return {name: path for name, path in found.items() if path is not None}

    @cached_property
    def _named(self) -> dict[str, Any]:
        return principles_named(self.principles)

    @property
    def _texts(self) -> tuple[texts_of.PromptText, texts_of.PromptText]:
        return texts_of.load("discretion", "principle", self.text), texts_of.load("discretion", "generic")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Compare annotators on the records, which must be preferences.

        Subject `pairs`: `consensus`, `conflict`, `indifference` (shares of pairs), `relevant.P` (share of pairs in
        which principle P speaks) and `consensus_without.P` (the share of consensus if P were left out).
        Every annotator: `decisive` (share of pairs that it decides), `arbitrariness` (of decided pairs with consensus,
        the share decided against it), `agrees.P`, `priority.P` (logits; finite ones), `supremacy.P.Q` (share of
        conflicts of P with Q that P wins) and `discrepancy.OTHER` (with another annotator).
        Rows: one per pair and subject, with what each principle or annotator prefers.
        """
        pairs, kept, notes = pairs_of_preferences(records)
        self._check_names(engines)
        principles, missing, more = self._principles(pairs)
        notes += more
        if missing.any():
            names = listed([pair.id for pair, gone in zip(pairs, missing, strict=True) if gone])
            notes.append(f"{int(missing.sum())} pairs are left out, a principle's preference is not known: {names}")
        left = np.flatnonzero(~missing)
        pairs, kept = [pairs[i] for i in left], [kept[i] for i in left]
        names = list(principles)
        table = np.stack([principles[name][left] for name in names], 1)
        report = Report({}, notes=notes)
        clusters = self._clusters(kept)
        add_pairs(report, _PAIRS, pairs, names, table, clusters, confidence=self.confidence, seed=self.seed)
        found: dict[str, Priority] = {}
        for who, opinions in self._annotators(engines, pairs):
            report.notes += opinions.notes
            found[who] = Priority.of(table, opinions.values, clusters, self.prior_sd, self.resamples, self.seed)
            add_annotator(
                report, who, pairs, names, table, opinions, found[who], clusters,
                least=self.least_conflicts, confidence=self.confidence, seed=self.seed,
            )  # fmt: skip
        for who in found:
            for other in sorted(found):
                if other != who:
                    gap = found[who].discrepancy(found[other], self.confidence)
                    if gap is not None:
                        report.summary[who][f"discrepancy.{other}"] = gap
        report.figures = figures_of(report, _PAIRS, names, found)
        return report

    def _principles(self, pairs: Sequence[PairOf]) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
        """Return what every principle prefers [N], which pairs have any that is not known [N], and notes."""
        from fairlead.engines import engine

        found: dict[str, np.ndarray] = {}
        missing, notes = np.zeros(len(pairs), dtype=bool), []
        oracle = None if self.oracle is None else engine(self.oracle)
        for name, spec in self._named.items():
            if isinstance(spec, str):
                assert oracle is not None
                opinions = self._asking(f"principle {name}", oracle, pairs, self._texts[0], spec)
            else:
                opinions = of_reward(spec, pairs, self.tie_margin)
            found[name] = opinions.values
            missing |= opinions.missing
            notes += opinions.notes
        return found, missing, notes

    @property
    def _asking(self) -> Asking:
        return Asking(self.read, self.orders, self.margin)

    def _annotators(self, engines: Mapping[str, Engine], pairs: Sequence[PairOf]) -> Iterable[tuple[str, Opinions]]:
        if self.labels is not None:
            yield self.labels, Opinions(np.ones(len(pairs)), np.zeros(len(pairs), dtype=bool))
        for name, spec in self.annotators.items():
            yield name, of_reward(catalog.from_spec("reward", spec), pairs, self.tie_margin)
        for name, engine in engines.items():
            if self.engines_as == "policies":
                yield name, of_policy(engine, pairs)
            else:
                yield name, self._asking(name, engine, pairs, self._texts[1])

    def _check_names(self, engines: Mapping[str, Engine]) -> None:
        labels = [] if self.labels is None else [self.labels]
        names = [_PAIRS, *labels, *self.annotators, *engines]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            fix = f"give every annotator and engine a name of its own, other than {_PAIRS!r}"
            raise UsageError(f"these names stand twice: {listed(twice)}", place="discretion", fix=fix)

    def _clusters(self, records: Sequence[Any]) -> np.ndarray:
        """Return the number of every record's cluster [N]."""
        if self.cluster is None:
            return np.arange(len(records))
        for record in records:
            if self.cluster not in record.extra:
                fix = f"use one of {sorted(record.extra)}, or leave `cluster` out"
                raise UsageError(f"no column {self.cluster!r}", place=f"record {record.id}", fix=fix)
        return np.unique([str(record.extra[self.cluster]) for record in records], return_inverse=True)[1]
