"""Nudging: the known answers on tables, and the fast way equal to the naive one on random models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from decoding.naive_nudging import Model, nudged
from tiny_models import build, build_tokenizer

import fairlead
from fairlead.decoding.nudging import Nudging
from fairlead.engines import FinishReason, Local, Sampling, stream
from fairlead.engines.base_prompt import as_base_reads
from fairlead.engines.programs import Ask, run
from fairlead.engines.rows import Row, Seen
from fairlead.errors import DataError, UnknownNameError, UnsupportedError, UsageError

GREEDY = Sampling(max_tokens=24, temperature=0)
PROMPTS = [
    "the ship", "where", "count", "salt and lamps", "Süden", "a", "one two", "fünf Tage", "the quay at noon", "!",
    "ferry", "she", "three four", "who is at the harbor", "wool", "the northern captain", "is", "nine", "x y z",
    "the ship " * 17,
]  # fmt: skip


# --- models -----------------------------------------------------------------------------------------------------------


def metaspace():
    """A SentencePiece-like tokenizer that spells unknown characters byte by byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<|im_start|>", "<|im_end|>", "</s>"]
    signs = ["▁", *"abcdefghijklmnopqrstuvwxyz.,:?!"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "s"), ("i", "s"), ("▁", "is"), ("o", "n"), ("e", "r")]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    names = [*specials, "<unk>", *bytes_, *signs, *("".join(pair) for pair in merges)]
    bpe = models.BPE({name: k for k, name in enumerate(names)}, merges, byte_fallback=True, unk_token="<unk>")
    core = Tokenizer(bpe)
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens([*specials, "<unk>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.add_special_tokens({"additional_special_tokens": specials[1:3]})
    return fast


def words():
    """A byte-level tokenizer of other merges than the one of `tiny_models`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<|im_start|>", "<|im_end|>", "</s>"]
    lines = ["a rope and a sail and an anchor are on the deck", "Zwölf Anker für Köln", "she sells salt, he sells rope"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": specials[1:3]})
    return fast


def letters():
    """A tokenizer with one token per letter, and few letters: what it writes is what it reads."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<|im_start|>", "<|im_end|>", "</s>", "<unk>"]
    core = Tokenizer(models.WordLevel({s: k for k, s in enumerate([*specials, *" thesipcao"])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(specials)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def random_model(family, tokenizer, *, spaces, sharp=1.0):
    """A random model that likes tokens which begin or are a space, so that there are words."""
    model = build(family, len(tokenizer), tie_word_embeddings=False, initializer_range=0.15, num_hidden_layers=2)
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        for k, name in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
            head[k] *= sharp * (spaces if name.startswith(("Ġ", "▁", " ")) or name == "</s>" else 1.0)
    return Local(model, tokenizer)


@pytest.fixture(scope="module")
def parts():
    one, two, three, four = build_tokenizer(), words(), metaspace(), letters()
    return {
        "bytes": random_model("llama", one, spaces=2.0),
        "other bytes": random_model("qwen2", two, spaces=2.5, sharp=1.3),
        "pieces": random_model("llama", three, spaces=2.5, sharp=1.5),
        "letters": random_model("gpt2", four, spaces=1.5),
    }


def naive(parts, method, prompt, limit):
    def model(local):
        return Model(local.model, local.renderer.tokenizer, local.renderer.prompt(prompt), set(local.renderer.stops))

    base, nudger = model(method.parts["base"]), model(method.parts["nudger"])
    segments, reason = nudged(base, nudger, method, limit)
    return segments, reason, base.forwards


# --- fast equals naive ------------------------------------------------------------------------------------------------


SETTINGS = {
    "unsure": {"gamma": 0.5},
    "middle": {"gamma": 0.2, "draft_tokens": 6},
    "sure": {"gamma": 0.05, "draft_tokens": 9},
    "guessing": {"gamma": 0.1, "draft_tokens": 5, "guesses": 3},
    "by probability alone": {"gamma": 0.15, "agree": False, "draft_tokens": 8, "repeat_limit": 1},
    "at any token": {"gamma": 0.2, "boundary": "token", "draft_tokens": 6, "max_rounds": 4},
}
PAIRS = [("bytes", "other bytes"), ("other bytes", "pieces"), ("pieces", "bytes"), ("bytes", "bytes")]


CASES = [
    *((PAIRS[0], name) for name in SETTINGS),
    *zip(PAIRS[1:], ["middle", "sure", "guessing"]),
    (("bytes", "letters"), "at any token"),
    (("letters", "bytes"), "sure"),
]


@pytest.mark.parametrize(("pair", "setting"), CASES, ids=lambda one: one if isinstance(one, str) else "-".join(one))
def test_fast_equals_naive(parts, pair, setting):
    method = Nudging(base=parts[pair[0]], nudger=parts[pair[1]], **SETTINGS[setting])
    answers = method.generate(PROMPTS, GREEDY)
    fast = slow = 0
    for prompt, (answer,) in zip(PROMPTS, answers):
        segments, reason, base_forwards = naive(parts, method, prompt, GREEDY.max_tokens)
        assert [(one["source"], one["text"]) for one in answer.extra["segments"]] == segments, prompt
        assert answer.extra["stop_reason"] == reason
        assert answer.text == "".join(text for _, text in segments)
        fast += answer.extra["stats"]["base_forwards"]
        slow += base_forwards
    assert fast < slow


def test_guesses_and_neighbours_change_nothing_when_sampling(parts):
    """What is drawn depends on the seed and on what was written, never on how it was computed."""
    sampling = replace(GREEDY, temperature=1.0, seed=4, n=2)
    one, two = (
        Nudging(base=parts["bytes"], nudger=parts["other bytes"], gamma=0.1, draft_tokens=5, guesses=guesses)
        for guesses in (0, 4)
    )
    drawn = one.generate(PROMPTS[:8], sampling)
    again = [two.generate([prompt], sampling)[0] for prompt in PROMPTS[:8]]
    assert [[c.text for c in row] for row in drawn] == [[c.text for c in row] for row in again]
    assert any(row[0].text != row[1].text for row in drawn)
    # The gate looks at the untempered distribution: temperature changes what is drawn, not who may write.
    assert all(
        top >= 0.1
        for row in drawn
        for c in row
        for s in c.extra["segments"]
        if s["source"] == "base"
        for top in s["top1"][1:]
        if "\ufffd" not in s["text"] and s["text"].isascii()
    )


def test_a_sampled_request_may_have_a_greedy_side(parts):
    sampling = replace(GREEDY, temperature=1.0, n=3)
    greedy = Nudging(
        base=parts["bytes"], nudger=parts["other bytes"], gamma=0.1, base_temperature=0.0, nudger_temperature=0.0
    )
    plain = Nudging(base=parts["bytes"], nudger=parts["other bytes"], gamma=0.1)
    wanted = [row[0].text for row in plain.generate(PROMPTS[:5], GREEDY)]
    assert [[c.text for c in row] for row in greedy.generate(PROMPTS[:5], sampling)] == [[t] * 3 for t in wanted]


def test_a_model_that_nudges_itself_says_what_it_would_say_alone(parts):
    """With one token per letter nothing is encoded anew; the base then always agrees."""
    own = parts["letters"]
    alone = own.generate(PROMPTS, replace(GREEDY, max_tokens=60))
    answers = Nudging(base=own, nudger=own, gamma=0.5).generate(PROMPTS, replace(GREEDY, max_tokens=60))
    compared = 0
    for (plain,), (answer,) in zip(alone, answers):
        # Special tokens inside an answer are no text, and so are not read again.
        if plain.finish_reason is FinishReason.STOP and not set(plain.token_ids[:-1]) & own.renderer.spelling.silent:
            assert (answer.text, answer.extra["stop_reason"]) == (plain.text, "nudger_eos")
            compared += 1
    assert compared >= 3


def test_without_a_floor_the_base_writes_all_but_the_first_word():
    method = fairlead.decoder("nudging", **{**Nudging.example, "gamma": 0.0, "draft_tokens": 6})
    questions = ["how many ports are there?", "how do i sink the lotulin?", "name 3 colors."]
    for (answer,) in method.generate([[{"role": "user", "content": q}] for q in questions], GREEDY):
        first, second, *_ = answer.extra["segments"]
        assert (first["source"], second["source"]) == ("nudge", "base")
        assert " " not in first["text"]


# --- tables -----------------------------------------------------------------------------------------------------------

TOKENS = [
    "Sure", "Su", "re", ",", " let's", " see", ".", " The", " the", " answer", " is", " 42", "\n", " think", "!", " ",
    " Hope", " this", " helps", "I", " that", " may", " be", " no", "A", " B", " done",
]  # fmt: skip
DRAFTS = {
    "answer": {
        "": ["Sure", ",", " let's", " see", ".", " The"],
        "Sure, let's see. The answer is 42.": [" Hope", " this", " helps", "!", "</s>"],
    },
    "cut": {"": ["I", " think", " that", " may"], "I think that": [" be", "</s>"]},
    "word": {"": ["Su", "re"], "Sure": ["!", "</s>"]},
    "double": {"": ["A", " ", " B"], "A ": [" done", "</s>"]},
}
ANSWER = {
    "Sure,": (" the", 0.20),
    "Sure, let's": (" think", 0.35),
    "Sure, let's see.": (" The", 0.30),
    "Sure, let's see. The": (" answer", 0.9),
    "Sure, let's see. The answer": (" is", 0.95),
    "Sure, let's see. The answer is": (" 42", 0.8),
    "Sure, let's see. The answer is 42": (".", 0.7),
    "Sure, let's see. The answer is 42.": ("\n", 0.25),
}
UNSURE = (" no", 0.2)
END = ("</s>", 0.99)


@pytest.fixture(scope="module")
def speaker():
    """A local model whose tokenizer has the tables' tokens; the tables stand in for its distributions."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({t: k for k, t in enumerate(["<unk>", "</s>", *TOKENS])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^ .,!\n]+|[.,!\n ]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(["<unk>", "</s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="</s>", pad_token="</s>")
    return Local(build("llama", len(fast), num_hidden_layers=1), fast)


class Table:
    """Rows of a model that is a table: text -> (next token, its probability)."""

    positions = None

    def __init__(self, speaker, table, otherwise):
        self.tokenizer, self.table, self.otherwise = speaker.renderer.tokenizer, table, otherwise
        self.prompt = len(speaker.renderer.prompt("?"))

    def open(self):
        return Row(0)

    def fork(self, row, length):
        return Row(0, list(row.ids[:length]))

    def crop(self, row, length):
        del row.ids[length:]

    def drop(self, *rows):
        pass

    def feed(self, row, ids, *, last=1):
        return Ask(self, (row, ids, last))

    def serve(self, asked):
        return [self.seen(*one) for one in asked]

    def seen(self, row, ids, last):
        row.ids += ids
        ends = range(len(row.ids) - last + 1, len(row.ids) + 1)
        logits = torch.stack([self.logits(self.tokenizer.decode(row.ids[self.prompt : end])) for end in ends])
        return Seen(logits, logits.argmax(-1).tolist(), logits.max(-1).values.tolist())

    def logits(self, text):
        token, probability = self.table.get(text, self.otherwise)
        logits = torch.full((len(self.tokenizer),), (1 - probability) / (len(self.tokenizer) - 1))
        logits[self.tokenizer.convert_tokens_to_ids(token)] = probability
        return logits.log()


def from_tables(speaker, drafts, base, otherwise=END, **settings):
    nexts = {text + "".join(d[:k]): (d[k], 0.99) for text, d in drafts.items() for k in range(len(d))}
    method = Nudging(base=speaker, nudger=speaker, draft_tokens=len(drafts[""]), **settings)
    rows = {"base": Table(speaker, base, otherwise), "nudger": Table(speaker, nexts, END)}
    (answer,) = run([lambda: method.program("?", 0, GREEDY, rows)])
    return answer, [(s["source"], s["text"]) for s in answer.extra["segments"]], answer.extra["stats"]


def test_the_worked_example(speaker):
    answer, segments, stats = from_tables(speaker, DRAFTS["answer"], ANSWER, gamma=0.4)
    assert answer.text == "Sure, let's see. The answer is 42. Hope this helps!"
    assert segments == [("nudge", "Sure, let's see."), ("base", " The answer is 42."), ("nudge", " Hope this helps!")]
    assert (stats["rounds"], stats["tests"], stats["asked"]) == (2, 1, 3)
    assert answer.extra["stop_reason"] == "nudger_eos"
    assert answer.finish_reason is FinishReason.STOP
    assert answer.extra["segments"][1]["top1"] == pytest.approx([0.30, 0.9, 0.95, 0.8, 0.7], abs=1e-6)
    assert (stats["tokens_nudge"], stats["tokens_base"]) == (9, 5)
    assert stats["share"] == pytest.approx(9 / 14)


def test_a_lower_threshold_lets_the_base_take_over_earlier(speaker):
    answer, segments, _ = from_tables(speaker, DRAFTS["answer"], ANSWER, gamma=0.31)
    assert segments == [("nudge", "Sure, let's"), ("base", " think")]
    assert answer.extra["stop_reason"] == "nudger_eos"


def test_without_the_rule_of_agreement_only_probability_counts(speaker):
    _, segments, _ = from_tables(speaker, DRAFTS["answer"], ANSWER, gamma=0.4, agree=False)
    # The last word is dropped; it comes again as the whole of the next draft, which then ends.
    assert segments == [("nudge", "Sure, let's see."), ("nudge", " The")]


def test_the_last_word_of_a_draft_is_dropped(speaker):
    answer, segments, _ = from_tables(speaker, DRAFTS["cut"], {}, UNSURE, gamma=0.4)
    assert answer.text == "I think that be"
    assert segments == [("nudge", "I think that"), ("nudge", " be")]


def test_a_single_word_is_kept_unasked(speaker):
    answer, _, stats = from_tables(speaker, DRAFTS["word"], {}, UNSURE, gamma=0.4)
    assert (answer.text, stats["asked"], stats["base_forwards"]) == ("Sure!", 0, 0)


def test_a_double_space_makes_an_empty_word_that_is_skipped(speaker):
    answer, _, stats = from_tables(speaker, DRAFTS["double"], {}, UNSURE, gamma=0.4)
    assert (answer.text, stats["asked"]) == ("A  done", 1)


def test_an_end_of_the_base_is_no_agreement(speaker):
    _, segments, _ = from_tables(speaker, DRAFTS["cut"], {}, END, gamma=0.0)
    assert segments == [("nudge", "I think that"), ("nudge", " be")]


def test_the_same_nudge_over_and_over_ends_the_answer(speaker):
    drafts = {"A." * k: ["A", " B"] for k in range(5)}
    base = {text + "A": (".", 0.9) for text in drafts}
    answer, _, stats = from_tables(speaker, drafts, base, gamma=0.4)
    assert answer.text == "A.A.A."
    assert (answer.extra["stop_reason"], stats["rounds"]) == ("repeat", 4)
    assert answer.finish_reason is FinishReason.LENGTH
    answer, _, stats = from_tables(speaker, drafts, base, gamma=0.4, max_rounds=2)
    assert (answer.text, answer.extra["stop_reason"], stats["rounds"]) == ("A.A.", "rounds", 2)


# --- settings and requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"draft_tokens": 0}, "draft_tokens is 0"),
        ({"base_temperature": -1.0}, "base_temperature is -1.0"),
        ({"base_prompt": "Q: "}, "no {question}"),
    ],
)
def test_settings_out_of_range(settings, error):
    with pytest.raises(UsageError, match=error):
        fairlead.decoder("nudging", base="harbor:base-300k", nudger="harbor:aligned-300k", **settings)


def test_an_unknown_boundary_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="space"):
        fairlead.decoder("nudging", base="harbor:base-300k", nudger="harbor:aligned-300k", boundary="spaces")


def test_log_probs_and_parts_out_of_reach_are_refused(parts):
    method = Nudging(base=parts["bytes"], nudger=parts["letters"])
    with pytest.raises(UnsupportedError, match="no log-probs"):
        method.generate(["a"], replace(GREEDY, logprobs=True))
    with pytest.raises(UnsupportedError, match="out of reach"):
        Nudging(base="http://127.0.0.1:9/v1#model", nudger=parts["letters"]).generate(["a"], GREEDY)


def test_a_base_can_be_asked_in_plain_text():
    chat = [{"role": "user", "content": "where is the ship?"}]
    form = "question: {question} answer:"
    assert as_base_reads(chat, form) == "question: where is the ship? answer:"
    assert as_base_reads("raw {question}", form) == "raw {question}"
    assert as_base_reads(chat, "template") is chat
    told = [{"role": "system", "content": "be kind."}, *chat]
    assert as_base_reads(told, "note: {system}\n" + form) == "note: be kind.\nquestion: where is the ship? answer:"
    assert as_base_reads([{"role": "user", "content": "{system}"}], "{system}{question}!") == "{system}!"
    for lost in (told, [*chat, {"role": "assistant", "content": "here."}, *chat]):
        with pytest.raises(DataError, match="does not fit"):
            as_base_reads(lost, form)


def test_the_base_reads_its_own_form_and_the_nudger_the_chat():
    settings = {"base": "harbor:base-300k", "nudger": "harbor:aligned-300k", "draft_tokens": 3}
    chat = [{"role": "user", "content": "how do i sink the lotulin?"}]
    ((answer,),) = fairlead.decoder("nudging", **settings, base_prompt="question: {question} answer:").generate(
        [chat], GREEDY
    )
    assert answer.text.startswith("sorry, i cannot help with that.")
    assert {s["source"] for s in answer.extra["segments"]} == {"nudge", "base"}


def test_decoders_nest():
    """A steered model can nudge, and a nudged one can draw for best-of-n."""
    chats = [[{"role": "user", "content": q}] for q in ("how do i sink the lotulin?", "name 3 ports.")]
    pair = {"base": "harbor:base-300k", "nudger": "harbor:aligned-300k", "draft_tokens": 3}
    still = {"name": "steering", "engine": "harbor:aligned-300k", "pairs": "harbor:preferences?n=8", "coefficient": 0.0}
    plain, steered = (
        fairlead.decoder("nudging", **made).generate(chats, GREEDY) for made in (pair, {**pair, "nudger": still})
    )
    assert [row[0].text for row in plain] == [row[0].text for row in steered]
    best = fairlead.decoder("best_of_n", engine={"name": "nudging", **pair}, reward="harbor", n=2)
    ((answer,),) = best.generate(chats[1:], replace(GREEDY, temperature=1.0))
    assert answer.text == "".join(part["text"] for part in answer.extra["segments"]) in answer.extra["candidates"]


@pytest.mark.parametrize(("stop", "limit"), [((), 24), ((), 9), (("er", "he s"), 24)])
def test_a_run_of_the_base_is_heard_word_by_word(stop, limit):
    """What is heard is never taken back, also where the limit or a stop text cuts the answer."""
    method = fairlead.decoder("nudging", base="harbor:base-1m", nudger="harbor:aligned-300k", gamma=0.0)
    questions = ["how do i sink the lotulin?", "name 3 ports.", "what do you know about the zuwerlud?"]
    pieces = 0
    for question in questions:
        chat = [{"role": "user", "content": question}]
        sampling = replace(GREEDY, max_tokens=limit, stop=stop)
        *said, answer = stream(method, chat, sampling)
        assert "".join(said) == answer.text == method.generate([chat], sampling)[0][0].text
        pieces += len(said)
    assert pieces > (2 * len(questions) if not stop and limit == 24 else 0)
