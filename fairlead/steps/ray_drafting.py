"""Drafting on Ray: the same rows as in this process, made by a pool of workers on one machine or on many.

The seeds are a Ray data set, each worker holds the method with its engines, and rows are kept here as they come, in
whatever order. A worker that dies is started again by Ray, and the seeds that it held are drafted again.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.engines.meter import Spent
from fairlead.errors import EngineError, FairleadError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from fairlead.records import Record
    from fairlead.steps.base import Answerer
    from fairlead.steps.drafting import Drafter
    from fairlead.synthesis.base import Synthesizer

__all__ = ["Work", "address_of", "draft_on_ray"]

_NAME = "ray"


@dataclass(frozen=True)
class Work:
    """What a worker needs to draft."""

    method: Synthesizer
    """What drafts."""
    models: Mapping[str, Answerer]
    """role -> who answers."""
    dtype: str | None
    """Number format of local models."""
    done: frozenset[str]
    """Keys of the drafts that need not be made again."""


class _Worker:
    """Drafts batches of seeds."""

    def __init__(self, work: Work):
        self._work = work
        self._folder = tempfile.TemporaryDirectory(prefix="fairlead-")
        self._told: dict[str, Spent] = {}

    @cached_property
    def _drafter(self) -> Drafter:
        """Opened by the first batch, because what goes wrong there reaches the caller whole."""
        from fairlead.steps.drafting import Drafter

        work, cache = self._work, Path(self._folder.name) / "answers.sqlite"
        return Drafter.open(work.method, work.models, work.dtype, cache)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        keys, drafts, spent, error = [""] * len(batch["seed"]), [""] * len(batch["seed"]), "", b""
        try:
            seeds: list[Record] = [pickle.loads(seed) for seed in batch["seed"]]
            keys = [self._drafter.key(seed) for seed in seeds]
            waiting = [i for i, key in enumerate(keys) if key not in self._work.done]
            for i, row in zip(waiting, self._drafter.rows([seeds[i] for i in waiting]), strict=True):
                drafts[i] = json.dumps(row)
            spent = self._since()
        except (
            FairleadError
        ) as stopped:  # as a value: raised, it would reach the caller as a text with Ray's own traces
            error = pickle.dumps(stopped)
        rest = len(keys) - 1
        told = {"spent": [spent] + [""] * rest, "error": [error] + [b""] * rest}
        return {"index": batch["index"], "key": keys, "draft": drafts, **told}

    def _since(self) -> str:
        """Return as JSON what was spent since this was asked last."""
        spent = self._drafter.spent
        before = {role: self._told.get(role, Spent()) for role in spent}
        self._told = spent
        return json.dumps(
            {r: {k: v - asdict(before[r])[k] for k, v in asdict(one).items()} for r, one in spent.items()}
        )


def address_of(on: str) -> str | None:
    """Return the address of the cluster that `on` names; None where Ray is to be started here.

    Raises:
        UsageError: `on` names something else.
    """
    if on == _NAME:
        return None
    if on.startswith("ray://"):
        return on
    name, colon, address = on.partition(":")
    if name != _NAME or not colon or not address:
        raise UsageError(f"synthesize.on is {on!r}", fix="write `ray`, or `ray:ADDRESS` of a cluster")
    return address


def draft_on_ray(
    work: Work, seeds: Sequence[Record], *, on: str, workers: int, at_once: int
) -> Iterator[tuple[dict[int, str], list[dict[str, Any]], dict[str, Spent]]]:
    """Draft seeds on Ray.

    Args:
        work: what every worker holds.
        seeds: what is drafted.
        on: `ray`, or `ray:ADDRESS` of a cluster.
        workers: how many at most.
        at_once: seeds per call of the method.

    Yields:
        place of a seed -> its key; the rows that are new; what was spent so far, by role.

    Raises:
        MissingExtraError: Ray is not installed.
        EngineError: Ray, or the engines in its workers, failed for good.
    """
    try:
        import ray
        import ray.data
        from ray.exceptions import RayError
    except ImportError as error:
        raise MissingExtraError("ray[data]", "ray", "drafting on Ray") from error
    with _cluster(ray, address_of(on), workers):
        _hush(ray)
        gpus = 1 if ray.cluster_resources().get("GPU", 0) and _needs_device(work) else 0
        rows = [{"index": i, "seed": pickle.dumps(seed)} for i, seed in enumerate(seeds)]
        made = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // at_once)).map_batches(
            _Worker,  # type: ignore[arg-type]
            fn_constructor_args=(work,),
            batch_size=at_once,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=1,
            num_gpus=gpus,
        )
        total: dict[str, Spent] = {}
        try:
            for batch in made.iter_batches(batch_size=None):
                keys = {int(i): str(key) for i, key in zip(batch["index"], batch["key"], strict=True)}
                total = _summed(total, [json.loads(text) for text in batch["spent"] if text])
                yield keys, [json.loads(text) for text in batch["draft"] if text], total
                for stopped in filter(None, batch["error"]):
                    raise pickle.loads(stopped)
        except RayError as error:
            what = f"Ray stopped: {str(error).strip().splitlines()[-1]}"
            raise EngineError(what, fix="what was drafted is kept: start again") from error


@contextmanager
def _cluster(ray: Any, address: str | None, workers: int) -> Iterator[None]:
    """Join a cluster, or start one here for as long as the block runs; one that was there before stays."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(num_cpus=max(os.cpu_count() or 1, workers), include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        what = f"Ray cannot be {'joined' if address else 'started'}: {error}"
        raise EngineError(what, place=address, fix="check the address, or leave it out to start Ray here") from error
    try:
        yield
    finally:
        ray.shutdown()


def _hush(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _needs_device(work: Work) -> bool:
    """Whether any model is one of this process: servers have devices of their own."""
    return any(not str(model).startswith(("http://", "https://")) for model in work.models.values())


def _summed(total: Mapping[str, Spent], spent: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, Spent]:
    found = dict(total)
    for one in spent:
        for role, counts in one.items():
            found[role] = found.get(role, Spent()) + Spent(**counts)
    return found
