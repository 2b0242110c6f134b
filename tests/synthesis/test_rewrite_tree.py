"""The search over rewrites: its bounds, its order on a toy world whose tree is known, and what is read off the tree."""

from __future__ import annotations

import json

import pytest
from letter_world import grow, reward, searched

from fairlead.synthesis.rewrite_tree import QUALITIES, Tree, upper_bound


def known_tree() -> Tree:
    tree = Tree.of("root")
    first = tree.add(0, "A", "a", [0.10])
    tree.add(0, "B", "b", [0.14])
    tree.add(0, "C", "c", [0.12])
    tree.add(first, "A", "aa", [0.16])
    tree.add(first, "B", "ab", [0.13])
    return tree


@pytest.mark.parametrize(
    ("exploration", "bounds"),
    [(0.1, (0.203245, 0.266864, 0.246864)), (1.0, (0.862447, 1.408636, 1.388636)), (0.0, (0.13, 0.14, 0.12))],
)
def test_known_bounds(exploration, bounds):
    tree = known_tree()
    assert [tree.nodes[i].visits for i in range(4)] == [5, 3, 1, 1]
    worths = [QUALITIES["subtree_mean_of_means"](tree, i) for i in (1, 2, 3)]
    assert worths == pytest.approx([0.13, 0.14, 0.12])
    found = [upper_bound(worth, 5, tree.nodes[i].visits, exploration) for i, worth in enumerate(worths, 1)]
    assert found == pytest.approx(bounds, abs=1e-6)
    assert tree.select("ABC", exploration, "subtree_mean_of_means") == 2


def test_worth_is_a_mean_of_means():
    tree = Tree.of("root")
    top = tree.add(0, "A", "a", [0.10])
    below = tree.add(top, "A", "aa", [0.16])
    tree.add(top, "B", "ab", [0.13])
    tree.add(below, "A", "aaa", [0.22])
    found = {rule: worth(tree, top) for rule, worth in QUALITIES.items()}
    assert found == pytest.approx({"subtree_mean_of_means": 0.14, "visit_mean": 0.1525, "max": 0.22})


@pytest.mark.parametrize(
    ("exploration", "order", "ends", "gains"),
    [
        (0.1, "A B C BA BB AA BC CA BBA AB BAA AC BBB BCA BAB BBC CB BAC ABA BCB", ("BAB", "C", 0.189, 0.09), 15),
        (1.0, "A B C BA AA CA BB AB CB BC AC CC BBA ABA CBA BAA AAA CAA BCA ACA", ("BBA", "CC", 0.189, 0.083), 16),
    ],
)
def test_the_known_search(exploration, order, ends, gains):
    tree = searched(exploration)
    assert [node.text for node in tree.nodes[1:]] == order.split()
    best, worst = (tree.nodes[i] for i in tree.ends())
    assert (best.text, worst.text) == ends[:2]
    assert (best.value, worst.value) == pytest.approx(ends[2:])
    assert len(tree.nodes) == 21
    assert len(tree.gains()) == gains
    assert (tree.nodes[0].visits, tree.nodes[0].best) == (20, pytest.approx(0.189))
    assert "".join(tree.actions_to(tree.ends()[0])) == best.text


def test_a_constant_reward_gains_nothing():
    tree = searched(0.1, lambda text: 0.5)
    best, worst = tree.ends()
    assert tree.gains() == []
    assert tree.nodes[best].value == tree.nodes[worst].value == 0.5


@pytest.mark.parametrize("stop", [1, 7, 13])
def test_saved_and_loaded_it_grows_to_the_same_tree(stop):
    half = grow(Tree.of(""), stop)
    back = Tree.from_plain(json.loads(json.dumps(half.to_plain())))
    whole = grow(back, 20)
    whole.nodes[0].rewards = [reward("")]
    assert whole == searched(0.1)


def test_without_exploration_the_best_worth_is_followed():
    tree = grow(Tree.of(""), 12, 0.0)
    wide = grow(Tree.of(""), 12, 1e6)
    assert max(len(node.text) for node in tree.nodes) > max(len(node.text) for node in wide.nodes) == 2


def test_what_cannot_be_rewritten_is_passed_over():
    tree = Tree.of("")
    tree.nodes[0].barren = ["A", "C"]
    assert tree.unused(0, "ABC") == ["B"]
    only = tree.add(0, "B", "B", [0.3])
    tree.nodes[only].barren = ["A", "B", "C"]
    assert tree.select("ABC", 0.1, "max") is None
    assert tree.tries == 6
    assert not tree.alive(0, "ABC")
