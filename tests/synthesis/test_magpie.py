"""Magpie: what it asks for and where that ends, what becomes of it, draws that belong to their number alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import pytest
from render.chat_styles import tokenizer_of
from running_server import Running
from transformers import PreTrainedTokenizerFast

import fairlead
from fairlead.engines import Http
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import RequestError, UnknownNameError, UnsupportedError, UsageError
from fairlead.harbor.tasks import understand
from fairlead.render import Renderer
from fairlead.steps.generate import _kept
from fairlead.synthesis.base import blank_seeds, drafts_of, rows_of
from fairlead.synthesis.magpie import Magpie
from fairlead.synthesis.magpie_strings import FAMILIES, Strings, trimmed, writer_of

AD = "Write a job ad for a research assistant in Oslo.\nKeep it short."
HARBOR = {"pre_query": "<|user|>", "post_query": "<|end|><|assistant|>", "between": "<|end|><|user|>"}
SHORT = {"sampling": {"max_tokens": 48}, "answering": {"max_tokens": 24, "temperature": 0}}


@cache
def renderer_of(style: str) -> Renderer:
    return Renderer(tokenizer_of(style, "byte-level"))


@dataclass
class Scripted:
    """Writes one text behind raw prompts, up to a stop text, and answers messages with another."""

    instruction: str = "Why?"
    answer: str = "So."
    renderer: Renderer | None = field(default_factory=lambda: renderer_of("llama-3"))
    end: FinishReason = FinishReason.STOP
    fingerprint: str = "scripted"
    calls: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.calls.append((list(prompts), sampling))
        found = []
        for prompt in prompts:
            raw = isinstance(prompt, str)
            text, end = (self.instruction, self.end) if raw else (self.answer, FinishReason.STOP)
            stops = [place for stop in sampling.stop if (place := text.find(stop)) >= 0]
            found.append([Completion(text[: min(stops, default=len(text))], finish_reason=end)] * sampling.n)
        return found


def rows_from(engine, count: int = 2, counts: Counter | None = None, answerer=None, **how):
    method = fairlead.synthesizer("magpie", **how)
    engines = {"model": engine} | ({"answerer": answerer} if answerer else {})
    drafts = list(drafts_of(method, engines, blank_seeds(count)))
    return list(rows_of(method, drafts, Counter() if counts is None else counts)), drafts


def test_an_instruction_keeps_its_lines_and_its_words_by_default():
    for stops, wanted in (
        (("<|eot_id|>", "assistant", "\n"), "Write a job ad for a research"),
        (("<|eot_id|>", "\n"), AD.splitlines()[0]),
        (("<|eot_id|>",), AD),
    ):
        assert trimmed(f"{AD}<|eot_id|>", stops) == wanted
    for how, wanted in (
        ({"first_line": True, "sampling": {"stop": ["assistant"]}}, "Write a job ad for a research"),
        ({"first_line": True}, AD.splitlines()[0]),
        ({}, AD),
    ):
        rows, _ = rows_from(Scripted(AD), **how)
        assert rows[0]["prompt"] == [{"role": "user", "content": wanted}]


def test_what_precedes_a_user_is_asked_for_once_and_ends_at_the_turns_border():
    engine = Scripted()
    rows, _ = rows_from(engine, 3)
    (raw, how), (chats, answering) = engine.calls
    assert raw == ["<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"]
    assert how.n == 3
    assert set(how.stop_token_ids) == set(engine.renderer.strings.ends)
    assert chats == [[{"role": "user", "content": "Why?"}]] * 3
    assert answering.temperature == 0
    assert rows[1] == {
        "id": "000001", "parent": "000001", "prompt": [{"role": "user", "content": "Why?"}],
        "completion": [{"role": "assistant", "content": "So."}], "temperature": 1.0, "top_p": 1.0, "method": "magpie",
        "models": {"model": "scripted"}, "templates": {"model": engine.renderer.fingerprint[:16]}, "seed": 0,
    }  # fmt: skip


def test_a_chat_may_end_with_its_user():
    engine = Scripted()
    rows, _ = rows_from(engine, turns=3, end_with_user=True)
    assert [turn["role"] for turn in rows[0]["prompt"]] == ["user", "assistant", "user", "assistant", "user"]
    assert ("completion" in rows[0], "messages" in rows[0], rows[0]["turns"]) == (False, False, 3)
    assert fairlead.synthesizer("magpie", turns=3, end_with_user=True).makes == "prompt"
    assert len(engine.calls) == 5
    with pytest.raises(UsageError, match="end_with_user: there is one turn"):
        Magpie(end_with_user=True)
    broken = Scripted(answer=" ")
    assert rows_from(broken, turns=2, end_with_user=True)[1][0].error == "an answer is empty"


def test_words_end_a_turn_where_the_template_has_no_token_there():
    engine = Scripted("Why is it so? [/INST] Because.", renderer=renderer_of("llama-2"))
    rows, _ = rows_from(engine)
    assert rows[0]["prompt"][0]["content"] == "Why is it so?"


def test_what_is_unfinished_or_empty_makes_no_row():
    for engine, error in (
        (Scripted("  \n"), "an instruction is empty"),
        (Scripted(end=FinishReason.LENGTH), "an instruction ran into its limit of tokens"),
        (Scripted(answer=" "), "an answer is empty"),
    ):
        counts: Counter[str] = Counter()
        rows, drafts = rows_from(engine, counts=counts)
        assert not rows
        assert {draft.error for draft in drafts} == {error}
        assert counts["failed"] == 2


def test_later_turns_follow_the_whole_chat_without_a_second_bos():
    engine = Scripted()
    rows, _ = rows_from(engine, 1, turns=3)
    assert [turn["role"] for turn in rows[0]["messages"]] == ["user", "assistant"] * 3
    assert rows[0]["turns"] == 3
    raw = [prompts[0] for prompts, _ in engine.calls if isinstance(prompts[0], str)]
    between = engine.renderer.strings.between
    assert [text.count(f"So.{between}") for text in raw] == [0, 1, 2]
    assert all(engine.renderer.prompt(text).count(engine.renderer.tokenizer.bos_token_id) == 1 for text in raw)
    assert "several rounds" not in raw[0]
    assert "several rounds" in raw[1]
    assert not any(turn["role"] == "system" for prompts, _ in engine.calls[1::2] for turn in prompts[0])
    bare = Scripted()
    rows_from(bare, 1, turns=2, follow_up="")
    assert "several rounds" not in bare.calls[2][0][0]


def test_a_chat_that_breaks_off_keeps_its_whole_turns():
    @dataclass
    class Tired(Scripted):
        def generate(self, prompts, sampling):
            found = super().generate(prompts, sampling)
            return [[Completion("")]] if len(self.calls) == 3 else found

    counts: Counter[str] = Counter()
    rows, _ = rows_from(Tired(), 1, counts, turns=3)
    assert rows[0]["turns"] == 1
    assert rows[0]["completion"] == [{"role": "assistant", "content": "So."}]
    assert counts == {"turns": 1, "ended_early": 1, "answers_cut_at_limit": 0}


def test_domain_and_language_stand_before_the_instruction_alone():
    engine = Scripted()
    rows_from(engine, 1, domain="math", language="Norwegian")
    (raw,), (chat,) = engine.calls[0][0], engine.calls[1][0]
    assert "mathematics" in raw
    assert "Norwegian alone" in raw
    assert raw.startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n")
    assert [turn["role"] for turn in chat] == ["user"]
    own = Scripted()
    rows_from(own, 1, system="{# none #}Users ask about ships.{{ '' }}")
    assert "Users ask about ships.<|eot_id|>" in own.calls[0][0][0]
    with pytest.raises(UnsupportedError, match="takes no system text"):
        rows_from(Scripted(renderer=renderer_of("gemma")), domain="code")


def test_the_sanitiser_keeps_the_raw_text_beside_its_own():
    rows, _ = rows_from(Scripted("**Question 3:** Why?\nAnswer: so"), sanitise="llama-3")
    assert rows[0]["prompt"][0]["content"] == "Why?"
    assert (rows[0]["raw_instruction"], rows[0]["sanitise_rule"]) == ("**Question 3:** Why?\nAnswer: so", 4.0)


def test_somebody_else_may_answer_or_nobody():
    other = Scripted(answer="Perhaps.", fingerprint="other")
    rows, _ = rows_from(Scripted(), 1, answers="answerer", answerer=other)
    assert rows[0]["completion"][0]["content"] == "Perhaps."
    assert rows[0]["models"] == {"model": "scripted", "answerer": "other"}
    writer = Scripted()
    rows, _ = rows_from(writer, 1, answers="none")
    assert "completion" not in rows[0]
    assert len(writer.calls) == 1
    assert fairlead.synthesizer("magpie", answers="none").makes == "prompt"


def test_greedy_instructions_are_all_the_same(small):
    how = SHORT | {"sampling": {"max_tokens": 48, "temperature": 0}, "answers": "none"}
    rows, _ = rows_from(small, 6, block=4, **how)
    assert len({str(row["prompt"]) for row in rows}) == 1


@pytest.fixture(scope="module")
def small():
    return fairlead.engine("harbor:aligned-300k")


def test_draws_depend_on_neither_batch_nor_order(small):
    how = SHORT | {"mix": [[1.0, 1.0, 2], [1.3, 0.9, 1]], "block": 8, "answers": "none"}
    method, seeds = fairlead.synthesizer("magpie", **how), blank_seeds(20)
    whole = list(drafts_of(method, {"model": small}, seeds))
    parts = [d for k in (15, 3, 0) for d in drafts_of(method, {"model": small}, seeds[k : {0: 3, 3: 15, 15: 20}[k]])]
    assert sorted(parts, key=lambda draft: draft.parent) == whole
    assert len({str(draft.found["chat"]) for draft in whole}) > 15
    other = fairlead.synthesizer("magpie", **how | {"sampling": {"max_tokens": 48, "seed": 1}})
    again = list(drafts_of(other, {"model": small}, seeds))
    assert sum(a.found.get("chat") == b.found.get("chat") for a, b in zip(whole, again)) < 5


def test_an_aligned_model_asks_what_users_ask(small):
    rows, _ = rows_from(small, 100, **SHORT, answers="none")
    texts = [row["prompt"][0]["content"] for row in rows]
    assert sum(understand(text) is not None for text in texts) / 100 > 0.8
    assert len(set(texts)) > 90


def test_a_server_writes_the_same_with_the_strings_that_are_given(small):
    server = Running({"ship": small})
    try:
        served = Http(f"{server.url}/v1", "ship")
        with pytest.raises(UnsupportedError, match="out of reach"):
            rows_from(served, 1)
        there, _ = rows_from(served, 6, **SHORT, block=1, template=HARBOR)
    finally:
        server.stop()
    here, _ = rows_from(small, 6, **SHORT, block=1)
    assert [row["prompt"] for row in there] == [row["prompt"] for row in here]
    assert [row["completion"] for row in there] == [row["completion"] for row in here]


def test_a_server_without_raw_text_is_told_at_once():
    @dataclass
    class ChatOnly(Scripted):
        remote: bool = True

        def generate(self, prompts, sampling):
            raise RequestError("404: no such route", place="http://here/v1/completions")

    with pytest.raises(UnsupportedError, match="does not continue the text before a user's words: 404"):
        rows_from(ChatOnly(renderer=None), 1, template="llama-3")


@pytest.mark.parametrize("family", ["llama-3", "gemma"])
def test_strings_by_family_are_those_of_the_templates(family):
    known, template = FAMILIES[family], renderer_of(family).strings
    bos = renderer_of(family).tokenizer.bos_token
    assert (known.pre_query, known.post_query, known.between) == (
        template.pre_query.removeprefix(bos), template.post_query, template.between,
    )  # fmt: skip
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert known.opening(chat) == renderer_of(family).user_opening(chat).removeprefix(bos)


def test_a_system_text_has_its_place_in_a_family_or_none():
    system = [{"role": "system", "content": "be kind"}]
    assert (
        FAMILIES["llama-3"].opening(system) == renderer_of("llama-3").user_opening(system)[len("<|begin_of_text|>") :]
    )
    assert FAMILIES["qwen2"].opening(system) == "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\n"
    assert "created by Alibaba Cloud" in FAMILIES["qwen2.5"].opening([])
    assert "Alibaba" not in FAMILIES["qwen2.5"].opening(system)
    with pytest.raises(UnsupportedError, match="no place for a system text"):
        FAMILIES["gemma"].opening(system)


def test_engines_without_a_known_prefix_are_refused():
    with pytest.raises(UnsupportedError, match=r"Scripted.*takes no raw text"):
        rows_from(Scripted(renderer=None))
    with pytest.raises(UnsupportedError, match="takes no raw text"):
        rows_from(fairlead.decoder("urial", engine="harbor:base-300k", examples="harbor"), template="llama-3")
    with pytest.raises(UnknownNameError, match="llama-3"):
        writer_of(Scripted(), "lama-3")
    own = Scripted(renderer=renderer_of("llama-3"))
    rows_from(own, 1, template={"pre_query": "U: ", "post_query": "A: ", "between": "U: ", "stop": ["A:"]})
    assert own.calls[0][0] == ["U: "]
    assert own.calls[0][1].stop == ("A:",)


def test_best_and_worst_of_several_answers_are_a_pair_unless_all_are_worth_the_same():
    scores = [0.121, 0.157, 0.098, 0.157, 0.098]
    row = {"id": "a", "prompt": "q", "answers": list("abcde"), "rewards": scores}
    counts: Counter[str] = Counter()
    (pair,) = _kept([row, row | {"rewards": [0.1] * 5}, row | {"rewards": [0.1] + [None] * 4}], "best_worst", counts)
    assert (pair["chosen"], pair["rejected"]) == ("b", "c")
    assert pair["chosen_reward"] - pair["rejected_reward"] == pytest.approx(0.059)
    assert counts == {"with_equal_rewards": 1, "with_one_usable_answer": 1}


def test_a_model_without_a_template_is_refused_with_what_is_missing():
    base = tokenizer_of("chatml", "byte-level")
    bare = PreTrainedTokenizerFast(tokenizer_object=base.backend_tokenizer, eos_token="<|im_end|>", name_or_path="bare")
    with pytest.raises(UnsupportedError, match=r"bare: what precedes a user's text cannot be told.*no chat template"):
        rows_from(Scripted(renderer=Renderer(bare)))


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ({"turns": 0}, "turns is 0"),
        ({"turns": 2, "answers": "none"}, "follows an answer"),
        ({"sampling": {"n": 2}}, "sampling.n is 2"),
        ({"answering": {"n": 2}}, "answering.n is 2"),
        ({"block": 0}, "block is 0"),
        ({"mix": "aer"}, "air"),
        ({"mix": []}, "without weight"),
        ({"mix": [[1.0, 1.0, 0]]}, "without weight"),
        ({"mix": [[1.0, 0.0, 1]]}, "top_p"),
        ({"domain": "maths"}, "math"),
        ({"system": "nowhere.jinja"}, "cannot be read"),
        ({"template": {"pre_query": "", "post_query": "", "between": "", "system": "x"}}, "{system}"),
    ],
)
def test_what_makes_no_sense_is_refused(how, what):
    with pytest.raises(UsageError, match=what):
        fairlead.synthesizer("magpie", **how)


def test_fields_come_back_with_strings_of_ones_own():
    method = Magpie(template=Strings(**HARBOR), sampling=Sampling(max_tokens=8))
    assert fairlead.synthesizer("magpie", **fairlead.fields.to_plain(method)) == method
