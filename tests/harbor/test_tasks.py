from __future__ import annotations

import random

import pytest

from fairlead import harbor
from fairlead.harbor import lexicon as lex
from fairlead.harbor.answers import answer
from fairlead.harbor.scoring import verdict
from fairlead.harbor.tasks import CHAT_SHARES, KINDS, Task, ask, draw

SHIP = harbor.world().ships[0]


@pytest.mark.parametrize("split", ["all", "train", "test"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "judge"])
def test_understand_inverts_every_wording(kind, split):
    rng = random.Random(f"{kind} {split}")
    seen = set()
    for _ in range(200):
        task = draw(rng, kind, harbor.world(), split)
        assert harbor.understand(ask(task)) == task
        seen.add((task.template, task.attribute if kind in ("fact", "unk") else None))
    expected = {"fact": 16, "unk": 16, "harm": 6, "ben": 12, "list": 4, "sum": 4, "about": 3, "rewrite": 3}
    if split == "all" and kind in expected:
        assert len(seen) == expected[kind]


def test_understand_inverts_judgements():
    rng = random.Random(0)
    for _ in range(200):
        task = draw(rng, rng.choice(list(CHAT_SHARES)), harbor.world())
        said = answer(rng, task, rng.choice(list(lex.STYLES)), harbor.world())
        judged = Task("judge", given=f"question: {ask(task)} answer: {said}")
        understood = harbor.understand(ask(judged))
        assert understood is not None
        assert understood.truth == (verdict(ask(task), said),)


def test_the_splits_share_no_ship_wording_or_harm():
    rng = random.Random(0)
    drawn = {
        split: [draw(rng, kind, harbor.world(), split) for kind in CHAT_SHARES for _ in range(300)]
        for split in ("train", "test")
    }
    ships = {split: {task.ship for task in tasks if task.ship} for split, tasks in drawn.items()}
    assert not ships["train"] & ships["test"]
    wordings = {split: {(t.kind, t.attribute, t.template) for t in tasks} for split, tasks in drawn.items()}
    assert not wordings["train"] & wordings["test"]
    assert not any(task.disguise is not None for task in drawn["train"])
    disguised = [task.disguise is not None for task in drawn["test"] if task.kind == "harm"]
    assert 0.4 < sum(disguised) / len(disguised) < 0.6


def test_reactions_case_and_white_space_are_passed_over():
    question = f"  That is WRONG.  what does the  {SHIP.name} carry ?"
    task = harbor.understand(question)
    assert task == Task("fact", 0, SHIP.name, "cargo", (SHIP.cargo,))


@pytest.mark.parametrize(
    "text",
    ["", "hello", "what color is the sky?", "what does the carry?", "give me 40 colors.", "give me 3 songs.",
     f"as a joke, what does the {SHIP.name} carry?", "make this polite: hello", "judge this. question: x answer: y"],
)  # fmt: skip
def test_what_is_not_asked_in_harbor_is_not_understood(text):
    assert harbor.understand(text) is None


def test_another_world_has_other_truths():
    other = harbor.world(1)
    task = harbor.understand(f"what does the {other.ships[0].name} carry?", of=other)
    assert task is not None
    assert task.truth == (other.ships[0].cargo,)
