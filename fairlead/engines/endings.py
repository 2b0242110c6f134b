"""Where a completion ends: end-of-turn tokens, stop texts across token borders, and the text that remains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fairlead.engines.base import Sampling
from fairlead.engines.streaming import stop_at, whole_length
from fairlead.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from fairlead.render import Renderer

__all__ = ["Endings"]

_ELSE = {
    "schema": "which keeps to fixed choices alone: servers keep to a JSON schema",
    "top_logprobs": "which scores whole texts instead: use `logprobs`",
}


class Endings:
    """Decides whether sampled tokens end a completion, and what its text is.

    Args:
        decode: token ids to text, without special tokens.
        tokens: ids that end a completion.
        texts: texts that end a completion and are not part of it.
        least: tokens of a completion within which a stop text that is complete ends nothing.
        held_back: ids that are not to be drawn before there are `least` tokens; by default those that end it.
        choices: tokens of the texts of which a completion is one; none for any text.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        tokens: frozenset[int],
        texts: tuple[str, ...],
        *,
        least: int = 0,
        held_back: frozenset[int] | None = None,
        choices: Sequence[tuple[int, ...]] = (),
    ):
        self.decode, self.tokens, self.texts, self.least = decode, tokens, texts, least
        self.held_back = tokens if held_back is None else held_back
        self.choices = tuple(choices)
        self._window = max((2 * len(text.encode()) + 16 for text in texts), default=0)

    @classmethod
    def of(cls, sampling: Sampling, renderer: Renderer, *, size: int, name: str, raw: bool = False) -> Endings:
        """Return what a request asks of a model.

        Args:
            sampling: how to draw.
            renderer: the model's.
            size: how many tokens the model knows.
            name: what the model is called in errors.
            raw: whether the completion continues a text.

        Raises:
            UsageError: a setting that names a token which the model does not have, or a choice that it cannot write.
            RenderError: a choice that does not begin at a token's border.
            UnsupportedError: a setting for servers alone.
        """
        for setting, value in (("schema", sampling.schema), ("top_logprobs", sampling.top_logprobs)):
            if value:
                raise UnsupportedError(f"{name} runs in this process, {_ELSE[setting]}", place=f"sampling.{setting}")
        for setting, tokens in sampling.tokens_named().items():
            if tokens and max(tokens) >= size:
                what = f"names token {max(tokens)}, and {name} has tokens 0 to {size - 1}"
                raise UsageError(what, place=f"sampling.{setting}", fix="use ids of this model's tokenizer")
        decode = partial(renderer.decode, raw=raw, through=sampling.ignore_eos)
        choices = [tuple(renderer.spelling.encode(text).ids) for text in sampling.choices]
        lost = next((text for text, ids in zip(sampling.choices, choices) if decode(ids) != text), None)
        if lost is not None:
            what = f"{lost!r} cannot be written in tokens of {name}"
            raise UsageError(what, place="sampling.choices", fix="use other texts")
        own = frozenset(sampling.stop_token_ids)
        ends = own if sampling.ignore_eos else own | renderer.stops
        return cls(
            decode,
            ends,
            sampling.stop,
            least=sampling.min_tokens,
            held_back=own | renderer.stops,
            choices=choices,
        )

    def reached(self, ids: Sequence[int]) -> bool:
        """Whether the last of `ids` ended the completion (asked after every token)."""
        if ids[-1] in self.tokens:
            return True
        if not self.texts or len(ids) <= self.least:
            return False
        tail = self.decode(ids[-self._window :])
        if not any(text in tail for text in self.texts):
            return False
        # The last tokens alone can read differently than after all others.
        return (len(ids) <= self._window and not self.least) or self._stop(ids) is not None

    def cut(self, ids: list[int]) -> tuple[list[int], str, bool]:
        """Return the completion's tokens, its text, and whether it ended by itself.

        The tokens run to the one that completes the first stop text; the text ends before that stop text. Of several
        that one token completes, the one that ends first counts, then the one that began first.
        """
        body = ids[:-1] if ids[-1] in self.tokens else ids
        if self._stop(body) is None:
            return ids, self.decode(body), len(body) < len(ids)
        count = len(body)
        if self._stop(body[:-1]) is not None:
            count = next(n for n in range(1, count) if self._stop(body[:n]) is not None)
        return body[:count], self.decode(body[:count])[: self._stop(body[:count])], True

    def deaf(self, ids: Sequence[int]) -> int:
        """Return how many characters the first `least` tokens say: a stop text within them ends nothing."""
        return whole_length(self.decode(ids[: self.least])) if self.least else 0

    def _stop(self, ids: Sequence[int]) -> int | None:
        """Return where in the text the stop text begins that ends it, or None."""
        return stop_at(self.decode(ids), self.texts, self.deaf(ids)) if self.texts else None
