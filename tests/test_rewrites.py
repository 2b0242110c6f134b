"""Where a message stands in a prompt, and what of it must survive a rewrite."""

from __future__ import annotations

import pytest

from fairlead.rewrites import between, last_user, losses, message_at, with_message

CHAT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "system", "content": "four"},
]


@pytest.mark.parametrize(
    ("prompt", "place", "message"),
    [("raw", 0, "raw"), (CHAT, 2, "three"), (CHAT[:2], 0, "one"), (CHAT[3:], -1, ""), ([], -1, "")],
)
def test_the_last_user_message_is_found(prompt, place, message):
    assert last_user(prompt) == place
    assert message_at(prompt, place) == message


def test_a_message_is_replaced_and_the_rest_is_left():
    assert with_message("raw", 0, "new") == "new"
    assert with_message(CHAT, 2, "new") == [*CHAT[:2], {"role": "user", "content": "new"}, CHAT[3]]
    assert CHAT[2]["content"] == "three"


def test_the_last_start_mark_counts_and_the_first_end_behind_it():
    assert between("<a>x</a> <a>y</a> z</a>", "<a>", "</a>") == "y"
    assert between("<a>open", "<a>", "</a>") == "open"
    assert between("none</a>", "<a>", "</a>") is None


def test_numbers_addresses_and_code_must_survive():
    text = "at 10:30, 2,5 m, see https://a.b/c). ```x = 1```"
    assert losses(text, text) == []
    assert losses(text, "10:30 and https://a.b/c") == ["2,5", "```x = 1```"]
