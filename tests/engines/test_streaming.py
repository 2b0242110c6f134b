"""Text that is said piece by piece: never what a later token changes, never what a stop text cuts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engines.endings import Endings
from fairlead.engines.streaming import StopFilter, TextStream, stop_at

KNOWN = [
    (["Hel", "lo", " wor", "ld!\n# Que", "ry: x"], ["# Query", "# User"], ["Hel", "lo", " wor", "ld!\n", ""], True),
    (["a #", "# Us", "e it ", "# Q", "uery"], ["# Query", "# User"], ["a ", "#", "# Use it ", "", ""], True),
    (["abab", "ab", "ac"], ["abac"], ["ab", "ab", ""], True),
    (["x# Quer"], ["# Query"], ["x"], False),
]


@pytest.mark.parametrize(("pieces", "stops", "said", "stopped"), KNOWN)
def test_known_answers(pieces, stops, said, stopped):
    passes = StopFilter(stops)
    assert [passes.feed(piece) for piece in pieces] == said
    assert passes.stopped is stopped


def test_what_was_held_back_comes_at_the_end():
    passes = StopFilter(["# Query"])
    assert (passes.feed("x# Quer"), passes.end()) == ("x", "# Quer")


TEXTS = st.text(alphabet="ab#", max_size=12)


@given(st.lists(TEXTS, max_size=6), st.lists(st.text(alphabet="ab#", min_size=1, max_size=4), max_size=3))
def test_pieces_do_not_matter(pieces, stops):
    whole, passes = "".join(pieces), StopFilter(stops)
    said = "".join(map(passes.feed, pieces)) + passes.end()
    at = stop_at(whole, stops)
    assert said == (whole if at is None else whole[:at])
    assert passes.stopped is (at is not None)


UTF8 = st.lists(st.sampled_from(list("ab#é".encode())), min_size=1, max_size=14)


@given(UTF8, st.lists(st.text(alphabet="ab#é", min_size=1, max_size=4), max_size=3), st.integers(0, 15))
def test_what_is_complete_within_the_least_ends_nothing(ids, stops, least):
    """The stream says what is cut from the whole answer, byte by byte, half characters included."""
    endings = Endings(lambda part: bytes(part).decode(errors="replace"), frozenset(), tuple(stops), least=least)
    stream, said = TextStream(endings.decode, stops, least=least), ""
    last = next((n for n in range(1, len(ids) + 1) if endings.reached(ids[:n])), len(ids))
    for token in ids[:last]:
        said += stream.feed(token)
    kept, text, ended = endings.cut(ids[:last])
    assert said + stream.end() == text
    assert ended is (stream.filter.stopped)
    assert len(kept) == last
    assert not ended or last > least


def test_the_stop_that_is_complete_first_counts():
    assert stop_at("xabc", ["abc", "b"]) == 2
    assert stop_at("xab", ["ab", "b"]) == 1
    assert stop_at("x", ["y"]) is None
    assert [stop_at("abab", ["ab", "b"], deaf) for deaf in (0, 1, 2, 3, 4, 9)] == [0, 0, 2, 2, None, None]


def test_characters_are_said_whole():
    spelled = "\u00e9\U0001f642z".encode()
    stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"), ())
    assert [stream.feed(byte) for byte in spelled] == ["", "\u00e9", "", "", "", "\U0001f642", "z"]
    assert stream.end() == ""


def test_a_broken_character_at_the_end_is_said_as_decoded():
    stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"), ())
    assert [stream.feed(byte) for byte in b"a\xf0"] == ["a", ""]
    assert stream.end() == "\ufffd"
