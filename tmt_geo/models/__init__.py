"""Whole models. Importing this registers the language model with Hugging Face's ``Auto`` classes."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from tmt_geo.models.encoder import TMTEncoder
from tmt_geo.models.gnn import MeshGNN
from tmt_geo.models.tmt.backbone_tmt import TMTBackbone
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.models.tmt.modeling_tmt import TMTForCausalLM, TMTModel
from tmt_geo.models.tmt.output_tmt import TMTOutput

AutoConfig.register(TMTConfig.model_type, TMTConfig, exist_ok=True)
AutoModel.register(TMTConfig, TMTBackbone, exist_ok=True)
AutoModelForCausalLM.register(TMTConfig, TMTForCausalLM, exist_ok=True)

__all__ = ["MeshGNN", "TMTBackbone", "TMTConfig", "TMTEncoder", "TMTForCausalLM", "TMTModel", "TMTOutput"]
