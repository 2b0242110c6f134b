"""Training a retriever: two encoders that bring a request and the guidelines written for it together.

Guide-Align (Luo et al. 2024, arXiv 2403.11838), stage 1d, after dense passage retrieval (Karpukhin et al. 2020, arXiv
2004.04906): all guidelines of a batch are compared with all its questions, and each question's own has to win.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlead import models
from fairlead.decoding.guideline_config import RetrieverConfig
from fairlead.decoding.guideline_encoder import Towers, pooling_of
from fairlead.decoding.guideline_figures import Figures, figures_of
from fairlead.decoding.guideline_library import Library, read_library
from fairlead.decoding.guideline_pairs import Batch, Pairs, hold_out, misleading, questions_of, recognised
from fairlead.decoding.guideline_retrieval import Lexical, Neighbours, Retriever, Trained
from fairlead.errors import UsageError
from fairlead.fields import to_plain

__all__ = ["RetrieverResult", "contrastive_loss", "judge_retriever", "train_retriever"]

_SCALES = {"dot": 1.0, "cosine": 20.0}


@dataclass(frozen=True)
class RetrieverResult:
    """What a training left."""

    folder: Path
    """The retriever; `guidelines` takes it as `embedder` with `retriever: trained`."""
    figures: dict[str, Figures]
    """`trained` and every baseline -> what they find for held-out questions; empty where none were held out."""
    counts: dict[str, int]
    """`guidelines`, `questions` trained on, `held_out` questions, those `unknown` to the library and left out, `steps`,
    and `cut` texts."""
    loss: float
    """Mean loss per question in the last epoch."""


def contrastive_loss(scores: Tensor, positive: Tensor, masked: Tensor | None = None) -> tuple[Tensor, int]:
    """Return each question's loss -log(exp(s_own) / sum exp(s)), and how many questions rank their own first.

    Args:
        scores: [n, m] of n questions and m guidelines.
        positive: int [n], which guideline is each question's own.
        masked: bool [n, m]; these are left out of a question's sum. No question's own may be.

    Returns:
        [n] losses, and the number whose highest score is their own, where the first of equal scores is the highest.
    """
    left = scores if masked is None else scores.masked_fill(masked, -torch.inf)
    losses = torch.logsumexp(left, dim=1) - left.gather(1, positive[:, None])[:, 0]
    return losses, int((left.argmax(dim=1) == positive).sum())


def judge_retriever(retriever: Retriever, own: Mapping[str, frozenset[int]]) -> Figures:
    """Return what a retriever finds for questions whose own guidelines are known."""
    return figures_of(retriever(list(own)), list(own.values()), least=retriever.least)


def train_retriever(
    config: RetrieverConfig, folder: str | Path, *, advance: Callable[[int], None] | None = None
) -> RetrieverResult:
    """Train a retriever into `folder`/retriever; called again after a kill it goes on behind the last whole epoch.

    Args:
        config: how.
        folder: where; `metrics.jsonl` in it has the loss of each epoch.
        advance: called with the number of epochs that have been done since the last call.

    Raises:
        DataError: a library that says for no request what was written for it.
        ModelError: a model that is no encoder.
        UsageError: no held-out question whose guidelines the library has.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    library = read_library(config.library)
    training, held_out, unknown = _split(config, library)
    known = _only(library, training)
    hard = misleading(known, training, config.hard_negatives)
    pairs = Pairs(known, training, config.near, config.mask, hard)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        towers = _towers(config)
        before = _baselines(config, known, towers, held_out)
        loss, steps = _Training(config, pairs, towers, folder).run(advance or (lambda epochs: None))
    towers.save(folder / "retriever")
    (folder / "checkpoint.pt").unlink()
    figures = before
    if held_out:
        figures = {"trained": judge_retriever(Trained(known, towers), held_out), **before}
    texts = {towers.question: [*training, *held_out], towers.guideline: [item.line for item in library.items]}
    counts = {"guidelines": len(library), "questions": len(training), "held_out": len(held_out), "unknown": unknown}
    counts |= {"steps": steps, "cut": sum(encoder.cut(some) for encoder, some in texts.items())}
    return RetrieverResult(folder / "retriever", figures, counts, loss)


def _split(
    config: RetrieverConfig, library: Library
) -> tuple[dict[str, frozenset[int]], dict[str, frozenset[int]], int]:
    """Return the questions to train on and those to evaluate on, which share none, and how many cannot be judged."""
    own = questions_of(library)
    if config.evaluation_data is None:
        kept = hold_out(list(own), config.held_out, config.seed) if len(own) > 1 else []
        held_out, unknown = {question: own[question] for question in kept}, 0
    else:
        held_out, unknown = recognised(library, read_library(config.evaluation_data), config.near)
        if not held_out:
            fix = "give requests whose guidelines are in the library"
            raise UsageError("the library has no guideline of evaluation_data", place=config.evaluation_data, fix=fix)
    return {question: mine for question, mine in own.items() if question not in held_out}, held_out, unknown


def _only(library: Library, questions: Mapping[str, Any]) -> Library:
    """Return the library as it was before the other questions came."""
    items = [replace(one, sources=tuple(s for s in one.sources if s in questions)) for one in library.items]
    return replace(library, items=tuple(items))


def _towers(config: RetrieverConfig) -> Towers:
    pooling = config.pooling or pooling_of(config.model)
    two, length = config.encoders == "two", config.max_length
    towers = Towers.start(config.model, two=two, pooling=pooling, similarity=config.similarity, max_length=length)
    return towers.to(models.pick_device())


def _baselines(
    config: RetrieverConfig, library: Library, towers: Towers, held_out: Mapping[str, frozenset[int]]
) -> dict[str, Figures]:
    made: dict[str, Callable[[], Retriever]] = {
        "lexical": lambda: Lexical(library),
        "untrained": lambda: Trained(library, towers),
        "neighbours": lambda: Neighbours(library, towers.question.encode),
    }
    return {name: judge_retriever(made[name](), held_out) for name in config.baselines} if held_out else {}


class _Training:
    """The loop; its state is on disk after every epoch."""

    def __init__(self, config: RetrieverConfig, pairs: Pairs, towers: Towers, folder: Path):
        self.config, self.pairs, self.towers, self.folder = config, pairs, towers, folder
        self.scale = config.scale or _SCALES[config.similarity]
        self.total = config.epochs * -(-len(pairs.own) // config.batch_size)
        self.optimizer = torch.optim.Adam(towers.parameters(), lr=config.learning_rate, betas=(0.9, 0.999), eps=1e-8)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._share)
        self.steps, self.history = 0, []

    def run(self, advance: Callable[[int], None]) -> tuple[float, int]:
        """Return the mean loss of the last epoch, and the number of steps."""
        first = self._resumed()
        advance(first)
        for epoch in range(first, self.config.epochs):
            # What an epoch drops out depends on its number alone, so a training that goes on ends like one in one go.
            torch.manual_seed(self.config.seed + 1 + epoch)
            losses, right = [], 0
            for batch in self._batches(epoch):
                found, correct = self._step(batch)
                losses, right = [*losses, *found], right + correct
                self.steps += 1
            self.history.append(
                {
                    "epoch": epoch + 1,
                    "step": self.steps,
                    "loss": float(np.mean(losses)),
                    "accuracy": right / len(losses),
                }
            )
            self._save(epoch + 1)
            advance(1)
        return self.history[-1]["loss"], self.steps

    def _batches(self, epoch: int) -> Iterator[Batch]:
        how = self.config
        return self.pairs.epoch(
            epoch, batch_size=how.batch_size, hard=how.hard_negatives, other=how.other_negatives, seed=how.seed
        )

    def _step(self, batch: Batch) -> tuple[list[float], int]:
        self.towers.train()
        items = list(dict.fromkeys(batch.items))
        asked = self.towers.question(batch.questions)
        said = self.towers.guideline([self.pairs.library.items[item].line for item in items])
        columns = [items.index(item) for item in batch.items]
        scores = self.scale * self.towers.compare(asked, said)[:, columns]
        own, masked = torch.arange(len(asked)), torch.from_numpy(batch.masked)
        losses, correct = contrastive_loss(scores, own.to(scores.device), masked.to(scores.device))
        self.optimizer.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.towers.parameters(), self.config.clip)
        self.optimizer.step()
        self.schedule.step()
        return losses.detach().cpu().tolist(), correct

    def _share(self, step: int) -> float:
        rise = min(self.config.warmup_steps, self.total // 10)
        return (step + 1) / (rise + 1) if step < rise else max(0.0, (self.total - step) / max(1, self.total - rise))

    @property
    def _identity(self) -> str:
        how = to_plain(replace(self.config, library=self.pairs.library.fingerprint))
        text = json.dumps([how, sorted(self.pairs.own)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _parts(self) -> Sequence[Any]:
        return (self.towers, self.optimizer, self.schedule)

    def _save(self, epoch: int) -> None:
        state = {"of": self._identity, "epoch": epoch, "steps": self.steps, "history": self.history}
        draft = self.folder / ".checkpoint.draft"
        torch.save({**state, "parts": [part.state_dict() for part in self._parts()]}, draft)
        os.replace(draft, self.folder / "checkpoint.pt")
        lines = "".join(json.dumps(line) + "\n" for line in self.history)
        (self.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")

    def _resumed(self) -> int:
        """Return the epoch to begin with, the state before it restored."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return 0
        state = torch.load(path, map_location=models.pick_device(), weights_only=True)
        if state["of"] != self._identity:
            raise UsageError("holds a training with other settings", place=str(path), fix="use another folder")
        for part, saved in zip(self._parts(), state["parts"], strict=True):
            part.load_state_dict(saved)
        self.steps, self.history = state["steps"], state["history"]
        return state["epoch"]
