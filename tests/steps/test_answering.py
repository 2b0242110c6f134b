"""Who answers, by name: each model is loaded once, names may be parts of methods, circles are refused."""

from __future__ import annotations

import pytest

from fairlead.errors import UsageError
from fairlead.steps.answering import open_engine, open_engines


def test_names_are_parts_and_models_are_loaded_once():
    opened = open_engines(
        {
            "nudged": {"name": "nudging", "base": "big", "nudger": "harbor:aligned-300k"},
            "big": "harbor:base-300k",
            "harbor:aligned-300k": "harbor:aligned-300k",
            "short": {"name": "urial", "engine": {"name": "urial", "engine": "big", "k": 0}, "k": 0},
        },
        dtype="bfloat16",
    )
    nudged = opened["nudged"]
    assert nudged.parts == {"base": opened["big"], "nudger": opened["harbor:aligned-300k"]}
    assert opened["short"].parts["engine"].parts["engine"] is opened["big"]
    assert str(opened["big"].model.dtype) == "torch.bfloat16"


def test_a_circle_is_refused():
    with pytest.raises(UsageError, match="one -> two -> one is a circle"):
        open_engines({"one": {"name": "urial", "engine": "two"}, "two": "one"})


@pytest.mark.parametrize("model", [{"engine": "harbor:base-300k"}, ["harbor:base-300k"], 3])
def test_what_names_nobody_is_refused(model):
    with pytest.raises(UsageError, match="neither a model's name nor a method with a name"):
        open_engines({"one": model})


def test_a_part_alone_is_opened_with_its_format():
    opened = open_engine({"name": "urial", "engine": "harbor:base-300k"}, "bfloat16")
    assert str(opened.parts["engine"].model.dtype) == "torch.bfloat16"
