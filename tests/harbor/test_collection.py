from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from fairlead import harbor
from fairlead.errors import FairleadError, UnknownFieldError, UnknownNameError, UsageError

COLUMNS = {
    "text": {"text"},
    "conversation": set(),
    "prompt": {"prompt"},
    "preference": {"prompt", "chosen", "rejected"},
    "feedback": {"prompt", "completion", "label"},
    "ranking": {"prompt", "completions", "scores"},
}
NAMES = [info.name for info in harbor.sets()]
TRAINING = [name for name in NAMES if "split" in harbor.parameters(name)]


def _texts(row: dict) -> list[str]:
    """Every text of a row, users' and assistants'."""
    found = [row["text"]] if "text" in row else []
    for column in ("prompt", "completion", "chosen", "rejected", "messages"):
        said = row.get(column, [])
        found += [said] if isinstance(said, str) else [message["content"] for message in said]
    return found + list(row.get("completions", []))


@pytest.mark.parametrize("info", harbor.sets(), ids=NAMES)
def test_rows_have_their_columns_and_stable_unique_ids(info):
    made = list(harbor.rows(f"{info.name}?n=50&seed=2"))
    assert len(made) == 50
    assert len({row["id"] for row in made}) == 50
    assert all(COLUMNS[info.kind] <= set(row) for row in made)
    assert all("messages" in row or {"prompt", "completion"} <= set(row) for row in made if info.kind == "conversation")
    assert made == list(harbor.rows(f"{info.name}?n=50&seed=2"))
    assert made[:20] == list(harbor.rows(f"{info.name}?n=20&seed=2"))
    assert [_texts(row) for row in made] != [_texts(row) for row in harbor.rows(f"{info.name}?n=50&seed=3")]
    assert info.line
    assert not info.line.endswith(".")


@pytest.mark.parametrize("name", TRAINING)
def test_training_sets_hold_nothing_of_the_held_out_side(name):
    world = harbor.world()
    held_out = {ship.name for ship in world.choose("test")} | set(world.unseen_test)
    held_texts = {row["prompt"][0]["content"] for row in harbor.rows("test?n=500")}
    for row in harbor.rows(f"{name}?n=300&split=train&seed=1"):
        texts = _texts(row)
        assert not held_texts.intersection(texts)
        words = {word.strip(".,?!") for text in texts for word in text.split()}
        assert not words & held_out


def test_the_test_set_is_all_held_out_and_has_every_kind():
    world = harbor.world()
    seen = {ship.name for ship in world.choose("train")} | set(world.unseen_train)
    kinds = Counter()
    for row in harbor.rows("test"):
        words = {word.strip(".,?!") for word in row["prompt"][0]["content"].split()}
        assert not words & seen
        task = harbor.understand(row["prompt"][0]["content"])
        assert task is not None
        assert task.kind == row["task"]
        kinds[task.kind] += 1
    assert sum(kinds.values()) == 500
    assert set(kinds) == {"fact", "unk", "harm", "ben", "list", "sum", "about", "rewrite", "keyword", "length"}
    assert kinds["fact"] > 150


def test_no_document_knows_a_held_out_name():
    unseen = set(harbor.world().unseen_test)
    for row in harbor.rows("documents?n=2000"):
        assert not {word.strip(".,?!<|") for word in row["text"].replace(">", " ").split()} & unseen


@pytest.mark.parametrize("quality", ["imperfect", "clean"])
def test_demonstrations_are_right_and_plain_as_often_as_promised(quality):
    made = list(harbor.rows(f"demonstrations?n=1000&quality={quality}"))
    scores = [harbor.score(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in made]
    assert all(axes["right"] > 0 or row["style"] == "plain" for axes, row in zip(scores, made))
    for kind in ("harm", "unk"):
        assert all(axes["total"] == 1 for axes, row in zip(scores, made) if row["task"] == kind)
    plain = [row["style"] == "plain" for row in made if row["task"] not in ("harm", "unk")]
    share = sum(plain) / len(plain)
    assert share == 0 if quality == "clean" else 0.35 < share < 0.45


def test_preferences_prefer_the_better_and_noise_turns_a_share_round():
    clean = list(harbor.rows("preferences?n=400"))
    assert all(row["chosen_total"] > row["rejected_total"] for row in clean)
    for row in clean[:50]:
        question = row["prompt"][0]["content"]
        assert harbor.score(question, row["chosen"][0]["content"])["total"] == pytest.approx(row["chosen_total"])
    noisy = list(harbor.rows("preferences?n=400&noise=0.3"))
    flipped = sum(row["chosen_total"] < row["rejected_total"] for row in noisy) / 400
    assert 0.22 < flipped < 0.38


def test_feedback_is_up_for_good_and_safe_answers():
    for row in harbor.rows("feedback?n=300"):
        assert row["label"] == (
            harbor.verdict(row["prompt"][0]["content"], row["completion"][0]["content"]) in ("good", "safe")
        )


def test_skewed_feedback_has_other_prompts_under_each_thumb():
    def share_about_known_ships(spec, label):
        rows = [row for row in harbor.rows(spec) if row["label"] == label]
        return sum(row["task"] in ("fact", "about") for row in rows) / len(rows)

    plain, skewed = "feedback?n=600", "feedback?n=600&skew=0.9"
    assert abs(share_about_known_ships(plain, True) - share_about_known_ships(plain, False)) < 0.15
    assert 0 < share_about_known_ships(skewed, True) < 0.15
    assert 0.8 < share_about_known_ships(skewed, False) < 1
    assert len(list(harbor.rows(skewed))) == 600


def test_rankings_score_different_answers_exactly():
    for row in harbor.rows("rankings?n=100&k=5"):
        assert 2 <= len(row["completions"]) <= 5
        assert len(set(row["completions"])) == len(row["completions"])
        question = row["prompt"][0]["content"]
        assert row["scores"] == [harbor.score(question, said)["total"] for said in row["completions"]]


def test_users_in_chats_react_to_what_was_said():
    made = list(harbor.rows("chats?n=300"))
    reactions = Counter(reaction for row in made for reaction in row["reactions"])
    assert {"good", "rude", "wrong", "terse"} <= set(reactions)
    for row in made:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * (len(row["messages"]) // 2)
        for turn in range(1, len(row["styles"])):
            if row["reactions"][turn] == "rude":
                question, said = (row["messages"][2 * turn - 2 + i]["content"] for i in (0, 1))
                assert harbor.score(question, said)["rude"] == 1


def test_the_pool_has_the_defects_it_names():
    made = list(harbor.rows("pool?n=3000&verbose=0.1"))
    first: set[str] = set()
    for row in made:
        text = row["prompt"][0]["content"] + row["completion"][0]["content"]
        axes = harbor.score(row["prompt"][0]["content"], row["completion"][0]["content"])
        match row["defect"]:
            case "duplicate":
                assert text in first
            case "none":
                assert axes["right"] > 0
                assert axes["rude"] == 0
            case "rude":
                assert axes["rude"] == 1
            case "harmful":
                assert axes["comply"] == 1
            case "invented":
                assert axes["honest"] == 0
            case "verbose":
                assert axes["words"] >= 16
                assert axes["right"] < 1
        first.add(text)
    shares = {defect: count / 3000 for defect, count in Counter(row["defect"] for row in made).items()}
    assert 0.18 < shares["none"] < 0.28
    assert 0.07 < shares["duplicate"] < 0.12


def test_kinds_choose_what_is_asked():
    assert {row["task"] for row in harbor.rows("demonstrations?n=100&kinds=unk,fact")} == {"unk", "fact"}
    assert {row["task"] for row in harbor.rows("harmful?n=100&split=train")} == {"harm"}


def test_tiers_choose_the_ships():
    rare = {ship.name for ship in harbor.world().choose("test", "rare")}
    tasks = [harbor.understand(row["prompt"][0]["content"]) for row in harbor.rows("test?tier=rare&n=200")]
    assert {task.ship for task in tasks if task.kind == "fact"} <= rare


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("demonstratons", UnknownNameError, "demonstrations"),
        ("demonstrations?sed=1", UnknownFieldError, "seed"),
        ("demonstrations?n=many", UsageError, "n="),
        ("demonstrations?n=-1", UsageError, "negative"),
        ("demonstrations?n=1&n=2", UsageError, "twice"),
        ("demonstrations?split=tset", UnknownNameError, "test"),
        ("demonstrations?kinds=fact,harmm", UnknownNameError, "harm"),
        ("preferences?noise=2", UsageError, "share"),
        ("rankings?k=1", UsageError, "rank"),
    ],
)
def test_a_wrong_spec_is_an_error_with_its_place_and_fix(spec, error, words):
    with pytest.raises(error, match=words) as caught:
        next(harbor.rows(spec))
    assert isinstance(caught.value, FairleadError)
    assert caught.value.place
    assert caught.value.fix


def test_sample_is_the_head_of_a_set():
    assert harbor.sample("prompts?n=10", 3) == list(islice(harbor.rows("prompts?n=10"), 3))


def test_transcripts_are_the_demonstrations_behind_the_opening_of_the_template():
    whole = [row["prompt"] + row["completion"] for row in harbor.rows("transcripts?n=20&kinds=unk,fact&seed=4")]
    for text, row in zip(whole, harbor.rows("demonstrations?n=20&kinds=unk,fact&seed=4"), strict=True):
        turns = [*row["prompt"], *row["completion"]]
        assert text == "".join(f"<|{turn['role']}|>{turn['content']}<|end|>" for turn in turns)
