"""Whole models. Importing this registers the language models with Hugging Face's ``Auto`` classes."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from tmt_geo.models.encoder import TMTEncoder
from tmt_geo.models.gnn import MeshGNN
from tmt_geo.models.quartic.configuration_quartic import QuarticConfig
from tmt_geo.models.quartic.modeling_quartic import QuarticModel
from tmt_geo.models.quartic.multi_stream_transformer import MultiStreamTransformer
from tmt_geo.models.quartic.quartic_transformer import QuarticTransformer
from tmt_geo.models.quartic.relational_transformer import RelationalTransformer
from tmt_geo.models.quartic_gnn import QuarticGNN
from tmt_geo.models.tmt.backbone_tmt import TMTBackbone
from tmt_geo.models.tmt.configuration_tmt import TMTConfig
from tmt_geo.models.tmt.modeling_tmt import TMTForCausalLM, TMTModel
from tmt_geo.models.tmt.output_tmt import TMTOutput

AutoConfig.register(TMTConfig.model_type, TMTConfig, exist_ok=True)
AutoModel.register(TMTConfig, TMTBackbone, exist_ok=True)
AutoModelForCausalLM.register(TMTConfig, TMTForCausalLM, exist_ok=True)
AutoConfig.register(QuarticConfig.model_type, QuarticConfig, exist_ok=True)
AutoModelForCausalLM.register(QuarticConfig, QuarticModel, exist_ok=True)

__all__ = [
    "MeshGNN",
    "MultiStreamTransformer",
    "QuarticConfig",
    "QuarticGNN",
    "QuarticModel",
    "QuarticTransformer",
    "RelationalTransformer",
    "TMTBackbone",
    "TMTConfig",
    "TMTEncoder",
    "TMTForCausalLM",
    "TMTModel",
    "TMTOutput",
]
