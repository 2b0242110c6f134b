"""The server described for programs, as OpenAPI 3.2: what is asked and answered comes from the models of either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import fairlead
from fairlead.serve import replies
from fairlead.serve.schema import ChatRequest, CompletionRequest

__all__ = ["document"]

_REF = "#/components/schemas/{model}"
_MODELS: tuple[type[BaseModel], ...] = (
    ChatRequest,
    CompletionRequest,
    *(getattr(replies, name) for name in replies.__all__),
)
_REFUSALS = {
    400: "The request is wrong; `param` names the field",
    401: "The API key is missing or wrong",
    403: "A server without keys was asked under a name that is not this machine's",
    404: "There is no such model",
    405: "The path has no such method",
    413: "The request is too large",
    429: "Too many requests wait",
    500: "The answer could not be made",
    502: "A model elsewhere could not answer",
    504: "A model elsewhere did not answer in time",
}
_COMPAT = {
    "name": "X-Compat",
    "in": "header",
    "description": "`lenient`: unknown fields outside `steering` are ignored, and named in the header `X-Ignored`",
    "schema": {"type": "string"},
}

_IGNORED = {"description": "Fields that were ignored, where `X-Compat` allows it", "schema": {"type": "string"}}


def document(served: Sequence[str], *, max_tokens: int, keys: bool) -> dict[str, Any]:
    """Describe a server.

    Args:
        served: names of models.
        max_tokens: most tokens of an answer.
        keys: whether requests must bring a key.
    """
    ask = _Operations(keys)
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    paths = {
        "/health": {"get": ask.get("health", "Whether the server is there", replies.Health, open_=True)},
        "/metrics": {"get": ask.get("metrics", "Requests, tokens and seconds, for Prometheus", None)},
        "/v1/models": {"get": ask.get("models", "What is served", replies.ModelList)},
        "/v1/models/{name}": {
            "get": ask.get("model", "One that is served", replies.ServedModel, 404) | {"parameters": [name]}
        },
        "/v1/chat/completions": {
            "post": ask.post("chat", "Answer a conversation", ChatRequest, replies.ChatReply, replies.ChatChunk)
        },
        "/v1/completions": {
            "post": ask.post("complete", "Continue a text", CompletionRequest, replies.TextReply, replies.TextChunk)
        },
    }
    return {
        "openapi": "3.2.0",
        "info": {"title": "Fairlead", "version": fairlead.__version__},
        "paths": paths,
        "components": {"schemas": _schemas(served, max_tokens), **ask.components},
    }


def _schemas(served: Sequence[str], max_tokens: int) -> dict[str, Any]:
    _, found = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REF)
    schemas = found["$defs"]
    for request in (ChatRequest, CompletionRequest):
        fields = schemas[request.__name__]["properties"]
        fields["model"]["enum"] = list(served)
        for name in ("max_tokens", "max_completion_tokens"):
            for kind in fields.get(name, {}).get("anyOf", ()):
                if kind.get("type") == "integer":
                    kind["maximum"] = max_tokens
    return schemas


class _Operations:
    """Writes operations; `keys` says whether they ask for a key."""

    def __init__(self, keys: bool):
        self.keys = keys
        self.components = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if keys else {}

    def get(self, name: str, about: str, reply: type[BaseModel] | None, *refusals: int, open_: bool = False) -> Any:
        content = {"text/plain": {"schema": {"type": "string"}}} if reply is None else _json(reply)
        refused = refusals if open_ else [*refusals, 401 if self.keys else 403]
        return self._operation(name, about, content, refused, open_)

    def post(
        self, name: str, about: str, request: type[BaseModel], reply: type[BaseModel], chunk: type[BaseModel]
    ) -> Any:
        content = {**_json(reply), "text/event-stream": {"itemSchema": _event(chunk)}}
        refused = [400, 404, 413, 429, 500, 502, 504, 401 if self.keys else 403]
        body = {"required": True, "content": _json(request)}
        told = self._operation(name, about, content, refused, False)
        told["responses"]["200"]["headers"] = {"X-Ignored": _IGNORED}
        return {**told, "requestBody": body, "parameters": [_COMPAT]}

    def _operation(self, name: str, about: str, content: Any, refusals: Sequence[int], open_: bool) -> dict[str, Any]:
        refused = {str(status): _refusal(status) for status in sorted(refusals)}
        answers = {"200": {"description": "Done", "content": content}, **refused}
        secured = {"security": [{"key": []}]} if self.keys and not open_ else {}
        return {"operationId": name, "summary": about, "responses": answers, **secured}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}


def _event(chunk: type[BaseModel]) -> dict[str, Any]:
    bodies = {"anyOf": [{"$ref": _REF.format(model=model.__name__)} for model in (chunk, replies.Refusal)]}
    body = {"type": "string", "contentMediaType": "application/json", "contentSchema": bodies}
    return {"type": "object", "properties": {"data": {"anyOf": [{"const": "[DONE]"}, body]}}, "required": ["data"]}


def _refusal(status: int) -> dict[str, Any]:
    seconds = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "string"}}}
    headers = {"headers": seconds} if status == 429 else {}
    return {"description": _REFUSALS[status], "content": _json(replies.Refusal), **headers}
