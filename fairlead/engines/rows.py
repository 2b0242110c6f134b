"""Rows of tokens under one model, fed in any order: what decoding methods that look inside a model are built on.

A row is a growing list of tokens whose keys and values are kept. Any rows can be given any number of tokens in one
forward, cut back, copied and dropped; what a row sees never depends on the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fairlead.engines.draw import first_best
from fairlead.engines.forwards import Forwards
from fairlead.engines.memory import Memory, shared
from fairlead.engines.programs import Ask
from fairlead.engines.sampler import new_cache
from fairlead.engines.shifts import Shift, agreement, shifted
from fairlead.errors import EngineError, RequestError, UnsupportedError

if TYPE_CHECKING:
    from fairlead.forward.policy import Policy

__all__ = ["Row", "Rows", "Seen", "ShiftedRows"]

_WORTH = 8
"""Tokens in common from which sharing them costs less than computing them again."""


@dataclass(eq=False)
class Row:
    """Tokens whose keys and values are kept."""

    place: int
    """Where it stands among the rows of the cache now."""
    ids: list[int] = field(default_factory=list)
    """Its tokens so far."""
    shifts: tuple[Shift, ...] = ()
    """What is done to its hidden states, in this order."""
    forked: bool = False
    """Whether it began as a part of another row, which will be remembered instead."""


@dataclass(frozen=True)
class Seen:
    """What the model says after the last of the tokens just fed."""

    logits: Tensor
    """float32 [n, V], one row per position asked for, in their order."""
    best: list[int]
    """The likeliest token at each of these positions, the first of equals."""
    best_logprob: list[float]
    """Its log-prob, in nats."""

    def logprobs(self) -> Tensor:
        """Return the log-probs of all tokens, float32 [n, V]."""
        return torch.log_softmax(self.logits, -1)


@dataclass(frozen=True)
class _Feed:
    row: Row
    ids: Sequence[int]
    last: int


class Rows:
    """The rows of one model; made by `Local.rows()`, and gone with it.

    Args:
        policy: the model, in evaluation mode, with an attention implementation that takes additive masks.
        positions: most tokens that the model can read, or None.
        max_tokens: most tokens, padding included, in one forward over several rows.
        memory: keeps what dropped rows have read, for rows that begin alike later.
        lean: whether the model is known to have a lean forward.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        positions: int | None,
        max_tokens: int,
        memory: Memory | None = None,
        lean: bool = False,
    ):
        if policy.virtual_tokens:
            raise UnsupportedError(
                "a model with virtual tokens cannot be decoded row by row",
                fix="use an adapter of type lora, or export the model",
            )
        self.policy, self.positions, self.max_tokens, self.memory = policy, positions, max_tokens, memory
        self.device = next(policy.parameters()).device
        self.model = Forwards(policy, lean=lean)
        self.cache = new_cache(policy)
        self.alive: list[Row] = []
        self.forwards = 0
        """Forward passes done."""
        self.tokens = 0
        """Tokens computed, padding not counted."""

    def open(self, *shifts: Shift) -> Row:
        """Return a new row without tokens, whose hidden states will be shifted so.

        Rows whose first feed begins alike, in this round or with a row in use, share the work as far as their hidden
        states are the same.
        """
        self.cache.add(1, self.device)
        self.alive.append(Row(len(self.alive), shifts=shifts))
        return self.alive[-1]

    def fork(self, row: Row, length: int | None = None) -> Row:
        """Return a new row that begins with the first `length` tokens of another, by default all; shifted alike."""
        new = self.open(*row.shifts)
        self._copy(row, new, len(row.ids) if length is None else length)
        new.forked = True
        return new

    def crop(self, row: Row, length: int) -> None:
        """Forget a row's tokens from number `length` on."""
        if length < len(row.ids):
            del row.ids[length:]
            self.cache.crop(row.place, length)

    def drop(self, *rows: Row) -> None:
        """Forget rows."""
        gone = {id(row) for row in rows}
        if self.memory is not None:
            for row in self.alive:
                if id(row) in gone and row.ids and not row.forked:
                    self.memory.put(row.ids, row.shifts, self.cache.stored(row.place))
        kept = [row.place for row in self.alive if id(row) not in gone]
        if len(kept) < len(self.alive):
            self.alive = [self.alive[place] for place in self.cache.keep(kept)]
            for place, row in enumerate(self.alive):
                row.place = place

    def feed(self, row: Row, ids: Sequence[int], *, last: int = 1) -> Ask:
        """Ask to append tokens to a row; the answer is what is `Seen` after each of the `last` ones of them.

        A row can be fed once per round.
        """
        if not 1 <= last <= len(ids):
            raise ValueError(f"{last} of {len(ids)} positions")
        return Ask(self, _Feed(row, ids, last))

    def serve(self, asked: Sequence[Any]) -> list[Seen]:
        """Do the forwards for all that is asked, few and of similar lengths."""
        asked = self._begun([_Feed(feed.row, list(feed.ids), feed.last) for feed in asked])
        found: dict[int, Seen] = {}
        for batch in self._batches(asked):
            found |= zip(batch, self._forward([asked[k] for k in batch]))
        return [found[k] for k in range(len(asked))]

    def _batches(self, asked: Sequence[_Feed]) -> list[list[int]]:
        """Group what is asked by length: a forward holds at most `max_tokens`, and is at least half full."""
        batches: list[list[int]] = []
        for k in sorted(range(len(asked)), key=lambda k: -len(asked[k].ids)):
            width = len(asked[batches[-1][0]].ids) if batches else 0
            full = not batches or (len(batches[-1]) + 1) * width > self.max_tokens
            if full or 2 * len(asked[k].ids) < width:
                batches.append([k])
            else:
                batches[-1].append(k)
        return batches

    def _forward(self, feeds: Sequence[_Feed]) -> list[Seen]:
        counts = [len(feed.ids) for feed in feeds]
        most = max(counts)
        for feed in feeds:
            self._check_room(feed)
        # Padding is never seen by real tokens. Not the pad token, at which some models warn.
        lines = [[*feed.ids, *[feed.ids[-1]] * (most - count)] for feed, count in zip(feeds, counts)]
        ids = torch.tensor(lines, device=self.device)
        places = self.cache.begin_block([feed.row.place for feed in feeds], counts)
        if self.positions is not None and min(counts) < most:
            places = places.clamp(max=self.positions - 1)  # padding alone can lie beyond
        shifts = [feed.row.shifts for feed in feeds]
        with shifted(self.policy, shifts, [len(feed.row.ids) for feed in feeds], counts):
            mask = self.cache.block_mask(self.policy.plain.dtype)
            hidden = self.model.hidden(ids, places, mask, self.cache)
        self.cache.end_block(counts)
        for feed in feeds:
            feed.row.ids += feed.ids
        self.forwards += 1
        self.tokens += sum(counts)
        wanted = [hidden[k, count - feed.last : count] for k, (feed, count) in enumerate(zip(feeds, counts))]
        return self._seen(wanted[0] if len(wanted) == 1 else torch.cat(wanted), [feed.last for feed in feeds])

    def _check_room(self, feed: _Feed) -> None:
        room = None if self.positions is None else self.positions - len(feed.row.ids)
        if room is not None and len(feed.ids) > room:
            raise RequestError(
                f"{len(feed.ids)} tokens behind {len(feed.row.ids)} are more than the model's {self.positions}",
                fix="shorten the prompt, or lower max_tokens",
            )

    def _seen(self, hidden: Tensor, counts: Sequence[int]) -> list[Seen]:
        logits = self.model.logits(hidden)
        if not math.isfinite(logits.sum()):
            raise EngineError("the model's logits are not finite", fix="use dtype float32, or check its weights")
        best = first_best(logits)
        logprob = logits.log_softmax(-1).gather(-1, best[:, None])[:, 0].tolist()
        best = best.tolist()
        found, start = [], 0
        for part in logits.split(list(counts)):
            end = start + len(part)
            found.append(Seen(part, best[start:end], logprob[start:end]))
            start = end
        return found

    def _begun(self, feeds: list[_Feed]) -> list[_Feed]:
        """Compute once what several empty rows begin with; return what is left to feed."""
        new = sorted((feed for feed in feeds if not feed.row.ids), key=lambda feed: list(feed.ids))
        if not new:
            return feeds
        shifted_so: dict[tuple[Shift, ...], list[_Feed]] = {}
        alike: dict[tuple[Any, ...], list[_Feed]] = {}
        for feed in new:
            shifted_so.setdefault(feed.row.shifts, []).append(feed)
            alike.setdefault((feed.row.shifts, *feed.ids), []).append(feed)
        self._share([(new, shared(new[0].ids, new[-1].ids))])
        if len(shifted_so) > 1:
            self._share([(own, shared(own[0].ids, own[-1].ids)) for own in shifted_so.values()])
        self._share([(members, len(members[0].ids)) for members in alike.values()])
        begun = {id(feed.row) for feed in new}
        return [_Feed(f.row, f.ids[len(f.row.ids) :], f.last) if id(f.row) in begun else f for f in feeds]

    def _share(self, groups: list[tuple[list[_Feed], int]]) -> None:
        """Give each group's rows the first tokens that they have in common, if that is worth a forward."""
        leaders = []
        for members, length in groups:
            first = members[0]
            length = min(length, *(len(feed.ids) - feed.last for feed in members))
            length = int(min(length, *(agreement(first.row.shifts, feed.row.shifts) for feed in members)))
            known, have = self._known(first, length)
            if have >= len(first.row.ids) + _WORTH:
                self._copy(known, first.row, have)
            self._remember(first, length)
            if len(members) > 1 and length >= len(first.row.ids) + _WORTH:
                leaders.append(_Feed(first.row, first.ids[len(first.row.ids) : length], 1))
        for batch in self._batches(leaders):
            self._forward([leaders[k] for k in batch])
        for members, _ in groups:
            for feed in members[1:]:
                if len(members[0].row.ids) > len(feed.row.ids):
                    self._copy(members[0].row, feed.row, len(members[0].row.ids))

    def _known(self, feed: _Feed, length: int) -> tuple[Row, int]:
        """Return the row in use that has most of a feed's first `length` tokens, and how many."""
        ids = feed.ids[:length]
        have = [int(min(shared(row.ids, ids), agreement(row.shifts, feed.row.shifts))) for row in self.alive]
        best = max(range(len(have)), key=have.__getitem__)
        return self.alive[best], have[best]

    def _remember(self, feed: _Feed, length: int) -> None:
        """Give a row what is remembered of the first `length` tokens that it is fed, if that is more than it has."""
        if self.memory is None:
            return
        found = self.memory.find(feed.ids[:length], feed.row.shifts, len(feed.row.ids) + _WORTH)
        if found is not None:
            stored, have = found
            self.cache.insert(feed.row.place, stored, have)
            feed.row.ids[:] = feed.ids[:have]

    def _copy(self, row: Row, new: Row, length: int) -> None:
        self.cache.copy(new.place, row.place, length)
        new.ids[:] = row.ids[:length]


class ShiftedRows:
    """Rows of which all that are opened here are shifted in some way; all else is the rows' own.

    Args:
        rows: the rows, which may serve others too.
        shifts: what is done to hidden states of new rows, in this order.
    """

    def __init__(self, rows: Rows | ShiftedRows, shifts: Sequence[Shift]):
        self.rows, self.shifts = rows, tuple(shifts)

    def open(self, *shifts: Shift) -> Row:
        """Return a new row without tokens; `shifts` come on top."""
        return self.rows.open(*self.shifts, *shifts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rows, name)
