"""Rules for the first token that a model writes behind the text before a user's words.

Magpie's code has two: for Llama 3.1 the tokens of one to four "#" are ruled out there, since the model else begins with
a heading, and "flaming" divides the logits by 1.2, which spreads what instructions begin with. The first token is drawn
by itself under the rule; what follows is drawn as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["FIRST", "FirstToken", "draw_behind", "rule_of"]

_BANNED = -100.0
_PART = "\ufffd"
"""What stands for the bytes of a character that the token does not complete."""


@dataclass(frozen=True)
class FirstToken:
    """How the first token of an instruction is drawn."""

    ban: tuple[int, ...] = ()
    """Ids of tokens that are as good as ruled out: their logits are lowered by 100."""
    divide: float = 1.0
    """What the logits are divided by, on top of the temperature; above 1 the first tokens become more alike."""

    def __post_init__(self) -> None:
        if not self.divide > 0:
            raise UsageError(f"magpie.first_token.divide is {self.divide}", fix="use a number above 0, such as 1.2")
        if not self.ban and self.divide == 1:
            raise UsageError("magpie.first_token changes nothing", fix="give ids to ban, or divide")

    def sampling(self, how: Sampling) -> Sampling:
        """Return how the first token is drawn, where all are drawn in a given way."""
        bias: Mapping[int, float] = dict(how.logit_bias) | dict.fromkeys(self.ban, _BANNED)
        return replace(how, max_tokens=1, temperature=how.temperature * self.divide, logit_bias=bias, min_tokens=0)


FIRST = {"llama-3.1": FirstToken(ban=(2, 567, 14711, 827)), "flaming": FirstToken(divide=1.2)}
"""The rules of the paper's code, by name."""


def rule_of(rule: str | FirstToken | None) -> FirstToken | None:
    """Return a rule, by its name or as it is.

    Raises:
        UnknownNameError: a name that is not known.
    """
    if isinstance(rule, str):
        if rule not in FIRST:
            raise UnknownNameError("rule for the first token", rule, FIRST, place="magpie.first_token")
        return FIRST[rule]
    return rule


def draw_behind(model: Engine, opening: str, how: Sampling, rule: FirstToken | None) -> list[Completion]:
    """Return `how.n` completions of a raw text, their first tokens drawn under a rule.

    A completion depends on its place and on those before it alone. One whose first token is part of a character only is
    empty.
    """
    if rule is None:
        return model.generate([opening], how)[0]
    firsts = model.generate([opening], rule.sampling(how))[0]
    places: dict[str, list[int]] = {}
    for place, first in enumerate(firsts):
        if first.finish_reason is FinishReason.LENGTH and first.text and _PART not in first.text:
            places.setdefault(first.text, []).append(place)
    found = [Completion("") for _ in firsts]
    for text, own in places.items():
        rest = replace(how, n=len(own), max_tokens=how.max_tokens - 1)
        for place, completion in zip(own, model.generate([opening + text], rest)[0], strict=True):
            found[place] = replace(completion, text=text + completion.text, token_ids=None, logprobs=None)
    return found
