"""Answers from a transformers model in this process: `Local("harbor:aligned-1m")`.

Differs from `model.generate` in what a caller can rely on: prompts of any mix of lengths in one call, n samples for the
price of one prompt, and an answer that depends on its own prompt, seed and index alone (exactly so in float32 up to
rounding; bfloat16 rounds differently in batches of different shape).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fairlead import models
from fairlead.engines.base import Completion, Sampling
from fairlead.engines.distributions import TokenStats, View, stats_of
from fairlead.engines.endings import Endings
from fairlead.engines.identity import local_fingerprint
from fairlead.engines.lens import LayerStats, layer_stats
from fairlead.engines.memory import Memory
from fairlead.engines.packing import Packing
from fairlead.engines.programs import Program
from fairlead.engines.rows import Rows
from fairlead.engines.sampler import Abilities, Sampler, check_decoding
from fairlead.engines.scoring import Row, score
from fairlead.engines.writing import Line, write
from fairlead.errors import ModelError, RenderError, RequestError, UnsupportedError, UsageError
from fairlead.forward import attention
from fairlead.forward.policy import Policy, pick_layout
from fairlead.messages import Prompt
from fairlead.render import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fairlead.engines.desk import Desk
    from fairlead.engines.streaming import Listener

__all__ = ["Local"]


class Local:
    """A model in this process as an engine. Calls from several threads take turns.

    Args:
        model: `harbor:NAME`, a folder or a hub id; or a model object, whose weights are read at every call (a trainer
            may change them in between) and whose mode and attention implementation are left as they were.
        tokenizer: a name or a tokenizer; by default the one that comes with the named model.
        dtype: float32 (default), bfloat16 or float16; a model object keeps its own.
        device: where to; by default the best there is; a model object stays where it is.
        max_rows: most completions decoded at a time.
        max_batch_tokens: most tokens of one forward over several prompts, padding included. One prompt longer than
            this gets a forward of its own.
        packed_bytes: most bytes of weights kept a second time, in the order in which the processor multiplies a few
            rows fastest; a model with more is not sped up so. 0 keeps none.

    Raises:
        ModelError: a model or tokenizer that cannot be loaded, or that do not belong together.
        RenderError: a chat template that breaks a promise.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        *,
        dtype: str | None = None,
        device: str | None = None,
        max_rows: int = 64,
        max_batch_tokens: int = 8192,
        packed_bytes: int = 2 << 30,
    ):
        if max_rows < 1 or max_batch_tokens < 1:
            raise UsageError("max_rows and max_batch_tokens must be at least 1", fix="use the defaults, 64 and 8192")
        if not isinstance(model, str) and (dtype or device or tokenizer is None):
            raise UsageError(
                "a model object needs its tokenizer, and keeps its own dtype and device",
                fix="use Local(model, tokenizer); move or cast the model yourself",
            )
        self.name = model if isinstance(model, str) else type(model).__name__
        self._source = models.fingerprint(model) if isinstance(model, str) else None
        self.model: Any = model
        if isinstance(model, str):
            self.model = models.load_model(model, dtype=dtype or "float32", device=device)
        if tokenizer is None or isinstance(tokenizer, str):
            tokenizer = models.load_tokenizer(tokenizer or self.name)
        self.renderer = Renderer(tokenizer, place=self.name)
        self.max_rows, self.max_batch_tokens = max_rows, max_batch_tokens
        self._policy = Policy(self.model, layout="padded")
        self._config = self._policy.plain.config.get_text_config()
        self._weights: tuple[Any, str] | None = None
        self._layout: str | None = None
        self._abilities: Abilities | None = None
        self._packing = Packing(self.model, most=packed_bytes)
        # One thread may lend the model to rows and ask it whole questions meanwhile.
        self._lock = threading.RLock()
        if len(tokenizer) > self._config.vocab_size:
            raise ModelError(
                f"the tokenizer has {len(tokenizer)} tokens, the model knows {self._config.vocab_size}",
                place=self.name,
                fix="use the model's own tokenizer, or resize the model's embeddings",
            )

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with the weights, their format, the tokenizer or its template."""
        weights = self._source or self._hash_weights()
        return local_fingerprint(weights, str(self._policy.plain.dtype), self.renderer)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, in the order of the prompts.

        A completion that reaches the model's last position ends there, with finish reason `length`.

        Raises:
            RenderError: a prompt that cannot be rendered.
            RequestError: a prompt that is empty or leaves no room for an answer.
            UsageError: a setting that names a token which the model does not have.
        """
        total = len(prompts)
        ids = [self._prompt_ids(f"prompt {k + 1} of {total}", prompt) for k, prompt in enumerate(prompts)]
        found: dict[int, list[Completion]] = {}
        for raw in (False, True):
            places = [k for k, prompt in enumerate(prompts) if isinstance(prompt, str) is raw]
            if places:
                found |= zip(places, self.generate_ids([ids[k] for k in places], sampling, raw=raw))
        return [found[k] for k in range(total)]

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, raw: bool = False
    ) -> list[list[Completion]]:
        """As `generate`, for prompts that are already token ids; `raw` ones are not made by the chat template."""
        for k, ids in enumerate(prompts):
            self.check_length(f"prompt {k + 1} of {len(prompts)}", ids, room=1)
        endings = self.endings(sampling, raw=raw)
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        # Equal prompts draw equal samples, and all greedy samples are equal: each is made once.
        samples = sampling.n if sampling.temperature > 0 else 1
        with self._decoding() as abilities:
            sampler = Sampler(
                self._policy,
                sampling,
                endings,
                positions=self._positions,
                max_rows=self.max_rows,
                max_tokens=self.max_batch_tokens,
                share=abilities.shares,
                lean=abilities.lean,
            )
            made = dict(zip(distinct, sampler.run(distinct, samples)))
        return [[_copy(made[tuple(ids)][k % samples]) for k in range(sampling.n)] for ids in prompts]

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index` to a prompt as a program, told as it is written."""
        rows = desk.rows(self)
        return write([Line(self, rows, rows.open(), prompt)], index, sampling, tell=tell)

    @contextmanager
    def rows(self, memory: Memory | None = None) -> Iterator[Rows]:
        """Lend the model to a decoding method, token by token; other calls wait.

        Args:
            memory: what it has read lately, to be used and added to. Weights that change make it wrong, so it is of no
                use with a model object.

        Raises:
            UnsupportedError: a model with virtual tokens, or one that cannot be decoded in ragged batches.
        """
        with self._decoding() as abilities, torch.inference_mode():
            yield Rows(
                self._policy,
                positions=self._positions,
                max_tokens=self.max_batch_tokens,
                memory=None if self._source is None else memory,
                lean=abilities.lean,
            )

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt that a decoding method lets the model answer.

        Raises:
            RenderError: a prompt that cannot be rendered.
            RequestError: a prompt that is empty or leaves no room for an answer.
        """
        ids = self._prompt_ids("the prompt", prompt)
        self.check_length("the prompt", ids, room=1)
        return ids

    def endings(self, sampling: Sampling, *, raw: bool = False) -> Endings:
        """Return what ends an answer; a `raw` one continues a text.

        Raises:
            UsageError: a setting that names a token which the model does not have.
            UnsupportedError: a setting for servers alone.
        """
        return Endings.of(sampling, self.renderer, size=self._config.vocab_size, name=self.name, raw=raw)

    def room(self, ids: Sequence[int], most: int) -> int:
        """Return how many tokens an answer to a prompt can have: `most`, or what the model can still read."""
        return most if self._positions is None else min(most, self._positions - len(ids))

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Return the log-probs of each completion's tokens after its prompt, float32 [T_i], nats.

        The tokens are the renderer's: the text's, then the end-of-turn token (end of sequence after a raw text prompt).

        Raises:
            UsageError: not one completion per prompt.
            RenderError: a prompt or completion that cannot be rendered.
            RequestError: a row longer than the model can read.
        """
        if len(prompts) != len(completions):
            raise UsageError(
                f"{len(prompts)} prompts and {len(completions)} completions", fix="give one completion per prompt"
            )
        rows = []
        for k, (prompt, completion) in enumerate(zip(prompts, completions)):
            with _numbered(f"row {k + 1} of {len(prompts)}"):
                row = self.renderer.example(prompt, completion)
            rows.append(Row(tuple(row.ids[: row.split]), row.ids[row.split :], row.loss_mask[row.split :]))
        return self._score(rows)

    def logprobs_ids(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return the log-probs of every token of completions given as token ids, float32 [T_i], nats."""
        if len(prompts) != len(completions) or not all(map(len, completions)):
            raise UsageError(
                "completions are missing or empty", fix="give one completion of a token or more per prompt"
            )
        return self._score([Row(tuple(p), c, [True] * len(c)) for p, c in zip(prompts, completions)])

    @cached_property
    def vocabulary(self) -> str:
        """64 hex digits that are equal for models whose token ids mean the same."""
        known = sorted((number, token) for token, number in self.renderer.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def spell(self, ids: Sequence[int]) -> list[str]:
        """Return the text that every token of an answer adds; nothing for one that only ends it."""
        return self.renderer.spelling.pieces(ids)

    def token_stats(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], view: View) -> list[TokenStats]:
        """Return what the model says along answers given as token ids, in one forward of each.

        Raises:
            UsageError: not one answer of a token or more per prompt.
            RenderError: a prompt that cannot be rendered.
            RequestError: a row longer than the model can read.
        """
        return [stats for (stats,) in stats_of([self], [prompts], answers, view)]

    def token_stats_beside(
        self,
        other: Local,
        prompts: Sequence[Prompt],
        other_prompts: Sequence[Prompt],
        answers: Sequence[Sequence[int]],
        view: View,
    ) -> list[tuple[TokenStats, TokenStats]]:
        """As `token_stats`, for this model and another one of the same vocabulary, each behind its own prompt.

        Raises:
            UnsupportedError: models of different vocabularies; also what `token_stats` raises.
        """
        if not isinstance(other, Local) or other.vocabulary != self.vocabulary:
            raise UnsupportedError(
                f"{self.name} and {getattr(other, 'name', type(other).__name__)} have different tokenizers, so their "
                "next-token distributions cannot be compared",
                fix="compare models of one family",
            )
        return [(own, theirs) for own, theirs in stats_of([self, other], [prompts, other_prompts], answers, view)]

    def layer_stats(self, prompts: Sequence[Prompt]) -> list[LayerStats]:
        """Return what the model would say first at every layer; see `fairlead.engines.lens`."""
        return layer_stats(self, prompts)

    def _score(self, rows: list[Row]) -> list[np.ndarray]:
        for k, row in enumerate(rows):
            self.check_length(f"row {k + 1} of {len(rows)}", row.prompt, room=len(row.completion))
        if not rows:
            return []
        with self.reading(max(map(len, rows))) as policy:
            return score(policy, rows, self.max_batch_tokens)

    @contextmanager
    def reading(self, longest: int) -> Iterator[Policy]:
        """Lend the model for forwards over whole rows of at most `longest` tokens; other calls wait."""
        with self._lock:
            layout = self._pick_layout(longest)
            with self._borrowed(attention.NAME if layout != "padded" else self._maskable_attention()):
                yield Policy(self.model, layout=layout)

    def _prompt_ids(self, place: str, prompt: Prompt) -> list[int]:
        with _numbered(place):
            return self.renderer.prompt(prompt)

    def check_length(self, place: str, ids: Sequence[int], *, room: int) -> None:
        """Refuse tokens that are none, or too many for the model to read with `room` more.

        Raises:
            RequestError: naming the model and the place.
        """
        if not ids:
            raise RequestError(
                "the prompt is empty, and the tokenizer has no first token of its own to begin with",
                place=f"{self.name}, {place}",
                fix="give a prompt with text",
            )
        if self._positions is not None and len(ids) + room > self._positions:
            raise RequestError(
                f"has {len(ids)} prompt tokens and needs room for {room} more, but the model reads at most "
                f"{self._positions}",
                place=f"{self.name}, {place}",
                fix="shorten it, or use a model with a longer context",
            )

    @property
    def _positions(self) -> int | None:
        own = getattr(self._config, "max_position_embeddings", None)
        return None if own is None else own - self._policy.virtual_tokens

    def _maskable_attention(self) -> str:
        """Return the model's own attention implementation if it takes additive masks, else one that does."""
        own = self._policy.plain.config._attn_implementation
        return own if own in ("sdpa", "eager") else "sdpa"

    @contextmanager
    def _decoding(self) -> Iterator[Abilities]:
        with self._lock, self._borrowed(self._maskable_attention()):
            if self._abilities is None:
                self._abilities = check_decoding(self._policy)
            with self._packing.used():
                yield self._abilities
            if self._source is None:
                self._packing.forget()  # the weights may be others at the next call

    @contextmanager
    def _borrowed(self, implementation: str) -> Iterator[None]:
        """Put the model in evaluation mode with an attention implementation, and leave it as it was afterwards."""
        plain = self._policy.plain
        own, training = plain.config._attn_implementation, [m for m in self.model.modules() if m.training]
        attention.register()
        if training:
            self.model.eval()
        if own != implementation:
            plain.set_attn_implementation(implementation)
        try:
            yield
        finally:
            if plain.config._attn_implementation != own:
                plain.set_attn_implementation(own)
            for module in training:
                module.training = True

    def _pick_layout(self, longest: int) -> str:
        if self._layout is None:
            with self._borrowed(self._maskable_attention()):
                self._policy.check_head()
                self._layout = pick_layout(self.model)[0]
        window = getattr(self._config, "sliding_window", None)
        return "padded" if window is not None and window < longest else self._layout

    def _hash_weights(self) -> str:
        """Hash a live model's weights; again only after one of them was written to."""
        tensors = self.model.state_dict()
        versions = tuple((name, tensor.data_ptr(), tensor._version) for name, tensor in tensors.items())
        if self._weights is None or self._weights[0] != versions:
            whole = hashlib.sha256(self._policy.plain.config.to_json_string().encode())
            for name, tensor in tensors.items():
                whole.update(name.encode())
                whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            self._weights = (versions, whole.hexdigest())
        return self._weights[1]


def _copy(completion: Completion) -> Completion:
    """Return a completion that shares nothing that its owner could change."""
    logprobs = None if completion.logprobs is None else completion.logprobs.copy()
    return replace(completion, token_ids=list(completion.token_ids or ()), logprobs=logprobs, extra={})


@contextmanager
def _numbered(place: str) -> Iterator[None]:
    """Add to a rendering error which of the prompts it is."""
    try:
        yield
    except RenderError as error:
        raise RenderError(error.what, place=f"{error.place}, {place}", fix=error.fix) from error
