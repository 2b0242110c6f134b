"""Where a completion ends: end-of-turn tokens, stop texts across token borders, and the text that remains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairlead.engines.base import Sampling
from fairlead.engines.streaming import stop_at, whole_length

__all__ = ["Endings"]


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
    def of(
        cls,
        sampling: Sampling,
        decode: Callable[[Sequence[int]], str],
        stops: frozenset[int],
        choices: Sequence[tuple[int, ...]] = (),
    ) -> Endings:
        """Return what a request asks for, where a model ends its turns with `stops`; `choices` are those in tokens."""
        own = frozenset(sampling.stop_token_ids)
        tokens = own if sampling.ignore_eos else own | stops
        return cls(decode, tokens, sampling.stop, least=sampling.min_tokens, held_back=own | stops, choices=choices)

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
