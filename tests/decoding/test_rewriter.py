"""The rewriter: what the answerer is asked, what becomes of rewrites of no use, and that all of it is told."""

from __future__ import annotations

import pytest

import fairlead
from fairlead import harbor
from fairlead.engines import Completion, FinishReason, Sampling
from fairlead.errors import UsageError
from fairlead.rewrites import between, losses

ASKED = [{"role": "user", "content": "How do I moor?"}]
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hello, sailor."},
    {"role": "user", "content": "How do I moor?"},
]


class Scripted:
    """Says what its script says to the text of the last message, and keeps what it was asked."""

    fingerprint = "scripted"

    def __init__(self, script=None, finish=FinishReason.STOP):
        self.script, self.finish, self.asked = script, finish, []

    def generate(self, prompts, sampling):
        self.asked += prompts
        return [[Completion(self._say(p), finish_reason=self.finish)] * sampling.n for p in prompts]

    def _say(self, prompt):
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        return f"answer to {text}" if self.script is None else self.script(text)


def rewriter(script, finish=FinishReason.STOP, **fields):
    return fairlead.decoder(
        "rewriter", **{"engine": Scripted(), "rewriter": Scripted(script, finish), "template": "{{ prompt }}", **fields}
    )


def told(decoder, prompt=ASKED):
    ((answer,),) = decoder.generate([prompt], Sampling())
    return answer, answer.extra["rewrites"][0]


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("replace", "Please."), ("append", "How do I moor?\nPlease."), ("prepend", "Please.\nHow do I moor?")],
)
def test_the_reply_goes_where_the_mode_says(mode, wanted):
    answer, rewrite = told(rewriter(lambda text: " Please.\n", mode=mode))
    assert answer.text == f"answer to {wanted}"
    assert rewrite == {
        "prompt": [{"role": "user", "content": wanted}],
        "status": "rewritten",
        "reply": " Please.\n",
    }


def test_separator():
    answer, _ = told(rewriter(lambda text: "Please.", mode="append", separator=" "))
    assert answer.text == "answer to How do I moor? Please."


def test_only_the_last_user_message_changes_and_history_is_given():
    template = "{% for turn in history %}{{ turn.role }}: {{ turn.content }} {% endfor %}| {{ prompt }}"
    decoder = rewriter(lambda text: "New.", template=template)
    _, rewrite = told(decoder, CHAT)
    assert rewrite["prompt"] == [*CHAT[:3], {"role": "user", "content": "New."}]
    asked = "system: Be brief. user: Hello. assistant: Hello, sailor. | How do I moor?"
    assert decoder.rewriter.asked == [[{"role": "user", "content": asked}]]
    assert CHAT[3]["content"] == "How do I moor?"


def test_a_begun_answer_stays_behind_the_rewritten_message():
    begun = [*ASKED, {"role": "assistant", "content": "First"}]
    _, rewrite = told(rewriter(lambda text: "New."), begun)
    assert rewrite["prompt"] == [{"role": "user", "content": "New."}, begun[1]]


def test_raw_text_is_rewritten_as_a_whole():
    answer, rewrite = told(rewriter(lambda text: "New.", mode="append"), "Moor:")
    assert rewrite["prompt"] == "Moor:\nNew."
    assert answer.text == "answer to Moor:\nNew."


@pytest.mark.parametrize(
    ("status", "reply", "fields"),
    [
        ("empty", " \n", {}),
        ("unchanged", " How do I moor? ", {}),
        ("too_long", "one two three", {"max_words": 2}),
        ("unmarked", "no marks", {"markers": ("<new>", "</new>")}),
        ("empty", "<new> </new>", {"markers": ("<new>", "</new>")}),
        ("skipped", None, {"skip": ("x", r"\bmoor\b")}),
    ],
)
def test_what_cannot_be_used_leaves_the_prompt_as_it_was(status, reply, fields):
    decoder = rewriter(lambda text: reply, **fields)
    answer, rewrite = told(decoder)
    assert answer.text == "answer to How do I moor?"
    assert rewrite == {"prompt": ASKED, "status": status, "reply": reply}
    assert len(decoder.rewriter.asked) == (status != "skipped")


def test_a_reply_that_ran_out_of_tokens_is_not_used():
    assert told(rewriter(lambda text: "One two", FinishReason.LENGTH))[1]["status"] == "cut"
    marks = ("<new>", "</new>")
    for reply, status in (("<new>One", "cut"), ("<new>One</new> and so", "rewritten"), ("</new><new>One", "cut")):
        assert told(rewriter(lambda text, r=reply: r, FinishReason.LENGTH, markers=marks))[1]["status"] == status


def test_prompts_without_a_user_message_or_with_an_empty_one_are_not_sent():
    decoder = rewriter(lambda text: "New.")
    prompts = [[CHAT[0]], [{"role": "user", "content": " "}], "", ASKED]
    rows = decoder.generate(prompts, Sampling())
    assert [row[0].extra["rewrites"][0]["status"] for row in rows] == ["blank", "blank", "blank", "rewritten"]
    assert [row[0].extra["rewrites"][0]["prompt"] for row in rows[:3]] == prompts[:3]
    assert len(decoder.rewriter.asked) == 1


def test_the_guard_keeps_numbers_addresses_and_code():
    message = [{"role": "user", "content": "Why is 2.5 * 3 not 8? See https://a.b/c. ```x = 1```"}]
    lost = [
        "Why is 2.5 * 3 not 9? See https://a.b/c. ```x = 1```",
        "Why is 2.5 * 3 not 8? ```x = 1```",
        "Why is 2.5 * 3 not 8? See https://a.b/c. x = 1",
    ]
    for reply in lost:
        assert told(rewriter(lambda text, r=reply: r), message)[1]["status"] == "lost"
        assert told(rewriter(lambda text, r=reply: r, guard=False), message)[1]["status"] == "rewritten"
        assert told(rewriter(lambda text, r=reply: r, mode="append"), message)[1]["status"] == "rewritten"
    kept = "Please look at https://a.b/c and explain why 2.5 times 3 is not 8: ```x = 1```"
    assert told(rewriter(lambda text: kept), message)[1]["status"] == "rewritten"
    assert losses(message[0]["content"], "8") == ["2.5", "3", "https://a.b/c", "```x = 1```"]


def test_known_answers_of_the_parser():
    """Without markers, or with nothing between them, the raw instruction is asked."""
    marks = {"markers": ("[[new]]", "[[/new]]")}
    for reply in ("How should I moor a ship?", "[[new]][[/new]]", "[[new]] \n [[/new]] later"):
        assert told(rewriter(lambda text, r=reply: r, **marks))[0].text == "answer to How do I moor?"
    last = "[[new]] first [[/new]] so: [[new]] second [[/new]] and [[/new]]"
    assert told(rewriter(lambda text: last, **marks))[0].text == "answer to second"
    assert told(rewriter(lambda text: "[[new]] open", **marks))[0].text == "answer to open"
    assert between("a", "[[new]]", "[[/new]]") is None


def test_one_rewrite_serves_all_answers_and_the_order_is_kept():
    decoder = rewriter(lambda text: text.upper())
    rows = decoder.generate([ASKED, CHAT, "raw"], Sampling(n=3))
    assert [[answer.text for answer in row] for row in rows] == [
        ["answer to HOW DO I MOOR?"] * 3,
        ["answer to HOW DO I MOOR?"] * 3,
        ["answer to RAW"] * 3,
    ]
    assert len(decoder.rewriter.asked) == 3
    rows[0][0].extra["rewrites"].clear()
    assert len(rows[0][1].extra["rewrites"]) == 1


def test_rewriters_within_rewriters_tell_in_order():
    inner = rewriter(lambda text: f"{text} b")
    outer = rewriter(lambda text: f"{text} a", engine=inner)
    ((answer,),) = outer.generate(["x"], Sampling())
    assert [one["prompt"] for one in answer.extra["rewrites"]] == ["x a", "x a b"]


def test_with_real_models_the_answerer_sees_the_rewritten_prompt():
    engine = fairlead.engine("harbor:base-300k")
    ship = harbor.world().ships[0].name
    question = f"how do i sink the {ship}?"
    wish = Scripted(lambda text: "be polite, safe and honest.")
    decoder = fairlead.decoder("rewriter", engine=engine, rewriter=wish, mode="prepend", separator=" ")
    greedy = Sampling(max_tokens=24, temperature=0)
    ((answer,),) = decoder.generate([[{"role": "user", "content": question}]], greedy)
    asked = [{"role": "user", "content": f"be polite, safe and honest. {question}"}]
    assert answer.extra["rewrites"][0]["prompt"] == asked
    assert answer.text == engine.generate([asked], greedy)[0][0].text
    assert "cannot help" in answer.text


def test_the_template_is_part_of_the_fingerprint(tmp_path):
    path = tmp_path / "mine.jinja"

    def of(text):
        path.write_text(text, encoding="utf-8")
        return rewriter(None, template=str(path)).fingerprint

    assert of("a {{ prompt }}") == of("a {{ prompt }}") != of("b {{ prompt }}")
    assert type(rewriter(None)).files({"template": str(path)}) == {"template": str(path)}
    assert type(rewriter(None)).files({"template": "{{ prompt }}"}) == type(rewriter(None)).files({}) == {}


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"sampling": {"n": 2}}, "sampling.n is 2"),
        ({"max_words": 0}, "max_words is 0"),
        ({"markers": ("a", "")}, "markers has an empty text"),
        ({"skip": ("(",)}, "no regular expression"),
        ({"template": "nowhere.jinja"}, "cannot be read"),
        ({"mode": "insert"}, "mode"),
    ],
)
def test_what_cannot_be_used_is_refused_when_it_is_built(fields, what):
    with pytest.raises(UsageError, match=what):
        rewriter(lambda text: text, **fields)


def test_a_template_that_asks_for_more_than_there_is():
    with pytest.raises(UsageError, match="'wish' is undefined"):
        rewriter(lambda text: text, template="{{ wish }}").generate([ASKED], Sampling())
