"""Whole models. Importing this registers the language model with Hugging Face's ``Auto`` classes."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from tmt_geo.models.encoder import TMTEncoder
from tmt_geo.models.gnn import MeshGNN
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.models.tmt.modeling_tmt import TMTModel, TMTOutput

AutoConfig.register(TMTConfig.model_type, TMTConfig, exist_ok=True)
AutoModel.register(TMTConfig, TMTModel, exist_ok=True)
AutoModelForCausalLM.register(TMTConfig, TMTModel, exist_ok=True)

__all__ = ["MeshGNN", "TMTConfig", "TMTEncoder", "TMTModel", "TMTOutput"]
