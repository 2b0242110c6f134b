"""The model card that a finished model carries: where it comes from, how it was trained, what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fairlead.fields import to_plain

if TYPE_CHECKING:
    from fairlead.training.setup import Materials

__all__ = ["write_card"]


def write_card(folder: Path, materials: Materials, metrics: Mapping[str, float], steps: int) -> None:
    """Write `README.md` into a model folder."""
    config = materials.config
    settings = {k: v for k, v in to_plain(config).items() if v is not None}
    header = {"library_name": "transformers", "base_model": config.model, "tags": ["fairlead"]}
    rows = "\n".join(f"| {k} | {v:.4g} |" for k, v in sorted(metrics.items()) if math.isfinite(v))
    lengths = materials.lengths
    text = f"""---
{yaml.safe_dump(header, sort_keys=False).strip()}
---

# Trained from {config.model} with {type(materials.objective).__name__}

Trained by Fairlead {version("fairlead")} in {steps} steps.

## Data

- source: {", ".join(config.sources)}
- records: {len(materials.data)} read, {len(lengths.dropped)} dropped as too long, {len(lengths.truncated)} truncated
- trained tokens per epoch: {lengths.trained}
- content hash: `{materials.data.fingerprint}`
- chat template hash: `{materials.renderer.fingerprint}`

## Recipe

```yaml
{yaml.safe_dump({"train": settings}, sort_keys=False, allow_unicode=True).strip()}
```

Run fingerprint: `{materials.fingerprint}`

## Results at the end of training

| metric | value |
|---|---|
{rows}
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
