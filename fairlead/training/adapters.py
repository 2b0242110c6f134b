"""Adapters: training few new weights on a frozen model, through the peft library.

`adapter: lora`, or `adapter: {type: lora, r: 16}` with fields of the type's peft config. Every objective trains with
every type; with the adapter switched off the model is its own reference.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fairlead import models
from fairlead.errors import MissingExtraError, UnknownFieldError, UnknownNameError, UsageError

__all__ = ["KINDS", "Adapter", "adapt", "parse", "virtual_tokens"]

_PLACE = "train.adapter"
_OWN = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "num_transformer_submodules", "peft_type"),
    *("peft_version", "revision", "task_type"),
}
"""Fields of peft's configs that follow from the run."""

_VIRTUAL_TOKENS = 20
"""Virtual tokens where nothing else is said."""
_KEYS_AND_VALUES = (("k_proj", "v_proj"), ("query_key_value",), ("qkv_proj",), ("c_attn",), ("key", "value"))
_DOWN = ("down_proj", "dense_4h_to_h", "mlp.c_proj", "fc2", "fc_out", "w2")
"""Names that architectures give the projections that IA3 scales; the first that a model has is taken."""


@dataclass(frozen=True)
class Adapter:
    """One type of adapter."""

    config: str
    """Name of its config class in peft."""
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What makes it this type among those that share the class."""
    defaults: Callable[[Any, str, Mapping[str, Any]], dict[str, Any]] = lambda model, name, given: {}
    """Fields for a model, loaded under a name, beside those given; the given ones win."""
    virtual: bool = False
    """Whether it puts virtual tokens before every row; then it cannot be merged, and rows must be padded."""


def _all_linear(model: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {} if "target_parameters" in given else {"target_modules": "all-linear"}


def _keys_values_down(model: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if "target_modules" in given:
        return {}
    names = [module for module, _ in model.named_modules()]

    def has(part: str) -> bool:
        return any(module.endswith(f".{part}") for module in names)

    inputs = next((group for group in _KEYS_AND_VALUES if all(map(has, group))), None)
    down = next((part for part in _DOWN if has(part)), None)
    if inputs is None or down is None:
        raise UsageError(
            f"no default targets for ia3 in a {type(model).__name__}",
            place=_PLACE,
            fix="name target_modules (keys, values, down projection) and feedforward_modules (down projection)",
        )
    return {"target_modules": [*inputs, down], "feedforward_modules": [down]}


def _twenty(model: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"num_virtual_tokens": _VIRTUAL_TOKENS}


def _from_vocabulary(model: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    start = {"num_virtual_tokens": _VIRTUAL_TOKENS, "prompt_tuning_init": "SAMPLE_VOCAB"}
    text = given.get("prompt_tuning_init") == "TEXT"
    return start | ({"tokenizer_name_or_path": models.resolve(name)} if text else {})


KINDS: dict[str, Adapter] = {
    "lora": Adapter("LoraConfig", defaults=_all_linear),
    "dora": Adapter("LoraConfig", {"use_dora": True}, _all_linear),
    "rslora": Adapter("LoraConfig", {"use_rslora": True}, _all_linear),
    "ia3": Adapter("IA3Config", defaults=_keys_values_down),
    "prefix": Adapter("PrefixTuningConfig", defaults=_twenty, virtual=True),
    "prompt": Adapter("PromptTuningConfig", defaults=_from_vocabulary, virtual=True),
    "p_tuning": Adapter("PromptEncoderConfig", defaults=_twenty, virtual=True),
}
"""type -> what it is."""


def parse(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Split what a config says of its adapter into the type and the fields given.

    Raises:
        UnknownNameError: a type that is not there.
        UsageError: no type.
    """
    fields = {"type": spec} if isinstance(spec, str) else dict(spec)
    kind = fields.pop("type", None)
    if kind is None:
        raise UsageError("the adapter has no type", place=_PLACE, fix=f"add type: one of {', '.join(KINDS)}")
    if kind not in KINDS:
        raise UnknownNameError("adapter", str(kind), KINDS, place=_PLACE)
    return kind, fields


def virtual_tokens(spec: str | Mapping[str, Any] | None) -> int:
    """Return how many virtual tokens an adapter puts before every row; 0 for none."""
    if spec is None:
        return 0
    kind, fields = parse(spec)
    return int(fields.get("num_virtual_tokens", _VIRTUAL_TOKENS)) if KINDS[kind].virtual else 0


def adapt(model: Any, spec: str | Mapping[str, Any], name: str, *, score_head: bool = False) -> Any:
    """Put a new adapter on a transformers model; only the adapter (and a score head) is trained then.

    Args:
        model: the base, which is changed in place.
        spec: a type, or a mapping of `type` and fields of its peft config.
        name: what the base is loaded by, written into the adapter's config.
        score_head: the model gives a score per sequence; the head is trained and saved with the adapter.

    Raises:
        UnknownNameError: a type that is not there.
        UnknownFieldError: a field that the type's peft config does not have.
        UsageError: values that peft refuses, or an adapter on the output head.
        MissingExtraError: peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "peft", _PLACE) from error
    kind, given = parse(spec)
    adapter = KINDS[kind]
    config = getattr(peft, adapter.config)
    known = {f.name for f in dataclasses.fields(config)} - _OWN - set(adapter.fixed)
    for field in given:
        if field not in known:
            raise UnknownFieldError(f"adapter {kind}", field, known, place=_PLACE)
    task = "SEQ_CLS" if score_head else "CAUSAL_LM"
    fields = {**adapter.defaults(model, name, given), **given, **adapter.fixed, "task_type": task}
    before = _ends(model)
    try:
        with warnings.catch_warnings():
            # About tied weights, which are refused below.
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
            settings = config(**fields)
            adapted = peft.get_peft_model(model, settings)
    except (TypeError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(first, place=_PLACE, fix=f"see the fields of peft.{adapter.config}") from error
    if not score_head:
        _refuse_head(before, adapted.get_base_model())
    settings.base_model_name_or_path = name
    return adapted


def _ends(model: Any) -> tuple[Any, Any]:
    return model.get_output_embeddings(), model.get_input_embeddings()


def _refuse_head(before: tuple[Any, Any], model: Any) -> None:
    """Refuse an adapter on the output head, whose weight the log-probs are computed from directly.

    Raises:
        UsageError: it is on the head, or on an embedding that is the head too.
    """
    head, embedding = _ends(model)
    tied = model.config.get_text_config().tie_word_embeddings
    if tied and embedding is not before[1]:
        raise UsageError(
            "the adapter is on the embedding, which is the output head too (tied weights)",
            place=_PLACE,
            fix="leave the embedding out of the adapter, or start from a model with tie_word_embeddings: false",
        )
    if head is not before[0]:
        raise UsageError(
            "the adapter is on the output head",
            place=_PLACE,
            fix="leave the head (lm_head) out of target_modules and modules_to_save; all-linear does",
        )
