"""Tiny random models of several families, and a small byte-level tokenizer with a chat template."""

from __future__ import annotations

FAMILIES = ("llama", "qwen2", "gpt2", "gpt_neox", "mistral", "gemma2")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINES = [
    "the ship leaves the harbor at noon and carries wool, salt and lamps",
    "where is the captain of the northern ferry? she is at the quay.",
    "count: one two three four five six seven eight nine ten",
    "Überfahrt nach Süden: fünf Tage, drei Häfen, ein Sturm.",
]


def build_tokenizer():
    """Train a byte-level BPE on a few lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<|im_start|>", "<|im_end|>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=384, special_tokens=specials, initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": specials[1:3]})
    fast.chat_template = CHATML
    return fast


def build(family: str, vocabulary: int, **options):
    """Make a random model of a family, sharp enough that greedy choices are not near ties."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 160,
        "initializer_range": 0.25,
        "bos_token_id": None,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    extra = {
        "llama": {"num_key_value_heads": 2, "intermediate_size": 64, "tie_word_embeddings": True},
        "qwen2": {"num_key_value_heads": 2, "intermediate_size": 64},
        "gpt2": {},
        "gpt_neox": {"intermediate_size": 64},
        "mistral": {"num_key_value_heads": 2, "intermediate_size": 64, "sliding_window": 12},
        "gemma2": {"num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8, "sliding_window": 12},
    }[family]
    torch.manual_seed(7)
    config = AutoConfig.for_model(family, **{**shape, **extra, **options})
    return AutoModelForCausalLM.from_config(config).eval()
