"""Nudging: the known answers on tables, and the fast way equal to the naive one on random models of three tokenizers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from decoding.naive_nudging import Model, nudged
from tiny_models import build, build_tokenizer

import fairlead
from fairlead.decoding.nudging import Nudging
from fairlead.engines import Local, Sampling
from fairlead.engines.programs import Ask, run
from fairlead.engines.rows import Row, Seen
from fairlead.errors import EngineError, UnknownNameError, UnsupportedError, UsageError
from fairlead.render import Renderer

GREEDY = Sampling(max_tokens=24, temperature=0)
PROMPTS = [
    "the ship", "where", "count", "salt and lamps", "Süden", "a", "one two", "fünf Tage", "the quay at noon", "!",
    "ferry", "she", "three four", "who is at the harbor", "wool", "the northern captain", "is", "nine", "x y z", "the ship " * 17,
]  # fmt: skip


# --- models -----------------------------------------------------------------------------------------------------------


def metaspace():
    """A SentencePiece-like tokenizer that spells unknown characters byte by byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<|im_start|>", "<|im_end|>", "</s>"]
    signs = ["▁", *"abcdefghijklmnopqrstuvwxyz.,:?!"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "s"), ("i", "s"), ("▁", "is"), ("o", "n"), ("e", "r")]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    names = [*specials, "<unk>", *bytes_, *signs, *("".join(pair) for pair in merges)]
    bpe = models.BPE({name: k for k, name in enumerate(names)}, merges, byte_fallback=True, unk_token="<unk>")
    core = Tokenizer(bpe)
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens([*specials, "<unk>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.add_special_tokens({"additional_special_tokens": specials[1:3]})
    return fast


def words():
    """A byte-level tokenizer of other merges than the one of `tiny_models`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<|im_start|>", "<|im_end|>", "</s>"]
    lines = ["a rope and a sail and an anchor are on the deck", "Zwölf Anker für Köln", "she sells salt, he sells rope"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": specials[1:3]})
    return fast


def letters():
    """A tokenizer with one token per letter, and few letters: what it writes is what it reads."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<|im_start|>", "<|im_end|>", "</s>", "<unk>"]
    core = Tokenizer(models.WordLevel({s: k for k, s in enumerate([*specials, *" thesipcao"])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(specials)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def random_model(family, tokenizer, *, spaces, sharp=1.0):
    """A random model that likes tokens which begin or are a space, so that there are words."""
    model = build(family, len(tokenizer), tie_word_embeddings=False, initializer_range=0.15, num_hidden_layers=2)
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        for k, name in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
            head[k] *= sharp * (spaces if name.startswith(("Ġ", "▁", " ")) or name == "</s>" else 1.0)
    return Local(model, tokenizer)


@pytest.fixture(scope="module")
def parts():
    one, two, three, four = build_tokenizer(), words(), metaspace(), letters()
    return {
        "bytes": random_model("llama", one, spaces=2.0),
        "other bytes": random_model("qwen2", two, spaces=2.5, sharp=1.3),
        "pieces": random_model("llama", three, spaces=2.5, sharp=1.5),
        "letters": random_model("gpt2", four, spaces=1.5),
    }


def naive(parts, method, prompt, limit):
    def model(local):
        return Model(local.model, local.renderer.tokenizer, local.renderer.prompt(prompt), set(local.renderer.stops))

    base, nudger = model(method.parts["base"]), model(method.parts["nudger"])
    segments, reason = nudged(base, nudger, method, limit)
    return segments, reason, base.forwards, nudger.forwards


# --- fast equals naive ------------------------------------------------------------------------------------------------


SETTINGS = {
    "unsure": {"gamma": 0.5},
    "middle": {"gamma": 0.2, "draft_tokens": 6},
    "sure": {"gamma": 0.05, "draft_tokens": 9},
    "guessing": {"gamma": 0.1, "draft_tokens": 5, "guesses": 3},
    "by probability alone": {"gamma": 0.15, "agree": False, "draft_tokens": 8, "repeat_limit": 1},
    "at any token": {"gamma": 0.2, "boundary": "token", "draft_tokens": 6, "max_rounds": 4},
}
PAIRS = [("bytes", "other bytes"), ("other bytes", "pieces"), ("pieces", "bytes"), ("bytes", "bytes")]


CASES = [
    *((PAIRS[0], name) for name in SETTINGS),
    *zip(PAIRS[1:], ["middle", "sure", "guessing"]),
    (("bytes", "letters"), "at any token"),
    (("letters", "bytes"), "sure"),
]


@pytest.mark.parametrize(("pair", "setting"), CASES, ids=lambda one: one if isinstance(one, str) else "-".join(one))
def test_fast_equals_naive(parts, pair, setting):
    method = Nudging(base=parts[pair[0]], nudger=parts[pair[1]], **SETTINGS[setting])
    answers = method.generate(PROMPTS, GREEDY)
    fast = slow = 0
    for prompt, (answer,) in zip(PROMPTS, answers):
        segments, reason, base_forwards, nudger_forwards = naive(parts, method, prompt, GREEDY.max_tokens)
        assert [(one["source"], one["text"]) for one in answer.extra["segments"]] == segments, prompt
        assert answer.extra["stop_reason"] == reason
        assert answer.text == "".join(text for _, text in segments)
        fast += answer.extra["stats"]["base_forwards"]
        slow += base_forwards
    assert fast < slow
