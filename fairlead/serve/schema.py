"""What a client may ask: the fields of the OpenAI requests that this server honours. Any other is an error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fairlead.engines.base import Sampling
from fairlead.serve.methods import Method

__all__ = ["ChatRequest", "CompletionRequest", "Request"]

_Whole = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""JSON knows numbers only: 3.0 is a whole one."""
_TokenId = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,8})$")]
_Stop = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]


def _if_given(field: str, **then: Any) -> dict[str, Any]:
    """Say in a schema what holds if a field is there."""
    return {"if": {"properties": {field: {"not": {"type": "null"}}}, "required": [field]}, "then": then}


def _only_with(field: str, other: str) -> dict[str, Any]:
    """Say in a schema that a field may be there only if another one is true."""
    return _if_given(field, properties={other: {"const": True}}, required=[other])


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class _Part(_Strict):
    type: Literal["text"]
    text: str


class _Message(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]

    def plain(self) -> dict[str, str]:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class _Format(_Strict):
    type: Literal["text"]


class _StructuredOutputs(_Strict):
    choice: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)]


def _free(value: Any) -> Any:
    """Refuse a form that answers are not held to here."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("json_schema", "json_object"):
        told = "answers are not held to JSON here; one of fixed texts is asked for by structured_outputs.choice"
        raise ValueError(f"response_format: {told}")
    return value


class _StreamOptions(_Strict):
    include_usage: bool = False


class Request(_Strict, ABC):
    """What both kinds of request have."""

    model_config = ConfigDict(json_schema_extra={"allOf": [_only_with("stream_options", "stream")]})
    unsaid_tokens: ClassVar[int | None] = None
    """Most tokens per answer where the request does not say; None for as many as the server writes."""

    model: str
    """Name of one of the served models."""
    n: Annotated[int, Field(ge=1, le=16), _Whole] = 1
    """Answers."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest set of tokens whose probabilities reach this is kept."""
    top_k: Annotated[int, Field(ge=0), _Whole] = 0
    """Tokens kept by probability; 0 keeps all."""
    seed: Annotated[int, _Whole] = 0
    """Answer i is what a request for one answer with this seed + i gives."""
    stop: Annotated[str, Field(min_length=1)] | _Stop | None = None
    """Texts that end an answer."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Tokens less likely than this share of the likeliest one's probability are not drawn; 0 keeps all."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """Taken from the logits of tokens that the answer so far has."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """Taken from the logit of a token once for every time that the answer so far has it."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Divides the positive and multiplies the negative logits of tokens that the prompt or the answer so far has."""
    logit_bias: dict[_TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = None
    """Token id -> what is added to its logit."""
    min_tokens: Annotated[int, Field(ge=0), _Whole] = 0
    """Tokens before which no answer ends by itself; at most its most tokens."""
    ignore_eos: bool = False
    """Whether an answer goes on behind an end-of-turn token."""
    stop_token_ids: list[Annotated[int, Field(ge=0), _Whole]] | None = None
    """Tokens that end an answer besides the model's own ones."""
    response_format: Annotated[_Format | None, BeforeValidator(_free)] = None
    """Free text is all there is; JSON is refused."""
    structured_outputs: _StructuredOutputs | None = None
    """With `choice`, a list of texts of which an answer is one, whole."""
    stream: bool = False
    """Whether the answer comes piece by piece."""
    stream_options: _StreamOptions | None = None
    """With `include_usage`, a stream's last event counts tokens."""
    steering: Method | list[Method] | None = None
    """The decoding method of this request, or several, the outermost first."""
    user: str | None = None
    """Not used."""
    metadata: dict[str, Any] | None = None
    """Not used."""

    @model_validator(mode="after")
    def _consistent(self) -> Request:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with stream")
        return self

    @property
    @abstractmethod
    def prompt_of_model(self) -> Any:
        """The prompt as engines take it."""

    @property
    @abstractmethod
    def wanted_tokens(self) -> int | None:
        """Most tokens per answer, or None where the request leaves it to the server."""

    @property
    def methods(self) -> list[Method]:
        """The decoding methods of this request, the outermost first."""
        return [] if self.steering is None else [self.steering] if isinstance(self.steering, Method) else self.steering

    @property
    def top(self) -> int | None:
        """How many likeliest tokens are told at each place; None for no log-probs."""
        return None

    def sampling(self, most: int) -> Sampling:
        """Return how to draw; `most` tokens where the request does not say.

        Raises:
            UsageError: settings that do not go together; `place` is `sampling.` and the field.
        """
        stop = () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        return Sampling(
            max_tokens=self.wanted_tokens or min(most, self.unsaid_tokens or most),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=stop,
            seed=self.seed,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()},
            min_tokens=self.min_tokens,
            ignore_eos=self.ignore_eos,
            stop_token_ids=tuple(self.stop_token_ids or ()),
            choices=() if self.structured_outputs is None else tuple(self.structured_outputs.choice),
        )


class ChatRequest(Request):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                _only_with("stream_options", "stream"),
                _only_with("top_logprobs", "logprobs"),
                _if_given("max_tokens", properties={"max_completion_tokens": {"type": "null"}}),
            ]
        }
    )
    messages: Annotated[list[_Message], Field(min_length=1)]
    """The conversation."""
    max_tokens: Annotated[int, Field(ge=1), _Whole] | None = None
    """Most tokens per answer."""
    max_completion_tokens: Annotated[int, Field(ge=1), _Whole] | None = None
    """The same under its newer name."""
    logprobs: bool = False
    """Whether tokens come with log-probs (nats, of the untempered distribution)."""
    top_logprobs: Annotated[int, Field(ge=0, le=20), _Whole] | None = None
    """How many likeliest tokens are told at each place."""

    @model_validator(mode="after")
    def _consistent_chat(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: only with logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("max_tokens: give it or max_completion_tokens, not both")
        return self

    @property
    def prompt_of_model(self) -> list[dict[str, str]]:
        """The messages."""
        return [message.plain() for message in self.messages]

    @property
    def wanted_tokens(self) -> int | None:
        """Either name's value."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def top(self) -> int | None:
        """0 or more with `logprobs`."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(Request):
    """`POST /v1/completions`: text that is continued, without a chat template."""

    unsaid_tokens = 16
    prompt: str
    """The text."""
    max_tokens: Annotated[int, Field(ge=1), _Whole] | None = None
    """Most tokens per answer; by default 16."""

    @property
    def prompt_of_model(self) -> str:
        """The text."""
        return self.prompt

    @property
    def wanted_tokens(self) -> int | None:
        """`max_tokens`."""
        return self.max_tokens
