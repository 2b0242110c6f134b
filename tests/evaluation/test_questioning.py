"""How items are asked: orders, wordings, personas; what comes of answers, and what is no answer."""

from __future__ import annotations

import numpy as np
import pytest
from respondents import TEXT, Respondent, by_number

from fairlead.engines.base import Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.questioning import Questioning, join_items, notes_on_answers

OPTIONS = ["never", "sometimes", "always"]
ITEMS = [
    {
        "id": "a",
        "text": "I sail.",
        "dimension": "sea",
        "paraphrases": ["Sailing is what I do."],
        "negation": "I do not sail.",
    },
    {"id": "b", "text": "I stay ashore.", "dimension": "sea", "reverse": True},
]
PLAIN = {"options": OPTIONS, "items": ITEMS}
SAILOR = by_number({"I sail.": 3, "Sailing is what I do.": 3, "I do not sail.": 1, "I stay ashore.": 1}, OPTIONS)


def asked(engine, **changes):
    questioning = Questioning(**{"questionnaire": PLAIN, "text": TEXT, **changes})
    answered = questioning.answers("engine", engine)
    return {item.item.id: item for item in join_items(questioning, answered)}, answered


def test_every_order_and_wording_is_asked():
    variants = Questioning(questionnaire=PLAIN, text=TEXT, personas=("", "You are a sailor.")).variants()
    assert len(variants) == (3 * 3 + 3) * 2
    assert {v.order for v in variants} == {(0, 1, 2), (1, 2, 0), (2, 0, 1)}
    assert variants[0].prompt == [{"role": "user", "content": "I sail.|A=never;B=sometimes;C=always;"}]
    assert variants[1].prompt[0] == {"role": "system", "content": "You are a sailor."}
    few = Questioning(questionnaire=PLAIN, text=TEXT, orders="reversed", words="first", labels="numbers").variants()
    assert [v.prompt[0]["content"] for v in few[:2]] == [
        "I sail.|1=never;2=sometimes;3=always;",
        "I sail.|1=always;2=sometimes;3=never;",
    ]


@pytest.mark.parametrize("mode", ["logprobs", "text"])
def test_a_steady_respondent(mode):
    items, _ = asked(Respondent(SAILOR), mode=mode)
    a, b = items["a"], items["b"]
    assert a.score == pytest.approx(3)
    # Reverse: never staying ashore is as much as always sailing.
    assert b.score == pytest.approx(3)
    assert a.consistency == pytest.approx(1)
    assert a.order_consistency == pytest.approx(1)
    assert a.wording_consistency == pytest.approx(1)
    assert a.acquiescence == pytest.approx(0)
    assert a.validity == 1.0


def test_who_says_yes_to_all_acquiesces():
    items, _ = asked(Respondent(lambda item: "always"))
    assert items["a"].acquiescence == pytest.approx(1)
    assert items["a"].consistency < 1
    assert np.mean([item.score for item in items.values()]) == pytest.approx(2)


def test_a_taste_for_a_label_shows_and_can_be_taken_out():
    swayed = Respondent(SAILOR, taste={"A": 2.0}, certainty=1.0)
    fair = Respondent(SAILOR, certainty=1.0)
    raw, _ = asked(swayed)
    cured, _ = asked(swayed, debias="prior")
    clean, _ = asked(fair)
    assert raw["b"].order_consistency < 0.9
    assert cured["b"].chances == pytest.approx(clean["b"].chances)
    assert cured["b"].score == pytest.approx(clean["b"].score)
    assert raw["b"].score != pytest.approx(clean["b"].score, abs=0.02)


def test_always_the_first_label_is_no_opinion():
    items, _ = asked(Respondent(lambda item: "", taste={"A": 40.0}))
    assert items["b"].order_consistency == pytest.approx(0)
    assert items["b"].score == pytest.approx(2)


def test_what_is_no_answer_is_counted_and_never_the_middle():
    replies = {"A=never": "I cannot answer that.", "A=sometimes": "F", "A=always": "A"}
    engine = Respondent(SAILOR, says=lambda text: replies[text.split("|")[1].split(";")[0]])
    items, answered = asked(engine, mode="text")
    assert items["b"].validity == pytest.approx(1 / 3)
    assert dict(items["b"].problems) == {"refusal": 1, "off the scale": 1}
    # The one answer left is "always", which is turned round.
    assert items["b"].score == 1.0
    notes = notes_on_answers("engine", list(items.values()), answered)
    assert notes == ["engine: 8 of 12 answers are none (off the scale 4, refusal 4), at items a, b"]


def test_nobody_answers():
    items, answered = asked(Respondent(SAILOR, says=lambda text: "7"), mode="text", labels="numbers")
    assert np.isnan(items["a"].score)
    assert np.isnan(items["a"].consistency)
    assert dict(items["b"].problems) == {"off the scale": 3}
    assert (
        "2 items have no answer at all and no score: a, b" in notes_on_answers("e", list(items.values()), answered)[1]
    )


def test_samples_share_an_answer():
    class Torn(Respondent):
        def generate(self, prompts, sampling):
            from fairlead.engines.base import Completion

            return [[Completion("A"), Completion("B"), Completion("hm"), Completion("A")] for _ in prompts]

    items, _ = asked(Torn(SAILOR), mode="text", orders="given", sampling=Sampling(n=4))
    assert items["b"].chances == pytest.approx([2 / 3, 1 / 3, 0])
    assert items["b"].validity == 0.75


def test_an_engine_that_would_rather_say_something_else_is_told():
    items, answered = asked(Respondent(SAILOR, mass=0.2))
    assert items["a"].mass == pytest.approx(0.2)
    (note,) = notes_on_answers("engine", list(items.values()), answered)
    assert "the options have 0.2 of the probability" in note


def test_options_can_be_valued_as_whole_answers():
    class Cloze(Respondent):
        def logprobs(self, prompts, completions):
            said = {"never": -1.0, "sometimes": -3.0, "always": -2.0}
            return [np.array([said[text], -0.5]) for text in completions]

    items, _ = asked(Cloze(SAILOR), labels="none")
    weights = np.exp([-1.0, -3.0, -2.0])
    assert items["b"].chances == pytest.approx(weights / weights.sum())
    assert items["b"].mass == pytest.approx(weights.sum() * np.exp(-0.5))


def test_the_shipped_text_shows_all_that_is_asked():
    text = Questioning(words="first", orders="given").variants()[0].prompt[0]["content"]
    assert "They like to find their own way" in text
    assert "A. not like me at all" in text
    assert text.endswith("Answer with A to F alone.")
    bare = Questioning(words="first", labels="none").variants()[0].prompt[0]["content"]
    assert bare.endswith("doing a thing.")


def test_what_is_refused():
    with pytest.raises(UsageError, match="nothing can be read"):
        Questioning(mode="text", labels="none")
    with pytest.raises(UsageError, match="personas"):
        Questioning(personas=())
    with pytest.raises(UsageError, match="resamples"):
        Questioning(resamples=0)
    with pytest.raises(UsageError, match="30 options"):
        Questioning(questionnaire={"options": [str(i) for i in range(30)], "items": [ITEMS[1]]})
