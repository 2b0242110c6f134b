"""Other people's row shapes, on small rows and on the real file."""

from __future__ import annotations

import json

import pytest

from fairlead.errors import DataError
from fairlead.records import read


def save(folder, *rows):
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def hh(folder, chosen, rejected):
    return read(save(folder, {"chosen": chosen, "rejected": rejected, "source": "x"}), format="hh")[0]


def test_hh_prompt_is_the_common_dialogue(tmp_path):
    start = "\n\nHuman: hi there\n\nAssistant: hello\n\nHuman: who?\n\nAssistant:"
    record = hh(tmp_path, f"{start} ada.", f"{start} go\n\naway.\n")
    assert record.prompt == (user("hi there"), assistant("hello"), user("who?"))
    assert record.chosen == (assistant("ada."),)
    assert record.rejected == (assistant("go\n\naway."),)
    assert record.extra == {"source": "x"}


def test_hh_dialogues_that_part_earlier_keep_every_turn(tmp_path):
    record = hh(
        tmp_path,
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
        "\n\nHuman: a\n\nAssistant: B\n\nHuman: c\n\nAssistant: d",
    )
    assert record.prompt == (user("a"),)
    assert record.chosen == (assistant("b"), user("c"), assistant("d"))
    assert record.rejected == (assistant("B"), user("c"), assistant("d"))
    record = hh(
        tmp_path,
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: C\n\nAssistant: d",
    )
    assert record.prompt == (user("a"),)
    assert record.chosen == (assistant("b"), user("c"), assistant("d"))


def test_hh_paragraphs_of_one_speaker_are_one_turn_and_counted(tmp_path):
    record = hh(
        tmp_path,
        "\n\nHuman: a\n\nAssistant: b Human: c?\n\nAssistant:  d",
        "\n\nHuman: a\n\nAssistant: e",
    )
    assert record.chosen == (assistant("b Human: c?\n\nd"),)
    assert record.extra["joined_turns"] == 1


@pytest.mark.parametrize(
    ("chosen", "rejected", "told"),
    [
        ("\n\nHuman: a\n\nAssistant: ", "\n\nHuman: a\n\nAssistant: b", "chosen[0].content: expected some text"),
        ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: b", "rejected: expected the first human turn"),
        ("Human: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: b", "chosen: expected a dialogue that begins with"),
        ("\n\nHuman: a\n\nAssistant: b", 3, "rejected: expected a dialogue that begins with"),
        ("\n\nHuman: a", "\n\nHuman: a\n\nAssistant: b", "rejected: expected the first human turn"),
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "\n\nHuman: a\n\nAssistant: d\n\nHuman: c", None),
    ],
)
def test_hh_rows_that_cannot_be_pairs(tmp_path, chosen, rejected, told):
    if told is None:  # a dialogue may go on after the answers that differ
        assert hh(tmp_path, chosen, rejected).chosen == (assistant("b"), user("c"))
        return
    with pytest.raises(DataError) as caught:
        hh(tmp_path, chosen, rejected)
    assert told in str(caught.value)


def test_every_row_of_the_real_file_is_read_or_named(shared_data):
    path = shared_data / "hh_rlhf" / "harmless-base-test.jsonl.gz"
    with pytest.raises(DataError) as caught:
        read(path, format="hh")
    assert "4 of 2312 rows cannot be read" in str(caught.value)
    assert "line 87, chosen[0].content: expected some text, found an empty text" in str(caught.value)
    records = read(path, format="hh", bad_rows="drop")
    assert (records.kind, len(records), len(records.dropped)) == ("preference", 2308, 4)
    assert sum("joined_turns" in record.extra for record in records) == 9
    assert all(record.prompt[-1]["role"] == "user" for record in records)
    assert all(len(record.chosen) == len(record.rejected) == 1 for record in records)
    assert all(record.chosen != record.rejected for record in records)


def test_real_pairs_lose_no_character_but_white_space(shared_data):
    import gzip

    path = shared_data / "hh_rlhf" / "harmless-base-test.jsonl.gz"
    records = {record.extra["line"]: record for record in _with_lines(path)}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if number not in records:
                continue
            row, record = json.loads(line), records[number]
            for column in ("chosen", "rejected"):
                said = "".join(m["content"] for m in (*record.prompt, *getattr(record, column)))
                plain = row[column].replace("\n\nHuman:", "").replace("\n\nAssistant:", "")
                assert "".join(said.split()) == "".join(plain.split())
    assert len(records) == 2308


def _with_lines(path):
    """Read the real file with the number of its line as a column."""
    import gzip
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, gzip.open(path, "rt", encoding="utf-8") as file:
        copy = Path(folder) / "numbered.jsonl"
        copy.write_text("".join(json.dumps(json.loads(t) | {"line": i}) + "\n" for i, t in enumerate(file, start=1)))
        return list(read(copy, format="hh", bad_rows="drop"))


def test_bbq(tmp_path):
    row = {
        "context": "Ada met Bo.", "question": "Who fell?", "ans0": "Ada", "ans1": "Bo", "ans2": "unknown", "label": 2,
        "category": "Names", "example_id": 7, "question_polarity": "neg",
    }  # fmt: skip
    (record,) = read(save(tmp_path, row), format="bbq")
    assert (record.id, record.prompt) == ("Names-7", (user("Ada met Bo. Who fell?"),))
    assert record.extra["options"] == ["Ada", "Bo", "unknown"]
    assert (record.extra["answer"], record.extra["question_polarity"]) == (2, "neg")
    (own,) = read(save(tmp_path, row | {"id": "mine"}), format="bbq")
    assert own.id == "mine"
    for changes, told in (
        ({"ans1": None}, "ans1: expected text"),
        ({"context": " "}, "context: expected text"),
        ({"label": 3}, "label: expected 0, 1 or 2"),
        ({"label": True}, "label: expected 0, 1 or 2"),
    ):
        with pytest.raises(DataError) as caught:
            read(save(tmp_path, row | changes), format="bbq")
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("winner", "scores"),
    [("model_a", (1, 0)), ("model_b", (0, 1)), ("tie", (0.5, 0.5)), ("tie (bothbad)", (0.5, 0.5))],
)
def test_arena(tmp_path, winner, scores):
    flat = {"id": "1", "prompt": "q", "response_a": "a", "response_b": "b", "winner": winner, "references": ["r"]}
    one, other = ([user("q"), assistant(text)] for text in "ab")
    chat = {"question_id": "2", "conversation_a": one, "conversation_b": other, "winner": winner, "turn": 1}
    for record in read(save(tmp_path, flat, chat), format="arena"):
        assert (record.prompt, record.scores) == ((user("q"),), scores)
        assert record.completions == ((assistant("a"),), (assistant("b"),))
        assert record.extra["winner"] == winner


def test_arena_of_several_turns_and_what_is_refused(tmp_path):
    start = [user("q"), assistant("a"), user("p")]
    row = {"question_id": "1", "winner": "tie", "conversation_a": [*start, assistant("b")]}
    (record,) = read(save(tmp_path, row | {"conversation_b": [*start, assistant("c")]}), format="arena")
    assert (len(record.prompt), record.id) == (3, "1")
    flat = {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "tie"}
    for wrong, told in (
        (row | {"conversation_b": [user("other"), assistant("c")]}, "the first user turn of conversation_a"),
        (row | {"conversation_b": "c"}, "conversation_b: expected a list of"),
        (flat | {"winner": "both"}, "winner: expected model_a or model_b"),
        (flat | {"response_b": None}, "response_b: expected text"),
    ):
        with pytest.raises(DataError) as caught:
            read(save(tmp_path, wrong), format="arena")
        assert told in str(caught.value)


def test_alpaca(tmp_path):
    rows = [
        {"instruction": "add", "input": "1 2", "output": "3", "text": "x"},
        {"instruction": "greet", "input": "", "output": "hi"},
        {"instruction": "greet", "output": "hello"},
    ]
    first, second, third = read(save(tmp_path, *rows), format="alpaca")
    assert first.prompt == (user("add\n\n1 2"),)
    assert first.completion == (assistant("3"),)
    assert first.extra == {"text": "x"}
    assert second.prompt == third.prompt == (user("greet"),)
    assert read(save(tmp_path, {"instruction": "greet"}), format="alpaca").kind == "prompt"
    for row, told in (
        ({"instruction": 3}, "instruction: expected text"),
        ({"instruction": "a", "input": [1]}, "input: expected text"),
        ({"instruction": "a", "output": ""}, "completion[0].content: expected some text"),
    ):
        with pytest.raises(DataError) as caught:
            read(save(tmp_path, row), format="alpaca")
        assert told in str(caught.value)


def test_sharegpt(tmp_path):
    turns = [("system", "s"), ("human", "a"), ("gpt", "b"), ("user", "c"), ("assistant", "d")]
    row = {"conversations": [{"from": who, "value": text} for who, text in turns], "id": "x"}
    (record,) = read(save(tmp_path, row), format="sharegpt")
    assert [m["role"] for m in record.completion] == ["system", "user", "assistant", "user", "assistant"]
    assert record.id == "x"
    for bad, told in (
        ({"conversations": [{"from": "bing", "value": "a"}]}, "conversations[0].from: expected system or human"),
        ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "a"}]}, "messages[0].content: expected text"),
        ({"conversations": "a"}, "expected a list of {from, value}"),
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "messages: expected an optional system message, then"),
    ):
        with pytest.raises(DataError) as caught:
            read(save(tmp_path, bad), format="sharegpt")
        assert told in str(caught.value)
