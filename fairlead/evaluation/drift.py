"""How far an engine has moved from a base engine: KL on its own samples, log-prob shift on given completions.

KL(policy || base) is estimated without bias from the policy's samples. With d = log policy - log base per token:
`k1 = d`, and `k3 = exp(-d) - 1 + d`, which has the same mean, is never negative and mostly varies less
(Schulman 2020, http://joschu.net/blog/kl-approx.html). Summed over the tokens of an answer each estimates the KL
between the two distributions over whole answers (chain rule). The end of an answer counts as the template's
end-of-turn token; answers cut at the token limit count without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Completion, Engine, FinishReason, Prompt, Sampling
from fairlead.errors import EngineError, UnsupportedError
from fairlead.estimates import Estimate, estimate_mean, estimate_ratio, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import check_plain, draw, other_engines, prompts_of, sample_rows
from fairlead.figures import curves, distribution

__all__ = ["Drift", "log_ratios"]

_GIVEN = {"conversation": ("completion",), "feedback": ("completion",), "preference": ("chosen", "rejected")}
_CURVE_POSITIONS = 64
_PLAIN = Sampling(temperature=1.0)


@dataclass(frozen=True)
class Drift:
    """KL of every engine from a base engine on its own samples, and log-prob shift on the records' completions."""

    base: str
    """Name of the engine that the others are measured from; both must share a tokenizer."""
    sampling: Sampling = _PLAIN
    """How answers are drawn; plain sampling only (temperature 1; max_tokens, n, seed and logprobs are free), else it is
    not KL."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {"base": "base"}

    def __post_init__(self) -> None:
        check_plain(self.sampling, "drift")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Measure every other engine against the base.

        Axes, in nats: `kl` and `kl_k3` (per answer, from k1 and k3), `kl_token` and `kl_token_k3` (per token), and
        per given completion (conversation, feedback and preference records) `<completion>_shift`: mean log-prob
        change per token. Rows: id, engine, sample, part (`sample` or the completion's name), tokens, policy and base
        (summed log-probs), and for samples kl and kl_k3. An engine without log-probs gets NaN and a note.
        """
        others = other_engines(engines, self.base, "base")
        prompts, report = prompts_of(records), Report({})
        at_position: dict[str, np.ndarray] = {}
        for name, engine in others.items():
            answers = draw({name: engine}, prompts, self.sampling)[name]
            pairs = [(prompt, answer) for prompt, group in zip(prompts, answers) for answer in group]
            try:
                own = self._score(engines, name, [p for p, _ in pairs], [a.text for _, a in pairs])
            except UnsupportedError as error:
                if error.place == f"base engine {self.base}":
                    raise
                report.notes.append(f"{name}: it has no log-probs ({error.what}), so its drift is unknown")
                report.summary[name] = {axis: estimate_mean([]) for axis in _AXES}
                continue
            own = own.without_end([answer.finish_reason is FinishReason.LENGTH for _, answer in pairs])
            report.summary[name] = self._own(own)
            report.rows += own.rows(name, records, _SAMPLE)
            report.notes += _differently_cut(name, own, [answer for _, answer in pairs])
            for part, (kept, prompts_kept, given) in _given(records).items():
                found = self._score(engines, name, prompts_kept, given)
                report.summary[name][f"{part}_shift"] = self._ratio(found.k1, found.tokens)
                report.rows += found.rows(name, kept, part)
            at_position[name] = own.by_position()
        report.figures = self._figures(report, at_position, list(engines))
        return report

    def _score(
        self, engines: Mapping[str, Engine], name: str, prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> _Scored:
        policy = engines[name].logprobs(prompts, texts)
        try:
            base = engines[self.base].logprobs(prompts, texts)
        except UnsupportedError as error:
            fix = "use a base engine that gives log-probs"
            raise UnsupportedError(error.what, place=f"base engine {self.base}", fix=fix) from error
        for i, (ours, theirs) in enumerate(zip(policy, base, strict=True)):
            if len(ours) != len(theirs):
                what = f"{name} has {len(ours)} tokens where {self.base} has {len(theirs)} (completion {i})"
                raise EngineError(what, place="drift", fix="compare engines that share tokenizer and template")
        as_float = [[np.asarray(row, dtype=np.float64) for row in rows] for rows in (policy, base)]
        return _Scored(*as_float)

    def _own(self, own: _Scored) -> dict[str, Estimate]:
        shape = (-1, self.sampling.n)
        k1, k3, tokens = (column.reshape(shape) for column in (own.k1, own.k3, own.tokens))
        options = {"confidence": self.confidence, "seed": self.seed}
        values = (
            estimate_mean(per_prompt(k1), **options),
            estimate_mean(per_prompt(k3), **options),
            self._ratio(k1.sum(-1), tokens.sum(-1)),
            self._ratio(k3.sum(-1), tokens.sum(-1)),
        )
        return dict(zip(_AXES, values))

    def _ratio(self, sums: np.ndarray, counts: np.ndarray) -> Estimate:
        return estimate_ratio(sums, counts, confidence=self.confidence, seed=self.seed)

    def _figures(self, report: Report, at_position: Mapping[str, np.ndarray], order: Sequence[str]) -> dict[str, str]:
        if not at_position:
            return {}
        kl = {name: [row["kl"] for row in report.rows if _is_sample(row, name)] for name in at_position}
        lines = {name: (np.arange(1, len(found) + 1), found) for name, found in at_position.items()}
        spread = distribution(kl, label="nats", unit="share of answers", order=order)
        by_position = curves(lines, x="token of the answer", y="KL (k3, nats)", order=order)
        return {f"log-ratio to {self.base} per answer": spread, f"KL from {self.base} by position": by_position}


def log_ratios(
    policy: Engine, base: Engine, prompts: Sequence[Prompt], answers: Sequence[Sequence[Completion]]
) -> np.ndarray:
    """Return log policy - log base of every answer in nats, float64 [N, n]: the mean over the policy's own is its KL.

    Raises:
        UnsupportedError: an engine that gives no log-probs.
    """
    pairs = [(prompt, answer) for prompt, group in zip(prompts, answers) for answer in group]
    engines = {"policy": policy, "base": base}
    found = Drift("base")._score(engines, "policy", [p for p, _ in pairs], [a.text for _, a in pairs])
    found = found.without_end([answer.finish_reason is FinishReason.LENGTH for _, answer in pairs])
    return found.k1.reshape(len(prompts), -1)


_SAMPLE = "sample"
_AXES = ("kl", "kl_k3", "kl_token", "kl_token_k3")


@dataclass(frozen=True)
class _Scored:
    """Per-token log-probs of M completions under both engines, float64 [T_i] each."""

    policy: list[np.ndarray]
    base: list[np.ndarray]

    @property
    def k1(self) -> np.ndarray:
        return np.array([(ours - theirs).sum() for ours, theirs in zip(self.policy, self.base)])

    @property
    def k3(self) -> np.ndarray:
        return np.array([_k3(ours - theirs).sum() for ours, theirs in zip(self.policy, self.base)])

    @property
    def tokens(self) -> np.ndarray:
        return np.array([len(ours) for ours in self.policy])

    def without_end(self, cut: Sequence[bool]) -> _Scored:
        """Drop the last token, the end of turn, of completions that were cut before drawing one."""
        return _Scored(*([row[:-1] if c else row for row, c in zip(rows, cut)] for rows in (self.policy, self.base)))

    def by_position(self) -> np.ndarray:
        """Return the mean k3 at each of the first positions that at least a tenth of the completions reach."""
        reached = [np.sum(self.tokens > t) for t in range(min(_CURVE_POSITIONS, int(self.tokens.max(initial=0))))]
        gaps = [ours - theirs for ours, theirs in zip(self.policy, self.base)]
        wanted = [t for t, count in enumerate(reached) if count * 10 >= len(gaps)]
        return np.array([np.mean([_k3(gap[t]) for gap in gaps if len(gap) > t]) for t in wanted])

    def rows(self, name: str, records: Sequence[Any], part: str) -> list[dict[str, Any]]:
        sums = [[row.sum() for row in rows] for rows in (self.policy, self.base)]
        shape = (len(records), -1)
        columns = {"part": np.full(len(self.tokens), part, dtype=object), "tokens": self.tokens}
        columns |= {"policy": np.array(sums[0]), "base": np.array(sums[1])}
        if part == _SAMPLE:
            columns |= {"kl": self.k1, "kl_k3": self.k3}
        return sample_rows(name, records, {column: values.reshape(shape) for column, values in columns.items()})


def _k3(gap: np.ndarray) -> np.ndarray:
    return np.expm1(-gap) + gap


def _is_sample(row: Mapping[str, Any], name: str) -> bool:
    return row["engine"] == name and row["part"] == _SAMPLE


def _differently_cut(name: str, own: _Scored, answers: Sequence[Completion]) -> list[str]:
    """Say how many answers were drawn as other tokens than their text is read as."""
    counts = zip(own.tokens, answers)
    other = sum(answer.token_ids is not None and len(answer.token_ids) != count for count, answer in counts)
    if not other:
        return []
    return [f"{name}: {other} of {len(answers)} answers are other tokens as drawn than as read back from their text"]


def _given(records: Sequence[Any]) -> dict[str, tuple[list[Any], list[Prompt], list[str]]]:
    """Return the records' own completions that are one answer: part -> (records, prompts, texts)."""
    found: dict[str, tuple[list[Any], list[Prompt], list[str]]] = {}
    for record in records:
        for part in _GIVEN.get(record.kind, ()):
            text = _answer(getattr(record, part))
            if text is not None:
                columns = found.setdefault(part, ([], [], []))
                for column, item in zip(columns, (record, record.prompt, text)):
                    column.append(item)
    return found


def _answer(completion: Any) -> str | None:
    """Return the text of a completion that is one answer, None for several turns."""
    if isinstance(completion, str):
        return completion
    roles = [message["role"] for message in completion]
    return completion[0]["content"] if roles == ["assistant"] else None
