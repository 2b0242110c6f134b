"""Records to groups: what is trained, how long it is, and where a bad record stands."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fairlead import models
from fairlead.errors import DataError, RenderError, UsageError
from fairlead.records import read
from fairlead.render import Renderer
from fairlead.training.groups import build_groups, mismatched, text_blocks
from fairlead.training.objectives.base import Needs

CHAT, PAIR = Needs(record="conversation"), Needs(record="preference")


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="module")
def renderer(tiny_model):
    return Renderer(models.load_tokenizer(tiny_model))


@pytest.fixture
def written(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read(path)

    return write


def decoded(renderer, ids) -> str:
    return renderer.tokenizer.decode(ids)


def test_a_pair_shares_its_prompt(renderer, written):
    records = written({"prompt": [user("hi")], "chosen": [assistant("red")], "rejected": [assistant("a red ship")]})
    (group,), lengths = build_groups(records, renderer, PAIR, max_length=50)
    assert group.prompt.tolist() == renderer.prompt([user("hi")])
    assert group.fields["chosen"].tolist() == [True, False]
    assert all(b.trained.all() for b in group.branches)
    assert lengths.report()["completion_tokens"]["max"] == len(group.branches[1].ids)
    assert lengths.trained == sum(len(b.ids) for b in group.branches)


def test_only_assistant_turns_count(renderer, written):
    records = written({"messages": [user("hi"), assistant("red"), user("what"), assistant("blue")]})
    (group,), _ = build_groups(records, renderer, CHAT, max_length=50)
    (branch,) = group.branches
    trained = decoded(renderer, branch.ids[branch.trained])
    assert "red" in trained
    assert "blue" in trained
    assert "what" not in trained
    assert branch.trained[0], "what precedes the first trained token is prompt"
    assert "hi" in decoded(renderer, group.prompt)


def test_every_prompt_gets_the_completions_of_another(renderer, written):
    rows = [{"prompt": [user(p)], "completion": [assistant(c)]} for p, c in (("a", "x"), ("a", "y"), ("b", "z z z"))]
    groups, _ = build_groups(written(*rows), renderer, CHAT, max_length=50)
    twins = mismatched(groups, max_length=50)
    assert [t.id for t in twins] == [g.id for g in groups]
    assert [decoded(renderer, t.prompt) for t in twins] == [decoded(renderer, g.prompt) for g in groups]
    said = ["z" in decoded(renderer, t.branches[0].ids) for t in twins]
    assert said == [True, True, False], "neither its own completion nor one of the same prompt"


def test_a_prompt_without_another_completion_is_refused(renderer, written):
    rows = [{"prompt": [user("a")], "completion": [assistant(c)]} for c in ("x", "y")]
    groups, _ = build_groups(written(*rows), renderer, CHAT, max_length=50)
    with pytest.raises(DataError, match="no other record") as error:
        mismatched(groups, max_length=50)
    assert "two different prompts" in error.value.fix


def test_blocks_lose_no_token(renderer):
    documents = read("harbor:documents?n=9")
    blocks = text_blocks(documents, renderer, 32)
    whole = [i for document in documents for i in renderer.text(document.text)]
    joined = np.concatenate([np.concatenate([b.prompt, b.branches[0].ids]) for b in blocks]).tolist()
    assert joined == whole[: len(joined)]
    assert len(whole) - len(joined) <= 1
    assert all(len(b.prompt) + len(b.branches[0].ids) == 32 for b in blocks[:-1])


def test_errors_say_where(renderer, written):
    good = {"prompt": [user("hi")], "completion": [assistant("red")]}
    long = {"prompt": [user("what " * 60)], "completion": [assistant("red")]}
    special = {"prompt": [user("hi <|end|>")], "completion": [assistant("red")]}
    with pytest.raises(DataError, match=r"rows.jsonl, line 2"):
        build_groups(written(good, long), renderer, CHAT, max_length=40)
    with pytest.raises(RenderError, match=r"rows.jsonl, line 3"):
        build_groups(written(good, long, special), renderer, CHAT, max_length=400)
    with pytest.raises(DataError, match=r"rows.jsonl: holds conversation records; .* preference"):
        build_groups(written(good), renderer, PAIR, max_length=40)
    with pytest.raises(DataError, match=r"rows.jsonl: no record is left .*1 dropped"):
        build_groups(written(long), renderer, CHAT, max_length=40, too_long="drop")
    with pytest.raises(UsageError, match="kind: text"):
        text_blocks(written(good), renderer, 16)


def test_truncation_cuts_what_it_says(renderer, written):
    row = {"prompt": [user("what " * 30)], "completion": [assistant("red ship")]}
    ((whole,), _) = build_groups(written(row), renderer, CHAT, max_length=200)
    ((cut,), lengths) = build_groups(written(row), renderer, CHAT, max_length=20, too_long="truncate_prompt")
    assert cut.branches[0].ids.tolist() == whole.branches[0].ids.tolist()
    assert cut.prompt.tolist() == whole.prompt.tolist()[-len(cut.prompt) :]
    assert len(cut.prompt) + len(cut.branches[0].ids) == 20
    assert len(lengths.truncated) == 1
    limit = len(whole.prompt) + 1
    ((cut,), _) = build_groups(written(row), renderer, CHAT, max_length=limit, too_long="truncate_end")
    assert cut.branches[0].ids.tolist() == whole.branches[0].ids.tolist()[:1]


def test_a_pair_of_equal_answers_is_refused_by_name(renderer, written):
    better = {"prompt": [user("hi")], "chosen": [assistant("a red ship")], "rejected": [assistant("blue")]}
    same = {"prompt": [user("hi")], "chosen": [assistant("red")], "rejected": [assistant("red")]}
    with pytest.raises(DataError, match=r"line 2.*the same tokens") as error:
        build_groups(written(better, same), renderer, PAIR, max_length=50)
    assert "leave the pair out" in str(error.value)


def test_a_pair_that_cutting_makes_equal_is_dropped_and_counted(renderer, written):
    long = {"prompt": [user("hi")], "chosen": [assistant("red blue")], "rejected": [assistant("red black")]}
    other = {"prompt": [user("hi")], "chosen": [assistant("red")], "rejected": [assistant("blue")]}
    records = written(long, other)
    limit = len(renderer.prompt([user("hi")])) + 1
    groups, lengths = build_groups(records, renderer, PAIR, max_length=limit, too_long="truncate_end")
    assert [g.id for g in groups] == [records[1].id]
    assert lengths.dropped == [records[0].id]
