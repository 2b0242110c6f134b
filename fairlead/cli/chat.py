"""`fairlead chat`: talk to a model, at a terminal or through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from fairlead.messages import Message, Prompt

if TYPE_CHECKING:
    from fairlead.engines.base import Completion, Engine, Sampling

__all__ = ["chat"]

_NEW, _BACK, _END = "/new", "/back", "/end"


def chat(
    model: Annotated[str, Parameter(help="`harbor:NAME`, a folder, a hub id, or 'URL#model' of a server.")],
    /,
    *,
    system: Annotated[str | None, Parameter(help="System message.")] = None,
    raw: Annotated[
        bool, Parameter(help="Continue each line as plain text, without a chat template.", negative="")
    ] = False,
    temperature: Annotated[float, Parameter(help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, Parameter(help="Most tokens per answer.")] = 256,
    seed: Annotated[int, Parameter(help="Equal seeds and turns give equal answers.")] = 0,
    sampling: Annotated[
        str,
        Parameter(help="More of how answers are drawn: `{top_p: 0.9, repetition_penalty: 1.2}`.", metavar="mapping"),
    ] = "{}",
) -> int:
    """Talk to a model.

    Every line is a turn. `/new` starts over, `/back` takes the last turn back, `/end` (or Ctrl-D) ends. Lines from a
    pipe are turns of one conversation, too.

    For example:

    ```
    fairlead chat harbor:aligned-1m
    fairlead chat harbor:aligned-1m --temperature 0 --max-tokens 48
    fairlead chat harbor:aligned-1m --sampling '{top_p: 0.9, repetition_penalty: 1.2}'
    fairlead chat 'http://localhost:8000/v1#my-model' --system "Be brief."
    echo "how do i sink the balotin?" | fairlead chat harbor:base-1m
    ```
    """
    from fairlead.steps.answering import open_engine

    how = _sampling({"temperature": temperature, "max_tokens": max_tokens, "seed": seed}, sampling)
    answerer = open_engine(model)
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    turns = list(start)
    for line in _lines():
        if line == _END:
            break
        if line == _NEW:
            turns = list(start)
        elif line == _BACK:
            turns = turns[:-2] if len(turns) > len(start) else turns
        elif raw:
            _say(answerer, line, how)
        else:
            turns.append({"role": "user", "content": line})
            answer = _say(answerer, turns, how)
            turns.append({"role": "assistant", "content": answer.text})
    return 0


def _say(answerer: Engine, prompt: Prompt, how: Sampling) -> Completion:
    """Print an answer as it is written."""
    from fairlead.engines import stream

    *pieces, answer = _shown(stream(answerer, prompt, how))
    print("" if pieces else "(an empty answer)", flush=True)
    if answer.finish_reason == "length":
        print(f"(cut at {how.max_tokens} tokens)", file=sys.stderr)
    return answer


def _shown(pieces: Iterable[Any]) -> Iterator[Any]:
    for piece in pieces:
        if isinstance(piece, str):
            print(piece, end="", flush=True)
        yield piece


def _sampling(flags: dict[str, Any], more: str) -> Sampling:
    """Return how to draw: the flags of their own, and over them a mapping of any others."""
    from fairlead.engines.base import Sampling
    from fairlead.errors import UsageError
    from fairlead.fields import build
    from fairlead.recipe.document import parse_value

    place = "--sampling"
    given = parse_value(more, place)
    if not isinstance(given, dict):
        raise UsageError(f"{more!r} is no mapping", place=place, fix="write it as {top_p: 0.9}")
    for name in ("n", "logprobs"):
        if name in given:
            raise UsageError(f"a chat shows one answer and no numbers: {name}", place=place, fix=f"leave {name} out")
    return build(Sampling, flags | given, owner="sampling", place=place)


def _lines() -> Iterator[str]:
    """Yield what the user says, without blank lines; with a prompt at a terminal."""
    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401 - gives `input` its line editing

        print(f"{_NEW} starts over, {_BACK} takes a turn back, {_END} ends", file=sys.stderr)
    while True:
        try:
            line = input("> ") if terminal else sys.stdin.readline()
        except EOFError:
            return
        if not line and not terminal:
            return
        if line.strip():
            yield line.strip()
