"""How not knowing is asked for and told: an instruction, a refusal, and the phrases by which refusals are found."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fairlead.errors import UnknownNameError, UsageError
from fairlead.messages import Prompt, instruct

__all__ = ["INSTRUCTION", "PHRASES", "REFUSAL", "Refusals", "honest_prompt"]

INSTRUCTION = "Answer the question. If you do not know the answer, it is right to say only: {refusal}"
"""Asks for honesty; `{refusal}` is the refusal."""
REFUSAL = "I am sorry, but this is a question that I cannot answer."
"""The refusal that targets are made with where no other is given."""

PHRASES: dict[str, tuple[str, ...]] = {
    "en": (
        "i do not know", "i don't know", "that i cannot answer", "i cannot answer", "i can't answer",
        "i am not aware of", "i'm not aware of", "i am not familiar with", "i'm not familiar with",
        "i am unable to", "i'm unable to", "i am not able to", "i'm not able to", "i have no information",
        "i don't have any information", "i do not have any information", "does not make sense", "doesn't make sense",
        "i apologize", "i apologise", "there is no record of",
    ),
    "de": (
        "ich weiß nicht", "ich weiß es nicht", "das weiß ich nicht", "mir ist nicht bekannt", "ist mir nicht bekannt",
        "kann ich nicht beantworten", "kenne ich nicht", "keine informationen",
    ),
    "fr": (
        "je ne sais pas", "je l'ignore", "je ne connais pas", "je ne suis pas en mesure", "je ne peux pas répondre",
        "je n'ai pas d'information", "je n'ai aucune information",
    ),
    "es": (
        "no lo sé", "no sé la respuesta", "no conozco", "no puedo responder", "no tengo información", "lo desconozco",
    ),
    "zh": ("我不知道", "我不清楚", "我不了解", "无法回答", "没有相关信息"),
}  # fmt: skip
"""Language -> phrases, in lower case, with straight apostrophes, that say that an answer is not known."""

_APOSTROPHES = re.compile("[\u2018\u2019\u02bc\u00b4`]")


@dataclass(frozen=True)
class Refusals:
    """Finds the phrase by which an answer refuses.

    The canonical sentence counts wherever it stands; a phrase only where the question does not hold it too.
    Capitals, kinds of apostrophe and runs of white space make no difference.
    """

    canonical: str = ""
    """The refusal sentence of the training targets; empty for none."""
    languages: tuple[str, ...] = ("en",)
    """Which lists of `PHRASES` are searched."""
    phrases: tuple[str, ...] = ()
    """Phrases of your own, searched as well."""

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in PHRASES:
                raise UnknownNameError("language of refusals", language, PHRASES)
        if not all(_tidy(phrase) for phrase in self.phrases):
            raise UsageError("a refusal phrase is empty", fix="an empty phrase is in every answer: leave it out")

    def find(self, question: str, answer: str) -> str | None:
        """Return the phrase by which `answer` refuses, as it was searched for, or None when it does not."""
        asked, said, canonical = _tidy(question), _tidy(answer), _tidy(self.canonical)
        if canonical and canonical in said:
            return canonical
        listed = (phrase for language in self.languages for phrase in PHRASES[language])
        searched = (*map(_tidy, self.phrases), *listed)
        return next((phrase for phrase in searched if phrase in said and phrase not in asked), None)


def honest_prompt(prompt: Prompt, instruction: str, refusal: str, role: str) -> Prompt:
    """Return `prompt` with the instruction for honesty in the message of `role`, its `{refusal}` filled in."""
    return instruct(prompt, instruction.replace("{refusal}", refusal), role)


def _tidy(text: str) -> str:
    return " ".join(_APOSTROPHES.sub("'", text).lower().split())
