"""Where a completion ends: end-of-turn tokens, stop texts across token borders, and the text that remains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairlead.engines.streaming import stop_at

__all__ = ["Endings"]


class Endings:
    """Decides whether sampled tokens end a completion, and what its text is.

    Args:
        decode: token ids to text, without special tokens.
        tokens: ids that end a completion.
        texts: texts that end a completion and are not part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], tokens: frozenset[int], texts: tuple[str, ...]):
        self.decode, self.tokens, self.texts = decode, tokens, texts
        self._window = max((2 * len(text.encode()) + 16 for text in texts), default=0)

    def reached(self, ids: Sequence[int]) -> bool:
        """Whether the last of `ids` ended the completion (asked after every token)."""
        if ids[-1] in self.tokens:
            return True
        if not self.texts or not self._found(self.decode(ids[-self._window :])):
            return False
        # The last tokens alone can read differently than after all others.
        return len(ids) <= self._window or self._found(self.decode(ids))

    def cut(self, ids: list[int]) -> tuple[list[int], str, bool]:
        """Return the completion's tokens, its text, and whether it ended by itself.

        The tokens run to the one that completes the first stop text; the text ends before that stop text. Of several
        that one token completes, the one that ends first counts, then the one that began first.
        """
        text = self.decode(ids)
        if not self._found(text):
            return ids, text, ids[-1] in self.tokens
        count = len(ids)
        if self._found(self.decode(ids[:-1])):
            count = next(n for n in range(1, count) if self._found(self.decode(ids[:n])))
            text = self.decode(ids[:count])
        return ids[:count], text[: stop_at(text, self.texts)], True

    def _found(self, text: str) -> bool:
        return any(stop in text for stop in self.texts)
