from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Sequence

import numpy as np
import pytest

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.cache import Cache
from fairlead.engines.local import Local
from fairlead.errors import EngineError, UnsupportedError, UsageError

CHAT = [{"role": "user", "content": "where is the ship?"}]


class Counting:
    """The local engine, counting what it is asked; adds to `extra` what a decoder would."""

    def __init__(self, engine: Local):
        self.engine = engine
        self.asked: list = []
        self.fingerprint = engine.fingerprint

    def generate(self, prompts: Sequence, sampling: Sampling) -> list[list[Completion]]:
        self.asked.append(list(prompts))
        rows = self.engine.generate(prompts, sampling)
        for row in rows:
            for completion in row:
                completion.extra = {"candidates": [{"text": "x", "score": 0.25}], "none": None}
        return rows

    def logprobs(self, prompts: Sequence, completions: Sequence[str]) -> list[np.ndarray]:
        self.asked.append(list(zip(prompts, completions)))
        return self.engine.logprobs(prompts, completions)


@pytest.fixture
def counting(local):
    return Counting(local)


def same(one: Completion, other: Completion) -> bool:
    equal = one.logprobs is other.logprobs is None or (
        one.logprobs.dtype == other.logprobs.dtype == np.float32 and np.array_equal(one.logprobs, other.logprobs)
    )
    return equal and all(
        getattr(one, name) == getattr(other, name) for name in ("text", "token_ids", "finish_reason", "extra")
    )


@pytest.mark.parametrize("logprobs", [True, False])
def test_every_field_comes_back(counting, tmp_path, logprobs):
    sampling = Sampling(max_tokens=8, n=2, logprobs=logprobs)
    cache = Cache(counting, tmp_path / "new" / "answers.sqlite")
    prompts = ["the ship", CHAT, "Überfahrt"]
    wanted = counting.generate(prompts, sampling)
    first, second = cache.generate(prompts, sampling), cache.generate(prompts, sampling)
    for rows in (first, second):
        assert all(same(a, b) for row, known in zip(rows, wanted) for a, b in zip(row, known, strict=True))
    assert isinstance(second[0][0].finish_reason, FinishReason)
    assert (cache.hits, cache.misses) == (3, 3)
    assert cache.fingerprint == counting.fingerprint


def test_only_what_is_missing_is_asked_for_and_order_is_kept(counting, tmp_path):
    sampling = Sampling(max_tokens=4, temperature=0)
    cache = Cache(counting, tmp_path / "a.sqlite")
    cache.generate(["one", "two"], sampling)
    counting.asked.clear()
    rows = cache.generate(["three", "one", "three", "four", "two"], sampling)
    assert counting.asked == [["three", "four"]]
    texts = [row[0].text for row in rows]
    assert texts == [
        row[0].text for row in counting.engine.generate(["three", "one", "three", "four", "two"], sampling)
    ]
    assert (cache.hits, cache.misses) == (3, 4)
    rows[0][0].text = "changed"
    assert rows[2][0].text == texts[2]


def test_other_sampling_prompts_and_engines_are_other_answers(counting, tmp_path):
    cache = Cache(counting, tmp_path / "a.sqlite")
    samplings = [
        Sampling(max_tokens=4),
        Sampling(max_tokens=5),
        Sampling(max_tokens=4, seed=1),
        Sampling(max_tokens=4, stop=("a",)),
    ]
    for sampling in samplings:
        for prompt in ("where is the ship?", CHAT):
            cache.generate([prompt], sampling)
    assert cache.misses == 8
    counting.fingerprint = "another"
    cache.generate([CHAT], samplings[0])
    assert cache.misses == 9


def test_logprobs_are_kept_too(counting, tmp_path):
    cache = Cache(counting, tmp_path / "a.sqlite")
    first = cache.logprobs(["the ship", CHAT], ["sails", "at noon"])
    second = cache.logprobs([CHAT, "the ship"], ["at noon", "sails"])
    assert len(counting.asked) == 1
    for one, other in zip(first, reversed(second)):
        assert other.dtype == np.float32
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UsageError):
        cache.logprobs(["a"], [])


def test_answers_before_a_failure_are_kept(counting, tmp_path):
    class Failing(Counting):
        def generate(self, prompts, sampling):
            if "bad" in prompts:
                raise UnsupportedError("no")
            return super().generate(prompts, sampling)

    cache = Cache(Failing(counting.engine), tmp_path / "a.sqlite", commit_every=2)
    with pytest.raises(UnsupportedError):
        cache.generate(["one", "two", "three", "bad"], Sampling(max_tokens=2))
    again = Cache(counting, tmp_path / "a.sqlite")
    again.generate(["one", "two", "three"], Sampling(max_tokens=2))
    assert counting.asked == [["three"]]


def test_processes_share_a_file(tmp_path):
    """Four processes write and read the same file at once; each sees right answers and none fails."""
    script = textwrap.dedent("""
        import sys
        from fairlead.engines import Cache, Completion, Sampling
        class Echo:
            fingerprint = "echo"
            def generate(self, prompts, sampling):
                return [[Completion(p.upper()) for _ in range(sampling.n)] for p in prompts]
        cache = Cache(Echo(), sys.argv[1], commit_every=1)
        shift = int(sys.argv[2]) * 7
        prompts = [f"p{(k + shift) % 60}" for k in range(60)]
        for _ in range(3):
            assert [r[0].text for r in cache.generate(prompts, Sampling())] == [p.upper() for p in prompts]
        assert cache.hits >= 120
    """)
    path = tmp_path / "shared.sqlite"
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(path), str(k)], stderr=subprocess.PIPE, text=True)
        for k in range(4)
    ]
    for process in running:
        _, problem = process.communicate(timeout=120)
        assert process.returncode == 0, problem
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (60,)


def test_files_that_are_no_cache(counting, tmp_path):
    path = tmp_path / "a.sqlite"
    path.write_text("this is no database " * 100)
    with pytest.raises(EngineError, match=r"a\.sqlite: the answer cache cannot be used"):
        Cache(counting, path)
    other = tmp_path / "b.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(EngineError, match="format 99"):
        Cache(counting, other)


def test_what_cannot_be_given_back_unchanged_is_refused(counting, tmp_path):
    class Odd(Counting):
        def generate(self, prompts, sampling):
            return [[Completion("x", extra={"scores": [np.float32(1)]})] for _ in prompts]

    with pytest.raises(EngineError, match=r"extra\.scores\[0\] of a completion is a float32"):
        Cache(Odd(counting.engine), tmp_path / "a.sqlite").generate(["a"], Sampling())
