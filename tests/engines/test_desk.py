"""The desk: whole questions of engines that know no programs, elsewhere or here, and streams of any engine."""

from __future__ import annotations

import threading

import pytest

import fairlead
from fairlead.engines import Completion, Sampling, stream
from fairlead.engines.desk import Desk
from fairlead.engines.programs import run
from fairlead.errors import EngineError

LOCAL = fairlead.engine("harbor:aligned-300k")
QUESTION = [{"role": "user", "content": "where is the ship?"}]


class Echo:
    """Answers with its prompt; refuses some."""

    fingerprint = "echo"

    def __init__(self):
        self.calls = []

    def generate(self, prompts, sampling):
        self.calls.append((list(prompts), sampling))
        if any(prompt == "bad" for prompt in prompts):
            raise EngineError("a bad prompt")
        return [[Completion(f"{prompt} {k}") for k in range(sampling.n)] for prompt in prompts]


class Remote(Echo):
    """Answers only while others ask at the same time."""

    remote = True

    def __init__(self, at_once):
        super().__init__()
        self.barrier = threading.Barrier(at_once)

    def generate(self, prompts, sampling):
        self.barrier.wait(10)
        return super().generate(prompts, sampling)


def asked(engine, prompts, sampling=None):
    found = []

    def program(prompt):
        try:
            answer = yield from desk.answer(engine, prompt, 1, sampling or Sampling())
            found.append(answer.text)
        except EngineError as error:
            found.append(str(error))

    with Desk() as desk:
        run([lambda prompt=prompt: program(prompt) for prompt in prompts])
    return found


def test_whole_questions_are_asked_together():
    echo = Echo()
    assert asked(echo, ["a", "b"]) == ["a 1", "b 1"]
    assert [(prompts, sampling.n) for prompts, sampling in echo.calls] == [(["a", "b"], 2)]


def test_one_that_is_refused_fails_alone():
    assert asked(Echo(), ["a", "bad", "b"]) == ["a 1", "a bad prompt", "b 1"]


def test_what_is_asked_elsewhere_is_asked_side_by_side():
    assert sorted(asked(Remote(3), ["a", "b", "c"])) == ["a 1", "b 1", "c 1"]
    assert sorted(asked(Remote(2), ["a", "bad"])) == ["a 1", "a bad prompt"]


@pytest.mark.parametrize(
    "sampling", [Sampling(max_tokens=16, temperature=0), Sampling(max_tokens=16, seed=3, stop=("e",))]
)
def test_a_stream_is_the_answer(sampling):
    *pieces, answer = stream(LOCAL, QUESTION, sampling)
    (wanted,) = LOCAL.generate([QUESTION], sampling)[0]
    assert (answer.text, answer.token_ids, answer.finish_reason) == (
        wanted.text,
        wanted.token_ids,
        wanted.finish_reason,
    )
    assert "".join(pieces) == wanted.text
    assert len(pieces) > 1
    assert next(stream(Echo(), "hi", sampling)) == "hi 0"


def test_a_stream_that_is_left_gives_the_model_back():
    pieces = stream(LOCAL, QUESTION, Sampling(max_tokens=16))
    next(pieces)
    pieces.close()
    with_others = threading.Thread(target=LOCAL.generate, args=([QUESTION], Sampling(max_tokens=2)), daemon=True)
    with_others.start()
    with_others.join(20)
    assert not with_others.is_alive()
