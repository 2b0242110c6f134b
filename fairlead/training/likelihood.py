"""How likely other models find the answers of a record: mean log-probs, each in its model's own tokens and template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fairlead import models
from fairlead.errors import DataError, FairleadError, UsageError
from fairlead.forward.layout import Group
from fairlead.forward.policy import Policy, pick_layout
from fairlead.records import Records
from fairlead.render import Rendered, Renderer
from fairlead.training.columns import Desk, Part
from fairlead.training.config import TooLong
from fairlead.training.frozen import attach_logprobs, logprobs_key
from fairlead.training.groups import Lengths, group_of, group_records

__all__ = ["AnswerText", "MeanLogProb"]


@dataclass(frozen=True)
class AnswerText:
    """Groups whose trained tokens are what the assistant said, in all its turns."""

    closing: bool = False
    """Whether the token that ends a turn counts too."""

    def build(
        self, records: Records, renderer: Renderer, *, max_length: int, too_long: TooLong
    ) -> tuple[list[Group], Lengths]:
        """Make one group of every conversation or text.

        Raises:
            DataError: an answer without a token that counts; records too long under `error`.
        """
        return group_records(records, renderer, self._group, max_length=max_length, too_long=too_long)

    def _group(self, record: Any, renderer: Renderer) -> Group:
        if record.kind == "text":
            ids = renderer.text(record.text)
            rendered = Rendered(ids, [False] + [True] * (len(ids) - 1), [], 1)
        else:
            rendered = renderer.example(record.prompt, record.completion)
        if not self.closing:
            rendered = replace(rendered, loss_mask=_said(rendered, renderer.stops))
        if not any(rendered.loss_mask):
            raise DataError("has an empty answer: nothing to score", fix="leave it out, or let `closing` count")
        return group_of(record.id, [rendered])


def _said(rendered: Rendered, stops: frozenset[int]) -> list[bool]:
    """Return which trained tokens are contents of messages: not what the template writes around them, nor an end."""
    inside = [not rendered.spans] * len(rendered.ids)
    for span in rendered.spans:
        inside[span.start : span.end] = [True] * (span.end - span.start)
    ended = [*rendered.loss_mask[1:], False]
    return [
        trained and content and (more or token not in stops)
        for trained, content, more, token in zip(rendered.loss_mask, inside, ended, rendered.ids)
    ]


@dataclass(frozen=True)
class MeanLogProb:
    """The column `reference_mean`: log-prob per token of the answers, averaged over several models.

    Each model reads the record through its own chat template and tokenizer, so they need not share a vocabulary. The
    log-probs are kept on disk, under a name that changes with the model's files and with any token or template.
    """

    references: tuple[str, ...]
    """Models: `harbor:NAME`, directories, hub ids."""
    closing: bool = False
    """Whether the token that ends a turn counts too."""

    name: str = "reference_mean"
    """Its key in `Scores.fields`."""

    def __post_init__(self) -> None:
        if not self.references:
            raise UsageError("no models to score the answers with", fix="name at least one in `references`")
        if len(set(self.references)) < len(self.references):
            raise UsageError(f"a model is named twice in {', '.join(self.references)}", fix="name each once")

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Score the part's records with every model, in nats per token.

        Raises:
            DataError: groups that are not one record each, or a record that does not fit a model's positions.
        """
        each = [self._scores(model, part, desk) for model in self.references]
        return [np.full(len(group.branches), np.mean(column), np.float32) for group, *column in zip(part.groups, *each)]

    def _scores(self, model: str, part: Part, desk: Desk) -> list[float]:
        wanted = {group.id for group in part.groups}
        records = [record for record in part.records if record.id in wanted]
        groups = self._rendered(model, Records(records, kind=part.records.kind, source=part.records.source))
        groups = attach_logprobs(
            groups,
            "reference",
            lambda: _open(model, groups, desk.accelerator.device),
            desk.accelerator,
            key=logprobs_key(groups, models.fingerprint(model), desk.config.dtype),
            micro_tokens=desk.config.micro_tokens,
        )
        found = {group.id: _mean(group) for group in groups}
        for group in part.groups:
            if group.id not in found:
                raise DataError(
                    f"has no log-prob under {model}: it is longer than that model's positions, or is not one record",
                    place=part.records.place(group.id),
                    fix="leave it out, name another model, or leave block_length out",
                )
        return [found[group.id] for group in part.groups]

    def _rendered(self, model: str, records: Records) -> list[Group]:
        """Return the records in the model's own tokens, without those that are too long for it."""
        renderer = Renderer(models.load_tokenizer(model), place=model)
        limit = getattr(models.load_config(model).get_text_config(), "max_position_embeddings", None) or 1 << 30
        try:
            return AnswerText(self.closing).build(records, renderer, max_length=limit, too_long="drop")[0]
        except FairleadError as error:
            raise type(error)(f"{model} cannot read it: {error.what}", place=error.place, fix=error.fix) from error


def _open(name: str, groups: Sequence[Group], device: Any) -> Policy:
    model: Any = models.load_model(name, device=str(device))
    model.requires_grad_(False)
    longest = max(len(g.prompt) + max(len(b.ids) for b in g.branches) for g in groups)
    policy = Policy(model, layout=pick_layout(model, longest)[0])
    policy.check_head()
    return policy.eval()


def _mean(group: Group) -> float:
    assert group.reference is not None
    return float(group.reference[0][group.branches[0].trained].mean(dtype=np.float64))
