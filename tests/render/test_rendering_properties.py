"""Promises of the renderer, over chat templates in thirteen styles (and Harbor's) and six kinds of tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from render.chat_styles import EXACT, MAKERS, STYLES, tokenizer_of

from fairlead.errors import RenderError
from fairlead.render import Renderer

NASTY = (
    "[/INST] it is",
    "USER: hi ASSISTANT:",
    "\n\nAssistant: no",
    "assistant\nhello",
    "<<SYS>> be rude",
    "### end",
    "user: a\nassistant: b",
    "<think>\nhm\n",
    "▁low line▁",
    "don't  stop",
    "  two\n\n\nlines \t",
    "naïve 😀🏴‍☠️ 船",
    "\r\n",
    "Ġodd",
    "1234567",
)
"""Texts that look like structure, or that tokenizers treat in their own ways; none holds a special token."""

contents = st.one_of(
    st.sampled_from(NASTY),
    st.lists(st.sampled_from([*NASTY, *"ab .,\n'", "captain ", "The river"]), min_size=1, max_size=4).map("".join),
    # Special tokens, which are refused and tested elsewhere, begin with one of these signs.
    st.text(
        st.characters(codec="utf-8", exclude_categories=("Cs", "Co", "Cc"), exclude_characters="<["),
        min_size=1,
        max_size=12,
    ),
).filter(lambda text: text.strip() and not any(s in text for style in STYLES.values() for s in style.specials))


@st.composite
def chats(draw, *, turns=st.integers(1, 3), system=True):
    """A conversation whose last message is the assistant's."""
    messages = []
    if system and draw(st.booleans()):
        messages.append({"role": "system", "content": draw(contents)})
    for _ in range(draw(turns)):
        messages += [{"role": "user", "content": draw(contents)}, {"role": "assistant", "content": draw(contents)}]
    return messages


PAIRS = [(style, maker) for style in STYLES for maker in MAKERS]
each = pytest.mark.parametrize(("style", "maker"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
quick = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
_renderers: dict[tuple[str, str], Renderer] = {}


def renderer_of(style: str, maker: str) -> Renderer:
    if (style, maker) not in _renderers:
        _renderers[style, maker] = Renderer(tokenizer_of(style, maker))
    return _renderers[style, maker]


def trained_runs(rendered):
    runs, run = [], []
    for token, trained in zip(rendered.ids, rendered.loss_mask):
        if trained:
            run.append(token)
        elif run:
            runs.append(run)
            run = []
    return [*runs, run] if run else runs


def kept(style, text):
    return text.strip() if STYLES[style].trims else text


@each
@quick
@given(data=st.data())
def test_a_row_begins_with_its_prompt_and_ends_with_a_trained_stop(style, maker, data):
    renderer = renderer_of(style, maker)
    chat = data.draw(chats(system=STYLES[style].system))
    if any("</think>" in m["content"] for m in chat):
        return
    prompt, answer = chat[:-1], chat[-1:]
    rendered = renderer.example(prompt, answer)
    assert rendered.ids[: rendered.split] == renderer.prompt(prompt)
    assert not any(rendered.loss_mask[: rendered.split])
    assert rendered == renderer.example(prompt, answer[0]["content"])
    (run,) = trained_runs(rendered)
    assert rendered.loss_mask[rendered.split]
    assert run[-1] in renderer.stops
    assert not renderer.stops.intersection(run[:-1])
    assert run[-1] == renderer.tokenizer.convert_tokens_to_ids(STYLES[style].end)
    users = [span for span in rendered.spans if span.role != "assistant"]
    assert not any(any(rendered.loss_mask[span.start : span.end]) for span in users)


@each
@quick
@given(data=st.data())
def test_at_most_one_bos_and_first(style, maker, data):
    renderer = renderer_of(style, maker)
    prompt = data.draw(chats(turns=st.just(1), system=STYLES[style].system))[:-1]
    bos = renderer.tokenizer.bos_token_id
    for ids in (renderer.prompt(prompt), renderer.prompt(prompt[-1]["content"]), renderer.text("a b")):
        assert bos is None or (ids.count(bos) == 1 and ids[0] == bos)


@each
@quick
@given(data=st.data())
def test_whole_conversations_train_every_answer_and_nothing_else(style, maker, data):
    renderer = renderer_of(style, maker)
    chat = data.draw(chats(turns=st.integers(2, 3), system=STYLES[style].system and style != "mistral-last"))
    if any("think>" in m["content"] for m in chat):
        return
    if STYLES[style].rewrites:
        assert renderer.history_problem is not None
        with pytest.raises(RenderError, match="one row per assistant turn"):
            renderer.example((), chat)
        return
    rendered = renderer.example((), chat)
    answers = [k for k, m in enumerate(chat) if m["role"] == "assistant"]
    runs = trained_runs(rendered)
    assert len(runs) == len(answers)
    assert all(run[-1] in renderer.stops for run in runs)
    first = answers[0]
    assert rendered.ids[: rendered.split] == renderer.prompt(chat[:first])
    later = renderer.example(chat[: answers[1]], chat[answers[1] :])
    assert trained_runs(later) == runs[1:]


@pytest.mark.parametrize("maker", EXACT)
@pytest.mark.parametrize("style", STYLES)
@quick
@given(data=st.data())
def test_decoding_gives_back_the_answer_and_spans_the_contents(style, maker, data):
    renderer = renderer_of(style, maker)
    chat = data.draw(chats(turns=st.integers(1, 2), system=STYLES[style].system))
    if any("think>" in m["content"] for m in chat):
        return
    rendered = renderer.example(chat[:-1], chat[-1:])
    swallowed = STYLES[style].rstrip  # then white space at the start of a content belongs to the token before it
    answer = kept(style, chat[-1]["content"])
    decoded = renderer.decode(rendered.ids[rendered.split :])
    assert decoded == (answer.lstrip() if swallowed else answer)
    if style in ("chatml", "llama-3", "gemma"):  # every content has a special token or line break on both sides
        for message, span in zip(chat, rendered.spans, strict=True):
            said = renderer.tokenizer.decode(rendered.ids[span.start : span.end])
            assert said.strip() in message["content"]
            assert message["content"].strip().startswith(said.strip()[:1])


@each
@quick
@given(prompt=contents, completion=contents)
def test_raw_text_continues_the_tokens_of_its_prompt(style, maker, prompt, completion):
    renderer = renderer_of(style, maker)
    rendered = renderer.example(prompt, completion)
    asked = renderer.prompt(prompt)
    if asked:
        assert rendered.ids[: rendered.split] == asked
    assert all(rendered.loss_mask[rendered.split :])
    assert not any(rendered.loss_mask[: rendered.split])
    assert rendered.ids[-1] == renderer.tokenizer.eos_token_id
    if maker in EXACT and asked and not STYLES[style].rstrip:
        assert renderer.decode(rendered.ids[rendered.split :], raw=True) == completion


@each
@quick
@given(data=st.data())
def test_tokens_are_the_libraries_own_where_nothing_merges_across_a_border(style, maker, data):
    renderer = renderer_of(style, maker)
    chat = data.draw(chats(turns=st.just(1), system=STYLES[style].system))
    own = renderer.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    rendered = renderer.example(chat[:-1], chat[-1:])
    opening = renderer._encoder.opening
    if opening and own[: len(opening)] != opening:
        own = opening + own
    if own[: rendered.split] == rendered.ids[: rendered.split]:
        assert rendered.ids == own
    else:
        assert renderer.tokenizer.decode(rendered.ids) == renderer.tokenizer.decode(own) or maker not in EXACT
