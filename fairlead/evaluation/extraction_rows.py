"""A row for every written conversation and every known text: what is near what, as `Extraction` reports it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fairlead.evaluation.extraction_match import best_by_edits, best_by_vectors, numbers_of, vectors_of

__all__ = ["Known", "Limits", "compare"]


@dataclass(frozen=True)
class Known:
    """Texts that were trained on, or held out."""

    ids: list[str]
    """Their records' ids."""
    texts: list[str]
    """Question and answer of each, as one text."""
    questions: list[str]
    """The question of each, as it stands."""

    def first(self, count: int) -> Known:
        """Return the first so many."""
        return self.picked(range(min(count, len(self.ids))))

    def picked(self, places: Iterable[int]) -> Known:
        """Return those at some places."""
        kept = list(places)
        return Known(*([column[k] for k in kept] for column in (self.ids, self.texts, self.questions)))


@dataclass(frozen=True)
class Limits:
    """From which similarity on a text is called a copy."""

    cosine: float
    """Of vectors."""
    edit: float
    """Of edits."""


def compare(
    written: Sequence[tuple[str, str | None]],
    known: Known,
    held_out: Known | None,
    limits: Limits,
    encoder: str | None,
) -> tuple[list[dict[str, Any]], int]:
    """Compare what an engine wrote with what it was trained on, and with rows that it was not.

    Args:
        written: id and text of every conversation, in the order of drawing; None for one that is not whole.
        known: the training rows.
        held_out: as many other rows, if there are.
        limits: what counts as a copy; equal texts always do.
        encoder: see `vectors_of`.

    Returns:
        Rows of the parts "conversation", "row" and "held_out", and how many texts the encoder cut.
    """
    texts = [text for _, text in written if text is not None]
    parts = [texts, known.texts, held_out.texts if held_out else []]
    vectors, cut = vectors_of([text for part in parts for text in part], encoder)
    ends = np.cumsum([0, *map(len, parts)])
    own, trained, other = (vectors[start:end] for start, end in pairwise(ends))
    best, edits = best_by_vectors(own, trained, limits.cosine), best_by_edits(texts, known.texts)
    verbatim = _among(texts, known.texts)
    extracted = np.maximum(best.value >= limits.cosine, verbatim)
    hits = Counter(int(k) for k, hit in zip(best.place, extracted) if hit)
    single = [float(hit and hits[int(k)] == 1) for k, hit in zip(best.place, extracted)]
    same = [float(numbers_of(text) == numbers_of(known.texts[k])) for text, k in zip(texts, best.place)]
    found: dict[str, Any] = {
        "similarity": best.value,
        "extracted": extracted,
        "edit": edits.value,
        "near_copy": np.maximum(edits.value >= limits.edit, verbatim),
        "verbatim": verbatim,
        "unseen": single,
        "same_numbers": [s if hit else None for s, hit in zip(same, extracted)],
    }
    if held_out is not None:
        chance = best_by_vectors(own, other, limits.cosine)
        found["held_out_match"] = np.maximum(chance.value >= limits.cosine, _among(texts, held_out.texts))
        found["excess"] = extracted - found["held_out_match"]
    rows, k = [], 0
    for place, text in written:
        row: dict[str, Any] = {"part": "conversation", "id": place, "malformed": float(text is None)}
        if text is not None:
            row |= {"match": known.ids[int(best.place[k])], "sha256": hashlib.sha256(text.encode()).hexdigest()}
            row |= {"text": text} | {axis: None if v[k] is None else float(v[k]) for axis, v in found.items()}
            k += 1
        rows.append(row)
    for row, exact in zip(_reached("row", "coverage", written, known, best.first), _among(known.texts, texts)):
        rows.append({**row, "verbatim_coverage": float(exact)})
    if held_out is not None:
        rows += _reached("held_out", "held_out_coverage", written, held_out, chance.first)
    return rows, cut


def _among(texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    there = set(others)
    return np.array([float(text in there) for text in texts])


def _reached(
    part: str, axis: str, written: Sequence[tuple[str, str | None]], known: Known, first: np.ndarray
) -> list[dict[str, Any]]:
    """Return a row per known text: whether any conversation reaches it, and which is the first, counted over all."""
    whole = [(k, text) for k, (_, text) in enumerate(written) if text is not None]
    drawn = [*(k for k, _ in whole), len(written)]
    equal = {text: k for k, text in reversed(whole)}
    rows = []
    for place, text, near in zip(known.ids, known.texts, first):
        earliest = min(drawn[int(near)], equal.get(text, len(written)))
        hit = earliest < len(written)
        rows.append({"part": part, "id": place, axis: float(hit), "first": earliest if hit else None})
    return rows
