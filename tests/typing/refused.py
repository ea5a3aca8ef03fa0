"""What a checker must not let pass: each line marked so is an error, and no other line. Checked, never run."""

from torch import Tensor

import tmt_geo
from tmt_geo import (
    MeshAtention,  # noqa: F401  # refused
    MeshAttention,
    MeshGNN,
    TMTConfig,
    TMTEncoder,
    TMTModel,
    knn_graph,
)
from tmt_geo.models import TMTModle  # noqa: F401  # refused
from tmt_geo.train import (
    TrainConfig,
    train_modle,  # noqa: F401  # refused
)


def wrong(x: Tensor) -> None:
    tmt_geo.knn_grahp(x, k=4)  # refused
    knn_graph(x, k="four")  # refused
    knn_graph(x, neighbours=4)  # refused
    print(knn_graph(x, k=4).edge_idx)  # refused
    MeshAttention(16, "32")  # refused
    MeshGNN(16, 32, num_layers=2.5)  # refused
    TMTEncoder(16, 32, num_layers="2", causal=False)  # refused
    TMTEncoder(16, 32, num_layers=2)  # refused
    TMTConfig(vocab_size=100, d_model="wide")  # refused
    TMTConfig(vocab_size=100, d_modle=32)  # refused
    TMTModel(x)  # refused
    TMTModel(TMTConfig()).generate(generation_config="greedy")  # refused
    TrainConfig(steps="10")  # refused
