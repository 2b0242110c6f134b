"""Steering: push a model's hidden states along a direction while it reads and writes.

Source: Zou et al. 2023, "Representation Engineering" (arXiv 2310.01405); what it costs: Wolf et al. 2024 (arXiv
2401.16332). At every chosen layer and token h becomes h + coefficient * v, where v has length 1 and points from one
kind of text to another (`fairlead.decoding.contrasts`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from fairlead import records
from fairlead.decoding.base import EngineSpec, TokenDecoder
from fairlead.decoding.contrasts import Reading, read_vector
from fairlead.decoding.vectors import SteeringVector, best_layers, usual_layers
from fairlead.engines.base import SETTINGS, Completion, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.draw import token_logprob
from fairlead.engines.programs import Program, run
from fairlead.engines.shifts import Push, Shift
from fairlead.engines.writing import Line, write
from fairlead.errors import ModelError, UnknownNameError, UnsupportedError, UsageError
from fairlead.fields import to_plain
from fairlead.messages import Prompt

if TYPE_CHECKING:
    from fairlead.engines.local import Local
    from fairlead.engines.rows import Rows
    from fairlead.engines.streaming import Listener

__all__ = ["Steering"]


@dataclass(frozen=True)
class Steering(TokenDecoder):
    """A model whose hidden states are pushed along a direction."""

    engine: EngineSpec
    """The model; it must run in this process. A steered one is steered once more."""
    coefficient: float = 1.0
    """How far the states are pushed at every layer, in the units of the hidden states; negative pushes back. With
    `how: clamp` what the projection is set to."""
    vector: Any = None
    """Where to: a file written by `SteeringVector.save`, or a `SteeringVector`. Not with `pairs`."""
    pairs: Any = None
    """Data from which the vector is read when first needed: preferences or rankings, or with `reading.system` any
    chats."""
    reading: Reading = field(default_factory=Reading)
    """How the vector is read from `pairs`."""
    layers: tuple[int, ...] | str | None = None
    """Decoder layers, counted from 0; by default those between 0.30 and 0.45 of the depth; `auto` takes the five in a
    row that separate held-out pairs best, in the first 0.6 of the depth."""
    positions: str = "all"
    """Which tokens are pushed: all, prompt, generated, or last (the prompt's last token and all that follow)."""
    how: str = "add"
    """add (the vector times the coefficient), remove (take the direction out; no coefficient) or clamp (set the
    projection on it to the coefficient)."""
    keep_norm: bool = False
    """Whether pushed states are scaled back to their own length."""
    relative: bool = False
    """Whether the coefficient counts in median lengths of the layer's hidden states, as met while reading."""
    other_model: bool = False
    """Whether a vector read from another model of the same shape may be used."""

    adjustable: ClassVar[tuple[str, ...]] = ("coefficient", "layers", "positions", "how", "keep_norm", "relative")
    honours: ClassVar[frozenset[str]] = SETTINGS
    example: ClassVar[Mapping[str, Any]] = {
        "engine": "harbor:aligned-300k",
        "coefficient": 1.0,
        "pairs": "harbor:preferences?n=16&kinds=harm",
    }

    def __post_init__(self) -> None:
        for name, known in (("how", _HOW), ("positions", _POSITIONS)):
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known, place="steering")
        if (self.vector is None) == (self.pairs is None):
            raise UsageError("steering needs a vector or pairs to read it from", fix="give one of vector and pairs")
        if self.vector is not None and self.reading != Reading():
            raise UsageError("steering.reading is for pairs; the vector is read already", fix="leave reading out")
        if not math.isfinite(self.coefficient):
            raise UsageError(f"steering.coefficient is {self.coefficient}", fix="use a finite number")
        if self.how == "remove" and (self.coefficient != 1.0 or self.relative):
            raise UsageError("how: remove takes no coefficient", fix="leave coefficient and relative out")
        if isinstance(self.layers, str) and self.layers != "auto":
            raise UnknownNameError("choice of layers", self.layers, ("auto",), place="steering.layers")
        if self.layers == ():
            raise UsageError("steering.layers is empty", fix="name a layer, or leave layers out")

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the data that the vector is read from, or the vector's file."""
        return {name: settings[name] for name in ("pairs", "vector") if isinstance(settings.get(name), str)}

    @cached_property
    def read(self) -> SteeringVector:
        """The vector: loaded, or read from the pairs, once per model, data and reading in this process.

        Raises:
            ModelError: a vector of another shape or, unless `other_model`, of another model.
            DataError: a file or pairs that give no vector.
        """
        local = self.local("engine")
        if self.pairs is not None:
            data = self._data()
            key = (local.fingerprint, data.fingerprint, self.reading)
            if key not in _READ:
                _READ[key] = read_vector(local, data, self.reading)
            return _READ[key]
        found = self.vector if isinstance(self.vector, SteeringVector) else SteeringVector.load(self.vector)
        own, given = local._config.hidden_size, {len(direction) for direction in found.directions.values()}
        if given != {own}:
            raise ModelError(
                f"the vector has {sorted(given)} numbers, the hidden states {own}",
                place="steering.vector",
                fix="read a vector from this model",
            )
        if found.model != local.fingerprint and not self.other_model:
            raise ModelError(
                "the vector was read from another model",
                place="steering.vector",
                fix="read one from this model, or set other_model: true",
            )
        return found

    @cached_property
    def chosen_layers(self) -> tuple[int, ...]:
        """The layers that are pushed.

        Raises:
            UsageError: a layer that the model or the vector does not have.
        """
        depth = self.local("engine")._config.num_hidden_layers
        if self.layers == "auto":
            return best_layers(self.read.separation, depth)
        layers = usual_layers(depth) if self.layers is None else tuple(dict.fromkeys(map(int, self.layers)))
        known = sorted(layer for layer in self.read.directions if layer < depth)
        missing = sorted(set(layers) - set(known))
        if missing:
            raise UsageError(f"there is no layer {missing}", place="steering.layers", fix=f"choose among {known}")
        return layers

    @cached_property
    def pushes(self) -> dict[int, Push]:
        """What happens to the states by layer; empty where nothing does."""
        if self.how == "add" and self.coefficient == 0:
            return {}
        found = self.read
        size = {k: self.coefficient * (found.norms[k] if self.relative else 1.0) for k in self.chosen_layers}
        return {k: _HOW[self.how](found.directions[k], size[k], self.keep_norm) for k in self.chosen_layers}

    def shifts(self, prompt_tokens: int) -> tuple[Shift, ...]:
        """Return how a row whose prompt has so many tokens is shifted."""
        return (Shift(self.pushes, *_POSITIONS[self.positions](prompt_tokens)),) if self.pushes else ()

    def lend(self) -> tuple[Local, tuple[Shift, ...]]:
        """Return the model and its shift, so that another decoder can use the steered model's distributions.

        Raises:
            UnsupportedError: `positions` other than all: where a row's prompt ends is then not known.
        """
        if self.positions != "all":
            what = f"a model steered at positions: {self.positions} cannot be part of another decoder"
            raise UnsupportedError(what, fix="use positions: all")
        local, below = self._lent("engine")
        return local, (*below, *self.shifts(0))

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with the settings, the model, and the vector or the pairs."""
        known: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        known["engine"] = self.parts["engine"].fingerprint
        if self.vector is not None:
            known["vector"] = self.read.fingerprint
        else:
            known["pairs"] = self._data().fingerprint
        text = json.dumps(["Steering", to_plain(known)], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _data(self) -> records.Records:
        if isinstance(self.pairs, records.Records):
            return self.pairs
        return records.read(self.pairs, kind=None if self.reading.system is None else "prompt")

    def check(self, sampling: Sampling) -> None:
        """Read the vector before the model is lent to the rows."""
        super().check(sampling)
        _ = self.pushes

    def program(
        self,
        prompt: Prompt,
        index: int,
        sampling: Sampling,
        rows: Mapping[str, Rows],
        tell: Listener | None = None,
    ) -> Program[Completion]:
        """Write answer number `index` as the plain engine would, with pushed states."""
        local, own = self.local("engine"), rows["engine"]
        row = own.open(*self.shifts(len(local.prompt_ids(prompt))))
        return (yield from write([Line(local, own, row, prompt)], index, sampling, tell=tell))

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Return the log-probs of each completion's tokens under the steered model, float32 [T_i], nats.

        The tokens are those of `Local.logprobs`.

        Raises:
            UsageError: not one completion per prompt.
            EngineError: a row longer than the model can read.
        """
        if len(prompts) != len(completions):
            raise UsageError(
                f"{len(prompts)} prompts and {len(completions)} completions", fix="give one completion per prompt"
            )
        _ = self.pushes
        local = self.local("engine")
        with Desk() as desk:
            rows = self.rows_from(desk)
            starts = [partial(self._score, local, rows["engine"], *pair) for pair in zip(prompts, completions)]
            return run(starts, at_once=local.max_rows)

    def _score(self, local: Local, rows: Rows, prompt: Prompt, completion: str) -> Program[np.ndarray]:
        made = local.renderer.example(prompt, completion)
        ids, count = made.ids, len(made.ids) - made.split
        local.check_length("row", ids[: made.split], room=count)
        row = rows.open(*self.shifts(made.split))
        try:
            (seen,) = yield [rows.feed(row, ids[:-1], last=count)]
        finally:
            rows.drop(row)
        targets = torch.tensor(ids[made.split :], device=seen.logits.device)
        trained = torch.tensor(made.loss_mask[made.split :])
        return token_logprob(seen.logits, targets).cpu()[trained].numpy()


_HOW: dict[str, Callable[[torch.Tensor, float, bool], Push]] = {
    "add": lambda direction, size, keep_norm: Push(size * direction, None, keep_norm),
    "remove": lambda direction, _, keep_norm: Push(0 * direction, direction, keep_norm),
    "clamp": lambda direction, size, keep_norm: Push(size * direction, direction, keep_norm),
}
"""What is done -> direction, size, whether to keep the length -> a push."""

_POSITIONS: dict[str, Callable[[int], tuple[int, int | None]]] = {
    "all": lambda prompt: (0, None),
    "prompt": lambda prompt: (0, prompt),
    "generated": lambda prompt: (prompt, None),
    "last": lambda prompt: (prompt - 1, None),
}
"""Which tokens -> tokens of the prompt -> the first one, and the one behind the last."""

_READ: dict[Any, SteeringVector] = {}
"""Vectors read in this process."""
