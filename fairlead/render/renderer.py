"""The renderer itself: prompts and completions to tokens, with what is trained.

Three promises hold for every row, or an error says which one breaks:

- the tokens of a row begin with exactly the tokens that generation would be given as its prompt;
- what is trained is what the model itself must write: each assistant turn up to and including its end-of-turn token;
- there is one beginning-of-sequence token where the tokenizer has the habit of one, and never more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from fairlead.errors import RenderError
from fairlead.messages import Message, Prompt
from fairlead.render.chat import ChatTemplate, ChatText, Turn
from fairlead.render.encoder import Encoded, Encoder
from fairlead.render.spelling import Spelling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatStrings", "Rendered", "Renderer", "Span"]

_QUESTION: Message = {"role": "user", "content": "Where is it?"}
_ANSWER: Message = {"role": "assistant", "content": "By the river."}


@dataclass(frozen=True)
class Span:
    """Where one message's content stands."""

    role: str
    """system, user or assistant; prompt or completion for raw text."""
    start: int
    """Position of its first token."""
    end: int
    """Position after its last token."""


@dataclass(frozen=True)
class Rendered:
    """One row as tokens."""

    ids: list[int]
    """Token ids [T]."""
    loss_mask: list[bool]
    """[T]: whether a token is trained. At least one is, and never the first: nothing predicts it."""
    spans: list[Span]
    """Contents of the messages, in order."""
    split: int
    """Prompt tokens; `ids[split:]` is the completion. At least 1."""


@dataclass(frozen=True)
class ChatStrings:
    """What a chat template writes around turns, special tokens as text."""

    pre_query: str
    """Before the first user content."""
    post_query: str
    """Between a user content and the answer to it."""
    between: str
    """Between an answer and the next user content."""
    ends: frozenset[int]
    """Special tokens in these texts and those that end a turn: a user's turn has none of them in it."""
    mark: str
    """The words that end a user's turn where no special token does ("[/INST]"); empty where one does."""


class Renderer:
    """Turns prompts and completions into tokens with one tokenizer and its chat template.

    Args:
        tokenizer: a fast tokenizer of transformers.
        place: what errors call it; its own name by default.

    Raises:
        RenderError: the tokenizer has no offsets, or its template breaks a promise of this module.
    """

    stops: frozenset[int]
    """Ids that end an assistant turn: the template's end-of-turn tokens and the end-of-sequence token."""
    pre_query: str
    """The template's text before a chat's first user content; empty without a template."""
    fingerprint: str
    """64 hex digits that change with the chat template, the special tokens or the tokens before a text."""
    training_problem: str | None
    """Why no chat can be rendered with its answer, only prompts: the template's generation prompt (which may open a
    thought) is not how its assistant turns begin. None when they can."""
    history_problem: str | None
    """Why conversations with several trained turns cannot be rendered: the template writes past turns differently
    than it wrote them as the last turn. None when they can."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, place: str | None = None):
        self.tokenizer = tokenizer
        self.place = place or getattr(tokenizer, "name_or_path", "") or "tokenizer"
        self._encoder = Encoder(tokenizer, self.place)
        self._chat = ChatTemplate(tokenizer, self.place, list(self._encoder.specials.values()))
        self.stops = frozenset(() if self._encoder.end is None else (self._encoder.end,))
        self.pre_query, self.training_problem, self.history_problem, self._around = "", None, None, ("", "")
        if tokenizer.chat_template:
            self._check_template()
        self.fingerprint = self._fingerprint()

    def prompt(self, prompt: Prompt) -> list[int]:
        """Return the tokens that an assistant, or the continuation of raw text, is to follow.

        Args:
            prompt: raw text (the tokenizer's own opening tokens, no template), or messages that end with the user's
                or system's (the template with its generation prompt).

        Raises:
            RenderError: messages that the template refuses or drops, an unknown role, text with a special token.
        """
        text = prompt if isinstance(prompt, str) else self._chat.prompt(prompt)
        return self._encoder.encode(text).ids

    def example(self, prompt: Prompt, completion: str | Sequence[Message]) -> Rendered:
        """Return a prompt with its completion, the completion's assistant turns trained.

        `ids[:split] == prompt(prompt)` whenever the completion is a text or starts with an assistant turn (and the
        prompt has a token). With an empty list as prompt, the completion is a whole conversation. An empty answer is
        trained as its end-of-turn token.

        Raises:
            RenderError: as `prompt`; also no assistant turn to train, or a template that rewrites earlier turns.
        """
        if isinstance(prompt, str):
            if not isinstance(completion, str):
                raise self._error("a text prompt has a list of messages as completion", "make both of one form")
            return self._raw_example(prompt, completion)
        if isinstance(completion, str):
            completion = [{"role": "assistant", "content": completion}]
        chat = self._chat.conversation([*prompt, *completion], len(prompt))
        return self._chat_example(chat, [message["role"] for message in (*prompt, *completion)])

    def user_opening(self, history: Sequence[Message] = ()) -> str:
        """Return the raw text after which the user writes the next turn; given as a prompt, a model writes that turn.

        Args:
            history: the turns so far, such as a system message, or a chat that ends with an answer.

        Raises:
            RenderError: there is no chat template, or it refuses or drops one of the messages.
        """
        return self._chat.opening([*history, _QUESTION])

    @cached_property
    def strings(self) -> ChatStrings:
        """What the template writes around the turns of a plain chat.

        Raises:
            RenderError: there is no chat template, or it refuses such a chat.
        """
        post_query = self._chat.closing([_QUESTION])
        between = self._chat.between([_QUESTION, _ANSWER, _QUESTION], 1)
        written = "".join((self.user_opening(), post_query, between))
        ends = frozenset(number for number, text in self._encoder.specials.items() if text and text in written)
        first = self._chat.parted(post_query.lstrip())[0].strip()
        return ChatStrings(self.user_opening(), post_query, between, ends | self.stops, first)

    def text(self, text: str) -> list[int]:
        """Return a pre-training document: the tokenizer's own opening tokens, the text, end of sequence.

        Raises:
            RenderError: the tokenizer has no end-of-sequence token.
        """
        return self._encoder.ended(self._encoder.encode(text).ids)

    def decode(self, ids: Sequence[int], *, raw: bool = False, through: bool = False) -> str:
        """Return the text of a completion: up to its first stop (`through`: all of it), without special tokens.

        What the template itself writes around every answer (a space, an empty thought) is dropped too, unless the
        completion continues `raw` text.
        """
        said = ids if through else takewhile(lambda i: i not in self.stops, ids)
        text = self._encoder.decode(list(said), special=False)
        before, after = ("", "") if raw else self._around
        return text.removeprefix(before).removesuffix(after)

    @cached_property
    def spelling(self) -> Spelling:
        """What tokens spell, and how a text is written, in the middle of an answer."""
        return Spelling(self.tokenizer, self._encoder, self.stops)

    def parts(self, rendered: Rendered) -> list[tuple[str, bool]]:
        """Return a row as runs of text and whether each is trained, special tokens included, to be looked at."""
        runs: list[tuple[list[int], bool]] = []
        for token, trained in zip(rendered.ids, rendered.loss_mask):
            if not runs or runs[-1][1] != trained:
                runs.append(([], trained))
            runs[-1][0].append(token)
        return [(self._encoder.decode(ids, special=True), trained) for ids, trained in runs]

    def _raw_example(self, prompt: str, completion: str) -> Rendered:
        encoded = self._encoder.encode_at(prompt + completion, [prompt])
        split = max(1, encoded.at(len(prompt)))
        ids = self._encoder.ended(encoded.ids)
        if split >= len(ids):
            raise self._error("nothing to train: the row has a single token", "give it a prompt or a completion")
        spans = [Span("prompt", 0, split), Span("completion", split, len(ids))]
        return Rendered(ids, [i >= split for i in range(len(ids))], spans, split)

    def _chat_example(self, chat: ChatText, roles: list[str]) -> Rendered:
        encoded = self._encoder.encode_at(chat.text, [turn.before for turn in chat.turns])
        mask = [False] * len(encoded.ids)
        for turn in chat.turns:
            first, last = encoded.at(len(turn.before)), self._end_of_turn(encoded, turn)
            mask[first : last + 1] = [True] * (last + 1 - first)
        spans = [Span(role, encoded.at(start), encoded.at(end)) for role, (start, end) in zip(roles, chat.contents)]
        return Rendered(encoded.ids, mask, spans, mask.index(True))

    def _end_of_turn(self, encoded: Encoded, turn: Turn) -> int:
        """Return the index of the first special token that the template writes after the turn's content."""
        for i in range(encoded.at(turn.answered), encoded.at(turn.end)):
            if encoded.ids[i] in self._encoder.specials:
                return i
        raise self._error(
            "the chat template does not end an assistant turn with a special token",
            "let it write the end-of-turn token after the content, and mark that token as special in the tokenizer",
        )

    def _check_template(self) -> None:
        """Render two small chats, to see that the promises hold and how turns begin and end."""
        self._check_opening(self.prompt([_QUESTION]))
        self.pre_query = self._chat.opening([_QUESTION])
        answered = self._chat.conversation([_QUESTION, _ANSWER], 1, trained=False)
        seen = self._chat_example(answered, ["user", "assistant"])
        self.stops |= {seen.ids[end] for end in _ends(seen)}
        try:
            self._around = self._written_around(self._chat.conversation([_QUESTION, _ANSWER], 1))
        except RenderError as error:
            self.training_problem = self.history_problem = error.what
            return
        try:
            chat = self.example((), [_QUESTION, _ANSWER, _QUESTION, _ANSWER])
        except RenderError as error:
            self.history_problem = error.what
        else:
            self.stops |= {chat.ids[end] for end in _ends(chat)}

    def _written_around(self, chat: ChatText) -> tuple[str, str]:
        """Return what the template writes between generation prompt and content, and content and end of turn."""
        (turn,), (start, _) = chat.turns, chat.contents[-1]
        after = self._chat.parted(chat.text[turn.answered : turn.end])[0]
        return "".join(self._chat.parted(chat.text[len(turn.before) : start])), after

    def _check_opening(self, ids: list[int]) -> None:
        bos: Any = self.tokenizer.bos_token_id
        if bos is None:
            return
        shared = bos == self._encoder.end  # then it also ends turns, and only the first two places can tell
        count = (ids[:2] if shared else ids).count(bos)
        if count > 1 or (bos in self._encoder.opening and count == 0):
            raise self._error(
                f"a chat begins with {count} tokens {self.tokenizer.bos_token!r}, not one",
                "let the chat template write it once, as its first token",
            )

    def _fingerprint(self) -> str:
        specials = {str(k): str(v) for k, v in self.tokenizer.special_tokens_map.items()}
        opening, size = self._encoder.opening, len(self.tokenizer)
        state = [self.tokenizer.chat_template, specials, opening, sorted(self.stops), size]
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    def _error(self, what: str, fix: str) -> RenderError:
        return RenderError(what, place=self.place, fix=fix)


def _ends(rendered: Rendered) -> list[int]:
    """Return the positions of the last token of every trained run."""
    after = [*rendered.loss_mask[1:], False]
    return [i for i, trained in enumerate(rendered.loss_mask) if trained and not after[i]]
