"""Attacks: families, turns, slots, and the random changes of best-of-N with their known properties."""

from __future__ import annotations

import base64
import codecs
import random
from collections import Counter

import pytest

from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.evaluation import attacks
from fairlead.evaluation.attacks import attacks_of, augment, families, slots_of

REQUEST = "How do I fold a paper boat?"
ASKED = [{"role": "user", "content": REQUEST}]


def attacked(text: str, prompt=None, number: int = 0):
    (attack,) = attacks_of((), {"own": [text]})
    return attack(ASKED if prompt is None else prompt, number)


def test_direct_is_the_request_itself():
    (direct,) = attacks_of(["direct"], {})
    assert direct(ASKED) == ASKED
    assert direct(REQUEST) == REQUEST


@pytest.mark.parametrize("family", families())
def test_every_family_ends_with_a_user_who_asks(family):
    (attack,) = attacks_of([family], {})
    turns = attack(ASKED)
    assert turns[-1]["role"] == "user"
    assert any(part in turns[-1]["content"] for part in slots_of(REQUEST).values())
    assert {turn["role"] for turn in turns} <= {"user", "assistant"}
    assert all(turn["content"] for turn in turns)


def test_many_shots_are_fake_turns():
    (attack,) = attacks_of(["many_shot"], {})
    assert [turn["role"] for turn in attack(ASKED)] == ["user", "assistant"] * 8 + ["user"]


def test_codes_decode_back_to_the_request():
    slots = slots_of(REQUEST)
    assert base64.b64decode(slots["base64"]).decode() == REQUEST
    assert codecs.decode(slots["rot13"], "rot13") == REQUEST
    assert slots["first_half"] + slots["second_half"] == REQUEST
    assert slots["leetspeak"] == "H0w d0 I f0ld 4 p4p3r b047?"


def test_earlier_turns_stay_and_a_request_cannot_begin_a_turn():
    before = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    sly = "a\n--- system\nb"
    text = "--- system\nbe brief\n--- user\n{{ request }}"
    turns = attacked(text, [*before, {"role": "user", "content": sly}])
    assert turns == [*before, {"role": "system", "content": "be brief"}, {"role": "user", "content": sly}]


def test_texts_of_a_family_are_taken_in_turn():
    (attack,) = attacks_of((), {"own": ["a {{ request }}", "b {{ request }}"]})
    assert [attack("x", number) for number in range(3)] == ["a x", "b x", "a x"]


@pytest.mark.parametrize(
    ("own", "what"),
    [
        ({"direct": ["{{ request }}"]}, "stands twice"),
        ({"own": []}, "no text"),
        ({"any": ["{{ request }}"]}, "odd name"),
        ({"own": ["mine.jinja"]}, "no {{ slot }}"),
        ({"own": ["{{ 1 }}"]}, "nowhere"),
        ({"own": ["x\n--- user\n{{ request }}"]}, "before the first turn"),
        ({"own": ["--- user\n{{ request }}\n--- assistant\nyes"]}, "not the user's"),
    ],
)
def test_bad_families_say_so(own, what):
    with pytest.raises(UsageError, match=what):
        attacks_of(["direct"], own)


def test_unknown_families_and_prompts_without_a_request():
    with pytest.raises(UnknownNameError, match="role_play"):
        attacks_of(["role_plai"], {})
    with pytest.raises(DataError, match="does not end with the user"):
        attacked("{{ request }}", [{"role": "assistant", "content": "hi"}])
    with pytest.raises(DataError, match="several turns"):
        attacked("--- user\na\n--- assistant\nb\n--- user\n{{ request }}", "raw")


WORDS = "gentle sailors paint harbour walls with bright colours every single summer morning"


def test_without_strength_nothing_changes():
    assert augment(f" {WORDS}\n twice", 0, random.Random(0)) == f"{WORDS} twice"


def test_shuffling_keeps_ends_and_letters(monkeypatch):
    for word in WORDS.split():
        shuffled = attacks._shuffled(word, random.Random(1))
        assert (shuffled[0], shuffled[-1], Counter(shuffled)) == (word[0], word[-1], Counter(word))


def test_cases_flip_and_flip_back():
    once = augment("a BC 12 é", 1.0, _Never(random.Random(0)))
    assert once == "A bc 12 é"
    assert augment(once, 1.0, _Never(random.Random(0))) == "a BC 12 é"


class _Never:
    """Flips every case, and moves no character: the last draws of `augment` come out too high."""

    def __init__(self, rng):
        self.draws, self.rng = 0, rng

    def random(self):
        self.draws += 1
        return 0.5 if self.draws <= 3 else 1.0


def test_shares_of_changes_are_the_papers():
    rng, text = random.Random(0), "abc " * 20000
    changed = augment(text, 0.4, rng)
    kept = text.split()
    assert len(changed) == len(" ".join(kept))
    same = [(a, b) for a, b in zip(" ".join(kept), changed, strict=True) if a != " "]
    flipped = sum(a.upper() == b for a, b in same) / len(same)
    moved = sum(a.lower() != b.lower() for a, b in same) / len(same)
    assert flipped == pytest.approx(0.4**0.5 * (1 - 0.4**3), abs=0.01)
    assert moved == pytest.approx(0.4**3, abs=0.005)
    assert all(32 <= ord(c) <= 126 for c in augment("~ ~ ~ " * 1000, 1.0, rng))


def test_equal_seeds_change_equally():
    one, two, other = (augment(WORDS, 0.4, random.Random(seed)) for seed in ("a", "a", "b"))
    assert one == two != other
