"""Names to models: finds, loads and fingerprints what `harbor:...`, a local path or a hub id stands for.

The one door to model and tokenizer files. Whatever is missing or does not fit is a `ModelError` that says what to do,
where the libraries below would warn, initialise at random, or build an empty tokenizer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fairlead.errors import MissingExtraError, ModelError, UnknownNameError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "DTYPES",
    "fingerprint",
    "load_config",
    "load_embedder",
    "load_model",
    "load_shape",
    "load_tokenizer",
    "pick_device",
    "quiet",
    "resolve",
]

DTYPES = ("float32", "bfloat16", "float16")
"""The number formats that a model can be loaded in."""

_HARBOR = "harbor:"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_ADAPTER = "adapter_config.json"
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_IDENTITY = (
    "config.json",
    "generation_config.json",
    _ADAPTER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    *_VOCABULARIES,
)
_IDENTITY_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.jinja")


def resolve(name: str) -> str:
    """Return what `name` stands for: the folder of `harbor:NAME`, an existing path itself, else a hub id.

    Raises:
        ModelError: a name that looks like a path and is not there, or that no hub id can be.
    """
    if name.startswith(_HARBOR):
        from fairlead import harbor

        folder = Path(harbor.model_path(name.removeprefix(_HARBOR)))
        if not folder.is_dir():
            raise ModelError(f"the model folder {folder} is not installed", place=name, fix="reinstall fairlead")
        return str(folder)
    path = Path(name).expanduser()
    if name.strip() and path.is_dir():
        return str(path)
    if path.is_file():
        raise ModelError("is a file, not a model folder", place=name, fix=f"use its folder: {path.parent}")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or not name.strip("/ "):
        raise ModelError("no such model folder", place=name, fix="check the path, or use harbor:NAME or a hub id")
    return name


def pick_device() -> str:
    """Return the device that models go to by default: "cuda" where there is one, else "mps", else "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of model `name`; an adapter folder without its own uses its base model's.

    Raises:
        ModelError: no such model, or one without tokenizer files.
    """
    from transformers import AutoTokenizer

    where = resolve(name)
    folder = Path(where)
    if folder.is_dir() and not any((folder / file).is_file() for file in _VOCABULARIES):
        if (folder / _ADAPTER).is_file():
            return load_tokenizer(_adapter_base(folder))
        raise ModelError(
            "has no tokenizer",
            place=name,
            fix=f"call tokenizer.save_pretrained on the folder; looked for {', '.join(_VOCABULARIES)}",
        )
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _unloadable("tokenizer", name, error) from error


def load_embedder(name: str, what: str) -> SentenceTransformer:
    """Load a sentence-embedding model from a folder or by its hub id; `what` asks for it, for the error.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ModelError: no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "embed", what) from error
    try:
        return SentenceTransformer(name)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot be loaded as a sentence-embedding model: {str(error).splitlines()[0]}",
            place=name,
            fix="give a folder or hub id that sentence-transformers can read",
        ) from error


def load_model(
    name: str,
    *,
    dtype: str = "float32",
    device: str | None = None,
    head: Literal["lm", "score"] = "lm",
) -> PreTrainedModel:
    """Load model `name` in evaluation mode.

    Args:
        name: `harbor:NAME`, a folder (of a model, or of an adapter, which is put on its base), or a hub id.
        dtype: one of `DTYPES`.
        device: where to; None picks the best there is.
        head: "lm" for next-token logits, "score" for one number per token position (a reward model). The score head
            of a plain language model starts at zero, so every score is 0 until it is trained.

    Raises:
        ModelError: no such model, no weights, weights that do not fill the architecture or are of another kind.
    """
    import torch

    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES, place=name)
    if head not in ("lm", "score"):
        raise UnknownNameError("head", head, ("lm", "score"), place=name)
    where = resolve(name)
    folder = Path(where)
    device = device or pick_device()
    if (folder / _ADAPTER).is_file():
        model: Any = _with_adapter(name, folder, dtype, head)
    else:
        _require_files(name, folder)
        model = _from_pretrained(name, where, getattr(torch, dtype), head)
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"cannot be moved to device {device!r}: {error}", place=name, fix="use device cpu") from error


def load_config(name: str) -> PreTrainedConfig:
    """Load the architecture's description of model `name` (of an adapter: its base's); no weights are read.

    Raises:
        ModelError: no such model, or one without a readable config.json.
    """
    from transformers import AutoConfig

    where = resolve(name)
    folder = Path(where)
    if (folder / _ADAPTER).is_file():
        return load_config(_adapter_base(folder))
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError("has no config.json", place=name, fix="give the folder that save_pretrained wrote")
    try:
        with quiet():
            return AutoConfig.from_pretrained(where)
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable("config", name, error) from error


def load_shape(name: str) -> PreTrainedModel:
    """Return the architecture of language model `name` without memory for its weights, tied ones counted once."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    config = load_config(name)
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return model


def fingerprint(name: str) -> str:
    """Return 64 hex digits that change with the model's config, weights or tokenizer files.

    A folder is hashed by content (an adapter together with its base); a hub id by the commit that its name stands for.
    """
    where = resolve(name)
    folder = Path(where)
    if not folder.is_dir():
        return hashlib.sha256(f"hub:{where}@{_hub_commit(name, where)}".encode()).hexdigest()
    files = sorted({file for pattern in (*_IDENTITY, *_IDENTITY_PATTERNS) for file in folder.glob(pattern)})
    if not files:
        raise ModelError("holds no model files", place=name, fix="give a folder with config.json and weights")
    whole = hashlib.sha256()
    for file in files:
        stat = file.stat()
        whole.update(f"{file.name}\0{_file_hash(file, stat.st_mtime_ns, stat.st_size)}\n".encode())
    if (folder / _ADAPTER).is_file():
        whole.update(fingerprint(_adapter_base(folder)).encode())
    return whole.hexdigest()


@lru_cache(maxsize=4096)
def _file_hash(file: Path, _modified: int, _size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hub_commit(name: str, where: str) -> str:
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        config = cached_file(where, "config.json")
    except OSError as error:
        raise _unloadable("config", name, error) from error
    commit = extract_commit_hash(config, None)
    if commit is None:
        raise ModelError("the hub's cache does not say which commit it holds", place=name, fix="clear the hub's cache")
    return commit


def _require_files(name: str, folder: Path) -> None:
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise ModelError("has no config.json", place=name, fix="give the folder that save_pretrained wrote")
    if not any((folder / file).is_file() for file in _WEIGHTS):
        raise ModelError("has no weights", place=name, fix=f"the folder must hold one of {', '.join(_WEIGHTS)}")


def _from_pretrained(name: str, where: str, dtype: torch.dtype, head: str) -> PreTrainedModel:
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    try:
        config = AutoConfig.from_pretrained(where)
        stored = [a for a in (getattr(config, "architectures", None) or []) if isinstance(a, str)]
        scores = any("SequenceClassification" in a for a in stored)
        if head == "lm" and scores:
            raise ModelError(
                f"is a reward model ({stored[0]}), not a language model", place=name, fix="load it with head='score'"
            )
        if head == "score":
            if scores and config.num_labels != 1:
                raise ModelError(f"gives {config.num_labels} scores", place=name, fix="use a model with one score")
            config.num_labels = 1
        kind = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
        with quiet():
            loaded: Any = kind.from_pretrained(where, config=config, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unloadable("model", name, error) from error
    model, info = loaded
    _check_filled(name, model, set(info["missing_keys"]), new_head=head == "score" and not scores)
    return model


def _check_filled(name: str, model: Any, missing: Iterable[str], *, new_head: bool) -> None:
    """Refuse weights that were initialised at random; zero the head that is new on purpose."""
    import torch

    left = set(missing)
    if new_head:
        for key in [k for k in left if k.split(".")[-2] in ("score", "classifier")]:
            torch.nn.init.zeros_(model.get_parameter(key))
            left.discard(key)
    if left:
        first = ", ".join(sorted(left)[:3])
        raise ModelError(
            f"{len(left)} weights of the architecture are not in the files ({first}...)",
            place=name,
            fix="check that config.json and the weight files belong together",
        )


def _with_adapter(name: str, folder: Path, dtype: str, head: Literal["lm", "score"]) -> Any:
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "peft", f"{name} is an adapter, and loading it") from error
    base: Any = load_model(_adapter_base(folder), dtype=dtype, device="cpu", head=head)
    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
        if config.task_type == "SEQ_CLS" and head == "lm":
            what = "is an adapter of a reward model, not of a language model"
            raise ModelError(what, place=name, fix="load it with head='score'")
        if config.task_type == "CAUSAL_LM" and head == "score":
            # A language model's adapter under a new score head: only peft's classes for tasks would refuse it.
            config.task_type = None
        return PeftModel.from_pretrained(base, str(folder), config=config)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unloadable("adapter", name, error) from error


def _adapter_base(folder: Path) -> str:
    file = folder / _ADAPTER
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot be read: {error}", place=str(file), fix="save the adapter again") from error
    if not base:
        raise ModelError("does not name its base model", place=str(file), fix="set base_model_name_or_path in it")
    return base


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' load report and progress bars: what they would say is an error here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _unloadable(what: str, name: str, error: Exception) -> ModelError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(
        f"the {what} cannot be loaded: {first}",
        place=name,
        fix="use harbor:NAME, a folder that save_pretrained wrote, or a hub id that is cached or reachable",
    )
