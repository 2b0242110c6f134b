"""An instruction joins a prompt without changing what was there."""

from __future__ import annotations

from fairlead.messages import instruct

USER = {"role": "user", "content": "where?"}
SYSTEM = {"role": "system", "content": "be kind"}


def test_an_instruction_gets_its_own_message_or_joins_the_one_of_its_role():
    assert instruct([USER], "be true") == [{"role": "system", "content": "be true"}, USER]
    assert instruct([SYSTEM, USER], "be true") == [{"role": "system", "content": "be true\nbe kind"}, USER]
    assert instruct([SYSTEM, USER], "be true", "user") == [SYSTEM, {"role": "user", "content": "be true\nwhere?"}]


def test_only_the_first_message_of_the_role_changes():
    turns = [USER, {"role": "assistant", "content": "there"}, USER]
    assert instruct(turns, "be true", "user") == [{"role": "user", "content": "be true\nwhere?"}, *turns[1:]]


def test_raw_text_and_no_instruction():
    assert instruct("where?", "be true") == instruct("where?", "be true", "user") == "be true\nwhere?"
    turns = [USER]
    assert instruct(turns, "") is turns
    instruct(turns, "be true", "user")
    assert turns == [{"role": "user", "content": "where?"}]
