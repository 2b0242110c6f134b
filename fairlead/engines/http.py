"""Answers from any OpenAI-style server: chat completions for messages, completions for raw text.

Differs from a bare client in what a long run needs: every wait has an end, a busy or failing server is asked again
later (all requests pause when one is told to), and n completions come back even from a server that ignores `n`.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import httpx
import numpy as np

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.sending import Deadline, Pace, Poster
from fairlead.errors import EngineError, RequestError, UnsupportedError, UsageError
from fairlead.messages import Prompt

__all__ = ["Http"]

_SEEDS = 2**31
"""Servers take seeds of 31 bits."""
_USUAL = Sampling()
_WHEN_SET = (
    "top_k",
    "min_p",
    "stop",
    "stop_token_ids",
    "min_tokens",
    "ignore_eos",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
"""Settings that are sent only where they say something: not every server knows them."""
_FORMS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "choices": ("structured_outputs", lambda texts: {"choice": list(texts)}),
    "schema": ("response_format", lambda text: _json_schema(json.loads(text))),
    "top_logprobs": ("top_logprobs", lambda count: count),
}
"""Settings that many servers refuse: the field that each is sent as, and its value. OpenAI's protocol knows the second
and the third; the first is vLLM's."""


class Http:
    """A model behind an OpenAI-style address.

    Args:
        base_url: the address up to and including the version: `https://host/v1`.
        model: its name at the server; by default the only one that the server lists.
        api_key_env: the environment variable that holds the key, sent if it is set. The key is never stored or shown.
        concurrency: most requests under way at a time.
        requests_per_second: most requests begun per second; None for no limit.
        timeout: seconds that the server may stay silent in one try.
        deadline: seconds that one request may take with all its tries and waits.
        retries: tries after the first.

    Raises:
        UsageError: an address or number that cannot be used.
    """

    remote = True
    """Whether answers are made elsewhere, so that this process has time for others meanwhile."""

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        api_key_env: str = "FAIRLEAD_API_KEY",
        concurrency: int = 8,
        requests_per_second: float | None = None,
        timeout: float = 120.0,
        deadline: float = 900.0,
        retries: int = 8,
    ):
        numbers = {"concurrency": concurrency, "timeout": timeout, "deadline": deadline, "retries": retries + 1}
        numbers["requests_per_second"] = 1.0 if requests_per_second is None else requests_per_second
        for name, value in numbers.items():
            if value <= 0:
                raise UsageError(f"{name} is too small", place=base_url, fix="use a positive number")
        if not base_url.startswith(("http://", "https://")):
            raise UsageError("is not an http address", place=base_url, fix="write it as https://host/v1")
        self.base_url = base_url.rstrip("/")
        self.concurrency, self.deadline = concurrency, deadline
        self._model = model
        headers = {}
        if key := os.environ.get(api_key_env, "").strip():
            headers["Authorization"] = f"Bearer {key}"
        client = httpx.Client(headers=headers, limits=httpx.Limits(max_connections=concurrency))
        pace = Pace(requests_per_second)
        self._poster = Poster(client, pace, timeout=timeout, retries=retries, key_name=api_key_env)
        self._refused: dict[str, str] = {}

    @property
    def model(self) -> str:
        """The model's name at the server; asked for once where it was not given."""
        if self._model is None:
            url = f"{self.base_url}/models"
            listed = self._poster.send("GET", url, None, Deadline(self.deadline))
            names = [entry["id"] for entry in _field(listed, "data", url)]
            if len(names) != 1:
                raise UsageError(
                    f"the server has {len(names)} models, and none was chosen",
                    place=self.base_url,
                    fix=f"give model=, one of: {', '.join(names) or '(none)'}",
                )
            self._model = names[0]
        return self._model

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits of the address and the model's name (what the server does behind it is unknown)."""
        return hashlib.sha256(f"http\n{self.base_url}\n{self.model}".encode()).hexdigest()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, in the order of the prompts.

        What shapes the draw beyond temperature and `top_p` is sent only when set, by the names that vLLM has: the
        protocol knows the biases and the penalties for presence and frequency; a server that refuses others says so.
        Token ids are not known; the tokens' texts are in `extra["tokens"]` when log-probs were asked for and the server
        gave them.

        A JSON schema goes as the protocol's `response_format`, fixed choices as vLLM's `structured_outputs`. What a
        server refuses of these by name is not asked for again.

        Raises:
            EngineTimeoutError: no answer before the deadline.
            UnsupportedError: a server that has no fixed choices, JSON schemas or likeliest tokens.
            EngineError: another refusal, or an answer of another form.
        """
        model = self.model

        def answer(prompt: Prompt, deadline: Deadline) -> list[Completion]:
            return self._answer(model, prompt, sampling, deadline)

        return self._each(answer, prompts)

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Servers of this kind do not score given texts.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            "an OpenAI-style server does not say the log-probs of a given text",
            place=self.base_url,
            fix="use a local model where log-probs are needed",
        )

    def close(self) -> None:
        """Close the connections."""
        self._poster.client.close()

    def _each(self, answer: Callable[..., list[Completion]], prompts: Sequence[Prompt]) -> list[list[Completion]]:
        """Answer all prompts, several at a time; the first failure ends the rest."""
        stop = threading.Event()

        def one(prompt: Prompt) -> list[Completion]:
            return answer(prompt, Deadline(self.deadline, stop))

        pool = ThreadPoolExecutor(max_workers=self.concurrency)
        try:
            futures = [pool.submit(one, prompt) for prompt in prompts]
            done = wait(futures, return_when=FIRST_EXCEPTION).done
            for failed in (future for future in done if future.exception() is not None):
                failed.result()
            return [future.result() for future in futures]
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, model: str, prompt: Prompt, sampling: Sampling, deadline: Deadline) -> list[Completion]:
        wanted = sampling.n if sampling.temperature > 0 else 1
        url, body = self._request(model, prompt, sampling)
        found: list[Completion] = []
        while len(found) < wanted:
            # A server that ignored n gave fewer: ask again, with seeds that differ from those before.
            more = {"n": wanted - len(found), "seed": (sampling.seed + 7919 * len(found)) % _SEEDS}
            choices = _field(self._send(url, body | more, sampling, deadline), "choices", url)
            if not choices:
                raise EngineError("the server gave no choices", place=url, fix="check the server's log")
            found += [_completion(choice, sampling, url) for choice in choices[: wanted - len(found)]]
        return found if sampling.temperature > 0 else [_copy(found[0]) for _ in range(sampling.n)]

    def _send(self, url: str, body: dict[str, Any], sampling: Sampling, deadline: Deadline) -> Any:
        """Post a request; a setting of `_FORMS` that the server refuses by name is told as such."""
        asked = {name: field for name, (field, _) in _FORMS.items() if getattr(sampling, name)}
        for name in asked.keys() & self._refused.keys():
            raise _unable(name, self._refused[name], url)
        try:
            return self._poster.send("POST", url, body, deadline)
        except RequestError as error:
            for name, field in asked.items():
                if field in error.what:
                    self._refused[name] = error.what
                    raise _unable(name, error.what, url) from error
            raise

    def _request(self, model: str, prompt: Prompt, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        body |= {
            name: _plain(value) for name in _WHEN_SET if (value := getattr(sampling, name)) != getattr(_USUAL, name)
        }
        body |= {field: told(value) for name, (field, told) in _FORMS.items() if (value := getattr(sampling, name))}
        if isinstance(prompt, str):
            if sampling.logprobs or sampling.top_logprobs:
                body["logprobs"] = body.pop("top_logprobs", 0)
            return f"{self.base_url}/completions", body | {"prompt": prompt}
        if sampling.logprobs or sampling.top_logprobs:
            body["logprobs"] = True
        return f"{self.base_url}/chat/completions", body | {"messages": [dict(message) for message in prompt]}


def _plain(value: Any) -> Any:
    """Return a setting as the protocol has it: lists, and an object for pairs."""
    if not isinstance(value, tuple):
        return value
    pairs = all(isinstance(item, tuple) for item in value)
    return {str(token): bias for token, bias in value} if pairs else list(value)


def _json_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}


def _unable(name: str, what: str, url: str) -> UnsupportedError:
    return UnsupportedError(f"{what} ({url})", place=f"sampling.{name}", fix="leave it out, or ask another server")


def _completion(choice: Any, sampling: Sampling, url: str) -> Completion:
    """Read one choice of either kind of answer; only a refusal or a filter leaves it without text."""
    try:
        message = choice.get("message")
        text = choice["text"] if message is None else message["content"]
        reason = choice.get("finish_reason")
        extra: dict[str, Any] = {}
        if reason not in (None, "stop", "length"):
            extra["finish_reason"] = str(reason)
        if text is None:
            extra["refusal"] = str((message or {}).get("refusal") or reason)
            text = ""
        logprobs = None
        if (sampling.logprobs or sampling.top_logprobs) and choice.get("logprobs"):
            tokens, told = _logprobs(choice["logprobs"])
            if sampling.logprobs:
                extra["tokens"], logprobs = tokens, told
            if sampling.top_logprobs:
                extra["top_logprobs"] = _top_logprobs(choice["logprobs"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EngineError(
            f"the answer is not of the OpenAI form ({type(error).__name__}: {error}): {json.dumps(choice)[:200]}",
            place=url,
            fix="check that the address is that of an OpenAI-style server, /v1 included",
        ) from error
    ended = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
    return Completion(str(text), None, logprobs, ended, extra)


def _logprobs(found: dict[str, Any]) -> tuple[list[str], np.ndarray]:
    """Read log-probs of a chat answer (one entry per token) or a text answer (columns)."""
    if found.get("content") is not None:
        tokens = [entry["token"] for entry in found["content"]]
        values = [entry["logprob"] for entry in found["content"]]
    else:
        tokens, values = list(found["tokens"]), list(found["token_logprobs"])
    return tokens, np.array(values, dtype=np.float32)


def _top_logprobs(found: dict[str, Any]) -> list[dict[str, float]]:
    """Read text -> nats of the likeliest tokens at each place; of equal texts the likeliest counts."""
    if found.get("content") is None:
        return [{str(text): float(nats) for text, nats in one.items()} for one in found.get("top_logprobs") or ()]
    places = [entry.get("top_logprobs") or () for entry in found["content"]]
    pairs = [[(str(one["token"]), float(one["logprob"])) for one in place] for place in places]
    return [dict(sorted(place, key=lambda pair: pair[1])) for place in pairs]


def _copy(completion: Completion) -> Completion:
    logprobs = None if completion.logprobs is None else completion.logprobs.copy()
    return Completion(
        completion.text, None, logprobs, completion.finish_reason, json.loads(json.dumps(completion.extra))
    )


def _field(answer: Any, name: str, url: str) -> Any:
    if not isinstance(answer, dict) or not isinstance(answer.get(name), list):
        raise EngineError(
            f"the answer has no list {name!r}: {json.dumps(answer)[:200]}",
            place=url,
            fix="check that the address is that of an OpenAI-style server, /v1 included",
        )
    return answer[name]
