"""Answers that are thought out first: `<think>...</think>` and then `<answer>...</answer>`.

`answer_part` finds what is to be valued, `ThinkFormat` whether the form was kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from fairlead.errors import UsageError
from fairlead.messages import Prompt
from fairlead.rewards.base import Rewards, check_lengths

__all__ = ["ThinkFormat", "answer_part", "check_tag"]

_TAG = re.compile(r"[A-Za-z][\w-]*")


def check_tag(tag: str, place: str) -> None:
    """Refuse a name that no tag can have."""
    if not _TAG.fullmatch(tag):
        raise UsageError(f"{tag!r} is no name of a tag", place=place, fix='give the bare name, such as "answer"')


def answer_part(text: str, tag: str) -> str:
    """Return what stands between the first `<tag>` and the `</tag>` behind it.

    Without the closing tag it is all behind the opening one, without that the whole text.
    """
    _, opened, behind = text.partition(f"<{tag}>")
    return behind.partition(f"</{tag}>")[0] if opened else text


@dataclass(frozen=True)
class ThinkFormat:
    """1 where a completion is a block of thinking and then one of answering, each between its tags; else 0.

    Nothing but white space may stand outside the blocks, and each tag occurs once. Either block may have many lines.
    """

    think_tag: str = "think"
    """Name of the first block's tags."""
    answer_tag: str = "answer"
    """Name of the second block's tags."""

    adjustable: ClassVar[tuple[str, ...]] = ("think_tag", "answer_tag")

    def __post_init__(self) -> None:
        check_tag(self.think_tag, "format.think_tag")
        check_tag(self.answer_tag, "format.answer_tag")
        if self.think_tag == self.answer_tag:
            raise UsageError("format: both blocks have the same tag", fix="give each its own name")

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i; returns N values, 1 or 0.

        Raises:
            UsageError: not one prompt per completion.
        """
        check_lengths(prompts, completions)
        values = np.array([float(self._kept(text)) for text in completions])
        return Rewards(values, np.zeros(len(values), dtype=bool))

    @cached_property
    def _form(self) -> re.Pattern[str]:
        blocks = (rf"<{tag}>.*</{tag}>" for tag in (self.think_tag, self.answer_tag))
        return re.compile(r"\s*" + r"\s*".join(blocks) + r"\s*", re.DOTALL)

    def _kept(self, text: str) -> bool:
        tags = [f"<{slash}{tag}>" for tag in (self.think_tag, self.answer_tag) for slash in ("", "/")]
        return all(text.count(tag) == 1 for tag in tags) and self._form.fullmatch(text) is not None
