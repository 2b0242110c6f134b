"""What tokens spell in the middle of a text: their bytes, whatever vocabulary they are of."""

from __future__ import annotations

import pytest
from render.chat_styles import MAKERS, tokenizer_of

from fairlead.models import load_tokenizer
from fairlead.render import Renderer
from fairlead.render.spelling import whole_characters

TEXTS = [
    "hello ships",
    "the captain of the ferry.",
    " two  spaces\nand a line",
    "Überfahrt: 25 € 🚢 fünf",
    "1234 miles, isn't it?",
]
EXACT = [maker for maker in MAKERS if maker != "word-level"]


def renderer_of(maker: str) -> Renderer:
    return Renderer(tokenizer_of("chatml", maker))


@pytest.mark.parametrize("maker", EXACT)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_written_behind_another_spells_itself(maker, text):
    spelling = renderer_of(maker).spelling
    before = spelling.encode("the quay").ids
    ids = spelling.encode(text).ids
    assert spelling.spelled(ids, before) == text.encode()
    one_by_one = b"".join(spelling.spelled([token], [*before, *ids[:k]]) for k, token in enumerate(ids))
    assert one_by_one == text.encode()
    assert spelling.encode("").ids == []


@pytest.mark.parametrize("maker", ["byte-level", "metaspace"])
def test_bytes_of_one_character_come_one_by_one(maker):
    spelling = renderer_of(maker).spelling
    ids = spelling.encode("🚢").ids
    assert len(ids) == 4
    assert [spelling.spelled([token], ids[:k]) for k, token in enumerate(ids)] == [b"\xf0", b"\x9f", b"\x9a", b"\xa2"]
    assert whole_characters(spelling.spelled(ids[:3])) == ("", b"\xf0\x9f\x9a")
    assert whole_characters(spelling.spelled([*ids, ids[0]])) == ("🚢", b"\xf0")
    # What can become no character is replaced, and what follows is read on.
    assert whole_characters(spelling.spelled([*ids[:2], *spelling.encode("a").ids])) == ("\ufffda", b"")


@pytest.mark.parametrize("maker", MAKERS)
def test_special_tokens_spell_nothing(maker):
    renderer = renderer_of(maker)
    spelling = renderer.spelling
    assert renderer.stops <= spelling.silent
    for token in spelling.silent:
        assert spelling.spelled([token], spelling.encode("hello").ids) == b""


def test_word_pieces_get_their_space_from_what_stands_before():
    spelling = Renderer(load_tokenizer("harbor:base-300k")).spelling
    before = spelling.encode("the captain").ids
    of, mark = spelling.encode("of.").ids
    assert spelling.spelled([of], before) == b" of"
    assert spelling.spelled([of]) == b"of"
    assert spelling.spelled([mark], [*before, of]) == b"."
