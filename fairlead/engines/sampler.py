"""Continuous batching over one model: rows join the batch as others finish, and none depends on its neighbours.

Prompts are computed once for all their samples, and so is what prompts begin with in common. A forward of new prompts
is padded on the right, where causal attention cannot see; a forward of one new token per row reads each row's own keys
(`RaggedCache`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.beginnings import Beginning, find_beginnings
from fairlead.engines.draw import choose, row_generator, token_logprob
from fairlead.engines.edits import Past
from fairlead.engines.endings import Endings
from fairlead.engines.forwards import Forwards
from fairlead.engines.kv import RaggedCache
from fairlead.engines.lean import Lean
from fairlead.errors import EngineError, UnsupportedError
from fairlead.forward import virtual
from fairlead.forward.policy import Policy

__all__ = ["Abilities", "Sampler", "check_decoding", "new_cache"]

_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest difference that rounding explains, relative to the largest hidden state."""
_REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)
"""How models fail that cannot do what they are asked."""
_SHARED = 2
"""Tokens that the rows of the check begin with in common."""
_OTHER_ENGINE = "serve the model with another program, and use its address as the engine"


@dataclass(frozen=True)
class _Request:
    """One prompt and the samples wanted of it that start together."""

    prompt: int
    ids: Sequence[int]
    samples: Sequence[int]
    beginning: Beginning | None = None
    """What it shares with other prompts."""

    @property
    def rest(self) -> Sequence[int]:
        """Its own tokens, behind the shared ones."""
        return self.ids if self.beginning is None else self.ids[len(self.beginning.ids) :]


@dataclass
class _Row:
    """One sample being drawn."""

    prompt: int
    sample: int
    room: int
    """Most tokens that it can have."""
    generator: np.random.Generator
    past: Past | None
    """What its next token is judged by, where that is looked at."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Sampler:
    """Draws completions of one batch of prompts; made anew for every batch.

    Args:
        policy: the model, in evaluation mode, with an attention implementation that takes additive masks.
        sampling: how to draw.
        endings: what ends a completion.
        positions: most tokens that the model can read, or None.
        max_rows: most rows decoded at a time.
        max_tokens: most tokens, padding included, in one forward over several prompts.
        share: whether what prompts begin with in common is computed once.
        lean: whether the model is known to have a lean forward.
    """

    def __init__(
        self,
        policy: Policy,
        sampling: Sampling,
        endings: Endings,
        *,
        positions: int | None,
        max_rows: int,
        max_tokens: int,
        share: bool = True,
        lean: bool = False,
    ):
        self.policy, self.sampling, self.endings = policy, sampling, endings
        self.positions, self.max_rows, self.max_tokens = positions, max_rows, max_tokens
        self.device = next(policy.parameters()).device
        self.model = Forwards(policy, lean=lean)
        self.cache = new_cache(policy)
        self.share = share
        self.begun: tuple[Beginning | None, list[tuple[Tensor, Tensor]]] = (None, [])
        self.rows: list[_Row] = []
        self.waiting: deque[_Request] = deque()
        self.done: dict[tuple[int, int], Completion] = {}

    @torch.inference_mode()
    def run(self, prompts: Sequence[Sequence[int]], samples: int) -> list[list[Completion]]:
        """Return `samples` completions per prompt (token ids, none empty), in the order of the prompts."""
        self.waiting.extend(self._requests(prompts, samples))
        while self.rows or self.waiting:
            for batch in self._admitted():
                self._prefill(batch)
            if self.rows:
                self._step()
        return [[self.done[i, k] for k in range(samples)] for i in range(len(prompts))]

    def _requests(self, prompts: Sequence[Sequence[int]], samples: int) -> Iterator[_Request]:
        """Yield what is to be drawn: prompts with the same beginning together, the longest first."""
        shared = find_beginnings(prompts) if self.share else [None] * len(prompts)
        whole = [_Request(i, ids, (), beginning) for i, (ids, beginning) in enumerate(zip(prompts, shared))]
        groups: dict[int, list[_Request]] = {}
        for request in sorted(whole, key=lambda request: -len(request.ids)):
            groups.setdefault(id(request.beginning), []).append(request)
        for request in chain(*groups.values()):
            for start in range(0, samples, self.max_rows):
                yield replace(request, samples=range(start, min(start + self.max_rows, samples)))

    def _admitted(self) -> list[list[_Request]]:
        """Take waiting requests for which there are free rows, in batches of one forward each."""
        free = self.max_rows - len(self.rows)
        # A forward over few prompts costs nearly as much as one over many: wait until some rows are free.
        if self.rows and free < self.max_rows // 4:
            return []
        batches: list[list[_Request]] = []
        while self.waiting and len(self.waiting[0].samples) <= free:
            request = self.waiting.popleft()
            free -= len(request.samples)
            first = batches[-1][0] if batches else None
            fits = first is not None and (len(batches[-1]) + 1) * len(first.rest) <= self.max_tokens
            if first is not None and fits and first.beginning is request.beginning:
                batches[-1].append(request)
            else:
                batches.append([request])
        return batches

    def _prefill(self, batch: list[_Request]) -> None:
        """Compute prompts, and the first token of all their samples."""
        rests = [request.rest for request in batch]
        lengths = torch.tensor([len(rest) for rest in rests], device=self.device)
        ids = torch.zeros((len(batch), int(lengths.max())), dtype=torch.int64)
        for row, rest in zip(ids, rests):
            row[: len(rest)] = torch.tensor(rest)
            # Never seen by real tokens. Not the pad token, at which some models warn.
            row[len(rest) :] = rest[-1]
        copies = [i for i, request in enumerate(batch) for _ in request.samples]
        new = [self._row(request, sample) for request in batch for sample in request.samples]
        start = self._begin(batch[0].beginning)
        self.cache.begin_prefill(copies, self.device, self.begun[1])
        hidden = _prefill(self.policy, ids.to(self.device), self.cache, start)
        logits = self.model.logits(hidden[torch.arange(len(batch), device=self.device), lengths - 1])
        if not torch.isfinite(logits).all():
            raise EngineError("the model's logits are not finite", fix="use dtype float32, or check its weights")
        self.cache.end_prefill(lengths + start + self.policy.virtual_tokens)
        self.rows += new
        self._append(new, logits[torch.tensor(copies, device=self.device)])
        self._settle()

    def _begin(self, beginning: Beginning | None) -> int:
        """Have the keys and values of a beginning at hand; return its length."""
        if beginning is not self.begun[0]:
            self.begun = (beginning, [])
            if beginning is not None:
                self.begun = (beginning, _keys_of(self.policy, beginning.ids, self.device))
        return 0 if beginning is None else len(beginning.ids)

    def _row(self, request: _Request, sample: int) -> _Row:
        room = self.sampling.max_tokens
        if self.positions is not None:
            room = min(room, self.positions - len(request.ids))
        generator = row_generator(self.sampling.seed, request.ids, sample)
        past = Past.of(self.sampling, request.ids, self.endings.held_back, self.endings.choices)
        return _Row(request.prompt, sample, room, generator, past)

    def _step(self) -> None:
        """Add one token to every row."""
        tokens = torch.tensor([[row.ids[-1]] for row in self.rows], device=self.device)
        mask = self.cache.decode_mask(self.policy.plain.dtype)
        hidden = self.model.hidden(tokens, self.cache.lengths[:, None], mask, self.cache)
        self.cache.extend()
        self._append(self.rows, self.model.logits(hidden[:, -1]))
        self._settle()

    def _append(self, rows: list[_Row], logits: Tensor) -> None:
        greedy = self.sampling.temperature == 0
        pasts = [row.past for row in rows if row.past is not None]
        tokens = choose(logits, self.sampling, [] if greedy else [row.generator.random() for row in rows], pasts)
        for row, token in zip(rows, tokens.tolist()):
            row.ids.append(token)
        for past, token in zip(pasts, tokens.tolist() if pasts else ()):
            past.add(token)
        if self.sampling.logprobs:
            for row, value in zip(rows, token_logprob(logits, tokens).tolist()):
                row.logprobs.append(value)

    def _settle(self) -> None:
        """Take finished rows out of the batch."""
        alive = []
        for k, row in enumerate(self.rows):
            if self.endings.reached(row.ids) or len(row.ids) >= row.room:
                self.done[row.prompt, row.sample] = self._completion(row)
            else:
                alive.append(k)
        if len(alive) < len(self.rows):
            self.rows = [self.rows[k] for k in self.cache.keep(alive)]

    def _completion(self, row: _Row) -> Completion:
        ids, text, ended = self.endings.cut(row.ids)
        logprobs = np.array(row.logprobs[: len(ids)], dtype=np.float32) if self.sampling.logprobs else None
        return Completion(text, ids, logprobs, FinishReason.STOP if ended else FinishReason.LENGTH)


def _keys_of(policy: Policy, ids: Sequence[int], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return the keys and values [1, heads, T, D] of each layer of the tokens that prompts begin with."""
    cache = new_cache(policy)
    cache.begin_prefill([0], device)
    _prefill(policy, torch.tensor([ids], device=device), cache)
    cache.end_prefill(torch.tensor([len(ids)], device=device))
    return cache.stored(0)


def _prefill(policy: Policy, ids: Tensor, cache: RaggedCache, start: int = 0) -> Tensor:
    """Return the hidden states [N, W, H] of new prompts, ids [N, W], and put their keys into the cache.

    `start` is how many tokens of the prompts the cache has been given already.
    """
    base, count = policy.plain.base_model, policy.virtual_tokens
    places = torch.arange(start, start + count + ids.shape[1], device=ids.device).expand(len(ids), -1)
    if not count:
        return base(input_ids=ids, position_ids=places, past_key_values=cache, use_cache=True).last_hidden_state
    embedded = policy.plain.get_input_embeddings()(ids)
    before = virtual.embeddings_of(policy.model, len(ids))
    if before is None:
        places = places[:, count:]
    else:
        embedded = torch.cat([before.to(embedded.dtype), embedded], dim=1)
    states = base(inputs_embeds=embedded, position_ids=places, past_key_values=cache, use_cache=True).last_hidden_state
    return states[:, -ids.shape[1] :]


def _whole(policy: Policy, ids: Tensor, places: Tensor) -> Tensor:
    """Return the hidden states [N, W, H] of rows in one forward, without a cache of ours."""
    if not policy.virtual_tokens:
        return policy.plain.base_model(input_ids=ids, position_ids=places, use_cache=False).last_hidden_state
    embedded = policy.plain.get_input_embeddings()(ids)
    return virtual.hidden_states(policy.model, embedded, places, torch.ones_like(ids))


def new_cache(policy: Policy) -> RaggedCache:
    """Return an empty cache that fits the model's layers, sliding windows and virtual tokens.

    Raises:
        UnsupportedError: keys and values of virtual tokens under a sliding window.
    """
    config = policy.plain.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds if kinds else window is not None
    prefix = virtual.keys_and_values_of(policy.model) if policy.virtual_tokens else []
    if prefix and slides:
        raise UnsupportedError("a prefix cannot be decoded under a sliding window", fix="use another adapter type")
    return RaggedCache(config.num_hidden_layers, window=window if slides else None, mixed=len(kinds) > 1, prefix=prefix)


@dataclass(frozen=True)
class Abilities:
    """What decoding can do with a model."""

    shares: bool
    """Whether prompts can be computed behind a beginning that they share."""
    lean: bool
    """Whether its lean forward is its forward."""


@torch.inference_mode()
def check_decoding(policy: Policy) -> Abilities:
    """Compare rows of different lengths, decoded token by token, with the model's plain forward.

    Raises:
        UnsupportedError: a model whose attention, positions or state do not work so.
    """
    device, longest = next(policy.parameters()).device, max(_LENGTHS) + _STEPS
    vocabulary = policy.plain.config.get_text_config().vocab_size
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, vocabulary, (3, longest))).to(device)
    ids[:, :_SHARED] = ids[0, :_SHARED]
    name = type(policy.plain).__name__
    try:
        wanted = _whole(policy, ids, torch.arange(longest, device=device).expand(ids.shape))
        gap = _decoded_gap(policy, ids, wanted, lean=False)
    except _REFUSALS as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedError(f"{name} cannot be decoded in ragged batches: {first}", fix=_OTHER_ENGINE) from error
    tolerance = _TOLERANCES[policy.plain.dtype] * float(wanted.abs().max())
    if not gap <= tolerance:
        raise UnsupportedError(f"{name} answers differently in ragged batches (by {gap:.1e})", fix=_OTHER_ENGINE)

    def holds(gap_of: Callable[[], float]) -> bool:
        try:
            return gap_of() <= tolerance
        except _REFUSALS:
            return False

    def shared_gap() -> float:
        cache = new_cache(policy)
        cache.begin_prefill(range(3), device, _keys_of(policy, ids[0, :_SHARED].tolist(), device))
        states = _prefill(policy, ids[:, _SHARED:], cache, _SHARED)
        return float((states - wanted[:, _SHARED:]).abs().max())

    return Abilities(
        shares=not policy.virtual_tokens and holds(shared_gap),
        lean=Lean.of(policy) is not None and holds(lambda: _decoded_gap(policy, ids, wanted, lean=True)),
    )


def _decoded_gap(policy: Policy, ids: Tensor, wanted: Tensor, *, lean: bool) -> float:
    """Return how far the hidden states of rows decoded token by token, then in a block, are from those wanted."""
    device, cache, model = ids.device, new_cache(policy), Forwards(policy, lean=lean)
    rows, ends = torch.arange(3, device=device), torch.tensor(_LENGTHS, device=device)
    cache.begin_prefill(range(3), device)
    _prefill(policy, ids[:, : max(_LENGTHS)], cache)
    cache.end_prefill(ends + policy.virtual_tokens)
    gap = torch.zeros((), device=device)
    for step in range(_STEPS):
        mask, new = cache.decode_mask(policy.plain.dtype), ids[rows, ends + step][:, None]
        states = model.hidden(new, cache.lengths[:, None], mask, cache)[:, -1]
        cache.extend()
        gap = torch.maximum(gap, (states - wanted[rows, ends + step]).abs().max().float())
    return float(gap)


_LENGTHS, _STEPS = (3, 7, 5), 2
"""Tokens of the rows of the check, and how many more they are given one by one."""
