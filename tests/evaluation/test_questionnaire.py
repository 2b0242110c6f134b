"""Questionnaires as they are written down, shipped ones and keys, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.questionnaire import file_named, keys, load_questionnaire

ITEM = {"text": "Ships are fine.", "dimension": "ships"}
WHOLE = {"options": ["no", "yes"], "items": [ITEM]}


@pytest.mark.parametrize("name", ["everyday", "newcomers"])
def test_shipped_questionnaires_are_whole(name):
    found = load_questionnaire(name)
    assert len({text for item in found.items for text in (item.text, *item.paraphrases)}) >= 2 * len(found.items)
    assert all(item.paraphrases for item in found.items)
    assert any(item.negation for item in found.items)
    assert found.coding


def test_the_everyday_one_is_in_the_order_of_the_circle():
    found = load_questionnaire("everyday")
    assert found.order == "circular"
    assert found.dimensions == (
        "self-direction", "stimulation", "hedonism", "achievement", "power", "security", "conformity", "tradition",
        "benevolence", "universalism",
    )  # fmt: skip


@pytest.mark.parametrize("name", keys())
def test_keys_give_every_item_one_dimension(name):
    key = keys()[name]
    numbers = sorted(number for of in key["dimensions"].values() for number in of)
    assert sorted([*numbers, *key.get("attention", {})]) == list(range(1, key["items"] + 1))
    assert set(key.get("reverse", [])) <= set(numbers)


def test_a_key_needs_its_texts_alone(tmp_path):
    path = tmp_path / "mica.yaml"
    texts = [f"statement {i}" for i in range(1, 17)]
    path.write_text(yaml.safe_dump({"key": "mica4", "options": list("abcdef"), "items": texts}), encoding="utf-8")
    found = load_questionnaire(str(path))
    assert [item.id for item in found.items if not item.reverse] == ["3", "9", "10", "11", "12", "16"]
    assert file_named(str(path)) == str(path)
    assert file_named("everyday") is None
    assert file_named(WHOLE) is None
    with pytest.raises(UsageError, match="has 15 items where its key has 16"):
        load_questionnaire({"key": "mica4", "options": list("abcdef"), "items": texts[1:]})


def test_values_and_options_of_an_item_of_its_own():
    own = {**ITEM, "options": ["never", "seldom", "often"], "values": [0, 1, 4], "people": [1, 1, 2]}
    item = load_questionnaire({**WHOLE, "values": [5, 6], "items": [own]}).items[0]
    assert (item.values, item.low, item.high, item.people) == ((0, 1, 4), 0, 4, (0.25, 0.25, 0.5))
    assert load_questionnaire(WHOLE).items[0].values == (1, 2)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"items": []}, "has no items"),
        ({"items": ["text"]}, "is 'text'"),
        ({"options": ["yes"]}, "has 1 options"),
        ({"options": ["yes", "yes"]}, "an option twice"),
        ({"values": [1]}, "1 values for 2 options"),
        ({"values": [1, 1]}, "one value for all"),
        ({"items": [{"text": "x"}]}, "has no dimension"),
        ({"items": [{**ITEM, "people": [1, 2, 3]}]}, "one share of people per option"),
        ({"items": [{**ITEM, "id": "a"}, {**ITEM, "id": "a"}]}, "'a' stands twice"),
        ({"dimensions": ["ships", "ports"]}, "no item measures 'ports'"),
    ],
)
def test_what_is_refused(changes, what):
    with pytest.raises(UsageError, match=what):
        load_questionnaire({**WHOLE, **changes})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"itens": []}, "itens"),
        ({"items": [{**ITEM, "revers": True}]}, "revers"),
        ({"dimensions": ["shops"]}, "ships"),
        ({"order": "square"}, "square"),
        ({"key": "pvq22"}, "pvq22"),
        ({"groups": {"all": ["shops"]}}, "shops"),
    ],
)
def test_what_is_unknown_gets_a_suggestion(changes, what):
    with pytest.raises(UnknownNameError, match=what):
        load_questionnaire({**WHOLE, **changes})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_questionnaire(str(tmp_path / "none.yaml"))
    with pytest.raises(UnknownNameError, match="everyday"):
        load_questionnaire("everday")
