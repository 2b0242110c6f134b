"""The `new_model` step: a tokenizer and a small untrained model made from your own text, without any hub."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fairlead.errors import DataError, UsageError
from fairlead.steps.base import Context, Outcome, Preview, Use, data_uses

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerFast

__all__ = ["NewModel", "Shape"]

_SPECIALS = ("<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_BYTES = 256
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('roles are system, user and assistant, found ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_CLOSE, _FAR = 0.1, 0.25
_PROPORTION = 64
"""Width per layer that is preferred among sizes that are close enough."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class Shape:
    """The size of a Llama."""

    layers: int
    """Transformer blocks."""
    hidden: int
    """Width of the residual stream."""
    heads: int
    """Attention heads, each of width hidden / heads."""
    feed_forward: int
    """Width of the gated feed-forward layer."""

    def parameters(self, vocabulary: int) -> int:
        """Count the weights, input and output embeddings tied."""
        block = 4 * self.hidden**2 + 3 * self.hidden * self.feed_forward + 2 * self.hidden
        return vocabulary * self.hidden + self.layers * block + self.hidden


@dataclass(frozen=True)
class NewModel:
    """Make a byte-level BPE tokenizer with a chat template, and an untrained Llama of a given size."""

    data: str | tuple[str, ...]
    """Text to learn the vocabulary from: a .txt file, records of any kind, `harbor:SET`, or several."""
    vocab_size: int = 4096
    """Most tokens of the vocabulary, the 256 bytes and 7 special tokens included."""
    parameters: str | int | None = None
    """Size of the model: "3M", "500K"; layers and widths follow from it. Give this, or `layers` and `hidden`."""
    layers: int | None = None
    """Transformer blocks."""
    hidden: int | None = None
    """Width of the residual stream; a multiple of `heads`."""
    heads: int | None = None
    """Attention heads; by default one for every 32 of `hidden` below 512, then one for every 64."""
    feed_forward: int | None = None
    """Width of the gated feed-forward layers; by default 8/3 of `hidden`, rounded up to a multiple of 16."""
    max_positions: int = 1024
    """Longest sequence in tokens."""
    format: str | None = None
    """Row format of the data when it is not one of Fairlead's own: hh, alpaca, sharegpt, bbq, arena."""
    limit: int | None = None
    """Use only the first so many records."""
    seed: int = 0
    """Initial weights."""

    produces: ClassVar[str | None] = "model"
    """What "@id" of this step stands for."""

    def __post_init__(self) -> None:
        least = _BYTES + len(_SPECIALS) + 1
        if self.vocab_size < least:
            raise UsageError(f"new_model.vocab_size is {self.vocab_size}", fix=f"use a value >= {least}")
        if (self.parameters is None) == (self.layers is None or self.hidden is None):
            fix = 'give parameters: "3M", or layers and hidden'
            raise UsageError("new_model needs its size said once", fix=fix)
        if self.max_positions < 8:
            raise UsageError(f"new_model.max_positions is {self.max_positions}", fix="use a value >= 8")
        shape = self.shape(self.vocab_size)
        if shape.hidden % shape.heads or (shape.hidden // shape.heads) % 2:
            what = f"new_model.hidden is {shape.hidden}, new_model.heads {shape.heads}"
            raise UsageError(what, fix="hidden / heads must be an even whole number")

    def shape(self, vocabulary: int) -> Shape:
        """Return the model's layers and widths for a vocabulary of so many tokens."""
        if self.layers is not None and self.hidden is not None:
            return _shape(self.layers, self.hidden, self.heads, self.feed_forward)
        wanted = _count(self.parameters)
        shapes = [
            _shape(layers, hidden, self.heads, self.feed_forward)
            for layers in range(1, 97)
            for hidden in (*range(32, 512, 32), *range(512, 8193, 64))
            if 16 <= hidden / layers <= 128
        ]
        errors = {shape: abs(shape.parameters(vocabulary) / wanted - 1) for shape in shapes}
        close = [shape for shape in shapes if errors[shape] <= _CLOSE]
        if close:
            return min(close, key=lambda s: (abs(math.log(s.hidden / s.layers / _PROPORTION)), errors[s]))
        shape = min(shapes, key=lambda s: errors[s])
        if errors[shape] > _FAR:
            nearest = f"{shape.parameters(vocabulary):,}"
            what = f"new_model.parameters is {self.parameters}, the nearest size with {vocabulary} tokens is {nearest}"
            raise UsageError(what, fix="use another vocab_size, or give layers and hidden")
        return shape

    def uses(self) -> tuple[Use, ...]:
        """Return the data."""
        return data_uses("data", self.data)

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say what size the model will have."""
        shape = self.shape(self.vocab_size)
        said = (
            f"Learns a byte-level BPE vocabulary of up to {self.vocab_size:,} tokens from {_named(self.data)}.",
            f"Makes an untrained Llama of about {shape.parameters(self.vocab_size):,} parameters "
            f"({shape.layers} layers of width {shape.hidden}, {shape.heads} heads, {self.max_positions} positions).",
        )
        return Preview(said, parameters=shape.parameters(self.vocab_size))

    def __call__(self, context: Context) -> Outcome:
        """Learn the vocabulary, initialise the weights, save both as a Hugging Face folder."""
        import torch
        from transformers import LlamaForCausalLM

        tokenizer = self._tokenizer()
        shape = self.shape(len(tokenizer))
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = LlamaForCausalLM(self._config(shape, tokenizer))
        folder = context.folder / "model"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        size, parameters = len(tokenizer), sum(p.numel() for p in model.parameters())
        notes = ()
        if size < self.vocab_size:
            notes = (f"the text gave {size} tokens, fewer than vocab_size = {self.vocab_size}",)
        return Outcome({"model": "model"}, {"vocabulary": float(size), "parameters": float(parameters)}, notes)

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
        from transformers import PreTrainedTokenizerFast

        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=list(_SPECIALS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        bpe.train_from_iterator(self._texts(), trainer)
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bpe,
            bos_token="<s>",
            eos_token="</s>",
            pad_token="<pad>",
            additional_special_tokens=list(_SPECIALS[3:]),
            model_max_length=self.max_positions,
            clean_up_tokenization_spaces=False,
        )
        tokenizer.chat_template = _TEMPLATE
        return tokenizer

    def _config(self, shape: Shape, tokenizer: Any) -> LlamaConfig:
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            intermediate_size=shape.feed_forward,
            max_position_embeddings=self.max_positions,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    def _texts(self) -> Iterator[str]:
        from fairlead import records

        sources = [self.data] if isinstance(self.data, str) else list(self.data)
        found = False
        for source in sources:
            if source.endswith(".txt"):
                texts = _file_texts(Path(source))
            else:
                read = records.read(source, format=self.format, limit=self.limit)
                texts = (text for record in read for text in records.texts(record))
            for text in texts:
                found = found or bool(text.strip())
                yield text
        if not found:
            raise DataError("holds no text", place=_named(self.data), fix="give a file with text in it")


def _shape(layers: int, hidden: int, heads: int | None, feed_forward: int | None) -> Shape:
    if heads is None:
        heads = max(1, hidden // (32 if hidden < 512 else 64))
    return Shape(layers, hidden, heads, feed_forward or -(-hidden * 8 // 48) * 16)


def _count(parameters: str | int | None) -> int:
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([KMB]?)", str(parameters).strip().upper())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"new_model.parameters is {parameters!r}", fix='write a number such as "500K", "3M" or "1.5B"')
    return int(float(match[1]) * _UNITS[match[2]])


def _file_texts(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            yield from stream
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as UTF-8 text: {error}", place=str(path), fix="check the path") from error


def _named(data: str | tuple[str, ...]) -> str:
    return data if isinstance(data, str) else ", ".join(data)
