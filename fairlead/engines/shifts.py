"""Changes of a row's hidden states while it is computed: what steering a model with a vector comes down to.

A shift says, layer by layer, what to take out of the output of that decoder layer and what to add to it, and at which
of the row's tokens. Rows of one forward can have different shifts or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fairlead.errors import UnsupportedError

if TYPE_CHECKING:
    from fairlead.forward.policy import Policy

__all__ = ["Push", "Shift", "agreement", "blocks", "shifted"]


@dataclass(frozen=True, eq=False)
class Push:
    """What happens to the hidden state h of a token behind one layer: h - (h . erase) erase + add.

    Computed in float32 and cast back.
    """

    add: Tensor
    """float32 [H]."""
    erase: Tensor | None = None
    """float32 [H] of length 1, or None."""
    keep_norm: bool = False
    """Whether the result is scaled back to the length that h had."""


@dataclass(frozen=True)
class Shift:
    """Pushes by layer, at a row's tokens number `begin` to `end` - 1."""

    pushes: Mapping[int, Push] = field(hash=False)
    """Number of the decoder layer -> what happens to its output; equal when the pushes are the same objects."""
    begin: int = 0
    """The first token."""
    end: int | None = None
    """The token behind the last one; None goes on for ever."""


def agreement(one: Sequence[Shift], other: Sequence[Shift]) -> float:
    """Return how many tokens two rows of equal tokens have in common although they are shifted so; maybe infinite."""
    if tuple(one) == tuple(other):
        return float("inf")
    if len(one) != len(other) or any(a.pushes != b.pushes for a, b in zip(one, other)):
        return min(shift.begin for shift in (*one, *other))
    return min(_first_difference(a, b) for a, b in zip(one, other))


def _first_difference(one: Shift, other: Shift) -> float:
    """Return the first token that one of two shifts by the same pushes reaches and the other does not."""
    if one.begin != other.begin:
        return min(one.begin, other.begin)
    ends = [float("inf") if shift.end is None else shift.end for shift in (one, other)]
    return float("inf") if ends[0] == ends[1] else min(ends)


def blocks(policy: Policy) -> nn.ModuleList:
    """Return a model's decoder layers, in their order.

    Raises:
        UnsupportedError: a model without one plain list of them.
    """
    count = policy.plain.config.get_text_config().num_hidden_layers
    lists = [m for m in policy.plain.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise UnsupportedError(
            f"{type(policy.plain).__name__} has no list of {count} decoder layers", fix="use another architecture"
        )
    return lists[0]


@contextmanager
def shifted(
    policy: Policy, shifts: Sequence[Sequence[Shift]], starts: Sequence[int], counts: Sequence[int]
) -> Iterator[None]:
    """Shift the rows of the forwards done inside; nothing stays behind, whatever happens.

    Args:
        policy: the model.
        shifts: what each row of the forward gets, in this order.
        starts: each row's number of tokens before the forward.
        counts: the tokens that it gets; what the forward holds beyond is padding, and stays as it is.
    """
    rounds: dict[int, list[_Round]] = {}
    for row, (own, start, count) in enumerate(zip(shifts, starts, counts, strict=True)):
        turn: dict[int, int] = {}
        for shift in own:
            first = max(shift.begin - start, 0)
            last = count if shift.end is None else min(count, shift.end - start)
            for layer, push in shift.pushes.items() if first < last else ():
                k = turn[layer] = turn.get(layer, -1) + 1
                of_layer = rounds.setdefault(layer, [])
                if k == len(of_layer):
                    of_layer.append(_Round())
                of_layer[k].rows.append((row, first, last, push))
    layers = blocks(policy) if rounds else ()
    handles = []
    try:
        for layer, of_layer in rounds.items():
            handles.append(layers[layer].register_forward_hook(partial(_hook, of_layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Round:
    """Pushes of different rows behind one layer, done at once."""

    rows: list[tuple[int, int, int, Push]] = field(default_factory=list)
    """Row of the forward, its first token to push, the one behind the last, and how."""

    def do(self, states: Tensor) -> None:
        """Push hidden states [B, T, H] in place."""
        device, pushes = states.device, [push for *_, push in self.rows]
        rows, first, last = torch.tensor([line[:3] for line in self.rows], device=device).T
        places = torch.arange(states.shape[1], device=device)
        at = (places >= first[:, None]) & (places < last[:, None])
        old = states[rows]
        plain = new = old.float()
        if any(push.erase is not None for push in pushes):
            erase = _stack([push.erase for push in pushes], states)
            new = new - (new * erase).sum(-1, keepdim=True) * erase
        new = new + _stack([push.add for push in pushes], states)
        if any(push.keep_norm for push in pushes):
            scale = plain.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            kept = torch.tensor([push.keep_norm for push in pushes], device=device)[:, None, None]
            new = torch.where(kept, new * scale, new)
        states[rows] = torch.where(at[..., None], new.to(states.dtype), old)


def _stack(vectors: Sequence[Tensor | None], states: Tensor) -> Tensor:
    """Return vectors as float32 [R, 1, H], zeros where there is none."""
    empty = torch.zeros(states.shape[-1], device=states.device)
    return torch.stack([empty if vector is None else vector.to(states.device) for vector in vectors])[:, None]


def _hook(rounds: Sequence[_Round], _module: nn.Module, _inputs: Any, output: Any) -> Any:
    """Return a layer's output with rows pushed; other rows keep their very bits."""
    states = (output if isinstance(output, Tensor) else output[0]).clone()
    for one in rounds:
        one.do(states)
    return states if isinstance(output, Tensor) else (states, *output[1:])
