"""Bad arguments are named before any maths."""

import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.ops import checks
from tmt_geo.ops.checks import check_devices, check_edge_index
from tmt_geo.ops.layout import DenseLayout

ELSEWHERE = torch.device("meta")  # a device that every machine has


@pytest.mark.parametrize("name", ["batch", "time"])
def test_vectors_on_another_device_than_the_nodes(name):
    vector = {name: torch.zeros(5, dtype=torch.long, device=ELSEWHERE)}
    with pytest.raises(ValueError, match=rf"'{name}' .*\(got meta\)"):
        knn_graph(torch.randn(5, 2), 2, **vector)
    with pytest.raises(ValueError, match=rf"'{name}' .*\(got meta\)"):
        DenseLayout.from_batch(5, **vector, device="cpu")
    with pytest.raises(ValueError, match=rf"'{name}' .*\(got cpu\)"):
        knn_graph(torch.randn(5, 2, device=ELSEWHERE), 2, **{name: torch.zeros(5, dtype=torch.long)})


def test_batch_and_time_on_two_devices():
    with pytest.raises(ValueError, match="'time'"):
        DenseLayout.from_batch(3, torch.zeros(3, dtype=torch.long), torch.zeros(3, device=ELSEWHERE))


def test_a_device_without_a_number_is_any_of_its_kind():
    check_devices("cpu", x=torch.zeros(1), nothing=None)
    check_devices("meta", x=torch.zeros(1, device="meta:0"))
    with pytest.raises(ValueError, match="'x'"):
        check_devices("meta:1", x=torch.zeros(1, device="meta:0"))


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_positive(k):
    with pytest.raises(ValueError, match=r"'k' .*\(got "):
        knn_graph(torch.randn(4, 2), k)


@pytest.mark.parametrize(
    "edge_index",
    [
        torch.tensor([[0.0], [1.0]]),
        torch.tensor([[True], [False]]),
        torch.tensor([0, 1]),
        torch.tensor([[0], [1], [2]]),
        torch.tensor([[-1], [1]]),
        torch.tensor([[0], [-1]]),
        torch.tensor([[4], [1]]),
        torch.tensor([[0], [6]]),
    ],
    ids=["float", "bool", "flat", "three rows", "source -1", "target -1", "source 4 of 4", "target 6 of 6"],
)
def test_edges_that_are_none(edge_index):
    with pytest.raises(ValueError, match=r"'edge_index' .*\(got "):
        check_edge_index(edge_index, 4, 6)


def test_edges_that_are_some():
    check_edge_index(torch.tensor([[3, 0], [5, 0]]), 4, 6)
    check_edge_index(torch.zeros(2, 0, dtype=torch.long), 0, 0)


NUMBERS = ["x", None, [1.0], object(), float("nan"), float("inf"), 1e308, torch.ones(3), 1j]
REFUSED = {
    "check_counts": [0, -1, 1.5, True, "3", [2], 2**31, 10**30, float("nan"), torch.ones(3)],
    "check_reals": NUMBERS,
    "check_positive": [*NUMBERS, 0, -1.0],
    "check_shares": [*NUMBERS, -0.1, 1.1],
    "check_flags": [0, 1, "yes", None, [], float("nan")],
    "check_tensors": ["x", 7, [1, 2], object()],
    "check_real": ["x", 7, [1, 2], torch.zeros(2, dtype=torch.complex64)],
}
TAKEN = {
    "check_counts": [1, 2**31 - 1, None],
    "check_reals": [0, -1.5, 3],
    "check_positive": [1e-9, 2],
    "check_shares": [0, 0.5, 1],
    "check_flags": [True, False],
    "check_tensors": [None, torch.ones(2)],
    "check_real": [None, torch.ones(2), torch.ones(2, dtype=torch.bool)],
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_first_that_is_wrong_is_named(name):
    check = getattr(checks, name)
    for value in TAKEN[name]:
        check(right=value, right_too=TAKEN[name][0])
    for value in REFUSED[name]:
        with pytest.raises(ValueError, match=r"^'wrong' must .*\(got .*\)$"):
            check(right=TAKEN[name][0], wrong=value)


@pytest.mark.parametrize("chosen", ["ab", 7, None, [["a"]], ["a", "c"], [1], {"a"}])
def test_a_sequence_of_names(chosen):
    checks.check_choices("wrong", ("a", "b", "a"), {"a": 1, "b": 2})
    with pytest.raises(ValueError, match="^'wrong' must be a sequence of a, b "):
        checks.check_choices("wrong", chosen, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    "x", ["x", [[1.0, 2.0]], torch.ones(2, 2).to_sparse(), torch.ones(2, 2).long(), torch.ones(2, 3), torch.ones(())],
    ids=["a word", "a list", "sparse", "integers", "three channels", "a number"],
)  # fmt: skip
def test_rows_that_are_none(x):
    checks.check_rows("x", torch.ones(5, 4, 2), 2)
    with pytest.raises(ValueError, match=r"^'x' must .*\(got .*\)$"):
        checks.check_rows("x", x, 2)
