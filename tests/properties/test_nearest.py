"""The nearest are the nearest, in any type and for numbers of any size, against decimals of sixty digits."""

from decimal import Context, Decimal, localcontext
from importlib.util import find_spec

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.properties.drawn import NUMBERS, SEEDS, features
from tmt_geo import knn_graph

TYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
METRICS = st.sampled_from(["euclidean", "cosine"])
BACKENDS = st.sampled_from(["auto", "dense", "blocked", "tree"])
DIGITS = Context(prec=60, Emin=-10_000, Emax=10_000)
SLACK = Decimal("1e-13")


def product(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


def distance(a, b, metric):
    """Of two rows of decimals: Euclidean, or one less the cosine, which is none for a row of zeros."""
    if metric == "euclidean":
        difference = [p - q for p, q in zip(a, b, strict=True)]
        return product(difference, difference).sqrt()
    size = (product(a, a) * product(b, b)).sqrt()
    return 1 - (product(a, b) / size if size else 0)


def assert_nearest(x, mesh, k, metric, earlier):
    """Each row of the mesh has `k` of the nodes that `earlier` allows, or all of them, the nearest first."""
    with localcontext(DIGITS):
        rows = [[Decimal(value) for value in row] for row in x.double().tolist()]
        for i, (row, mask) in enumerate(zip(mesh.table.tolist(), mesh.mask.tolist(), strict=True)):
            found = [j for j, there in zip(row, mask, strict=True) if there]
            allowed = [j for j in range(len(rows)) if j != i and earlier(j, i)]
            assert set(found) <= set(allowed) and len(set(found)) == len(found) == min(k, len(allowed))
            true = sorted(distance(rows[i], rows[j], metric) for j in allowed)
            for j, nearest in zip(found, true, strict=False):
                assert distance(rows[i], rows[j], metric) <= nearest + SLACK * (1 if metric == "cosine" else nearest)


@given(
    n=st.integers(1, 12), channels=st.integers(1, 4), k=st.integers(1, 13), dtype=TYPES, metric=METRICS,
    numbers=st.sampled_from(NUMBERS), causal=st.booleans(), backend=BACKENDS, seed=SEEDS,
)  # fmt: skip
def test_the_nearest_are_the_nearest(n, channels, k, dtype, metric, numbers, causal, backend, seed):
    assume(backend != "tree" or (metric == "euclidean" and not causal and find_spec("scipy")))
    torch.manual_seed(seed)
    x = features(n, channels, numbers, dtype)
    mesh = knn_graph(x, k, causal=causal, metric=metric, backend=backend)
    assert_nearest(x, mesh, k, metric, (lambda j, i: j < i) if causal else (lambda j, i: True))


@given(
    n=st.integers(1, 40), channels=st.integers(1, 4), k=st.integers(1, 6), dtype=TYPES, metric=METRICS,
    numbers=st.sampled_from(NUMBERS), seed=SEEDS,
)  # fmt: skip
def test_a_prefix_finds_the_same_and_of_equal_nodes_the_latest(n, channels, k, dtype, metric, numbers, seed):
    torch.manual_seed(seed)
    x = features(n, channels, numbers, dtype)
    mesh, start = knn_graph(x, k, causal=True, metric=metric), int(torch.randint(n, ())) + 1
    part = knn_graph(x[:start], k, causal=True, metric=metric)
    assert torch.equal(part.mask, mesh.mask[:start]) and torch.equal(
        part.table[part.mask], mesh.table[:start][part.mask]
    )
    for i, (row, mask) in enumerate(zip(mesh.table, mesh.mask, strict=True)):
        found = row[mask].tolist()
        for j in found:
            later = [twin for twin in range(j + 1, i) if torch.equal(x[twin], x[j])]
            assert set(later) <= set(found[: found.index(j)])
