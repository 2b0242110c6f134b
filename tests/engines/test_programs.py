"""Programs: each runs as if alone, and what they ask in a round is served together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fairlead.engines.programs import Ask, Runner, run


class Doubling:
    """A door that keeps what it was asked, call by call."""

    def __init__(self):
        self.calls: list[list[int]] = []

    def serve(self, asked):
        self.calls.append(list(asked))
        return [2 * number for number in asked]


def doubling(door, number, times):
    for _ in range(times):
        (number,) = yield [Ask(door, number)]
    return number


def test_answers_keep_their_order_and_rounds_are_shared():
    door = Doubling()
    assert run([lambda n=n: doubling(door, n, 4 - n) for n in range(4)]) == [0, 8, 8, 6]
    assert [len(call) for call in door.calls] == [4, 3, 2, 1]


def test_few_at_once_join_as_others_finish():
    door = Doubling()
    told = []
    starts = [lambda n=n: doubling(door, n, 1 + n % 2) for n in range(5)]
    assert run(starts, at_once=2, done=lambda k, answer: told.append((k, answer))) == [0, 4, 4, 12, 8]
    assert max(map(len, door.calls)) == 2
    assert sorted(told) == [(0, 0), (1, 4), (2, 4), (3, 12), (4, 8)]


def test_several_wishes_at_several_doors():
    one, two = Doubling(), Doubling()

    def program():
        found = yield [Ask(one, 1), Ask(two, 2), Ask(one, 3)]
        return found

    assert run([program, program]) == [[2, 4, 6], [2, 4, 6]]
    assert (one.calls, two.calls) == ([[1, 3, 1, 3]], [[2, 2]])


def test_a_program_that_asks_nothing_and_none_at_all():
    def silent():
        return "done"
        yield

    assert run([silent]) == ["done"]
    assert run([]) == []


def test_an_error_closes_the_others():
    door, closed = Doubling(), []

    def patient():
        try:
            yield [Ask(door, 1)]
            yield [Ask(door, 1)]
        finally:
            closed.append(True)

    def broken():
        yield [Ask(door, 1)]
        raise KeyError("broken")

    with pytest.raises(KeyError):
        run([patient, broken])
    assert closed == [True]


class Elsewhere:
    """A door whose results come from another thread, when it is told to go on."""

    def __init__(self, pool):
        self.pool, self.go = pool, threading.Event()

    def serve(self, asked):
        def made(number):
            assert self.go.wait(10)
            return 1 / (number - 3)

        return [self.pool.submit(made, number) for number in asked]


def test_others_go_on_while_one_waits_for_work_done_elsewhere():
    with ThreadPoolExecutor(2) as pool:
        slow, door = Elsewhere(pool), Doubling()
        order = []

        def waiting():
            (number,) = yield [Ask(slow, 4)]
            order.append("waited")
            return number

        def quick():
            yield from doubling(door, 1, 5)
            order.append("quick")
            slow.go.set()

        assert run([waiting, quick]) == [1.0, None]
        assert order == ["quick", "waited"]
        with pytest.raises(ZeroDivisionError):
            run([lambda: (yield [Ask(slow, 3)])])


def test_a_large_program_takes_the_room_of_several():
    door = Doubling()
    runner = Runner(at_once=4, done=lambda *_: None)
    for size in (3, 2, 9, 1):
        runner.add(lambda: doubling(door, 1, 1), size)
    while runner.busy:
        runner.round()
    assert [len(call) for call in door.calls] == [1, 1, 1, 1]
    runner.add(lambda: doubling(door, 1, 1), 3)
    runner.add(lambda: doubling(door, 1, 1), 1)
    runner.round()
    assert len(door.calls[-1]) == 2
