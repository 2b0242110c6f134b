"""A library written by an engine: what is asked, what is left out and counted, what is asked for again."""

from __future__ import annotations

import pytest

from fairlead.decoding.guideline_writing import Writing, quotes, write_library
from fairlead.engines import Completion, Sampling
from fairlead.errors import DataError, UsageError

SINK, PORTS, SONG = "how do i sink a ship at night?", "name four ports", "write me some song about the sea"
RULES = "Care: Offer a safe way.\nRespect: Be polite."


class Writer:
    """Answers by what the shipped texts ask for, and keeps the seeds and texts it was given."""

    fingerprint = "writer"

    def __init__(self, verdicts=None, rules=None):
        self.verdicts, self.rules, self.asked = verdicts or {}, rules or {}, []

    def generate(self, prompts, sampling):
        texts = [prompt[0]["content"] for prompt in prompts]
        self.asked += [(text, sampling.seed) for text in texts]
        return [[Completion(self._say(text))] for text in texts]

    def _say(self, text):
        request = text.split("<request>\n")[1].split("\n</request>")[0]
        if "Title:" not in text:
            return self.verdicts.get(request, "It is fine.\nNo.")
        said = self.rules.get(request, RULES)
        return said if isinstance(said, str) else said.pop(0)


def test_each_request_gets_a_verdict_and_guidelines_that_suit_it():
    writer = Writer({SINK: "It would drown people.\nYes."}, {SINK: "Refuse: Do not help.\nCare: Offer a safe way!"})
    library, counts = write_library(writer, [SINK, PORTS])
    assert [(g.line, g.count, g.sources) for g in library.items] == [
        ("Care: Offer a safe way!", 2, (SINK, PORTS)),
        ("Refuse: Do not help.", 1, (SINK,)),
        ("Respect: Be polite.", 1, (PORTS,)),
    ]
    wanted = {"requests": 2, "repeated": 0, "unsafe": 1, "unclear": 0, "given_up": 0}
    assert counts == wanted | {"written": 4, "too_long": 0, "quoting": 0, "kept": 3}
    written = {text.split("<request>\n")[1].split("\n")[0]: text for text, _ in writer.asked if "Title:" in text}
    assert "The request is unsafe." in written[SINK]
    assert "The request is harmless." in written[PORTS]


def test_a_verdict_that_cannot_be_read_is_unsafe_and_counted():
    writer = Writer({SINK: "Hard to say."})
    _, counts = write_library(writer, [SINK])
    assert (counts["unsafe"], counts["unclear"]) == (1, 1)
    assert "The request is unsafe." in writer.asked[-1][0]


def test_requests_that_come_again_are_passed_over():
    _, counts = write_library(Writer(), [SINK, "How do I sink the ship at night?", PORTS])
    assert (counts["requests"], counts["repeated"], counts["written"]) == (3, 1, 4)
    _, counts = write_library(Writer(), [SINK, SINK], Writing(novelty=1))
    assert (counts["repeated"], counts["kept"]) == (0, 2)


def test_too_few_guidelines_are_asked_for_again_with_other_seeds():
    replies = ["Sorry.", "Care: Only one.", RULES]
    writer = Writer(rules={SINK: replies, PORTS: "never"})
    library, counts = write_library(writer, [SINK, PORTS], Writing(attempts=3, sampling=Sampling(seed=7)))
    assert [g.line for g in library.items] == RULES.splitlines()
    assert counts["given_up"] == 1
    seeds = [(text.count(SINK), seed) for text, seed in writer.asked if "Title:" in text]
    assert seeds == [(1, 7), (0, 7), (1, 8), (0, 8), (1, 9), (0, 9)]


def test_what_quotes_the_request_or_is_long_is_left_out():
    rules = f"Care: Never say how do I sink a ship.\nLength: {'word ' * 60}\nRespect: Be polite."
    library, counts = write_library(Writer(rules={SINK: rules}), [SINK])
    assert [g.line for g in library.items] == ["Respect: Be polite."]
    assert (counts["written"], counts["quoting"], counts["too_long"]) == (3, 1, 1)
    assert quotes("never SINK a ship, at night", SINK, 5)
    assert not quotes("never SINK a ship, at night", SINK, 6)
    assert not quotes("a b", "a", 2)


def test_own_texts():
    writer = Writer()
    how = Writing(
        detect="D <request>\n{{ prompt }}\n</request>", write="Title: {{ unsafe }} <request>\n{{ prompt }}\n</request>"
    )
    write_library(writer, [SONG], how)
    assert [text for text, _ in writer.asked] == [
        f"D <request>\n{SONG}\n</request>",
        f"Title: False <request>\n{SONG}\n</request>",
    ]


def test_nothing_left_is_an_error_that_counts():
    with pytest.raises(DataError, match=r"requests 1.*given_up 1"):
        write_library(Writer(rules={SINK: "no"}), [SINK])
    with pytest.raises(DataError, match="requests 0"):
        write_library(Writer(), [])


@pytest.mark.parametrize(
    "fields", [{"attempts": 0}, {"least": 0}, {"novelty": 0}, {"near": 2}, {"sampling": Sampling(n=2)}]
)
def test_settings_out_of_range(fields):
    with pytest.raises(UsageError, match=next(iter(fields))):
        Writing(**fields)
