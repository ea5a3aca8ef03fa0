"""The wheel without an extra: each extra is named where it is missing, before any work is done."""

from importlib.util import find_spec
from pathlib import Path

import installed  # first: it sets the environment
import torch

from tmt_geo import knn_graph, viz

assert find_spec("plotly") is None and find_spec("gradio") is None

for arguments, extra in (
    (["demo"], "demo"),
    (["inspect", "A text", "--model", "none"], "demo"),
    (["compare", "ablation"], "demo"),
    (["train", "--report-to", "tensorboard"], "demo"),
    (["web"], "web"),
):
    print(*arguments)
    assert f'pip install "tmt-geo[{extra}]"' in installed.command(*arguments, code=2)
assert not list(Path.cwd().iterdir()), "what is refused must leave nothing behind"

for use, extra in (
    (lambda: viz.depth_profile([("noun", 3, 1.5)], num_layers=2), "figures"),
    (lambda: viz.save_figure(None, "figure.png"), "figures"),
    (lambda: knn_graph(torch.randn(9, 3), k=2, backend="torch_cluster"), "extensions"),
):
    print(f"the extra {extra}")
    try:
        use()
    except ImportError as error:
        assert f'pip install "tmt-geo[{extra}]"' in str(error), error
    else:
        raise AssertionError(f"the extra {extra} must be asked for")

print("train, without a report")
Path("foxes.txt").write_text(installed.TEXT)
said = installed.command("train", "--data", "foxes.txt", "--out", "run", *installed.TINY.split())
assert 'pip install "tmt-geo[demo]"' in said.split("training ")[0]
assert installed.command("generate", "run", "the lazy", "--max-new-tokens", 8).startswith("the lazy")
