"""How good prompts are, by comparison with anchors: some prompts of the same bucket, drawn at random.

After the prompt scorer of the Baichuan Alignment report (2024, arXiv 2410.14940): four dimensions, three levels, one or
several judges. Every prompt meets the same anchors of its bucket, so that what comes of it can be compared.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import prompts, records
from fairlead.engines.asking import JUDGING, Case, Guided, Verdict, ask, frame, plain_prompt
from fairlead.engines.base import Sampling
from fairlead.errors import DataError, UsageError
from fairlead.messages import Message
from fairlead.records import to_row
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.verdicts import Reading, key_of, read_named

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["DIMENSIONS", "PromptQuality"]

DIMENSIONS = ("clarity", "practicality", "complexity", "novelty")
"""In what prompts are compared."""

_WORDS = ("A", "same", "B")
_NAMES: dict[str, tuple[str, ...] | None] = {"reason": None, **dict.fromkeys(DIMENSIONS, _WORDS)}
_FORM = json.dumps(
    {
        "type": "object",
        "properties": {"key": {"type": "string"}}
        | {name: {"type": "string", **({"enum": list(words)} if words else {})} for name, words in _NAMES.items()},
        "required": ["key", *_NAMES],
        "additionalProperties": False,
    }
)


@dataclass(frozen=True)
class PromptQuality(Synthesizer):
    """Adds columns to prompts or conversations: how the prompt compares with anchors of its bucket, and a label."""

    anchors: str
    """Data source of the prompts among which anchors are drawn: as a rule the one whose prompts are compared."""
    bucket: str | None = None
    """Column with the label by which prompts are compared with their like; None compares all with the same anchors."""
    anchors_per_bucket: int = 30
    """Anchors of a bucket; all its prompts where it has fewer. Each is one comparison per judge and order."""
    judges: int = 1
    """How many judges compare: the roles `judge`, `judge_2`, `judge_3` and so on."""
    both_orders: bool = True
    """Whether each pair is shown in both orders, which frees the mean of a liking for one place."""
    cuts: tuple[float, ...] = (-1.0, 1.0)
    """Where one label ends and the next begins, on the scale of `prompt_quality`, -4 to 4, ascending; a value on a cut
    has the upper label."""
    labels: tuple[str, ...] = ("low", "middle", "high")
    """The labels, the lowest first: one more than there are cuts."""
    kind: Literal["prompt", "conversation"] = "prompt"
    """What the records are read as, and come back as."""
    text: str | None = None
    """What a judge reads in place of the shipped text: the path of a Jinja text, or the text itself. It may use
    `request_a` and `request_b` (in marks that bear `key`) and `key`."""
    retries: int = 1
    """How often a judge is asked again where its reply cannot be read."""
    retry_temperature: float = 0.3
    """Temperature of these replies; each has the next seed."""
    guided: Guided = "auto"
    """Whether judges are held to the form of a reply by a JSON schema: `auto`, with the shipped text and where they
    can; `off`; `on`, with one's own text too, and a judge that cannot is refused."""
    sampling: Sampling = JUDGING
    """How replies are drawn; its seed also draws the anchors."""

    example: ClassVar[Mapping[str, Any]] = {
        "anchors": "harbor:prompts?n=20&seed=1",
        "bucket": "task",
        "anchors_per_bucket": 1,
        "retries": 0,
        "text": "{{ request_a }} {{ request_b }} {{ key }}",
        "sampling": {"max_tokens": 8, "temperature": 0},
    }
    rows_per_seed: ClassVar[int] = 1
    sources: ClassVar[tuple[str, ...]] = ("anchors", "text")

    def __post_init__(self) -> None:
        for name, floor in (("anchors_per_bucket", 1), ("judges", 1), ("retries", 0)):
            if getattr(self, name) < floor:
                what = f"prompt_quality.{name} is {getattr(self, name)}"
                raise UsageError(what, fix=f"use a value >= {floor}")
        top = len(DIMENSIONS)
        if list(self.cuts) != sorted(set(self.cuts)) or any(not -top <= cut <= top for cut in self.cuts):
            what = f"prompt_quality.cuts is {list(self.cuts)}"
            raise UsageError(what, fix=f"give values from {-top} to {top} that ascend")
        if len(self.labels) != len(self.cuts) + 1 or len(set(self.labels)) < len(self.labels):
            what = f"prompt_quality has {len(self.cuts)} cuts and the labels {', '.join(self.labels)}"
            raise UsageError(what, fix=f"give {len(self.cuts) + 1} labels that differ")
        if self.kind not in ("prompt", "conversation"):
            raise UsageError(f"prompt_quality.kind is {self.kind!r}", fix="use prompt or conversation")
        if self.sampling.n != 1:
            raise UsageError("prompt_quality asks for one reply per comparison", fix="leave sampling.n out")
        _ = self.shown

    @property
    def reads(self) -> str:
        """Prompts, or conversations."""
        return self.kind

    @property
    def makes(self) -> str:
        """What it reads."""
        return self.kind

    @property
    def engines(self) -> Mapping[str, str]:
        """The judges."""
        return {f"judge_{k}" if k > 1 else "judge": "compares prompts" for k in range(1, self.judges + 1)}

    @cached_property
    def shown(self) -> prompts.PromptText:
        """What a judge reads."""
        return prompts.load("prompt_quality", "pair", self.text)

    @cached_property
    def drawn(self) -> dict[str | None, tuple[str, ...]]:
        """Bucket -> its anchors. Which ones depends on the seed and the prompts, not on their order or number.

        Raises:
            DataError: anchors that cannot be read, or none with the column of buckets.
        """
        found: dict[str | None, dict[str, str]] = {}
        record: Any
        for record in records.read(self.anchors, kind="prompt"):
            asked, bucket = plain_prompt(record.prompt), self.bucket_of(record)
            if asked.strip() and (bucket is not None or self.bucket is None):
                lot = hashlib.sha256(f"{self.sampling.seed}\0{asked}".encode("utf-8", "surrogatepass")).hexdigest()
                found.setdefault(bucket, {})[asked] = lot
        if not found:
            what = "holds no prompt" + (f" with a column {self.bucket!r}" if self.bucket is not None else "")
            fix = "name a data set of prompts, and in prompt_quality.bucket a column that it has"
            raise DataError(what, place=self.anchors, fix=fix)
        return {
            name: tuple(sorted(lots, key=lots.__getitem__)[: self.anchors_per_bucket]) for name, lots in found.items()
        }

    def bucket_of(self, record: Any) -> str | None:
        """Return a record's bucket; None where it has none, or there are none."""
        value = None if self.bucket is None else record.extra.get(self.bucket)
        return None if value is None else str(value)

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Put all comparisons of all seeds to one judge, then to the next."""
        met = [self._anchors_of(seed) for seed in seeds]
        cases = [case for seed, own in zip(seeds, met, strict=True) for case in self._cases(seed, own)]
        guided: Guided = "off" if self.guided == "auto" and self.text is not None else self.guided
        options: dict[str, Any] = {"retries": self.retries, "temperature": self.retry_temperature, "guided": guided}
        said = {role: ask(engines[role], cases, self.sampling, **options) if cases else [] for role in self.engines}
        by = [engines[role].fingerprint[:16] for role in self.engines]
        orders, at = 1 + self.both_orders, 0
        for seed, own in zip(seeds, met, strict=True):
            part = slice(at, at := at + orders * len(own))
            replies = {role: verdicts[part] for role, verdicts in said.items()}
            if any(verdict.status == "failed" for verdicts in replies.values() for verdict in verdicts):
                yield Draft(seed.id, error="a judge gave no reply", failed=True)
                continue
            points = {role: _points(verdicts, orders) for role, verdicts in replies.items()}
            is_anchor = plain_prompt(seed.prompt) in self.drawn.get(self.bucket_of(seed), ())
            yield Draft(seed.id, {"row": to_row(seed), "points": points, "anchor": is_anchor, "by": by})

    def _anchors_of(self, seed: Any) -> list[str]:
        """Return the anchors that a prompt meets: those of its bucket but itself."""
        asked = plain_prompt(seed.prompt)
        return [anchor for anchor in self.drawn.get(self.bucket_of(seed), ()) if anchor != asked]

    def _cases(self, seed: Any, anchors: Sequence[str]) -> Iterator[Case]:
        """Yield every comparison with an anchor as A, and behind it the one with the prompt as A."""
        asked = plain_prompt(seed.prompt)
        for anchor in anchors:
            for a, b in ((anchor, asked), (asked, anchor))[: 1 + self.both_orders]:
                key = key_of(a, b)
                slots = {"request_a": frame("request-a", a, key), "request_b": frame("request-b", b, key), "key": key}
                turn: Message = {"role": "user", "content": self.shown.render(**slots)}
                yield Case(str(seed.id), [turn], partial(_read, key=key, shown=(a, b)), _FORM)

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield the records with their columns, None for what no readable comparison tells."""
        for draft in drafts:
            points: dict[str, list[list[float] | None]] = draft.found["points"]
            read = {role: [pair for pair in pairs if pair is not None] for role, pairs in points.items()}
            means = [_means(pairs) for pairs in read.values() if pairs]
            each = _means(means) if means else [None] * len(DIMENSIONS)
            total = sum(value for value in each if value is not None) if means else None
            met = sum(map(len, points.values()))
            compared = sum(map(len, read.values()))
            counts["unreadable_comparisons"] += met - compared
            counts["without_anchors"] += not met
            counts["without_quality"] += total is None
            yield {
                **draft.found["row"],
                "parent": draft.parent,
                **{f"prompt_{name}": value for name, value in zip(DIMENSIONS, each, strict=True)},
                "prompt_quality": total,
                "prompt_label": None if total is None else self.labels[bisect_right(self.cuts, total)],
                "prompt_quality_by": {role: sum(_means(pairs)) if pairs else None for role, pairs in read.items()},
                "prompt_compared": compared,
                "prompt_anchor": draft.found["anchor"],
                "prompt_judges": draft.found["by"],
            }


def _read(reply: str, key: str, shown: Sequence[str]) -> Reading:
    """Read what the request shown as B has over the other: -1, 0 or 1 per dimension."""
    found = read_named(reply, _NAMES, key, shown)
    said = found.value
    return found if said is None else Reading([_WORDS.index(said[name]) - 1 for name in DIMENSIONS])


def _points(verdicts: Sequence[Verdict], orders: int) -> list[list[float] | None]:
    """Return per anchor the prompt's points in each dimension, mean of its orders; None where one was not read."""
    found: list[list[float] | None] = []
    for at in range(0, len(verdicts), orders):
        ways = [verdict.value for verdict in verdicts[at : at + orders]]
        signed = [[sign * value for value in way] for sign, way in zip((1, -1), ways, strict=False) if way is not None]
        found.append(_means(signed) if len(signed) == orders else None)
    return found


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of every column."""
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]
