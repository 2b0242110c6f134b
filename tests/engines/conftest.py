"""Tiny models and their tokenizer, built once."""

from __future__ import annotations

import pytest
from tiny_models import build, build_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def families(tokenizer):
    """Family -> model, made when first asked for."""
    made = {}

    def get(family: str):
        if family not in made:
            made[family] = build(family, len(tokenizer))
        return made[family]

    return get


@pytest.fixture(scope="session")
def folder(families, tokenizer, tmp_path_factory):
    """A saved Llama with its tokenizer."""
    path = tmp_path_factory.mktemp("llama")
    families("llama").save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def local(families, tokenizer):
    from fairlead.engines.local import Local

    return Local(families("llama"), tokenizer)
