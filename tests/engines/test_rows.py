"""Rows fed in any order: what the model says of a row does not depend on how it was fed or on its neighbours."""

from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, build, build_tokenizer

from fairlead.engines import Local
from fairlead.engines.programs import run
from fairlead.errors import EngineError


@pytest.fixture(scope="module", params=FAMILIES)
def local(request):
    tokenizer = build_tokenizer()
    return Local(build(request.param, len(tokenizer)), tokenizer)


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


def close(local, seen, ids, last=1):
    whole = wanted(local, ids)[-last:]
    torch.testing.assert_close(seen.logits, whole, atol=1e-4, rtol=1e-4)
    assert seen.best == whole.argmax(-1).tolist()
    logprob = torch.log_softmax(whole, -1).max(-1).values
    assert seen.best_logprob == pytest.approx(logprob.tolist(), abs=1e-4)


def test_blocks_of_any_length_equal_one_forward(local):
    one, two = ids_of(23, 1), ids_of(31, 2)
    with local.rows() as rows:
        a, b = rows.open(), rows.open()
        fed(rows, (a, one[:9], 1), (b, two[:3], 1))
        seen = fed(rows, (a, one[9:10], 1), (b, two[3:20], 4))
        close(local, seen[0], one[:10])
        close(local, seen[1], two[:20], last=4)
        (only,) = fed(rows, (b, two[20:], 11))
        close(local, only, two, last=11)
        (other,) = fed(rows, (a, one[10:], 2))
        close(local, other, one, last=2)
        assert (a.ids, b.ids) == (one, two)


def test_cut_back_forked_and_dropped(local):
    ids, other = ids_of(20, 3), ids_of(9, 4)
    with local.rows() as rows:
        a, b = rows.open(), rows.open()
        fed(rows, (a, ids, 1), (b, other, 1))
        rows.crop(a, 12)
        twin = rows.fork(a, 10)
        rows.drop(b)
        assert [row.place for row in rows.alive] == [0, 1]
        seen = fed(rows, (a, [9, 8], 1), (twin, [7], 1))
        close(local, seen[0], [*ids[:12], 9, 8])
        close(local, seen[1], [*ids[:10], 7])
        rows.drop(a, twin)
        late = rows.open()
        close(local, *fed(rows, (late, other, 3)), other, last=3)


def test_equal_beginnings_are_computed_once(local):
    start = ids_of(40, 5)
    prompts = [[*start, 7, 8, 9], [*start, 6], [*start, 7, 8, 9], start]
    with local.rows() as rows:
        opened = [rows.open() for _ in prompts]
        seen = fed(rows, *((row, ids, 1) for row, ids in zip(opened, prompts)))
        for one, ids in zip(seen, prompts):
            close(local, one, ids)
        assert rows.tokens < 60
        late = rows.open()
        close(local, *fed(rows, (late, [*start, 3, 3], 2)), [*start, 3, 3], last=2)
        assert rows.tokens < 65


def test_too_many_tokens_are_an_error(local):
    with local.rows() as rows, pytest.raises(EngineError, match="more than the model's 160"):
        fed(rows, (rows.open(), ids_of(161), 1))


def test_rows_can_go_before_anything_was_fed(local):
    ids = ids_of(9, 6)
    with local.rows() as rows:
        first, second = rows.open(), rows.open()
        rows.drop(first)
        close(local, *fed(rows, (second, ids, 1)), ids)
