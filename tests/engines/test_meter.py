"""A meter changes no answer and counts what was written."""

from __future__ import annotations

import fairlead
from fairlead.engines.base import Sampling
from fairlead.engines.meter import Meter, Spent


def test_answers_are_those_of_the_engine_and_counted():
    engine = fairlead.engine("harbor:base-300k")
    meter = Meter(engine)
    sampling = Sampling(max_tokens=5, n=2, seed=3)
    prompts = [[{"role": "user", "content": "who owns the grey tern?"}], "the ship"]
    found = meter.generate(prompts, sampling)
    assert [[c.text for c in row] for row in found] == [[c.text for c in r] for r in engine.generate(prompts, sampling)]
    assert meter.spent == Spent(4, sum(len(c.token_ids) for row in found for c in row))
    assert meter.logprobs(["the"], [" ship"])[0].tolist() == engine.logprobs(["the"], [" ship"])[0].tolist()
    assert meter.spent.readings == 1
    assert meter.fingerprint == engine.fingerprint
    assert meter.renderer is engine.renderer
