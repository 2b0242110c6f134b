"""What models' next-token distributions say along given answers: ranks, entropies, nuclei, divergences.

Every model reads an answer once. The output head is applied to a few positions at a time, so that no tensor of all
tokens by the vocabulary is ever alive; what is left of a position is a handful of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from fairlead.engines.scoring import together
from fairlead.errors import UnsupportedError, UsageError
from fairlead.forward.layout import Branch, Group, lay_out, pack
from fairlead.forward.policy import Policy
from fairlead.messages import Prompt

if TYPE_CHECKING:
    from fairlead.engines.base import Engine
    from fairlead.engines.local import Local

__all__ = ["Distributed", "Reading", "TokenStats", "View", "measure", "reads", "stats_of", "tell"]

ELEMENTS = 1 << 22
"""Most logits alive per model: 16 MiB of float32."""
_HEAD = 1024
"""Tokens sorted at first for a nucleus; all are where these do not reach `top_p`."""
_ROUNDING = 1e-6
"""What a sum of probabilities may lack of `top_p`."""


@dataclass(frozen=True)
class View:
    """How next-token distributions are looked at."""

    temperature: float = 1.0
    """Logits are divided by it, in everything that is told."""
    top_p: float = 1.0
    """The nucleus is the smallest set of likeliest tokens whose probabilities reach this, in (0, 1]; 1 is all."""
    top_k: int = 0
    """Likeliest tokens told at every position."""

    def __post_init__(self) -> None:
        for name, value, holds, fix in (
            ("temperature", self.temperature, self.temperature > 0, "use a positive number such as 1"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "use a share in (0, 1]"),
            ("top_k", self.top_k, self.top_k >= 0, "use 0 or more tokens"),
        ):
            if not holds:
                raise UsageError(f"view.{name} is {value}", fix=fix)


@dataclass(frozen=True)
class TokenStats:
    """What one model says at the T tokens of an answer; nats throughout."""

    rank: np.ndarray
    """int32 [T]: 1 + how many tokens are likelier than the answer's."""
    logprob: np.ndarray
    """float32 [T]: of the answer's token."""
    entropy: np.ndarray
    """float32 [T]: of the whole distribution."""
    kept: np.ndarray
    """int32 [T]: tokens in the nucleus."""
    kept_entropy: np.ndarray
    """float32 [T]: of the nucleus, made to sum to 1."""
    kept_logprob: np.ndarray
    """float32 [T]: of the answer's token within the nucleus made to sum to 1; one outside is added to it first."""
    inside: np.ndarray
    """bool [T]: whether the answer's token is in the nucleus, or as likely as its last one."""
    top_ids: np.ndarray
    """int32 [T, k]: the `View.top_k` likeliest tokens, the likeliest first; of equal ones the lowest id."""
    top_logprobs: np.ndarray
    """float32 [T, k]: theirs."""
    divergence: np.ndarray
    """float32 [T]: KL of this model's whole distribution from the other model's; 0 where it is looked at alone."""


@runtime_checkable
class Distributed(Protocol):
    """An engine that tells its next-token distributions."""

    @property
    def vocabulary(self) -> str:
        """A text that is equal for engines whose token ids mean the same."""
        ...

    def spell(self, ids: Sequence[int]) -> list[str]:
        """Return the text that every token of an answer adds; nothing for one that only ends it."""
        ...

    def token_stats(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], view: View) -> list[TokenStats]:
        """Return what the engine says along answers given as token ids."""
        ...

    def token_stats_beside(
        self,
        other: Any,
        prompts: Sequence[Prompt],
        other_prompts: Sequence[Prompt],
        answers: Sequence[Sequence[int]],
        view: View,
    ) -> list[tuple[TokenStats, TokenStats]]:
        """Return what two engines of one vocabulary, each behind its own prompt, say along the same answers."""
        ...


def reads(engine: Engine, name: str, prompts: Sequence[Prompt]) -> tuple[Distributed, list[Prompt]]:
    """Return the model that answers for an engine, and the prompts as it is given them.

    Args:
        engine: a local model, a cache, or a decoder that only changes the prompt.
        name: what errors call it.
        prompts: as the engine is given them.

    Raises:
        UnsupportedError: an engine whose next-token distributions nobody can tell, such as a server.
    """
    from fairlead.engines.cache import Cache

    asked = list(prompts)
    while True:
        inner = engine.engine if isinstance(engine, Cache) else None
        if inner is None and callable(getattr(engine, "passes_on", None)):
            passed = engine.passes_on(asked)  # pyright: ignore[reportAttributeAccessIssue]
            inner, asked = passed or (None, asked)
        if inner is None:
            break
        engine = inner
    if isinstance(engine, Distributed):
        return engine, asked
    raise UnsupportedError(
        f"is a {type(engine).__name__}, whose next-token distributions are out of reach",
        place=f"engine {name}",
        fix="name a local model: harbor:NAME, a folder or a hub id",
    )


@dataclass(frozen=True)
class Reading:
    """A model, and the prompt behind which it reads every answer."""

    policy: Policy
    """In evaluation mode; its `layout` says how rows share a forward."""
    prompts: Sequence[tuple[int, ...]]
    """Token ids per answer, at least one each."""


def stats_of(
    sides: Sequence[Local], prompts: Sequence[Sequence[Prompt]], answers: Sequence[Sequence[int]], view: View
) -> list[tuple[TokenStats, ...]]:
    """Return what one or two local models, each behind its own prompts, say along the same answers.

    Raises:
        UsageError: not one answer of a token or more per prompt.
        RenderError: a prompt that cannot be rendered.
        EngineError: a row longer than its model can read.
        UnsupportedError: output heads of different sizes.
    """
    if any(len(given) != len(answers) for given in prompts) or not all(map(len, answers)):
        raise UsageError("answers are missing or empty", fix="give one answer of a token or more per prompt")
    if not answers:
        return []
    asked = [[tuple(side.prompt_ids(p)) for p in given] for side, given in zip(sides, prompts)]
    longest = 0
    for side, given in zip(sides, asked):
        for k, (ids, answer) in enumerate(zip(given, answers)):
            side.check_length(f"answer {k + 1} of {len(answers)}", ids, room=len(answer))
            longest = max(longest, len(ids) + len(answer))
    with ExitStack() as stack:
        # Always in one order, so that two threads never wait for each other.
        policies = {id(s): stack.enter_context(s.reading(longest)) for s in sorted(sides, key=id)}
        readings = [Reading(policies[id(side)], ids) for side, ids in zip(sides, asked)]
        return measure(readings, answers, view, min(side.max_batch_tokens for side in sides))


@torch.no_grad()
def measure(
    readings: Sequence[Reading], answers: Sequence[Sequence[int]], view: View, budget: int
) -> list[tuple[TokenStats, ...]]:
    """Return what one or two models say along every answer; equal answers to equal prompts are read once.

    Args:
        readings: one model, or two of one vocabulary.
        answers: token ids, at least one each.
        view: how to look.
        budget: most tokens of one forward of a model; a longer row gets a forward of its own.

    Raises:
        UnsupportedError: output heads of different sizes.
    """
    rows = list(zip(*(reading.prompts for reading in readings), map(tuple, answers)))
    distinct = list(dict.fromkeys(rows))
    widest = [max(map(len, row[:-1])) for row in distinct]
    members = together([row[:-1] for row in distinct], widest, [len(row[-1]) for row in distinct], budget)
    layout = "padded" if any(r.policy.layout == "padded" for r in readings) else readings[0].policy.layout
    groups = [[_group([distinct[k] for k in numbers], side) for numbers in members] for side in range(len(readings))]
    broad = [max(column, key=lambda group: len(group.prompt)) for column in zip(*groups)]
    found: dict[Any, tuple[TokenStats, ...]] = {}
    for picked in pack(broad, budget, layout):
        told = _read(readings, [[side[g] for g in picked] for side in groups], view)
        ends = np.cumsum([0, *(len(distinct[k][-1]) for g in picked for k in members[g])])
        for k, start, end in zip([k for g in picked for k in members[g]], ends[:-1], ends[1:]):
            found[distinct[k]] = tuple(_cut(stats, start, end) for stats in told)
    return [found[row] for row in rows]


def tell(logits: Sequence[Tensor], targets: Tensor, view: View) -> list[dict[str, Tensor]]:
    """Return the fields of `TokenStats` for M positions, per model.

    Args:
        logits: [M, V] of one or two models, untempered.
        targets: int64 [M]: the tokens that follow.
        view: how to look.
    """
    scaled = [one.float() if view.temperature == 1 else one.float() / view.temperature for one in logits]
    logps = [one.log_softmax(-1) for one in scaled]
    told = []
    for number, (z, logp) in enumerate(zip(scaled, logps)):
        probs = logp.exp()
        picked = logp.gather(-1, targets[:, None])[:, 0]
        entropy = torch.special.entr(probs).sum(-1)
        likeliest = _likeliest(z, min(view.top_k, z.shape[-1]))
        other = logps[1 - number] if len(logps) > 1 else logp
        told.append(
            {
                "rank": 1 + (z > z.gather(-1, targets[:, None])).sum(-1).int(),
                "logprob": picked,
                "entropy": entropy,
                **_nucleus(probs, entropy, picked, view.top_p),
                "top_ids": likeliest.int(),
                "top_logprobs": logp.gather(-1, likeliest),
                "divergence": torch.where(probs > 0, probs * (logp - other), 0.0).sum(-1),
            }
        )
    return told


def _likeliest(logits: Tensor, count: int) -> Tensor:
    """Return the ids of the `count` likeliest tokens, [M, count]; of equal ones the first, on every device."""
    if count == 0:
        return torch.empty(len(logits), 0, dtype=torch.int64, device=logits.device)
    values, ids = logits.topk(count, dim=-1)
    last = values[:, -1:]
    equal = logits == last
    if (equal.sum(-1) > (values == last).sum(-1)).any():
        wanted = (values == last).sum(-1, keepdim=True)
        kept = (logits > last) | (equal & (equal.cumsum(-1) <= wanted))
        ids = kept.nonzero()[:, 1].view(len(logits), count)
    ids = ids.sort(dim=-1).values
    return ids.gather(-1, logits.gather(-1, ids).argsort(dim=-1, descending=True, stable=True))


def _nucleus(probs: Tensor, entropy: Tensor, picked: Tensor, top_p: float) -> dict[str, Tensor]:
    """Look at the smallest sets of likeliest tokens that reach `top_p`; of equal tokens any will do."""
    if top_p >= 1:
        everything = torch.full_like(entropy, probs.shape[-1], dtype=torch.int32)
        inside = torch.ones_like(entropy, dtype=torch.bool)
        return {"kept": everything, "kept_entropy": entropy, "kept_logprob": picked, "inside": inside}
    wanted = top_p - _ROUNDING
    top = probs.topk(min(_HEAD, probs.shape[-1]), dim=-1).values.double()
    found = _within(top, picked, wanted)
    (rows,) = (top.sum(-1) < wanted).nonzero(as_tuple=True)
    if len(rows):
        whole = probs[rows].sort(dim=-1, descending=True).values.double()
        for name, values in _within(whole, picked[rows], wanted).items():
            found[name][rows] = values
    return found


def _within(top: Tensor, picked: Tensor, wanted: float) -> dict[str, Tensor]:
    """Look at the first of the falling probabilities [M, K] that reach `wanted`, or at all if they do not."""
    before = top.cumsum(-1) - top
    count = (before < wanted).sum(-1, keepdim=True)
    kept = torch.arange(top.shape[-1], device=top.device) < count
    mass = torch.where(kept, top, 0.0).sum(-1)
    shares = torch.where(kept, top / mass[:, None], 0.0)
    own = picked.double()
    inside = own.exp() >= top.gather(-1, count - 1)[:, 0] * (1 - _ROUNDING)
    whole = torch.where(inside, mass, mass + own.exp())
    return {
        "kept": count[:, 0].int(),
        "kept_entropy": torch.special.entr(shares).sum(-1).float(),
        "kept_logprob": (own - whole.log()).float(),
        "inside": inside,
    }


def _read(readings: Sequence[Reading], groups: Sequence[list[Group]], view: View) -> list[TokenStats]:
    """Give every model one forward, and tell of all its answers' tokens, end to end."""
    states, heads, targets = [], [], torch.empty(0, dtype=torch.int64)
    for reading, own in zip(readings, groups):
        device = next(reading.policy.parameters()).device
        batch = lay_out(own, reading.policy.layout).to(device)
        hidden = reading.policy.hidden(batch)
        states.append(hidden.index_select(0, batch.source))
        heads.append(reading.policy.head())
        targets = batch.target
    sizes = [len(head.weight) for head in heads]
    if len(set(sizes)) > 1:
        raise UnsupportedError(
            f"the models' outputs have {sizes[0]} and {sizes[1]} columns, and are no distributions over one vocabulary",
            fix="compare models of one tokenizer and embedding size",
        )
    step = max(1, ELEMENTS // sizes[0])
    # Made before the loop: small results that outlive it would leave holes among its large tensors.
    found = [_empty(len(targets), min(view.top_k, sizes[0])) for _ in readings]
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        logits = [head.tile(own[part], 0, len(head.weight)).to(targets.device) for head, own in zip(heads, states)]
        for stats, told in zip(found, tell(logits, targets[part], view)):
            for name, values in told.items():
                getattr(stats, name)[part] = values.cpu().numpy()
    return found


def _empty(tokens: int, top_k: int) -> TokenStats:
    whole = {"rank": np.int32, "kept": np.int32, "inside": np.bool_, "top_ids": np.int32}
    shapes = {
        name: (tokens, top_k) if name.startswith("top_") else (tokens,) for name in (f.name for f in fields(TokenStats))
    }
    return TokenStats(**{name: np.empty(shape, whole.get(name, np.float32)) for name, shape in shapes.items()})


def _group(rows: Sequence[tuple[tuple[int, ...], ...]], side: int) -> Group:
    branches = (Branch(np.array(row[-1], dtype=np.int64), np.ones(len(row[-1]), dtype=bool)) for row in rows)
    return Group(id="", prompt=np.array(rows[0][side], dtype=np.int64), branches=tuple(branches))


def _cut(stats: TokenStats, start: int, end: int) -> TokenStats:
    return TokenStats(**{f.name: getattr(stats, f.name)[start:end] for f in fields(TokenStats)})
