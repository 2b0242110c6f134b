"""The `export` step: one plain Hugging Face folder out of a model or adapter, checked against what it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead.errors import ModelError
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

    produces: ClassVar[str | None] = "model"
    """What "@id" of this step stands for."""

    def uses(self) -> tuple[Use, ...]:
        """Return the model."""
        return (Use(("model",), "model", self.model),)

    def preview(self, before: Mapping[str, Preview]) -> Preview:
        """Say what is merged and in which format it is saved."""
        from fairlead.steps.outlook import model_behind

        said = (
            f"Saves {self.model} (adapters merged) in {self.dtype}, and compares the copy's logits with the original's."
        )
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
        return Outcome({"model": "model"}, metrics)


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
