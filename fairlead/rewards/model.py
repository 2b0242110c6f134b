"""A trained reward model as a reward: the score head's value of a completion's last token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from fairlead import models
from fairlead.errors import UsageError
from fairlead.forward.layout import Branch, Group, lay_out, pack
from fairlead.forward.policy import Policy, pick_layout
from fairlead.messages import Prompt
from fairlead.render import Renderer
from fairlead.rewards.base import Rewards

__all__ = ["ModelReward"]


@dataclass(frozen=True)
class ModelReward:
    """The score that a reward model (trained with the objective `reward_model`) gives a completion.

    Scores of one prompt compare; their zero means something only if training centred them. Never abstains.
    """

    model: str
    """Folder, `harbor:NAME` or hub id of a sequence-classification model with one output."""
    dtype: str = "float32"
    """Number format of its weights: float32, bfloat16 or float16."""
    device: str | None = None
    """Where it runs; by default the best there is."""
    micro_tokens: int = 8192
    """Most tokens of one forward pass."""

    learned: ClassVar[tuple[str, ...]] = ("model",)

    def __post_init__(self) -> None:
        if self.micro_tokens < 1:
            raise UsageError(f"model.micro_tokens is {self.micro_tokens}", fix="use at least 1")

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Score completion i as an answer to prompt i; equal neighbouring prompts are computed once.

        Raises:
            UsageError: lists of different lengths, or a completion that does not fit the model's positions.
        """
        values = self.read(prompts, completions)[1]
        return Rewards(values, np.zeros(len(values), dtype=bool))

    @torch.no_grad()
    def read(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the states that the score head reads, float64 [N, H], and the scores, float64 [N].

        Raises:
            UsageError: as the call.
        """
        if len(prompts) != len(completions):
            raise UsageError(
                f"{len(prompts)} prompts and {len(completions)} completions", fix="give one prompt per completion"
            )
        groups = self._groups(prompts, completions)
        policy = self._loaded[0]
        device = next(policy.parameters()).device
        states = np.zeros((len(completions), policy.plain.config.get_text_config().hidden_size))
        values = np.zeros(len(completions))
        starts = np.cumsum([0] + [len(g.branches) for g in groups])
        for members in pack(groups, self.micro_tokens, policy.layout):
            batch = lay_out([groups[i] for i in members], policy.layout).to(device)
            last = policy.hidden(batch).index_select(0, batch.last)
            rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in members])
            states[rows] = last.double().cpu().numpy()
            values[rows] = policy.plain.score(last).sum(-1).double().cpu().numpy()
        return states, values

    @cached_property
    def _loaded(self) -> tuple[Policy, Renderer, int]:
        renderer = Renderer(models.load_tokenizer(self.model), place=self.model)
        model: Any = models.load_model(self.model, dtype=self.dtype, device=self.device, head="score")
        limit = model.config.get_text_config().max_position_embeddings
        policy = Policy(model, layout=pick_layout(model, limit)[0], score_head=True)
        return policy.eval(), renderer, limit - policy.virtual_tokens

    def _groups(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Group]:
        _, renderer, limit = self._loaded
        groups: list[Group] = []
        for k, (prompt, completion) in enumerate(zip(prompts, completions)):
            row = renderer.example(prompt, completion)
            if len(row.ids) > limit:
                raise UsageError(
                    f"completion {k + 1} of {len(completions)} and its prompt are {len(row.ids)} tokens long",
                    place=self.model,
                    fix=f"shorten them to the model's {limit} positions",
                )
            start = np.array(row.ids[: row.split])
            branch = Branch(np.array(row.ids[row.split :]), np.array(row.loss_mask[row.split :], dtype=bool))
            if groups and np.array_equal(groups[-1].prompt, start):
                groups[-1] = Group(groups[-1].id, start, (*groups[-1].branches, branch))
            else:
                groups.append(Group(str(k), start, (branch,)))
        return groups
