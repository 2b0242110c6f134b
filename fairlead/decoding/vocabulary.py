"""What models must have in common to choose tokens together."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.engines.local import Local
from fairlead.errors import ModelError

__all__ = ["check_one_tokenizer"]


def check_one_tokenizer(locals_by_field: Mapping[str, Local], owner: str) -> None:
    """Refuse models whose token ids do not mean the same.

    Raises:
        ModelError: two vocabularies that differ, by field.
    """
    (first, one), *others = locals_by_field.items()
    known = one.renderer.tokenizer.get_vocab()
    for field, other in others:
        if other.renderer.tokenizer.get_vocab() != known:
            raise ModelError(
                f"{owner} mixes distributions over one vocabulary, but {first} ({one.name}) and {field} "
                f"({other.name}) have different ones",
                fix="use models of one family; nudging takes any two tokenizers",
            )
