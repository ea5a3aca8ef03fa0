"""What the backbone and the model with the head share: initial weights, saved folders, graphs of the layers."""

from __future__ import annotations

import math
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from transformers import PreTrainedModel
from transformers import initialization as init

from tmt_geo.models.hub_files import write_card
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.nn.copy_head import CopyHead
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.nn.far_mesh import FarMesh
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.nn.tmt_layer import TMTLayer


class TMTPreTrainedModel(PreTrainedModel):
    """Base class of :class:`TMTBackbone` and :class:`TMTForCausalLM`."""

    config_class = TMTConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["StackedTMTLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values", "cache"]  # noqa: RUF012

    def __init__(self, config: TMTConfig):
        config.check()
        super().__init__(config)

    @property
    def _branch_ends(self) -> set[nn.Module]:
        return {end for layer in self.modules() if isinstance(layer, TMTLayer) for end in layer.branch_ends}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module's own parameters and buffers, leaving alone what was loaded."""
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, nn.Linear) and module in self._branch_ends:
            # Every layer adds branches to the residual stream: keep its variance from growing with depth.
            end_std = 0.0 if self.config.zero_init else std / math.sqrt(2 * self.config.num_hidden_layers)
            init.normal_(module.weight, std=end_std)
        elif isinstance(module, MemoryAnchors):
            init.normal_(module.anchors)
        elif isinstance(module, TemporalDecay):
            init.copy_(module.weight, module.initial_weight())
        elif isinstance(module, NeighborAttention) and module.shift is not None:
            init.zeros_(module.shift)
        elif isinstance(module, CopyHead):
            init.constant_(module.lin_gate.bias, -2.0)
            init.constant_(module.log_scale, math.log(module.initial_scale))
        elif isinstance(module, FarMesh):
            init.zeros_(module.lin.weight)
            init.constant_(module.lin.bias, module.initial_bias)
        elif isinstance(module, MeshIndex):
            init.orthogonal_(module.weight)
        elif isinstance(module, ExitGate):
            init.constant_(module.lin.bias, -2.0)
            init.constant_(module.running, module.initial_running)
            init.zeros_(module.count)
            if module.logit is not None:
                init.zeros_(module.logit)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Do nothing: a saved folder holds an import of the class, not a copy of its code."""

    @classmethod
    def maybe_distribute_model(cls, model: nn.Module, *args: Any) -> nn.Module:
        """Shard a model, as ``from_pretrained`` does with a ``distributed_config``, after its weights are tied.

        Tied later, the head would keep a second copy of the embedding, which no optimizer reaches.

        Raises:
            ValueError: If it has learned exit thresholds or a copy head: they have parameters without an axis, which
                PyTorch cannot share out.
        """
        if model.config.gate_rule == "learned":
            raise ValueError("'exit_rule' must be another in a sharded model, or run whole copies (got 'learned')")
        if model.config.copy_k:
            raise ValueError(f"'copy_k' must be 0 in a sharded model, or run whole copies (got {model.config.copy_k})")
        model.tie_weights()
        return super().maybe_distribute_model(model, *args)

    def save_pretrained(  # type: ignore[override]  # the other arguments are among `kwargs`
        self, save_directory: str | PathLike, is_main_process: bool = True, **kwargs: Any
    ) -> None:
        """Save weights, configuration, the code for the ``Auto`` classes and a model card.

        A README.md of the user's stays. Of a model with adapters attached, the adapters alone are saved.

        Args:
            save_directory (str or PathLike): The folder.
            is_main_process (bool): Whether this process writes the files beside the weights.
            **kwargs: Of ``PreTrainedModel.save_pretrained``.
        """
        super().save_pretrained(save_directory, is_main_process, **kwargs)
        if is_main_process and not self._hf_peft_config_loaded:
            write_card(self, save_directory)

    def wants_cache(self, use_cache: bool | None) -> bool:
        """What `use_cache` means where it may be left out: as configured, outside training and exports."""
        if use_cache is not None:
            return use_cache
        return self.config.use_cache and not self.training and not torch.compiler.is_exporting()

    def layer_graphs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        batch: Tensor | None = None,
        time: Tensor | None = None,
    ) -> list[Data]:
        """Run the layers and return each as a graph over the tokens: its edges and their weights.

        See :meth:`TMTEncoder.layer_graphs`. Padding is no node: the tokens stand one after the other, sequence by
        sequence, with their ``input_ids`` and their sequence in ``batch``. ``time`` is in units of `max_seq_len`
        tokens, as the decay takes it.

        Args:
            input_ids (Tensor): Tokens (B, S), or those of a PyG batch (N), with `batch` and `time`.
            attention_mask (Tensor, optional): 1 for tokens, 0 for padding on either side, (B, S).
            batch (Tensor, optional): Sequence of each token of a PyG batch (N).
            time (Tensor, optional): Position of each token of a PyG batch (N).

        Raises:
            ValueError: As :meth:`forward`, or if the model has no mesh.
        """
        backbone: Any = self.base_model
        x, tokens = backbone.read(input_ids, attention_mask=attention_mask, use_cache=False, batch=batch, time=time)
        fields = {"batch": tokens.layout.batch, "input_ids": tokens.unpad(input_ids)}
        return backbone.encoder.trace(x, tokens.layout, **fields)
