import logging

import pytest
import torch

from tmt_geo.ops import compiled
from tmt_geo.ops.edges import Edges, sddmm, spmm
from tmt_geo.ops.naive import edges as naive
from tmt_geo.testing import assert_grads_close, largest_tensor


def random_edges(kind, T, N, width):
    """A table, or an edge list in which some targets have no edge and one has many."""
    if kind == "table":
        return Edges.from_table(torch.randint(N, (T, width)), N)
    target = torch.cat([torch.randint(T, (T * width,)) // 2, torch.full((width,), T - 1)]).sort().values
    return Edges.from_sorted(torch.randint(N, target.shape), target, N, T)


def leaves(*shapes, dtype):
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


SHAPES = [(1, 1, 1, 1, 1, 1), (5, 9, 3, 4, 2, 3), (63, 20, 17, 6, 1, 5), (40, 65, 2, 3, 3, 8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["table", "list"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "T{}-N{}-K{}-H{}-G{}-C{}".format(*s))
def test_both_products_match_the_loops(dtype, kind, shape):
    T, N, K, H, G, C = shape
    edges = random_edges(kind, T, N, K)
    E = edges.source.numel()
    a, b, w = leaves((T, H, C), (N, G, C), (E, H), dtype=dtype)
    tight = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    for fast, slow, first in ((sddmm, naive.sddmm, a), (spmm, naive.spmm, w)):
        out, expected = fast(first, b, edges), slow(first, b, edges)
        torch.testing.assert_close(out, expected, **tight)
        grad = torch.randn_like(out)
        for got, wanted in zip(
            torch.autograd.grad(out, (first, b), grad), torch.autograd.grad(expected, (first, b), grad), strict=True
        ):
            torch.testing.assert_close(got, wanted, **tight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_products_match_the_loops_at_every_size(dtype):
    compiled.set_compile("always")
    try:
        for size in (3, 5, 8):
            test_both_products_match_the_loops(dtype, "list", (size, 2 * size, 3, 4, 2, 8))
        assert not compiled._state["broken"]
    finally:
        compiled.set_compile("auto")


def test_second_derivatives():
    edges = random_edges("list", 4, 3, 2)
    a, b, w = leaves((4, 2, 2), (3, 1, 2), (edges.source.numel(), 2), dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda a, b: sddmm(a, b, edges), (a, b))
    assert torch.autograd.gradgradcheck(lambda w, b: spmm(w, b, edges), (w, b))


@pytest.mark.parametrize(("T", "N"), [(0, 4), (3, 4)])
@pytest.mark.parametrize("kind", ["table", "list"])
def test_no_edges(kind, T, N):
    none = torch.zeros(0, dtype=torch.long)
    edges = Edges.from_table(torch.zeros(T, 0, dtype=torch.long), N)
    edges = edges if kind == "table" else Edges.from_sorted(none, none, N, T)
    a, b, w = leaves((T, 2, 3), (N, 2, 3), (0, 2), dtype=torch.float32)
    dot, total = sddmm(a, b, edges), spmm(w, b, edges)
    assert dot.shape == (0, 2) and total.shape == (T, 2, 3)
    (dot.sum() + total.sum()).backward()
    assert (b.grad == 0).all() and (a.grad == 0).all()


def test_gradients_that_are_expanded_and_rows_that_are_not_contiguous():
    edges = random_edges("table", 6, 6, 4)
    (w,) = leaves((24, 2), dtype=torch.float64)
    b = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    out = spmm(w, b.transpose(0, 1), edges)
    assert_grads_close(out, naive.spmm(w, b.transpose(0, 1), edges), {"weight": w, "rows": b})
    spmm(w, b.transpose(0, 1), edges).sum().backward()  # the gradient of a sum has strides of zero
    assert torch.isfinite(b.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    edges = random_edges("list", 9, 7, 3)
    a, b, w = leaves((9, 4, 8), (7, 2, 8), (edges.source.numel(), 4), dtype=torch.float32)
    low = [part.detach().to(dtype) for part in (a, b, w)]
    close = {"rtol": 0.03, "atol": 0.1, "check_dtype": False}
    torch.testing.assert_close(sddmm(low[0], low[1], edges), sddmm(a, b, edges), **close)
    torch.testing.assert_close(spmm(low[2], low[1], edges), spmm(w, b, edges), **close)


def test_nothing_of_the_size_of_all_messages_is_held():
    T, K, H, C = 900, 17, 4, 64  # small enough to run plain: a compiler holds nothing either
    edges = random_edges("table", T, T, K)
    a, b, w = leaves((T, H, C), (T, H, C), (T * K, H), dtype=torch.float32)

    def both():
        with torch.enable_grad():
            (sddmm(a, b, edges).sum() + spmm(w, b, edges).sum()).backward()

    assert largest_tensor(both) < T * K * H * C / 2


def test_without_a_compiler_plain_code_runs_and_is_logged_once(monkeypatch, caplog):
    edges = random_edges("table", 5, 5, 3)
    a, b = (part.detach() for part in leaves((5, 2, 4), (5, 2, 4), dtype=torch.float32))
    expected = sddmm(a, b, edges)

    def no_compiler(*args):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("tmt_geo.ops.edges._dot.function", no_compiler)
    compiled.set_compile("always")
    try:
        with caplog.at_level(logging.WARNING):
            torch.testing.assert_close(sddmm(a, b, edges), expected)
            torch.testing.assert_close(sddmm(a, b, edges), expected)
    finally:
        compiled.set_compile("auto")
    assert [record.message for record in caplog.records] == [
        "torch.compile does not work here, plain code runs instead (RuntimeError)"
    ]
