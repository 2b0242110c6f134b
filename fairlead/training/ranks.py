"""Several ranks: which of accelerate's ways to share a run the loop keeps its promises under.

Data parallel, and FSDP2 (parameters, gradients and optimizer state sharded). The output head's weight is read
directly, so the root module, which holds it, stays gathered through forward and backward; decoder layers come and go.
"""

from __future__ import annotations

import os
from typing import Any

from fairlead import models
from fairlead.errors import UnsupportedError, UsageError
from fairlead.training.adapters import adapt
from fairlead.training.config import TrainConfig

__all__ = ["settle", "unsharded"]

_PLACE = "accelerate"


def settle(accelerator: Any) -> None:
    """Check accelerate's way of sharing the run, and complete it where accelerate leaves it open.

    Raises:
        UnsupportedError: one that divides or applies gradients before the loop has the global count.
        UsageError: settings of FSDP that do not go with this loop.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise UnsupportedError(
            f"{accelerator.distributed_type.value} applies gradients on its own, before a step's global count is known",
            place=_PLACE,
            fix="use FSDP2 (examples/accelerate/fsdp2.yaml), or plain data parallel",
        )
    if accelerator.distributed_type == DistributedType.MULTI_CPU and _asks_for_fsdp():
        # accelerate ignores the wish on CPUs, though torch shards there too. Both states: one is copied to the other.
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        accelerator.state.distributed_type = DistributedType.FSDP
    if accelerator.distributed_type == DistributedType.FSDP:
        _settle_fsdp(accelerator)


def _asks_for_fsdp() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def _settle_fsdp(accelerator: Any) -> None:
    import torch
    from accelerate import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        plugin = accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise UsageError(f"FSDP version {plugin.fsdp_version} is not supported", place=_PLACE, fix="fsdp_version: 2")
    if plugin.cpu_ram_efficient_loading:
        raise UsageError(
            "cpu_ram_efficient_loading leaves most ranks without weights to check the model with",
            place=_PLACE,
            fix="fsdp_cpu_ram_efficient_loading: false",
        )
    if accelerator.mixed_precision == "bf16":
        # accelerate's own would round log-probs and the sums of gradients.
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def unsharded(model: Any, state: dict[str, Any], config: TrainConfig) -> Any:
    """Return a plain model with the gathered weights of a sharded one, for writing it to disk.

    Args:
        model: the sharded model, a peft model if the run has an adapter; only its class and configs are read.
        state: its full state dict.
        config: the run's.
    """
    from accelerate import init_empty_weights

    sharded = model.get_base_model() if config.adapter is not None else model
    with models.quiet(), init_empty_weights():
        plain = type(sharded)(sharded.config)
        score_head = not hasattr(sharded, "lm_head") and hasattr(sharded, "score")
        whole = plain if config.adapter is None else adapt(plain, config.adapter, config.model, score_head=score_head)
    plain.generation_config = getattr(sharded, "generation_config", None)
    whole.load_state_dict(state, strict=False, assign=True)
    plain.tie_weights()
    return whole
