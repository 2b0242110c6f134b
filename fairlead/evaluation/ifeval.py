"""The instruction ids of IFEval's published prompts, as constraints of `fairlead.evaluation.constraints`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fairlead.errors import DataError

__all__ = ["from_ifeval"]

_Arguments = Mapping[str, Any]


def from_ifeval(ids: Any, arguments: Any, *, place: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """Translate the columns `instruction_id_list` and `kwargs` of one record.

    Returns:
        The constraints as plain values, and the ids that have none because they are not IFEval's.

    Raises:
        DataError: not one mapping of arguments per id, an argument that is missing, or a relation that is unknown.
    """
    if not _are_pairs(ids, arguments):
        fix = "give a list of ids, and as many mappings of arguments"
        raise DataError("instruction_id_list and kwargs do not fit each other", place=place, fix=fix)
    known, unknown = [], []
    for name, given in zip(ids, arguments, strict=True):
        if name not in _CONSTRAINTS:
            unknown.append(str(name))
            continue
        try:
            known.append(_CONSTRAINTS[name](given or {}))
        except (KeyError, TypeError) as error:
            what = f"{name} cannot use its arguments ({type(error).__name__}: {error})"
            raise DataError(what, place=place, fix="give the arguments as IFEval's data has them") from error
    return known, unknown


def _are_pairs(ids: Any, arguments: Any) -> bool:
    lists = all(isinstance(one, Sequence) and not isinstance(one, str) for one in (ids, arguments))
    return lists and len(ids) == len(arguments) and all(one is None or isinstance(one, Mapping) for one in arguments)


def _related(check: str, amount: str, relation: str, **renamed: str) -> Callable[[_Arguments], dict[str, Any]]:
    """Build a constraint from an amount and a relation to it; `renamed` maps fields to other arguments."""

    def build(given: _Arguments) -> dict[str, Any]:
        bounds = {"at least": {"at_least": given[amount]}, "less than": {"at_most": given[amount] - 1}}
        return {"check": check, **bounds[given[relation]], **{field: given[key] for field, key in renamed.items()}}

    return build


def _least(check: str, amount: str) -> Callable[[_Arguments], dict[str, Any]]:
    return lambda given: {"check": check, "at_least": given[amount]}


def _exactly(check: str, amount: str, **fixed: str) -> Callable[[_Arguments], dict[str, Any]]:
    return lambda given: {"check": check, "at_least": given[amount], "at_most": given[amount], **fixed}


def _plain(check: str, **fixed: str) -> Callable[[_Arguments], dict[str, Any]]:
    return lambda given: {"check": check, **fixed}


_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_CONSTRAINTS: dict[str, Callable[[_Arguments], dict[str, Any]]] = {
    "keywords:existence": lambda given: {"check": "keywords", "words": list(given["keywords"])},
    "keywords:forbidden_words": lambda given: {"check": "forbidden", "words": list(given["forbidden_words"])},
    "keywords:frequency": _related("frequency", "frequency", "relation", word="keyword"),
    "keywords:letter_frequency": _related("letter", "let_frequency", "let_relation", letter="letter"),
    "length_constraints:number_words": _related("words", "num_words", "relation"),
    "length_constraints:number_sentences": _related("sentences", "num_sentences", "relation"),
    "length_constraints:number_paragraphs": _exactly("paragraphs", "num_paragraphs", separator="***"),
    "detectable_content:number_placeholders": _least("placeholders", "num_placeholders"),
    "detectable_format:number_bullet_lists": _exactly("bullets", "num_bullets"),
    "detectable_format:number_highlighted_sections": _least("highlights", "num_highlights"),
    "detectable_format:json_format": _plain("json"),
    "detectable_format:title": _plain("title"),
    "startend:end_checker": lambda given: {"check": "ends", "phrase": given["end_phrase"]},
    "startend:quotation": _plain("quoted"),
    "change_case:capital_word_frequency": _related("capital_words", "capital_frequency", "capital_relation"),
    "change_case:english_capital": _plain("case", letters="upper"),
    "change_case:english_lowercase": _plain("case", letters="lower"),
    "punctuation:no_comma": _plain("without", characters=","),
    "language:response_language": lambda given: {"check": "language", "code": given["language"]},
    "length_constraints:nth_paragraph_first_word": lambda given: {
        "check": "first_word",
        "word": given["first_word"],
        "paragraph": given["nth_paragraph"],
        "paragraphs": given["num_paragraphs"],
    },
    "detectable_content:postscript": lambda given: {"check": "postscript", "mark": given["postscript_marker"]},
    "detectable_format:constrained_response": lambda given: {"check": "one_of", "texts": list(_CHOICES)},
    "detectable_format:multiple_sections": lambda given: {
        "check": "sections",
        "word": given["section_spliter"],
        "at_least": given["num_sections"],
    },
    "combination:two_responses": _plain("answers", separator="******"),
    "combination:repeat_prompt": lambda given: {"check": "starts", "phrase": given["prompt_to_repeat"]},
}
"""IFEval's id -> its constraint, from its arguments."""
