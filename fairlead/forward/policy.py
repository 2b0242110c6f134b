"""A transformers model as the trainer sees it: groups in, per-token log-probs (and scores) of their completions out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fairlead.errors import FairleadError, UnsupportedError
from fairlead.forward import attention
from fairlead.forward.divergence import Divergence, token_divergence
from fairlead.forward.layout import Batch, Branch, Group, lay_out
from fairlead.forward.logprobs import Head, token_collisions, token_logprobs
from fairlead.forward.virtual import hidden_states, virtual_count

__all__ = ["LAYOUTS", "Outputs", "Policy", "pick_layout"]

LAYOUTS = ("shared", "packed", "padded")
_TOLERANCE = 1e-3
"""Largest difference between layouts that rounding explains, relative to the size of the hidden states."""


class Outputs(NamedTuple):
    """What a forward pass says of N completions, padded to T tokens."""

    logprobs: Tensor
    """float32 [N, T]: per-token log-probs, 0 where a token does not count."""
    score: Tensor | None = None
    """float32 [N]: the sequence-score head's value of each completion."""
    divergence: Tensor | None = None
    """float32 [N, T]: divergence of teacher and model at each token, 0 where it does not count."""
    values: Tensor | None = None
    """float32 [N, T, V]: what the value heads expect before each token, 0 where it does not count."""
    collision: Tensor | None = None
    """float32 [N, T]: log of the summed squared probabilities over the vocabulary, without gradient."""


class Policy(nn.Module):
    """A causal language model, or a sequence-score model, behind one forward for every layout."""

    def __init__(
        self,
        model: nn.Module,
        *,
        layout: str = "shared",
        score_head: bool = False,
        value_heads: int = 0,
        temperature: float = 1.0,
    ):
        """Wrap `model`.

        Args:
            model: a transformers causal LM, or sequence classifier when `score_head`; a peft model of either.
            layout: one of `LAYOUTS`; every batch given to the forward must be laid out so.
            score_head: give one score per completion, not log-probs.
            value_heads: linear heads beside the output head, on the same states, zero at first.
            temperature: what the logits are divided by before they become log-probs.

        Raises:
            UnsupportedError: an output head that is not a plain linear layer, or virtual tokens in another layout than
                `padded`.
        """
        super().__init__()
        self.model: Any = model
        self._no_split_modules = getattr(self.plain, "_no_split_modules", None)
        """What accelerate shards layer by layer, unless it is told otherwise."""
        self.layout = layout
        self.score_head = score_head
        self.temperature = temperature
        self._bare = False
        self.value_head: nn.Linear | None = None
        if value_heads:
            width = self.plain.config.get_text_config().hidden_size
            self.value_head = nn.Linear(width, value_heads, device=next(model.parameters()).device)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
        if layout != "padded" and virtual_count(model):
            raise UnsupportedError(f"virtual tokens do not go with layout {layout}", fix="use layout: padded")
        if layout != "padded":
            attention.register()
            self.plain.set_attn_implementation(attention.NAME)
        if not score_head:
            self.head()

    @property
    def plain(self) -> Any:
        """The transformers model itself, without peft's wrapping."""
        return _plain(self.model)

    def forward(
        self,
        batch: Batch,
        *,
        teacher: Policy | None = None,
        divergence: Divergence | None = None,
        collision: bool = False,
    ) -> Outputs:
        """Return what was asked for.

        Args:
            batch: laid out as this policy's layout says.
            teacher: a model of the same vocabulary and layout, for `divergence`.
            divergence: which divergence of teacher and policy to compute.
            collision: whether to compute `Outputs.collision`.
        """
        hidden = self.hidden(batch)
        if self.score_head:
            score = self.plain.score(hidden.index_select(0, batch.last)).sum(-1).float()
            return Outputs(torch.zeros(batch.mask.shape, device=hidden.device), score)
        states, head = hidden.index_select(0, batch.source), self.head()
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype

        width = batch.mask.shape[1]

        def spread(values: Tensor) -> Tensor:
            # Whole tensors, not views: sharded modules hook their outputs.
            shape = (*batch.mask.shape, *values.shape[1:])
            empty = torch.zeros(shape, dtype=torch.float32, device=hidden.device)
            return empty.index_put((batch.place // width, batch.place % width), values)

        diverged = None
        if teacher is not None and divergence is not None:
            with torch.no_grad():
                taught = teacher.hidden(batch).index_select(0, batch.source)
            diverged = spread(token_divergence(states, head, taught, teacher.head(), divergence, dtype=dtype))
        return Outputs(
            spread(token_logprobs(states, head, batch.target, dtype=dtype)),
            divergence=diverged,
            collision=spread(token_collisions(states, head, dtype=dtype)) if collision else None,
            values=None if self.value_head is None else spread(self.value_head(states).float()),
        )

    def hidden(self, batch: Batch) -> Tensor:
        """Return the last hidden states of all positions, [N * L, H]."""
        if self.virtual_tokens:
            embedded = self.plain.get_input_embeddings()(batch.input_ids)
            assert batch.attention_mask is not None
            return hidden_states(self.model, embedded, batch.position_ids, batch.attention_mask).flatten(0, 1)
        return self.plain.base_model(**self._inputs(batch)).last_hidden_state.flatten(0, 1)

    def layers(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the states of all positions before every layer, and at last those of `hidden`, [N * L, H] each.

        The states before a layer have not passed the model's last norm; those of `hidden` have.

        Raises:
            UnsupportedError: virtual tokens.
        """
        if self.virtual_tokens:
            raise UnsupportedError(
                "the layers of a model with virtual tokens are out of reach", fix="merge the adapter"
            )
        told = self.plain.base_model(**self._inputs(batch), output_hidden_states=True)
        return tuple(states.flatten(0, 1) for states in (*told.hidden_states[:-1], told.last_hidden_state))

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        block = {} if batch.attention is None else {"block_attention": batch.attention}
        return {
            "input_ids": batch.input_ids,
            "position_ids": batch.position_ids,
            "attention_mask": batch.attention_mask,
            "use_cache": False,
            **block,
        }

    def head(self) -> Head:
        """Return the output head with the logit scale and cap that the model's config asks for."""
        layer = self.plain.get_output_embeddings()
        if not isinstance(layer, nn.Linear):
            raise UnsupportedError(
                f"the output head is a {type(layer).__name__}, not a linear layer",
                fix="leave lm_head out of the adapter's target modules",
            )
        config = self.plain.config
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return Head(layer.weight, layer.bias, scale, cap, self.temperature)

    @property
    def virtual_tokens(self) -> int:
        """How many virtual tokens an adapter puts before every row; 0 while it is switched off."""
        return 0 if self._bare else virtual_count(self.model)

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Make a peft model its base model again for a while."""
        switch = nullcontext() if not hasattr(self.model, "disable_adapter") else self.model.disable_adapter()
        with switch:
            self._bare = True
            try:
                yield
            finally:
                self._bare = False

    @torch.no_grad()
    def check_head(self) -> None:
        """Compare log-probs with the model's own logits on a small input.

        Raises:
            UnsupportedError: the model does something between hidden states and logits that `Head` does not know.
        """
        batch = lay_out(_probe(self.plain), self.layout).to(next(self.parameters()).device)
        hidden = self.plain.base_model(**self._inputs(batch)).last_hidden_state
        hidden = hidden.flatten(0, 1).index_select(0, batch.source)
        logits = self.plain(**self._inputs(batch)).logits
        logits = logits.flatten(0, 1).index_select(0, batch.source).float()
        own = logits.log_softmax(-1).gather(-1, batch.target[:, None])[:, 0]
        head = replace(self.head(), temperature=1.0)
        if (own - token_logprobs(hidden, head, batch.target)).abs().max() > 0.02:
            raise UnsupportedError(
                f"{type(self.plain).__name__} changes its logits in a way Fairlead does not know",
                fix="use a model whose logits are a linear map of its last hidden state",
            )


@torch.no_grad()
def pick_layout(model: nn.Module, longest: int = 0) -> tuple[str, str]:
    """Return the fastest layout that gives the model's own padded hidden states, and why if it is `padded`.

    Args:
        model: a transformers model, or a peft model of one; its attention implementation is left as it was.
        longest: tokens of the longest prompt with one completion; a sliding window below it needs padding.
    """
    if virtual_count(model):
        return "padded", "its adapter puts virtual tokens before every row"
    plain = _plain(model)
    window = getattr(plain.config.get_text_config(), "sliding_window", None)
    if window is not None and window < longest:
        return "padded", f"its attention window of {window} tokens is shorter than {longest}"
    own, training = plain.config._attn_implementation, model.training
    groups, device = _probe(plain), next(model.parameters()).device
    model.eval()
    try:
        found = []
        for layout in ("padded", "shared"):
            batch = lay_out(groups, layout).to(device)
            states = Policy(model, layout=layout, score_head=True).hidden(batch)
            found.append(states.index_select(0, batch.last).float())
        gap = (found[0] - found[1]).abs().max() / found[0].abs().max().clamp_min(1e-6)
        return ("shared", "") if gap <= _TOLERANCE else ("padded", f"sharing prompts moves its states by {gap:.1e}")
    except (FairleadError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        return "padded", str(error).splitlines()[0][:200]
    finally:
        plain.set_attn_implementation(own)
        model.train(training)


def _plain(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _probe(model: Any, lengths: Sequence[tuple[int, ...]] = ((5, 4, 7), (9, 3))) -> list[Group]:
    """Make groups of random tokens, (prompt, completions...) long each."""
    rng = np.random.default_rng(0)
    size = model.config.get_text_config().vocab_size

    def ids(n: int) -> np.ndarray:
        return rng.integers(0, size, n)

    return [
        Group(str(i), ids(prompt), tuple(Branch(ids(n), np.ones(n, dtype=bool)) for n in completions))
        for i, (prompt, *completions) in enumerate(lengths)
    ]
