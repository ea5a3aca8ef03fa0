"""A minute with the newest of everything: layers, model, command, pictures and page of the installed wheel."""

import json
from importlib.metadata import version
from pathlib import Path

import installed  # first: it sets the environment
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tmt_geo import MeshAttention, MeshGNN, TMTConfig, TMTModel, knn_graph, viz
from tmt_geo.web import build_app

print(*(f"{name} {version(name)}" for name in ("torch", "torch-geometric", "transformers", "datasets", "plotly")))
torch.manual_seed(0)


def moved(module: torch.nn.Module) -> bool:
    """Whether every parameter that has a gradient has a finite one, and most are not zero."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    alive = [gradient.abs().sum() > 0 for gradient in gradients]
    return all(bool(gradient.isfinite().all()) for gradient in gradients) and 2 * sum(alive) > len(alive) > 0


print("knn_graph")
x = torch.rand(200, 3)
source, target = knn_graph(x, k=4, metric="euclidean").edge_index
distance = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
nearest = {(int(j), i) for i in range(200) for j in distance[i].topk(4, largest=False).indices}
assert set(zip(source.tolist(), target.tolist(), strict=True)) == nearest

print("conv and graph neural network")
edge_index = torch.stack([source, target])
for module in (MeshAttention(3, 8, heads=2), MeshGNN(3, 8, 2, out_channels=4, k=2)):
    out = module(x, edge_index)
    assert out.size(0) == 200 and out.isfinite().all()
    out.square().sum().backward()
    assert moved(module)

print("language model")
config = TMTConfig(vocab_size=60, d_model=32, n_layers=3, n_heads=2, max_seq_len=64, graph_k=3, window=2, dropout=0.0)
model, ids = TMTModel(config), torch.randint(60, (2, 24))
model(input_ids=ids, labels=ids).loss.backward()
assert moved(model)
model.eval()
with torch.no_grad():
    logits = model(input_ids=ids).logits
    written = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert logits.shape == (2, 24, 60) and written.shape == (2, 32)
    model.save_pretrained("model")
    for loaded in (TMTModel.from_pretrained("model"), AutoModelForCausalLM.from_pretrained("model")):
        assert torch.equal(loaded.eval()(input_ids=ids).logits, logits)

print("pictures")
graphs = model.layer_graphs(ids[:1])
for figure in (viz.mesh_evolution(graphs), viz.cluster_flow(graphs), viz.neighbor_table(graphs, [0, 1])):
    assert viz.save_figure(figure, "figure.html").stat().st_size > 1e6
viz.mesh_evolution(MeshGNN(3, 8, 2, out_channels=4, k=2).eval().layer_graphs(x))

print("command")
Path("foxes.txt").write_text(installed.TEXT)
said = installed.command("train", "--data", "foxes.txt", "--out", "runs/tiny", *installed.TINY.split())
assert "report           runs/tiny/report.html" in said and Path("runs/tiny/report.html").stat().st_size > 1e6
assert len(AutoTokenizer.from_pretrained("runs/tiny")) <= 300
installed.command("evaluate", "runs/tiny", "--json", "figures.json")
assert json.loads(Path("figures.json").read_text())["tokens_scored"] > 0
assert installed.command("generate", "runs/tiny", "the lazy", "--max-new-tokens", 8).startswith("the lazy")
assert "9 figures" in installed.command(
    "inspect", "the lazy fox of dogs", "--model", "runs/tiny", "--out", "page.html"
)

print("page")
build_app(Path("runs"))
