"""Harbor's tokenizer: word pieces over the lexicon and the syllables of names, with the chat template.

The vocabulary has exactly 512 entries: special tokens, words, syllables, single letters (so that any lower-case text
can be spelled) and reserved special tokens that no training has seen. Text made of Harbor's words survives a round
trip through encode and decode.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from fairlead.harbor.lexicon import every_phrase
from fairlead.harbor.ships import SYLLABLES, lexicon_words

__all__ = ["CHAT_TEMPLATE", "SPECIALS", "VOCABULARY_SIZE", "build_tokenizer", "vocabulary"]

VOCABULARY_SIZE = 512
MIN_RESERVED = 8
MAX_POSITIONS = 512
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_GAPS = r" (?=[.,:?!<\n])|(?<=[>\n]) "
"""Spaces that the word-piece decoder puts where Harbor's texts have none."""


@cache
def vocabulary() -> tuple[str, ...]:
    """Return the 512 tokens in the order of their ids."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    marks = sorted({mark for phrase in every_phrase() for mark in re.findall(r"[^a-z0-9\s]", phrase)})
    first, second, third = SYLLABLES
    pieces = [*first, *(f"##{piece}" for piece in (*second, *third))]
    spelling = [*letters, *"0123456789", *(f"##{letter}" for letter in letters + "0123456789")]
    tokens = dict.fromkeys([*SPECIALS, "\n", *marks, *sorted(lexicon_words()), *pieces, *spelling])
    reserved = VOCABULARY_SIZE - len(tokens)
    if reserved < MIN_RESERVED:
        raise AssertionError(f"the lexicon leaves {reserved} reserved tokens of {VOCABULARY_SIZE}")
    return (*tokens, *(f"<|reserved_{number}|>" for number in range(reserved)))


def build_tokenizer() -> Any:
    """Build the tokenizer as a transformers `PreTrainedTokenizerFast`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    tokens = vocabulary()
    core = Tokenizer(WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), decoders.Replace(Regex(_GAPS), "")]
    )
    special = [token for token in tokens if token in SPECIALS or token.startswith("<|reserved_")]
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    core.add_tokens([AddedToken("\n", special=False, normalized=False)])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokens.index("<s>"))])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
