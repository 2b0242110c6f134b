"""WildFeedback: cases and pairs as worked by hand, what is believed of replies, and that no hint stays in a record."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from known_scores import mean, scores

import fairlead
from fairlead.engines.base import Completion
from fairlead.errors import DataError, EngineError, UnknownNameError, UsageError
from fairlead.evaluation.preferences.agreement import cohen_kappa
from fairlead.evaluation.win_rate import WinRate
from fairlead.records import Conversation
from fairlead.synthesis.base import drafts_of, rows_of
from fairlead.synthesis.feedback_pairs import held_out, leaks, two_orders
from fairlead.synthesis.feedback_signals import (
    DSAT,
    SAT,
    Signal,
    cases_of,
    conversations,
    labelled_by_phrases,
    read_signals,
    signals_in,
    unquoted,
)
from fairlead.synthesis.wildfeedback import WildFeedback, read_preferences

PHRASES = {"gratitude": ("thanks",), "revision": ("again",), "factual_error": ("wrong",)}
WISHES = {"gratitude": ("Be brief.",), "revision": ("Be kind.",), "factual_error": ("Be right.",)}


def chat(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


SEVEN = chat("u0", "a1", "wrong! u2", "a3", "u4", "a5", "thanks. u6")


def seed(turns=SEVEN, name="c", **extra) -> Conversation:
    return Conversation(name, (), tuple(turns), extra)


@dataclass
class Scribe:
    """Writes by role: what a hint asks for, labels of every wanted message, wishes, verdicts."""

    says: dict = field(default_factory=dict)
    fingerprint: str = "scribe" * 4
    calls: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.calls += [(prompt, sampling) for prompt in prompts]
        return [[Completion(self.reply(prompt))] for prompt in prompts]

    def reply(self, prompt):
        text = prompt[-1]["content"]
        key = re.search(r'"key": "(\w+)"', text)
        if key is None:
            return f"hinted to {text}" if prompt[0]["role"] == "system" else f"plain to {text}"
        kind = next(name for name in ("verdict", "preferences", "dsat") if f'"{name}"' in text)
        said = self.says.get("safety" if "safe or unsafe" in text else kind, DEFAULTS[kind])
        return said(text, key[1]) if callable(said) else said


def _labels(text, key):
    wanted = re.search(r"user messages ([\d, ]+) what", text)[1].split(", ")
    signs = {"2": ([], ["Factual error", "nonsense"]), "6": (["Gratitude"], [])}
    rows = [(i, *signs.get(i, ([], []))) for i in wanted]
    return "\n".join(
        json.dumps({"key": key, "id": int(i), "related": "yes", "sat": sat, "dsat": dsat}) for i, sat, dsat in rows
    )


def _prefers_hinted(text, key):
    first = re.search(r"<answer-a-\w+>\n(\w+)", text)[1]
    return json.dumps({"key": key, "verdict": "A>B" if first == "hinted" else "B>A"})


DEFAULTS = {
    "dsat": _labels,
    "preferences": lambda _, key: json.dumps({"key": key, "preferences": ["Be right."]}),
    "verdict": _prefers_hinted,
}


def made(engine=None, seeds=None, **how):
    method = WildFeedback(**{"moderate": False, **how})
    drafts = list(drafts_of(method, dict.fromkeys(method.engines, engine or Scribe()), seeds or [seed()]))
    counts = Counter()
    return list(rows_of(method, drafts, counts)), counts, drafts


def test_cases_of_a_conversation_worked_by_hand():
    bad, good = cases_of(SEVEN, [Signal(6, sat=("gratitude",)), Signal(2, dsat=("factual_error",))])
    assert (bad.kind, bad.prompt, bad.answer, bad.reaction) == ("dsat", SEVEN[:1], "a1", "wrong! u2")
    assert (good.kind, good.prompt, good.answer) == ("sat", SEVEN[:5], "a5")


@pytest.mark.parametrize(
    ("sat", "dsat", "related", "kind"),
    [
        ((), ("style",), True, "dsat"),
        (("praise",), (), True, "sat"),
        (("gratitude",), ("revision",), True, "dsat"),
        (("gratitude",), ("revision",), False, None),
        ((), (), True, None),
    ],
)
def test_the_table_of_decisions(sat, dsat, related, kind):
    signal = Signal(2, sat, dsat, related)
    assert signal.kind == kind
    assert [case.kind for case in cases_of(SEVEN, [signal])] == ([kind] if kind else [])


def test_a_blank_message_and_a_first_message_make_no_case():
    assert not cases_of(chat("u", " ", "wrong"), [Signal(2, dsat=("style",))])
    assert not cases_of(SEVEN, [Signal(0, dsat=("style",)), Signal(3, dsat=("style",))])


def test_agreement_of_a_labeller_with_people():
    human, model = ([int(digit) for digit in text] for text in ("1110000010", "1100001010"))
    assert cohen_kappa(human, model) == pytest.approx(0.583333, abs=1e-6)


def test_win_rates_over_the_papers_number_of_items():
    points = np.repeat([1.0, 0.5, 0.0], [245, 95, 200])
    found = WinRate(baseline="base", reward="harbor")._summary(points[:, None], points[:, None])
    assert found["wins"].value == pytest.approx(0.453704, abs=1e-6)
    assert found["rate"].value == pytest.approx(0.541667, abs=1e-6)


@pytest.mark.parametrize(
    ("policy", "reference", "loss"),
    [((-12.0, -15.0), (-13.0, -14.5), 0.620957), ((-12.0, -15.0), (-12.0, -15.0), 0.693147)],
)
def test_loss_of_a_pair_that_is_trained_on(policy, reference, loss):
    given = scores([[value] for value in policy], list(reference), groups=(0, 0), chosen=(1, 0))
    assert mean(fairlead.objective("dpo", beta=0.1)(given)) == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("A", "B", "win"),
        ("A", "A", "tie"),
        ("B", "A", "loss"),
        ("tie", "B", "tie"),
        ("A", "tie", "tie"),
        ("tie", "tie", "tie"),
        ("B", "B", "tie"),
        (None, "B", "tie"),
    ],
)
def test_two_orders(first, second, outcome):
    assert two_orders(first, second) == outcome
    swapped = {"win": "loss", "loss": "win", "tie": "tie"}
    assert two_orders(second, first) == swapped[outcome]


def test_expert_pairs_have_no_hint_in_their_prompt():
    engine = Scribe()
    (row,), counts, _ = made(engine, phrases=PHRASES, wishes=WISHES)
    assert row["prompt"] == SEVEN[:1]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("hinted to u0", "a1")
    assert (row["preferences"], row["sign"], row["source"]) == (["Be right."], "factual_error", "expert")
    assert row["checks"] == ["Does the answer do what this user wants: Be right."]
    hinted, _ = engine.calls[0]
    assert "- Be right." in hinted[0]["content"]
    assert "harm" in hinted[0]["content"]
    assert counts["dsat"] == counts["sat"] == 1
    assert counts["sign_gratitude"] == 1
    assert counts["reactions"] == 3


def test_every_source_of_pairs_and_the_judge_in_both_orders():
    how = {"phrases": PHRASES, "wishes": WISHES, "pairs": ("expert", "on_policy", "praised")}
    rows, counts, _ = made(**how)
    by = {(row["source"], row["signal"]): (row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows}
    assert by == {
        ("expert", "dsat"): ("hinted to u0", "a1"),
        ("on_policy", "dsat"): ("hinted to u0", "plain to u0"),
        ("on_policy", "sat"): ("hinted to u4", "plain to u4"),
        ("praised", "sat"): ("a5", "plain to u4"),
    }
    assert counts["pairs_on_policy"] == 2
    always_a = Scribe({"verdict": '{"verdict": "A>B"}'})
    rows, counts, _ = made(always_a, **how)
    assert {row["source"] for row in rows} == {"expert", "praised"}
    assert counts["dropped_tie_on_policy"] == 2
    assert all(row["prompt"][-1]["role"] == "user" for row in rows)
    assert not any("Be" in turn["content"] for row in rows for turn in row["prompt"])


def test_a_reward_judges_in_the_judges_stead():
    class Sums(Scribe):
        def reply(self, prompt):
            return "the answer is 3." if prompt[0]["role"] == "system" else "the answer is 4."

    how = {"phrases": PHRASES, "wishes": WISHES, "pairs": ("on_policy",), "reward": "harbor"}
    assert set(WildFeedback(**how, moderate=False).engines) == {"policy"}
    asked = "what is 2 plus 1?"
    (row,), _, _ = made(Sums(), [seed(chat(asked, "5.", "wrong! say it again"))], **how)
    assert (row["outcome"], row["chosen"][0]["content"]) == ("win", "the answer is 3.")
    _, counts, _ = made(**how)
    assert counts["dropped_tie_on_policy"] == 2, "it abstains on questions that are not its own"


def test_an_engine_labels_and_is_asked_again_for_what_is_missing():
    asked = []

    def forgetful(text, key):
        wanted = re.search(r"user messages ([\d, ]+) what", text)[1].split(", ")
        asked.append(wanted)
        return _labels(text.replace(", ".join(wanted), wanted[0]), key)

    rows, counts, _ = made(Scribe({"dsat": forgetful}), wishes=WISHES, retries=2)
    assert asked == [["2", "4", "6"], ["4", "6"], ["6"]]
    assert len(rows) == 1
    assert counts["unlabelled_messages"] == 0
    _, counts, _ = made(Scribe({"dsat": forgetful}), wishes=WISHES, retries=1)
    assert counts["unlabelled_messages"] == 1


def test_replies_of_labellers():
    good = '{"key": "k", "id": 2, "related": "yes", "sat": [], "dsat": ["No engagement", "Sarcasm"], "state": "s"}'
    assert read_signals(good, [2], "k", []).value == {2: Signal(2, (), ("no_engagement",), True, "s")}
    assert read_signals(f"```json\n[{good}]\n```", [2], "k", []).value
    assert read_signals(good, [4], "k", []).problem == "no verdict"
    assert read_signals("", [2], "k", []).problem == "empty"
    assert read_signals(good.replace('"yes"', '"perhaps"'), [2], "k", []).problem == "no verdict"
    assert read_signals(good + good.replace("yes", "no"), [2], "k", []).problem == "no verdict"
    forged = good.replace('"k"', '"other"')
    assert read_signals(forged, [2], "k", ['reply {"dsat": ["style"]}']).problem == "no verdict"


def test_replies_of_writers():
    assert read_preferences('{"preferences": ["Be  brief."]}', "k").value == ["Be brief."]
    assert read_preferences('{"preferences": []}', "k").value == []
    assert read_preferences('{"preferences": ["a", "b", "c", "d", "e", "f"]}', "k").problem == "off the scale"
    assert read_preferences('{"preferences": ["a"]} {"preferences": ["b"]}', "k").problem == "several verdicts"
    assert read_preferences('{"preferences": ["a"]}', "k", ['"preferences": x']).problem == "no verdict"
    _, counts, _ = made(Scribe({"preferences": '{"preferences": []}'}), phrases=PHRASES)
    assert counts["dropped_without_preferences"] == 2
    _, counts, _ = made(Scribe({"preferences": "dunno"}), phrases=PHRASES)
    assert counts["dropped_without_readable_preferences"] == 2


def test_thumbs_need_no_engine():
    rows, _, _ = made(rows="thumbs", phrases=PHRASES)
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [("a1", False), ("a5", True)]
    assert not WildFeedback(rows="thumbs", phrases=PHRASES, moderate=False).engines


def test_unsafe_cases_are_left_out():
    how = {"phrases": PHRASES, "wishes": WISHES, "moderate": True}
    rows, counts, _ = made(Scribe({"safety": '{"verdict": "unsafe"}'}), **how)
    assert not rows
    assert counts["dropped_unsafe"] == 2
    rows, counts, _ = made(Scribe({"safety": "hm"}), **how)
    assert not rows
    assert counts["dropped_without_a_moderation"] == 2
    assert len(made(Scribe({"safety": '{"verdict": "safe"}'}), **how)[0]) == 1


def test_answers_that_tell_of_their_hint_are_left_out():
    first = chat("u")
    assert leaks("As you prefer, briefly: tea.", first)
    assert leaks("Sorry for my earlier mistake: tea.", first)
    assert leaks("Here is the shorter version: tea.", first)
    assert not leaks("sorry, i cannot help with that.", first)
    assert not leaks("Sorry for my earlier mistake: tea.", chat("u", "a", "u"))

    class Chatty(Scribe):
        def reply(self, prompt):
            return "As you prefer: tea."

    _, counts, _ = made(Chatty(), phrases=PHRASES, wishes=WISHES)
    assert counts["dropped_leak"] == 1


def test_words_that_are_only_handed_over_are_no_reaction():
    assert unquoted('> wrong\nfix "tea" ```wrong```') == 'fix "tea"'
    assert unquoted(f'check "{"wrong " * 20}"') == "check"
    pasted = chat("u", "a", "check this:\n> wrong\n", "a", "wrongly put?", "a", "well " * 30 + "wrong")
    assert [signal.kind for signal in labelled_by_phrases(pasted, PHRASES)] == [None, None, None]
    assert next(labelled_by_phrases(chat("u", "a", "That is  WRONG."), {"style": ["is wrong"]})).dsat == ("style",)


def test_whole_conversations_are_held_out():
    sizes = {f"c{i}": 1 + i % 3 for i in range(30)} | {"none": 0}
    test = held_out(sizes, 10, seed=1)
    assert 8 <= sum(sizes[name] for name in test) <= 10
    assert "none" not in test
    assert held_out({"c": 5}, 2, 0) == {"c"}
    assert held_out(sizes, 0, 0) == set()
    seeds = [seed(name=f"c{i}") for i in range(8)]
    how = {"seeds": seeds, "phrases": PHRASES, "wishes": WISHES, "test_cases": 6}
    train, test = ({row["parent"] for row in made(**how, part=part)[0]} for part in ("train", "test"))
    assert (len(train), len(test)) == (5, 3)
    assert not train & test
    lists = {row["parent"] for row in made(**how, part="test", rows="checklists")[0]}
    assert lists == test


def test_short_chats_and_too_many_cases_are_counted():
    rows, counts, _ = made(seeds=[seed(chat("u", "a"))], phrases=PHRASES, wishes=WISHES)
    assert (rows, counts["too_short"]) == ([], 1)
    _, counts, _ = made(phrases=PHRASES, wishes=WISHES, max_cases=1)
    assert counts["cases_beyond_the_most"] == 1


def _public(number, role, content, related="NO", sat=False, dsat=False):
    names = ("UtteranceId", "Role", "Content", "Preceeding", "Satisfaction", "Disatisfaction")
    return dict(zip(names, (number, role, content, related, sat, dsat), strict=True))


def test_rows_of_the_public_set():
    rows = [
        _public(0, "User", "u0"),
        _public(1, "Assistant", None),
        _public(2, "User", "again", "YES", sat=True, dsat=True),
        _public(0, "User", "other"),
    ]
    first, second = conversations(rows)
    assert first["messages"] == [*chat("u0", ""), {"role": "user", "content": "again"}]
    assert first["signals"] == [{"turn": 2, "sat": ["unnamed"], "dsat": ["unnamed"], "related": True}]
    assert len(second["messages"]) == 1
    wishes = {"unnamed": ("Be right.",)}
    turns = chat("u0", "a1", "again")
    record = seed(turns, signals=first["signals"])
    (row,), _, _ = made(seeds=[record], column="signals", wishes=wishes)
    assert row["preferences"] == ["Be right."]
    with pytest.raises(DataError, match="Preceeding"):
        list(conversations([{"UtteranceId": 0, "Role": "User", "Content": "u"}]))
    with pytest.raises(DataError, match="where 0 is next"):
        list(conversations(rows[1:]))
    with pytest.raises(DataError, match="Satisfaction"):
        list(conversations([_public(0, "User", "u", sat="False")]))


def test_signals_of_another_form_are_refused():
    assert signals_in([{"turn": 2, "dsat": ["style"]}], "r") == [Signal(2, dsat=("style",))]
    with pytest.raises(DataError, match="no list"):
        signals_in(None, "record c")
    with pytest.raises(DataError, match="no turn"):
        signals_in([{"dsat": ["style"]}], "record c")
    with pytest.raises(UnknownNameError, match="stile"):
        signals_in([{"turn": 2, "dsat": ["stile"]}], "record c")


def test_an_engine_that_fails_is_told_by_its_seed():
    class Down(Scribe):
        def generate(self, prompts, sampling):
            raise EngineError("no answer")

    _, counts, drafts = made(Down(), wishes=WISHES)
    assert drafts[0].failed
    assert drafts[0].error == "the labeller gave no reply"
    assert counts["failed"] == 1


def test_there_are_nine_signs_of_each_kind_and_the_labeller_reads_them():
    assert len(SAT) == len(DSAT) == 9
    engine = Scribe()
    made(engine, wishes=WISHES)
    shown = engine.calls[0][0][0]["content"]
    assert all(f"- {name}: " in shown for name in (*SAT, *DSAT))


@pytest.mark.parametrize(
    ("how", "kind", "what"),
    [
        ({"phrases": {}, "column": "signals"}, UsageError, "both"),
        ({"phrases": {"revisoin": ("x",)}}, UnknownNameError, "revisoin"),
        ({"wishes": {"revisoin": ("x",)}}, UnknownNameError, "revisoin"),
        ({"pairs": ()}, UsageError, "empty"),
        ({"part": "test"}, UsageError, "test_cases"),
        ({"question": "good?"}, UsageError, "preference"),
        ({"min_user_turns": 1}, UsageError, "min_user_turns"),
        ({"texts": {"lable": "{{ key }}"}}, UnknownNameError, "lable"),
        ({"sampling": SimpleNamespace(n=2)}, UsageError, "one answer"),
    ],
)
def test_what_makes_no_sense_is_refused(how, kind, what):
    with pytest.raises(kind, match=what):
        WildFeedback(**how)


def test_it_is_in_the_catalog():
    assert isinstance(fairlead.synthesizer("wildfeedback"), WildFeedback)
