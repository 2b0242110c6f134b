"""Completions of prompts, as tokens, for a rollout: from the policy itself, a copy of it, or a server."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.http import Http
from fairlead.engines.local import Local
from fairlead.errors import RequestError, TrainingError, UsageError
from fairlead.forward.layout import Group
from fairlead.messages import Prompt
from fairlead.render import Renderer
from fairlead.training.rollout_config import RolloutConfig

__all__ = ["Drawer", "Drawn", "open_drawer"]


@dataclass(frozen=True)
class Drawn:
    """One completion."""

    ids: np.ndarray
    """int64 [C], C >= 1: the end-of-turn token included where it was drawn."""
    text: str
    """Without it."""
    logprobs: np.ndarray
    """float32 [C]: under whoever drew it, untempered; NaN where that is not known."""
    truncated: bool
    """Whether it was cut at the longest length."""


class Drawer:
    """Draws from the policy, or from a copy of it in another number format.

    Args:
        policy: the `Policy` that is trained, without accelerate's wrapping.
        tokenizer: the policy's.
        config: how to draw.
    """

    def __init__(self, policy: Any, tokenizer: Any, config: RolloutConfig):
        self._policy = policy
        self._copy = None
        model = policy.model
        if config.dtype == "bfloat16" and next(model.parameters()).dtype != torch.bfloat16:
            model = self._copy = copy.deepcopy(model).to(torch.bfloat16).requires_grad_(False)
        self._engine = Local(model, tokenizer, max_rows=config.max_rows)

    def draw(self, prompts: Sequence[Prompt], groups: Sequence[Group], sampling: Sampling) -> list[list[Drawn]]:
        """Return `sampling.n` completions of every prompt, in their order."""
        if self._copy is not None:
            with torch.no_grad():
                for own, new in zip(self._copy.parameters(), self._policy.model.parameters()):
                    own.copy_(new)
        found: list[list[Drawn]] = [[] for _ in prompts]
        for raw in (False, True):
            places = [k for k, prompt in enumerate(prompts) if isinstance(prompt, str) is raw]
            if places:
                ids = [groups[k].prompt.tolist() for k in places]
                for k, completions in zip(places, self._engine.generate_ids(ids, sampling, raw=raw)):
                    found[k] = [_drawn(one) for one in completions]
        return found


class _Served:
    """Draws from a server, whose texts become tokens again here."""

    def __init__(self, server: str, renderer: Renderer):
        address, _, name = server.partition("#")
        if not name:
            raise UsageError("a server needs the name of a model", place=server, fix=f'write "{address}#model-name"')
        self._engine, self._renderer, self._place = Http(address, model=name), renderer, server

    def draw(self, prompts: Sequence[Prompt], groups: Sequence[Group], sampling: Sampling) -> list[list[Drawn]]:
        """Return `sampling.n` completions of every prompt, in their order.

        Raises:
            TrainingError: log-probs are missing, or are of another tokenizer's tokens.
        """
        answers = self._engine.generate(prompts, sampling)
        return [
            [self._read(prompt, group.id, one) for one in completions]
            for prompt, group, completions in zip(prompts, groups, answers)
        ]

    def _read(self, prompt: Prompt, id: str, completion: Completion) -> Drawn:
        truncated = completion.finish_reason is FinishReason.LENGTH
        rendered = self._renderer.example(prompt, completion.text)
        ids = [i for i, trained in zip(rendered.ids, rendered.loss_mask) if trained]
        ids = ids[:-1] if truncated and len(ids) > 1 else ids
        if completion.logprobs is None:
            raise TrainingError(
                f"the server told no log-probs of its answer to {id}",
                place=self._place,
                fix="use a server that tells them, or draw from the policy",
            )
        told = completion.logprobs
        if len(told) == len(ids) - 1 and not truncated:
            # Some servers do not tell the end-of-turn token.
            told = np.append(told, np.float32(np.nan))
        pieces = self._renderer.spelling.pieces(ids)
        tokens = completion.extra.get("tokens") or pieces
        if len(told) != len(ids) or any(a != b for a, b in zip(tokens[:-1], pieces[: len(tokens) - 1])):
            raise TrainingError(
                f"the server's answer to {id} has {len(completion.logprobs)} tokens where the policy has {len(ids)}, "
                "or other ones",
                place=self._place,
                fix="serve a model with the policy's own tokenizer",
            )
        return Drawn(np.array(ids), completion.text, told.astype(np.float32), truncated)


def _drawn(completion: Completion) -> Drawn:
    assert completion.token_ids is not None
    assert completion.logprobs is not None
    truncated = completion.finish_reason is FinishReason.LENGTH
    return Drawn(np.array(completion.token_ids), completion.text, completion.logprobs, truncated)


def open_drawer(policy: Any, tokenizer: Any, renderer: Renderer, config: RolloutConfig) -> Any:
    """Return who draws.

    Raises:
        RequestError, UsageError: a server that cannot be used, or a number format for one.
    """
    if config.server is None:
        return Drawer(policy, tokenizer, config)
    if config.dtype != "float32":
        raise UsageError("a server's number format is its own", place="train.rollout.dtype", fix="leave dtype out")
    if config.temperature != 1.0:
        raise RequestError(
            "a server's log-probs are those of temperature 1", place="train.rollout.temperature", fix="use 1.0"
        )
    return _Served(config.server, renderer)
