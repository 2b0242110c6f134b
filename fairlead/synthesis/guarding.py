"""What a guard model says of a conversation, in its own chat format and its own words.

Guard models (Llama Guard and its kin) read a whole conversation under a template of their own and write "safe", or
"unsafe" and on the next line the codes of what is. Their text is kept as it is; its first word is the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fairlead import prompts
from fairlead.engines.asking import Case
from fairlead.errors import UsageError
from fairlead.messages import Message
from fairlead.verdicts import Reading

__all__ = ["GUARD", "guard_case", "guard_text"]

GUARD = ("guard", "guard_verdict", "guard_codes")
"""Columns: what the guard wrote; safe, unsafe or None; the codes behind unsafe."""

_VERDICT = re.compile(r"\s*(safe|unsafe)\b[ \t.]*(?:\n\s*(.*))?", re.IGNORECASE | re.DOTALL)


def guard_text(own: str | None) -> prompts.PromptText | None:
    """Return a guard's template, given as a Jinja text or its path; None where the guard's engine has it.

    Raises:
        UsageError: a text that does not use `messages`.
    """
    if own is None:
        return None
    found = prompts.load("tags", "guard", own)
    marked = "\0heard\0"
    if marked not in found.render(messages=[{"role": "user", "content": marked}]):
        fix = "write its chat template, {% for message in messages %}...{{ message.content }}...{% endfor %}"
        raise UsageError("tags.texts.guard does not show the conversation", fix=fix)
    return found


def guard_case(name: str, chat: Sequence[Message], text: prompts.PromptText | None) -> Case:
    """Return what a guard is asked: the messages, which a server puts into the guard's template, or raw text."""
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in chat]
    shown = list(chat) if text is None else text.render(messages=messages)
    return Case(name, shown, _read)


def _read(reply: str) -> Reading:
    """Keep what was written, whatever it is, with the verdict where there is one."""
    if not reply.strip():
        return Reading(problem="empty")
    found = _VERDICT.match(reply)
    verdict = found[1].lower() if found else None
    codes = re.findall(r"[\w-]+", found[2] or "") if found and verdict == "unsafe" else []
    return Reading(dict(zip(GUARD, (reply, verdict, codes), strict=True)))
