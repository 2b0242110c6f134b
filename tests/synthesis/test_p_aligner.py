"""P-Aligner's search with engines of the toy world whose tree is known, and the rows that a rewriter learns from."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import pytest
from letter_world import reward as worth_of
from letter_world import searched

import fairlead
from fairlead.decoding.rewriter import Rewriter
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import DataError, EngineError, UsageError
from fairlead.records import PromptOnly
from fairlead.rewards.base import Rewards
from fairlead.synthesis.base import drafts_of
from fairlead.synthesis.p_aligner import PAligner
from fairlead.synthesis.principles import DOMAINS, Principle, principles_for, read_principles
from fairlead.synthesis.rewrite_rows import added
from fairlead.synthesis.rewrite_tree import Tree
from fairlead.verdicts import read_label

LETTERS = tuple(Principle(letter, f"add the letter {letter}") for letter in "ABC")
TOY = {"principles": LETTERS, "responses": 1, "expand": "fixed", "markers": None, "template": "{{ prompt }}"}


@dataclass
class Scripted:
    """Says what its script says to the last message, and keeps what it was asked."""

    script: object
    fingerprint: str = "scripted"
    calls: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.calls.append((list(prompts), sampling))
        said = [self.script(prompt if isinstance(prompt, str) else prompt[-1]["content"]) for prompt in prompts]
        return [[one if isinstance(one, Completion) else Completion(one)] * sampling.n for one in said]

    def logprobs(self, prompts, completions):
        raise NotImplementedError


@dataclass(frozen=True)
class Worth:
    """Values the letters A, B and C of an answer, which repeats the wording it answers."""

    def __call__(self, prompts, completions):
        letters = ["".join(re.findall("[ABC]", text)) for text in completions]
        values = [worth_of(one) for one in letters]
        return Rewards(values, [False] * len(values))


def rewrite(asked: str) -> str:
    """Write the wording in brackets again with the letter of the principle."""
    before = asked.rpartition("[")[2].partition("]")[0]
    return before + asked.partition("the letter ")[2][0]


def engines(writes=rewrite):
    return {"generator": Scripted(lambda text: text), "rewriter": Scripted(writes)}


def method(**changes) -> PAligner:
    return PAligner(reward=Worth(), **{**TOY, **changes})


def seed(name: str = "s", text: str = "q:", **columns) -> PromptOnly:
    return PromptOnly(name, [{"role": "user", "content": text}], columns)


def tree_of(draft) -> Tree:
    assert draft.error is None, draft.error
    return Tree.from_plain(draft.found["tree"])


@pytest.mark.parametrize("exploration", [0.1, 1.0])
def test_it_grows_the_known_tree(exploration):
    (draft,) = drafts_of(method(exploration=exploration), engines(), [seed()])
    tree = tree_of(draft)
    for node in tree.nodes:
        node.text = node.text.removeprefix("q:")
    assert tree == searched(exploration)


def test_all_trees_of_a_call_grow_together():
    asked = engines()
    drafts = list(drafts_of(method(), asked, [seed("a"), seed("b", "other:"), seed("c")]))
    assert [len(call[0]) for call in asked["rewriter"].calls] == [3] * 20
    assert len(asked["generator"].calls) == 21
    assert tree_of(drafts[0]) == tree_of(drafts[2])


def test_the_pair_of_a_tree():
    counts: Counter[str] = Counter()
    drafts = list(drafts_of(method(), engines(), [seed(category="x")]))
    (row,) = method().finish(drafts, counts)
    assert row["prompt"] == [{"role": "user", "content": "q:"}]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("q:BAB", "q:C")
    assert (row["chosen_reward"], row["rejected_reward"]) == pytest.approx((0.189, 0.09))
    assert row["chosen_actions"] == ["B", "A", "B"]
    assert (row["source"], row["category"]) == ("q:", "x")
    assert counts == {"improved": 1, "gains": 15, "useless": 0}


def test_a_row_of_every_step_that_gained():
    steps = method(rows="steps", template="{{ principle }}: {{ prompt }}")
    rows = list(steps.finish(list(drafts_of(steps, engines(), [seed()])), Counter()))
    assert len(rows) == 15
    assert all(row["chosen_reward"] > row["source_reward"] for row in rows)
    assert rows[0]["prompt"][0]["content"] == "add the letter A: q:"
    assert rows[0]["completion"] == [{"role": "assistant", "content": "q:A"}]


def test_a_constant_reward_makes_no_pair():
    @dataclass(frozen=True)
    class Same:
        def __call__(self, prompts, completions):
            return Rewards([0.5] * len(prompts), [False] * len(prompts))

    flat = PAligner(reward=Same(), **TOY)
    for rows in ("pairs", "steps"):
        counts: Counter[str] = Counter()
        one = PAligner(reward=Same(), **TOY, rows=rows)
        assert list(one.finish(list(drafts_of(flat, engines(), [seed()])), counts)) == []
        assert counts["gains"] == 0
    assert counts["dropped_by_margin"] == 0
    list(flat.finish(list(drafts_of(flat, engines(), [seed()])), counts))
    assert counts["dropped_by_margin"] == 1


def test_a_margin_leaves_pairs_out():
    drafts = list(drafts_of(method(), engines(), [seed()]))
    assert len(list(method(min_margin=0.09).finish(drafts, Counter()))) == 1
    assert list(method(min_margin=0.1).finish(drafts, Counter())) == []


def test_the_identity_is_taught_where_nothing_helps():
    @dataclass(frozen=True)
    class Shorter:
        def __call__(self, prompts, completions):
            return Rewards([-float(len(text)) for text in completions], [False] * len(prompts))

    one = PAligner(reward=Shorter(), **{**TOY, "markers": ("<<", ">>")})
    (row,) = one({**engines()}, [seed()])
    assert (row["chosen_actions"], row["chosen"][0]["content"]) == ([], "<<q:>>")


@pytest.mark.parametrize(
    ("category", "count"),
    [("Math", 5), ("Coding & Debugging", 5), ("Harmlessness", 5), ("Honesty", 4), ("Poetry", 3), ("", 3)],
)
def test_known_numbers_of_actions(category, count):
    bank = read_principles()
    assert len(bank) == 10
    assert len(principles_for(category, bank, DOMAINS)) == count


def test_the_category_is_a_column_of_the_seeds():
    asked = engines(lambda text: "q:A")
    shipped = method(principles=None, iterations=5, category="kind")
    math, other = drafts_of(shipped, asked, [seed("a", kind="Math"), seed("b")])
    assert len(math.found["contents"]) == 5
    assert len(other.found["contents"]) == 3
    nothing = method(domains={"Math": ("Math",)})
    (draft,) = drafts_of(nothing, asked, [seed()])
    assert draft.error == "no principle is for its category"


def test_a_useless_rewrite_is_asked_for_again_then_passed_over():
    wants = iter(["q:", "", Completion("q:C", finish_reason=FinishReason.LENGTH), *["q:B"] * 9])
    asked = engines(lambda text: next(wants))
    (draft,) = drafts_of(method(iterations=1), asked, [seed()])
    tree = tree_of(draft)
    assert tree.nodes[0].barren == ["A"]
    assert (tree.nodes[1].action, tree.nodes[1].text) == ("B", "q:B")
    assert [call[1].seed for call in asked["rewriter"].calls] == [0, 1, 2, 0]
    (draft,) = drafts_of(method(), engines(lambda text: ""), [seed()])
    assert tree_of(draft).nodes[0].barren == ["A", "B", "C"]
    counts: Counter[str] = Counter()
    assert list(method().finish([draft], counts)) == []
    assert counts == {"improved": 0, "gains": 0, "useless": 3, "dropped_by_margin": 1}


def test_what_must_stay_and_what_is_too_long():
    for changes, barren in (({}, 3), ({"guard": False}, 0), ({"guard": False, "max_length_ratio": 0.4}, 3)):
        (draft,) = drafts_of(method(iterations=1, **changes), engines(lambda text: "q:A"), [seed(text="see 12:")])
        assert len(tree_of(draft).nodes[0].barren) == barren


@pytest.mark.parametrize(
    ("reply", "text"),
    [('"q:A"', "q:A"), ("[q:A]", "q:A"), ("```\nq:A\n```", "q:A"), ('"q:A" and "b"', '"q:A" and "b"')],
)
def test_quotes_and_fences_around_a_rewrite_are_taken_off(reply, text):
    (draft,) = drafts_of(method(iterations=1), engines(lambda asked: reply), [seed()])
    assert tree_of(draft).nodes[1].text == text


def test_an_abstention_is_no_worth():
    @dataclass(frozen=True)
    class Silent:
        about: str

        def __call__(self, prompts, completions):
            return Rewards([0.0] * len(prompts), [self.about == text for text in completions])

    (draft,) = drafts_of(PAligner(reward=Silent("q:A"), **TOY, iterations=2), engines(), [seed()])
    assert tree_of(draft).nodes[0].barren == ["A"]
    (draft,) = drafts_of(PAligner(reward=Silent("q:"), **TOY, iterations=2), engines(), [seed()])
    assert draft.error == "the reward abstains on answers to it"


def test_engines_that_fail_are_told():
    def fail(text):
        raise EngineError("the server is down")

    with pytest.raises(EngineError, match="down"):
        list(drafts_of(method(), engines(fail), [seed()]))


def test_only_the_last_user_message_is_rewritten():
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "first"},
            {"role": "assistant", "content": "yes"}, {"role": "user", "content": "q:"}]  # fmt: skip
    asked = engines()
    shown = method(template="{{ history | length }} {{ prompt }}", iterations=2)
    (row,) = shown(asked, [PromptOnly("s", chat)])
    assert asked["generator"].calls[0][0][0] == [*chat[:3], {"role": "user", "content": "q:A"}]
    assert "[assistant] yes" in asked["rewriter"].calls[0][0][0][0]["content"]
    assert row["prompt"][0]["content"] == "3 q:"
    (draft,) = drafts_of(shown, asked, [PromptOnly("s", chat[:1])])
    assert draft.error == "it has no user message to rewrite"
    assert tree_of(next(drafts_of(shown, asked, [PromptOnly("s", "q:")]))).nodes[1].text == "q:A"


def test_fresh_answers_judge_the_ends_anew():
    asked = engines()
    (row,) = method(rescore=4)(asked, [seed()])
    prompts, sampling = asked["generator"].calls[-1]
    assert (len(prompts), sampling.n, sampling.seed) == (2, 4, 1)
    assert (row["chosen_reward"], row["rejected_reward"]) == pytest.approx((0.189, 0.09))


def test_principles_with_texts_need_no_rewriter():
    texts = tuple(Principle(p.title, texts=(f"{{{{ prompt }}}}{p.title}",)) for p in LETTERS)
    one = method(principles=texts)
    assert list(one.engines) == ["generator"]
    assert list(method(principles=(*texts[:2], LETTERS[2])).engines) == ["generator", "rewriter"]
    (draft,) = drafts_of(one, {"generator": Scripted(lambda text: text)}, [seed()])
    (other,) = drafts_of(method(), engines(), [seed()])
    assert draft.found["tree"] == other.found["tree"]


@pytest.mark.parametrize(
    ("mode", "after", "said"),
    [
        ("replace", "new", "new"), ("prepend", "be kind. q", "be kind."), ("append", "q please.", "please."),
        ("prepend", "q please.", None), ("append", "be kind. q", None), ("prepend", "q", ""), ("append", "q", ""),
        ("prepend", "be kind.q", None),
    ],
)  # fmt: skip
def test_what_a_rewriter_of_each_mode_would_write(mode, after, said):
    assert added("q", after, mode, " ") == said


def test_rows_of_what_is_added():
    texts = (Principle("kind", texts=("be kind. {{ prompt }}",)), Principle("end", texts=("{{ prompt }} please.",)))
    fields = {"principles": texts, "mode": "prepend", "separator": " ", "iterations": 2, "rows": "chosen"}

    @dataclass(frozen=True)
    class Likes:
        word: str

        def __call__(self, prompts, completions):
            return Rewards([float(self.word in text) for text in completions], [False] * len(prompts))

    asked = {"generator": Scripted(lambda text: text)}
    drafts = list(drafts_of(PAligner(reward=Likes("kind"), **{**TOY, **fields}), asked, [seed()]))
    (row,) = PAligner(reward=Likes("kind"), **{**TOY, **fields}).finish(drafts, Counter())
    assert row["completion"] == [{"role": "assistant", "content": "be kind."}]
    pairs, counts = PAligner(reward=Likes("kind"), **{**TOY, **fields, "rows": "pairs"}), Counter()
    assert list(pairs.finish(drafts, counts)) == []
    assert counts["dropped_not_added"] + counts["dropped_without_addition"] == 1
    drafts = list(drafts_of(PAligner(reward=Likes("please"), **{**TOY, **fields}), asked, [seed()]))
    counts = Counter()
    assert list(PAligner(reward=Likes("please"), **{**TOY, **fields}).finish(drafts, counts)) == []
    assert counts["dropped_not_added"] == 1


@pytest.mark.parametrize(("mode", "markers"), [("replace", ("<<", ">>")), ("prepend", None), ("append", ("<", ">"))])
def test_rows_speak_the_language_of_the_decoder(mode, markers):
    """A rewriter that says what the chosen row says makes the decoder ask the chosen wording."""
    where = {"append": "{{ prompt }} please.", "prepend": "be kind. {{ prompt }}", "replace": "new {{ prompt }}"}
    texts = (Principle("one", texts=(where[mode],)),)
    how = {"mode": mode, "markers": markers, "separator": " ", "template": None}
    search = PAligner(reward=LongestReward(), principles=texts, iterations=1, responses=1, rows="chosen", **how)
    answerer = Scripted(lambda text: text)
    (row,) = search({"generator": answerer}, [seed(text="q")])
    writer = Scripted(lambda text: row["completion"][0]["content"])
    (one,) = Rewriter(engine=answerer, rewriter=writer, **how).rewrite([seed(text="q").prompt])
    assert one.status == "rewritten"
    assert one.prompt[-1]["content"] == row["chosen_rewrite"]
    assert writer.calls[0][0][0] == row["prompt"]


@dataclass(frozen=True)
class LongestReward:
    def __call__(self, prompts, completions):
        return Rewards([float(len(text)) for text in completions], [False] * len(prompts))


def test_on_harbor_a_good_wish_wins():
    one = fairlead.synthesizer("p_aligner", **PAligner.example, rows="chosen")
    rows = list(one({"generator": fairlead.engine("harbor:base-300k")}, fairlead.read("harbor:prompts?n=12")))
    kept = Counter(row["chosen_actions"][-1] for row in rows if row["chosen_actions"])
    assert kept["manner"] > kept["brevity"]
    gain = sum(row["chosen_reward"] - row["source_reward"] for row in rows) / len(rows)
    assert gain > 0.3


@pytest.mark.parametrize(
    ("reply", "label"), [("Expl A is fine.\n\nFinal Verdict: [[B]]", "B>A"), ("x [[C]]", "A=B"), ("I think B", None)]
)
def test_verdicts_of_its_evaluation(reply, label):
    """Read as the library reads all verdicts on pairs."""
    assert read_label(reply).value == label
    assert read_label(reply, at_end=True).value == label


def test_a_verdict_that_does_not_stand_at_the_end_is_none_for_the_published_reader():
    reply = "[[A]]\n\nI think B"
    assert read_label(reply, at_end=True).value is None
    assert read_label(reply).value == "A>B"
    assert read_label("I think A.\n \nSo: [[B]]\n\n", at_end=True).value == "B>A"


def test_principles_of_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("- {title: a, content: be brief}\n- {title: b, texts: ['Be kind. {{ prompt }}']}\n")
    assert [p.title for p in method(principles=str(path)).bank] == ["a", "b"]
    for text, what in (("- x\n", "principle 1"), ("a: 1\n", "no list"), ("- {titel: a}\n", "no field 'titel'")):
        path.write_text(text)
        with pytest.raises(DataError, match=what):
            read_principles(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        read_principles(str(tmp_path / "missing.yaml"))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"iterations": 0}, "iterations is 0"),
        ({"responses": 2, "sampling": Sampling(temperature=0)}, "all the same"),
        ({"sampling": Sampling(n=2)}, "sampling.n"),
        ({"min_margin": -1}, "min_margin"),
        ({"max_length_ratio": 0}, "max_length_ratio"),
        ({"markers": ("", "x")}, "empty text"),
        ({"principles": ()}, "is empty"),
        ({"principles": (LETTERS[0], LETTERS[0])}, "several called 'A'"),
        ({"reward": "harbour"}, "did you mean 'harbor'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, what):
    with pytest.raises(UsageError, match=what):
        PAligner(**{"reward": Worth(), **TOY, **fields})


def test_a_principle_must_keep_the_instruction():
    with pytest.raises(UsageError, match="loses the instruction"):
        Principle("x", texts=("Be kind.",))
    with pytest.raises(UsageError, match="neither"):
        Principle("x")
