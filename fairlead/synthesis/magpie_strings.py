"""What stands before a user's words, as raw text, and where these words end.

A model of this process has its chat template, from which everything is derived. A server's template is out of reach:
its strings are said by family, or one's own. They begin without a beginning-of-sequence token, which servers put there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from fairlead.engines.base import Sampling
from fairlead.engines.cache import Cache
from fairlead.engines.meter import Meter
from fairlead.errors import RenderError, UnknownNameError, UnsupportedError, UsageError
from fairlead.messages import Message

if TYPE_CHECKING:
    from fairlead.render import Renderer

__all__ = ["FAMILIES", "Strings", "Writer", "trimmed", "writer_of"]


@dataclass(frozen=True)
class Strings:
    """What a chat template writes around the turns."""

    pre_query: str
    """Before a chat's first user text."""
    post_query: str
    """Between a user's text and the answer to it."""
    between: str
    """Between an answer and the next user text."""
    system: str = ""
    """How a system text is written before `pre_query`, with `{system}`; empty where the family has none."""
    default_system: str = ""
    """The system text that the family's template writes where none is given."""
    stop: tuple[str, ...] = ()
    """Texts that end a user's turn."""

    def __post_init__(self) -> None:
        if self.system and "{system}" not in self.system:
            what = "magpie.template.system does not say where the text stands"
            raise UsageError(what, fix="write {system} there")

    def opening(self, history: Sequence[Message]) -> str:
        """Return the text after which the user writes.

        Raises:
            UnsupportedError: a system message for a family that has none.
        """
        turns = list(history)
        system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else self.default_system
        if system and not self.system:
            what = "these strings of a chat template have no place for a system text"
            raise UnsupportedError(what, place="magpie.template", fix="say where it stands: system: '...{system}...'")
        text = (self.system.replace("{system}", system) if system else "") + self.pre_query
        for turn in turns:
            text += turn["content"] + (self.post_query if turn["role"] == "user" else self.between)
        return text

    def ending(self, sampling: Sampling) -> Sampling:
        """Return how a user's turn is drawn: it ends at `stop`."""
        return replace(sampling, stop=tuple(dict.fromkeys((*sampling.stop, *self.stop))))


def _chatml(default_system: str = "") -> Strings:
    return Strings(
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n<|im_start|>user\n",
        "<|im_start|>system\n{system}<|im_end|>\n",
        default_system,
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    )


def _gemma(break_: str) -> Strings:
    turn = "<start_of_turn>user" + break_
    stop = ("<start_of_turn>", "<end_of_turn>", "<eos>", "<bos>")
    return Strings(turn, "<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>\n" + turn, stop=stop)


FAMILIES: dict[str, Strings] = {
    "llama-3": Strings(
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>",
        stop=("<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    ),
    "qwen2": _chatml(),
    "qwen2.5": _chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "gemma": _gemma("\n"),
    "gemma-2": _gemma("\n\n"),
    "phi-3": Strings(
        "<|user|>\n",
        "<|end|>\n<|assistant|>\n",
        "<|end|>\n<|user|>\n",
        "<|system|>\n{system}<|end|>\n",
        stop=("<|end|>", "<|endoftext|>", "<|user|>", "<|assistant|>"),
    ),
    "mistral": Strings("[INST] ", " [/INST]", "</s>[INST] ", stop=("[/INST]", "[INST]", "</s>")),
}
"""Families whose strings are known, without their beginning-of-sequence token; Gemma 2 with the second line break that
Magpie puts there."""


class Writer(Protocol):
    """Knows what precedes a user's text and what ends it."""

    def opening(self, history: Sequence[Message]) -> str:
        """Return the text after which the user writes."""
        ...

    def ending(self, sampling: Sampling) -> Sampling:
        """Return how a user's turn is drawn."""
        ...


@dataclass(frozen=True)
class _Local:
    """The strings of a model whose template is at hand."""

    renderer: Renderer
    given: Strings | None

    def opening(self, history: Sequence[Message]) -> str:
        if self.given is not None:
            return self.given.opening(history)
        try:
            return self.renderer.user_opening(history)
        except RenderError as error:
            if history and history[0]["role"] == "system" and not self._takes_system():
                fix = 'leave domain, language and system out, and set follow_up: "" for several turns'
                raise UnsupportedError("the chat template takes no system text", place=error.place, fix=fix) from error
            raise

    def ending(self, sampling: Sampling) -> Sampling:
        if self.given is not None:
            return self.given.ending(sampling)
        strings = self.renderer.strings
        ids = tuple(dict.fromkeys((*sampling.stop_token_ids, *sorted(strings.ends))))
        stop = (*sampling.stop, strings.mark) if strings.mark else sampling.stop
        return replace(sampling, stop=tuple(dict.fromkeys(stop)), stop_token_ids=ids)

    def _takes_system(self) -> bool:
        try:
            self.renderer.user_opening([{"role": "system", "content": "Be kind."}])
        except RenderError:
            return False
        return True


def writer_of(engine: Any, template: str | Strings | None) -> Writer:
    """Return what knows the strings of an engine: its own template, a family's strings, or those that are given.

    Raises:
        UnknownNameError: a family that is not known.
        UnsupportedError: an engine whose template is out of reach and not given, one whose template has no place that
            a user writes at, or one that takes no raw text.
    """
    given = _family(template) if isinstance(template, str) else template
    renderer: Renderer | None = getattr(engine, "renderer", None)
    if renderer is None and not getattr(engine, "remote", False):
        what = "takes no raw text, only whole user turns"
        raise UnsupportedError(what, place=_called(engine), fix="name a local chat model or a server")
    if renderer is None:
        if given is not None:
            return given
        fix = f"name its family, one of {', '.join(FAMILIES)}, in `template`, or give the strings"
        raise UnsupportedError("its chat template is out of reach", place=_called(engine), fix=fix)
    try:
        _ = given or renderer.strings
    except RenderError as error:
        what = f"what precedes a user's text cannot be told from its template: {error.what}"
        fix = "use a chat model, or give the strings in `template`"
        raise UnsupportedError(what, place=error.place, fix=fix) from error
    return _Local(renderer, given)


def trimmed(text: str, stops: Sequence[str] = ()) -> str:
    """Return a text up to the earliest of some stop texts, without white space around it."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places, default=len(text))].strip()


def _family(name: str) -> Strings:
    if name not in FAMILIES:
        raise UnknownNameError("family of chat templates", name, FAMILIES, place="magpie.template")
    return FAMILIES[name]


def _called(engine: Any) -> str:
    while isinstance(engine, Cache | Meter):
        engine = engine.engine
    return str(getattr(engine, "name", "") or getattr(engine, "base_url", "") or type(engine).__name__)
