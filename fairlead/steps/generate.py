"""The `generate` step: answers to prompts, kept whole, as the best of n, as pairs, or as rankings.

Every prompt's answers go to `answers.jsonl` as soon as they are there, so a killed step goes on behind the last one;
`records.jsonl`, what later steps read, follows from that file alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import catalog
from fairlead.engines.base import Completion, Prompt, Sampling
from fairlead.errors import DataError, UsageError
from fairlead.steps.answering import open_engine
from fairlead.steps.base import Answerer, Context, Outcome, Preview, Use, data_uses, model_uses, reward_uses
from fairlead.steps.rows import append_rows, progress, read_rows, write_rows

if TYPE_CHECKING:
    from fairlead.engines.base import Engine
    from fairlead.rewards.base import Reward

__all__ = ["Generate", "Keep"]

Keep = Literal["all", "best", "best_worst", "ranking"]
_SAMPLING = tuple(f.name for f in fields(Sampling) if f.name not in ("logprobs", "top_logprobs"))
"""Its fields are the step's own."""


@dataclass(frozen=True)
class Generate:
    """Answer prompts with a model and keep the answers as training data."""

    model: Answerer
    """Who answers: `harbor:NAME`, a directory, a hub id, an OpenAI-style server as "URL#model", or a decoding method
    as a mapping of its `name` and fields."""
    data: str | tuple[str, ...]
    """Where the prompts come from: a path, `harbor:SET`, a hub id, or several; answers in it are ignored."""
    n: int = 1
    """Answers per prompt."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Smallest set of tokens whose probabilities reach this is kept, in (0, 1]."""
    top_k: int = 0
    """Tokens kept by probability; 0 keeps all."""
    max_tokens: int = 256
    """Most tokens per answer."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    min_p: float = 0.0
    """Tokens less likely than this share of the likeliest one's probability are not drawn, in [0, 1]; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that the prompt or the answer so far has become less likely."""
    presence_penalty: float = 0.0
    """Taken from the logits of tokens that the answer so far has, in [-2, 2]."""
    frequency_penalty: float = 0.0
    """Taken from the logit of a token once for every time that the answer so far has it, in [-2, 2]."""
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    """Token id -> what is added to its logit, in [-100, 100]: `{"5": -100}`, or pairs."""
    min_tokens: int = 0
    """Tokens before which no answer ends by itself."""
    ignore_eos: bool = False
    """Whether an answer goes on behind an end-of-turn token."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end an answer besides the model's own ones."""
    choices: tuple[str, ...] = ()
    """Texts of which an answer is one, whole; none for free text."""
    schema: Mapping[str, Any] | str | None = None
    """JSON schema of what an answer is, as a mapping or as text; servers alone can keep to one."""
    reward: str | dict[str, Any] | None = None
    """Catalog name of the reward that values the answers, or a mapping of `name` and its fields."""
    keep: Keep = "all"
    """`all` answers, the `best`, the `best_worst` as a preference pair, or a `ranking` of all with their scores; a
    prompt whose answers are all worth the same gives neither pair nor ranking, and is counted."""
    format: str | None = None
    """Row format of the data when it is not one of Fairlead's own: hh, alpaca, sharegpt, bbq, arena."""
    limit: int | None = None
    """Use only the first so many prompts."""
    dtype: str | None = None
    """Number format of a local model: float32, bfloat16; by default the engine's own choice."""
    at_once: int = 64
    """Prompts per call of the engine; a killed step loses at most so many."""
    seed: int = 0
    """An answer depends on this, its prompt and its index alone."""

    produces: ClassVar[str | None] = "records"
    """What "@id" of this step stands for."""

    def __post_init__(self) -> None:
        if self.keep != "all" and self.reward is None:
            raise UsageError(f"generate.keep is {self.keep!r} without a reward", fix="set generate.reward")
        if self.keep in ("best_worst", "ranking") and self.n < 2:
            raise UsageError(f"generate.n is {self.n}, too few for keep={self.keep!r}", fix="use n of 2 or more")
        for name, value in (("at_once", self.at_once), ("limit", self.limit)):
            if value is not None and value < 1:
                raise UsageError(f"generate.{name} is {value}", fix="use a value >= 1")
        _ = self.sampling

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn."""
        return Sampling(**{name: getattr(self, name) for name in _SAMPLING})

    def uses(self) -> tuple[Use, ...]:
        """Return the model, the data and the reward."""
        reward = () if self.reward is None else (Use(("reward",), "reward", self.reward),)
        read = reward_uses(("reward",), self.reward)
        return (*model_uses(("model",), self.model), *data_uses("data", self.data), *reward, *read)

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say how many answers will be drawn and what becomes of them."""
        from fairlead.steps.outlook import generate_preview

        return generate_preview(self, before)

    def __call__(self, context: Context) -> Outcome:
        """Draw, value and keep."""
        from fairlead import records

        source = self.data if isinstance(self.data, str) else list(self.data)
        prompts = records.read(source, kind="prompt", format=self.format, limit=self.limit)
        answers = context.folder / "answers.jsonl"
        done = {row["id"] for row in read_rows(answers)}
        waiting = [record for record in prompts if record.id not in done]
        if waiting:
            reward = None if self.reward is None else catalog.from_spec("reward", self.reward)
            answerer = open_engine(self.model, self.dtype)
            with progress("generate", len(prompts), start=len(done), quiet=context.quiet) as advance:
                for start in range(0, len(waiting), self.at_once):
                    chunk = waiting[start : start + self.at_once]
                    append_rows(answers, self._answer(answerer, reward, chunk))
                    advance(len(chunk))
        return self._finish(context.folder, answers, [record.id for record in prompts])

    def _answer(self, answerer: Engine, reward: Reward | None, chunk: Sequence[Any]) -> Iterator[dict[str, Any]]:
        drawn = answerer.generate([record.prompt for record in chunk], self.sampling)
        values: list[float | None] = [None] * sum(map(len, drawn))
        if reward is not None:
            asked = [record.prompt for record, answers in zip(chunk, drawn, strict=True) for _ in answers]
            rewards = reward(asked, [answer.text for answers in drawn for answer in answers])
            values = [None if a else float(v) for v, a in zip(rewards.values, rewards.abstained, strict=True)]
        at, who = iter(values), answerer.fingerprint
        for record, answers in zip(chunk, drawn, strict=True):
            yield {
                "id": record.id,
                "prompt": _plain_prompt(record.prompt),
                "answers": [answer.text for answer in answers],
                "rewards": [next(at) for _ in answers],
                "tokens": [_length(answer) for answer in answers],
                "finish": [str(answer.finish_reason) for answer in answers],
                "model": who,
            }

    def _finish(self, folder: Path, answers: Path, order: list[str]) -> Outcome:
        rows = {row["id"]: row for row in read_rows(answers)}
        counts: Counter[str] = Counter()
        kept = list(_kept([rows[i] for i in order], self.keep, counts))
        if not kept:
            raise DataError(
                f"no row is left of {len(order)} prompts ({_said(counts)})",
                place=str(answers),
                fix="draw more answers (n), raise the temperature, or use another reward",
            )
        write_rows(folder / "records.jsonl", kept)
        lengths = sorted(n for row in rows.values() for n in row["tokens"] if n is not None)
        (folder / "lengths.json").write_text(json.dumps(_length_report(lengths)), encoding="utf-8")
        values = [v for row in rows.values() for v in row["rewards"] if v is not None]
        drawn = [f for row in rows.values() for f in row["finish"]]
        metrics = {"prompts": float(len(order)), "answers": float(len(drawn)), "rows": float(len(kept))}
        metrics |= {f"dropped_{reason}": float(count) for reason, count in sorted(counts.items())}
        metrics["cut_at_limit"] = drawn.count("length") / len(drawn)
        if values:
            metrics["reward"] = sum(values) / len(values)
        notes = [f"{_said(counts)} of {len(order)} prompts left out"] if counts else []
        return Outcome({"records": "records.jsonl", "answers": "answers.jsonl"}, metrics, tuple(notes))


def _kept(rows: Iterable[dict[str, Any]], keep: Keep, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """Turn answered prompts into records, with who answered; what gives no record is counted by reason."""
    for row in rows:
        made = {"models": {"model": row["model"]}} if "model" in row else {}
        yield from (record | made for record in _kept_of(row, keep, counts))


def _kept_of(row: dict[str, Any], keep: Keep, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    texts, values = row["answers"], row["rewards"]
    usable = [i for i, text in enumerate(texts) if text.strip() and (keep == "all" or values[i] is not None)]
    if not usable:
        counts["without_usable_answer"] += 1
    elif keep == "all":
        for i in usable:
            yield _conversation(row, i, f"{row['id']}-{i}" if len(texts) > 1 else row["id"])
    elif keep == "best":
        yield _conversation(row, max(usable, key=lambda i: values[i]), row["id"])
    elif len(usable) < 2:
        counts["with_one_usable_answer"] += 1
    elif len({values[i] for i in usable}) == 1:
        counts["with_equal_rewards"] += 1
    elif keep == "ranking":
        turns = [_turn(row, texts[i]) for i in usable]
        scores = [values[i] for i in usable]
        yield {"id": row["id"], "prompt": row["prompt"], "completions": turns, "scores": scores}
    else:
        best, worst = max(usable, key=lambda i: values[i]), min(usable, key=lambda i: values[i])
        pair = {"chosen": _turn(row, texts[best]), "rejected": _turn(row, texts[worst])}
        scores = {"chosen_reward": values[best], "rejected_reward": values[worst]}
        yield {"id": row["id"], "prompt": row["prompt"], **pair, **scores}


def _conversation(row: dict[str, Any], index: int, name: str) -> dict[str, Any]:
    said = {"prompt": row["prompt"], "completion": _turn(row, row["answers"][index])}
    record = {"id": name, **said, "finish": row["finish"][index]}
    value = row["rewards"][index]
    return record if value is None else record | {"reward": value}


def _turn(row: dict[str, Any], text: str) -> Any:
    return text if isinstance(row["prompt"], str) else [{"role": "assistant", "content": text}]


def _plain_prompt(prompt: Prompt) -> Any:
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]


def _length(answer: Completion) -> int | None:
    return None if answer.token_ids is None else len(answer.token_ids)


def _length_report(lengths: list[int]) -> dict[str, Any]:
    if not lengths:
        return {"answers": {"n": 0}}
    at = {f"p{q}": lengths[min(len(lengths) - 1, len(lengths) * q // 100)] for q in (5, 50, 95, 99)}
    report = {"n": len(lengths), "mean": sum(lengths) / len(lengths), "min": lengths[0], "max": lengths[-1], **at}
    return {"answers": report}


def _said(counts: Counter[str]) -> str:
    return (
        ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(counts.items())) or "none dropped"
    )
