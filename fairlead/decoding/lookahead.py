"""Lookahead search that computes no token twice and looks no further than a choice needs; chooses as the naive one.

- The prompt and what is chosen are read once; candidates are copies of their row.
- The greedy continuation of the chosen candidate holds the likeliest next candidate with its own continuation.
- A candidate is rolled out only while its bounds leave its place open: scores are known to intervals, log P exactly and
  the heuristics between what they can still come to.
- Without bounds, candidates of choices to come are rolled out beside those of this one, as long as the likeliest token
  is what is chosen: a forward over more rows costs hardly more. They are only what is known already when their turn
  comes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead.decoding.hypotheses import Hypothesis, Problem, Stats, Top, Winner, rank
from fairlead.engines.programs import Ask
from fairlead.engines.rows import Row

__all__ = ["search"]

_Steps = Generator[Sequence[Ask], list[Any], Any]


def search(problem: Problem) -> Generator[Sequence[Ask], list[Any], Winner]:
    """Find the best answer."""
    one = _Search(problem)
    try:
        return (yield from one.run())
    finally:
        problem.rows.drop(*one.rows)


@dataclass(eq=False)
class _Line:
    """A hypothesis and what is known of its greedy continuation."""

    hypothesis: Hypothesis
    origin: tuple[Row, int] | None = None
    """The row that it can be copied from, and how many tokens of it."""
    row: Row | None = None
    """Its own row: prompt, tokens and continuation as far as they were read."""
    tops: list[Top] = field(default_factory=list)
    """What follows its tokens and the first i tokens of its continuation."""
    ahead: Top = field(default_factory=list)
    """Its continuation, at most one token longer than what was read."""
    stopped: bool = False
    """Whether the continuation ends the answer, or a final hypothesis has none."""
    value: float | None = None
    """What the heuristics say of the text ahead."""
    bounds: tuple[float, float] = (0.0, 0.0)
    """Least and greatest score."""

    @property
    def ids(self) -> list[int]:
        """Tokens and continuation."""
        return [*self.hypothesis.ids, *(token for token, _ in self.ahead)]


class _Search:
    def __init__(self, problem: Problem):
        self.problem = problem
        self.stats = Stats()
        self.told: list[dict[str, Any]] = []
        self.rows: list[Row] = []
        self.values: dict[str, float] = {}
        self.early: dict[tuple[int, ...], _Line] = {}
        """Lines that may become candidates, by their tokens."""
        self.streak = 3
        """For how many choices to come candidates are rolled out now."""

    def run(self) -> _Steps:
        problem, row = self.problem, self.problem.rows.open()
        self.rows = [row]
        beams = [_Line(Hypothesis([], []), row=row)]
        yield from self.work([(beams[0], problem.prompt_ids)], [])
        while not all(line.hypothesis.final for line in beams):
            chosen = yield from self.choose([one for line in beams for one in self.followed(line)])
            yield from self.extend(chosen)
            beams = [self.committed(line) for line in chosen]
            self.keep(beams)
            problem.tell([line.hypothesis for line in beams])
        if len(beams) > 1:
            yield from self.work([], beams)
            beams.sort(key=lambda line: -problem.score(line.hypothesis, line.value or 0.0))
        return Winner(beams[0].hypothesis, self.stats, self.told)

    def followed(self, line: _Line) -> list[_Line]:
        """Return the lines with one token more; a final line stays itself."""
        if line.hypothesis.final:
            return [line]
        problem, known = self.problem, len(self.problem.prompt_ids) + len(line.hypothesis.ids)
        assert line.row is not None
        found = []
        for number, one in enumerate(line.tops[0][: problem.k]):
            new = _Line(problem.followed(line.hypothesis, [one]), origin=(line.row, known))
            new.stopped = new.hypothesis.final
            if number == 0 and not new.stopped:
                # It is what the continuation begins with.
                new.row, new.tops, new.ahead = line.row, line.tops[1:], line.ahead[1:]
                new.stopped = line.stopped
            found.append(self.early.pop(tuple(new.hypothesis.ids), new))
        return found

    def foresee(self, lead: _Line) -> list[_Line]:
        """Return lines to roll out for choices to come: the candidates beside a line that goes on winning."""
        problem = self.problem
        if problem.beams > 1 or problem.commit > 1 or problem.scorer.bounded or lead.row is None:
            return []
        known = len(problem.prompt_ids) + len(lead.hypothesis.ids)
        for step in range(min(self.streak, len(lead.tops), len(lead.ahead) + 1)):
            before = problem.followed(lead.hypothesis, lead.ahead[:step])
            others = lead.tops[step][1 : problem.k]
            waiting = sum(line.row is None for line in self.early.values())
            if before.final or len(problem.rows.alive) + problem.k + waiting + len(others) > problem.wide:
                break
            for one in others:
                new = _Line(problem.followed(before, [one]), origin=(lead.row, known + step))
                new.stopped = new.hypothesis.final
                self.early.setdefault(tuple(new.hypothesis.ids), new)
        return [line for line in self.early.values() if not self.looked(line)]

    def choose(self, candidates: list[_Line]) -> _Steps:
        """Return the best candidates, best first, knowing of each no more than that takes."""
        problem, worked = self.problem, False
        self.look(candidates)
        while True:
            alive, unsure = rank([line.bounds for line in candidates], problem.beams)
            due = [candidates[i] for i in unsure if candidates[i].value is None]
            if not due:
                break
            worked = True
            rolling = [line for line in due if not self.looked(line)]
            # Rewards without bounds settle nothing before all is rolled out: then they are asked once.
            ready = [line for line in due if self.looked(line)] if problem.scorer.bounded or not rolling else []
            early = self.foresee(candidates[0]) if rolling else []
            yield from self.work([(line, None) for line in (*rolling, *early)], ready)
            self.look(due)
            for line in early:
                self.grow(line, problem.lookahead)
        self.streak = 0 if alive[0] else min(2 * self.streak + 1, problem.lookahead)
        self.stats.steps += 1
        self.stats.contested += worked
        self.tell(candidates, alive)
        return [candidates[i] for i in alive]

    def looked(self, line: _Line) -> bool:
        return line.stopped or len(line.ahead) >= self.problem.lookahead

    def grow(self, line: _Line, count: int) -> None:
        """Take what is known of a continuation, up to `count` tokens."""
        while not line.stopped and len(line.ahead) < min(count, len(line.tops)):
            line.ahead.append(line.tops[len(line.ahead)][0])
            line.stopped = self.problem.is_final(line.ids)

    def look(self, lines: list[_Line]) -> None:
        """Take what is known of continuations, and set the bounds of the lines' scores."""
        problem, open_ = self.problem, []
        for line in lines:
            self.grow(line, problem.lookahead)
            if line.value is not None or not problem.strength:
                score = problem.score(line.hypothesis, line.value or 0.0)
                line.bounds = (score, score)
            elif problem.scorer.bounded:
                open_.append(line)
            else:
                line.bounds = (float("-inf"), float("inf"))
        if open_:
            found = problem.scorer.bounds(problem.prompt, [problem.settled(line.ids) for line in open_])
            for line, (low, high) in zip(open_, found):
                line.bounds = (problem.score(line.hypothesis, low), problem.score(line.hypothesis, high))

    def work(self, reading: Sequence[tuple[_Line, list[int] | None]], valuing: Sequence[_Line]) -> _Steps:
        """Read one token more of some lines (or those given), and value the texts of others, in one round."""
        problem, asks, texts = self.problem, [], [self.problem.text(line.ids) for line in valuing]
        for line, ids in reading:
            asks.append(self.feed(line, ids))
        new = [text for text in dict.fromkeys(texts) if text not in self.values]
        asks += [problem.scorer.ask(problem.prompt, text) for text in new]
        found = (yield asks) if asks else []
        for (line, _), top in zip(reading, found):
            line.tops.append(problem.allowed(top, len(line.hypothesis.ids) + len(line.tops)))
        self.values |= zip(new, found[len(reading) :])
        for line, text in zip(valuing, texts):
            line.value = self.values[text]
        self.stats.forwards += bool(reading)
        self.stats.scored += len(new)

    def feed(self, line: _Line, ids: list[int] | None) -> Ask:
        problem = self.problem
        if line.row is None:
            assert line.origin is not None
            line.row = problem.rows.fork(*line.origin)
            self.rows.append(line.row)
        ids = ids or line.ids[len(line.row.ids) - len(problem.prompt_ids) :]
        self.stats.tokens += len(ids)
        return problem.tops.feed(problem.rows, line.row, ids)

    def extend(self, chosen: list[_Line]) -> _Steps:
        """Read what is chosen as far as it is taken, and what follows it."""
        taken = self.problem.commit - 1
        while True:
            for line in chosen:
                self.grow(line, taken)
            short = [
                line
                for line in chosen
                if not line.hypothesis.final
                and len(line.tops) <= taken
                and not (line.stopped and len(line.ahead) <= taken)
            ]
            if not short:
                return
            yield from self.work([(line, None) for line in short], [])

    def committed(self, line: _Line) -> _Line:
        """Take the first tokens of a chosen line's continuation."""
        taken = min(self.problem.commit - 1, len(line.ahead))
        if line.hypothesis.final:
            return line
        new = _Line(self.problem.followed(line.hypothesis, line.ahead[:taken]), line.origin, line.row)
        new.tops, new.ahead, new.stopped = line.tops[taken:], line.ahead[taken:], line.stopped
        return new

    def keep(self, beams: list[_Line]) -> None:
        """Drop the rows of what was not chosen."""
        ids = beams[0].hypothesis.ids
        self.early = {key: line for key, line in self.early.items() if list(key[: len(ids)]) == ids}
        kept = {id(line.row) for line in (*beams, *self.early.values()) if not line.hypothesis.final}
        self.problem.rows.drop(*(row for row in self.rows if id(row) not in kept))
        self.rows = [row for row in self.rows if id(row) in kept]

    def tell(self, candidates: list[_Line], chosen: list[int]) -> None:
        """Note a choice; what was not needed for it is None."""
        if not self.problem.trace:
            return
        shown = [
            {
                "ids": line.hypothesis.ids,
                "logprob": line.hypothesis.total,
                "text": None if line.value is None else self.problem.text(line.ids),
                "heuristic": line.value,
                "score": None if line.value is None else self.problem.score(line.hypothesis, line.value),
            }
            for line in candidates
        ]
        self.told.append({"candidates": shown, "chosen": chosen})
