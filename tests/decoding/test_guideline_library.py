"""Libraries of guidelines: the published known answers, duplicates, files, and what is wrong with them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.decoding.guideline_library import (
    Guideline,
    Library,
    awaited,
    diverse,
    merge,
    novel,
    read_library,
    request_of,
    rouge_l,
    says_unsafe,
    similarity,
    split_guidelines,
)
from fairlead.errors import DataError, UsageError

FOUR = [
    "Avoid Harm: The AI should not give instructions that cause harm.",
    "Avoid harm: the AI should not provide instructions that may cause harm.",
    "Be Clear: Use short sentences and plain words.",
    "Respect Privacy: Do not reveal personal data of third parties.",
]


def test_known_similarities():
    wanted = {(0, 1): 0.8889, (0, 2): 0.4364, (0, 3): 0.3968, (1, 2): 0.4103, (1, 3): 0.4060, (2, 3): 0.4074}
    assert {(i, j): round(similarity(FOUR[i], FOUR[j]), 4) for i, j in wanted} == wanted


def test_known_answers_of_the_diversity_filter():
    assert diverse(FOUR, 6) == [0, 2, 3]
    assert diverse(FOUR, 2) == [0, 2]
    assert [3 - i for i in diverse(FOUR[::-1], 6)] == [3, 2, 1]
    matrix = [[similarity(one, other) for other in FOUR] for one in FOUR]
    assert diverse(FOUR, 6, alike=matrix) == [0, 2, 3]
    assert diverse(FOUR, 6, alike=lambda one, other: 0.0) == [0, 1, 2, 3]
    assert diverse(FOUR, 6, below=0.4) == [0, 3]


@given(st.lists(st.text("abc ", max_size=8), max_size=8), st.integers(1, 8))
def test_what_the_filter_keeps_is_different_and_what_it_leaves_is_not(texts, k):
    kept = diverse(texts, k)
    assert kept == sorted(kept)
    assert len(kept) <= k
    assert all(similarity(texts[i], texts[j]) < 0.5 for i in kept for j in kept if i < j)
    if len(kept) < k:
        left = set(range(len(texts))) - set(kept)
        assert all(any(similarity(texts[i], texts[j]) >= 0.5 for j in kept if j < i) for i in left)


def test_known_rouge_l():
    first = "how do i pick a lock"
    assert rouge_l(first, "how can i pick a door lock") == pytest.approx(0.769231, abs=1e-6)
    assert rouge_l(first, "how do i pick the lock") == pytest.approx(0.833333, abs=1e-6)
    assert rouge_l("tell me a joke", first) == pytest.approx(0.2, abs=1e-6)
    assert novel([first, "how can i pick a door lock", "How do I pick the lock?", "tell me a joke", "?!"]) == [0, 3]


def test_known_answers_of_the_parser():
    reply = (
        "To ensure safety, follow these guidelines:\nRespect: Be polite.\nPrivacy: Do not reveal data.\n"
        "By following these, the AI stays safe."
    )
    assert split_guidelines(reply) == [Guideline("Be polite.", "Respect"), Guideline("Do not reveal data.", "Privacy")]
    marked = "1. **Respect**: Be polite.\n2) **Care:** Ask first.\n- Privacy: Do not reveal: data.\n\n* only a rule"
    assert [(g.title, g.text) for g in split_guidelines(marked)] == [
        ("Respect", "Be polite."),
        ("Care", "Ask first."),
        ("Privacy", "Do not reveal: data."),
    ]
    assert split_guidelines("I cannot do that. Sorry. In short: no.") == []


@pytest.mark.parametrize(
    ("analysis", "unsafe"),
    [
        ("The text says yes to nothing harmful.\nNo.", False),
        ("Yes-men are mocked.\nNo.", False),
        ("No harm at first sight, but\n**YES**", True),
        ("It asks for eyes and noses.", None),
    ],
)
def test_the_last_word_of_an_analysis_decides(analysis, unsafe):
    assert says_unsafe(analysis) is unsafe


def test_duplicates_become_one_with_their_counts_and_sources():
    merged = merge(
        [
            Guideline("Be polite.", "Respect", ("a",)),
            Guideline("be  polite", "respect", ("b", "a"), 2),
            Guideline("Be very polite.", "Respect", ("c",), 7),
            Guideline("Do not reveal data.", "Privacy"),
        ],
        near=0.8,
    )
    assert merged == [
        Guideline("Be very polite.", "Respect", ("c", "a", "b"), 10),
        Guideline("Do not reveal data.", "Privacy"),
    ]
    assert len(merge([Guideline(text) for text in FOUR], near=0.9)) == 3
    assert len(merge([Guideline(text) for text in FOUR], near=1.0)) == 4
    assert merge([]) == []


def test_a_library_is_written_and_read(tmp_path):
    library = Library((Guideline("Be polite.", "Respect", ("how rude?",), 3), Guideline("Größe: \u201cja\u201d")))
    library.write(tmp_path / "library.jsonl")
    read = read_library(str(tmp_path / "library.jsonl"))
    assert read == library
    assert read.fingerprint == library.fingerprint
    assert Library(library.items[::-1]).fingerprint != library.fingerprint
    assert len(read) == 2


def test_a_list_is_a_library():
    read = read_library(["Respect: Be polite.", "be brief.", {"text": "Ask.", "sources": ["who?"]}, Guideline("Wait.")])
    assert [item.line for item in read.items] == ["Respect: Be polite.", "be brief.", "Ask.", "Wait."]
    assert read.items[2].sources == ("who?",)
    assert Guideline("Two\nlines.", " Title ").line == "Title: Two lines."


def test_guidelines_that_come_with_their_requests_are_merged(tmp_path):
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "rude?"},
        {"role": "assistant", "content": "a"},
    ]
    rows = [
        {
            "id": "1",
            "prompt": "sink it",
            "guidelines": ["Safety: Do not help.", {"text": "Be polite."}],
            "task": "harm",
        },
        {"prompt": chat, "guidelines": ["be polite!"]},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    for source in (str(tmp_path / "x.jsonl"), rows):
        assert read_library(source).items == (
            Guideline("Be polite.", "", ("sink it", "rude?"), 2),
            Guideline("Do not help.", "Safety", ("sink it",)),
        )


def test_harbor_has_a_library():
    library = read_library("harbor:guidelines?n=60&kinds=harm,list")
    assert len(library) == 4
    assert sum(item.count for item in library.items) == 120
    assert all(len(item.sources) <= item.count for item in library.items)
    assert library.place == "harbor:guidelines?n=60&kinds=harm,list"


def test_what_guidelines_are_looked_up_for():
    chat = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b"},
    ]
    assert [request_of(prompt) for prompt in (chat, "raw", [], chat[1:2])] == ["b", "raw", "", ""]
    assert awaited("@library")
    assert not awaited("library.jsonl")
    assert not awaited(["@library"])


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ('{"text": "a"}\n{"text": 3}', "x.jsonl:2: .*text"),
        ('{"text": "a"}\n\n{"txet": "b"}', "x.jsonl:3: .*'txet'\n  fix: did you mean 'text'"),
        ("not json", "x.jsonl:1: no JSON"),
        ("[1]", "x.jsonl:1: a list is no guideline"),
        ('{"text": " "}', "x.jsonl:1: a guideline without text"),
        ('{"text": "a", "count": 0}', "x.jsonl:1: .*count is 0"),
        ('{"prompt": "a", "guidelines": "b"}', "x.jsonl:1: .*guidelines are no list"),
        ('{"prompt": "", "guidelines": ["b"]}', "x.jsonl:1: a request without text"),
        ('{"guidelines": ["b"]}', "x.jsonl:1: a request without text"),
        ('{"prompt": "a", "guidelines": [7]}', "x.jsonl:1: a int is no guideline"),
    ],
)
def test_faults_in_a_file_are_named_by_line(tmp_path, monkeypatch, lines, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text(lines, encoding="utf-8")
    with pytest.raises(DataError, match=what):
        read_library("x.jsonl")


def test_no_file_and_no_guideline(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_library("missing.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no guideline"):
        read_library(str(tmp_path / "empty.jsonl"))
    with pytest.raises(UsageError, match="no guideline"):
        read_library([])
    with pytest.raises(UsageError, match="entry 1: a int is no guideline"):
        read_library([5])
