"""What rewards say of a rollout's completions, with every fault laid at the door of a reward and a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairlead.errors import FairleadError, TrainingError
from fairlead.messages import Prompt
from fairlead.rewards.base import Rewards

__all__ = ["value"]


def value(
    rewards: Mapping[str, Any], ids: Sequence[str], prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]
) -> np.ndarray:
    """Return what each of R rewards says of each of N completions, float64 [N, R]; NaN where it abstains.

    Args:
        rewards: name -> reward.
        ids: of the prompts.
        prompts: one per id.
        texts: completions of each prompt.

    Raises:
        TrainingError: a reward that raises, gives another number of values, or one that is not finite.
    """
    owners = [id for id, row in zip(ids, texts) for _ in row]
    asked = [prompt for prompt, row in zip(prompts, texts) for _ in row]
    said = [text for row in texts for text in row]
    found = np.full((len(said), len(rewards)), np.nan)
    for k, (name, reward) in enumerate(rewards.items()):
        if said:
            found[:, k] = _values(name, reward, owners, asked, said)
    return found


def _values(name: str, reward: Any, ids: Sequence[str], prompts: list[Prompt], texts: list[str]) -> np.ndarray:
    try:
        told: Rewards = reward(prompts, texts)
    except Exception as error:
        place = f"reward {name}"
        if isinstance(error, FairleadError):
            what = f"{error.what} ({error.place})" if error.place else error.what
            raise TrainingError(f"prompts {ids[0]} to {ids[-1]}: {what}", place=place, fix=error.fix) from error
        one = _first_fault(reward, prompts, texts)
        where = f"prompts {ids[0]} to {ids[-1]}" if one is None else f"prompt {ids[one]}"
        what = f"{where}: {type(error).__name__}: {error}"
        raise TrainingError(what, place=place, fix="mend the reward, or let it abstain") from error
    if len(told) != len(texts):
        raise TrainingError(
            f"gave {len(told)} values for {len(texts)} completions (prompts {ids[0]} to {ids[-1]})",
            place=f"reward {name}",
            fix="return one value or abstention per completion, in their order",
        )
    return told.values


def _first_fault(reward: Any, prompts: list[Prompt], texts: list[str]) -> int | None:
    """Return the first completion that the reward fails at by itself; None if it fails only at all of them."""
    for k, (prompt, text) in enumerate(zip(prompts, texts)):
        try:
            reward([prompt], [text])
        except Exception:
            return k
    return None
