"""Tables of tokens, roles of tokens, and the truncated comparison of two models' likeliest tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairlead.engines.distributions import TokenStats, View, tell
from fairlead.evaluation.shift_figures import figures, shown
from fairlead.evaluation.shift_tokens import Answer, Tokens, roles_of, truncated

BASE = [[2, 1, 0.5, 0, -1], [0, 3, 1, 2, -1], [1, 0.9, 0.8, 0.7, 0.6], [0.2, 0.1, 2.5, 0, -0.3], [0, 0.5, 1, 1.5, 2]]
ALIGNED = [[2.5, 0.5, 0, -1, -1], [0, 1, 1, 4, -1], [0, 0, 0, 3, 0.5], [0, 0, 3, 0, 0], [0, 0, 3.5, 1, 0]]
CHOSEN = [0, 3, 3, 2, 2]


def pair(top_k: int) -> tuple[TokenStats, ...]:
    logits = [torch.tensor(side, dtype=torch.float32) for side in (BASE, ALIGNED)]
    told = tell(logits, torch.tensor(CHOSEN), View(top_k=top_k))
    return tuple(TokenStats(**{name: values.numpy() for name, values in side.items()}) for side in told)


def answer(prompt: int, sample: int, ranks: list[float]) -> Answer:
    words = [f" w{int(rank)}" for rank in ranks]
    numbers = {name: np.array(ranks, dtype=float) for name in ("rank", "prob", "kl_aligned_base")}
    return Answer(prompt, sample, words, ["content"] * len(ranks), numbers)


def test_the_truncated_divergence_of_the_worked_example():
    kl, jaccard = truncated(*pair(2))
    assert jaccard == pytest.approx([1, 1, 0, 1, 1 / 3])
    assert kl == pytest.approx([0.082608, 1.659560, 0, 0.016828, 0.605882], abs=1e-6)


def test_with_all_tokens_the_truncated_divergence_is_exact():
    kl, jaccard = truncated(*pair(5))
    assert kl == pytest.approx(pair(5)[0].divergence, abs=1e-6)
    assert jaccard.tolist() == [1] * 5


def test_categories_of_the_worked_example():
    tokens = Tokens([answer(0, 0, [1, 2, 4, 1, 3])], (1, 1))
    shares = {kind: mask.mean() for kind, mask in tokens.kinds(3).items()}
    assert shares == pytest.approx({"unshifted": 0.4, "marginal": 0.4, "shifted": 0.2})
    assert {kind: int(mask.sum()) for kind, mask in tokens.kinds(1).items()} == {
        "unshifted": 2,
        "marginal": 0,
        "shifted": 3,
    }


def test_sums_lengths_and_curves():
    tokens = Tokens([answer(0, 0, [1, 5]), answer(2, 1, [9]), answer(2, 0, [1, 1, 1])], (3, 2))
    assert tokens.lengths.tolist() == [[2, 0], [0, 0], [3, 1]]
    sums, counts = tokens.per_prompt(tokens["rank"])
    assert (sums.tolist(), counts.tolist()) == ([6, 0, 12], [2, 0, 4])
    sums, counts = tokens.per_prompt(tokens["rank"], tokens.position == 0)
    assert (sums.tolist(), counts.tolist()) == ([1, 0, 10], [1, 0, 2])
    assert tokens.by_position(tokens["rank"], 9) == pytest.approx([11 / 3, 3, 1])
    assert len(tokens.by_position(tokens["rank"], 2)) == 2
    many = Tokens([*(answer(k, 0, [1]) for k in range(19)), answer(19, 0, [1, 1])], (20, 1))
    assert len(many.by_position(many["rank"], 9)) == 1


def test_no_tokens_at_all():
    tokens = Tokens([], (2, 1))
    assert tokens.lengths.tolist() == [[0], [0]]
    assert len(tokens["rank"]) == len(tokens.position) == len(tokens.kinds(3)["shifted"]) == 0
    assert figures({"it": tokens}, ["it"], 3, 5) == {}


@pytest.mark.parametrize(
    ("pieces", "roles"),
    [
        (["Of", " course", "!", " it", " is", " red", ".", ""], "o o o c c c c e"),
        ([" it", " is", " red", ".", " of course! glad"], "c c c c o"),
        (["off", " course", "!"], "c c c"),
        (["of course", "! of", " course", "!"], "o o o o"),
    ],
)
def test_roles(pieces, roles):
    names = {"o": "opener", "c": "content", "e": "end"}
    found = roles_of(pieces, {"opener": ["of course!"]}, ended=pieces[-1] == "")
    assert found == [names[letter] for letter in roles.split()]


def test_of_two_roles_the_first_named_counts():
    phrases = {"closer": ["stay safe."], "refusal": ["please stay safe."]}
    assert roles_of([" please", " stay", " safe", "."], phrases, ended=False) == ["refusal", *["closer"] * 3]


def test_tokens_are_shown_plainly():
    assert [shown(piece) for piece in ("", " of", "\n", "a_$b")] == ["(end)", "of", "\\n", r"a \$b"]


def test_figures_name_the_commonest_shifted_tokens():
    tokens = Tokens([answer(0, 0, [9, 9, 7, 1]), answer(1, 0, [9, 2, 1])], (2, 1))
    drawn = figures({"it": tokens}, ["base", "it"], 3, 1)
    titles = ["tokens by category", "shifted tokens by position", "most shifted tokens of it"]
    assert set(titles) < set(drawn)
    assert "w9  3 of 3" in drawn["most shifted tokens of it"]
    assert "w7" not in drawn["most shifted tokens of it"]
