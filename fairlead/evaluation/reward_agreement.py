"""How often a reward names the same winner as people do, ties included (Chang et al. 2025, arXiv 2505.11080).

The reward's winner of two answers is the one that it values more, and neither where it values both alike. On records
with references this tells whether BLEU, or any other reward, is worth training against before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_difference, estimate_mean, estimate_rate, is_binary
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import value
from fairlead.figures import intervals
from fairlead.messages import Prompt
from fairlead.rewards.base import Reward, RewardSpec

__all__ = ["RewardAgreement"]

_CONTROLS = ("longer", "random")
_BOTH_BAD = "tie (bothbad)"
_Judged = tuple[str, Prompt, tuple[str, ...], tuple[float, ...]]
"""Id, prompt, answers, what people said of each (higher is better)."""


@dataclass(frozen=True)
class RewardAgreement:
    """Share of people's verdicts on pairs that rewards give too, beside "the longer answer wins" and a coin.

    Engines are not asked anything. A pair that people call even is agreed on only where the reward calls it even.
    """

    rewards: dict[str, RewardSpec]
    """Name -> reward: a catalog name, or {name, fields...}."""
    joined: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> names of `rewards` whose values are put in standard deviations over all answers and averaged."""
    tie_margin: float = 0.0
    """Values that differ by no more than this are even, in units of the reward (standard deviations for `joined`)."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap and of the coin."""

    example: ClassVar[Mapping[str, Any]] = {"rewards": {"exact": "harbor", "wordy": "harbor_proxy"}}

    def __post_init__(self) -> None:
        if not self.rewards:
            raise UsageError("reward_agreement.rewards is empty", fix="name at least one reward")
        if not self.tie_margin >= 0:
            raise UsageError(f"reward_agreement.tie_margin is {self.tie_margin}", fix="use 0 or more")
        names = [*self.rewards, *self.joined, *_CONTROLS]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"reward_agreement: two are called {twice!r}", fix=f"rename one ({', '.join(_CONTROLS)})")
        for name, parts in self.joined.items():
            if len(parts) < 2:
                raise UsageError(f"reward_agreement.joined.{name} has fewer than two rewards", fix="name two or more")
            for part in parts:
                if part not in self.rewards:
                    raise UnknownNameError("reward", part, self.rewards, place=f"reward_agreement.joined.{name}")
        _ = self._built

    @cached_property
    def _built(self) -> dict[str, Reward]:
        return {name: catalog.from_spec("reward", spec) for name, spec in self.rewards.items()}

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Value all answers of the records, which are preferences or rankings, and compare every pair of each.

        Axes of every reward, of those joined, and of `longer` (characters) and `random`: `agreement`, `tied` (share of
        pairs that it calls even), and but for `longer` itself `gain` (agreement less that of `longer`). Rows: id,
        engine, these of a record (means over its pairs), and `margin`, how much more the answer is valued that people
        prefer. Pairs on which a reward abstains, records of answers in several turns and those whose column `winner` is
        "tie (bothbad)" are left out and counted in notes.

        Raises:
            DataError: a record of another kind, or none to judge.
        """
        report = Report({})
        cases = _cases(records, report)
        values = {name: _valued(reward, cases) for name, reward in self._built.items()}
        for name, parts in self.joined.items():
            values[name] = _average([values[part] for part in parts])
        values["longer"] = [np.array([float(len(text)) for text in texts]) for _, _, texts, _ in cases]
        coin = np.random.default_rng(self.seed)
        values["random"] = [coin.permutation(len(texts)).astype(np.float64) for _, _, texts, _ in cases]
        found = {name: self._columns(cases, columns) for name, columns in values.items()}
        baseline = found["longer"]["agreement"]
        for name, columns in found.items():
            if name != "longer":
                columns["gain"] = columns["agreement"] - baseline
            self._add(report, name, cases, columns, baseline)
            silent = sum(int(np.isnan(one).any()) for one in values[name])
            if silent:
                report.notes.append(f"{name}: it abstains on answers of {silent} of {len(cases)} records")
        report.figures = {"with people": intervals(report.summary, ["agreement"], label="share of pairs agreed on")}
        return report

    def _columns(self, cases: Sequence[_Judged], values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return [N] columns of the means over a record's pairs; NaN where no pair is valued."""
        columns = {axis: np.full(len(cases), np.nan) for axis in ("agreement", "tied", "margin")}
        for i, ((*_, said), own) in enumerate(zip(cases, values, strict=True)):
            pairs = [(said[a] - said[b], own[a] - own[b]) for a, b in combinations(range(len(said)), 2)]
            gaps = np.array([(people, gap) for people, gap in pairs if gap == gap], dtype=np.float64).reshape(-1, 2)
            if not len(gaps):
                continue
            people, gap = np.sign(gaps[:, 0]), gaps[:, 1]
            outcome = np.where(np.abs(gap) <= self.tie_margin, 0.0, np.sign(gap))
            columns["agreement"][i] = (outcome == people).mean()
            columns["tied"][i] = (outcome == 0).mean()
            if people.any():
                columns["margin"][i] = (people * gap)[people != 0].mean()
        return columns

    def _add(
        self, report: Report, name: str, cases: Sequence[_Judged], columns: Mapping[str, np.ndarray], longer: np.ndarray
    ) -> None:
        options = {"confidence": self.confidence, "seed": self.seed}
        found: dict[str, Estimate] = {}
        for axis in ("agreement", "tied"):
            estimate = estimate_rate if is_binary(columns[axis]) else estimate_mean
            found[axis] = estimate(columns[axis], **options)
        if "gain" in columns:
            found["gain"] = estimate_difference(columns["agreement"], longer, **options)
        report.summary[name] = found
        for i, (record, *_) in enumerate(cases):
            told = {axis: float(column[i]) if column[i] == column[i] else None for axis, column in columns.items()}
            report.rows.append({"id": record, "engine": name, **told})


def _cases(records: Sequence[Any], report: Report) -> list[_Judged]:
    cases, several, bad = [], 0, 0
    for record in records:
        if record.kind not in ("preference", "ranking"):
            what = f"a {record.kind} record holds no verdict"
            raise DataError(what, place=f"record {record.id}", fix="evaluate on preferences or rankings")
        if record.extra.get("winner") == _BOTH_BAD:
            bad += 1
            continue
        ranked = record.kind == "ranking"
        answers = record.completions if ranked else (record.chosen, record.rejected)
        texts = tuple(text for answer in answers if (text := _text(answer)) is not None)
        if len(texts) < len(answers):
            several += 1
            continue
        cases.append((str(record.id), record.prompt, texts, tuple(record.scores) if ranked else (1.0, 0.0)))
    if several:
        report.notes.append(f"{several} of {len(records)} records are left out: their answers are several turns")
    if bad:
        report.notes.append(f"{bad} of {len(records)} records are left out: people found both answers bad")
    if not cases:
        raise DataError("there is no pair of single answers", fix="give preferences, or rankings of two answers")
    return cases


def _text(answer: Any) -> str | None:
    if isinstance(answer, str):
        return answer
    return answer[0]["content"] if [message["role"] for message in answer] == ["assistant"] else None


def _valued(reward: Reward, cases: Sequence[_Judged]) -> list[np.ndarray]:
    """Return the values of every record's answers; NaN where the reward abstains."""
    prompts = [prompt for _, prompt, texts, _ in cases for _ in texts]
    answers = [[text] for _, _, texts, _ in cases for text in texts]
    ends = np.cumsum([len(texts) for _, _, texts, _ in cases])[:-1]
    return np.split(value(reward, prompts, answers)[:, 0], ends)


def _average(parts: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Return the mean of several rewards' values, each in standard deviations over all answers."""
    scaled = []
    for part in parts:
        known = np.concatenate(part)
        known = known[~np.isnan(known)]
        spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
        middle = float(known.mean()) if len(known) else 0.0
        scaled.append([(own - middle) / spread if spread > 0 else own * 0.0 for own in part])
    return [np.mean(columns, axis=0) for columns in zip(*scaled, strict=True)]
