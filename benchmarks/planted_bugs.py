"""Do the tests see silent bugs? Each is planted in a copy of the tree, where the tests that should see it are run.

    python -m benchmarks.planted_bugs                  all of them, in minutes
    python -m benchmarks.planted_bugs stride rotary    those whose name contains one of these words

One line a bug, "caught" or "NOT CAUGHT"; the exit code is 1 if one was not caught. The tests must pass on the tree as
it is. They are tests of the default suite; this script is no part of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "runs", "results", "notebooks")


class Bug(NamedTuple):
    """A mistake that raises no error.

    Attributes:
        name: What is wrong.
        path: Of the file that it is planted in.
        text: What stands there, once.
        planted: What stands there then.
        tests: What should see it.
    """

    name: str
    path: str
    text: str
    planted: str
    tests: tuple[str, ...]


ORACLE = "tests/models/test_layer_oracle.py"
FAIRNESS = "tests/compare/test_fairness.py"
STATISTICS = "tests/test_statistics.py"
SEARCH_BEGINS = "        return row.new_zeros(0, k), row.new_zeros(0, k).bool()\n"
SEARCHES = ("tests/ops/test_knn_oracle.py",)
STEP = """\
    step = 1e-5 * torch.arange(index.size(1), device=index.device).to(index).expand(index.size(0), -1)
    index = torch.cat([index, step.unsqueeze(-1)], dim=-1)
    query = torch.cat([query, query.new_ones(query.size(0), 1)], dim=-1)
"""
WEIGHTS = """\
        self, query_i: Tensor, key_j: Tensor, edge: OptTensor, index: Tensor, ptr: OptTensor, dim_size: Optional[int]
    ) -> Tensor:
        \"\"\"Weights of the edges, shape :math:`(E, H)`.\"\"\"
"""

BUGS = (
    Bug(
        "a run is resumed from checkpoint-200 although there is checkpoint-1000",
        "tmt_geo/train/checkpoint.py",
        "return sorted(folders, key=checkpoint_step)",
        "return sorted(folders)",
        ("tests/train/test_newest_checkpoint.py",),
    ),
    Bug(
        "a graph benchmark trains on validation nodes",
        "benchmarks/graphs/cora.py",
        "F.cross_entropy(model(given)[data.train_mask], data.y[data.train_mask])",
        "F.cross_entropy(*(part[data.train_mask | data.val_mask] for part in (model(given), data.y)))",
        ("tests/benchmarks/test_data_flow.py",),
    ),
    Bug(
        "the copy head of a peer is beyond its budget",
        "tmt_geo/compare/models.py",
        "        params -= sum(parameter.numel() for parameter in head.parameters())\n",
        "",
        (FAIRNESS,),
    ),
    Bug(
        "the stride of a recipe is ignored", "tmt_geo/compare/measure.py", '"stride": recipe.stride, ', "", (FAIRNESS,)
    ),
    Bug(
        "rotary positions have base 1,000",
        "tmt_geo/ops/rotary.py",
        "BASE = 10000.0",
        "BASE = 1000.0",
        (ORACLE,),
    ),
    Bug(
        "positions are rounded to bfloat16",
        "tmt_geo/ops/rotary.py",
        "position.unsqueeze(1).to(exact)",
        "position.unsqueeze(1).to(dtype).to(exact)",
        ("tests/models/test_bfloat16.py",),
    ),
    Bug(
        "the effective rank is of squared singular values",
        "tmt_geo/viz/anchor_use.py",
        "torch.linalg.svdvals(anchors.detach().cpu().double())",
        "torch.linalg.svdvals(anchors.detach().cpu().double()).square()",
        (STATISTICS,),
    ),
    Bug(
        "the farthest are taken for the nearest",
        "tmt_geo/ops/knn/__init__.py",
        SEARCH_BEGINS,
        SEARCH_BEGINS + "    query = -query\n",
        SEARCHES,
    ),
    Bug(
        "a step of 1e-5 a rank is added to the scores",
        "tmt_geo/ops/knn/__init__.py",
        SEARCH_BEGINS,
        SEARCH_BEGINS + STEP,
        SEARCHES,
    ),
    # Beyond the ten that this script was written for.
    Bug(
        "the log decay grows with distance",
        "tmt_geo/ops/decay.py",
        "return -lag.abs().unsqueeze(-1) * rate",
        "return lag.abs().unsqueeze(-1) * rate",
        (ORACLE,),
    ),
    Bug(
        "heads are laid out channel by channel",
        "tmt_geo/nn/tmt_layer.py",
        "return out.flatten(1), neighbors, output",
        "return out.transpose(1, 2).flatten(1), neighbors, output",
        (ORACLE,),
    ),
    Bug(
        "the gate between two streams is turned round",
        "tmt_geo/nn/dual_stream.py",
        "torch.lerp(self.semantic_out(semantic), self.syntax_out(syntax), gate)",
        "torch.lerp(self.syntax_out(syntax), self.semantic_out(semantic), gate)",
        (ORACLE,),
    ),
    Bug(
        "what is dropped in training is dropped in use too",
        "tmt_geo/nn/tmt_layer.py",
        "return F.dropout(x, self.dropout, self.training)",
        "return F.dropout(x, self.dropout)",
        ("tests/evaluate/test_determinism.py",),
    ),
    Bug(
        "shared keys go to every other query head, not to neighboring ones",
        "tmt_geo/ops/dense_attention.py",
        "part.repeat_interleave(repeat, dim=2)",
        "part.repeat(1, 1, repeat, 1)",
        (ORACLE,),
    ),
    Bug(
        "scores are divided by the root of all channels",
        "tmt_geo/ops/mesh_attention.py",
        "(1 / math.sqrt(query.size(-1)))",
        "(1 / math.sqrt(query[0].numel() if query.size(0) else 1))",
        (ORACLE,),
    ),
    Bug(
        "anchors go the whole way but for one hundredth",
        "tmt_geo/ops/ema.py",
        "momentum * anchors + (1 - momentum) * mean",
        "(1 - momentum) * anchors + momentum * mean",
        (ORACLE,),
    ),
    Bug(
        "a gate keeps the share that should leave",
        "tmt_geo/nn/exit_gate.py",
        "statistic, self.rate, self.momentum)",
        "statistic, 1 - self.rate, self.momentum)",
        (ORACLE,),
    ),
    Bug(
        "the loss of the gates counts in full whatever its coefficient",
        "tmt_geo/models/tmt/modeling_tmt.py",
        "loss = loss + self.config.exit_loss_coef * states.gate_loss",
        "loss = loss + states.gate_loss",
        ("tests/models/test_training_loss.py",),
    ),
    Bug(
        "the loss of the gates is summed over layers",
        "tmt_geo/models/tmt/backbone_tmt.py",
        "gate_loss / (items * max(len(out.layer_outputs) - 1, 1))",
        "gate_loss / items",
        ("tests/models/test_training_loss.py",),
    ),
    Bug(
        "copied is the token that was found, not the one after it",
        "tmt_geo/ops/copying.py",
        "token.roll(-1)[table]",
        "token[table]",
        ("tests/ops/test_copying.py",),
    ),
    Bug(
        "word perplexity is taken over tokens",
        "tmt_geo/evaluate/perplexity.py",
        "word_ppl=_exp(nll / words)",
        "word_ppl=_exp(nll / stream.numel())",
        (FAIRNESS,),
    ),
    Bug(
        "bits per byte are nats",
        "tmt_geo/evaluate/perplexity.py",
        "bits_per_byte=nll / (bytes * math.log(2))",
        "bits_per_byte=nll / bytes",
        ("tests/evaluate/test_perplexity.py",),
    ),
    Bug(
        "the standard error is that of a known mean",
        "tmt_geo/compare/mean.py",
        "/ (len(values) - 1)",
        "/ len(values)",
        (STATISTICS,),
    ),
    Bug(
        "features are scaled by what is tested too",
        "benchmarks/graphs/bitcoin.py",
        'fit = data.x[self.parts["train"]]',
        "fit = data.x",
        ("tests/benchmarks/test_graphs.py",),
    ),
    Bug(
        "trials are chosen by their test score",
        "benchmarks/graphs/protocol.py",
        "self.suite.tuning_limits or self.suite.limits).valid",
        "self.suite.tuning_limits or self.suite.limits).test()",
        ("tests/benchmarks/test_graphs.py",),
    ),
    Bug(
        "relational attention asks with the query of the neighbor",
        "tmt_geo/nn/conv/relational_attention.py",
        WEIGHTS,
        WEIGHTS.replace("query_i", "query_j") + "        query_i = query_j\n",
        ("tests/nn/conv/test_relational_attention.py",),
    ),
    Bug(
        "edges from the future are counted",
        "tmt_geo/nn/conv/mesh_attention.py",
        "self.scaler(out, mask.sum(dim=1)",
        "self.scaler(out, mesh.mask.sum(dim=1)",
        ("tests/nn/conv/test_degree_scaler.py",),
    ),
    Bug(
        "streams mix the rows of a batch",
        "tmt_geo/nn/multi_stream_attention.py",
        ".permute(3, 0, 1, 4, 2, 5)",
        ".permute(3, 1, 0, 4, 2, 5)",
        ("tests/models/test_multi_stream.py",),
    ),
    Bug(
        "the diversity loss lacks its logarithm",
        "tmt_geo/ops/stream_diversity.py",
        "mean.clamp(min=torch.finfo(mean.dtype).tiny).log()",
        "mean.clamp(min=torch.finfo(mean.dtype).tiny)",
        ("tests/models/test_multi_stream.py",),
    ),
    Bug(
        "the cells of the inverted file are made of the whole graph, its future included",
        "tmt_geo/ops/knn/inverted_file.py",
        "Cells.of(index[graph, : HEAD << (level - 1)])",
        "Cells.of(index[graph])",
        ("tests/ops/test_knn_ivf.py",),
    ),
    Bug(
        "attention among edges takes equal times for earlier ones",
        "tmt_geo/nn/edge_layer.py",
        "causal_rank(time) if self.causal else None",
        "time if self.causal else None",
        ("tests/nn/test_edge_attention.py",),
    ),
    Bug(
        "linear attention sees one key too many",
        "tmt_geo/ops/linear_attention.py",
        "(seen - last * chunk)",
        "(seen - last * chunk + 1)",
        ("tests/ops/test_linear_attention.py",),
    ),
    Bug(
        "linear attention along columns and rows forgets the time",
        "tmt_geo/ops/edge_attention.py",
        "taylor_attention(query, key, value, shared, late,",
        "taylor_attention(query, key, value, shared, None,",
        ("tests/models/test_quartic_published_faults.py",),
    ),
    Bug(
        "the quartic transformer multiplies scores by the root of the channels",
        "tmt_geo/nn/talking_heads.py",
        "query.size(-1) ** -0.5",
        "query.size(-1) ** 0.5",
        ("tests/models/test_quartic_published_faults.py",),
    ),
    Bug(
        "the quartic transformer has edges from the next token",
        "tmt_geo/ops/full_graphs.py",
        "pair.tril()",
        "pair.tril(1)",
        ("tests/models/test_quartic_published_faults.py",),
    ),
    Bug(
        "the quartic transformer counts padding among the positions",
        "tmt_geo/ops/full_graphs.py",
        "self.nodes(self.mask.cumsum(1) - 1)",
        "self.nodes(torch.ones_like(self.mask).cumsum(1) - 1)",
        ("tests/models/test_quartic_transformer.py",),
    ),
    Bug(
        "diagonal attention is attention among half of the edges",
        "tmt_geo/nn/edge_attention.py",
        "(edge_index[0] == edge_index[1]).nonzero()",
        "(edge_index[0] >= edge_index[1]).nonzero()",
        ("tests/models/test_quartic_published_faults.py",),
    ),
    Bug(
        "the share of a residual lane is that by which it is read",
        "tmt_geo/nn/residual_lanes.py",
        "self.scale[1] * moved[..., -1:]",
        "self.scale[1] * moved[..., :1]",
        ("tests/nn/test_residual_lanes.py",),
    ),
    Bug(
        "of a tie of very many the rounding of a product decides who is scored",
        "tmt_geo/ops/knn/contenders.py",
        "score.topk(k).values[:, -1] - 2 * error - tolerance",
        "score.topk(k).values[:, -1]",
        SEARCHES,
    ),
    Bug(
        "the search of an export takes the node itself for an earlier one",
        "tmt_geo/ops/knn/traced.py",
        "column < task.limit.unsqueeze(1)",
        "column <= task.limit.unsqueeze(1)",
        ("tests/ops/test_knn_traced.py",),
    ),
    Bug(
        "the search by windows decides between equal states by their rounding",
        "tmt_geo/ops/knn/candidates.py",
        ", tolerance=task.tolerance)",
        ")",
        ("tests/ops/test_knn_windows.py",),
    ),
    Bug(
        "decoding in one graph searches for the newest token but one",
        "tmt_geo/nn/decode.py",
        "layer.search.newest(index[slot], ",
        "layer.search.newest(index[(slot - 1).clamp(min=0)], ",
        ("tests/properties/test_generation.py",),
    ),
    Bug(
        "keys and values of frozen tokens are made anew in every layer",
        "tmt_geo/nn/node_state.py",
        "        key, value = project(self.changed)\n",
        "        return project(None)\n        key, value = project(self.changed)\n",
        ("tests/properties/test_exits.py",),
    ),
    Bug(
        "a gate lets frozen tokens come back",
        "tmt_geo/nn/node_state.py",
        "self.active = stays if self.active is None else self.active[stays]",
        "self.active = stays",
        ("tests/properties/test_exits.py",),
    ),
)


def plant(bug: Bug, folder: Path) -> None:
    """Plant a bug in a tree.

    Raises:
        ValueError: If its text does not stand there exactly once.
    """
    path = folder / bug.path
    source = path.read_text(encoding="utf-8")
    if source.count(bug.text) != 1:
        raise ValueError(
            f"'text' of the bug {bug.name!r} must stand once in {bug.path} (got {source.count(bug.text)})"
        )
    path.write_text(source.replace(bug.text, bug.planted), encoding="utf-8")


def passes(folder: Path, tests: tuple[str, ...]) -> bool:
    """Whether tests pass in a tree.

    Raises:
        RuntimeError: If they could not be run: that is no catch.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or "error during collection" in done.stdout:
        raise RuntimeError(f"the tests could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def tried(bug: Bug | None, tests: tuple[str, ...]) -> bool:
    """Whether tests pass in a copy of the tree with this bug, or with none."""
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(ROOT, Path(place) / "tree", ignore=LEFT_OUT)
        if bug is not None:
            plant(bug, folder)
        return passes(folder, tests)


def main(words: list[str]) -> int:
    """Try all bugs, or those whose name contains one of these words; 1 if one is not caught."""
    wanted = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    if not wanted:
        raise SystemExit(f"no bug has such a name (got {' '.join(words)})")
    if not tried(None, tuple(sorted({test for bug in wanted for test in bug.tests}))):
        raise SystemExit("the tests must pass on the tree as it is, and they do not")
    survived = 0
    for bug in wanted:
        missed = tried(bug, bug.tests)
        survived += missed
        print(f"{'NOT CAUGHT' if missed else 'caught'}: {bug.name}", flush=True)
    print(f"{len(wanted) - survived} of {len(wanted)} caught", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
