"""CodecLM with scripted models: every stage, the loop of filtering and rewriting, what it costs, and its rows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

import fairlead
from fairlead.engines.base import Completion, Sampling
from fairlead.errors import DataError, EngineError, UsageError
from fairlead.records import PromptOnly
from fairlead.rewards.base import Rewards
from fairlead.steps.rows import append_rows
from fairlead.synthesis.base import Draft, drafts_of, rows_of
from fairlead.synthesis.codeclm import CodecLM
from fairlead.synthesis.codeclm_metadata import mixed
from fairlead.synthesis.codeclm_reading import Entry
from fairlead.synthesis.principles import Principle

PROMPTS = {
    "encode": "ENCODE {{ prompt }} {{ most }}",
    "decode": "DECODE {{ count }} {{ use_case }} {{ skills | join('+') }} {{ example }}",
    "rubrics": "RUBRICS {{ count }} {{ use_case }}",
    "improve": "IMPROVE {{ prompt }} BY {{ action }}",
    "score": "SCORE {{ question }}|{{ first }}|{{ second }}",
}


@dataclass
class Model:
    """Answers by the first word of what it is asked; instructions are answered "<name>: <instruction>"."""

    name: str
    says: dict = field(default_factory=dict)
    fingerprint: str = "model"
    calls: Counter = field(default_factory=Counter)
    asked: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        return [[Completion(self.one(prompt[-1]["content"], sampling))] for prompt in prompts]

    def one(self, text, sampling):
        kind = text.split()[0] if text.split()[0] in self.says else "answer"
        self.calls[kind] += 1
        self.asked.append((kind, text, sampling))
        return self.says[kind](text) if kind in self.says else f"{self.name}: {text}"

    def logprobs(self, prompts, completions):
        raise NotImplementedError


def improve(text: str) -> str:
    """Mark a wording as one more."""
    return text.removeprefix("IMPROVE ").partition(" BY ")[0] + "+"


def scored(gaps):
    """Return a scorer: gaps per wording (by its number of marks), shown in either order."""

    def score(text: str) -> str:
        question = re.search(r"(\w)(\+*)\n</instruction", text)
        gap = gaps[question[1]][len(question[2])]
        strong_first = text.index("strong: ") < text.index("target: ")
        low, high = 5 - abs(gap) / 2, 5 + abs(gap) / 2
        strong, target = (high, low) if gap >= 0 else (low, high)
        return f"{strong} {target}" if strong_first else f"{target} {strong}"

    return score


def strong(gaps=None, **says) -> Model:
    usual = {
        "ENCODE": lambda text: "Use case: Sailing\nSkills: knots, winds",
        "DECODE": lambda text: "\n".join(f"{i}. {name}" for i, name in enumerate(sorted(gaps or "ab"), 1)),
        "RUBRICS": lambda text: "Rubrics:\n1. x\n2. y\nActions:\n1. ask more\n2. ask why",
        "IMPROVE": improve,
        "SCORE": scored(gaps) if gaps else lambda text: "9 2" if "first-" not in text else "2 9",
    }
    return Model("strong", usual | says)


def method(**changes) -> CodecLM:
    return CodecLM(**{"prompts": PROMPTS, "instructions": 5, **changes})


def seed(name: str = "s", text: str = "how do I moor?", **columns) -> PromptOnly:
    return PromptOnly(name, [{"role": "user", "content": text}], columns)


GAPS = {"a": [4], "b": [1, 2, -3.5], "c": [0, 0, 0, 0], "d": [3.0, 3.0, 3.0001], "e": [-3, 2, 1, 5]}


def test_the_known_loop():
    engines = {"strong": strong(GAPS), "target": Model("target")}
    (draft,) = drafts_of(method(), engines, [seed()])
    found = {chain["text"][0]: (chain["route"], chain["iteration"]) for chain in draft.found["chains"]}
    assert found == {"a": ("keep_strong", 1), "b": ("keep_target", 3), "c": ("exhausted", 4),
                     "d": ("keep_strong", 3), "e": ("keep_strong", 4)}  # fmt: skip
    counts: Counter[str] = Counter()
    rows = list(method().finish([draft], counts))
    assert [row["prompt"][0]["content"] for row in rows] == ["a", "b++", "d++", "e+++"]
    assert [row["origin"] for row in rows] == ["strong", "target", "strong", "strong"]
    assert rows[1]["completion"] == [{"role": "assistant", "content": "target: b++"}]
    assert all(abs(row["gap"]) > 3 and row["iteration"] <= 4 for row in rows)
    assert counts["dropped_exhausted"] == 1
    assert {name: counts[name] for name in ("kept_at_1", "kept_at_3", "kept_at_4")} == {
        "kept_at_1": 1, "kept_at_3": 2, "kept_at_4": 1,
    }  # fmt: skip


def test_the_known_cost_of_an_instruction():
    engines = {"strong": strong({"b": GAPS["b"]}), "target": Model("target")}
    (draft,) = drafts_of(method(instructions=1), engines, [seed(use_case="sailing")])
    calls = engines["strong"].calls
    assert calls["answer"] + calls["SCORE"] + calls["IMPROVE"] == 11
    assert engines["target"].calls["answer"] == 3
    assert draft.found["chains"][0]["points"] == [[3.25, 6.75], [6.75, 3.25]]


def test_every_stage_asks_for_what_the_one_before_found():
    engines = {"strong": strong(GAPS), "target": Model("target")}
    (draft,) = drafts_of(method(), engines, [seed()])
    asked = {kind: text for kind, text, _ in reversed(engines["strong"].asked)}
    assert asked["ENCODE"] == "ENCODE how do I moor? 3"
    assert asked["DECODE"] == "DECODE 5 sailing knots+winds how do I moor?"
    assert asked["RUBRICS"] == "RUBRICS 4 sailing"
    assert (draft.found["use_case"], draft.found["skills"]) == ("sailing", ["knots", "winds"])
    assert draft.found["actions"] == ["ask more", "ask why"]
    temperatures = {kind: how.temperature for kind, _, how in reversed(engines["strong"].asked)}
    assert temperatures["SCORE"] == 0
    assert temperatures["DECODE"] == temperatures["answer"] == 0.7


def test_the_action_depends_on_the_instruction_and_its_iteration_alone():
    def actions_of(seeds):
        engines = {"strong": strong({"c": [0] * 4}), "target": Model("target")}
        drafts = drafts_of(method(instructions=1), engines, seeds)
        return {draft.parent: draft.found["chains"][0]["actions"] for draft in drafts}

    seeds = [seed(str(i), f"q{i}") for i in range(8)]
    together, back = actions_of(seeds), actions_of(seeds[::-1])
    assert together == back
    assert len({tuple(found) for found in together.values()}) > 1
    assert together["3"] == actions_of([seeds[3]])["3"]


@pytest.mark.parametrize(("theta", "kept"), [(-1.0, 5), (float("inf"), 0)])
def test_the_ends_of_theta(theta, kept):
    engines = {"strong": strong({name: [0.0] * 4 for name in "abcde"}), "target": Model("target")}
    rows = list(method(theta=theta)(engines, [seed()]))
    assert [(row["iteration"], row["origin"]) for row in rows] == [(1, "strong")] * kept


def test_an_unread_score_in_either_order_is_no_score():
    bad = strong(SCORE=lambda text: "8 2" if text.index("strong: ") < text.index("target: ") else "eight to two")
    engines = {"strong": bad, "target": Model("target")}
    (draft,) = drafts_of(method(), engines, [seed()])
    assert {chain["route"] for chain in draft.found["chains"]} == {"unscored"}
    assert engines["strong"].calls["SCORE"] == 2 * (1 + 2)
    counts: Counter[str] = Counter()
    assert list(method().finish([draft], counts)) == []
    assert counts["dropped_unscored"] == 2


def test_a_judge_of_its_own_and_a_reward():
    judge = Model("judge", {"SCORE": scored(GAPS)})
    engines = {"strong": strong(GAPS), "target": Model("target"), "judge": judge}
    assert len(list(method(scorer="judge")(engines, [seed()]))) == 4
    assert engines["strong"].calls["SCORE"] == 0

    @dataclass(frozen=True)
    class Likes:
        def __call__(self, prompts, completions):
            return Rewards([float(text.startswith("strong")) for text in completions],
                           [text.endswith("b") for text in completions])  # fmt: skip

    del engines["judge"]
    (draft,) = drafts_of(method(scorer="reward", reward=Likes(), theta=0.5), engines, [seed()])
    assert [chain["route"] for chain in draft.found["chains"]] == ["keep_strong", "unscored", *["keep_strong"] * 3]
    assert draft.found["chains"][0]["scores"] == [1.0, 0.0]


def test_what_cannot_be_read_is_said():
    for says, error in (({"ENCODE": lambda text: "Skills: x"}, "the reply names no use case with skills"),
                        ({"DECODE": lambda text: "no list"}, "no instruction could be read")):  # fmt: skip
        engines = {"strong": strong(**says), "target": Model("target")}
        (draft,) = drafts_of(method(), engines, [seed()])
        assert draft.error == error
        assert engines["strong"].calls[next(iter(says))] == 2


def test_without_actions_nothing_is_rewritten():
    engines = {"strong": strong({"c": [0] * 4}, RUBRICS=lambda text: "no"), "target": Model("target")}
    (draft,) = drafts_of(method(instructions=1), engines, [seed()])
    assert [(chain["route"], chain["iteration"]) for chain in draft.found["chains"]] == [("unimproved", 1)]


def test_a_rewrite_of_no_use_is_left_out():
    for reply in ("c", "  ", "ask more: c", "c. strong: c"):
        one = strong({"c": [0] * 4}, IMPROVE=lambda text, r=reply: r,
                     RUBRICS=lambda text: "1. x\n\n1. ask more")  # fmt: skip
        (draft,) = drafts_of(method(instructions=1), {"strong": one, "target": Model("target")}, [seed()])
        assert draft.found["chains"][0]["route"] == "unimproved", reply
        assert one.calls["IMPROVE"] == 2


def test_too_few_instructions_are_asked_for_again_and_none_comes_twice():
    replies = iter(["1. one\n2. One\n3. how do I  moor?", "1. one\n2. two\n3. three\n4. four"])
    engines = {"strong": strong(DECODE=lambda text: next(replies)), "target": Model("target")}
    (draft,) = drafts_of(method(instructions=3, theta=-1), engines, [seed()])
    assert [chain["text"] for chain in draft.found["chains"]] == ["one", "two", "three"]


def test_a_base_model_continues_a_raw_text():
    @dataclass
    class Base:
        fingerprint: str = "base"

        def generate(self, prompts, sampling):
            if isinstance(prompts[0], str):
                assert prompts == ["question: how do I moor?\nquestion:"]
                return [[Completion(f" question {i % 2} ") for i in range(sampling.n)]]
            return [[Completion("answer")] for _ in prompts]

        def logprobs(self, prompts, completions):
            raise NotImplementedError

    text = {"decode": "question: {{ example }}\nquestion:"}
    one = CodecLM(decode="continuation", prompts=text, instructions=4, max_iterations=1, theta=-1.0, scorer="reward",
                  reward={"name": "length_limit", "unit": "words", "at_most": 3})  # fmt: skip
    (draft,) = drafts_of(one, {"strong": Base(), "target": Base()}, [seed(use_case="sailing")])
    assert [chain["text"] for chain in draft.found["chains"]] == ["question 0", "question 1"]


def test_pairs_and_the_targets_own_answers():
    engines = {"strong": strong(GAPS), "target": Model("target")}
    (draft,) = drafts_of(method(), engines, [seed()])

    def made(**changes):
        return list(method(**changes).finish([draft], Counter()))

    pairs = made(rows="pairs")
    assert (pairs[0]["chosen"][0]["content"], pairs[0]["rejected"][0]["content"]) == ("strong: a", "target: a")
    assert (pairs[1]["chosen"][0]["content"], pairs[1]["rejected"][0]["content"]) == ("target: b++", "strong: b++")
    assert len(made(keep_target=False)) == len(made(keep_target_cap=0.2)) == 3
    assert len(made(keep_target_cap=0.25)) == 4
    assert len(made(on_exhausted="keep_strong")) == 5


def draft_of(name: str, use_case: str, *skills: str) -> Draft:
    return Draft(name, {"source": f"about {name}", "use_case": use_case, "skills": list(skills)})


def test_metadata_is_mixed_and_shared_out():
    drafts = [draft_of("1", "sailing", "knots", "winds"), draft_of("2", "cooking", "heat")]
    one, counts = method(rows="metadata", n_metadata=6, total=20), Counter()
    rows = list(rows_of(one, drafts, counts))
    assert list(one.engines) == ["strong"]
    assert [row["instructions"] for row in rows] == [4, 4, 3, 3, 3, 3]
    assert counts == {"mixed": 4}
    assert (rows[0]["use_case"], rows[0]["skills"]) == ("sailing", ["knots", "winds"])
    keys = {(row["use_case"], frozenset(row["skills"])) for row in rows}
    assert len(keys) == 6
    assert all(1 <= len(row["skills"]) <= 3 for row in rows)
    assert rows[2]["prompt"][0]["content"] == f"about {rows[2]['parent']}"
    fewer = Counter()
    assert len(list(rows_of(method(rows="metadata", n_metadata=1), drafts, fewer))) == 1
    assert fewer == {"dropped_beyond_n_metadata": 1}
    assert len(list(rows_of(method(rows="metadata"), drafts, Counter()))) == 2


def test_metadata_rows_are_the_seeds_of_a_second_step(tmp_path):
    one = method(rows="metadata", n_metadata=3, total=4)
    append_rows(tmp_path / "metadata.jsonl", one({"strong": strong()}, [seed("a"), seed("b", "how do I row?")]))
    seeds = fairlead.read(tmp_path / "metadata.jsonl", kind="prompt")
    again = strong()
    drafts = list(drafts_of(method(theta=-1), {"strong": again, "target": Model("target")}, list(seeds)))
    assert [draft.found["use_case"] for draft in drafts] == ["sailing"] * 3
    assert [len(draft.found["chains"]) for draft in drafts] == [2, 1, 1]
    assert again.calls["ENCODE"] == 0


def test_mixing_ends_where_there_is_nothing_new():
    assert mixed([Entry("sailing", ("knots",))], 5, 3, 0) == []
    assert mixed([Entry("sailing")], 5, 3, 0) == []


def test_metadata_of_the_seeds_own_columns():
    engines = {"strong": strong(), "target": Model("target")}
    given = seed(use_case="rowing", skills=["oars"], instructions=1)
    (draft,) = drafts_of(method(), engines, [given])
    assert (draft.found["use_case"], draft.found["skills"]) == ("rowing", ["oars"])
    assert len(draft.found["chains"]) == 1
    assert engines["strong"].calls["ENCODE"] == 0
    for columns in ({"instructions": 6}, {"instructions": "2"}, {"use_case": "x", "skills": "oars"}):
        with pytest.raises(DataError, match="record s"):
            list(drafts_of(method(), engines, [seed(**columns)]))


def test_an_engine_that_fails_at_one_seed_costs_no_other():
    def fail(text):
        if "bad" in text:
            raise EngineError("down")
        return "Use case: x\nSkills: y"

    drafts = list(drafts_of(method(), {"strong": strong(ENCODE=fail), "target": Model("target")},
                            [seed("a", "bad"), seed("b")]))  # fmt: skip
    assert (drafts[0].error, drafts[0].failed) == ("an engine gave no reply", True)
    assert drafts[1].error is None


def test_the_shipped_texts_say_what_they_are_for():
    one = CodecLM()
    assert "at most 3 skills" in one.shown["encode"].render(prompt="moor", most=3)
    assert "Write 7 instructions" in one.shown["decode"].render(count=7, use_case="x", skills=(), example="q")
    assert "4 rubrics" in one.shown["rubrics"].render(count=4, use_case="x", skills=("y",))
    slots = {"question": "q", "first": "a", "second": "b", "key": "k", "scale": ["1", "10"]}
    assert "between 1 and 10" in one.shown["score"].render(**slots)


def test_on_harbor_what_the_target_lacks_is_kept():
    method = fairlead.synthesizer("codeclm", **{**CodecLM.example, "theta": 0.3, "max_iterations": 1})
    engines = {"strong": fairlead.engine("harbor:aligned-300k"), "target": fairlead.engine("harbor:base-300k")}
    rows = list(method(engines, fairlead.read("harbor:prompts?n=10")))
    assert rows
    assert all(abs(row["gap"]) > 0.3 for row in rows)
    assert sum(row["origin"] == "strong" for row in rows) > sum(row["origin"] == "target" for row in rows)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"instructions": 0}, "instructions is 0"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"keep_target_cap": 1.5}, "keep_target_cap"),
        ({"sampling": Sampling(n=2)}, "one reply at a time"),
        ({"scorer": "reward"}, "go together"),
        ({"reward": "harbor"}, "go together"),
        ({"scale": (10, 1)}, "scale"),
        ({"prompts": {"decoed": "{{ count }}"}}, "'decoed'"),
        ({"decode": "continuation", "prompts": {}}, "no text of its own"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, what):
    with pytest.raises(UsageError, match=what):
        method(**fields)


def test_actions_with_texts_need_no_improver():
    own = (Principle("longer", texts=("{{ prompt }}+",)),)
    engines = {"strong": strong(GAPS), "target": Model("target")}
    rows = list(replace(method(), actions=own)(engines, [seed()]))
    assert [row["prompt"][0]["content"] for row in rows] == ["a", "b++", "d++", "e+++"]
    assert engines["strong"].calls["IMPROVE"] == engines["strong"].calls["RUBRICS"] == 0
