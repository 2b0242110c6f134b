"""Rows that a rewriter learns from, read off a tree of rewrites: pairs, best wordings, single steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fairlead.synthesis.base import Draft, Row

if TYPE_CHECKING:
    from fairlead.synthesis.p_aligner import PAligner
    from fairlead.synthesis.rewrite_tree import Tree

__all__ = ["ROWS", "added", "wrapped"]


def added(before: str, after: str, mode: str, separator: str) -> str | None:
    """Return what a rewriter of this mode writes to make `after` of `before`; None where it cannot.

    With `append` and `prepend` that is what was added, "" where nothing was.
    """
    if mode == "replace":
        return after
    if after == before:
        return ""
    if mode == "prepend":
        return after.removesuffix(separator + before) if after.endswith(separator + before) else None
    return after.removeprefix(before + separator) if after.startswith(before + separator) else None


def wrapped(text: str, markers: tuple[str, str] | None) -> str:
    """Return a rewrite between its markers."""
    return text if markers is None else f"{markers[0]}{text}{markers[1]}"


def _said(method: PAligner, before: str, after: str, counts: Counter[str]) -> list[dict[str, str]] | None:
    text = added(before, after, method.mode, method.separator)
    if text is None:
        counts["dropped_not_added"] += 1
        return None
    if not text and method.markers is None:
        counts["dropped_without_addition"] += 1
        return None
    return [{"role": "assistant", "content": wrapped(text, method.markers)}]


def _prompt(method: PAligner, draft: Draft, message: str, **more: Any) -> list[dict[str, str]]:
    shown = method.asked.render(
        prompt=message, history=draft.found["history"], markers=method.markers, words=None, **more
    )
    return [{"role": "user", "content": shown}]


def _ends(method: PAligner, draft: Draft, tree: Tree, counts: Counter[str]) -> Row | None:
    """Return what both kinds of rows from a tree's ends say; None where the ends are too close."""
    places = tree.ends()
    best, worst = draft.found["again"] or [tree.nodes[place].value for place in places]
    if not best - worst > method.min_margin:
        counts["dropped_by_margin"] += 1
        return None
    row: Row = {
        "parent": draft.parent,
        "prompt": _prompt(method, draft, tree.nodes[0].text),
        "source": tree.nodes[0].text,
        "source_reward": tree.nodes[0].value,
        "category": draft.found["category"],
    }
    for name, place, reward in zip(("chosen", "rejected"), places, (best, worst), strict=True):
        row |= {f"{name}_rewrite": tree.nodes[place].text, f"{name}_reward": reward}
        row[f"{name}_actions"] = tree.actions_to(place)
    return row


def _pairs(method: PAligner, draft: Draft, tree: Tree, counts: Counter[str]) -> Iterator[Row]:
    row = _ends(method, draft, tree, counts)
    if row is None:
        return
    chosen = _said(method, row["source"], row["chosen_rewrite"], counts)
    rejected = None if chosen is None else _said(method, row["source"], row["rejected_rewrite"], counts)
    if chosen is not None and rejected is not None:
        yield row | {"chosen": chosen, "rejected": rejected}


def _chosen(method: PAligner, draft: Draft, tree: Tree, counts: Counter[str]) -> Iterator[Row]:
    row = _ends(method, draft, tree, counts)
    said = None if row is None else _said(method, row["source"], row["chosen_rewrite"], counts)
    if row is not None and said is not None:
        yield row | {"completion": said}


def _steps(method: PAligner, draft: Draft, tree: Tree, counts: Counter[str]) -> Iterator[Row]:
    for place in tree.gains():
        node = tree.nodes[place]
        before = tree.nodes[node.parent or 0]
        said = _said(method, before.text, node.text, counts)
        if said is not None:
            principle = draft.found["contents"][node.action]
            yield {
                "parent": draft.parent,
                "prompt": _prompt(method, draft, before.text, principle=principle),
                "completion": said,
                "source": before.text,
                "source_reward": before.value,
                "chosen_rewrite": node.text,
                "chosen_reward": node.value,
                "action": node.action,
                "category": draft.found["category"],
            }


ROWS: dict[str, Callable[[PAligner, Draft, Tree, Counter[str]], Iterator[Row]]] = {
    "pairs": _pairs, "chosen": _chosen, "steps": _steps,
}  # fmt: skip
"""Kind of rows -> those of one tree."""
