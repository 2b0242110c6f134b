"""Factuality: the claims of an answer one by one, each checked against passages that the user trusts.

Sources: FActScore (Min et al. 2023, arXiv 2305.14251): atomic facts, and a penalty for answers with few of them.
SelfCheckGPT (Manakul et al. 2023, arXiv 2303.08896): without passages a model's other answers stand for them.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

from fairlead import prompts as texts_of
from fairlead.engines import engine
from fairlead.engines.asking import (
    JUDGING,
    Case,
    Verdict,
    answer_slots,
    ask,
    check_ids,
    frame,
    frame_prompt,
    key_for,
    notes_on,
)
from fairlead.engines.base import Engine, EngineSpec, Sampling
from fairlead.errors import UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.evaluation.passages import Passages, read_passages
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, texts
from fairlead.figures import intervals
from fairlead.messages import Prompt, last_question
from fairlead.rewards.refusals import Refusals
from fairlead.verdicts import Reading, objects

__all__ = ["Factuality", "consistency", "fact_score"]

_KINDS = ("supported", "contradicted", "unknown", "irrelevant")
_AXES = ("score", "precision", "abstained", "judged", "facts")
_CLAIMS = ("abstained", "consistent")
_REFUSALS = Refusals(
    phrases=("i'm sorry", "i am sorry", "i cannot", "i can't", "i won't", "i will not", "i don't know", "i do not know")
)


def fact_score(supported: int, total: int, enough: float = 10) -> float:
    """Return supported / total * min(1, exp(1 - enough / total)); NaN where nothing is claimed."""
    return supported / total * min(1.0, math.exp(1 - enough / total)) if total else math.nan


@dataclass(frozen=True, kw_only=True)
class Factuality:
    """The share of the facts in every engine's answers that passages bear out, or its other answers.

    Facts that have nothing to do with the question count nowhere, nor do facts without a verdict.
    """

    verifier: EngineSpec
    """Who says whether passages bear a fact out: a model, a server as "URL#model", a decoding method, or an engine."""
    corpus: str | tuple[str, ...] | None = None
    """The passages: a file (`.jsonl` with a `text` per line, else blank lines between passages), or the texts; None
    where only the engine's other answers are to be asked."""
    draws: int = 0
    """Other answers of the same engine that every fact is held against; 0 for none."""
    drawing: Sampling = Sampling(temperature=1.0)
    """How these are drawn."""
    splitter: EngineSpec | None = None
    """Who splits answers into facts; None takes every sentence that does not refuse as one fact."""
    passages: int = 3
    """Passages that the verifier is shown with a fact."""
    enough: float = 10.0
    """Facts from which an answer is not penalised for having few; 0 for no penalty."""
    retries: int = 2
    """How often splitter and verifier are asked again where a reply cannot be read."""
    judge_sampling: Sampling = JUDGING
    """How their replies are drawn."""
    split_text: str | None = None
    """What the splitter reads in place of the shipped text: the path of a Jinja text, or the text itself. It may use
    `conversation` and `answer` (in marks that bear `key`), `question` and `said` (bare), and `key`."""
    verify_text: str | None = None
    """The same for the verifier: `question`, `source` and `claim` (in marks that bear `key`), `fact` (bare), `key`."""
    sampling: Sampling = GREEDY
    """How answers are drawn, one per question."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {
        "verifier": "harbor:base-300k",
        "corpus": ["the color is red .", "it carries blue ."],
        "draws": 1,
        "drawing": {"max_tokens": 8},
        "verify_text": "{{ fact }}",
        "judge_sampling": {"temperature": 0, "max_tokens": 8},
        "retries": 0,
    }

    def __post_init__(self) -> None:
        checks = (
            (self.passages >= 1, f"passages is {self.passages}", "use 1 or more"),
            (self.enough >= 0, f"enough is {self.enough}", "use 0 or more"),
            (self.retries >= 0, f"retries is {self.retries}", "use 0 or more"),
            (self.sampling.n == 1, f"sampling.n is {self.sampling.n}", "one answer per question is checked"),
            (self.draws >= 0, f"draws is {self.draws}", "use 0 or more"),
            (self.corpus is not None or self.draws > 0, "nothing bears facts out", "give a corpus, or draws, or both"),
            (self.drawing.n == 1, f"drawing.n is {self.drawing.n}", "set `draws`"),
            (self.draws < 2 or self.drawing.temperature > 0, "draws at temperature 0 are all one", "use 1"),
        )
        for holds, what, fix in checks:
            if not holds:
                raise UsageError(what, place="factuality", fix=fix)
        _ = self.texts

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which plain settings name a file, by field."""
        corpus = settings.get("corpus")
        found = {name: texts_of.file_of(settings.get(name)) for name in ("split_text", "verify_text")}
        found["corpus"] = corpus if isinstance(corpus, str) else None
        return {name: path for name, path in found.items() if path is not None}

    @cached_property
    def texts(self) -> dict[str, texts_of.PromptText]:
        """What splitter and verifier read."""
        return {
            "split": texts_of.load("factuality", "split", self.split_text),
            "verify": texts_of.load("factuality", "verify", self.verify_text),
        }

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Check every engine's answers to the records' prompts.

        Axes: `score` (with the penalty), `precision` (without), `facts` (those that count, of answers with a
        verdict), `abstained` (share of answers that claim nothing), `judged` (mean share of an answer's facts that
        have a verdict). An answer that claims nothing has no score. With draws `consistent`: the share of them that
        support a fact, averaged over an answer's facts. Rows: id, engine, these, the number of facts `supported`,
        `contradicted`, `unknown` and `irrelevant`, `checked` (facts with their verdicts, as JSON), `shares` (facts
        with their shares of the draws, as JSON), answer.
        """
        check_ids(records)
        prompts, verifier = prompts_of(records), engine(self.verifier)
        corpus = None if self.corpus is None else read_passages(self.corpus)
        ids = [str(record.id) for record in records]
        report = Report({})
        for name, found in draw(engines, prompts, self.sampling).items():
            answers = [group[0].text for group in found]
            facts = self._split(name, ids, prompts, answers, report.notes)
            rows = [_row(name, one, said, own) for one, said, own in zip(ids, answers, facts, strict=True)]
            if corpus is not None:
                self._check(name, prompts, facts, corpus, verifier, rows, report.notes)
            if self.draws:
                self._compare(name, engines[name], prompts, facts, verifier, rows, report.notes)
            report.rows += rows
            report.summary[name] = self._summary(rows)
            empty = [axis for axis, estimate in report.summary[name].items() if not estimate.n]
            if empty:
                report.notes.append(f"{name}: no facts to measure {', '.join(empty)} on")
        if corpus is None:
            report.notes.append(f"verifier {verifier.fingerprint[:12]} read other answers alone")
        else:
            report.notes.append(f"verifier {verifier.fingerprint[:12]} read {len(corpus.texts)} passages")
        axes = [axis for axis in self._axes if axis != "facts"]
        report.figures = {"facts": intervals(report.summary, axes, label="share")}
        return report

    @property
    def _axes(self) -> tuple[str, ...]:
        return (*(_AXES if self.corpus is not None else _CLAIMS[:1]), *(_CLAIMS[1:] if self.draws else ()))

    def _check(
        self,
        name: str,
        prompts: Sequence[Prompt],
        facts: Sequence[Sequence[str] | None],
        corpus: Passages,
        verifier: Engine,
        rows: Sequence[dict[str, Any]],
        notes: list[str],
    ) -> None:
        """Hold every fact against the passages that it finds, and write what comes of it into the rows."""
        places = [(i, fact) for i, own in enumerate(facts) for fact in own or ()]
        sources = ["\n\n".join(corpus.find(fact, self.passages)) for _, fact in places]
        cases = [
            self._case(rows[i]["id"], prompts[i], fact, source)
            for (i, fact), source in zip(places, sources, strict=True)
        ]
        verdicts = ask(verifier, cases, self.judge_sampling, retries=self.retries) if cases else []
        notes += notes_on(name, [case.id for case in cases], verdicts)
        told: list[list[tuple[str, Verdict]]] = [[] for _ in rows]
        for (i, fact), verdict in zip(places, verdicts, strict=True):
            told[i].append((fact, verdict))
        for row, own, found in zip(rows, facts, told, strict=True):
            row |= self._counts(own, found)

    def _compare(
        self,
        name: str,
        one: Engine,
        prompts: Sequence[Prompt],
        facts: Sequence[Sequence[str] | None],
        verifier: Engine,
        rows: Sequence[dict[str, Any]],
        notes: list[str],
    ) -> None:
        """Hold every fact against other answers of its engine, and write the shares that support it into the rows."""
        others = texts(draw({name: one}, prompts, replace(self.drawing, n=self.draws))[name])
        places = [(i, k, said) for i, own in enumerate(facts) for k in range(len(own or ())) for said in others[i]]
        cases = [self._case(rows[i]["id"], prompts[i], (facts[i] or ())[k], said) for i, k, said in places]
        verdicts = ask(verifier, cases, self.judge_sampling, retries=self.retries) if cases else []
        notes += notes_on(f"{name}, other answers", [case.id for case in cases], verdicts)
        told: list[list[list[str]]] = [[[] for _ in own or ()] for own in facts]
        for (i, k, _), verdict in zip(places, verdicts, strict=True):
            if verdict.status == "ok":
                told[i][k].append(verdict.value)
        for row, own, found in zip(rows, facts, told, strict=True):
            shares = [consistency(kinds) for kinds in found]
            known = [share for share in shares if not math.isnan(share)]
            plain = [None if math.isnan(share) else share for share in shares]
            row["consistent"] = sum(known) / len(known) if known else None
            row["shares"] = json.dumps([list(pair) for pair in zip(own or (), plain, strict=True)], ensure_ascii=False)

    def _split(
        self, name: str, ids: Sequence[str], prompts: Sequence[Prompt], answers: Sequence[str], notes: list[str]
    ) -> list[list[str] | None]:
        """Return the facts of each answer; None where the splitter's reply cannot be read."""
        if self.splitter is None:
            return [_sentences(last_question(prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]
        cases = []
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            slots = answer_slots(prompt, answer)
            asked = self.texts["split"].render(**slots)
            cases.append(Case(ids[i], [{"role": "user", "content": asked}], partial(_read_facts, key=slots["key"])))
        verdicts = ask(engine(self.splitter), cases, self.judge_sampling, retries=self.retries)
        notes += notes_on(f"{name}, split", ids, verdicts)
        return [verdict.value for verdict in verdicts]

    def _case(self, name: str, prompt: Prompt, fact: str, source: str) -> Case:
        source = source or "(nothing was found)"
        key = key_for(prompt, fact, source)
        text = self.texts["verify"].render(
            question=frame_prompt(prompt, key),
            source=frame("source", source, key),
            claim=frame("claim", fact, key),
            fact=fact,
            key=key,
        )
        return Case(name, [{"role": "user", "content": text}], partial(_read_kind, key=key))

    def _counts(self, facts: Sequence[str] | None, told: Sequence[tuple[str, Verdict]]) -> dict[str, Any]:
        counts = Counter(verdict.value for _, verdict in told if verdict.status == "ok")
        total = counts["supported"] + counts["contradicted"] + counts["unknown"]
        return {
            "score": fact_score(counts["supported"], total, self.enough) if total else None,
            "precision": counts["supported"] / total if total else None,
            "judged": sum(counts.values()) / len(facts) if facts else None if facts == [] else 0.0,
            "facts": None if facts is None or (facts and not counts) else float(total),
            **{kind: counts[kind] for kind in _KINDS},
            "checked": json.dumps([[fact, verdict.value] for fact, verdict in told], ensure_ascii=False),
        }

    def _summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        estimators = {"abstained": estimate_rate}
        return {
            axis: estimators.get(axis, estimate_mean)(
                [math.nan if row[axis] is None else row[axis] for row in rows],
                confidence=self.confidence,
                seed=self.seed,
            )
            for axis in self._axes
        }


def consistency(kinds: Sequence[str]) -> float:
    """Return the share of verdicts that are `supported`, those that are `irrelevant` left out; NaN for none."""
    counted = [kind for kind in kinds if kind != "irrelevant"]
    return sum(kind == "supported" for kind in counted) / len(counted) if counted else math.nan


def _row(name: str, one: str, answer: str, facts: Sequence[str] | None) -> dict[str, Any]:
    abstained = None if facts is None else float(not facts)
    return {"id": one, "engine": name, "abstained": abstained, "answer": answer}


def _sentences(question: str, answer: str) -> list[str]:
    parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", answer)]
    return [part for part in parts if re.search(r"\w", part) and _REFUSALS.find(question, part) is None]


def _read_facts(reply: str, key: str) -> Reading:
    """Read a list of texts from the object that bears the key."""
    if not reply.strip():
        return Reading(problem="empty")
    given = objects(reply, ["facts"])
    found = [item["facts"] for item in given if item.get("key") == key]
    if not found:
        return Reading(problem="not believed" if given else "no verdict")
    if any(facts != found[0] for facts in found):
        return Reading(problem="several verdicts")
    if not isinstance(found[0], list) or not all(isinstance(fact, str) and fact.strip() for fact in found[0]):
        return Reading(problem="off the scale")
    return Reading([fact.strip() for fact in found[0]])


def _read_kind(reply: str, key: str) -> Reading:
    """Read one of the kinds from the object that bears the key."""
    if not reply.strip():
        return Reading(problem="empty")
    given = objects(reply, ["verdict"])
    found = [str(item["verdict"]).strip().lower() for item in given if item.get("key") == key]
    if not found:
        return Reading(problem="not believed" if given else "no verdict")
    if len(set(found)) > 1:
        return Reading(problem="several verdicts")
    return Reading(found[0]) if found[0] in _KINDS else Reading(problem="off the scale")
