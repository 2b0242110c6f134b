"""Tags on conversations, by an engine: how hard, how well put, what kind of task, in which language, whether safe.

The taggers of Magpie (Xu et al. 2024, arXiv 2406.08464, section 3): each is a question with a form to fill in. A tag is
one of a list of values, or it is none: nothing is guessed, and what could not be read is counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from fairlead import prompts
from fairlead.engines.asking import JUDGING, Case, Guided, Verdict, ask, frame, frame_prompt
from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.messages import Message
from fairlead.records import to_row
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.guarding import GUARD, guard_case, guard_text
from fairlead.verdicts import DIFFICULTY, QUALITY, Reading, key_of, objects, read_named

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["CATEGORIES", "TAGS", "Tags"]

Tag: TypeAlias = Literal["difficulty", "quality", "category", "language", "safety", "validity", "guard"]

CATEGORIES = (
    "Information seeking", "Reasoning", "Planning", "Editing", "Coding & Debugging", "Math", "Role playing",
    "Data analysis", "Creative writing", "Advice seeking", "Brainstorming", "Others",
)  # fmt: skip
"""Kinds of task."""

_LANGUAGES = tuple(
    re.findall(
        r"\w\w",
        "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee "
        "el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is "
        "it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms "
        "mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk "
        "sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi "
        "yo za zh zu ",
    )
)

TAGS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "difficulty": {"intent": None, "knowledge": None, "difficulty": DIFFICULTY},
    "quality": {"explanation": None, "input_quality": QUALITY},
    "category": {"task_category": CATEGORIES},
    "language": {"language": _LANGUAGES},
    "safety": {"reason": None, "safety": ("safe", "unsafe")},
    "validity": {"valid": ("yes", "no"), "complete": ("yes", "no"), "correct": ("yes", "no")},
}
"""Tag -> what a reply names, each with the values that it may have, or None for free text; `guard` has no form."""

_COLUMNS = {"explanation": "quality_explanation", "reason": "safety_reason"}
_OTHER = {"other": "Others"}
_MORE = "other_task_category"
_BY = {"tagger": "tagged_by", "guard": "guarded_by"}


@dataclass(frozen=True)
class Tags(Synthesizer):
    """Adds columns to conversations: how difficult, how well put, of which kind, in which language, whether safe."""

    tags: tuple[Tag, ...] = ("difficulty", "quality", "category")
    """What the engine is asked about, each in a question of its own."""
    texts: dict[str, str] = field(default_factory=dict)
    """Tag -> what the engine reads in place of the shipped text: the path of a Jinja text, or the text itself. It may
    use `request` and `conversation` (in marks that bear `key`) and `key`. Of `guard` it is the guard's chat template,
    over `messages`, which is then handed over as raw text."""
    retries: int = 1
    """How often the engine is asked again where its reply cannot be read."""
    retry_temperature: float = 0.3
    """Temperature of these replies; each has the next seed."""
    guided: Guided = "auto"
    """Whether the engine is held to the form of a reply by a JSON schema: `auto`, with the shipped texts and where it
    can; `off`; `on`, with one's own texts too, and an engine that cannot is refused."""
    sampling: Sampling = JUDGING
    """How replies are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "tags": ["quality", "safety"],
        "retries": 0,
        "sampling": {"max_tokens": 8, "temperature": 0},
        "texts": {"quality": "{{ request }} {{ key }}", "safety": "{{ conversation }} {{ key }}"},
    }
    reads: ClassVar[str] = "conversation"
    makes: ClassVar[str] = "conversation"
    rows_per_seed: ClassVar[int] = 1
    sources: ClassVar[tuple[str, ...]] = ("texts",)

    def __post_init__(self) -> None:
        if not self.tags or len(set(self.tags)) < len(self.tags):
            raise UsageError("tags.tags is empty or names a tag twice", fix=f"name some of {', '.join(TAGS)}")
        if self.retries < 0:
            raise UsageError(f"tags.retries is {self.retries}", fix="use 0 or more")
        for name in self.texts:
            if name not in self.tags:
                raise UnknownNameError("tag", name, self.tags, place="tags.texts")
        _ = self.shown, guard_text(self.texts.get("guard"))

    @property
    def engines(self) -> Mapping[str, str]:
        """The tagger, and the guard where one is asked."""
        roles = {"tagger": "reads conversations and fills in a form"} if self.forms else {}
        return roles | ({"guard": "a guard model that judges whole conversations"} if "guard" in self.tags else {})

    @property
    def forms(self) -> tuple[str, ...]:
        """The tags that are read from a form."""
        return tuple(tag for tag in self.tags if tag != "guard")

    @cached_property
    def shown(self) -> dict[str, prompts.PromptText]:
        """Tag -> what the engine reads."""
        return {tag: prompts.load("tags", tag, self.texts.get(tag)) for tag in self.forms}

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Ask about every tag of all seeds, one tag after the other."""
        verdicts = {tag: self._ask(engines["tagger"], tag, seeds) for tag in self.forms}
        if "guard" in self.tags:
            text = guard_text(self.texts.get("guard"))
            cases = [guard_case(str(seed.id), _chat(seed), text) for seed in seeds]
            verdicts["guard"] = ask(engines["guard"], cases, self.sampling, retries=0)
        by = {_BY[role]: engines[role].fingerprint[:16] for role in self.engines}
        for i, seed in enumerate(seeds):
            own = {tag: found[i] for tag, found in verdicts.items()}
            failed = next((v.error for v in own.values() if v.status == "failed"), None)
            if failed is not None:
                yield Draft(seed.id, error="the tagger or the guard gave no reply", failed=True)
                continue
            said = {tag: verdict.value for tag, verdict in own.items()}
            status = {tag: verdict.status for tag, verdict in own.items()}
            yield Draft(seed.id, {"row": to_row(seed), "said": said, "status": status, "by": by})

    def _ask(self, tagger: Engine, tag: str, seeds: Sequence[Any]) -> list[Verdict]:
        held = self.guided == "on" or (self.guided == "auto" and tag not in self.texts)
        cases = [self._case(tag, seed) for seed in seeds]
        guided: Guided = self.guided if held else "off"
        options: dict[str, Any] = {"retries": self.retries, "temperature": self.retry_temperature}
        return ask(tagger, cases, self.sampling, **options, guided=guided)

    def _case(self, tag: str, seed: Any) -> Case:
        chat = _chat(seed)
        request = next((turn["content"] for turn in chat if turn["role"] == "user"), chat[0]["content"])
        shown = [turn["content"] for turn in chat]
        key = key_of(*shown)
        slots = {"request": frame("request", request, key), "conversation": frame_prompt(chat, key), "key": key}
        asked: list[Message] = [{"role": "user", "content": self.shown[tag].render(**slots)}]
        return Case(str(seed.id), asked, partial(_read, tag=tag, key=key, shown=shown), _form(TAGS[tag]))

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield the records with their tags, None for those that could not be read."""
        for draft in drafts:
            row: Row = {**draft.found["row"], "parent": draft.parent}
            for tag in self.tags:
                said = draft.found["said"][tag]
                counts[f"unparsable_{tag}"] += said is None or (tag == "guard" and said["guard_verdict"] is None)
                row |= {_COLUMNS.get(name, name): None if said is None else said[name] for name in _names(tag)}
            yield row | draft.found["by"]


def _names(tag: str) -> tuple[str, ...]:
    """Return what a tag's reading holds."""
    return GUARD if tag == "guard" else (*TAGS[tag], *([_MORE] if tag == "category" else []))


def _read(reply: str, tag: str, key: str, shown: Sequence[str]) -> Reading:
    """Read a reply; a category that is called "Other" is "Others"."""
    names = TAGS[tag]
    if tag == "category":
        names = {"task_category": (*CATEGORIES, *_OTHER)}
    found = read_named(reply, names, key, shown)
    if found.value is None:
        return found
    said: dict[str, Any] = {name: _OTHER.get(t, t) if names[name] else t for name, t in found.value.items()}
    return Reading(said | ({_MORE: _more(reply, said["task_category"])} if tag == "category" else {}))


def _more(reply: str, first: str) -> list[str]:
    """Return the further kinds of task that a reply names, as far as there are such; none twice, nor the first one."""
    known = {name.lower(): name for name in CATEGORIES} | _OTHER
    found = [item[_MORE] for item in objects(reply, (_MORE,))]
    named = found[-1] if found and isinstance(found[-1], list) else []
    kinds = [known.get(text.strip().lower()) for text in named if isinstance(text, str)]
    return [kind for kind in dict.fromkeys(kinds) if kind is not None and kind != first]


def _chat(record: Any) -> list[Message]:
    """Return a conversation's messages; of a raw text its two parts."""
    turns: list[Message] = []
    for role, part in (("user", record.prompt), ("assistant", record.completion)):
        if isinstance(part, str):
            turns.append({"role": role, "content": part})
        else:
            turns += part
    return turns


def _form(names: Mapping[str, tuple[str, ...] | None]) -> str:
    """Return the JSON schema of a reply."""
    parts: dict[str, Any] = {"key": {"type": "string"}}
    parts |= {name: {"type": "string", **({"enum": list(values)} if values else {})} for name, values in names.items()}
    required = list(parts)
    if "task_category" in names:
        parts[_MORE] = {"type": "array", "items": {"type": "string", "enum": list(CATEGORIES)}}
        required.append(_MORE)
    form = {"type": "object", "properties": parts, "required": required, "additionalProperties": False}
    return json.dumps(form)
