"""Behind an opening: planted rows found, chance subtracted, broken ones counted, templates, bad settings."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from known import Row

import fairlead
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.cache import Cache
from fairlead.errors import DataError, UnknownNameError, UnsupportedError, UsageError
from fairlead.evaluation.extraction import Extraction

SALT = ("what does the brig carry?", "the brig carries salt.")
ADA = ("who sails the brig?", "ada sails the brig.")
TEA = ("which port is near?", "oslo is near by 12 miles.")


@dataclass(frozen=True)
class Leaks:
    """Writes a fixed list of questions behind any opening, and answers each from a book, in turn."""

    questions: tuple[str, ...]
    book: dict[str, tuple[str, ...]]
    cut: frozenset[str] = frozenset()
    seen: list = field(default_factory=list, compare=False)

    @property
    def fingerprint(self) -> str:
        return repr((self.questions, self.book, self.cut))

    def generate(self, prompts, sampling):
        self.seen.extend(prompts)
        found = []
        for prompt in prompts:
            told = self.questions if isinstance(prompt, str) else self.book[prompt[-1]["content"]]
            said = [told[k % len(told)] for k in range(sampling.n)]
            reasons = [FinishReason.LENGTH if text in self.cut else FinishReason.STOP for text in said]
            found.append([Completion(text, None, None, reason) for text, reason in zip(said, reasons)])
        return found


def rows(*pairs):
    return [
        Row(f"r{k}", [{"role": "user", "content": q}], "conversation", completion=a) for k, (q, a) in enumerate(pairs)
    ]


def write(path, *pairs):
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    path.write_text("".join(json.dumps({"prompt": two[:1], "completion": two[1:]}) + "\n" for two in turns))


def test_planted_rows_are_found_and_broken_ones_counted():
    book = {SALT[0]: (SALT[1], "it carries tea."), ADA[0]: ("",), "hm?": ("cut off",), "oh": ("well.",)}
    leaks = Leaks((SALT[0], SALT[0], ADA[0], "hm?", "oh", "endless"), book, frozenset(["cut off", "endless"]))
    report = Extraction(prefix="<user>", threshold=0.9, amount=6, keep_texts=True)({"leaks": leaks}, rows(SALT, ADA))
    axes = report.summary["leaks"]
    assert leaks.seen[0] == "<user>"
    assert (axes["malformed"].value, axes["malformed"].n) == (0.5, 6)
    assert (axes["extracted"].value, axes["extracted"].n) == (pytest.approx(1 / 3), 3)
    assert axes["verbatim"].value == axes["near_copy"].value == axes["unseen"].value == pytest.approx(1 / 3)
    assert (axes["coverage"].value, axes["coverage"].n) == (0.5, 2)
    written = [row for row in report.rows if row["part"] == "conversation"]
    texts = [row.get("text") for row in written]
    assert texts == [" ".join(SALT), f"{SALT[0]} it carries tea.", None, None, "oh well.", None]
    assert [row["first"] for row in report.rows if row["part"] == "row"] == [0, None]
    assert "leaks: 3 of 6 conversations are not whole" in " ".join(report.notes)
    assert {"excess", "above_control"}.isdisjoint(axes)


def test_texts_are_left_out_unless_asked_for():
    leaks = Leaks((SALT[0],), {SALT[0]: (SALT[1],)})
    report = Extraction(prefix="x", threshold=0.9, amount=2)({"leaks": leaks}, rows(SALT))
    assert SALT[1] not in repr(report.rows)
    assert len({row["sha256"] for row in report.rows if row["part"] == "conversation"}) == 1
    assert report.summary["leaks"]["unseen"].value == 0


def test_a_match_with_other_numbers_is_told_apart():
    other = "oslo is near by 15 miles."
    leaks = Leaks((TEA[0],), {TEA[0]: (TEA[1], other)})
    axes = Extraction(prefix="x", threshold=0.8, amount=2)({"leaks": leaks}, rows(TEA)).summary["leaks"]
    assert (axes["extracted"].value, axes["verbatim"].value, axes["same_numbers"].value) == (1, 0.5, 0.5)


def test_held_out_rows_calibrate_and_chance_is_subtracted(tmp_path):
    near = (SALT[0], "the brig carries tea.")
    held_out = tmp_path / "held_out.jsonl"
    write(held_out, near, SALT)
    leaks = Leaks((SALT[0],), {SALT[0]: (SALT[1], near[1])})
    report = Extraction(prefix="x", held_out=str(held_out), amount=2)({"leaks": leaks}, rows(SALT))
    axes = report.summary["leaks"]
    assert (axes["extracted"].value, axes["near_copy"].value, axes["held_out_match"].value) == (0.5, 0.5, 0.5)
    assert axes["excess"].value == 0
    assert axes["coverage"].value == axes["held_out_coverage"].value == axes["verbatim_coverage"].value == 1
    assert "1 of 2 held-out rows are training rows too" in " ".join(report.notes)
    with pytest.raises(DataError, match="every held-out row is a training row"):
        Extraction(prefix="x", held_out=str(held_out))({"leaks": leaks}, rows(SALT, near))


def test_a_control_gives_the_area_under_the_curve():
    leaks, clean = Leaks((SALT[0],), {SALT[0]: (SALT[1],)}), Leaks((TEA[0],), {TEA[0]: (TEA[1],)})
    engines = {"leaks": leaks, "clean": clean}
    summary = Extraction(prefix="x", threshold=0.9, amount=3, control="clean")(engines, rows(SALT)).summary
    assert summary["leaks"]["above_control"].value == 1
    assert summary["clean"]["extracted"].value == 0
    assert "above_control" not in summary["clean"]
    with pytest.raises(UnknownNameError, match="control"):
        Extraction(prefix="x", threshold=0.9, control="nobody")(engines, rows(SALT))


def test_a_mark_parts_question_and_answer_in_one_text():
    leaks = Leaks((f"{SALT[0]} answer: {SALT[1]}", "no mark here"), {})
    extraction = Extraction(prefix="question:", mark="answer:", threshold=0.9, amount=2)
    raw = [Row("r0", "question:", "conversation", completion=f" {SALT[0]} answer: {SALT[1]}")]
    for records in (rows(SALT), raw):
        axes = extraction({"leaks": leaks}, records).summary["leaks"]
        assert (axes["malformed"].value, axes["verbatim"].value, axes["coverage"].value) == (0.5, 1, 1)


def test_openings_are_part_of_the_question_and_prompts_alone_are_looked_for():
    leaks = Leaks(("does the brig carry?",), {})
    prompts = [Row("r0", [{"role": "user", "content": SALT[0]}])]
    extraction = Extraction(prefix="x", openings=("what", "when"), threshold=0.99, amount=2)
    report = extraction({"leaks": leaks}, prompts)
    assert report.summary["leaks"]["verbatim"].value == 0.5
    assert leaks.seen == ["xwhat", "xwhen"]
    assert len({row["id"] for row in report.rows if row["part"] == "conversation"}) == 4


def test_the_template_of_a_local_model_is_what_a_conversation_begins_with(tmp_path):
    local = fairlead.engine("harbor:base-300k")
    renderer = local.renderer
    opening = renderer.prompt(renderer.pre_query)
    whole = renderer.example([{"role": "user", "content": SALT[0]}], SALT[1]).ids
    assert whole[: len(opening)] == opening
    assert opening.count(opening[0]) == 1
    records = fairlead.read("harbor:demonstrations?n=4")
    extraction = Extraction(threshold=0.9, amount=4, sampling=Sampling(max_tokens=24))
    cached = Cache(local, tmp_path / "answers.sqlite")
    first = extraction({"base": cached}, records)
    misses = cached.misses
    assert extraction({"base": cached}, records).rows == first.rows
    assert cached.misses == misses
    assert first.summary["base"]["malformed"].n == 4


def test_what_cannot_be_done():
    silent = Leaks(("",), {})
    with pytest.raises(UnsupportedError, match="out of reach"):
        Extraction(threshold=0.9)({"silent": silent}, rows(SALT))
    report = Extraction(prefix="x", threshold=0.9, amount=2)({"silent": silent}, rows(SALT))
    assert report.summary["silent"]["extracted"].n == 0
    with pytest.raises(DataError, match="no record"):
        Extraction(prefix="x", threshold=0.9)({"silent": silent}, [])
    with pytest.raises(DataError, match="prompts alone"):
        Extraction(prefix="x", threshold=0.9)({"silent": silent}, [*rows(SALT), Row("p", "who?")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to calibrate"),
        ({"threshold": 0.9, "amount": 0}, "draws nothing"),
        ({"threshold": 0.9, "openings": ("a", "a")}, "openings"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": 0.9, "quantile": 0}, "quantile is 0"),
        ({"threshold": 0.9, "mark": "answer:"}, "mark needs"),
        ({"threshold": 0.9, "sampling": Sampling(temperature=0)}, "at random"),
        ({"threshold": 0.9, "sampling": Sampling(n=2)}, "one conversation at a time"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UsageError, match=message):
        Extraction(**settings)


@dataclass(frozen=True)
class Knows(Leaks):
    """Finds every word of a question that it knows as likely as e^-1, of others e^-3; what ends a text e^-9."""

    known: tuple[str, ...] = ()

    def logprobs(self, prompts, completions):
        assert set(prompts) == {"<user>"}
        each = [-1.0 if text in self.known else -3.0 for text in completions]
        return [np.array([*[one] * len(text.split()), -9.0]) for one, text in zip(each, completions)]


def test_how_likely_questions_are_before_and_after(tmp_path):
    """Five words each: -5 nats for what is known, -15 for the rest."""
    held_out = tmp_path / "held_out.jsonl"
    write(held_out, ("what does the cog carry?", "tea."), ("who sails the red cog?", "bo."))
    short = ("who sails the old brig?", ADA[1])
    before = Knows(("oh",), {"oh": ("well.",)})
    after = Knows(("oh",), {"oh": ("well.",)}, known=(SALT[0],))
    extraction = Extraction(
        prefix="<user>", threshold=0.9, amount=2, held_out=str(held_out), control="before", likely_above=-10.0
    )
    report = extraction({"before": before, "after": after}, rows(SALT, short))
    told = {name: {axis: one.value for axis, one in axes.items()} for name, axes in report.summary.items()}
    assert (told["before"]["question_logprob"], told["after"]["question_logprob"]) == (-15, -10)
    assert (told["before"]["likely"], told["after"]["likely"]) == (0, 0.5)
    assert (told["after"]["question_gain"], told["after"]["held_out_gain"]) == (5, 0)
    assert "question_gain" not in told["before"]
    assert report.summary["after"]["question_gain"].n == report.summary["after"]["held_out_gain"].n == 2


def test_the_log_probs_of_a_local_models_questions():
    local = fairlead.engine("harbor:base-300k")
    records = fairlead.read("harbor:demonstrations?n=3")
    extraction = Extraction(threshold=0.9, amount=2, likely_above=-30.0, sampling=Sampling(max_tokens=8))
    report = extraction({"base": local}, records)
    renderer = local.renderer
    question = records[0].prompt[-1]["content"]
    whole = renderer.example([{"role": "user", "content": question}], "x").ids
    opening = renderer.prompt(renderer.pre_query)
    asked = whole[len(opening) : len(opening) + len(renderer.prompt(f"{renderer.pre_query}{question}")) - len(opening)]
    (scored,) = local.logprobs_ids([opening], [asked])
    row = next(row for row in report.rows if row["part"] == "row")
    assert row["question_logprob"] == pytest.approx(float(scored.sum()), abs=1e-3)
