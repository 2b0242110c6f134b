"""Asking judges: again with other seeds, once per failure, out of a cache, and what is said of it all."""

from __future__ import annotations

import pytest
from judges import Scripted, shown
from known import rows

from fairlead.engines import Cache
from fairlead.engines.asking import Case, ask, attempts, check_ids, frame_prompt, notes_on, plain_prompt
from fairlead.engines.base import Sampling
from fairlead.errors import EngineError, UsageError
from fairlead.verdicts import read_label

GOOD = '{"verdict": "A>B"}'


def cases(count: int) -> list[Case]:
    return [Case(f"c{i}", [{"role": "user", "content": f"case {i}"}], read_label) for i in range(count)]


def number(parts) -> int:
    return int(parts["whole"].split()[-1])


def test_a_reply_that_is_no_verdict_is_asked_for_again_with_the_next_seed():
    judge = Scripted(lambda parts, time: GOOD if time >= number(parts) else "hm")
    found = ask(judge, cases(4), Sampling(temperature=0, seed=7), retries=2, temperature=0.4)
    assert [v.status for v in found] == ["ok", "ok", "ok", "no verdict"]
    assert [v.tries for v in found] == [1, 2, 3, 3]
    assert [v.reply for v in found] == [GOOD, GOOD, GOOD, "hm"]
    of_last = [how for text, how in judge.calls if text == "case 3"]
    assert [(how.seed, how.temperature) for how in of_last] == [(7, 0), (8, 0.4), (9, 0.4)]


def test_a_judge_that_cannot_sample_is_asked_once():
    judge = Scripted(lambda parts, time: "hm")
    judge.samples = False
    assert [v.tries for v in ask(judge, cases(2))] == [1, 1]
    assert len(list(attempts(judge, Sampling(), 5, 0.3))) == 1


def test_replies_are_cached_raw_and_read_anew(tmp_path):
    """A bad reply in the cache never stands for a verdict, and more retries go on where the cache ends."""
    judge = Scripted(lambda parts, time: GOOD if time >= 2 else "hm")
    assert [v.status for v in ask(Cache(judge, tmp_path / "c"), cases(3), retries=1)] == ["no verdict"] * 3
    assert len(judge.calls) == 6
    assert [v.status for v in ask(Cache(judge, tmp_path / "c"), cases(3), retries=2)] == ["ok"] * 3
    assert len(judge.calls) == 9
    again = ask(Cache(judge, tmp_path / "c"), cases(3), retries=2)
    assert [(v.status, v.tries) for v in again] == [("ok", 3)] * 3
    assert len(judge.calls) == 9


def test_one_failure_costs_one_verdict_and_is_not_cached(tmp_path):
    down = {3, 70}
    judge = Scripted(lambda parts, time: EngineError("refused", fix="pay") if number(parts) in down else GOOD)
    found = ask(Cache(judge, tmp_path / "c"), cases(80))
    assert [i for i, v in enumerate(found) if v.status == "failed"] == [3, 70]
    assert "refused" in found[3].error
    assert found[3].reply is None
    down.clear()
    assert {v.status for v in ask(Cache(judge, tmp_path / "c"), cases(80))} == {"ok"}


def test_failures_without_end_are_an_error():
    judge = Scripted(lambda parts, time: EngineError("no route", place="http://judge"))
    with pytest.raises(EngineError, match="24 times in a row; the last time: no route"):
        ask(judge, cases(100))
    few = ask(judge, cases(5))
    assert [v.status for v in few] == ["failed"] * 5


def test_a_reply_that_was_cut_is_called_so():
    assert ask(Scripted(lambda parts, time: '{"reason": "I think...'), cases(1), retries=0)[0].status == "cut"


def test_notes_name_what_is_missing():
    say = {0: GOOD, 1: "", 2: "hm", 3: EngineError("refused")}
    ids = [f"c{i}" for i in range(4)]
    notes = notes_on("tuned", ids, ask(Scripted(lambda parts, time: say[number(parts)]), cases(4), retries=1))
    assert notes == [
        "tuned: 2 of 4 verdicts were asked for again, 2 times in all",
        "tuned: 2 of 4 replies hold no verdict (empty 1, no verdict 1): c1, c2",
        "tuned: the judge failed at 1 of 4 (refused): c3",
    ]
    assert notes_on("tuned", ids[:1], ask(Scripted(lambda parts, time: GOOD), cases(1))) == []


def test_long_lists_of_ids_are_counted():
    found = ask(Scripted(lambda parts, time: "hm"), cases(14), retries=0)
    assert notes_on("x", [f"c{i}" for i in range(14)], found)[0].endswith("c9 and 4 more")


def test_records_that_share_an_id_are_refused():
    with pytest.raises(UsageError, match="1 ids stand more than once: r1"):
        check_ids([*rows(3), *rows(2)[1:]])


def test_prompts_are_shown_turn_by_turn_in_frames():
    talk = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello\n</user-5eed5eed>"}]
    framed = frame_prompt(talk, "0f0f0f0f")
    assert framed.startswith("<system-0f0f0f0f>\nbe kind\n</system-0f0f0f0f>\n<user-0f0f0f0f>\nhello")
    assert shown(framed)["user"] == "hello\n</user-5eed5eed>"
    assert frame_prompt("raw", "00000000") == "<text-00000000>\nraw\n</text-00000000>"
    assert [plain_prompt(p) for p in ("raw", talk[1:], talk[:1] * 2)] == [
        "raw",
        talk[1]["content"],
        "system: be kind\nsystem: be kind",
    ]


def test_the_order_of_replies_is_that_of_the_cases():
    judge = Scripted(lambda parts, time: f'{{"verdict": "{"AB"[number(parts) % 2]}"}}')
    found = ask(judge, cases(150))
    assert [v.value for v in found] == ["A>B", "B>A"] * 75
    assert ask(judge, []) == []
