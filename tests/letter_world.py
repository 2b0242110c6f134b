"""A toy world for searches over rewrites: a wording is a string of letters, and what it is worth is known."""

from __future__ import annotations

from collections import Counter

from fairlead.synthesis.rewrite_tree import Tree

WORTH = {"A": 0.02, "B": 0.05, "C": -0.01}


def reward(text: str) -> float:
    """Value a string of letters: each helps half as much the next time, and length costs."""
    seen: Counter[str] = Counter()
    total = 0.10
    for letter in text:
        total += WORTH[letter] * 0.5 ** seen[letter]
        seen[letter] += 1
    return round(total - 0.001 * len(text) * (len(text) - 1), 12)


def grow(tree: Tree, until: int, exploration: float = 0.1, value=reward) -> Tree:
    """Expand the alphabetically first letter left, as often as told."""
    while len(tree.nodes) <= until:
        place = tree.select("ABC", exploration, "subtree_mean_of_means")
        letter = tree.unused(place, "ABC")[0]
        text = tree.nodes[place].text + letter
        tree.add(place, letter, text, [value(text)])
    return tree


def searched(exploration: float, value=reward) -> Tree:
    tree = grow(Tree.of(""), 20, exploration, value)
    tree.nodes[0].rewards = [value("")]
    return tree
