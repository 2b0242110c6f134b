"""What a request changes in a model's logits before a token is drawn: biases, ends put off, penalties, fixed choices.

The penalties are those of other engines: for repetition that of CTRL (Keskar et al. 2019, arXiv 1909.05858), for
presence and frequency those of OpenAI's protocol.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fairlead.engines.base import Sampling
from fairlead.errors import RequestError

__all__ = ["Past", "edited"]

_MOST = 1e6
"""Logits and repetition penalties go no further: at the lowest temperature they are float32 numbers still."""


class Past:
    """The tokens that an answer's next one is judged by: those of its prompt and its own.

    Args:
        sampling: how to draw.
        prompt: the prompt's tokens.
        ends: tokens that are not to be drawn before there are `sampling.min_tokens`.
        choices: tokens of the texts of which the answer is to be one; none for any text.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int],
        ends: frozenset[int],
        choices: Sequence[tuple[int, ...]] = (),
    ):
        self.count = 0
        """Tokens of the answer so far."""
        self.ends = ends
        self._open = list(choices)
        self.bound = bool(choices)
        """Whether the answer is to be one of fixed texts."""
        self._penalised = _penalises(sampling)
        known = list(dict.fromkeys(prompt)) if sampling.repetition_penalty != 1 else []
        self._places = {token: place for place, token in enumerate(known)}
        self._ids = np.array(known, dtype=np.int64)
        self._counts = np.zeros(len(known), dtype=np.float32)

    @classmethod
    def of(
        cls,
        sampling: Sampling,
        prompt: Sequence[int],
        ends: frozenset[int],
        choices: Sequence[tuple[int, ...]] = (),
    ) -> Past | None:
        """Return the past of an answer that has no tokens yet; None where none is looked at."""
        looked_at = sampling.logit_bias or sampling.min_tokens or _penalises(sampling) or choices
        return cls(sampling, prompt, ends, choices) if looked_at else None

    @property
    def allowed(self) -> list[int]:
        """The tokens that may come next where the answer is to be one of fixed texts: their next ones, or an end."""
        following = {one[self.count] for one in self._open if len(one) > self.count}
        ended = any(len(one) == self.count for one in self._open)
        return sorted(following | self.ends if ended else following)

    @property
    def ids(self) -> np.ndarray:
        """Each token seen, once; int64 [S]."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> np.ndarray:
        """How often the answer has each of them; float32 [S]."""
        return self._counts[: len(self._places)]

    def add(self, token: int) -> None:
        """Take in the answer's next token."""
        self._open = [one for one in self._open if len(one) > self.count and one[self.count] == token]
        self.count += 1
        if not self._penalised:
            return
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._ids):
            self._ids, self._counts = (
                np.concatenate([own, np.zeros(place + 64, own.dtype)]) for own in (self._ids, self._counts)
            )
        self._ids[place] = token
        self._counts[place] += 1


def edited(logits: Tensor, sampling: Sampling, pasts: Sequence[Past]) -> Tensor:
    """Return logits [R, V] as they are drawn from, float32; the ones given stay as they are.

    First come biases and the ends that are put off, then the penalties: repetition, frequency, presence. Where an
    answer is to be one of fixed texts, no token is left but those with which one of them goes on or ends.

    Args:
        logits: [R, V].
        sampling: how to draw.
        pasts: what each row has seen.

    Raises:
        RequestError: no token is left.
    """
    early = [row for row, past in enumerate(pasts) if past.count < sampling.min_tokens and past.ends]
    bound = any(past.bound for past in pasts)
    if not (early or bound or sampling.logit_bias or _penalises(sampling)):
        return logits
    logits = logits.to(torch.float32, copy=True)
    biases = dict(sampling.logit_bias)
    if biases:
        added = torch.tensor(list(biases.values()), dtype=torch.float32, device=logits.device)
        logits[:, torch.tensor(list(biases), device=logits.device)] += added
    if early:
        _put_off(logits, early, pasts)
    if _penalises(sampling):
        _penalise(logits, sampling, pasts)
    return (_bind(logits, pasts) if bound else logits).clamp_(max=_MOST)


def _penalises(sampling: Sampling) -> bool:
    return bool(sampling.repetition_penalty != 1 or sampling.presence_penalty or sampling.frequency_penalty)


def _put_off(logits: Tensor, early: list[int], pasts: Sequence[Past]) -> None:
    rows = torch.tensor([row for row in early for _ in pasts[row].ends], device=logits.device)
    logits[rows, torch.tensor([token for row in early for token in pasts[row].ends], device=logits.device)] = -torch.inf
    if torch.isneginf(logits.amax(-1)).any():
        raise RequestError(
            "only tokens that end the answer can come next, and min_tokens forbids them",
            place="sampling.min_tokens",
            fix="lower min_tokens, or raise the method's number of candidates",
        )


def _bind(logits: Tensor, pasts: Sequence[Past]) -> Tensor:
    """Return logits of the tokens alone with which an answer comes to be one of its fixed texts."""
    allowed = [past.allowed for past in pasts]
    rows = torch.tensor([row for row, ids in enumerate(allowed) for _ in ids], device=logits.device)
    ids = torch.tensor([token for own in allowed for token in own], device=logits.device)
    bound = torch.full_like(logits, -torch.inf)
    bound[rows, ids] = logits[rows, ids]
    if torch.isneginf(bound.amax(-1)).any():
        what = "an answer is one of sampling.choices already, and nothing ends it"
        raise RequestError(what, place="sampling.choices", fix="lower min_tokens, or give longer choices")
    return bound


def _penalise(logits: Tensor, sampling: Sampling, pasts: Sequence[Past]) -> None:
    seen = [past.ids for past in pasts]
    rows = torch.from_numpy(np.repeat(np.arange(len(pasts)), [len(ids) for ids in seen])).to(logits.device)
    ids = torch.from_numpy(np.concatenate(seen)).to(logits.device)
    counts = torch.from_numpy(np.concatenate([past.counts for past in pasts])).to(logits.device)
    values, factor = logits[rows, ids], min(max(sampling.repetition_penalty, 1 / _MOST), _MOST)
    values = torch.where(values > 0, values / factor, values * factor)
    values -= sampling.frequency_penalty * counts + sampling.presence_penalty * (counts > 0)
    logits[rows, ids] = values
