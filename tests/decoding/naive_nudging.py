"""Nudging written down plainly: no caches, no batches, one whole forward per token, no guesses. The oracle."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch


def signs_of_bytes() -> dict[str, int]:
    """How a byte-level vocabulary writes bytes: learned by showing a pre-tokenizer all that text can hold."""
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found = {chr(byte): byte for byte in (0xC0, 0xC1, *range(0xF5, 0x100))}  # in no text; these stand for themselves
    for text in map(
        chr, [*range(0x800), *range(0x800, 0xD800, 0x800), 0xE000, 0xF000, *range(0x10000, 0x110000, 0x8000)]
    ):
        ((shown, _),) = level.pre_tokenize_str(text)
        found |= dict(zip(shown, text.encode()))
    assert len(found) == 256
    return found


SIGNS = signs_of_bytes()


def whole(raw: bytes) -> tuple[str, bytes]:
    reader = codecs.getincrementaldecoder("utf-8")("replace")
    return reader.decode(raw), reader.getstate()[0]


@dataclass
class Model:
    """A model with its tokenizer and its prompt."""

    model: Any
    tokenizer: Any
    prompt: list[int]
    stops: set[int]
    forwards: int = 0
    specials: set[int] = field(init=False)
    silent: set[int] = field(init=False)

    def __post_init__(self):
        self.specials = {k for k, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        self.silent = self.specials | self.stops
        self.vocabulary = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        self.pieces, self.plain = "▁" in self.vocabulary, " " in self.vocabulary

    @property
    def positions(self) -> int:
        return self.model.config.max_position_embeddings

    def encode(self, text: str) -> list[int]:
        if not self.pieces:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = self.tokenizer("\n" + text, add_special_tokens=False)["input_ids"]
        anchor = self.tokenizer("\n", add_special_tokens=False)["input_ids"]
        assert ids[: len(anchor)] == anchor
        return ids[len(anchor) :]

    def raw(self, ids: list[int], after: list[int]) -> bytes:
        """The bytes of every token, one by one."""
        out = b""
        for token in ids:
            text = self.tokenizer.convert_ids_to_tokens(token)
            if token in self.specials:
                continue
            if self.plain:
                out += text.encode()
            elif not self.pieces:
                out += bytes(SIGNS[sign] for sign in text)
            elif byte := re.fullmatch("<0x(..)>", text):
                out += bytes([int(byte[1], 16)])
            else:
                out += text.replace("▁", " ").encode()
        first = [token for token in [*after, *ids] if token not in self.specials][:1]
        # A decoder leaves out the space that its tokenizer put before the first word.
        if self.pieces and not after and first and self.tokenizer.convert_ids_to_tokens(first[0]).startswith("▁"):
            out = out[1:]
        return out

    @torch.inference_mode()
    def after(self, ids: list[int]) -> tuple[int, float]:
        self.forwards += 1
        logits = self.model(torch.tensor([[*self.prompt, *ids]])).logits[0, -1].float()
        top, token = torch.softmax(logits, -1).max(-1)
        return int(token), float(top)


def by_words(nudger: Model, draft: list[int], context: list[int], text: str) -> list[str]:
    """The first word with all spaces before it, and every other with the one space before it."""
    spaces = len(text) - len(text.lstrip(" "))
    first, *others = text[spaces:].split(" ")
    return [" " * spaces + first, *(" " + word for word in others)]


def by_tokens(nudger: Model, draft: list[int], context: list[int], text: str) -> list[str]:
    """What each token of the draft adds in whole characters, without what adds none."""
    ends = [len(whole(nudger.raw(draft[:k], context))[0]) for k in range(len(draft) + 1)]
    return [text[start:end] for start, end in pairwise(ends) if end > start] or [""]


places = {"space": by_words, "token": by_tokens}


def nudged(base: Model, nudger: Model, method, limit: int) -> tuple[list[tuple[str, str]], str]:
    """Return (source, text) of every segment, and why the answer ended."""
    limit = min(limit, base.positions - len(base.prompt))
    segments: list[tuple[str, str]] = []
    last, repeats = "", -1
    for _ in range(method.max_rounds):
        out = "".join(text for _, text in segments)
        context = nudger.encode(out)
        most = min(method.draft_tokens, nudger.positions - len(nudger.prompt) - len(context))
        if most < 1:
            return segments, "length"
        draft, ended = drafted(nudger, context, most)
        text, _ = whole(nudger.raw(draft, context))
        if ended:
            segments += [("nudge", text)] if text else []
            return segments, "length" if too_long(base, segments, limit, final=True) else "nudger_eos"
        pieces = places[method.boundary](nudger, draft, context, text)
        taken = taken_over(base, method, out, pieces, limit)
        nudge = taken[0] if taken else text if len(pieces) == 1 else "".join(pieces[:-1])
        repeats = repeats + 1 if nudge == last else 0
        last = nudge
        if repeats == method.repeat_limit:
            return segments, "repeat"
        segments += [("nudge", nudge)] if nudge else []
        if too_long(base, segments, limit):
            return segments, "length"
        if taken:
            _, ids, run = taken
            full = run_on(base, method, ids, run, limit)
            text, _ = whole(base.raw(run, ids))
            segments += [("base", text)] if text else []
            if too_long(base, segments, limit) or full:
                return segments, "length"
    return segments, "rounds"


def drafted(nudger: Model, context: list[int], most: int) -> tuple[list[int], bool]:
    """Return the tokens of a draft, and whether the nudger ended the answer with it."""
    draft: list[int] = []
    while len(draft) < most:
        token, _ = nudger.after([*context, *draft])
        if token in nudger.stops:
            return draft, True
        draft.append(token)
    return draft, False


def taken_over(base: Model, method, out: str, pieces: list[str], limit: int):
    """Return the nudge, the base's tokens of the text with it, and what the base begins with; None if it does not."""
    for i in range(1, len(pieces)):
        if method.boundary == "space" and pieces[i] == " ":  # an empty word
            continue
        prefix = "".join(pieces[:i])
        ids = base.encode(out + prefix)
        if len(ids) >= limit:
            continue
        first, top = base.after(ids)
        raw = b"" if first in base.silent else base.raw([first], ids)
        agrees = method.agree and pieces[i].encode().startswith(raw)
        if not raw or not (agrees or top >= method.gamma):
            continue
        begin = [first]
        while whole(base.raw(begin, ids))[1] and len(begin) <= 4 and len(ids) + len(begin) < limit:
            more, _ = base.after([*ids, *begin])
            if more in base.silent:
                break
            begin.append(more)
        if not whole(base.raw(begin, ids))[1]:
            return prefix, ids, begin
    return None


def run_on(base: Model, method, ids: list[int], run: list[int], limit: int) -> bool:
    """Let the base go on while it is sure; say whether it reached the limit."""
    del run[limit - len(ids) :]
    while len(ids) + len(run) < limit:
        token, top = base.after([*ids, *run])
        if top < method.gamma or token in base.silent:
            return False
        run.append(token)
    return True


def too_long(base: Model, segments: list[tuple[str, str]], limit: int, *, final: bool = False) -> bool:
    """Cut the answer to the limit, counted by the base's tokenizer; say whether it is reached."""
    out = "".join(text for _, text in segments)
    count = len(base.encode(out))
    if count > limit:
        left = len(shortened(base, out, limit))
        whole_segments, segments[:] = list(segments), []
        for source, text in whole_segments:
            segments += [(source, text[:left])] if left else []
            left = max(0, left - len(text))
    return count > limit or (count == limit and not final)


def shortened(base: Model, text: str, limit: int) -> str:
    """Return a text up to where its token number `limit` starts."""
    offsets = base.tokenizer(
        "\n" + text if base.pieces else text, add_special_tokens=False, return_offsets_mapping=True
    )
    skipped = len(base.tokenizer("\n", add_special_tokens=False)["input_ids"]) if base.pieces else 0
    start = offsets["offset_mapping"][limit + skipped][0] - (1 if base.pieces else 0)
    return text[:start].rstrip(" ")
