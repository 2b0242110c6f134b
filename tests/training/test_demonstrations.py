"""Few-shot groups: subsets that are distinct, seeded and in order, and tokens that are exactly the renderer's."""

from __future__ import annotations

import json
import logging

import pytest

from fairlead import models
from fairlead.errors import DataError, UsageError
from fairlead.records import read
from fairlead.render import Renderer
from fairlead.training.demonstrations import Demonstrations, sample_subsets


def turn(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


SHOTS = [turn("what is 1 plus 1?", "2."), turn("what is 2 plus 2?", "4."), turn("what is 3 plus 3?", "6.")]
QUERY = turn("what is 4 plus 4?", "the answer is 8.")
SYSTEM = [{"role": "system", "content": "be short."}]


@pytest.fixture
def built(tiny_model, tmp_path):
    def build(*messages, max_length=250, too_long="error", **fields):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"id": f"row-{i}", "messages": m}) + "\n" for i, m in enumerate(messages)))
        renderer = Renderer(models.load_tokenizer(tiny_model))
        made, lengths = Demonstrations(**fields).build(read(path), renderer, max_length=max_length, too_long=too_long)
        return made, lengths, renderer

    return build


@pytest.mark.parametrize("shots", [3, 7, 14])
@pytest.mark.parametrize("allow_empty", [True, False])
def test_subsets_are_distinct_seeded_and_in_order(shots, allow_empty):
    subsets = sample_subsets(shots, 5, "a", allow_empty=allow_empty)
    assert len(set(subsets)) == 5
    assert all(list(one) == sorted(set(one)) for one in subsets)
    assert subsets == sample_subsets(shots, 5, "a", allow_empty=allow_empty)
    assert any(sample_subsets(shots, 5, seed, allow_empty=allow_empty) != subsets for seed in "bcde")


def test_the_power_set_is_all_there_is():
    assert len(sample_subsets(3, 8, "a")) == len(sample_subsets(3, 20, "a")) == 8
    without = sample_subsets(3, 8, "a", allow_empty=False)
    assert len(without) == 7
    assert () not in without
    assert any(() in sample_subsets(3, 4, str(seed)) for seed in range(9))


def test_every_branch_is_what_the_renderer_makes_of_its_subset(built):
    messages = [*SYSTEM, *(m for shot in SHOTS for m in shot), *QUERY]
    groups, lengths, renderer = built(messages, subsets=8)
    (group,) = groups
    assert group.fields["full"].tolist() == [True] + [False] * 8
    rows = [[*group.prompt, *branch.ids] for branch in group.branches]
    wanted = [[]]
    for shot in SHOTS:
        wanted += [[*one, *shot] for one in wanted]
    examples = [renderer.example([*SYSTEM, *one, QUERY[0]], QUERY[1:]) for one in wanted]
    assert rows[0] == examples[-1].ids
    assert sorted(rows[1:]) == sorted(example.ids for example in examples)
    assert group.branches[0].trained.all()
    target = examples[0].ids[examples[0].split :]
    for branch in group.branches[1:]:
        assert branch.ids[branch.trained].tolist() == target
    assert lengths.trained == len(group.branches[0].ids) + 8 * len(target)


def test_scope_target(built):
    groups, _, _ = built([*SHOTS[0], *SHOTS[1], *QUERY], scope="target")
    first, *others = groups[0].branches
    assert first.ids[first.trained].tolist() == others[0].ids[others[0].trained].tolist()


def test_fewer_subsets_than_wanted_are_said(built, caplog):
    with caplog.at_level(logging.WARNING, logger="fairlead"):
        groups, _, _ = built([*SHOTS[0], *SHOTS[1], *QUERY], subsets=6)
    assert len(groups[0].branches) == 5
    assert "1 samples have too few demonstrations for 6 subsets" in caplog.text


@pytest.mark.parametrize(
    ("messages", "fields", "what"),
    [
        ([*SHOTS[0], *QUERY], {}, "1 demonstrations, which make 2 subsets"),
        (QUERY, {}, "0 demonstrations"),
        ([*SHOTS[0], *SHOTS[1], *QUERY], {"allow_empty": False, "subsets": 3}, None),
    ],
)
def test_records_that_are_no_samples(built, messages, fields, what):
    if what is None:
        assert len(built(messages, **fields)[0][0].branches) == 4
        return
    with pytest.raises(DataError, match=what) as caught:
        built(messages, **fields)
    assert "line 1" in str(caught.value) or "row-0" in str(caught.value)


def test_raw_text_is_no_sample(tiny_model, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "the ship is", "completion": " from malta."}))
    renderer = Renderer(models.load_tokenizer(tiny_model))
    with pytest.raises(DataError, match="not demonstrations"):
        Demonstrations().build(read(path), renderer, max_length=99, too_long="error")


def test_nothing_is_cut(built):
    long = [m for shot in SHOTS for m in shot] + QUERY
    with pytest.raises(UsageError, match="would cut"):
        built(long, too_long="truncate_end")
    with pytest.raises(DataError, match="longer than max_length"):
        built(long, max_length=20)
    short = [*SHOTS[0], *SHOTS[1], *QUERY]
    groups, lengths, _ = built(long, short, max_length=60, too_long="drop")
    assert len(groups) + len(lengths.dropped) == 2


def test_two_subsets_are_refused():
    with pytest.raises(UsageError, match="no gradient"):
        Demonstrations(subsets=2)
