"""How nudging writes one answer, round by round: a draft, the hand-over, a run of the base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fairlead.decoding.nudged import BOUNDARIES, Draft, Nudged, nudge_ids
from fairlead.decoding.reader import Asking, Choice, Reader
from fairlead.engines.base import Sampling
from fairlead.engines.draw import row_generator
from fairlead.render.spelling import whole_characters

if TYPE_CHECKING:
    from fairlead.decoding.nudging import Nudging
    from fairlead.engines.streaming import Listener

__all__ = ["Start", "Writing"]

_EXTENSIONS = 4
"""Most tokens after its first with which a base model may complete a character."""
_GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Start:
    """Where and how the base takes over."""

    end: int
    """Characters of the draft before it."""
    ids: list[int]
    """The answer up to there, as the base reads it."""
    choices: list[Choice]
    """What it begins with."""


class Writing:
    """One answer being written.

    Args:
        method: the settings.
        base: the base, which has read nothing yet.
        nudger: the nudger, likewise.
        index: the answer's number.
        sampling: the request.
        tell: is told the answer as it is written.
    """

    def __init__(
        self, method: Nudging, base: Reader, nudger: Reader, index: int, sampling: Sampling, tell: Listener | None
    ):
        self.method, self.base, self.nudger = method, base, nudger
        self.generator = row_generator(sampling.seed, base.prompt, index)
        self.base_sampling, self.nudger_sampling = (
            sampling if not sampling.temperature or own is None else replace(sampling, temperature=own)
            for own in (method.base_temperature, method.nudger_temperature)
        )
        self.answer = Nudged(base.spelling, sampling, base.room(sampling.max_tokens), tell=tell)
        self.counts = {"rounds": 0, "tests": 0, "asked": 0}
        self.nudge, self.repeats = "", -1
        self.follows = True
        """Whether the base's run says so far what the draft says."""

    def write(self) -> Asking:
        """Write the answer; return its `Completion`."""
        while not self.answer.reason:
            yield from self._round()
        forwards = {"base_forwards": self.base.forwards, "nudger_forwards": self.nudger.forwards}
        return self.answer.completion({**self.counts, **forwards})

    def _round(self) -> Asking:
        answer = self.answer
        if self.counts["rounds"] == self.method.max_rounds:
            answer.reason = "rounds"
            return
        draft = yield from self._draft(answer.text, self.method.draft_tokens, self.nudger_sampling)
        if draft is None:
            answer.reason = "length"
            return
        self.counts["rounds"] += 1
        if draft.ended:
            answer.add(self.nudger, draft.text, draft.choices, final=True)
            answer.reason = answer.reason or "nudger_eos"
            return
        places, kept = BOUNDARIES[self.method.boundary](draft)
        start = (yield from self._hand_over(draft, places)) if places else None
        end = start.end if start else len(draft.text) if kept is None else kept
        nudge = draft.text[:end]
        self.repeats = self.repeats + 1 if nudge == self.nudge else 0
        self.nudge = nudge
        if self.repeats == self.method.repeat_limit:
            answer.reason = "repeat"
            return
        before = answer.text
        answer.add(self.nudger, nudge, draft.choices[: nudge_ids(draft, end)])
        if start and not answer.reason:
            yield from self._run(start, before, draft)

    def _draft(self, text: str, most: int, sampling: Sampling) -> Asking:
        """Let the nudger go on from a text; None where it has no room to."""
        nudger = self.nudger
        before = nudger.encode(text)
        most = nudger.room(len(before) + most) - len(before)
        if most < 1:
            return None
        choices, ended = [], False
        while len(choices) < most and not ended:
            line = [*before, *(one.token for one in choices)]
            if not nudger.knows(line):
                yield from nudger.read(line)
            choice = nudger.choice(len(line), sampling, self.generator)
            ended = choice.token in nudger.stops
            if not ended:
                choices.append(choice)
        ids = [one.token for one in choices]
        written = [whole_characters(nudger.spelling.spelled(ids[: k + 1], before))[0] for k in range(len(ids))]
        return Draft(written[-1] if ids else "", choices, ended, list(map(len, written)))

    def _hand_over(self, draft: Draft, places: list[tuple[int, str]]) -> Asking:
        """Ask the base at all places of a draft in one forward; return the first at which it takes over, or None."""
        base, text, cap = self.base, self.answer.text, self.answer.cap
        asked = [(end, piece, base.encode(text + draft.text[:end])) for end, piece in places]
        asked = [one for one in asked if len(one[2]) < cap]
        if not asked:
            return None
        last = asked[-1][2]
        # The rest of the draft comes along as a guess of what the base writes if it agrees.
        whole = base.encode(text + draft.text)[:cap]
        whole = whole if whole[: len(last)] == last else last
        aside = [ids for _, _, ids in asked if whole[: len(ids)] != ids]
        first = min(len(ids) for _, _, ids in asked if whole[: len(ids)] == ids)
        seen = dict(zip(map(tuple, aside), (yield from base.read_several(whole, first, aside))))
        self.counts["tests"] += 1
        for end, piece, ids in asked:
            self.counts["asked"] += 1
            if tuple(ids) in seen:
                choice = base.choice_of(seen[tuple(ids)], 0, self.base_sampling, self.generator)
            else:
                if not base.knows(ids):
                    yield from base.read(whole, first=len(ids))
                choice = base.choice(len(ids), self.base_sampling, self.generator)
            if self._takes_over(choice, ids, piece) and (choices := (yield from self._completed(choice, ids))):
                return Start(end, ids, choices)
        return None

    def _takes_over(self, choice: Choice, ids: list[int], piece: str) -> bool:
        spelled = b"" if choice.token in self.base.silent else self.base.spelling.spelled([choice.token], ids)
        agrees = self.method.agree and piece.encode().startswith(spelled)
        return bool(spelled) and (agrees or choice.top >= self.method.gamma)

    def _completed(self, choice: Choice, ids: list[int]) -> Asking:
        """Return a token and those that complete its last character; nothing where the base does not."""
        base, choices = self.base, [choice]
        while whole_characters(base.spelling.spelled([one.token for one in choices], ids))[1]:
            line = [*ids, *(one.token for one in choices)]
            if len(choices) > _EXTENSIONS or len(line) >= self.answer.cap:
                return []
            yield from base.read(line)
            choices.append(base.choice(len(line), _GREEDY, self.generator))
            if choices[-1].token in base.silent:
                return []
        return choices

    def _run(self, start: Start, before: str, draft: Draft) -> Asking:
        """Let the base write as long as it is sure."""
        base, answer = self.base, self.answer
        ahead = list(start.choices)
        run: list[Choice] = []
        line, full = list(start.ids), False
        self.follows = True
        while not full:
            sure = bool(ahead)
            choice = ahead.pop(0) if sure else base.choice(len(line), self.base_sampling, self.generator)
            if not sure and (choice.top < self.method.gamma or choice.token in base.silent):
                break
            run.append(choice)
            line.append(choice.token)
            full = len(line) >= answer.cap
            if full or (self.answer.sampling.stop and answer.stops(answer.text + self._text(run, start.ids)[0])):
                break
            answer.foretell(self._text(run, start.ids)[0])
            if not base.knows(line):
                guess = [one.token for one in ahead] or (yield from self._guess(run, start, before, draft))
                yield from base.read([*line, *guess][: answer.cap], first=len(line))
        text, _ = self._text(run, start.ids)
        answer.add(base, text, run)
        if full:
            answer.reason = answer.reason or "length"

    def _text(self, run: list[Choice], ids: list[int]) -> tuple[str, bytes]:
        return whole_characters(self.base.spelling.spelled([one.token for one in run], ids))

    def _guess(self, run: list[Choice], start: Start, before: str, draft: Draft) -> Asking:
        """Return tokens that the base may go on with: the rest of the draft, or what the nudger would write now."""
        if not self.follows and not self.method.guesses:
            return []
        text, begun = self._text(run, start.ids)
        if begun:
            return []
        rest = draft.text[start.end :]
        self.follows = self.follows and rest.startswith(text) and len(rest) > len(text)
        if self.follows:
            return self.base.encode(rest[len(text) :])
        if not self.method.guesses:
            return []
        said = before + draft.text[: start.end] + text
        guess = yield from self._draft(said, self.method.guesses, _GREEDY)
        return self.base.encode(guess.text) if guess else []
