"""A tiny random BERT with a word-level tokenizer, and a library whose guidelines share no word with their requests."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

TOPICS = {
    "sea": ("boat sail wave", "stay dry"),
    "kitchen": ("soup oven salt", "wash hands"),
    "garden": ("rose seed rain", "dig deep"),
    "music": ("song drum flute", "keep time"),
}
"""Topic -> the words of its requests, and its guideline."""
PLACES = ("today", "tomorrow", "here", "there", "now", "later")


def build_encoder(folder: Path, texts: list[str], *, hidden: int = 32, positions: int = 16) -> str:
    """Save the model for the words of some texts; returns its folder."""
    words = ["<pad>", "<unk>", *dict.fromkeys(word for text in texts for word in text.split())]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=positions
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=hidden,
        max_position_embeddings=positions,
    )
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def topics() -> list[dict]:
    """Return the library: each guideline with 18 requests."""
    return [
        {"title": name, "text": rule, "sources": [f"{word} {place}" for word in asked.split() for place in PLACES]}
        for name, (asked, rule) in TOPICS.items()
    ]


def all_texts() -> list[str]:
    """Return every text of the library."""
    return [text for item in topics() for text in (item["title"], ":", item["text"], *item["sources"])]
