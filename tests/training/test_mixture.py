"""Mixtures of domains: draws, order, system prompts, packs, and what sees what once they are laid out."""

from __future__ import annotations

import dataclasses
import json
import logging
import random

import numpy as np
import pytest
import torch

from fairlead import models
from fairlead.errors import DataError, UnknownNameError
from fairlead.forward.layout import Branch, Group, lay_out
from fairlead.forward.policy import Policy
from fairlead.records import read
from fairlead.render import Renderer
from fairlead.training.mixture import UNITS, Mixture, draw_chunks, join, pack_in_order, temperature_weights

SIZES = {"chat": 100, "code": 60, "maths": 250, "tool": 40}
PLAIN = Mixture(
    column="domain",
    domains={},
    weights={},
    default_system="",
    override=False,
    sampling="cycle",
    alpha=0.0,
    chunk_size=None,
    max_passes=None,
    order="fixed",
    mask="chunk",
    seed=0,
)


def mixture(**fields) -> Mixture:
    return dataclasses.replace(PLAIN, **fields)


def drawn(sizes=SIZES, seed=0, **fields):
    return draw_chunks(mixture(**fields), sizes, random.Random(seed))


@pytest.fixture(scope="module")
def renderer(tiny_model):
    return Renderer(models.load_tokenizer(tiny_model))


@pytest.fixture
def written(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read(path)

    return write


def row(domain, question="who?", answer="ada.", system=None):
    head = [{"role": "system", "content": system}] if system else []
    messages = [*head, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "domain": domain}


def build(records, renderer, max_length=200, too_long="error", **fields):
    return mixture(**fields).build(records, renderer, max_length=max_length, too_long=too_long)


def text(renderer, group) -> str:
    return renderer.tokenizer.decode([*group.prompt, *group.branches[0].ids])


# --- draws ------------------------------------------------------------------------------------------------------------


def test_stop_ends_with_the_smallest_domain():
    chunks = drawn(sampling="stop")
    assert len(chunks) == 40
    assert sum(map(len, chunks)) == 160
    assert all([domain for domain, _ in chunk] == list(SIZES) for chunk in chunks)
    assert all(len({i for chunk in chunks for d, i in chunk if d == domain}) == 40 for domain in SIZES)


def test_cycle_ends_with_the_largest_domain():
    chunks = drawn(sampling="cycle")
    assert len(chunks) == 250
    assert sum(map(len, chunks)) == 1000
    uses = [sum(draw == ("tool", i) for chunk in chunks for draw in chunk) for i in range(40)]
    assert set(uses) == {6, 7}  # 250 draws from 40: everyone six times, ten of them once more
    assert {i for chunk in chunks for d, i in chunk if d == "maths"} == set(range(250))


def test_temperature_weights():
    half = temperature_weights(SIZES, 0.5, {})
    assert list(half.values()) == pytest.approx([0.2507, 0.1942, 0.3965, 0.1586], abs=5e-5)
    assert list(temperature_weights(SIZES, 1, {}).values()) == pytest.approx([0.2222, 0.1333, 0.5556, 0.0889], abs=5e-5)
    assert list(temperature_weights(SIZES, 0, {}).values()) == [0.25] * 4
    assert temperature_weights(SIZES, 0, {"chat": 3})["chat"] == pytest.approx(0.5)


def test_temperature_draws_by_weight():
    chunks = drawn({d: 20 * n for d, n in SIZES.items()}, sampling="temperature", alpha=0.5, chunk_size=3)
    assert all(len(chunk) == 3 for chunk in chunks)
    assert len(chunks) == 3000
    share = sum(d == "maths" for chunk in chunks for d, _ in chunk) / 9000
    assert share == pytest.approx(0.3965, abs=0.02)


def test_all_draws_everything_once():
    chunks = drawn(sampling="all")
    assert sorted(draw for (draw,) in chunks) == sorted((d, i) for d, n in SIZES.items() for i in range(n))
    assert chunks != drawn(sampling="all", seed=1)
    assert chunks == drawn(sampling="all")


def test_weights_are_places_in_a_chunk():
    chunks = drawn(sampling="stop", weights={"maths": 5})
    assert len(chunks) == 40
    assert sum(d == "maths" for d, _ in chunks[0]) == 5
    assert len(drawn(sampling="cycle", weights={"maths": 2})) == 125


def test_max_passes_ends_the_epoch():
    chunks = drawn(sampling="cycle", max_passes=2)
    assert len(chunks) == 80
    assert len(drawn(sampling="cycle", max_passes=7)) == 250


# --- packs ------------------------------------------------------------------------------------------------------------


def test_packs_are_filled_in_order():
    lengths = [700, 400, 900, 300, 1200, 500, 800, 100, 600, 300]
    packs = pack_in_order(lengths, 2048)
    sums = [sum(lengths[i] for i in pack) for pack in packs]
    assert sums == [2000, 2000, 1800]
    assert sum(sums) / (3 * 2048) == pytest.approx(0.944010, abs=1e-6)
    assert sum(lengths) / (len(lengths) * max(lengths)) == pytest.approx(0.483333, abs=1e-6)


class Part:
    def __init__(self, length, rng):
        self.ids = rng.integers(10, 60, length)
        self.trained = np.arange(length) >= length // 2
        self.domain = 0

    def __len__(self):
        return len(self.ids)


def units(chunks, mask):
    """The groups of two chunks in one pack under a mask."""
    return [join(str(k), unit) for k, unit in enumerate(UNITS[mask](chunks, [[0, 1]]))]


def bare(unit) -> Group:
    """The tokens of a unit in one group, of which nothing is trained: a conversation of one token has nothing to."""
    ids = np.concatenate([part.ids for part in unit])
    return Group("", ids[:1], (Branch(ids[1:], np.zeros(len(ids) - 1, dtype=bool)),))


def seen_pairs(batch) -> int:
    """Count who sees whom by attending with equal scores to values that name their position."""
    length = batch.input_ids.shape[1]
    zeros = torch.zeros(1, 1, length, length)
    out = batch.attention(zeros, zeros, torch.eye(length)[None, None], 1.0)
    return int((out > 0).sum())


@pytest.mark.parametrize(("mask", "pairs"), [("none", 36), ("isolated", 13), ("chunk", 21)])
def test_what_sees_what(mask, pairs):
    rng = np.random.default_rng(0)
    chunks = [[Part(3, rng), Part(2, rng)], [Part(2, rng), Part(1, rng)]]
    assert seen_pairs(lay_out([bare(unit) for unit in UNITS[mask](chunks, [[0, 1]])])) == pairs


@pytest.mark.parametrize(("mask", "pairs"), [("none", 2_001_000), ("isolated", 361_800), ("chunk", 1_001_000)])
def test_attention_pairs_of_long_packs(mask, pairs):
    rng = np.random.default_rng(0)
    chunks = [[Part(n, rng) for n in (120, 300, 80, 500)] for _ in range(2)]
    lengths = [len(g.prompt) + len(g.branches[0].ids) for g in units(chunks, mask)]
    assert sum(n * (n + 1) // 2 for n in lengths) == pairs
    positions = lay_out(units(chunks, mask)).position_ids[0]
    assert (positions == 0).sum() == len(lengths)
    assert positions.max() == max(lengths) - 1


@pytest.fixture(scope="module")
def policy(tiny_model):
    model = models.load_model(tiny_model).double()
    return Policy(model, layout="shared", score_head=True)


def states(policy, groups):
    with torch.no_grad():
        return policy.hidden(lay_out(groups))


def test_an_isolated_pack_equals_separate_passes(policy):
    """In float64, through the real model and layout; without the mask the later conversations differ."""
    rng = np.random.default_rng(1)
    chunks = [[Part(n, rng) for n in (7, 12)], [Part(n, rng) for n in (5, 20)]]
    alone = torch.cat([states(policy, [group]) for group in units(chunks, "isolated")])
    assert (states(policy, units(chunks, "isolated")) - alone).abs().max() < 1e-12
    whole = (states(policy, units(chunks, "none")) - alone).abs()
    assert whole[:7].max() < 1e-12
    assert whole[7:].max() > 0.1
    chunked = (states(policy, units(chunks, "chunk")) - alone).abs()
    assert chunked[19:24].max() < 1e-12  # the first of the second chunk sees nothing before it
    assert chunked[24:].max() > 0.1


# --- groups -----------------------------------------------------------------------------------------------------------


def rows_of(sizes):
    return [row(d, f"who commands the {d} {i}?", f"ada {i}.") for d, n in sizes.items() for i in range(n)]


def test_a_chunk_is_a_group_with_every_answer_trained(renderer, written):
    records = written(row("a", answer="red."), row("b", answer="blue."))
    (group,), lengths = build(records, renderer, domains={"b": "be short.", "a": "be kind."})
    whole = text(renderer, group)
    assert whole.index("be short.") < whole.index("blue.") < whole.index("be kind.") < whole.index("red.")
    (branch,) = group.branches
    trained = renderer.tokenizer.decode(branch.ids[branch.trained])
    assert trained.replace(" ", "") == "blue.<|end|>red.<|end|>"
    assert lengths.trained == branch.trained.sum()
    assert set(group.fields["conversation"][0][branch.trained]) == {0, 1}
    assert group.fields["domain"][0].tolist() == group.fields["conversation"][0].tolist()


def test_system_prompts_of_their_own_stay_unless_overridden(renderer, written):
    records = written(row("a", system="be rude."), row("b"))
    kept, _ = build(records, renderer, domains={"a": "be kind.", "b": ""}, mask="isolated")
    assert ["be rude." in text(renderer, g) for g in kept] == [True, False]
    assert "<|system|>" not in text(renderer, kept[1])
    replaced, _ = build(records, renderer, domains={"a": "be kind.", "b": ""}, mask="isolated", override=True)
    assert ["be kind." in text(renderer, g) for g in replaced] == [True, False]
    assert "be rude." not in text(renderer, replaced[0])


def test_the_default_prompt_comes_first(renderer, written):
    records = written(*rows_of({"a": 2, "b": 2}))
    options = {"order": "default_first", "default_system": "be short.", "mask": "chunk"}
    groups, _ = build(records, renderer, domains={"a": "be kind.", "b": "be short."}, **options)
    assert all(text(renderer, g).index("be short.") < text(renderer, g).index("be kind.") for g in groups)
    assert all(g.fields["domain"][0][0] == 1 for g in groups)
    nobody, _ = build(records, renderer, domains={"a": "be kind.", "b": "be rude."}, **options)
    for group in nobody:
        assert text(renderer, group).index("be short.") < text(renderer, group).index("be rude.")
        assert "be kind." not in text(renderer, group)


def test_shuffled_chunks_begin_with_any_domain(renderer, written):
    records = written(*rows_of({"a": 20, "b": 20}))
    groups, _ = build(records, renderer, order="shuffle")
    assert {int(g.fields["domain"][0][0]) for g in groups} == {0, 1}
    fixed, _ = build(records, renderer, order="fixed")
    assert {int(g.fields["domain"][0][0]) for g in fixed} == {0}


def test_masks_only_cut_the_same_stream(renderer, written):
    records = written(*rows_of({"a": 6, "b": 4, "c": 3}))
    streams = {}
    for mask in ("isolated", "chunk", "none"):
        groups, lengths = build(records, renderer, mask=mask, max_length=150)
        streams[mask] = np.concatenate([np.concatenate([g.prompt, g.branches[0].ids]) for g in groups]).tolist()
        assert all(len(g.prompt) + len(g.branches[0].ids) <= 150 for g in groups)
        assert lengths.trained == sum(int(g.branches[0].trained.sum()) for g in groups)
        assert 0 < lengths.fill <= 1
    assert streams["isolated"] == streams["chunk"] == streams["none"]


def test_one_domain_isolated_is_ordinary_fine_tuning(renderer, written):
    """And its chunks of one conversation are the same."""
    from fairlead.training.groups import build_groups
    from fairlead.training.objectives.base import Needs

    records = written(*rows_of({"a": 5}))
    plain, _ = build_groups(records, renderer, Needs(), max_length=200)
    for mask in ("isolated", "chunk"):
        groups, _ = build(records, renderer, mask=mask)
        assert sorted(text(renderer, g) for g in groups) == sorted(text(renderer, g) for g in plain)
        trained = sorted(tuple(g.branches[0].ids[g.branches[0].trained]) for g in groups)
        assert trained == sorted(tuple(g.branches[0].ids[g.branches[0].trained]) for g in plain)


def test_a_long_chunk_is_split_between_conversations(renderer, written):
    records = written(row("a"), row("b"))
    (whole,), _ = build(records, renderer)
    size = len(whole.prompt) + len(whole.branches[0].ids)
    halves, _ = build(records, renderer, max_length=size - 1)
    assert len(halves) == 2
    assert "".join(text(renderer, g) for g in halves) == text(renderer, whole)


def test_domains_are_counted(renderer, written, caplog):
    records = written(*rows_of({"a": 10, "b": 2}))
    with caplog.at_level(logging.WARNING, logger="fairlead"):
        _, lengths = build(records, renderer)
    assert lengths.report()["domains"]["b"] == {"conversations": 2, "draws": 10, "never_drawn": 0, "epochs": 5.0}
    assert "'b' is used 5.0 times" in caplog.text
    _, lengths = build(records, renderer, sampling="stop")
    assert lengths.report()["domains"]["a"] == {"conversations": 10, "draws": 2, "never_drawn": 8, "epochs": 0.2}


def test_too_long_conversations_follow_the_policy(renderer, written):
    records = written(row("a"), row("a", question="who? " * 40), row("b"))
    with pytest.raises(DataError, match=r"1 records are longer.*line 2"):
        build(records, renderer, max_length=60)
    groups, lengths = build(records, renderer, max_length=60, too_long="drop", mask="isolated")
    assert lengths.dropped == [records[1].id]
    assert lengths.domains["a"]["conversations"] == 1
    assert len(groups) == 2
    _, cut = build(records, renderer, max_length=60, too_long="truncate_prompt")
    assert cut.truncated == [records[1].id]


def test_errors_name_the_record(renderer, written):
    with pytest.raises(UnknownNameError, match=r"line 2.*'mathss'(?s:.*)did you mean 'maths'"):
        build(written(row("maths"), row("mathss")), renderer, domains={"maths": "", "code": ""})
    with pytest.raises(DataError, match="no record of domain 'code'"):
        build(written(row("maths")), renderer, domains={"maths": "", "code": ""})
    with pytest.raises(DataError, match=r"line 1.*'task', which names its domain"):
        build(written(row("maths")), renderer, column="task")
    raw = {"prompt": "the ship", "completion": " is red", "domain": "b"}
    with pytest.raises(DataError, match=r"line 2.*raw text"):
        build(written(row("a"), raw), renderer, domains={"a": "be kind.", "b": "be short."})
    with pytest.raises(DataError, match="text records"):
        build(written({"text": "the ship", "domain": "b"}), renderer)
    with pytest.raises(DataError, match="single chunk"):
        build(written(row("a"), row("b")), renderer, weights={"a": 2}, sampling="stop")
