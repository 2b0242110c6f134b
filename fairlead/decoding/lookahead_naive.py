"""Lookahead search as it is defined, with nothing kept or left out: the oracle of `lookahead`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from fairlead.decoding.hypotheses import Hypothesis, Problem, Stats, Top, Winner
from fairlead.engines.programs import Ask

__all__ = ["search"]

_Steps = Generator[Sequence[Ask], list[Any], Any]


def search(problem: Problem) -> Generator[Sequence[Ask], list[Any], Winner]:
    """Find the best answer: every token tried reads its whole beginning anew and is rolled out to the end."""
    return (yield from _Search(problem).run())


class _Search:
    def __init__(self, problem: Problem):
        self.problem = problem
        self.stats = Stats()
        self.told: list[dict[str, Any]] = []

    def run(self) -> _Steps:
        problem, beams = self.problem, [Hypothesis([], [])]
        while not all(beam.final for beam in beams):
            candidates: list[Hypothesis] = []
            for beam in beams:
                candidates += [beam] if beam.final else (yield from self.followed(beam))
            ahead = []
            for candidate in candidates:
                ahead.append((yield from self.rolled(candidate, problem.lookahead)))
            chosen = yield from self.chosen(candidates, ahead)
            beams = [problem.followed(candidates[i], ahead[i][: problem.commit - 1]) for i in chosen]
        scores = []
        for beam in beams:
            (value,) = yield [problem.scorer.ask(problem.prompt, problem.text(beam.ids))]
            scores.append(problem.score(beam, value))
        best = min(range(len(beams)), key=lambda i: (-scores[i], i))
        return Winner(beams[best], self.stats, self.told)

    def followed(self, beam: Hypothesis) -> _Steps:
        """Return the hypotheses that have one token more."""
        row = self.problem.rows.open()
        top = yield from self.read(row, [*self.problem.prompt_ids, *beam.ids], len(beam.ids))
        self.problem.rows.drop(row)
        return [self.problem.followed(beam, [one]) for one in top[: self.problem.k]]

    def rolled(self, candidate: Hypothesis, count: int) -> _Steps:
        """Return up to `count` greedy tokens after a candidate, with their log-probs."""
        problem, ahead, row = self.problem, [], self.problem.rows.open()
        new, whole = [*problem.prompt_ids, *candidate.ids], candidate
        while not whole.final and len(ahead) < count:
            top = yield from self.read(row, new, len(whole.ids))
            ahead.append(top[0])
            whole, new = problem.followed(candidate, ahead), [top[0][0]]
        problem.rows.drop(row)
        return ahead

    def read(self, row: Any, ids: list[int], count: int) -> _Steps:
        """Return the likeliest tokens after a row with more tokens, the answer then having `count`."""
        self.stats.tokens += len(ids)
        self.stats.forwards += 1
        found: list[Top] = yield [self.problem.tops.feed(self.problem.rows, row, ids)]
        return self.problem.allowed(found[0], count)

    def chosen(self, candidates: list[Hypothesis], ahead: list[Top]) -> _Steps:
        """Return the numbers of the best candidates, best first."""
        problem = self.problem
        texts = [problem.text([*c.ids, *(token for token, _ in more)]) for c, more in zip(candidates, ahead)]
        values = yield [problem.scorer.ask(problem.prompt, text) for text in texts]
        scores = [problem.score(candidate, value) for candidate, value in zip(candidates, values)]
        order = sorted(range(len(candidates)), key=lambda i: (-scores[i], i))[: problem.beams]
        self.stats.steps += 1
        self.stats.contested += 1
        self.stats.scored += len(texts)
        if problem.trace:
            self.told.append(
                {
                    "candidates": [
                        {"ids": c.ids, "logprob": c.total, "text": text, "heuristic": value, "score": score}
                        for c, text, value, score in zip(candidates, texts, values, scores)
                    ],
                    "chosen": order,
                }
            )
        return order
