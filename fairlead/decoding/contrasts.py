"""Reading vectors: the direction in a model's hidden states in which two kinds of text differ, layer by layer.

A layer's hidden state is what the layer gives, before any final norm (Zou et al. 2023, arXiv 2310.01405).

from fairlead.decoding.contrasts import Reading, read_vector
vector = read_vector(fairlead.engine("harbor:base-300k"), "harbor:preferences?n=100&kinds=harm", Reading())
vector.save("refusal.safetensors")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fairlead.decoding.vectors import METHODS, SteeringVector, vector_from_states
from fairlead.engines.shifts import blocks
from fairlead.errors import DataError, UnknownNameError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from fairlead.engines.local import Local
    from fairlead.records import Records

__all__ = ["Reading", "block_states", "contrast", "read_vector"]


@dataclass(frozen=True)
class Reading:
    """How a vector is read from contrast pairs."""

    method: str = "mean_difference"
    """mean_difference (mean state of the positive texts minus that of the negative ones) or pca (first principal
    component of the pairs' differences, half of the pairs turned round)."""
    at: int = -1
    """The token whose state is read, counted in the answer: 0 is its first, -1 its last one. With `system` it is
    counted from the end of the prompt, and negative."""
    system: tuple[str, str] | None = None
    """Two system messages, positive and negative: the pairs are then the records' prompts behind either of them."""
    seed: int = 0
    """Which pairs `pca` turns round, and the halves between which separation is measured."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError("method of reading", self.method, METHODS, place="reading.method")
        if self.system is not None and self.at >= 0:
            raise UsageError(f"reading.at is {self.at}", fix="with `system` the token is counted from the end: -1")


def read_vector(local: Local, pairs: str | Sequence[str] | Records, reading: Reading) -> SteeringVector:
    """Read a vector from a local model.

    Args:
        local: the model.
        pairs: preferences, whose chosen answers are the positive texts, or rankings, whose first best and first worst
            answers make a pair, or with `reading.system` any records with prompts; as records, or as a source that
            `fairlead.records.read` takes.
        reading: how.

    Raises:
        DataError: fewer than 2 pairs, an answer without the token to be read, or states that do not differ.
    """
    from fairlead import records
    from fairlead.records import Records

    kind = None if reading.system is None else "prompt"
    data = pairs if isinstance(pairs, Records) else records.read(pairs, kind=kind)
    texts = contrast(local, data, reading)
    states = block_states(local, [ids for pair in texts for ids in pair])
    origin = {**asdict(reading), "pairs": len(texts), "source": data.source}
    return vector_from_states(
        states[0::2], states[1::2], method=reading.method, seed=reading.seed, model=local.fingerprint, origin=origin
    )


def contrast(local: Local, data: Records, reading: Reading) -> list[tuple[list[int], list[int]]]:
    """Return the tokens of every pair's positive and negative text, up to and with the one whose state is read.

    Raises:
        DataError: records of another kind, or a text without that token.
    """
    side = _answers if reading.system is None else _prompts
    pairs = []
    for record in data:
        positive, negative = side(local, record, reading, data.place(record.id))
        ends = [(first, last) for _, first, last in (positive, negative)]
        cut = [(first if reading.at >= 0 else last) + reading.at for first, last in ends]
        if any(not first <= at < last for at, (first, last) in zip(cut, ends)):
            what = (
                f"has texts of {' and '.join(str(last - first) for first, last in ends)} tokens, none at {reading.at}"
            )
            raise DataError(what, place=data.place(record.id), fix="read nearer to the edge: at: -1")
        pairs.append((positive[0][: cut[0] + 1], negative[0][: cut[1] + 1]))
    return pairs


_Side = tuple[list[int], int, int]
"""Token ids, the first of them that may be read, and the one behind the last."""


def _answers(local: Local, record: Any, _reading: Reading, place: str) -> tuple[_Side, _Side]:
    if record.kind not in _PAIRS:
        fix = "give preferences or rankings, or two system messages (reading.system)"
        raise DataError(f"a {record.kind} record holds no pair", place=place, fix=fix)
    rows = [local.renderer.example(record.prompt, answer) for answer in _PAIRS[record.kind](record)]
    one, two = [(row.ids, row.spans[-1].start, min(row.spans[-1].end, _text_end(row, local))) for row in rows]
    return one, two


def _ends(record: Any) -> tuple[Any, Any]:
    best, worst = (pick(record.scores) for pick in (max, min))
    return record.completions[record.scores.index(best)], record.completions[record.scores.index(worst)]


_PAIRS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "preference": lambda record: (record.chosen, record.rejected),
    "ranking": _ends,
}
"""Kind of record -> its positive and its negative answer."""


def _prompts(local: Local, record: Any, reading: Reading, place: str) -> tuple[_Side, _Side]:
    prompt = getattr(record, "prompt", None)
    if prompt is None or isinstance(prompt, str) or any(message["role"] == "system" for message in prompt):
        what = "is no chat without a system message"
        raise DataError(what, place=place, fix="give chats, or leave reading.system out")
    sides = [local.renderer.prompt([{"role": "system", "content": line}, *prompt]) for line in reading.system or ()]
    one, two = [(ids, 0, len(ids)) for ids in sides]
    return one, two


def _text_end(row: Any, local: Local) -> int:
    """Return where the tokens of an answer's text end, without those that end the turn."""
    end = len(row.ids)
    while end > row.split and row.ids[end - 1] in local.renderer.stops:
        end -= 1
    return end


@torch.inference_mode()
def block_states(local: Local, texts: Sequence[Sequence[int]]) -> Tensor:
    """Return the output of every decoder layer at the last token of each text, float32 [N, L, H].

    Args:
        local: the model.
        texts: token ids, none empty; in batches padded on the right, where causal attention cannot see.

    Raises:
        EngineError: a text longer than the model reads.
        UnsupportedError: a model without a plain list of decoder layers.
    """
    for k, ids in enumerate(texts):
        local.check_length(f"text {k + 1} of {len(texts)}", ids, room=0)
    found: dict[int, Tensor] = {}
    with local.rows() as rows:
        layers = blocks(rows.policy)
        for batch in _batches([len(ids) for ids in texts], rows.max_tokens):
            ids = torch.zeros((len(batch), len(texts[batch[0]])), dtype=torch.int64)
            for line, k in zip(ids, batch):
                line[:] = texts[k][-1]
                line[: len(texts[k])] = torch.tensor(texts[k])
            last = torch.tensor([len(texts[k]) - 1 for k in batch], device=rows.device)
            seen: list[Tensor] = []
            handles = [layer.register_forward_hook(_keep(seen, last)) for layer in layers]
            try:
                rows.policy.plain.base_model(input_ids=ids.to(rows.device), use_cache=False)
            finally:
                for handle in handles:
                    handle.remove()
            if len(seen) != len(layers):
                raise UnsupportedError(
                    f"{len(seen)} of {len(layers)} decoder layers gave an output", fix="use another architecture"
                )
            found |= zip(batch, torch.stack(seen, 1).float().cpu())
    return torch.stack([found[k] for k in range(len(texts))])


def _keep(seen: list[Tensor], last: Tensor) -> Callable[..., None]:
    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        states = output if isinstance(output, Tensor) else output[0]
        seen.append(states[torch.arange(len(last), device=last.device), last].clone())

    return hook


def _batches(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group numbers of texts, the longest first, so that no padded batch has more than `most` tokens."""
    batches: list[list[int]] = []
    for k in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= most:
            batches[-1].append(k)
        else:
            batches.append([k])
    return batches
