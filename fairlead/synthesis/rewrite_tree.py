"""A tree of rewrites of one instruction, grown by upper confidence bounds (P-Aligner, arXiv 2508.04626).

A node is a wording, an edge a principle after which it was rewritten, the value of a node the mean reward of answers to
it. A tree is plain data at all times: saved and loaded between any two steps it grows to the same tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["QUALITIES", "Node", "QualityRule", "Tree", "upper_bound"]

QualityRule = Literal["subtree_mean_of_means", "visit_mean", "max"]
"""What a node is worth to the search."""


@dataclass
class Node:
    """One wording."""

    text: str
    """The wording."""
    action: str | None = None
    """The principle that it was rewritten after; None for the root."""
    parent: int | None = None
    """Number of the node that it was rewritten from."""
    children: list[int] = field(default_factory=list)
    """Numbers of its rewrites, in the order of their creation."""
    barren: list[str] = field(default_factory=list)
    """Principles that gave no rewrite to use."""
    visits: int = 0
    """Iterations that passed it."""
    rewards: list[float] = field(default_factory=list)
    """Rewards of the answers to it."""
    best: float | None = None
    """The greatest value in its subtree, as backed up; for the root that of its descendants."""

    @property
    def value(self) -> float:
        """Mean of the rewards; NaN while there are none."""
        return sum(self.rewards) / len(self.rewards) if self.rewards else math.nan


@dataclass
class Tree:
    """All wordings of one instruction; node 0 is the instruction itself."""

    nodes: list[Node]
    """In the order of their creation."""

    @classmethod
    def of(cls, text: str) -> Tree:
        """Return the tree of an instruction that nothing was tried on."""
        return cls([Node(text)])

    @classmethod
    def from_plain(cls, rows: Sequence[dict[str, Any]]) -> Tree:
        """Return the tree that `to_plain` wrote."""
        return cls([Node(**row) for row in rows])

    def to_plain(self) -> list[dict[str, Any]]:
        """Return the nodes as plain JSON values."""
        return [asdict(node) for node in self.nodes]

    @property
    def tries(self) -> int:
        """Rewrites asked for so far, those of no use included."""
        return len(self.nodes) - 1 + sum(len(node.barren) for node in self.nodes)

    def unused(self, place: int, actions: Sequence[str]) -> list[str]:
        """Return the principles not yet tried at a node, in the order of `actions`."""
        node = self.nodes[place]
        done = {*node.barren, *(self.nodes[child].action for child in node.children)}
        return [action for action in actions if action not in done]

    def alive(self, place: int, actions: Sequence[str]) -> bool:
        """Whether anything is left to try at a node or below it."""
        children = self.nodes[place].children
        return bool(self.unused(place, actions)) or any(self.alive(child, actions) for child in children)

    def select(self, actions: Sequence[str], exploration: float, rule: QualityRule) -> int | None:
        """Return the node to expand: down from the root along the greatest bound until one has a principle left.

        None when there is none left anywhere. Of equal bounds the first child's counts.
        """
        place = 0
        while not self.unused(place, actions):
            found = [child for child in self.nodes[place].children if self.alive(child, actions)]
            if not found:
                return None
            above = self.nodes[place].visits
            worth = QUALITIES[rule]
            place = max(
                found,
                key=lambda child: upper_bound(worth(self, child), above, self.nodes[child].visits, exploration),
            )
        return place

    def add(self, parent: int, action: str, text: str, rewards: Sequence[float]) -> int:
        """Add a rewrite with the rewards of its answers, back its value up, and return its number."""
        place = len(self.nodes)
        self.nodes.append(Node(text, action, parent, rewards=list(rewards)))
        self.nodes[parent].children.append(place)
        at: int | None = place
        while at is not None:
            node = self.nodes[at]
            node.visits += 1
            known = [self.nodes[child].best for child in node.children]
            own = [node.value] if node.rewards else []
            node.best = max([*own, *(best for best in known if best is not None)])
            at = node.parent
        return place

    def depth_first(self, place: int = 0) -> Iterator[int]:
        """Yield the numbers of a node and all below it, children in the order of their creation."""
        yield place
        for child in self.nodes[place].children:
            yield from self.depth_first(child)

    def ends(self) -> tuple[int, int]:
        """Return the numbers of the best and the worst node; of equals the first and the last in depth-first order."""
        order = sorted(self.depth_first(), key=lambda place: -self.nodes[place].value)
        return order[0], order[-1]

    def actions_to(self, place: int) -> list[str]:
        """Return the principles from the instruction to a node."""
        node = self.nodes[place]
        return [] if node.parent is None else [*self.actions_to(node.parent), str(node.action)]

    def gains(self) -> list[int]:
        """Return the numbers of the nodes that are worth more than their parent."""
        return [
            place
            for place, node in enumerate(self.nodes)
            if node.parent is not None and node.value > self.nodes[node.parent].value
        ]


def upper_bound(worth: float, above: int, visits: int, exploration: float) -> float:
    """Return the bound by which children are chosen: worth + exploration · sqrt(ln(visits of the parent) / visits)."""
    return worth + exploration * math.sqrt(math.log(above) / visits)


def _mean_of_means(tree: Tree, place: int) -> float:
    node = tree.nodes[place]
    worth = [node.value, *(_mean_of_means(tree, child) for child in node.children)]
    return sum(worth) / len(worth)


def _visit_mean(tree: Tree, place: int) -> float:
    values = [tree.nodes[below].value for below in tree.depth_first(place)]
    return sum(values) / len(values)


def _greatest(tree: Tree, place: int) -> float:
    return max(tree.nodes[below].value for below in tree.depth_first(place))


QUALITIES: dict[QualityRule, Callable[[Tree, int], float]] = {
    "subtree_mean_of_means": _mean_of_means, "visit_mean": _visit_mean, "max": _greatest,
}  # fmt: skip
"""Rule -> worth of a node: the mean of its own value and its children's worths; the plain mean over its subtree; the
greatest value there."""
