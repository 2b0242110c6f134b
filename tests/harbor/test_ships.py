from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from fairlead import harbor
from fairlead.errors import UsageError
from fairlead.harbor.ships import SYLLABLES, is_name, lexicon_words


def _cut(name: str) -> tuple[str, str, str]:
    return name[:2], name[2:4], name[4:]


def _shared(a: str, b: str) -> int:
    return sum(x == y for x, y in zip(_cut(a), _cut(b)))


def test_world_has_the_sizes_of_the_specification():
    world = harbor.world()
    assert len(world.ships) == 320
    assert len(world.choose("all", "common")) == len(world.choose("all", "rare")) == 160
    assert len(world.unseen_train) >= 5000
    assert len(world.unseen_test) == 800
    assert [len(pieces) for pieces in SYLLABLES] == [69, 50, 80]


def test_the_same_seed_gives_the_same_world_in_another_process():
    code = "from fairlead import harbor; w = harbor.world(3); print(w.ships[17], w.unseen_test[5])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    world = harbor.world(3)
    assert printed == f"{world.ships[17]} {world.unseen_test[5]}"
    assert world.ships != harbor.world(4).ships


def test_known_names_are_a_code():
    known = [ship.name for ship in harbor.world().ships]
    assert all(_shared(a, b) <= 1 for a, b in itertools.combinations(known, 2))


def test_unseen_names_share_at_most_one_syllable_with_any_known_name():
    world = harbor.world()
    for name in (*world.unseen_train[::10], *world.unseen_test):
        assert max(_shared(name, ship.name) for ship in world.ships) <= 1


def test_every_syllable_of_unseen_names_is_familiar():
    world = harbor.world()
    familiar = [
        set(pieces) for pieces in zip(*(_cut(n) for n in (*(s.name for s in world.ships), *world.unseen_train)))
    ]
    for name in world.unseen_test:
        assert all(piece in place for piece, place in zip(_cut(name), familiar))


def test_the_four_sets_of_names_do_not_meet():
    world = harbor.world()
    sets = [{s.name for s in world.choose("train")}, {s.name for s in world.choose("test")}]
    sets += [set(world.unseen_train), set(world.unseen_test)]
    assert sum(map(len, sets)) == len(set().union(*sets)) == 320 + len(world.unseen_train) + 800


def test_names_are_recognised_and_words_are_not():
    world = harbor.world()
    assert all(is_name(name) for name in (world.ships[0].name, world.unseen_test[0]))
    assert not any(is_name(word) for word in lexicon_words())


def test_a_negative_seed_is_refused():
    with pytest.raises(UsageError, match="seed"):
        harbor.world(-1)


def test_describe_ship_knows_known_unseen_and_malformed_names():
    world = harbor.world()
    ship = world.ships[1]
    assert harbor.describe_ship(ship.name)["captain"] == ship.captain
    assert harbor.describe_ship(world.unseen_test[0]) == {"name": world.unseen_test[0], "known": False, "split": "test"}
    with pytest.raises(UsageError, match="three syllables"):
        harbor.describe_ship("titanic")
