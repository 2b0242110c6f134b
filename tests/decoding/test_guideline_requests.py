"""Requests that a model writes: what it is shown, what is taken, what is too like another, when it ends."""

from __future__ import annotations

import itertools

import pytest

from fairlead.decoding.guideline_library import rouge_l
from fairlead.decoding.guideline_requests import RequestWriting, Risk, WrittenRequest, risks, write_requests
from fairlead.engines import Completion, Sampling
from fairlead.errors import UsageError

LOCKS = Risk("locks", "ask how to open what is locked", ("a b c d e", "f g h i j", "k l m n o", "p q r s t"))
FIRES = Risk("fires", "ask for fire", ("1 2 3 4 5", "6 7 8 9 10", "11 12 13 14 15", "16 17 18 19 20"))
ONE = Sampling(seed=5)


class Writer:
    """Gives prepared replies, then nothing, and keeps what it was asked."""

    fingerprint = "writer"

    def __init__(self, *replies):
        self.replies, self.asked = iter(replies), []

    def generate(self, prompts, sampling):
        self.asked += [(prompt[0]["content"], sampling.seed) for prompt in prompts]
        return [[Completion(next(self.replies, "Sorry.")) for _ in range(sampling.n)] for _ in prompts]


def endless():
    """Yield replies that never say the same."""
    numbers = itertools.count()
    return ("\n".join(f"{k}. {' '.join(f'w{next(numbers)}' for _ in range(4))}" for k in range(5, 13)) for _ in numbers)


def test_numbered_lines_are_taken_and_the_rest_is_not():
    writer = Writer("5. How is it done?\nNo number\n6.\n 7. **Where** is it?\n8) never\n9.5 euros, please")
    found, counts = write_requests(writer, RequestWriting(each=2, sampling=ONE), [LOCKS])
    assert found == [WrittenRequest("locks", "How is it done?"), WrittenRequest("locks", "**Where** is it?")]
    assert counts["written"] == 2


def test_what_is_nearly_like_another_is_passed_over_in_one_reply_too():
    known = Risk("locks", "x", ("how do i pick a lock", "b", "c", "d"))
    reply = "5. how do i pick the lock\n6. how can i pick a door lock\n7. tell me a joke\n8. Tell me a joke!\n9. ?!"
    found, counts = write_requests(Writer(reply), RequestWriting(each=9, sampling=ONE, patience=1), [known])
    assert [one.text for one in found] == ["tell me a joke"]
    assert (counts["repeated"], counts["kept"], counts["given_up"]) == (4, 1, 1)
    found, _ = write_requests(Writer(reply), RequestWriting(each=9, sampling=ONE, patience=1, novelty=0.8), [known])
    assert [one.text for one in found] == ["how can i pick a door lock", "tell me a joke"]


def test_kinds_do_not_repeat_each_other():
    writer = Writer("5. one two three four", "5. one two three four\n6. five six seven eight")
    found, _ = write_requests(writer, RequestWriting(each=1, sampling=ONE, patience=1), [LOCKS, FIRES])
    assert found == [WrittenRequest("locks", "one two three four"), WrittenRequest("fires", "five six seven eight")]


def test_the_first_six_of_a_reply_count_until_there_are_enough():
    found, counts = write_requests(
        Writer(*itertools.islice(endless(), 9)), RequestWriting(each=8, sampling=ONE), [LOCKS]
    )
    assert len(found) == 8
    assert counts == {
        "replies": 2, "written": 16, "left": 4, "repeated": 0, "surplus": 4, "kept": 8, "given_up": 0,
    }  # fmt: skip


def test_examples_are_mixed_with_what_was_written():
    writer = Writer(*itertools.islice(endless(), 9))
    found, _ = write_requests(writer, RequestWriting(each=20, sampling=ONE), [LOCKS])
    (first, seed), (second, next_seed), *_ = writer.asked
    assert (seed, next_seed) == (5, 6)
    assert "All of them ask how to open what is locked." in first
    assert [f"{k}. {text}" for k, text in enumerate(LOCKS.requests, 1)] == first.splitlines()[2:6]
    assert "from number 5" in first
    shown = [line.partition(". ")[2] for line in second.splitlines()[2:6]]
    assert len(set(shown)) == 4
    assert set(shown[:2]) < set(LOCKS.requests)
    assert set(shown[2:]) < {one.text for one in found[:6]}


def test_a_kind_that_runs_dry_is_given_up_and_the_others_go_on():
    class Half(Writer):
        def generate(self, prompts, sampling):
            drawn = super().generate(prompts, sampling)
            return [d if "fire" in p[0]["content"] else [Completion("no")] for p, d in zip(prompts, drawn)]

    writer = Half(*itertools.islice(endless(), 40))
    found, counts = write_requests(writer, RequestWriting(each=12, sampling=ONE, patience=2), [LOCKS, FIRES])
    assert {one.type for one in found} == {"fires"}
    assert (counts["kept"], counts["given_up"]) == (12, 1)
    assert sum("locked" in text for text, _ in writer.asked) == 2


def test_the_shipped_kinds():
    kinds = risks()
    assert len(kinds) == len({kind.type for kind in kinds}) == 14
    every = [request for kind in kinds for request in kind.requests]
    assert len(every) == 56
    assert max(rouge_l(one, other) for one, other in itertools.combinations(every, 2)) <= 0.5
    found, counts = write_requests(Writer(*itertools.islice(endless(), 99)), RequestWriting(each=2))
    assert [one.type for one in found] == [kind.type for kind in kinds for _ in range(2)]
    assert counts["replies"] == 14 * 4


@pytest.mark.parametrize("fields", [{"each": 0}, {"taken": 0}, {"patience": 0}, {"novelty": 0.0}])
def test_settings_out_of_range(fields):
    with pytest.raises(UsageError, match=next(iter(fields))):
        RequestWriting(**fields)
    with pytest.raises(UsageError, match="'x' has 3 examples"):
        Risk("x", "y", ("a", "b", "c"))
