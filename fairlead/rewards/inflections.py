"""Which words are forms of one another: English nouns and verbs, by rule and by a list of irregular ones.

A word has one or more possible base forms; two words match when they share one. No dictionary decides whether a base
form is a word ("filled" is read as "fill" and as "fil"), which does no harm when looking for a given word.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

__all__ = ["bases", "words_of"]

_IRREGULAR = """
be am is are was were been being; have has had; do does did done; go goes went gone; arise arose arisen;
awake awoke awoken; bear bore borne born; beat beaten; become became; begin began begun; bend bent; bet; bid bade
bidden; bind bound; bite bit bitten; bleed bled; blow blew blown; break broke broken; breed bred; bring brought;
build built; burn burnt; buy bought; catch caught; choose chose chosen; cling clung; come came; creep crept;
deal dealt; dig dug; draw drew drawn; dream dreamt; drink drank drunk; drive drove driven; dwell dwelt; eat ate eaten;
fall fell fallen; feed fed; feel felt; fight fought; find found; flee fled; fling flung; fly flew flown;
forbid forbade forbidden; forget forgot forgotten; forgive forgave forgiven; freeze froze frozen; get got gotten;
give gave given; grind ground; grow grew grown; hang hung; hear heard; hide hid hidden; hold held; keep kept;
kneel knelt; know knew known; lay laid; lead led; lean leant; leap leapt; learn learnt; leave left; lend lent;
lie lay lain lying; light lit; lose lost; make made; mean meant; meet met; pay paid; ride rode ridden;
ring rang rung; rise rose risen; run ran; say said; see saw seen; seek sought; sell sold; send sent;
sew sewn; shake shook shaken; shear shorn; shine shone; shoot shot; show shown; shrink shrank shrunk; sing sang sung;
sink sank sunk; sit sat; sleep slept; slide slid; sling slung; smell smelt; sow sown; speak spoke spoken;
speed sped; spell spelt; spend spent; spill spilt; spin spun; spit spat; spring sprang sprung; stand stood;
steal stole stolen; stick stuck; sting stung; stink stank stunk; stride strode; strike struck stricken; string strung;
strive strove striven; swear swore sworn; sweep swept; swell swollen; swim swam swum; swing swung; take took taken;
teach taught; tear tore torn; tell told; think thought; throw threw thrown; tie tying; die dying; tread trod trodden;
undertake undertook undertaken; understand understood; wake woke woken; wear wore worn; weave wove woven; weep wept;
win won; wind wound; withdraw withdrew withdrawn; wring wrung; write wrote written;
child children; man men; woman women; person people; foot feet; tooth teeth; goose geese; mouse mice; louse lice;
ox oxen; die dice; penny pence; leaf leaves; loaf loaves; thief thieves; sheaf sheaves; staff staves; hoof hooves;
scarf scarves; dwarf dwarves; wharf wharves; criterion criteria; phenomenon phenomena; datum data; medium media;
cactus cacti; fungus fungi; nucleus nuclei; radius radii; stimulus stimuli; analysis analyses; axis axes;
basis bases; crisis crises; oasis oases; thesis theses; hypothesis hypotheses; index indices; matrix matrices;
vertex vertices; appendix appendices
"""
_WORD = re.compile(r"[^\W_]+")
_SHORT = re.compile(r"[^aeiou]*[aeiou][^aeiouwxy]")
"""One syllable that ends in a single vowel and a consonant: it doubles the consonant before -ed and -ing."""
_LEAST = 3
"""Letters that a base form found by rule has at least."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, in lower case; marks and underscores part words."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@lru_cache(maxsize=65536)
def bases(word: str) -> frozenset[str]:
    """Return the possible base forms of a word in lower case, itself among them."""
    found = {word, *_irregular().get(word, ())}
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        found |= _long_enough(_singular(word))
    for ending in ("ed", "ing"):
        if word.endswith(ending):
            found |= _long_enough(_present(word.removesuffix(ending)))
    if word.endswith("ied"):
        found |= _long_enough([f"{word[:-3]}y"])
    return frozenset(found)


def _long_enough(words: list[str]) -> set[str]:
    return {word for word in words if len(word) >= _LEAST}


def _singular(word: str) -> list[str]:
    stem = word[:-1]
    if word.endswith("ies"):
        return [stem, f"{word[:-3]}y"]
    if word.endswith("ves"):
        return [stem, f"{word[:-3]}f", f"{word[:-3]}fe"]
    return [stem, word[:-2]] if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")) else [stem]


def _present(stem: str) -> list[str]:
    """Return the verbs of which `stem` is left without -ed or -ing."""
    if not re.search("[aeiouy]", stem):
        return []
    if len(stem) > 2 and stem[-1] == stem[-2]:
        return [stem, stem[:-1]]
    return [f"{stem}e"] if _SHORT.fullmatch(stem) else [stem, f"{stem}e"]


@cache
def _irregular() -> dict[str, tuple[str, ...]]:
    """Return the base forms by irregular form: "lay" belongs to "lie" and, being regular, to itself."""
    found: dict[str, tuple[str, ...]] = {}
    for line in _IRREGULAR.replace("\n", " ").split(";"):
        base, *forms = line.split()
        for form in forms:
            found[form] = (*found.get(form, ()), base)
    return found
