"""Complements: written after examples of their category, checked and mended by a critic, rows for a rewriter."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import pytest

import fairlead
from fairlead.decoding.rewriter import Rewriter
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import DataError, EngineError, UsageError
from fairlead.records import PromptOnly
from fairlead.synthesis.base import drafts_of
from fairlead.synthesis.complements import Pair, read_pairs
from fairlead.synthesis.prompt_augmentation import PromptAugmentation, read_critique

PAIRS = (Pair("p", "c", "x"), Pair("q", "d", "y"), Pair("r", "e", "x"))


@dataclass
class Scripted:
    """Says what its script says to the last message and the number of times it was asked that."""

    script: object
    fingerprint: str = "scripted"
    asked: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        rows = []
        for prompt in prompts:
            text = prompt[-1]["content"]
            said = self.script(text, sum(one == text for one, _ in self.asked))
            self.asked.append((text, sampling))
            rows.append([said if isinstance(said, Completion) else Completion(said)])
        return rows

    def logprobs(self, prompts, completions):
        raise NotImplementedError


def seed(name: str = "s", text: str = "how do I moor?", **columns) -> PromptOnly:
    return PromptOnly(name, [{"role": "user", "content": text}], columns)


def critique(correct: str, final: str = "better", name: str = "FinalAPE") -> str:
    return json.dumps({"Reason": "because", "Is_correct": correct, name: final})


def made(write=lambda text, time: "in two steps.", check=lambda text, time: critique("Yes"), seeds=None, **changes):
    engines = {"writer": Scripted(write), "critic": Scripted(check)}
    method = PromptAugmentation(**{"pairs": PAIRS, "template": "{{ prompt }}", **changes})
    engines = {role: engines[role] for role in method.engines}
    drafts = list(drafts_of(method, engines, seeds or [seed()]))
    counts: Counter[str] = Counter()
    sound = [draft for draft in drafts if draft.error is None]
    return engines, drafts, list(method.finish(sound, counts)), counts


@pytest.mark.parametrize(
    ("reply", "value", "problem"),
    [
        (critique("Yes", "same"), (True, "same"), None),
        (critique("No", "mended"), (False, "mended"), None),
        (critique("no.", "mended", "Final APE"), (False, "mended"), None),
        ("```json\n" + critique("No", "mended") + "\n```", (False, "mended"), None),
        ('{"Reason": "r", "Is_correct": "Yes"}', (True, ""), None),
        ('{"Reason": "r", "Is_correct": "No"}', None, "incomplete"),
        ('{"Reason": "r", "Is_correct": "Maybe", "FinalAPE": "x"}', None, "off the scale"),
        ("It is correct.", None, "no verdict"),
        (" ", None, "empty"),
        (critique("Yes") + critique("No"), None, "several verdicts"),
    ],
)
def test_critiques_are_read(reply, value, problem):
    reading = read_critique(reply)
    assert (reading.value, reading.problem) == (value, problem)


def test_what_holds_is_kept_and_what_does_not_is_mended():
    def check(text, time):
        return critique("No", "mended.") if "sail" in text else critique("Yes", "never used")

    seeds = [seed("a"), seed("b", "how do I sail?", category="x")]
    _, _, rows, counts = made(check=check, seeds=seeds)
    assert [row["completion"][0]["content"] for row in rows] == ["in two steps.", "mended."]
    assert [row["mended"] for row in rows] == [False, True]
    assert counts == {"kept": 1, "mended": 1}
    assert rows[0]["prompt"] == [{"role": "user", "content": "how do I moor?"}]
    assert rows[1]["augmented"] == "how do I sail?\nmended."
    assert (rows[1]["reason"], rows[1]["category"]) == ("because", "x")


def test_a_critique_that_is_never_read_costs_five_tries():
    engines, (draft,), rows, _ = made(check=lambda text, time: "fine")
    assert draft.error == "no critique could be read"
    assert len(engines["critic"].asked) == 5
    assert rows == []
    _, _, rows, _ = made(check=lambda text, time: critique("No") if time == 4 else "fine")
    assert rows[0]["completion"][0]["content"] == "better"


def test_a_long_or_empty_complement_is_asked_for_again():
    said = ["", "word " * 61, Completion("cut", finish_reason=FinishReason.LENGTH), "word " * 60]
    engines, (draft,), _, _ = made(lambda text, time: said[time])
    assert draft.found["complement"] == ("word " * 60).strip()
    assert [how.seed for _, how in engines["writer"].asked] == [0, 1, 2, 3]
    _, (draft,), _, _ = made(lambda text, time: "word " * 61)
    assert draft.error == "no complement of use was written"
    _, (draft,), _, _ = made(check=lambda text, time: critique("No", "word " * 61))
    assert draft.error == "no critique could be read"


@pytest.mark.parametrize(
    ("category", "shots", "shown"),
    [
        ("x", 4, "p=c r=e"),
        ("x", 1, "p=c"),
        ("y", 4, "q=d"),
        ("z", 2, "p=c q=d"),
        (None, 4, "p=c q=d r=e"),
        ("x", 0, ""),
    ],
)
def test_examples_are_of_the_category(category, shots, shown):
    text = "{% for one in examples %}{{ one.prompt }}={{ one.complement }} {% endfor %}"
    columns = {"category": category} if category else {}
    engines, _, _, _ = made(seeds=[seed(**columns)], shots=shots, write_template=text)
    assert engines["writer"].asked[0][0] == shown


def test_the_shipped_texts_and_pairs():
    engines, _, _, _ = made(seeds=[seed(category="Math")], pairs=None)
    written = engines["writer"].asked[0][0]
    assert "about 30 words" in written
    assert "A train leaves at 9:40" in written
    assert "socks" not in written
    assert "in two steps." in engines["critic"].asked[0][0]
    assert len({pair.category for pair in read_pairs()}) >= 8
    assert all(len(pair.complement.split()) <= 40 for pair in read_pairs())


def test_without_a_critic():
    engines, _, rows, counts = made(critique=False, mode="prepend", separator=" ")
    assert list(engines) == ["writer"]
    assert rows[0]["augmented"] == "in two steps. how do I moor?"
    assert (rows[0]["reason"], counts) == (None, {"kept": 1})


def test_rows_speak_the_language_of_the_decoder():
    _, _, (row,), _ = made(template=None)
    writer = Scripted(lambda text, time: row["completion"][0]["content"])
    answerer = Scripted(lambda text, time: text)
    (one,) = Rewriter(engine=answerer, rewriter=writer, mode="append", max_words=60).rewrite([seed().prompt])
    assert writer.asked[0][0] == row["prompt"][0]["content"]
    assert one.prompt[-1]["content"] == row["augmented"]


def test_the_last_user_message_of_a_chat():
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "aye"}, *seed().prompt]
    engines, _, (row,), _ = made(seeds=[PromptOnly("c", chat)], template="{{ history | length }} {{ prompt }}")
    assert "[assistant] aye" in engines["writer"].asked[0][0]
    assert row["prompt"][0]["content"] == "2 how do I moor?"
    _, (draft,), _, _ = made(seeds=[PromptOnly("c", chat[1:2])])
    assert draft.error == "it has no user message to complement"


def test_a_critic_that_fails_is_asked_for_again_later():
    def fail(text, time):
        raise EngineError("down")

    _, (draft,), _, _ = made(check=fail)
    assert (draft.error, draft.failed) == ("no critique", True)


def test_on_harbor_a_taught_writer_teaches():
    method = fairlead.synthesizer("prompt_augmentation", **PromptAugmentation.example)
    rows = list(method({"writer": fairlead.engine("harbor:aligned-300k")}, fairlead.read("harbor:prompts?n=6")))
    assert rows
    assert all(row["completion"][0]["content"].strip() for row in rows)


def test_pairs_of_a_file(tmp_path):
    path = tmp_path / "pairs.yaml"
    path.write_text("- {prompt: a, complement: b, category: c}\n")
    assert read_pairs(str(path)) == (Pair("a", "b", "c"),)
    for text, what in (("a: 1\n", "no list"), ("- {prompt: a}\n", "complement"), ("- {prompt: ' ', complement: b}\n",
                                                                                  "empty prompt")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(DataError, match=what):
            read_pairs(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        read_pairs(str(tmp_path / "missing.yaml"))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"shots": -1}, "shots is -1"),
        ({"words": 0}, "words is 0"),
        ({"words": 80}, "below words"),
        ({"sampling": Sampling(n=2)}, "one complement per prompt"),
        ({"retries": -1}, "retries"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, what):
    with pytest.raises(UsageError, match=what):
        PromptAugmentation(**fields)
