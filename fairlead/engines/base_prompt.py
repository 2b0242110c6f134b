"""How a base model is asked what an aligned one is asked in a chat."""

from __future__ import annotations

from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt

__all__ = ["as_base_reads", "check_form"]

_FIX = 'use "template", or a text such as "Question: {question}\\nAnswer:"'


def check_form(form: str) -> str:
    """Return a form if it can be used: `template`, or a text with `{question}` and maybe `{system}` in it.

    Raises:
        UsageError: another one.
    """
    if form != "template" and "{question}" not in form:
        raise UsageError(f"base_prompt {form!r} has no {{question}}", fix=_FIX)
    return form


def as_base_reads(prompt: Prompt, form: str) -> Prompt:
    """Return what a base model is given: raw text as it is, a chat by the model's own template or as plain text.

    Raises:
        DataError: a chat that holds more than a plain form has places for.
    """
    if form == "template" or isinstance(prompt, str):
        return prompt
    system = [m["content"] for m in prompt[:-1] if m["role"] == "system"]
    fits = len(prompt) == 1 + len(system) <= 2 and prompt[-1]["role"] == "user"
    if not fits or (system and "{system}" not in form):
        roles = ", ".join(m["role"] for m in prompt)
        raise DataError(
            f"a chat of {roles} does not fit into base_prompt {form!r}",
            fix="write {system} into the form, ask one question at a time, or use base_prompt: template",
        )
    before, _, after = form.partition("{question}")
    line = system[0] if system else ""
    return before.replace("{system}", line) + prompt[-1]["content"] + after.replace("{system}", line)
