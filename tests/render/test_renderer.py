"""The renderer's known answers, and the templates, tokenizers and messages that it refuses."""

from __future__ import annotations

import pytest
from render.chat_styles import CHATML, STYLES, tokenizer_of
from transformers import PreTrainedTokenizerFast

from fairlead.errors import RenderError
from fairlead.harbor.tokenizer import build_tokenizer
from fairlead.render import Renderer

ASK = [{"role": "user", "content": "who is the captain?"}]
SAY = [{"role": "assistant", "content": "it is ada."}]


def with_template(template: str, style: str = "chatml", **settings) -> PreTrainedTokenizerFast:
    base = tokenizer_of(style, "byte-level")
    values = {"bos_token": base.bos_token, "eos_token": base.eos_token} | settings
    return PreTrainedTokenizerFast(tokenizer_object=base.backend_tokenizer, chat_template=template, **values)


@pytest.fixture(scope="module")
def harbor() -> Renderer:
    return Renderer(build_tokenizer())


@pytest.fixture(scope="module")
def chatml() -> Renderer:
    return Renderer(tokenizer_of("chatml", "byte-level"))


def test_harbor_row_is_what_its_template_says(harbor):
    system = [{"role": "system", "content": "be polite."}]
    rendered = harbor.example([*system, *ASK], SAY)
    assert harbor.parts(rendered) == [
        ("<s><|system|>be polite.<|end|><|user|>who is the captain?<|end|><|assistant|>", False),
        ("it is ada.<|end|>", True),
    ]
    tokens = harbor.tokenizer.convert_ids_to_tokens(rendered.ids)
    spans = [(span.role, tokens[span.start : span.end]) for span in rendered.spans]
    assert spans == [
        ("system", ["be", "polite", "."]),
        ("user", ["who", "is", "the", "captain", "?"]),
        ("assistant", ["it", "is", "ada", "."]),
    ]
    assert set(harbor.tokenizer.convert_ids_to_tokens(list(harbor.stops))) == {"<|end|>", "</s>"}
    assert harbor.pre_query == "<s><|user|>"
    assert harbor.decode(rendered.ids[rendered.split :]) == "it is ada."


def test_harbor_documents_end_with_end_of_sequence(harbor):
    ids = harbor.text("the captain is ada.")
    assert harbor.tokenizer.convert_ids_to_tokens(ids)[-1] == "</s>"
    assert harbor.text("the captain is ada.</s>") == ids


def test_end_of_turn_is_trained_and_the_line_break_behind_it_is_not(chatml):
    assert chatml.parts(chatml.example(ASK, SAY))[1:] == [("it is ada.<|im_end|>", True), ("\n", False)]


@pytest.mark.parametrize("style", STYLES)
def test_pre_query_stops_and_opening_of_each_style(style):
    renderer = Renderer(tokenizer_of(style, "byte-level"))
    known = STYLES[style]
    assert renderer.training_problem is None
    assert renderer.pre_query == known.pre_query
    tokens = renderer.tokenizer.convert_ids_to_tokens(list(renderer.stops))
    assert set(tokens) == {known.end, known.eos or known.end}


def test_the_template_puts_bos_once_even_where_the_tokenizer_would_too():
    for habit in (True, False):
        ids = Renderer(tokenizer_of("llama-3", "byte-level", bos_habit=habit)).prompt(ASK)
        assert ids.count(ids[0]) == 1


def test_a_missing_bos_is_added_where_the_tokenizer_has_the_habit():
    with_habit = Renderer(tokenizer_of("zephyr", "byte-level"))
    without = Renderer(tokenizer_of("zephyr", "byte-level", bos_habit=False))
    assert with_habit.prompt(ASK) == [with_habit.tokenizer.bos_token_id, *without.prompt(ASK)]
    assert with_habit.example(ASK, SAY).ids[1:] == without.example(ASK, SAY).ids


def test_what_the_template_writes_around_answers_is_not_part_of_their_text():
    renderer = Renderer(tokenizer_of("llama-2", "byte-level"))
    rendered = renderer.example(ASK, SAY)
    assert renderer.parts(rendered)[1] == (" it is ada. </s>", True)
    ids = rendered.ids[rendered.split :]
    assert renderer.decode(ids) == "it is ada."
    assert renderer.decode(ids, raw=True) == " it is ada. "


def test_an_empty_thought_that_the_template_writes_is_trained_but_not_text():
    renderer = Renderer(tokenizer_of("qwen-thinking", "byte-level"))
    rendered = renderer.example(ASK, SAY)
    assert renderer.parts(rendered)[1] == ("<think>\n\n</think>\n\nit is ada.<|im_end|>", True)
    assert renderer.decode(rendered.ids[rendered.split :]) == "it is ada."


def test_a_merge_across_the_border_is_split_where_generation_would_split_it():
    renderer = Renderer(tokenizer_of("colon", "byte-level"))
    prompt = renderer.prompt(ASK)
    whole = renderer.tokenizer("user: who is the captain?\nassistant: hello</s>\n").input_ids
    assert whole[: len(prompt)] != prompt  # the tokenizer alone would merge the space with the answer's first word
    rendered = renderer.example(ASK, "hello")
    assert rendered.ids[: rendered.split] == prompt
    assert renderer.parts(rendered) == [
        ("user: who is the captain?\nassistant: ", False),
        ("hello</s>", True),
        ("\n", False),
    ]


def test_raw_completion_merges_with_nothing_of_its_prompt(chatml):
    rendered = chatml.example("hel", "lo there")
    assert chatml.parts(rendered) == [("hel", False), ("lo there<|im_end|>", True)]
    assert [(span.role, span.start, span.end) for span in rendered.spans] == [
        ("prompt", 0, rendered.split),
        ("completion", rendered.split, len(rendered.ids)),
    ]


def test_sentencepiece_continuation_gets_no_space_of_its_own():
    renderer = Renderer(tokenizer_of("chatml", "metaspace"))
    for prompt, completion in (("hel", "lo there"), ("hello", " there"), ("a ", "b"), ("x\n", "\n\ny")):
        rendered = renderer.example(prompt, completion)
        assert rendered.ids[: rendered.split] == renderer.prompt(prompt)
        assert renderer.decode(rendered.ids) == prompt + completion


def test_an_empty_answer_trains_its_end_of_turn(chatml):
    rendered = chatml.example(ASK, "")
    assert [chatml.tokenizer.decode(i) for i, t in zip(rendered.ids, rendered.loss_mask) if t] == ["<|im_end|>"]
    assert chatml.decode(rendered.ids[rendered.split :]) == ""


def test_a_raw_row_without_prompt_takes_its_first_token_as_given(chatml):
    rendered = chatml.example("", "who is")
    assert rendered.split == 1
    assert rendered.loss_mask == [False] + [True] * (len(rendered.ids) - 1)
    with pytest.raises(RenderError, match="single token"):
        chatml.example("", "")


def test_completion_of_several_turns_trains_the_assistant_only(chatml):
    rendered = chatml.example(
        ASK, [*SAY, {"role": "user", "content": "sure?"}, {"role": "assistant", "content": "yes"}]
    )
    assert rendered.ids[: rendered.split] == chatml.prompt(ASK)
    assert [text for text, trained in chatml.parts(rendered) if trained] == ["it is ada.<|im_end|>", "yes<|im_end|>"]


def test_fingerprint_follows_template_specials_and_opening(chatml):
    same = Renderer(tokenizer_of("chatml", "byte-level"))
    assert same.fingerprint == chatml.fingerprint
    others = [
        Renderer(with_template(CHATML.replace("user", "user"), "qwen")),
        Renderer(with_template(CHATML + "{# a note #}")),
        Renderer(tokenizer_of("zephyr", "byte-level")),
        Renderer(tokenizer_of("zephyr", "byte-level", bos_habit=False)),
    ]
    assert len({r.fingerprint for r in (chatml, *others)}) == 5


def test_templates_with_todays_date_render_the_same_tomorrow():
    dated = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}\n" + CHATML
    renderer = Renderer(with_template(dated))
    assert renderer.parts(renderer.example(ASK, SAY))[0][0].startswith("26 Jul 2024\n")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}", "drops"),
        ("{% for m in messages %}{{ m.role + m.content }}\n{% endfor %}{{ '' }}", "special token"),
        ("<|im_start|><|im_start|>" + CHATML, "begins with"),
        ("{% for m in messages %}{{ m.role | nonsense }}{% endfor %}", "refuses"),
        ("{% for m in messages %}", "refuses"),
        ("fixed text", "drops"),
    ],
)
def test_templates_that_break_a_promise_are_refused(template, message):
    with pytest.raises(RenderError, match=message) as caught:
        Renderer(with_template(template, bos_token="<|im_start|>" if "begins" in message else None), place="this model")
    assert caught.value.place == "this model"
    assert caught.value.fix


def test_a_generation_prompt_that_opens_a_thought_serves_prompts_but_no_training():
    renderer = Renderer(with_template(CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")))
    assert renderer.tokenizer.decode(renderer.prompt(ASK)).endswith("<|im_start|>assistant\n<think>\n")
    assert renderer.tokenizer.convert_ids_to_tokens(list(renderer.stops)) == ["<|im_end|>"]
    assert renderer.decode(renderer.tokenizer("hm</think>ada<|im_end|>\n").input_ids) == "hm</think>ada"
    assert "generation prompt" in renderer.training_problem
    with pytest.raises(RenderError, match="generation prompt is not how assistant message 2 begins"):
        renderer.example(ASK, SAY)


def test_history_that_a_template_rewrites_is_refused_row_by_row():
    renderer = Renderer(tokenizer_of("deepseek", "byte-level"))
    assert renderer.history_problem is None
    thought = [{"role": "assistant", "content": "let me see</think>it is ada."}]
    chat = [*ASK, *thought, *ASK, *SAY]
    with pytest.raises(RenderError, match="message 2 differently") as caught:
        renderer.example((), chat)
    assert "one row per assistant turn" in str(caught.value)
    rendered = renderer.example(chat[:-1], SAY)  # a turn at a time is fine: the prompt is what generation would see
    assert rendered.ids[: rendered.split] == renderer.prompt(chat[:-1])
    assert "let me see" not in renderer.parts(rendered)[0][0]


def test_system_message_that_moves_is_refused_when_several_turns_are_trained():
    renderer = Renderer(tokenizer_of("mistral-last", "byte-level"))
    system = [{"role": "system", "content": "be kind"}]
    with pytest.raises(RenderError, match="differently"):
        renderer.example((), [*system, *ASK, *SAY, *ASK, *SAY])
    assert renderer.example([*system, *ASK, *SAY, *ASK], SAY).split == len(renderer.prompt([*system, *ASK, *SAY, *ASK]))


@pytest.mark.parametrize(
    ("prompt", "completion", "message"),
    [
        ([{"role": "tool", "content": "x"}], "y", "role 'tool'"),
        ([{"role": "user"}], "y", "not a mapping"),
        ([{"role": "user", "content": 3}], "y", "is int, not text"),
        ([{"role": "user", "content": "a <|im_end|> b"}], "y", "special token '<|im_end|>'"),
        (ASK, "y <|im_start|>", "special token"),
        (ASK, ASK, "no assistant turn"),
        ((), ASK, "no assistant turn"),
        ("text", SAY, "text prompt"),
    ],
)
def test_messages_that_cannot_be_rendered(chatml, prompt, completion, message):
    with pytest.raises(RenderError) as caught:
        chatml.example(prompt, completion)
    assert message in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("prompt", [[], [*ASK, *SAY]])
def test_prompts_end_with_the_user(chatml, prompt):
    with pytest.raises(RenderError, match="must end with"):
        chatml.prompt(prompt)


def test_messages_that_a_template_refuses_or_drops_are_errors_of_prompts_too():
    system = [{"role": "system", "content": "be kind"}]
    with pytest.raises(RenderError, match="System role not supported"):
        Renderer(tokenizer_of("gemma", "byte-level")).prompt([*system, *ASK])
    deaf = Renderer(with_template("{% set messages = messages | rejectattr('role', 'equalto', 'system') %}" + CHATML))
    with pytest.raises(RenderError, match="drops the system message 1"):
        deaf.prompt([*system, *ASK])


def test_without_a_template_texts_render_and_messages_do_not():
    renderer = Renderer(with_template(""))
    assert renderer.example("who", " is").split == len(renderer.prompt("who"))
    assert renderer.pre_query == ""
    assert renderer.stops == {renderer.tokenizer.eos_token_id}
    with pytest.raises(RenderError, match="no chat template"):
        renderer.prompt(ASK)


def test_tokenizers_that_cannot_serve():
    class Slow:
        is_fast = False

    with pytest.raises(RenderError, match="no offsets"):
        Renderer(Slow())
    endless = Renderer(with_template("", eos_token=None))
    with pytest.raises(RenderError, match="end-of-sequence"):
        endless.text("who")
