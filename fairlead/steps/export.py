"""The `export` step: one plain Hugging Face folder out of a model or adapter, or out of several models' mean weights,
checked against what it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead.errors import ModelError, UsageError
from fairlead.steps.base import Context, Outcome, Preview, Use

if TYPE_CHECKING:
    import torch

__all__ = ["Export"]

_PROBES, _PROBE_LENGTH = 8, 32
_MERGE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Export:
    """Merge adapters, change the number format, save as a plain folder, and check the copy's logits."""

    model: str
    """What to export: `harbor:NAME`, a directory (of a model or of an adapter), or a hub id."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Number format of the exported weights."""
    shard_size: str = "5GB"
    """Largest weight file."""
    average: tuple[str, ...] = ()
    """Further models of the same shape: the mean of all weights is exported. Of models trained from one start, each
    on a reward of its own, these are rewarded soups (arXiv 2306.04488)."""
    weights: tuple[float, ...] = ()
    """With average: what each model's weights count, `model` first; shares of their sum. None: all the same."""

    produces: ClassVar[str | None] = "model"
    """What "@id" of this step stands for."""

    def uses(self) -> tuple[Use, ...]:
        """Return the model."""
        return (
            Use(("model",), "model", self.model),
            *(Use(("average", k), "model", one) for k, one in enumerate(self.average)),
        )

    def __post_init__(self) -> None:
        if self.weights and (len(self.weights) != 1 + len(self.average) or min(self.weights) < 0):
            what = f"export.weights is {list(self.weights)} for {1 + len(self.average)} models"
            raise UsageError(what, fix="give one number from 0 per model, `model` first")
        if self.weights and sum(self.weights) == 0:
            raise UsageError("export.weights are all 0", fix="give one of them more")

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say what is merged and in which format it is saved."""
        from fairlead.steps.outlook import model_behind

        said = (
            f"Saves {self.model} (adapters merged) in {self.dtype}, and compares the copy's logits with the original's."
        )
        if self.average:
            said += f" The weights are the mean with those of {', '.join(self.average)}."
        return Preview((said,), model=model_behind(self.model, before))

    def __call__(self, context: Context) -> Outcome:
        """Export and check."""
        import torch

        from fairlead import models

        model: Any = models.load_model(self.model, dtype="float32", device="cpu")
        tokenizer = models.load_tokenizer(self.model)
        probes = _probes(model)
        before = _logits(model, probes)
        adapter = hasattr(model, "merge_and_unload")
        if hasattr(model, "peft_config") and not adapter:
            raise ModelError(
                "an adapter of virtual tokens (prefix, prompt, p_tuning) cannot be merged into weights",
                place=self.model,
                fix="use its folder as it is, beside the base model: every step that takes a model does",
            )
        if adapter:
            model = model.merge_and_unload()
            drift = float((_logits(model, probes) - before).abs().max())
            if drift > _MERGE_TOLERANCE * max(1.0, float(before.abs().max())):
                what = f"merging the adapter changes logits by {drift:.3g}"
                raise ModelError(what, place=self.model, fix="keep the adapter unmerged; its layers cannot be merged")
        if self.average:
            _average(model, self.average, self.weights)
        folder = context.folder / "model"
        _cast(model, getattr(torch, self.dtype))
        model.save_pretrained(folder, max_shard_size=self.shard_size)
        tokenizer.save_pretrained(folder)
        _cast(model, torch.float32)
        expected = _logits(model, probes)
        after = _logits(models.load_model(str(folder), dtype="float32", device="cpu"), probes)
        if not torch.equal(after, expected):
            what = f"the saved copy's logits differ by {float((after - expected).abs().max()):.3g}"
            raise ModelError(what, place=str(folder), fix="check the disk; export again")
        agreement = (after.argmax(-1) == before.argmax(-1)).float().mean()
        metrics = {
            "largest_logit_difference": float((after - before).abs().max()),
            "top1_agreement": float(agreement),
            "merged_adapter": float(adapter),
        }
        if self.average:
            metrics["averaged"] = 1.0 + len(self.average)
        return Outcome({"model": "model"}, metrics)


def _average(model: Any, others: tuple[str, ...], weights: tuple[float, ...]) -> None:
    """Replace the model's weights by the mean with other models', in float32.

    Raises:
        ModelError: a model with other weights by name or shape.
    """
    import torch

    from fairlead import models

    counts = weights or (1.0,) * (1 + len(others))
    own = dict(model.named_parameters())
    total = {name: counts[0] * parameter.data for name, parameter in own.items()}
    for place, count in zip(others, counts[1:]):
        other: Any = models.load_model(place, dtype="float32", device="cpu")
        if hasattr(other, "merge_and_unload"):
            other = other.merge_and_unload()
        theirs = {name: parameter.data for name, parameter in other.named_parameters()}
        odd = [name for name in {**own, **theirs} if name not in own or name not in theirs
               or own[name].shape != theirs[name].shape]  # fmt: skip
        if odd:
            what = f"its weights do not match the first model's: {odd[0]}"
            raise ModelError(what, place=place, fix="average models that were trained from one start")
        for name, value in theirs.items():
            total[name] += count * value
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.data = total[name] / sum(counts)


def _probes(model: Any) -> torch.Tensor:
    """Return fixed token ids [8, 32] spread over the vocabulary."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randint(model.config.vocab_size, (_PROBES, _PROBE_LENGTH), generator=generator)


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Cast the weights alone: buffers (rotary frequencies) are not saved, a loaded copy computes them in float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _logits(model: Any, probes: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.inference_mode():
        return model(input_ids=probes).logits.float()
