"""Training a retriever: the loss's known answers, that it learns, goes on after a kill, and says what is wrong."""

from __future__ import annotations

import json
from math import e, log

import numpy as np
import pytest
import torch
from tiny_encoders import TOPICS, all_texts, build_encoder, topics

from fairlead.decoding.guideline_config import RetrieverConfig
from fairlead.decoding.guideline_encoder import Towers, folder_fingerprint
from fairlead.decoding.guideline_library import read_library
from fairlead.decoding.guideline_retrieval import Trained
from fairlead.decoding.guideline_training import contrastive_loss, train_retriever
from fairlead.errors import DataError, UsageError

QUESTIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
CONTEXTS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
OWN = torch.tensor([0, 2])


def test_known_losses():
    losses, correct = contrastive_loss(QUESTIONS @ CONTEXTS.T, OWN)
    assert losses.tolist() == pytest.approx([0.440190, 1.006409], abs=1e-6)
    assert float(losses.mean()) == pytest.approx(0.723299, abs=1e-6)
    assert correct == 1, "the second question's own is as high as another that comes before it"


def test_equal_scores_lose_the_log_of_their_number():
    losses, _ = contrastive_loss(torch.zeros(2, 4), OWN)
    assert losses.tolist() == pytest.approx([1.386294, 1.386294], abs=1e-6)
    losses, _ = contrastive_loss(torch.full((2, 7), 3.0), OWN)
    assert losses.tolist() == pytest.approx([log(7)] * 2, abs=1e-6)


def test_a_constant_vector_added_to_all_guidelines_changes_nothing():
    moved, _ = contrastive_loss(QUESTIONS @ (CONTEXTS + torch.tensor([0.7, -2.0])).T, OWN)
    assert moved.tolist() == pytest.approx([0.440190, 1.006409], abs=1e-5)


def test_a_duplicate_is_left_out_of_the_sum():
    masked = torch.zeros(2, 4, dtype=torch.bool)
    masked[1, 1] = True
    scores = (QUESTIONS @ CONTEXTS.T).requires_grad_()
    losses, correct = contrastive_loss(scores, OWN, masked)
    assert losses.tolist() == pytest.approx([0.440190, 0.551445], abs=1e-6)
    assert losses[1].item() == pytest.approx(-log(e / (e + 2)), abs=1e-6)
    assert correct == 2
    losses.sum().backward()
    assert scores.grad[1, 1] == 0
    assert bool(torch.isfinite(scores.grad).all())
    assert scores.grad.sum(1).tolist() == pytest.approx([0, 0], abs=1e-6)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    return build_encoder(tmp_path_factory.mktemp("start") / "bert", all_texts())


def config(bert, **values) -> RetrieverConfig:
    usual = {"model": bert, "library": topics(), "pooling": "mean", "max_length": 8, "batch_size": 8, "epochs": 6}
    return RetrieverConfig(**usual | {"held_out": 0.25, "learning_rate": 5e-3, "seed": 0} | values)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"encoders": "one"},
        {"similarity": "cosine"},
        {"pooling": "cls", "epochs": 12},
        {"hard_negatives": 1, "other_negatives": 2},
    ],
    ids=lambda how: "-".join(map(str, how.values())) or "default",
)
def test_it_learns_what_words_cannot_tell(bert, tmp_path, how):
    result = train_retriever(config(bert, baselines=("lexical", "untrained", "neighbours"), **how), tmp_path)
    trained, lexical, untrained = (result.figures[name] for name in ("trained", "lexical", "untrained"))
    assert trained.questions == result.counts["held_out"] == 18
    assert trained.recall[1] >= 0.9
    assert trained.mrr - untrained.mrr >= 0.2
    assert set(result.figures) == {"trained", "lexical", "untrained", "neighbours"}
    assert lexical.questions == 18
    assert result.counts["questions"] == 54
    assert result.counts["guidelines"] == 4
    assert result.counts["steps"] == how.get("epochs", 6) * 7
    assert (result.counts["cut"], result.counts["unknown"]) == (0, 0)
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == list(range(1, how.get("epochs", 6) + 1))
    assert history[-1]["loss"] == result.loss < history[0]["loss"] / 2
    assert history[-1]["accuracy"] > 0.9


def test_the_folder_scores_as_it_was_measured(bert, tmp_path):
    result = train_retriever(config(bert, similarity="cosine"), tmp_path)
    scored = Trained(read_library(topics()), Towers.load(result.folder))
    requests = [f"{asked.split()[0]} today" for asked, _ in TOPICS.values()]
    scores = scored(requests)
    assert scores.argmax(1).tolist() == [0, 1, 2, 3]
    assert np.abs(scores).max() <= 1 + 1e-9
    np.testing.assert_array_equal(scores[2], scored(requests[2:3])[0])
    assert scored([]).shape == (0, 4)
    assert not (tmp_path / "checkpoint.pt").exists()


def asked_about(folder, **guidelines) -> str:
    """Write held-out requests with their guidelines."""
    path = folder / "asked.jsonl"
    rows = [json.dumps({"prompt": prompt, "guidelines": [rule]}) for prompt, rule in guidelines.items()]
    path.write_text("\n".join(rows))
    return str(path)


def test_held_out_questions_are_not_learned_from(bert, tmp_path):
    """They are taken out of the library before anything is trained or measured on it."""
    library = [{**item, "sources": [*item["sources"], f"zebra{k}"]} for k, item in enumerate(topics())]
    rules = {f"zebra{k}": f"{item['title']}: {item['text']}" for k, item in enumerate(topics())}
    data = asked_about(tmp_path, **rules, other="quite another rule")
    result = train_retriever(config(bert, library=library, evaluation_data=data, epochs=1), tmp_path / "run")
    assert (result.counts["questions"], result.counts["held_out"], result.counts["unknown"]) == (72, 4, 1)
    assert result.figures["lexical"].mrr == 0


def test_held_out_questions_about_something_else(bert, tmp_path):
    data = asked_about(tmp_path, zebra="quite another rule")
    with pytest.raises(UsageError, match=r"asked.jsonl: the library has no guideline of evaluation_data"):
        train_retriever(config(bert, evaluation_data=data), tmp_path)


def test_equal_seeds_give_equal_bytes(bert, tmp_path):
    runs = [train_retriever(config(bert, epochs=2, seed=seed), tmp_path / f"{k}") for k, seed in enumerate((1, 1, 2))]
    first, again, another = (folder_fingerprint(run.folder) for run in runs)
    assert first == again != another
    assert runs[0].figures == runs[1].figures


class KilledError(Exception):
    """Stands in for a kill."""


def killed_after(epochs: int):
    left = [epochs]

    def advance(done: int) -> None:
        left[0] -= done
        if not left[0]:
            raise KilledError

    return advance


def test_a_killed_training_goes_on_to_the_same_bytes(bert, tmp_path):
    whole = train_retriever(config(bert, epochs=3), tmp_path / "whole")
    with pytest.raises(KilledError):
        train_retriever(config(bert, epochs=3), tmp_path / "cut", advance=killed_after(2))
    told = []
    resumed = train_retriever(config(bert, epochs=3), tmp_path / "cut", advance=told.append)
    assert told == [2, 1]
    assert folder_fingerprint(resumed.folder) == folder_fingerprint(whole.folder)
    assert (resumed.figures, resumed.loss, resumed.counts) == (whole.figures, whole.loss, whole.counts)


def test_another_training_does_not_go_on_where_this_one_stopped(bert, tmp_path):
    with pytest.raises(KilledError):
        train_retriever(config(bert, epochs=3), tmp_path, advance=killed_after(1))
    with pytest.raises(UsageError, match="other settings"):
        train_retriever(config(bert, epochs=4), tmp_path)


def test_the_step_size_rises_and_falls(bert, tmp_path, monkeypatch):
    rates = []
    real = torch.optim.Adam.step

    def step(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    train_retriever(config(bert, learning_rate=1.0, warmup_steps=4, epochs=6), tmp_path)
    assert len(rates) == 42
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == pytest.approx([(42 - k) / 38 for k in range(5, 42)])
    rates.clear()
    train_retriever(config(bert, learning_rate=1.0, epochs=3), tmp_path)
    assert rates.index(max(rates)) == 2, "a warm-up takes at most a tenth of all steps"


def test_without_held_out_questions_nothing_is_measured(bert, tmp_path):
    result = train_retriever(config(bert, held_out=0.0, epochs=1), tmp_path)
    assert result.figures == {}
    assert result.counts["questions"] == 72


def test_texts_that_are_cut_are_counted(bert, tmp_path):
    long = [{**item, "text": item["text"] + " today" * 9} for item in topics()]
    assert train_retriever(config(bert, library=long, epochs=1), tmp_path).counts["cut"] == 4


@pytest.mark.parametrize(
    ("values", "error", "what"),
    [
        ({"batch_size": 1}, UsageError, "batch_size is 1"),
        ({"epochs": 0}, UsageError, "epochs is 0"),
        ({"max_length": 1}, UsageError, "max_length is 1"),
        ({"max_length": 99}, UsageError, "reads 16 tokens"),
        ({"warmup_steps": -1}, UsageError, "warmup_steps"),
        ({"other_negatives": -1}, UsageError, "other_negatives"),
        ({"learning_rate": 0.0}, UsageError, "learning_rate"),
        ({"scale": -1.0}, UsageError, "scale is -1"),
        ({"near": 0.0}, UsageError, "near is 0"),
        ({"held_out": 1.0}, UsageError, "held_out is 1"),
        ({"library": ["be brief"]}, DataError, "for which requests"),
        ({"library": "missing.jsonl"}, DataError, "cannot be read"),
    ],
)
def test_what_cannot_be_trained(bert, tmp_path, values, error, what):
    with pytest.raises(error, match=what):
        train_retriever(config(bert, **values), tmp_path)


def test_the_settings_of_the_paper_are_the_default():
    usual = RetrieverConfig(model="m", library="l")
    assert (usual.batch_size, usual.epochs, usual.learning_rate, usual.warmup_steps) == (32, 10, 1e-5, 1000)
    assert (usual.clip, usual.hard_negatives, usual.other_negatives, usual.seed) == (1.0, 0, 1, 12345)
    assert (usual.similarity, usual.encoders, usual.pooling) == ("dot", "two", None)
