"""Information sampling: planted elements found, every option, what is clipped and told."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.engines.embedding import Embedding
from fairlead.errors import DataError, UsageError
from fairlead.records import Conversation, Feedback, Preference, PromptOnly
from fairlead.selection.info_sampling import InfoSampling

HARBOR_EMBEDDING = Embedding("harbor:base-300k")


def planted(seed: int, label: bool = False) -> list[PromptOnly]:
    """Two tight clusters of 480 records and 40 scattered ones behind them."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.normal(3, 0.1, (480, 4)), rng.normal(-3, 0.1, (480, 4)), rng.uniform(-8, 8, (40, 4))])
    return [
        PromptOnly(f"{i:04}", "q" * (1 + i % 7), {"vector": row.tolist(), "side": i < 480})
        for i, row in enumerate(rows)
    ]


def sampled(**fields):
    return InfoSampling(**({"embedding": "vector", "keep": 40, "clip": 0.0} | fields))


@pytest.fixture(scope="module")
def pool():
    return planted(0)


def scattered(selection) -> int:
    return sum(i >= 960 for i in selection.indices)


@pytest.mark.parametrize("seed", range(5))
def test_scattered_elements_are_found(seed):
    found = sampled(seed=seed)(planted(seed))
    assert scattered(found) >= 36
    assert found.metrics["clipped"] == 0


def test_the_guard_is_told_and_can_be_switched_off(pool):
    found = sampled(clip=0.005)(pool)
    assert found.metrics["clipped"] == 5
    assert found.left_out["clipped: most surprising 0.005 of the pool"] == 5
    surprisal = np.array(found.columns["surprisal"])
    clipped = [i for i, reason in enumerate(found.reasons) if reason.startswith("clipped")]
    assert set(clipped) == set(np.argsort(-surprisal)[:5].tolist())
    assert scattered(found) == 35


def test_changes_and_order(pool):
    found = sampled()(pool)
    surprisal, change = (np.array(found.columns[name]) for name in ("surprisal", "delta_h"))
    assert change == pytest.approx((surprisal - found.metrics["entropy"]) / 999, abs=1e-12)
    assert found.indices.tolist() == np.argsort(-change)[:40].tolist()
    assert np.array_equal(found.scores, change)
    assert scattered(sampled(direction="min")(pool)) == 0
    assert scattered(sampled(direction="abs")(pool)) >= 36
    assert any("surprisal, and nothing is fitted again" in note for note in found.notes)
    largest, least = found.notes[-2:]
    assert largest.startswith(f"largest change: {pool[found.indices[0]].id} 'q")
    assert largest.count(";") == least.count(";") == 19


@pytest.mark.parametrize(
    ("fields", "least"),
    [
        ({"entropy": "mixture_refit"}, 36),
        ({"entropy": "kde"}, 36),
        ({"entropy": "discrete", "direction": "min"}, 0),
        ({"labels": "side"}, 36),
        ({"objective": "logdet"}, 30),
        ({"dimensions": 0.999}, 36),
        ({"covariance": "diag"}, 36),
        ({"covariance": "spherical"}, 36),
    ],
)
def test_other_entropies_labels_and_objectives(pool, fields, least):
    assert scattered(sampled(**fields)(pool)) >= least


def test_one_gaussian_sees_distance_alone(pool):
    found = sampled(entropy="gaussian")(pool)
    assert found.metrics["components"] == 1
    assert scattered(found) >= 36
    assert found.scores.max() < 0.1  # nats


def test_a_step_is_checked_by_full_fits(pool):
    found = sampled(entropy="mixture_refit")(pool)
    assert found.metrics["refit_agreement"] > 0.99


def test_a_proportional_draw_prefers_but_does_not_insist(pool):
    draws = [scattered(sampled(direction="proportional", seed=seed)(pool)) for seed in range(3)]
    assert all(10 <= number < 40 for number in draws)
    assert len({tuple(sampled(direction="proportional", seed=s)(pool).indices) for s in range(3)}) == 3


def test_strata_get_their_share(pool):
    found = sampled(direction="stratified", labels="side", keep=100)(pool)
    sides = [pool[i].extra["side"] for i in found.indices]
    assert sum(sides) == 48
    assert found.scores[found.indices].tolist() == sorted(found.scores[found.indices], reverse=True)


def test_lengths_beside_the_change(pool):
    long = [PromptOnly(r.id, "q" * (1 if i < 960 else 50), r.extra) for i, r in enumerate(pool)]
    assert sampled()(long).metrics["length_correlation"] > 0.3
    assert abs(sampled()(pool).metrics["length_correlation"]) < 0.1


def pairs(count=24):
    words = ["salt", "tea", "silk", "corn", "iron", "rice", "wine", "wool"]
    return [
        Preference(f"p{i}", f"what does ship {i} carry?", words[i % 8], words[(3 * i + 1) % 8]) for i in range(count)
    ]


def test_pairs_in_three_ways():
    kept = {}
    for mode in ("concat", "diff", "both"):
        found = InfoSampling(keep=6, embedding=HARBOR_EMBEDDING, dimensions=3, pairs=mode)(pairs())
        kept[mode] = found.indices.tolist()
        assert len(found.columns["delta_h"]) == 24
    assert kept["concat"] != kept["diff"]
    both = InfoSampling(embedding=HARBOR_EMBEDDING, dimensions=3, pairs="both")
    most = InfoSampling(embedding=HARBOR_EMBEDDING, dimensions=3, pairs="both", pair_value="max")
    summed, largest = (np.array(method(pairs()).columns["delta_h"]) for method in (both, most))
    assert summed.sum() == pytest.approx(0, abs=1e-12)
    assert (2 * largest >= summed - 1e-12).all()
    with pytest.raises(DataError, match="no preferences: c"):
        both([*pairs(), Conversation("c", "q", "a")])
    with pytest.raises(DataError, match="pairs=both needs two"):
        sampled(pairs="both")(planted(0))


def test_feedback_has_labels_of_its_own():
    rng = np.random.default_rng(0)
    rows = [
        Feedback(f"f{i}", "q", "a", i % 2 == 0, {"vector": rng.normal(3.0 * (i % 2), 1, 2).tolist()}) for i in range(60)
    ]
    found = sampled(labels="label", keep=0.5, direction="stratified")(rows)
    assert found.metrics["components"] == 2
    with pytest.raises(DataError, match="no column 'mood'"):
        sampled(labels="mood")(rows)


def test_blank_texts_are_told_apart():
    rows = [*pairs(10), Preference("blank", "", "", "x")]
    found = InfoSampling(embedding=HARBOR_EMBEDDING, dimensions=2)(rows)
    assert found.left_out["blank text"] == 1
    assert found.columns["surprisal"][10] is None
    assert InfoSampling(embedding=HARBOR_EMBEDDING)(rows[10:]).left_out == {"blank text": 1}


def test_few_rows_for_many_numbers_are_noted():
    rows = [
        PromptOnly(str(i), "q", {"vector": v.tolist()})
        for i, v in enumerate(np.random.default_rng(0).normal(size=(30, 8)))
    ]
    assert any("few for 2 full covariances of 8 numbers" in note for note in sampled()(rows).notes)


@pytest.mark.parametrize(
    "bad",
    [{"keep": 0}, {"components": 0}, {"restarts": 0}, {"ridge": 0}, {"clip": 1}, {"dimensions": 2.5},
     {"entropy": "kde", "labels": "side"}],
)  # fmt: skip
def test_bad_fields_are_named(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        InfoSampling(**bad)
