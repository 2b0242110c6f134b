"""What tokens spell behind other tokens, in bytes, and how a text is written behind others: text as the interface
between models whose tokenizers differ.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from fairlead.render.encoder import Encoded, Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Spelling", "whole_characters"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WINDOW = 8
"""Tokens before that a decoder may look at; spaces and word pieces look at one."""


class Spelling:
    """Text to tokens and tokens to bytes in the middle of an answer, with one tokenizer.

    Args:
        tokenizer: a fast one.
        encoder: its encoder.
        stops: ids that end an answer.
    """

    silent: frozenset[int]
    """Ids that spell nothing: ends of turns and other special tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, encoder: Encoder, stops: frozenset[int]):
        self._encoder = encoder
        self._tokenizer: Any = tokenizer
        self.silent = stops | frozenset(encoder.specials)
        decoder = self._tokenizer.backend_tokenizer.decoder
        kinds = set(_kinds(json.loads(decoder.__getstate__()))) if decoder is not None else set()
        self._byte_level, self._falls_back = "ByteLevel" in kinds, "ByteFallback" in kinds
        self._known: dict[int, bytes] = {}

    def encode(self, text: str) -> Encoded:
        """Return a text's tokens as they are behind other text: nothing is put before them.

        Raises:
            RenderError: a tokenizer that has no token border before such a text.
        """
        return self._encoder.continued(text) if text else Encoded([], [])

    def spelled(self, ids: Sequence[int], after: Sequence[int] = ()) -> bytes:
        """Return the bytes that `ids` add to the text behind `after`; a last character may be incomplete."""
        if self._byte_level:
            return b"".join(map(self._byte_level_token, ids))
        spelled, seen = b"", list(after)
        for raw, group in groupby(ids, key=lambda token: bool(self._byte(token))):
            part = list(group)
            spelled += b"".join(map(self._byte, part)) if raw else self._decoded(part, seen)
            seen += part
        return spelled

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text that every token of an answer adds; nothing for an end of turn or other special token.

        A character in several tokens is in the piece of its last one.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        said = (b"" if token in self.silent else self.spelled([token], ids[:k]) for k, token in enumerate(ids))
        return [decoder.decode(spelled) for spelled in said]

    def _byte_level_token(self, token: int) -> bytes:
        if token not in self._known:
            text = "" if token in self.silent else self._tokenizer.convert_ids_to_tokens(token) or ""
            known = all(sign in _BYTE_OF for sign in text)
            self._known[token] = bytes(_BYTE_OF[sign] for sign in text) if known else text.encode()
        return self._known[token]

    def _decoded(self, ids: list[int], after: list[int]) -> bytes:
        """Return what the tokenizer's own decoder adds behind other tokens: word pieces and spaces depend on them."""
        start = max(0, len(after) - _WINDOW)
        while start and self._byte(after[start]):
            start -= 1
        before = after[start:]
        length = len(self._encoder.decode(before, special=False)) if before else 0
        return self._encoder.decode([*before, *ids], special=False)[length:].encode()

    def _byte(self, token: int) -> bytes:
        """Return the single byte that a token of a vocabulary with byte fallback stands for, else nothing."""
        if not self._falls_back:
            return b""
        found = _BYTE.fullmatch(self._tokenizer.convert_ids_to_tokens(token) or "")
        return bytes([int(found[1], 16)]) if found else b""


def whole_characters(spelled: bytes) -> tuple[str, bytes]:
    """Return the text of UTF-8 bytes and what is left at their end: the beginning of a character, or nothing.

    Bytes that can belong to no character become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(spelled)
    return text, decoder.getstate()[0]


def _kinds(decoder: Any) -> Iterable[str]:
    """Yield the types of a decoder and of those inside it."""
    if isinstance(decoder, dict):
        if "type" in decoder:
            yield decoder["type"]
        for inner in decoder.get("decoders") or ():
            yield from _kinds(inner)


def _signs() -> dict[str, int]:
    """Return the byte that each sign of a byte-level vocabulary stands for: itself where it can be printed."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + k): byte for k, byte in enumerate(hidden)}


_BYTE_OF = _signs()
