"""Text to tokens with known character positions, and with token borders where they are asked for.

A tokenizer may put its own tokens before a text, a space before its first word, and may merge characters across the
border of a prompt and its completion. Generation sees none of the last two: it continues the prompt's own tokens. So
does everything encoded here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairlead.errors import RenderError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "Encoder"]

_SPACE_SIGNS = ("\u2581", "\u0120")
"""How SentencePiece and byte-level vocabularies write a space."""


@dataclass
class Encoded:
    """Tokens of a text."""

    ids: list[int]
    """Token ids [T]."""
    starts: list[int]
    """[T], rising: character where each token starts; -1 for tokens put before the text."""

    def at(self, character: int) -> int:
        """Return how many tokens start before `character`."""
        return bisect_left(self.starts, character)


class Encoder:
    """Encodes and decodes with one tokenizer.

    Args:
        tokenizer: a fast one (others have no offsets).
        place: what errors call it.

    Raises:
        RenderError: the tokenizer has no offsets.
    """

    opening: list[int]
    """Tokens that the tokenizer itself puts before a raw text: mostly none or one beginning of sequence."""
    end: int | None
    """The end-of-sequence token."""
    specials: dict[int, str]
    """id -> text of its special tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, place: str):
        self._tokenizer, self._place = tokenizer, place
        if not getattr(tokenizer, "is_fast", False):
            raise self._error("the tokenizer has no offsets", "use its fast version (one with tokenizer.json)")
        eos: Any = tokenizer.eos_token_id
        self.end = None if eos is None else int(eos)
        self.specials = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.specials |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens))
        bare, full = self._tokens("a")[0], list(tokenizer("a")["input_ids"])
        fits = (i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        self.opening = full[: next(fits, 0)]
        first = tokenizer.convert_ids_to_tokens(bare[:1])
        anchors = ("\n", ".", "a", "1") if first and first[0].startswith(_SPACE_SIGNS) else ("",)
        self._anchors = {anchor: self._tokens(anchor)[0] for anchor in anchors}

    def encode(self, text: str) -> Encoded:
        """Encode a text with the opening tokens, unless the text begins with them itself."""
        ids, starts, _ = self._tokens(text)
        if ids[: len(self.opening)] != self.opening:
            ids, starts = [*self.opening, *ids], [-1] * len(self.opening) + starts
        return Encoded(ids, starts)

    def encode_at(self, text: str, prefixes: Sequence[str]) -> Encoded:
        """Encode a text whose tokens up to the end of its first prefix are the prefix's own tokens.

        No token crosses the end of a prefix. Each of `prefixes` is a prefix of the next one and of `text`.

        Raises:
            RenderError: no token border can be placed at the end of a prefix.
        """
        encoded = self.encode(text)
        if all(encoded.ids[: encoded.at(len(p))] == self.encode(p).ids for p in prefixes):
            return encoded
        encoded = self.encode(prefixes[0])
        position = len(prefixes[0])
        for end in [*map(len, prefixes[1:]), len(text)]:
            more = self.continued(text[position:end])
            encoded.ids += more.ids
            encoded.starts += [position + start for start in more.starts]
            position = end
        return encoded

    def ended(self, ids: list[int]) -> list[int]:
        """Return the ids with the end-of-sequence token at their end.

        Raises:
            RenderError: there is no such token.
        """
        if self.end is None:
            raise self._error("the tokenizer has no end-of-sequence token", "set tokenizer.eos_token")
        return ids if ids[-1:] == [self.end] else [*ids, self.end]

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        """Return the text of the tokens, with or without special ones."""
        return str(
            self._tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        )

    def continued(self, text: str) -> Encoded:
        """Return the tokens of `text` as they are after other text: no opening tokens, no space put before it.

        A tokenizer that puts a space before the first word is given another text, the anchor, to put it before.

        Raises:
            RenderError: no token border can be placed before the text.
        """
        for anchor, own in self._anchors.items():
            ids, starts, ends = self._tokens(anchor + text)
            cut = bisect_left(starts, len(anchor))
            if all(end <= len(anchor) for end in ends[:cut]) and ids[:cut] == own:
                return Encoded(ids[cut:], [start - len(anchor) for start in starts[cut:]])
        raise self._error(
            f"no token border can be placed before {text[:40]!r}",
            "end the prompt, or the template's generation prompt, with a special token or a line break",
        )

    def _tokens(self, text: str) -> tuple[list[int], list[int], list[int]]:
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        starts, ends = [], []
        for start, end in encoded["offset_mapping"]:
            if start == end and ends:  # a space whose offsets were trimmed to nothing stands where the last token ended
                start = min(start, ends[-1])
            starts.append(start)
            ends.append(end)
        return list(encoded["input_ids"]), starts, ends

    def _error(self, what: str, fix: str) -> RenderError:
        return RenderError(what, place=self._place, fix=fix)
