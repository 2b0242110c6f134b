"""How likely an engine finds each of a few labels as the beginning of its reply, labels of one token each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UnsupportedError, UsageError
from fairlead.messages import Prompt

__all__ = ["expected_score", "label_logprobs", "told_logprob"]


def label_logprobs(engine: Engine, prompts: Sequence[Prompt], labels: Sequence[str], how: Sampling) -> np.ndarray:
    """Return the log-probs of K labels as the next token behind each of N prompts, float64 [N, K], nats.

    A server tells those of its likeliest tokens; a label that is not among them is -inf.

    Args:
        engine: who is asked; every prompt is read once for all labels.
        prompts: what stands before the label.
        labels: texts that are one token behind these prompts.
        how: what a server is asked for: one token and its likeliest ones.

    Raises:
        UsageError: a label that is several tokens.
        UnsupportedError: an engine without log-probs.
    """
    if not prompts:
        return np.zeros((0, len(labels)))
    try:
        found = engine.logprobs([prompt for prompt in prompts for _ in labels], list(labels) * len(prompts))
    except UnsupportedError:
        if not getattr(engine, "remote", False):
            raise
        told = [row[0].extra.get("top_logprobs") or [{}] for row in engine.generate(prompts, how)]
        return np.array([[told_logprob(label, places[0]) for label in labels] for places in told])
    for label, values in zip(list(labels) * len(prompts), found, strict=True):
        if len(values) != 2:
            what = f"the label {label!r} is {len(values) - 1} tokens behind this prompt, not one"
            raise UsageError(what, fix="let the prompt's text end in another way, or score with another model")
    return np.array([float(values[0]) for values in found]).reshape(len(prompts), len(labels))


def told_logprob(label: str, told: Mapping[str, float]) -> float:
    """Return a label's log-prob, of all tokens that spell it, among those told; -inf where there is none."""
    found = [nats for text, nats in told.items() if text.strip() == label]
    return float(np.logaddexp.reduce(found)) if found else -np.inf


def expected_score(logprobs: np.ndarray) -> np.ndarray:
    """Return sum_k k * softmax(logprobs)_k over labels 1..K, float64 [N], in [1, K]; NaN where no label is likely.

    Args:
        logprobs: float [N, K], or logits: what is added to all K of a row changes nothing.
    """
    wide = np.asarray(logprobs, np.float64)
    top = wide.max(-1, keepdims=True)
    known = np.isfinite(top)
    weights = np.exp(np.where(known, wide - np.where(known, top, 0.0), 0.0))
    score = (weights * np.arange(1, wide.shape[-1] + 1)).sum(-1) / weights.sum(-1)
    return np.where(known[..., 0], score, np.nan)
