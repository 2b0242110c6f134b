"""What chat templates write around the turns: known strings of families, one BOS, no empty answer, where turns end."""

from __future__ import annotations

import pytest
from render.chat_styles import STYLES, tokenizer_of
from transformers import PreTrainedTokenizerFast

from fairlead.errors import RenderError
from fairlead.render import Renderer

CHAT = [{"role": "user", "content": "where?"}, {"role": "assistant", "content": "there."}]
SYSTEM = {"role": "system", "content": "be kind"}
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
KNOWN = {
    "llama-3": (
        "<|begin_of_text|>" + HEADER.format("user"),
        "<|eot_id|>" + HEADER.format("assistant"),
        "<|eot_id|>" + HEADER.format("user"),
    ),
    "chatml": (
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n<|im_start|>user\n",
    ),
    "gemma": (
        "<bos><start_of_turn>user\n",
        "<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>\n<start_of_turn>user\n",
    ),
}


def renderer_of(style: str, habit: bool = True) -> Renderer:
    return Renderer(tokenizer_of(style, "byte-level", bos_habit=habit))


@pytest.mark.parametrize("style", KNOWN)
def test_known_strings_of_families(style):
    found = renderer_of(style).strings
    assert (found.pre_query, found.post_query, found.between) == KNOWN[style]
    assert found.mark == ""


@pytest.mark.parametrize("style", STYLES)
def test_strings_add_up_to_the_template(style):
    renderer = renderer_of(style)
    found, asked = renderer.strings, CHAT[:1]
    assert found.pre_query == renderer.pre_query == renderer.user_opening()
    whole = found.pre_query + CHAT[0]["content"] + found.post_query
    assert renderer.prompt(whole) == renderer.prompt(asked)
    assert renderer.user_opening(CHAT).endswith(CHAT[1]["content"] + found.between)
    assert renderer.stops <= found.ends


@pytest.mark.parametrize("habit", [True, False])
@pytest.mark.parametrize("style", ["llama-3", "gemma", "phi-3", "deepseek"])
def test_one_bos_in_every_raw_prompt_and_no_empty_answer(style, habit):
    renderer = renderer_of(style, habit)
    bos = renderer.tokenizer.bos_token_id
    for history in ((), CHAT, [*CHAT, *CHAT]):
        text = renderer.user_opening(history)
        assert renderer.prompt(text).count(bos) == 1
        assert renderer.prompt(text)[0] == bos
        answer = renderer.strings.post_query
        assert text.count(answer.lstrip()) == len(history) // 2
        assert text.count(answer + CHAT[1]["content"]) == len(history) // 2


def test_a_system_message_stands_where_the_template_puts_it():
    llama = renderer_of("llama-3").user_opening([SYSTEM])
    assert llama == f"<|begin_of_text|>{HEADER.format('system')}be kind<|eot_id|>{HEADER.format('user')}"
    assert renderer_of("llama-2").user_opening([SYSTEM]) == "<s>[INST] <<SYS>>\nbe kind\n<</SYS>>\n\n"
    with pytest.raises(RenderError, match="System role not supported"):
        renderer_of("gemma").user_opening([SYSTEM])


@pytest.mark.parametrize(
    ("style", "mark"),
    [("llama-2", "[/INST]"), ("mistral", "[/INST]"), ("vicuna", "ASSISTANT:"), ("phi-3", ""), ("zephyr", "")],
)
def test_words_end_a_turn_where_no_token_does(style, mark):
    assert renderer_of(style).strings.mark == mark


def test_special_tokens_that_no_user_writes_end_a_turn():
    renderer = renderer_of("llama-3")
    names = set(renderer.tokenizer.convert_ids_to_tokens(sorted(renderer.strings.ends)))
    assert names == set(STYLES["llama-3"].specials)


def test_without_a_template_there_is_nothing_before_a_user():
    base = tokenizer_of("chatml", "byte-level")
    bare = Renderer(PreTrainedTokenizerFast(tokenizer_object=base.backend_tokenizer, eos_token="<|im_end|>"))
    with pytest.raises(RenderError, match="no chat template"):
        bare.user_opening()
    with pytest.raises(RenderError, match="no chat template"):
        _ = bare.strings
