"""Chat templates in the styles of well-known model families, written for these tests, and tokenizers for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Style:
    template: str
    specials: tuple[str, ...]
    end: str
    """The token that ends an assistant turn."""
    bos: str | None = None
    eos: str | None = None
    """The end-of-turn token where there is no other."""
    system: bool = True
    """Whether the template takes a system message."""
    trims: bool = False
    """Whether the template strips contents."""
    rewrites: bool = False
    """Whether past turns are written differently than the last one."""
    rstrip: bool = False
    """Whether special tokens swallow white space behind them."""
    pre_query: str = ""


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a kind helper.<|im_end|>\n{% endif %}" + CHATML
QWEN_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set lead = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set lead = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + (lead if loop.first else '') + m.content.strip() }} [/INST]"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% set start = 1 if messages[0].role == 'system' else 0 %}{% for m in messages[start:] %}"
    "{% if m.role == 'user' %}[INST] {% if loop.first and start %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "{{ m.content }} [/INST]{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_LAST = (
    "{{ bos_token }}{% set start = 1 if messages[0].role == 'system' else 0 %}{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if loop.index0 == ns.last and start %}{{ messages[0].content + '\n\n' }}{% endif %}{{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
VICUNA = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% set turns = messages[1:] %}"
    "{% else %}{{ 'A chat between a sailor and a helper.\n\n' }}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m.content + eos_token + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% else %}{{ '<｜Assistant｜>' + (m.content if loop.last else m.content.split('</think>')[-1]) + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
)
COLON = (
    "{% for m in messages %}{{ m.role + ': ' + m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
IM = ("<|im_start|>", "<|im_end|>")

STYLES: dict[str, Style] = {
    "chatml": Style(CHATML, IM, "<|im_end|>", pre_query="<|im_start|>user\n"),
    "qwen": Style(
        QWEN,
        (*IM, "<|endoftext|>"),
        "<|im_end|>",
        eos="<|endoftext|>",
        pre_query="<|im_start|>system\nYou are a kind helper.<|im_end|>\n<|im_start|>user\n",
    ),
    "qwen-thinking": Style(QWEN_THINKING, IM, "<|im_end|>", rewrites=True, pre_query="<|im_start|>user\n"),
    "llama-2": Style(LLAMA2, ("<s>", "</s>"), "</s>", bos="<s>", trims=True, pre_query="<s>[INST] "),
    "llama-3": Style(
        LLAMA3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        trims=True,
        pre_query="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
    ),
    "gemma": Style(
        GEMMA,
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        bos="<bos>",
        eos="<eos>",
        system=False,
        trims=True,
        pre_query="<bos><start_of_turn>user\n",
    ),
    "mistral": Style(MISTRAL, ("<s>", "</s>"), "</s>", bos="<s>", pre_query="<s>[INST] "),
    "mistral-last": Style(MISTRAL_LAST, ("<s>", "</s>"), "</s>", bos="<s>", pre_query="<s>[INST] "),
    "phi-3": Style(
        PHI3,
        ("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
        bos="<s>",
        eos="<|endoftext|>",
        rstrip=True,
        pre_query="<s><|user|>\n",
    ),
    "zephyr": Style(ZEPHYR, ("<s>", "</s>"), "</s>", bos="<s>", pre_query="<|user|>\n"),
    "vicuna": Style(
        VICUNA, ("<s>", "</s>"), "</s>", bos="<s>", pre_query="A chat between a sailor and a helper.\n\nUSER: "
    ),
    "deepseek": Style(
        DEEPSEEK,
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        "<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        pre_query="<｜begin▁of▁sentence｜><｜User｜>",
    ),
    "colon": Style(COLON, ("</s>",), "</s>", pre_query="user: "),
}

_LINES = [
    "who is the captain of the ship? the captain of the ship is ada.",
    "USER: hello there ASSISTANT: Hello to you. user: hello assistant: hello",
    "[INST] where is the harbour? [/INST] The harbour is by the river, on the left side.",
    "first line\nsecond line\n\nthird line: it's 1234 miles, isn't it?",
    "<|user|>\nhello\n<|assistant|>\nhello\n  two spaces   three spaces",
] * 4


def _trained(core: Tokenizer, specials: tuple[str, ...], **options) -> Tokenizer:
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=list(specials), show_progress=False, **options)
    core.train_from_iterator(_LINES, trainer)
    return core


def _byte_level(specials: tuple[str, ...]) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return _trained(core, specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def _trimming_byte_level(specials: tuple[str, ...]) -> Tokenizer:
    """As `_byte_level`, with offsets that leave out a word's leading space."""
    core = _byte_level(specials)
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    return core


def _llama3_split(specials: tuple[str, ...]) -> Tokenizer:
    """Byte-level, but white space is cut as newer families do: runs of line breaks and words with a leading sign."""
    core = Tokenizer(models.BPE())
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    return _trained(core, specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def _byte_fallback(specials: tuple[str, ...]) -> tuple[list[str], dict]:
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    return every_byte, {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}


_SENTENCEPIECE_DECODER = [
    decoders.Replace("▁", " "),
    decoders.ByteFallback(),
    decoders.Fuse(),
    decoders.Strip(" ", 1, 0),
]


def _metaspace(specials: tuple[str, ...]) -> Tokenizer:
    """SentencePiece-like: a space is put before the first word of a text."""
    every_byte, options = _byte_fallback(specials)
    core = Tokenizer(models.BPE(**options))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(_SENTENCEPIECE_DECODER)
    return _trained(core, ("<unk>", *specials, *every_byte))


def _prepending(specials: tuple[str, ...]) -> Tokenizer:
    """SentencePiece-like, older manner: a space is put before every stretch of text between special tokens."""
    every_byte, options = _byte_fallback(specials)
    core = Tokenizer(models.BPE(**options))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(_SENTENCEPIECE_DECODER)
    return _trained(core, ("<unk>", *specials, *every_byte))


def _word_level(specials: tuple[str, ...]) -> Tokenizer:
    core = Tokenizer(models.WordLevel(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", *specials], show_progress=False)
    core.train_from_iterator(_LINES, trainer)
    return core


MAKERS = {
    "byte-level": _byte_level,
    "trimming": _trimming_byte_level,
    "llama3-split": _llama3_split,
    "metaspace": _metaspace,
    "prepending": _prepending,
    "word-level": _word_level,
}
EXACT = ("byte-level", "trimming", "llama3-split")
"""Those that decode to exactly what was encoded, wherever a text begins."""


@cache
def tokenizer_of(style_name: str, maker: str, *, bos_habit: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer with the style's special tokens and template; with a habit of BOS where the style has one."""
    style = STYLES[style_name]
    core = MAKERS[maker](style.specials)
    if maker in ("metaspace", "prepending"):
        # the bytes were given to the trainer as special tokens only to be in the vocabulary
        core = _without_specials(core, style.specials)
    core.add_special_tokens(
        [AddedToken(s, special=True, normalized=False, rstrip=style.rstrip) for s in style.specials]
    )
    if style.bos and bos_habit:
        opening = processors.TemplateProcessing(
            single=f"{style.bos} $A", special_tokens=[(style.bos, core.token_to_id(style.bos))]
        )
        core.post_processor = processors.Sequence([core.post_processor, opening]) if core.post_processor else opening
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=style.bos,
        eos_token=style.eos or style.end,
        chat_template=style.template,
        name_or_path=f"{style_name} {maker}",
    )


def _without_specials(core: Tokenizer, keep: tuple[str, ...]) -> Tokenizer:
    import json

    state = json.loads(core.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in (*keep, "<unk>")]
    return Tokenizer.from_str(json.dumps(state))
