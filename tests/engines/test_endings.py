from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.engines.endings import Endings

PIECES = ["a", "b", "ab", "ba", " ", "", "aab", "c"]
END = len(PIECES)


def decode(ids) -> str:
    return "".join(PIECES[i] for i in ids if i != END)


@given(
    ids=st.lists(st.integers(0, END), min_size=1, max_size=60),
    texts=st.lists(st.text("abc ", min_size=1, max_size=4), max_size=3),
)
def test_endings_are_those_of_a_plain_scan(ids, texts):
    endings = Endings(decode, frozenset({END}), tuple(texts))
    wanted = None
    for n in range(1, len(ids) + 1):
        text = decode(ids[:n])
        found = [text.index(stop) for stop in texts if stop in text]
        if found:
            wanted = (ids[:n], text[: min(found)], True)
        elif ids[n - 1] == END:
            wanted = (ids[:n], text, True)
        if wanted:
            break
    taken: list[int] = []
    for token in ids:
        taken.append(token)
        if endings.reached(taken):
            break
    assert endings.cut(taken) == (wanted or (ids, decode(ids), False))


def test_a_stop_text_in_a_window_of_empty_tokens_is_still_cut():
    """Tokens without text can push a stop text out of the window that is looked at; the end result is the same."""
    empty = PIECES.index("")
    endings = Endings(decode, frozenset({END}), ("ab",))
    ids = [0] + [empty] * 100 + [1, 7]
    assert endings.cut(ids) == (ids[:-1], "", True)


def test_a_window_that_reads_differently_alone_does_not_end():
    def reads_marks(ids):
        return decode(ids).removeprefix("c") if len(ids) <= 20 else decode(ids).replace("b", "-")

    endings = Endings(reads_marks, frozenset({END}), ("ab",))
    assert not endings.reached([0] * 25 + [1])
