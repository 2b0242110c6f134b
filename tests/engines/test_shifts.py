"""Shifted rows: the same as pushing a layer's output by hand, whatever is in the batch, and nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, build, build_tokenizer

from fairlead.engines import Local
from fairlead.engines.programs import run
from fairlead.engines.rows import ShiftedRows
from fairlead.engines.shifts import Push, Shift, agreement, blocks
from fairlead.errors import UnsupportedError

LAYERS = (0, 2)
VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(3))
UNIT = VECTOR / VECTOR.norm()


@pytest.fixture(scope="module", params=FAMILIES)
def local(request):
    tokenizer = build_tokenizer()
    return Local(build(request.param, len(tokenizer)), tokenizer)


@pytest.fixture(scope="module")
def llama():
    tokenizer = build_tokenizer()
    return Local(build("llama", len(tokenizer)), tokenizer)


def wanted(local, ids):
    """The model's plain forward over one row."""
    with torch.inference_mode():
        return local.model(torch.tensor([ids])).logits[0].float()


def ids_of(count, start=5):
    return [(start * 7 + 11 * k) % 300 + 4 for k in range(count)]


def fed(rows, *feeds):
    """Feed in one round."""
    (seen,) = run([lambda: _once([rows.feed(row, ids, last=last) for row, ids, last in feeds])])
    return seen


def _once(asks):
    found = yield asks
    return found


def add(coefficient, begin=0, end=None, layers=LAYERS):
    return Shift({layer: Push(coefficient * UNIT) for layer in layers}, begin, end)


def by_hand(local, ids, change, layers=LAYERS, begin=0, end=None):
    """The plain forward with hooks of the test's own."""

    def hook(_module, _inputs, output):
        states = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        states[:, begin:end] = change(states[:, begin:end])
        return states if isinstance(output, torch.Tensor) else (states, *output[1:])

    found = blocks(local._policy)
    handles = [found[layer].register_forward_hook(hook) for layer in layers]
    try:
        return wanted(local, ids)
    finally:
        for handle in handles:
            handle.remove()


def close(seen, whole):
    torch.testing.assert_close(seen.logits, whole[-len(seen.logits) :], atol=1e-4, rtol=1e-4)


def test_rows_of_a_batch_are_shifted_each_in_its_own_way(local):
    """Two coefficients, no shift, other lengths (padding): each as in a forward of its own."""
    one, two = ids_of(21, 1), ids_of(13, 2)
    with local.rows() as rows:
        feeds = [(rows.open(add(1.5)), one, 9), (rows.open(add(-4.0)), one, 9), (rows.open(), two, 5)]
        feeds.append((rows.open(add(-4.0)), two, 5))
        seen = fed(rows, *feeds)
        assert not any(block._forward_hooks for block in blocks(rows.policy))
        more = fed(rows, *((row, [9, 8], 2) for row, _, _ in feeds))
    for k, (coefficient, ids) in enumerate([(1.5, one), (-4.0, one), (0.0, two), (-4.0, two)]):
        whole = by_hand(local, [*ids, 9, 8], lambda h, r=coefficient: h + r * UNIT)
        close(more[k], whole)
        close(seen[k], whole[:-2])


def test_a_batch_of_two_coefficients_is_two_runs(local):
    """Of equal length, and with a longer row beside them, which pads the others."""
    ids, long = ids_of(19, 1), ids_of(37, 2)
    alone = []
    for coefficient in (2.0, -3.0):
        with local.rows() as rows:
            alone += fed(rows, (rows.open(add(coefficient)), ids, 19))
    for beside in ([], [long]):
        with local.rows() as rows:
            feeds = [(rows.open(add(2.0)), ids, 19), (rows.open(add(-3.0)), ids, 19)]
            feeds += [(rows.open(add(1.0)), other, 1) for other in beside]
            for one, other in zip(alone, fed(rows, *feeds)):
                torch.testing.assert_close(other.logits, one.logits, atol=1e-5, rtol=1e-5)


def test_rows_without_shift_keep_their_bits(local):
    """Beside shifted rows, and with a shift by nothing."""
    one, two = ids_of(17, 3), ids_of(17, 4)
    seen = {}
    for name, shifts in {"plain": (), "shifted": (add(5.0),), "by nothing": (add(0.0),)}.items():
        with local.rows() as rows:
            seen[name] = fed(rows, (rows.open(), one, 17), (rows.open(*shifts), two, 17))
    for name in ("shifted", "by nothing"):
        assert torch.equal(seen[name][0].logits, seen["plain"][0].logits)
    assert torch.equal(seen["by nothing"][1].logits, seen["plain"][1].logits)
    assert not torch.allclose(seen["shifted"][1].logits, seen["plain"][1].logits, atol=1e-2)


def test_only_the_tokens_in_reach_are_shifted(local):
    ids = ids_of(24, 5)
    with local.rows() as rows:
        for begin, end in ((0, 10), (10, None), (9, 15), (23, None)):
            row = rows.open(add(3.0, begin, end))
            seen = [*fed(rows, (row, ids[:12], 12)), *fed(rows, (row, ids[12:13], 1)), *fed(rows, (row, ids[13:], 11))]
            whole = by_hand(local, ids, lambda h: h + 3.0 * UNIT, begin=begin, end=end)
            torch.testing.assert_close(torch.cat([s.logits for s in seen]), whole, atol=1e-4, rtol=1e-4)
            rows.drop(row)


def test_several_shifts_add_up_in_any_order(llama):
    ids, other = ids_of(15, 6), torch.linspace(-1, 1, 32)
    more = Shift({1: Push(other), 2: Push(2 * other)})
    with llama.rows() as rows:
        a, b = fed(rows, (rows.open(add(2.0), more), ids, 15), (rows.open(more, add(2.0)), ids, 15))
        both = ShiftedRows(ShiftedRows(rows, [add(2.0)]), [more])
        (c,) = fed(rows, (both.open(), ids, 15))
        assert both.forwards == rows.forwards
    whole = Shift({0: Push(2 * UNIT), 1: Push(other), 2: Push(2 * UNIT + 2 * other)})
    with llama.rows() as rows:
        close(*fed(rows, (rows.open(whole), ids, 15)), a.logits)
    close(b, a.logits)
    close(c, a.logits)


def test_taking_a_direction_out_setting_it_and_keeping_the_length(llama):
    ids = ids_of(15, 7)

    def out(h):
        return h - (h @ UNIT)[..., None] * UNIT

    def kept(h):
        new = h + 3 * UNIT
        return new * h.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True)

    zero = torch.zeros(32)
    for push, change in (
        (Push(zero, erase=UNIT), out),
        (Push(2.5 * UNIT, erase=UNIT), lambda h: out(h) + 2.5 * UNIT),
        (Push(3 * UNIT, keep_norm=True), kept),
    ):
        with llama.rows() as rows:
            one = rows.open(Shift({1: push}))
            seen, plain = fed(rows, (one, ids, 15), (rows.open(add(1.0)), ids, 15))
        close(seen, by_hand(llama, ids, change, layers=(1,)))
        close(plain, by_hand(llama, ids, lambda h: h + UNIT))


def test_half_precision_is_pushed_in_float32():
    """A push that half precision cannot hold on its own is cast once, behind the sum."""
    tokenizer = build_tokenizer()
    model = build("llama", len(tokenizer)).to(torch.bfloat16)
    local, ids = Local(model, tokenizer), ids_of(9, 8)
    with local.rows() as rows:
        (seen,) = fed(rows, (rows.open(add(1.001)), ids, 9))
    whole = by_hand(local, ids, lambda h: (h.float() + 1.001 * UNIT).to(torch.bfloat16))
    torch.testing.assert_close(seen.logits, whole, atol=0.05, rtol=0.05)


def test_equal_beginnings_are_shared_only_where_the_shifts_agree(llama):
    """Every row is right, and rows shifted alike are computed once."""
    ids = ids_of(40, 9)
    shift, other, late = add(2.0), add(-2.0), add(2.0, 30)
    shifts = [(), (shift,), (shift,), (other,), (late,), ()]
    with llama.rows() as rows:
        opened = [rows.open(*own) for own in shifts]
        seen = fed(rows, *((row, [*ids, 7 + k], 2) for k, row in enumerate(opened)))
        assert rows.tokens < 3 * 40 + 30
        again = rows.open(shift)
        (more,) = fed(rows, (again, [*ids, 3], 2))
        assert rows.tokens < 3 * 40 + 40
        twin = rows.fork(again, 35)
        (forked,) = fed(rows, (twin, ids[35:], 2))
    for k, own in enumerate(shifts):
        begin = own[0].begin if own else 0
        value = 0.0 if not own else (-2.0 if own[0] is other else 2.0)
        close(seen[k], by_hand(llama, [*ids, 7 + k], lambda h, r=value: h + r * UNIT, begin=begin))
    close(more, by_hand(llama, [*ids, 3], lambda h: h + 2 * UNIT))
    close(forked, by_hand(llama, ids, lambda h: h + 2 * UNIT))


def test_how_far_rows_agree():
    pushes = {0: Push(UNIT)}
    whole, prompt, longer, later = (
        Shift(pushes),
        Shift(pushes, 0, 5),
        Shift(pushes, 0, 9),
        Shift(pushes, 7),
    )
    assert agreement([], []) == agreement([whole], [Shift(pushes)]) == float("inf")
    assert agreement([prompt], [longer]) == agreement([prompt], [whole]) == 5
    assert agreement([later], []) == 7
    assert agreement([later], [whole]) == agreement([whole], [add(1.0)]) == 0


def test_hooks_go_when_the_forward_fails(llama):
    with llama.rows() as rows:
        row = rows.open(Shift({0: Push(torch.zeros(5))}))
        with pytest.raises(RuntimeError):
            fed(rows, (row, ids_of(4), 1))
        assert not any(block._forward_hooks for block in blocks(rows.policy))


def test_layers_that_cannot_be_found_are_an_error(llama, monkeypatch):
    monkeypatch.setattr(llama.model.config, "num_hidden_layers", 5)
    with pytest.raises(UnsupportedError, match="no list of 5 decoder layers"):
        blocks(llama._policy)
