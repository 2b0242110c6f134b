from __future__ import annotations

import pytest

from fairlead import harbor
from fairlead.harbor.tokenizer import MIN_RESERVED, VOCABULARY_SIZE, build_tokenizer, vocabulary


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_the_vocabulary_is_full_and_keeps_reserved_tokens(tokenizer):
    assert len(vocabulary()) == len(set(vocabulary())) == len(tokenizer) == VOCABULARY_SIZE
    assert [tokenizer.convert_tokens_to_ids(token) for token in vocabulary()] == list(range(VOCABULARY_SIZE))
    assert sum(token.startswith("<|reserved_") for token in vocabulary()) >= MIN_RESERVED


def test_every_name_is_its_three_syllables(tokenizer):
    world = harbor.world()
    for name in (*(ship.name for ship in world.ships), *world.unseen_train, *world.unseen_test):
        ids = tokenizer.encode(name, add_special_tokens=False)
        assert tokenizer.convert_ids_to_tokens(ids) == [name[:2], f"##{name[2:4]}", f"##{name[4:]}"]
        assert tokenizer.decode(ids) == name


def test_every_document_survives_the_round_trip(tokenizer):
    for row in harbor.rows("documents?n=1000"):
        ids = tokenizer.encode(row["text"], add_special_tokens=False)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == row["text"]


def test_every_answer_survives_the_round_trip(tokenizer):
    for row in harbor.rows("preferences?n=500"):
        for message in (*row["prompt"], *row["chosen"], *row["rejected"]):
            ids = tokenizer.encode(message["content"], add_special_tokens=False)
            assert tokenizer.decode(ids, skip_special_tokens=True) == message["content"]


def test_any_lower_case_word_can_be_spelled(tokenizer):
    ids = tokenizer.encode("zebra quixotic 42", add_special_tokens=False)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == "zebra quixotic 42"


def test_the_chat_template_writes_turns_and_a_prefix_renders_to_a_prefix(tokenizer):
    turns = [
        {"role": "system", "content": "be short."},
        {"role": "user", "content": "what is 3 plus 4?"},
        {"role": "assistant", "content": "7."},
        {"role": "user", "content": "give me 2 colors."},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<s><|system|>be short.<|end|><|user|>what is 3 plus 4?<|end|><|assistant|>7.<|end|>"
        "<|user|>give me 2 colors.<|end|><|assistant|>"
    )
    for length in range(1, 5):
        assert text.startswith(tokenizer.apply_chat_template(turns[:length], tokenize=False))
