"""Encoders of texts, and the pair of them that a trained retriever is: one for requests, one for guidelines.

An encoder is any transformer that `transformers` loads by `AutoModel`: its last hidden states, pooled. Folders of
sentence-embedding models say themselves how they pool.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairlead import models
from fairlead.decoding.guideline_config import Pooling, Similarity
from fairlead.errors import ModelError, UsageError

__all__ = ["Encoder", "Towers", "folder_fingerprint", "is_retriever", "pooling_of"]

_SETTINGS = "retriever.json"
_FORMAT = 1
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
_PARTS = ("question", "guideline")


class Encoder(nn.Module):
    """A transformer with its tokenizer: texts in, one vector each out.

    Args:
        backbone: what `AutoModel` gives.
        tokenizer: its own.
        pooling: what becomes of the hidden states.
        max_length: texts of more tokens are cut.
    """

    pooling: Pooling

    def __init__(self, backbone: Any, tokenizer: Any, pooling: Pooling, max_length: int):
        super().__init__()
        self.backbone, self.tokenizer, self.pooling, self.max_length = backbone, tokenizer, pooling, max_length
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        tokenizer.padding_side = "right"

    @classmethod
    def load(cls, name: str, pooling: Pooling, max_length: int) -> Encoder:
        """Load the transformer called `name` in float32, without a head.

        Raises:
            ModelError: no such model, weights that are not in its files, no tokenizer.
            UsageError: `max_length` is more than the model reads.
        """
        from transformers import AutoModel

        where = models.resolve(name)
        own = getattr(models.load_config(name).get_text_config(), "max_position_embeddings", None)
        if own is not None and max_length > own:
            raise UsageError(f"max_length is {max_length}, but {name} reads {own} tokens", fix=f"use at most {own}")
        try:
            with models.quiet():
                found: Any = AutoModel.from_pretrained(where, dtype=torch.float32, output_loading_info=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            fix = "give a folder that save_pretrained wrote, harbor:NAME, or a hub id"
            raise ModelError(f"cannot be loaded as an encoder: {first}", place=name, fix=fix) from error
        backbone, told = found
        # BERT's pooler is a head that is not used here; checkpoints of masked language models have none.
        missing = [key for key in told["missing_keys"] if not key.startswith("pooler.")]
        if missing:
            what = f"{len(missing)} weights of the architecture are not in the files ({missing[0]}...)"
            raise ModelError(what, place=name, fix="check that config.json and the weight files belong together")
        return cls(backbone, models.load_tokenizer(name), pooling, max_length)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of Q texts, float32 [Q, H], with gradients."""
        read = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.max_length)
        device = next(self.backbone.parameters()).device
        ids, mask = (torch.tensor(read[key], device=device) for key in ("input_ids", "attention_mask"))
        if not mask.any(1).all():
            place = texts[int((~mask.any(1)).nonzero()[0])]
            raise ModelError(f"the tokenizer makes nothing of {place!r}", fix="use another encoder")
        states = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        return _POOLED[self.pooling](states, mask)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Return the vectors of Q texts, float64 [Q, H], in evaluation mode."""
        was, _ = self.training, self.eval()
        found = [self(texts[k : k + batch_size]).double().cpu().numpy() for k in range(0, len(texts), batch_size)]
        self.train(was)
        return np.concatenate(found) if found else np.zeros((0, self.backbone.config.hidden_size))

    def cut(self, texts: Sequence[str]) -> int:
        """Return how many of the texts have more than `max_length` tokens."""
        if not texts:
            return 0
        with models.quiet():
            return sum(len(ids) > self.max_length for ids in self.tokenizer(list(texts), verbose=False)["input_ids"])

    def save(self, folder: Path) -> None:
        """Write the transformer and its tokenizer as a plain Hugging Face folder."""
        with models.quiet():
            self.backbone.save_pretrained(folder)
        if self.tokenizer.is_fast:
            # It remembers how it was last used, and would write that down.
            self.tokenizer.backend_tokenizer.no_padding()
            self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.save_pretrained(folder)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def _last(states: Tensor, mask: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]


_POOLED = {"cls": lambda states, mask: states[:, 0], "mean": _mean, "last": _last}


def pooling_of(name: str) -> Pooling:
    """Return how a model pools: as its folder says if it is a sentence-embedding model, else "cls".

    Raises:
        ModelError: a sentence-embedding model with layers of its own behind the transformer.
    """
    modules = _file(name, "modules.json")
    if modules is None:
        return "cls"
    kinds = {entry["type"].rpartition(".")[2]: entry["path"] for entry in modules}
    other = [kind for kind in kinds if kind not in _KNOWN_MODULES]
    said = _file(name, f"{kinds['Pooling']}/config.json") if "Pooling" in kinds and not other else None
    ways = {
        "cls": "pooling_mode_cls_token",
        "mean": "pooling_mode_mean_tokens",
        "last": "pooling_mode_lasttoken",
    }
    aliases = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
    chosen = [way for way, key in ways.items() if (said or {}).get(key)]
    if (said or {}).get("pooling_mode") in aliases:
        chosen = [aliases[cast(dict[str, str], said)["pooling_mode"]]]
    if len(chosen) != 1:
        what = f"pools or transforms in a way that is not known here ({', '.join(other) or 'Pooling'})"
        raise ModelError(what, place=name, fix="give a model that pools by cls, mean or last token alone")
    return cast(Pooling, chosen[0])


def _file(name: str, path: str) -> Any:
    """Return what a JSON file of a model says; None when it has no such file."""
    from transformers.utils.hub import cached_file

    folder = Path(models.resolve(name))
    if folder.is_dir():
        found = folder / path
    else:
        try:
            fetched = cached_file(str(folder), path, _raise_exceptions_for_missing_entries=False)
        except OSError as error:
            what = f"how it pools cannot be looked up: {str(error).splitlines()[0]}"
            raise ModelError(
                what, place=name, fix="use a folder, a hub id that is reachable, or say pooling"
            ) from error
        if fetched is None:
            return None
        found = Path(fetched)
    return json.loads(found.read_text(encoding="utf-8")) if found.is_file() else None


@dataclass(frozen=True)
class _Settings:
    pooling: Pooling
    similarity: Similarity
    max_length: int
    shared: bool
    format: int = _FORMAT


class Towers(nn.Module):
    """The two encoders of a retriever; they may be one and the same."""

    question: Encoder
    guideline: Encoder
    similarity: Similarity

    def __init__(self, question: Encoder, guideline: Encoder, similarity: Similarity):
        super().__init__()
        self.question, self.guideline, self.similarity = question, guideline, similarity

    @classmethod
    def start(cls, name: str, *, two: bool, pooling: Pooling, similarity: Similarity, max_length: int) -> Towers:
        """Begin with the model called `name` in both places."""
        question = Encoder.load(name, pooling, max_length)
        return cls(question, Encoder.load(name, pooling, max_length) if two else question, similarity)

    @classmethod
    def load(cls, folder: str | Path) -> Towers:
        """Load what `save` wrote.

        Raises:
            ModelError: no trained retriever, or one of another format.
        """
        path = Path(folder).expanduser() / _SETTINGS
        fix = "give the folder that train_retriever made"
        try:
            how = _Settings(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"is no trained retriever: {error}", place=str(folder), fix=fix) from error
        if how.format != _FORMAT:
            raise ModelError(f"has format {how.format}, not {_FORMAT}", place=str(path), fix="train it again")
        parts = _PARTS[: 2 - how.shared]
        loaded = [Encoder.load(str(path.parent / part), how.pooling, how.max_length) for part in parts]
        return cls(loaded[0], loaded[-1], how.similarity)

    def save(self, folder: str | Path) -> None:
        """Write both encoders as folders of safetensors, with the settings beside them; replace what was there."""
        folder = Path(folder)
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        shared = self.guideline is self.question
        for part in _PARTS[: 2 - shared]:
            getattr(self, part).save(draft / part)
        how = _Settings(self.question.pooling, self.similarity, self.question.max_length, shared)
        (draft / _SETTINGS).write_text(json.dumps(asdict(how), indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)

    def compare(self, questions: Tensor, guidelines: Tensor) -> Tensor:
        """Return the similarity of all vectors, [Q, H] and [N, H] -> [Q, N]."""
        if self.similarity == "cosine":
            questions, guidelines = F.normalize(questions, dim=-1), F.normalize(guidelines, dim=-1)
        return questions @ guidelines.T


def is_retriever(folder: str | Path) -> bool:
    """Tell whether a folder holds a trained retriever."""
    return (Path(folder).expanduser() / _SETTINGS).is_file()


def folder_fingerprint(folder: str | Path) -> str:
    """Return 64 hex digits that change with the name or the content of any file in a folder."""
    root, whole = Path(folder).expanduser(), hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{file.relative_to(root)}\0{digest}\n".encode())
    return whole.hexdigest()
