"""Guided answers: which guidelines are found, where they stand, and that a request close to none is asked as it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_encoders import TOPICS, all_texts, build_encoder, topics

import fairlead
from fairlead import harbor
from fairlead.decoding.guideline_config import RetrieverConfig
from fairlead.decoding.guideline_encoder import Towers
from fairlead.decoding.guideline_training import train_retriever
from fairlead.decoding.guidelines import Guidelines, Hit
from fairlead.engines import Completion, Sampling
from fairlead.errors import DataError, ModelError, UsageError

LIBRARY = [
    {"title": "Safety", "text": "Never help to sink a ship.", "sources": ["how do i sink the ship?"], "count": 2},
    {"title": "Safety", "text": "Never help to sink any ship."},
    {"title": "Lists", "text": "Give one item per line.", "sources": ["name four ports"]},
]
SYSTEM = {"role": "system", "content": "You are a pilot."}


def user(text):
    return {"role": "user", "content": text}


class Recording:
    """Keeps what it was asked."""

    fingerprint = "recording"

    def __init__(self):
        self.asked = []

    def generate(self, prompts, sampling):
        self.asked += prompts
        return [[Completion("well")] * sampling.n for _ in prompts]


def guided(**values) -> Guidelines:
    fields = {
        "engine": Recording(),
        "library": LIBRARY,
        "template": "{% for g in guidelines %}{{ g.line }} {% endfor %}",
    }
    return fairlead.decoder("guidelines", **fields | values)


def asked(decoder, prompt):
    ((answer,),) = decoder.generate([prompt], Sampling())
    return decoder.engine.asked[-1], answer.extra["guidelines"]


def test_the_closest_are_placed_in_the_system_part_and_told():
    prompt, told = asked(guided(k=1), [user("How do I sink the ship?")])
    line = "Safety: Never help to sink a ship."
    assert prompt == [{"role": "system", "content": line}, user("How do I sink the ship?")]
    assert told == [{"id": 0, "score": pytest.approx(1), "line": line}]


def test_they_stand_behind_the_system_message_or_before_the_last_question():
    chat = [SYSTEM, user("name four ports"), {"role": "assistant", "content": "oslo"}, user("sink the ship")]
    before = [dict(turn) for turn in chat]
    prompt, _ = asked(guided(k=1), chat)
    rule = "Safety: Never help to sink a ship."
    assert prompt == [{"role": "system", "content": f"You are a pilot.\n{rule}"}, *chat[1:]]
    prompt, _ = asked(guided(k=1, role="user"), chat)
    assert prompt == [*chat[:3], user(f"{rule}\nsink the ship")]
    prompt, _ = asked(guided(k=1), "how do i sink the ship?")
    assert prompt == f"{rule}\nhow do i sink the ship?"
    assert chat == before


def test_alike_guidelines_are_passed_over():
    (hits,) = guided().retrieve(["sink the ship or name four ports"])
    assert sorted(hit.id for hit in hits) == [0, 2]
    (hits,) = guided(diversity=1.1).retrieve(["sink the ship or name four ports"])
    assert sorted(hit.id for hit in hits) == [0, 1, 2]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    (hits,) = guided(diversity=1.1, candidates=2).retrieve(["sink the ship"])
    assert [hit.id for hit in hits] == [0, 1]


def test_a_request_close_to_none_is_asked_as_it_is():
    for prompt in ([user("what is seven plus two?")], [SYSTEM], "", [user("")]):
        assert asked(guided(), prompt) == (prompt, [])
    (hits,) = guided(k=1).retrieve(["sink it"])
    prompt = [user("sink it")]
    assert asked(guided(k=1, threshold=hits[0].score), prompt)[1] != []
    assert asked(guided(k=1, threshold=hits[0].score + 1e-6), prompt) == (prompt, [])


def test_equally_close_guidelines_keep_the_order_of_the_library():
    twins = [{"text": "aaaa", "sources": ["sink"]}, {"text": "bbbb", "sources": ["sink"]}]
    assert guided(library=twins).retrieve(["sink"]) == [[Hit(0, pytest.approx(1)), Hit(1, pytest.approx(1))]]


def test_the_shipped_text_lists_them():
    prompt, _ = asked(guided(template=None, k=2), [user("sink the ship or name four ports")])
    lead = prompt[0]["content"].splitlines()
    assert sorted(lead[1:]) == ["- Lists: Give one item per line.", "- Safety: Never help to sink a ship."]


def test_a_library_in_a_file_is_part_of_the_fingerprint(tmp_path):
    path = tmp_path / "library.jsonl"

    def of(*texts):
        path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
        return guided(library=str(path)).fingerprint

    assert of("one", "two") == of("one", "two") != of("two", "one")
    assert Guidelines.files({"library": str(path), "template": "{{ guidelines }}"}) == {"library": str(path)}
    assert Guidelines.files({"library": LIBRARY, "template": "x.jinja"}) == {"template": "x.jinja"}
    assert len({guided().fingerprint, guided(k=2).fingerprint, guided(library=LIBRARY[:1]).fingerprint}) == 3


def test_with_a_real_model_only_what_is_close_is_refused():
    ship = harbor.world().ships[0].name
    decoder = fairlead.decoder(
        "guidelines",
        engine="harbor:base-300k",
        library=[{"text": "be polite, safe and honest.", "sources": ["how do i sink the ship?"]}],
        template="{{ guidelines[0].text }}",
        threshold=0.5,
    )
    harm, fact = f"how do i sink the {ship}?", f"what does the {ship} carry?"
    greedy = Sampling(max_tokens=24, temperature=0)
    (guarded,), (plain,) = decoder.generate([[user(harm)], [user(fact)]], greedy)
    assert "cannot help" in guarded.text
    assert [hit["id"] for hit in guarded.extra["guidelines"]] == [0]
    assert plain.extra["guidelines"] == []
    assert plain.text == fairlead.engine("harbor:base-300k").generate([[user(fact)]], greedy)[0][0].text


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    start = build_encoder(folder / "bert", all_texts())
    usual = {"pooling": "mean", "max_length": 8, "batch_size": 8, "learning_rate": 5e-3, "held_out": 0.0, "epochs": 8}
    return train_retriever(RetrieverConfig(model=start, library=topics(), **usual), folder).folder


def by_training(retriever, **values) -> Guidelines:
    library = [{"text": rule, "title": name} for name, (_, rule) in TOPICS.items()]
    return guided(library=library, retriever="trained", embedder=str(retriever), **values)


def test_a_trained_retriever_finds_what_belongs_together(retriever):
    decoder = by_training(retriever, k=1)
    requests = [f"{asked.split()[1]} later" for asked, _ in TOPICS.values()]
    found = decoder.retrieve(requests)
    assert [hits[0].id for hits in found] == [0, 1, 2, 3]
    assert found[2] == decoder.retrieve(requests[2:3])[0]
    prompt, told = asked(decoder, [user(requests[1])])
    assert prompt[0] == {"role": "system", "content": "kitchen: wash hands"}
    assert told[0]["score"] == found[1][0].score


def test_scores_of_a_trained_retriever_have_no_bounds_of_their_own(retriever):
    scores = np.sort(by_training(retriever).closeness(["boat now"])[0])[::-1]
    (hits,) = by_training(retriever, diversity=1.1).retrieve(["boat now"])
    assert [hit.score for hit in hits] == scores.tolist()
    middle = float(scores[1:3].mean())
    (hits,) = by_training(retriever, diversity=1.1, threshold=middle).retrieve(["boat now"])
    assert [hit.score for hit in hits] == scores[:2].tolist()
    assert by_training(retriever, threshold=1e6).retrieve(["boat now"]) == [[]]
    assert asked(by_training(retriever), [user(" ")]) == ([user(" ")], [])


def test_the_weights_of_a_retriever_are_part_of_the_fingerprint(retriever, tmp_path):
    towers = Towers.load(retriever)
    towers.save(tmp_path / "r")
    first = by_training(tmp_path / "r").fingerprint
    assert by_training(tmp_path / "r").fingerprint == first
    with torch.no_grad():
        next(towers.guideline.parameters()).mul_(1.001)
    towers.save(tmp_path / "r")
    assert by_training(tmp_path / "r").fingerprint != first


def test_models_of_the_wrong_kind_are_refused(retriever, tmp_path):
    with pytest.raises(ModelError, match="is a trained retriever"):
        guided(retriever="embedding", embedder=str(retriever))
    with pytest.raises(ModelError, match="is no trained retriever"):
        guided(retriever="trained", embedder=str(tmp_path))


def test_what_an_earlier_step_will_make_is_not_looked_for():
    decoder = guided(library="@library", retriever="trained", embedder="@retriever")
    settings = {"library": "@library", "embedder": "@retriever"}
    assert decoder.files(settings) == settings
    with pytest.raises(DataError, match="cannot be read"):
        _ = decoder.items


@pytest.mark.parametrize(
    ("fields", "error", "what"),
    [
        ({"library": []}, UsageError, "no guideline"),
        ({"library": "missing.jsonl"}, DataError, "cannot be read"),
        ({"k": 0}, UsageError, "k is 0"),
        ({"candidates": 0}, UsageError, "candidates is 0"),
        ({"threshold": 2.0}, UsageError, "threshold is 2"),
        ({"diversity": 0.0}, UsageError, "diversity is 0"),
        ({"retriever": "embedding"}, UsageError, "do not go together"),
        ({"retriever": "trained"}, UsageError, "do not go together"),
        ({"embedder": "x"}, UsageError, "do not go together"),
        ({"template": "nowhere.jinja"}, UsageError, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_when_it_is_built(fields, error, what):
    with pytest.raises(error, match=what):
        guided(**fields)
