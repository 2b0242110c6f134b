"""Reading: every kind, every container, what is refused and how it is told."""

from __future__ import annotations

import gzip
import json
import logging

import pytest

from fairlead.errors import DataError, UnknownFieldError, UnknownNameError, UsageError
from fairlead.records import (
    Conversation,
    Feedback,
    Preference,
    PromptOnly,
    Ranking,
    Text,
    read,
    texts,
    to_row,
    write,
)

ASK = {"role": "user", "content": "who?"}
SAY = {"role": "assistant", "content": "ada."}
SYSTEM = {"role": "system", "content": "be kind"}

ROWS = {
    "conversation": {"prompt": [SYSTEM, ASK], "completion": [SAY]},
    "preference": {"prompt": "who", "chosen": " is it", "rejected": " isn't"},
    "feedback": {"prompt": [ASK], "completion": "ada.", "label": False},
    "ranking": {"prompt": [ASK], "completions": ["ada.", [SAY, ASK, SAY], "no"], "scores": [1, 0.5, -2]},
    "prompt": {"prompt": [ASK, SAY, ASK]},
    "text": {"text": "the ship"},
}


def save(folder, *rows, name="data.jsonl"):
    path = folder / name
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def refused(path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert caught.value.fix
    return str(caught.value)


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "row"), ROWS.items())
def test_each_kind_is_told_by_its_columns(tmp_path, kind, row):
    records = read(save(tmp_path, row | {"note": 7}))
    assert records.kind == records[0].kind == kind
    assert records[0].extra == {"note": 7}
    assert len(records[0].id) == 16


def test_values_arrive_as_given(tmp_path):
    (record,) = read(save(tmp_path, ROWS["ranking"] | {"id": 12}))
    assert record == Ranking("12", (ASK,), ("ada.", (SAY, ASK, SAY), "no"), (1.0, 0.5, -2.0))
    (record,) = read(save(tmp_path, ROWS["feedback"] | {"id": "a"}))
    assert record == Feedback("a", (ASK,), "ada.", False)
    (record,) = read(save(tmp_path, {"messages": [SYSTEM, ASK, SAY, ASK], "prompt": "who?", "id": "a"}))
    assert record == Conversation("a", (), (SYSTEM, ASK, SAY, ASK), {"prompt": "who?"})


def test_a_preference_without_prompt_begins_alike(tmp_path):
    other = {"role": "assistant", "content": "bo."}
    (record,) = read(save(tmp_path, {"chosen": [SYSTEM, ASK, SAY], "rejected": [SYSTEM, ASK, other]}))
    assert (record.prompt, record.chosen, record.rejected) == ((SYSTEM, ASK), (SAY,), (other,))
    message = refused(save(tmp_path, {"chosen": [ASK, SAY], "rejected": [SYSTEM, ASK, SAY]}))
    assert "line 1, prompt: expected a value in a preference row, found nothing" in message


def test_null_keys_of_messages_and_null_columns_are_absent(tmp_path):
    row = {"prompt": [ASK | {"name": None}], "completion": [SAY], "chosen": None, "messages": None}
    (record,) = read(save(tmp_path, row))
    assert record.prompt == (ASK,)


def test_read_as_another_kind(tmp_path):
    path = save(tmp_path, {"prompt": [ASK], "chosen": [SAY], "rejected": "no", "source": "x"})
    (prompt,) = read(path, kind="prompt")
    assert prompt == PromptOnly(prompt.id, (ASK,), {"source": "x"})
    (conversation,) = read(path, kind="conversation")
    assert conversation == Conversation(prompt.id, (ASK,), (SAY,), {"source": "x"})
    (text,) = read(path, kind="text")
    assert text == Text(prompt.id, "who?\n\nada.", {"source": "x"})
    (whole,) = read(save(tmp_path, {"messages": [ASK, SAY, ASK, SAY, ASK]}), kind="prompt")
    assert whole.prompt == (ASK, SAY, ASK)
    assert "cannot" in refused(save(tmp_path, ROWS["text"]), kind="prompt")


def test_a_pair_falls_into_two_thumbs(tmp_path):
    pair = ROWS["preference"] | {"margin": 2}
    up, down = read(save(tmp_path, pair | {"id": "a"}), kind="feedback")
    assert up == Feedback("a-chosen", "who", " is it", True, {"margin": 2})
    assert down == Feedback("a-rejected", "who", " isn't", False, {"margin": 2})
    twice = read(save(tmp_path, pair, pair), kind="feedback")
    assert len({record.id for record in twice}) == 4
    assert twice.place(twice[3].id).endswith("line 2")
    assert len(read(save(tmp_path, pair, pair), kind="feedback", limit=3)) == 3
    assert len(read(f"{save(tmp_path, pair, pair)}?limit=1", kind="feedback")) == 1
    message = refused(save(tmp_path, pair | {"id": "a"}, pair | {"id": "a"}), kind="feedback")
    assert "line 2, id: expected an id of its own" in message


def test_another_kind_reads_rows_whose_other_columns_mislead(tmp_path):
    row = {"prompt": "who", "completion": " is", "label": "news"}
    assert "label: expected true or false, found the text 'news'" in refused(save(tmp_path, row))
    (record,) = read(save(tmp_path, row), kind="conversation")
    assert record.extra == {"label": "news"}
    assert read(save(tmp_path, {"text": "x", "label": 3}))[0].extra == {"label": 3}


# --- containers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz"])
def test_what_is_written_reads_back_equal(tmp_path, kind, name):
    records = read(save(tmp_path, ROWS[kind] | {"extra": {"a": [1, None]}}, ROWS[kind], name="in.jsonl"))
    path = tmp_path / "sub" / name
    assert write(records, path) == 2
    again = read(path)
    assert list(again) == list(records)
    assert again.fingerprint == records.fingerprint
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_writing_refuses_what_json_cannot_hold(tmp_path):
    with pytest.raises(UsageError, match="record a"):
        write([Text("a", "x", {"when": object()})], tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="JSONL"):
        write([], tmp_path / "a.csv")


def test_containers_give_the_same_records(tmp_path):
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": str(i), "prompt": [ASK], "completion": [SAY], "n": i} for i in range(3)]
    expected = list(read(save(tmp_path, *rows)))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    made = datasets.Dataset.from_list(rows)
    made.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk(tmp_path / "two")
    for name in ("a.json", "a.json.gz", "a.parquet", "one", "two:train"):
        assert list(read(tmp_path / name)) == expected, name
    assert len(read(f"{tmp_path}/two:test")) == 1
    assert "has several splits" in refused(tmp_path / "two")
    assert "no split 'dev'" in refused(f"{tmp_path}/two:dev")
    assert "no folder of the datasets library" in refused(tmp_path)


def test_csv_cells_are_text_except_label_and_json_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion,label,id\n"a, b",12,TRUE,x\n"two\nlines",no,false,y\n')
    first, second = read(path)
    assert first == Feedback("x", "a, b", "12", True)
    assert second == Feedback("y", "two\nlines", "no", False)
    path.write_text('prompt,completions,scores\nq,"[""a"", ""b""]","[1, 2]"\n')
    assert read(path)[0].completions == ("a", "b")
    path.write_text("prompt,completion\na,b\nc\n")
    assert "line 3, row: expected 2 cells, found 1 cells" in refused(path)
    path.write_text("prompt,prompt\na,b\n")
    assert "two columns of one name" in refused(path)
    path.write_text('prompt,completions,scores\nq,"[a]","[1]"\n')
    assert "line 2, completions: expected JSON in the cell" in refused(path)


def test_harbor_sets_and_several_sources(tmp_path):
    from fairlead import harbor

    for info in harbor.sets():
        assert read(f"harbor:{info.name}?n=4").kind == info.kind
    both = read(["harbor:test?n=2", save(tmp_path, {"prompt": [ASK]})])
    assert len(both) == 3
    assert both.source.startswith("harbor:test?n=2, ")
    with pytest.raises(UnknownNameError, match="preferences"):
        read("harbor:preferencs")
    assert f"{tmp_path}" in refused(["harbor:test?n=2", save(tmp_path, {"text": "x"})])


def test_options_behind_the_question_mark(tmp_path):
    path = save(tmp_path, *({"text": f"document {i}"} for i in range(400)))
    assert len(read(f"{path}?limit=7")) == 7
    assert len(read([f"{path}?limit=7", "harbor:documents?n=9&limit=2"], limit=8)) == 8
    train, held_out = (read(f"{path}?part={part}&held_out=0.25") for part in ("train", "held_out"))
    assert {r.text for r in train}.isdisjoint(r.text for r in held_out)
    assert len(train) + len(held_out) == 400
    assert 70 <= len(held_out) <= 130
    reversed_path = save(tmp_path, *({"text": f"document {i}"} for i in reversed(range(400))), name="b.jsonl")
    assert {r.text for r in read(f"{reversed_path}?part=held_out&held_out=0.25")} == {r.text for r in held_out}
    for source, error in (
        (f"{path}?fromat=hh", UnknownFieldError),
        (f"{path}?limit=1&limit=2", UsageError),
        (f"{path}?limit=few", UsageError),
        (f"{path}?part=test", UnknownNameError),
        (f"{path}?held_out=2", UsageError),
        (f"{path}?format=hhh", UnknownNameError),
        (f"{path}?kind=texts", UnknownNameError),
        ([], UsageError),
    ):
        with pytest.raises(error):
            read(source)
    with pytest.raises(UsageError, match="limit is 0"):
        read(path, limit=0)


def test_a_part_is_the_same_rows_whatever_they_are_read_as(tmp_path):
    rows = [
        {"id": f"{i}{j}", "prompt": [{"role": "user", "content": f"q{i}"}, *more], "chosen": "a", "rejected": "b"}
        for i in range(40)
        for j, more in enumerate(([], [SAY, ASK]))
    ]
    path = save(tmp_path, *rows)
    sides = {
        kind: {r.id for r in read(f"{path}?part=held_out&held_out=0.4", kind=kind)}
        for kind in ("preference", "conversation", "prompt", "text")
    }
    first = sides["preference"]
    assert 0 < len(first) < 80
    assert all(side == first for side in sides.values())
    assert {i[:-1] + "0" for i in first} == {
        i for i in first if i.endswith("0")
    }  # both cuts of a conversation together


# --- ids, fingerprints, slices ----------------------------------------------------------------------------------------


def test_ids_are_unique(tmp_path):
    message = refused(save(tmp_path, {"id": "a", "text": "x"}, {"text": "y"}, {"id": "a", "text": "z"}))
    assert "line 3, id: expected an id of its own, found 'a', as at line 1" in message
    records = read(save(tmp_path, {"text": "x"}, {"text": "x", "n": 1}, {"text": "x"}))
    assert [r.id for r in records] == [records[0].id, f"{records[0].id}-2", f"{records[0].id}-3"]
    assert "id: expected a text or whole number" in refused(save(tmp_path, {"id": True, "text": "x"}))


def test_fingerprint_follows_content_order_and_columns(tmp_path):
    rows = [{"text": "x"}, {"text": "y"}]
    made = [rows, rows[::-1], [rows[0]], [rows[0] | {"n": 1}, rows[1]], [{"text": "x "}, rows[1]]]
    prints = [read(save(tmp_path, *group)).fingerprint for group in made]
    assert len(set(prints)) == len(made)
    assert read(save(tmp_path, *rows, name="other.jsonl")).fingerprint == prints[0]


def test_slices_are_records():
    records = read("harbor:test?n=6")
    assert len(records[2:4]) == 2
    assert records[2:4].kind == "prompt"
    assert records[2:4][0] == records[2]


def test_texts_of_a_record_in_order():
    record = Ranking("a", (ASK,), ("b", (SAY, ASK, SAY)), (1.0, 2.0), {"c": "d"})
    assert list(texts(record)) == ["who?", "b", "ada.", "who?", "ada."]
    assert list(texts(Preference("a", "p", "c", "r"))) == ["p", "c", "r"]
    assert to_row(Conversation("a", (), (ASK, SAY), {"n": 1})) == {"id": "a", "messages": [ASK, SAY], "n": 1}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (b'{"text": ', "line 2, row: expected JSON, found expecting value at column 9"),
        (b'{"text": "a", "text": "b"}', "line 2, text: expected each key once"),
        (b'{"text": {"a": 1, "a": 2}}', "line 2, a: expected each key once"),
        (b"[1, 2]", "line 2, row: expected an object"),
        (b'"text"', "line 2, row: expected an object"),
        ({"text": 3}, "line 2, text: expected text, found the number 3"),
        ({"text": "  \n"}, "line 2, text: expected some text, found an empty text"),
        ({"text": None}, "columns: text"),
        ({}, "found columns: none"),
        ({"question": "a", "answer": "b"}, "found columns: question, answer"),
        ({"prompt": "a"}, "line 2, row: expected a text row"),
        ({"text": "a" * 1_000_001}, "expected at most 1,000,000 bytes, found 1,000,013 bytes"),
    ],
)
def test_bad_lines_are_named(tmp_path, row, told):
    message = refused(save(tmp_path, {"text": "good"}, row, {"text": "also good"}))
    assert told in message
    assert "1 of 3 rows cannot be read" in message
    assert "data.jsonl: " in message


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": [SAY], "completion": "x"}, "prompt: expected an optional system message, then user"),
        ({"prompt": [ASK, SYSTEM], "completion": "x"}, "found user, system"),
        ({"prompt": [ASK, ASK], "completion": "x"}, "found user, user"),
        ({"prompt": [SYSTEM], "completion": "x"}, "prompt: expected a user message at the end, found system"),
        ({"prompt": [ASK, SAY], "completion": "x"}, "expected a user message at the end, found user, assistant"),
        ({"prompt": [ASK], "completion": [ASK]}, "completion: expected assistant and user in turn, found user"),
        ({"prompt": [ASK], "completion": []}, "completion: expected text or a list of messages, found a list: []"),
        ({"prompt": [], "completion": "x"}, "prompt: expected text or a list of messages"),
        ({"prompt": "a", "completion": [SAY]}, "completion: expected text, as the prompt is"),
        ({"prompt": "a", "completion": ""}, "completion: expected some text, found an empty text"),
        ({"prompt": [{"role": "user"}], "completion": "x"}, "prompt[0].content: expected text, found nothing"),
        ({"prompt": [{"role": "bot", "content": "x"}], "completion": "x"}, "prompt[0].role: expected system or user"),
        ({"prompt": ["who?"], "completion": "x"}, "prompt[0]: expected a message {role, content}, found the text"),
        ({"prompt": [ASK], "completion": [SAY | {"content": ["x"]}]}, "completion[0].content: expected text, found a"),
        ({"prompt": [ASK], "completion": [SAY | {"tool_calls": [1]}]}, "completion[0].tool_calls: expected only role"),
        ({"messages": [ASK]}, "messages: expected an assistant message, found user"),
        ({"messages": "hello"}, "messages: expected text or a list of messages, found the text 'hello'"),
        ({"prompt": "a", "chosen": "b"}, "rejected: expected a value in a preference row, found nothing"),
        ({"prompt": "a", "completion": "b", "label": 1}, "label: expected true or false, found the number 1"),
        ({"prompt": "a", "completions": ["b"], "scores": [1]}, "completions: expected a list of two answers or more"),
        ({"prompt": "a", "completions": ["b", "c"], "scores": [1]}, "scores: expected a score per answer, found 1 sco"),
        ({"prompt": "a", "completions": ["b", "c"], "scores": [1, True]}, "scores: expected a list of finite numbers"),
        (b'{"prompt": "a", "completions": ["b", "c"], "scores": [1, NaN]}', "scores: expected a list of finite number"),
    ],
)
def test_bad_fields_are_named(tmp_path, row, told):
    message = refused(save(tmp_path, row))
    assert told in message
    assert "line 1, " in message
    assert "(fix: " in message


def test_the_first_five_rows_and_the_totals_are_told(tmp_path):
    rows = [{"prompt": 3, "completion": ""}] * 8 + [{"prompt": "a", "completion": "b"}] * 2
    message = refused(save(tmp_path, *rows))
    assert "8 of 10 rows cannot be read" in message
    assert [f"line {i}, " in message for i in range(1, 8)] == [True] * 5 + [False] * 2
    assert "... and 3 more rows" in message
    assert "in all: prompt 8, completion 8" in message


def test_bad_rows_can_be_dropped_and_are_counted(tmp_path, caplog):
    path = save(tmp_path, {"text": "a"}, {"text": ""}, b"{", {"text": "b"})
    with caplog.at_level(logging.WARNING, logger="fairlead"):
        records = read(path, bad_rows="drop")
    assert [r.text for r in records] == ["a", "b"]
    assert [problem.place for problem in records.dropped] == ["line 2", "line 3"]
    assert "2 rows left out" in caplog.text
    assert "at column 2" in caplog.text
    assert list(read(f"{path}?bad_rows=drop")) == list(records)
    message = refused(save(tmp_path, {"text": ""}), bad_rows="drop")
    assert "no rows are left of 1" in message
    assert "line 1, text" in message


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b"\xef\xbb\xbf{}", "byte-order mark"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "byte-order mark"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}', "a.jsonl:2: byte 0xe9 at position 13 is not UTF-8"),
        ("a.jsonl", b"", "there are no rows"),
        ("a.jsonl", b"\n \n", "there are no rows"),
        ("a.jsonl.gz", b"plain", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 999, mtime=0)[:40], "cannot be read"),
        ("a.json", b'{"text": "a"}', "not a list of rows"),
        ("a.json", b'{"text": "a"}\n{"text": "b"}', "Name it .jsonl"),
        ("a.json", b'[{"text": "a"}, 3]', "row 2, row: expected an object"),
        ("a.json", b'[{"text": "a", "text": "b"}]', "has the key text twice"),
        ("a.json", b"\xef\xbb\xbf[]", "byte-order mark"),
        ("a.csv", b'text\n"open', "is not CSV"),
        ("a.parquet", b"PAR1 no", "is not Parquet"),
        ("a.txt", b"x", "its suffix says no known format"),
    ],
)
def test_broken_files_are_one_clear_error(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    message = refused(tmp_path / name)
    assert told in message
    assert name in message


def test_missing_files_suggest_the_nearest(tmp_path):
    save(tmp_path, ROWS["text"], name="pairs.jsonl")
    assert f"did you mean '{tmp_path}/pairs.jsonl'" in refused(tmp_path / "pair.jsonl")
    assert "no such file" in refused("no-such-thing")
    assert "no such file" in refused(tmp_path / "none" / "x.parquet")


def test_a_hub_id_that_cannot_be_loaded_is_a_data_error():
    assert "hub data set could not be loaded" in refused("no-such-organisation/no-such-data:train")


def test_a_file_whose_name_has_a_question_mark(tmp_path):
    assert len(read(save(tmp_path, ROWS["text"], name="what?.jsonl"))) == 1
