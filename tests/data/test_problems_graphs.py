"""Questions about cycles and cliques against networkx and brute force; graphs that look alike."""

import itertools

import pytest
import torch

from tmt_geo.data.problems import FourCycles
from tmt_geo.data.problems.all_pairs import ADJACENT
from tmt_geo.data.problems.brec import PARTS, brec_folder, brec_pairs, renumbered
from tmt_geo.data.problems.cliques import CliqueProblem, four_cliques, regular_adjacency
from tmt_geo.data.problems.four_cycles import four_cycles
from tmt_geo.data.problems.look_alike import LOOK_ALIKE, STRONGLY_REGULAR
from tmt_geo.data.problems.skip_links import SkipLinks, folds, skip_link_graphs

networkx = pytest.importorskip("networkx")


def generator():
    return torch.Generator().manual_seed(0)


def random_graphs(count, size, share=0.5):
    upper = (torch.rand(count, size, size, generator=generator()) < share).long().triu(1)
    return upper + upper.mT


def cycles_by_hand(adjacency, j, i):
    """Ways to go from j over two other nodes to i."""
    others = [node for node in range(len(adjacency)) if node not in (j, i)]
    return sum(
        int(adjacency[j][a] and adjacency[a][b] and adjacency[b][i]) for a, b in itertools.permutations(others, 2)
    )


def cliques_by_hand(adjacency, j, i):
    """Pairs of other nodes that are adjacent to each other and to both ends."""
    nodes = [node for node in range(len(adjacency)) if adjacency[j][node] and adjacency[i][node]]
    return sum(int(adjacency[a][b]) for a, b in itertools.combinations(nodes, 2))


@pytest.mark.parametrize(("count", "by_hand"), [(four_cycles, cycles_by_hand), (four_cliques, cliques_by_hand)])
@pytest.mark.parametrize("size", [4, 7, 9])
def test_counts_are_those_by_hand(count, by_hand, size):
    graphs = random_graphs(3, size)
    for adjacency, counts in zip(graphs, count(graphs), strict=True):
        rows = adjacency.tolist()
        for j, i in itertools.product(range(size), repeat=2):
            assert counts[j, i] == (by_hand(rows, j, i) if rows[j][i] else 0)


def test_sums_of_counts_are_the_cycles_and_cliques_of_networkx():
    for adjacency in random_graphs(4, 8):
        graph = networkx.from_numpy_array(adjacency.numpy())
        cycles = sum(len(cycle) == 4 for cycle in networkx.simple_cycles(graph, length_bound=4))
        cliques = sum(len(clique) == 4 for clique in networkx.enumerate_all_cliques(graph))
        assert int(four_cycles(adjacency).triu().sum()) == 4 * cycles
        assert int(four_cliques(adjacency).triu().sum()) == 6 * cliques


@pytest.mark.parametrize("count", [four_cycles, four_cliques])
def test_counts_do_not_depend_on_the_numbering(count):
    (graph,) = random_graphs(1, 9)
    order = torch.randperm(9, generator=generator())
    assert torch.equal(count(graph[order][:, order]), count(graph)[order][:, order])


PROBLEMS = [FourCycles.of_degree(4.0, classes=5), CliqueProblem.of_size(9, degree=4, classes=3)]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_adjacent_pairs_are_asked_and_large_counts_are_one_class(problem):
    data = problem.sample(6, 9, generator())
    count = four_cycles if problem.name == "four-cycles" else four_cliques
    adjacency = (data.edge_attr == ADJACENT).view(6, 9, 9).long()
    assert torch.equal(adjacency, adjacency.mT) and (data.edge_attr.view(6, 81)[:, ::10] == 2).all()
    expected = torch.where(adjacency > 0, count(adjacency).clamp(max=problem.classes - 1), -100)
    assert torch.equal(data.y.view(6, 9, 9), expected)
    assert data.edge_index.tolist() == [[9 * g + n for g in range(6) for n in range(9) for _ in range(9)],
                                        [9 * g + n for g in range(6) for _ in range(9) for n in range(9)]]  # fmt: skip
    assert data.batch.tolist() == [g for g in range(6) for _ in range(9)] and data.num_graphs == 6


def test_random_graphs_keep_their_mean_degree():
    for size in (10, 20):
        data = FourCycles.of_degree(4.0, classes=13).sample(400, size, generator())
        assert abs(float((data.edge_attr == ADJACENT).sum()) / (400 * size) - 4) < 0.15


def test_nodes_know_their_numbers_and_neighbours():
    data = CliqueProblem.of_size(9, degree=4, classes=3).sample(6, 9, generator())
    assert data.x.tolist() == list(range(9)) * 6
    assert torch.equal(data.row.view(6, 9, 9), (data.edge_attr == ADJACENT).view(6, 9, 9).float())
    assert data.row.sum(1).max() == 4


def test_nodes_have_as_many_neighbours_as_can_be():
    graphs = regular_adjacency(60, 12, 5, generator())
    degree = graphs.sum(-1)
    assert torch.equal(graphs, graphs.mT) and not graphs.diagonal(dim1=1, dim2=2).any()
    assert degree.max() == 5 and float(degree.double().mean()) > 4.8
    short = degree < 5
    assert (graphs[short.unsqueeze(2) & short.unsqueeze(1) & ~torch.eye(12, dtype=torch.bool)] == 1).all()
    share = graphs.double().mean(0)[~torch.eye(12, dtype=torch.bool)]  # no pair of numbers is adjacent more often
    assert (share - share.mean()).abs().max() < 0.3


@pytest.mark.parametrize("name", LOOK_ALIKE)
def test_graphs_that_look_alike_differ(name):
    one, other = (networkx.from_numpy_array(graph.numpy()) for graph in LOOK_ALIKE[name])
    assert not networkx.is_isomorphic(one, other)
    hashes = {networkx.weisfeiler_lehman_graph_hash(graph, iterations=4) for graph in (one, other)}
    assert len(hashes) == 1
    if name in STRONGLY_REGULAR:
        assert networkx.is_strongly_regular(one) and networkx.is_strongly_regular(other)


def test_skip_links_are_150_graphs_of_ten_classes():
    graphs, classes = skip_link_graphs()
    assert graphs.shape == (150, 41, 41) and classes.bincount().tolist() == [15] * 10
    assert (graphs.sum(-1) == 4).all() and torch.equal(graphs, graphs.mT)
    assert len({graph.numpy().tobytes() for graph in graphs}) == 150
    spectra = torch.linalg.eigvalsh(graphs.double())
    for one in range(10):
        of_class = spectra[classes == one]
        assert (of_class - of_class[0]).abs().max() < 1e-9
        assert (spectra[classes != one] - of_class[0]).abs().amax(1).min() > 1e-3


def test_a_fold_is_examined_and_never_learned():
    asked = [SkipLinks.of_fold(fold).exam(30, 41, generator()) for fold in range(5)]
    assert all(data.y.bincount().tolist() == [3] * 10 for data in asked) and folds().bincount().tolist() == [30] * 5

    def matrices(data):
        return {matrix.numpy().tobytes() for matrix in data.edge_attr.view(-1, 41 * 41)}

    assert len(set.union(*map(matrices, asked))) == 150
    learned = SkipLinks.of_fold(2).sample(500, 41, generator())
    assert not matrices(learned) & matrices(asked[2]) and len(matrices(learned)) > 110


def test_numberings_are_of_one_graph():
    (graph,) = random_graphs(1, 8)
    copies = renumbered(graph, 5, generator())
    assert torch.equal(copies[0], graph) and len({copy.numpy().tobytes() for copy in copies}) == 5
    for copy in copies:
        assert networkx.is_isomorphic(*(networkx.from_numpy_array(one.numpy()) for one in (graph, copy)))


def test_brec_has_400_pairs_of_equal_size(data_folder):
    sizes = {part: brec_pairs(part, data_folder / "brec") for part in PARTS}
    assert {part: len(pairs) for part, pairs in sizes.items()} == PARTS and sum(PARTS.values()) == 400
    for pairs in sizes.values():
        assert all(one.shape == other.shape and one.sum() == other.sum() for one, other in pairs)


def test_missing_data_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TMT_GEO_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"'TMT_GEO_DATA' must name a folder .*\(got no .*brec\)"):
        brec_folder()
