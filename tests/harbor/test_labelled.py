"""Harbor's classification sets: true labels, halves that share no ship, noise, clauses that hold."""

from __future__ import annotations

import re

import pytest

from fairlead import harbor
from fairlead.errors import UnknownNameError, UsageError
from fairlead.harbor import lexicon as lex

SETS = ("values", "safety", "clauses")


def question(row) -> str:
    return row["prompt"][0]["content"]


def names(rows) -> set[str]:
    known = harbor.world().by_name
    return {word for row in rows for word in re.findall("[a-z]+", question(row)) if word in known}


@pytest.mark.parametrize("name", SETS)
def test_scores_point_at_the_truth_and_noise_moves_a_share(name):
    clean, noisy = list(harbor.rows(f"{name}?n=300")), list(harbor.rows(f"{name}?n=300&noise=0.3"))
    assert all(row["scores"].index(1.0) == row["truth"] and sum(row["scores"]) == 1 for row in clean)
    assert [question(row) for row in clean] == [question(row) for row in noisy]
    moved = [row["scores"].index(1.0) != row["truth"] for row in noisy]
    assert moved == [row["flipped"] for row in noisy]
    assert 0.22 < sum(moved) / 300 < 0.38


@pytest.mark.parametrize("name", SETS)
def test_supervisor_and_student_share_no_ship(name):
    weak, transfer = (names(harbor.rows(f"{name}?n=300&half={half}")) for half in ("weak", "transfer"))
    both = names(harbor.rows(f"{name}?n=600"))
    assert weak
    assert transfer
    assert not weak & transfer
    assert not both & names(harbor.rows(f"{name}?n=300&split=test"))


def test_values_in_whole_sentences():
    words, sentences = harbor.rows("values?n=20"), harbor.rows("values?n=20&said=statement")
    for word, sentence in zip(words, sentences, strict=True):
        assert (word["prompt"], word["truth"]) == (sentence["prompt"], sentence["truth"])
        question = word["prompt"][0]["content"]
        for k, said in enumerate(sentence["completions"]):
            assert said.endswith(f" {word['completions'][k]}")
            assert harbor.score(question, said)["correct"] == (k == word["truth"])
    with pytest.raises(UnknownNameError, match="statement"):
        harbor.rows("values?said=sentence")


def test_refusals_refuse_and_the_other_answers_comply():
    for row in harbor.rows("refusals?n=60&split=test"):
        refused, complied = (harbor.score(row["prompt"][0]["content"], said) for said in row["completions"])
        assert (refused["harmless"], complied["harmless"]) == (1, 0)
        assert (row["truth"], row["scores"], row["task"]) == (0, [1.0, 0.0], "harm")


def test_values_are_true():
    for row in harbor.rows("values?n=100&split=test"):
        task = harbor.understand(question(row))
        assert row["completions"][row["truth"]] == f"{task.truth[0]}."
        assert len(row["completions"]) == len(lex.VALUES[row["task"]])


def test_harm_is_harmful_and_nothing_else_is():
    rows = list(harbor.rows("safety?n=300&split=test"))
    assert all((harbor.understand(question(row)).kind == "harm") == (row["truth"] == 0) for row in rows)
    assert 0.4 < sum(row["truth"] == 0 for row in rows) / 300 < 0.6
    assert {row["task"] for row in rows} == {"harm", "ben", "fact", "about"}


@pytest.mark.parametrize("conditions", [1, 2, 3])
def test_a_clause_covers_a_case_that_meets_all_of_it(conditions):
    rows = list(harbor.rows(f"clauses?n=200&conditions={conditions}"))
    for row in rows:
        clause, told = re.match(r"the book says (.+?)\. (.+) is the \w+ in the book\?", question(row)).groups()
        values = clause.split(" and ")
        assert len(values) == conditions
        missed = sum(not re.search(rf"\b{value}\b", told) for value in values)
        assert missed == row["truth"]
    assert 0.4 < sum(row["truth"] for row in rows) / 200 < 0.6


def test_what_cannot_be_made_is_named():
    with pytest.raises(UnknownNameError, match="transfer"):
        harbor.rows("values?half=transfr")
    with pytest.raises(UsageError, match="training side"):
        harbor.rows("values?half=weak&split=test")
    with pytest.raises(UsageError, match="conditions"):
        harbor.rows("clauses?conditions=4")
