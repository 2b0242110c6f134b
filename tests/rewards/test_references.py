"""Where references come from: records of any kind, several columns, equal prompts pooled; and what is refused."""

from __future__ import annotations

import json

import pytest

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.rewards.references import pooled, prompt_key


def asked(text, *more):
    return [*more, {"role": "user", "content": text}]


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def write(tmp_path):
    def put(*rows) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return put


def test_equal_prompts_share_their_references(write):
    path = write(
        {"id": "1", "prompt": asked("q"), "completion": said("a")},
        {"id": "2", "prompt": asked("other"), "completion": said("c")},
        {"id": "3", "prompt": asked("q"), "completion": said("b"), "references": ["a", "d"]},
    )
    assert pooled(path) == {prompt_key("q"): ("a", "b", "d"), prompt_key("other"): ("c",)}
    assert pooled(path, most=2)[prompt_key("q")] == ("a", "b")
    assert pooled([path, "harbor:demonstrations?n=3"]).keys() > pooled(path).keys()


def test_a_system_message_changes_nothing_and_other_turns_do():
    system = {"role": "system", "content": "think first"}
    assert prompt_key(asked("q", system)) == prompt_key(asked("q")) == prompt_key("q")
    assert prompt_key(asked("q", *asked("before"), *said("a"))) != prompt_key("q")


def test_columns_are_named(write):
    path = write(
        {"id": "1", "prompt": "q", "completion": "a", "references": ["r"], "strong": "s"},
        {"id": "2", "prompt": "p", "completion": "a", "references": ["r"], "strong": ["t", "u"]},
    )
    assert pooled(path)[prompt_key("q")] == ("a", "r")
    assert pooled(path, ["strong"]) == {prompt_key("q"): ("s",), prompt_key("p"): ("t", "u")}
    assert pooled(path, ["references", "completion"])[prompt_key("q")] == ("r", "a")
    with pytest.raises(DataError, match=r"record 1: has no column .weak.") as refused:
        pooled(path, ["weak"])
    assert refused.value.fix == "there are references, strong"


def test_the_chosen_answer_of_a_pair_is_a_reference_only_where_it_is_named(write):
    path = write({"id": "1", "prompt": "q", "chosen": "a", "rejected": "b"})
    with pytest.raises(DataError, match="record 1: a preference record without references"):
        pooled(path)
    assert pooled(path, ["chosen"]) == {prompt_key("q"): ("a",)}


def test_whole_conversations_are_answered_by_their_last_turn(write):
    turns = [*asked("q"), *said("a"), *asked("more"), *said("b")]
    path = write({"id": "1", "messages": turns})
    assert pooled(path) == {prompt_key(turns[:3]): ("b",)}


@pytest.mark.parametrize("given", ["", "  ", [], ["a", " "], [3], None])
def test_what_is_blank_or_no_text_is_refused(write, given):
    path = write({"id": "7", "prompt": "q", "completion": "a", "references": given})
    with pytest.raises(DataError, match="record 7"):
        pooled(path)
    with pytest.raises((DataError, UsageError)):
        fairlead.reward("bleu", references={"q": given})


def test_a_prompt_without_references_is_named_or_abstained_on():
    with pytest.raises(UsageError, match="no reference to the prompt 'who'"):
        fairlead.reward("bleu", references={"q": "a"})(["q", "who"], ["a", "a"])
    found = fairlead.reward("bleu", references={"q": "a"}, unknown="abstain")(["q", "who"], ["a", "a"])
    assert found.abstained.tolist() == [False, True]


def test_references_of_harbor():
    rows = list(fairlead.read("harbor:demonstrations?n=20&quality=clean"))
    found = fairlead.reward("bleu", references="harbor:demonstrations?n=20&quality=clean")(
        [r.prompt for r in rows], [r.completion[0]["content"] for r in rows]
    )
    assert (found.values == 1).all()


def test_lists_of_unequal_length_and_no_source_are_refused():
    with pytest.raises(UsageError, match="2 prompts but 1 completions"):
        fairlead.reward("rouge_l", references={"q": "a"})(["q", "q"], ["a"])
    with pytest.raises(UsageError, match="references is empty"):
        fairlead.reward("rouge_l", references="")
    with pytest.raises(UsageError, match="a mapping has no columns"):
        fairlead.reward("rouge_l", references={"q": "a"}, columns=["completion"])


def test_more_prompts_than_are_kept_prepared(monkeypatch):
    monkeypatch.setattr("fairlead.rewards.references._KEPT", 2)
    reward = fairlead.reward("bleu", references={name: name for name in "abcd"})
    assert reward(list("abcdabcd"), list("abcdabcd")).values.tolist() == [1] * 8
