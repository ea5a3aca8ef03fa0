import pytest
import torch

from tmt_geo.ops.edge_attention import TRIANGLE_FORMS, axial_attention, pair_attention, triangle_attention
from tmt_geo.ops.naive import edge_attention as naive
from tmt_geo.ops.triangles import triangles
from tmt_geo.testing import assert_grads_close, largest_tensor

H, C = 2, 3
FORMS = list(TRIANGLE_FORMS)


def full(n):
    return torch.cartesian_prod(torch.arange(n), torch.arange(n)).t()


def sparse(n=7, m=25):
    """Different edges in any order, with self-loops, and without most of the edges back."""
    edge_index = torch.unique(torch.randint(n, (2, m)), dim=1)
    return edge_index[:, torch.randperm(edge_index.size(1))]


GRAPHS = {
    "full": lambda: (full(5), 5),
    "sparse": lambda: (sparse(), 7),
    "parallel": lambda: (torch.randint(7, (2, 25)), 7),
    "chain": lambda: (torch.tensor([[0, 1], [1, 2]]), 4),
    "loop": lambda: (torch.tensor([[0], [0]]), 1),
    "none": lambda: (torch.zeros(2, 0, dtype=torch.long), 3),
}


def rows(E, shape=(H, C), dtype=torch.float64):
    return torch.randn(E, *shape, dtype=dtype, requires_grad=True)


def tensors(form, E, dtype=torch.float64):
    """Values and scores of a form."""
    scores = [rows(E, (H,) if form == "factored" else (H, C), dtype) for _ in range(TRIANGLE_FORMS[form])]
    return (rows(E, dtype=dtype), rows(E, dtype=dtype)), tuple(scores)


def named(*groups):
    return {f"{g}.{n}": tensor for g, group in enumerate(groups) for n, tensor in enumerate(group)}


def paths(name):
    return ["list", "auto"] if name == "parallel" else ["list", "dense", "auto"]


@pytest.mark.parametrize("name", GRAPHS)
def test_triangles_match_the_loops(name):
    edge_index, n = GRAPHS[name]()
    found = triangles(edge_index, n)
    assert found.shape[0] == 3 and (found[0].diff() >= 0).all()
    assert sorted(found.t().tolist()) == sorted(naive.triangles(edge_index, n).t().tolist())
    some = torch.arange(0, edge_index.size(1), 2)
    kept = found[:, torch.isin(found[0], some)]
    assert sorted(triangles(edge_index, n, some).t().tolist()) == sorted(kept.t().tolist())


@pytest.mark.parametrize(("n", "m"), [(1, 1), (13, 70), (40, 300)])
def test_triangles_are_counted_as_by_powers_of_the_matrix(n, m):
    edge_index = sparse(n, m)
    A = torch.zeros(n, n, dtype=torch.float64)
    A[edge_index[0], edge_index[1]] = 1
    assert triangles(edge_index, n).size(1) == int((A * (A @ A)).sum())


def test_triangles_of_a_star_and_of_a_large_sparse_graph_take_no_square_of_its_nodes():
    n = 3000
    hub, leaf = torch.zeros(n - 1, dtype=torch.long), torch.arange(1, n)
    star = torch.cat([torch.stack([hub, leaf]), torch.stack([leaf, hub])], dim=1)
    ring = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])
    for edge_index in (star, torch.cat([ring, ring[:, torch.randperm(n)].roll(1, 0)], dim=1)):
        assert largest_tensor(lambda edge_index=edge_index: triangles(edge_index, n)) < 20 * n
    v = rows(2 * n, dtype=torch.float32)
    edge_index = torch.cat([ring, ring.flip(0)], dim=1)
    assert largest_tensor(lambda: triangle_attention((v, v), (), edge_index, n, form="gated")) < 20 * n


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("null_slot", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_path_of_triangle_attention_matches_the_loops(name, form, null_slot, timed):
    edge_index, n = GRAPHS[name]()
    options = {"form": form, "null_slot": null_slot, "time": torch.randint(4, (n,)) if timed else None}
    values, scores = tensors(form, edge_index.size(1))
    for path in paths(name):
        out = triangle_attention(values, scores, edge_index, n, path=path, **options)
        expected = naive.triangle_attention(values, scores, edge_index, n, **options)
        if not expected.requires_grad or not naive.triangles(edge_index, n).numel():
            torch.testing.assert_close(out, torch.zeros_like(out))
            continue
        assert_grads_close(out, expected, named(values, scores))


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("null_slot", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_path_of_pair_attention_matches_the_loops(name, null_slot, timed):
    edge_index, n = GRAPHS[name]()
    E = edge_index.size(1)
    batch = torch.arange(n) // 5 if name == "full" else None
    options = {"null_slot": null_slot, "time": torch.randint(4, (n,)) if timed else None}
    inputs = [rows(E), rows(E), rows(E), rows(E + 2, (4, H))]
    for path in ("list", "dense", "auto"):
        out = pair_attention(*inputs, edge_index, n, batch, path=path, **options)
        expected = naive.pair_attention(*inputs, edge_index, n, batch, **options)
        if E == 0:
            assert out.shape == (0, H, C)
            continue
        assert_grads_close(out, expected, named(inputs))


@pytest.mark.parametrize("along", ["source", "target"])
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("null_slot", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_path_of_axial_attention_matches_the_loops(name, null_slot, timed, along):
    edge_index, n = GRAPHS[name]()
    options = {"null_slot": null_slot, "along": along, "time": torch.randint(4, (n,)) if timed else None}
    inputs = [rows(edge_index.size(1)) for _ in range(3)]
    for more in ({"path": "list"}, {"path": "dense"}, {"path": "auto"}, {"linear": True}):
        out = axial_attention(*inputs, edge_index, n, **options, **more)
        expected = naive.axial_attention(*inputs, edge_index, n, **options, linear="linear" in more)
        if edge_index.size(1) == 0:
            assert out.shape == (0, H, C)
            continue
        assert_grads_close(out, expected, named(inputs))


@pytest.mark.parametrize("path", ["list", "dense"])
def test_axial_attention_on_a_full_graph_is_attention_of_rows_or_columns(path):
    n = 5
    inputs = [rows(n * n) for _ in range(3)]
    q, k, v = (x.view(n, n, H, C) for x in inputs)
    by_row = torch.nn.functional.scaled_dot_product_attention(*(x.permute(0, 2, 1, 3) for x in (q, k, v)))
    by_column = torch.nn.functional.scaled_dot_product_attention(*(x.permute(1, 2, 0, 3) for x in (q, k, v)))
    out = axial_attention(*inputs, full(n), n, along="source", path=path)
    assert_grads_close(out, by_row.permute(0, 2, 1, 3).flatten(0, 1), named(inputs))
    out = axial_attention(*inputs, full(n), n, along="target", path=path)
    assert_grads_close(out, by_column.permute(2, 0, 1, 3).flatten(0, 1), named(inputs))


@pytest.mark.parametrize("path", ["list", "dense"])
@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("form", FORMS)
def test_triangle_attention_on_a_full_graph_is_its_formula(form, n, path):
    """The formula written with matrices over j, i and l, as the papers have it."""
    values, scores = tensors(form, n * n)
    v, w = (x.view(n, n, H, C) for x in values)
    if form == "gated":
        expected = torch.einsum("jlhc,lihc->jihc", v, w)
    else:
        if form == "factored":
            a, b = (x.view(n, n, H) for x in scores)
            score = torch.einsum("jlh,i->jilh", a, a.new_ones(n)) + torch.einsum("lih,j->jilh", b, b.new_ones(n))
        elif form == "product":
            q, k = (x.view(n, n, H, C) for x in scores)
            score = torch.einsum("jlhc,lihc->jilh", q, k) / C**0.5
        else:
            q, k, other = (x.view(n, n, H, C) for x in scores)
            score = torch.einsum("jihc,jlhc->jilh", q, k) + torch.einsum("jihc,lihc->jilh", q, other)
            score = score / C**0.5
        alpha = score.softmax(dim=2)
        if form == "pivot":
            expected = torch.einsum("jilh,jlhc->jihc", alpha, v) + torch.einsum("jilh,lihc->jihc", alpha, w)
        else:
            expected = torch.einsum("jilh,jlhc,lihc->jihc", alpha, v, w)
    out = triangle_attention(values, scores, full(n), n, form=form, path=path)
    assert_grads_close(out, expected.flatten(0, 1), named(values, scores))


@pytest.mark.parametrize("path", ["list", "dense"])
def test_pair_attention_on_a_full_graph_is_its_formula(path):
    n = 4
    q, k, v, cross = inputs = [rows(n * n), rows(n * n), rows(n * n), rows(n * n + 2, (4, H))]
    beta = cross[:-2].view(n, n, 4, H)  # of u -> v in each role
    score = torch.einsum("ahc,bhc->abh", q, k).view(n, n, n, n, H) / C**0.5  # [a, b, c, d, H]
    score = score + torch.einsum("cah->ach", beta[:, :, 0])[:, None, :, None]
    score = score + torch.einsum("cbh->bch", beta[:, :, 1])[None, :, :, None]
    score = score + torch.einsum("dah->adh", beta[:, :, 2])[:, None, None, :]
    score = score + torch.einsum("dbh->bdh", beta[:, :, 3])[None, :, None, :]
    alpha = torch.cat([score.flatten(2, 3), score.new_zeros(n, n, 1, H)], dim=2).softmax(2)[:, :, :-1]
    expected = torch.einsum("abeh,ehc->abhc", alpha, v).flatten(0, 1)
    out = pair_attention(*inputs, full(n), n, path=path)
    # No pair of nodes is without an edge here, so that the two last rows of the biases get no gradient.
    assert_grads_close(out, expected, named(inputs))


def test_one_triangle_by_hand():
    """j -> l -> i closed by j -> i: the one path has weight 1, or with a null slot exp(s) / (1 + exp(s))."""
    edge_index = torch.tensor([[0, 0, 1], [2, 1, 2]])
    v, w = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[8.0], [16.0], [32.0]])
    values = v.view(3, 1, 1), w.view(3, 1, 1)
    scores = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[0.0], [0.0], [-0.5]])
    for path in ("list", "dense"):
        out = triangle_attention(values, scores, edge_index, 3, path=path).flatten()
        assert out.tolist() == [64.0, 0.0, 0.0]
        out = triangle_attention(values, scores, edge_index, 3, path=path, null_slot=True).flatten()
        assert out[0].item() == pytest.approx(64 * torch.tensor(0.5).sigmoid().item())


@pytest.mark.parametrize("null_slot", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_of_any_size_keep_the_products_exact(dtype, null_slot):
    """exp(a - max a) exp(b - max b) is too small for the type wherever the largest scores are at different l."""
    n, size = 6, 1000 if dtype == torch.float64 else 150
    values, scores = tensors("factored", n * n, dtype)
    with torch.no_grad():
        for score in scores:
            score.mul_(size)
    tight = {torch.float32: 1e-3, torch.float64: 1e-9}[dtype]
    dense, listed = (
        triangle_attention(values, scores, full(n), n, path=path, null_slot=null_slot) for path in ("dense", "list")
    )
    assert dense.isfinite().all()
    assert_grads_close(dense, listed, named(values, scores), atol=tight)


@pytest.mark.parametrize("path", ["list", "dense"])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_by_finite_differences(form, path):
    edge_index = torch.tensor([[0, 0, 1, 2, 1], [2, 1, 2, 0, 1]])
    values, scores = tensors(form, 5)

    def run(v, w, *scores):
        return triangle_attention((v, w), scores, edge_index, 3, form=form, null_slot=True, path=path)

    assert torch.autograd.gradcheck(run, (*values, *scores))
    assert torch.autograd.gradgradcheck(run, (*values, *scores))


@pytest.mark.parametrize("path", ["list", "dense"])
def test_gradients_of_pairs_by_finite_differences(path):
    edge_index = torch.tensor([[0, 0, 1, 1], [2, 1, 2, 1]])
    inputs = [rows(4), rows(4), rows(4), rows(6, (4, H))]
    assert torch.autograd.gradcheck(lambda *inputs: pair_attention(*inputs, edge_index, 3, path=path), inputs)


def every_form(edge_index, n, seed, **options):
    """Outputs (E, F) of all forms side by side, and what they are made of."""
    torch.manual_seed(seed)
    E = edge_index.size(1)
    parts = {form: tensors(form, E) for form in FORMS}
    pair = [rows(E), rows(E), rows(E), rows(E + 2, (4, H))]

    def run(edge_index, perm=slice(None), **more):
        outs = []
        for form, (values, scores) in parts.items():
            values, scores = tuple(x[perm] for x in values), tuple(x[perm] for x in scores)
            outs.append(triangle_attention(values, scores, edge_index, n, form=form, **options, **more))
        edges, absent = pair[3][:-2], pair[3][-2:]
        cross = torch.cat([edges[perm], absent])
        content = [x[perm] for x in pair[:3]]
        outs.append(pair_attention(*content, cross, edge_index, n, **options, **more))
        for along in ("source", "target"):
            outs.append(axial_attention(*content, edge_index, n, along=along, **options, **more))
        return torch.cat(outs, dim=1).flatten(1)

    return run, [*(x for values, scores in parts.values() for x in (*values, *scores)), *pair]


@pytest.mark.parametrize("path", ["list", "dense"])
def test_nodes_may_be_renamed_and_edges_given_in_another_order(path):
    edge_index, n = sparse(), 7
    run, _ = every_form(edge_index, n, 0, path=path)
    out = run(edge_index)
    names, perm = torch.randperm(n), torch.randperm(edge_index.size(1))
    torch.testing.assert_close(run(names[edge_index]), out, rtol=0, atol=1e-12)
    torch.testing.assert_close(run(edge_index[:, perm], perm), out[perm], rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", ["list", "dense", "auto"])
def test_a_batch_gives_what_each_graph_gives_alone(path):
    """Graphs of different sizes, whose nodes and edges are mixed."""
    sizes = [4, 1, 6]
    alone = [full(4), torch.tensor([[0], [0]]), sparse(6, 20)]
    begin = [0, 4, 5]
    names = torch.randperm(11)
    graph_of_edge = torch.repeat_interleave(torch.arange(3), torch.tensor([e.size(1) for e in alone]))
    together = names[torch.cat([e + b for e, b in zip(alone, begin, strict=True)], dim=1)]
    order = torch.randperm(together.size(1))
    batch = torch.empty(11, dtype=torch.long)
    batch[names] = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    q, k, v = (rows(together.size(1)) for _ in range(3))
    cross = rows(together.size(1) + 2, (4, H))
    pairs = pair_attention(
        q[order], k[order], v[order], torch.cat([cross[:-2][order], cross[-2:]]), together[:, order], 11, batch,
        path=path,
    )  # fmt: skip
    for form in FORMS:
        values, scores = tensors(form, together.size(1))
        mixed = [tuple(x[order] for x in part) for part in (values, scores)]
        out = triangle_attention(*mixed, together[:, order], 11, batch, form=form, path=path)
        for graph, (edge_index, size) in enumerate(zip(alone, sizes, strict=True)):
            own = graph_of_edge == graph
            mine = [tuple(x[own] for x in part) for part in (values, scores)]
            expected = triangle_attention(*mine, edge_index, size, form=form, path=path)
            torch.testing.assert_close(out[order.argsort()][own], expected, rtol=0, atol=1e-12)
            own_cross = torch.cat([cross[:-2][own], cross[-2:]])
            expected = pair_attention(q[own], k[own], v[own], own_cross, edge_index, size, path=path)
            torch.testing.assert_close(pairs[order.argsort()][own], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", ["list", "dense"])
@pytest.mark.parametrize("name", ["full", "sparse"])
def test_nothing_reaches_an_edge_from_a_later_one(name, path):
    edge_index, n = GRAPHS[name]()
    time = torch.randperm(n)
    run, inputs = every_form(edge_index, n, 0, path=path, time=time)
    out, late = run(edge_index), time[edge_index].amax(0)
    reached = False
    for edge in range(edge_index.size(1)):
        grads = torch.autograd.grad(out[edge].sum(), inputs, retain_graph=True, allow_unused=True)
        for grad in grads:
            if grad is None:
                continue
            grad = grad[: edge_index.size(1)]
            assert (grad[late > late[edge]] == 0).all()
            other = late <= late[edge]
            other[edge] = False
            reached |= bool(grad[other].any())
    assert reached
    # And by changing what is later, even to what overflows.
    with torch.no_grad():
        before = run(edge_index)
        cut = int(late.median())
        for x in inputs:
            x[: edge_index.size(1)][late > cut] += 500 * torch.randn(())
        torch.testing.assert_close(run(edge_index)[late <= cut], before[late <= cut], rtol=0, atol=1e-12)


def test_a_softmax_without_a_null_slot_cannot_count_and_with_it_can():
    """The edge 0 -> 1 of a fan of m triangles, all alike."""
    outs = {}
    for null_slot in (False, True):
        for m in (2, 3):
            middle = torch.arange(2, 2 + m)
            edge_index = torch.cat([torch.tensor([[0], [1]]), torch.stack([torch.zeros_like(middle), middle]),
                                    torch.stack([middle, torch.ones_like(middle)])], dim=1)  # fmt: skip
            ones = torch.ones(edge_index.size(1), 1, 1)
            scores = (torch.zeros(edge_index.size(1), 1),) * 2
            out = triangle_attention((ones, ones), scores, edge_index, 2 + m, null_slot=null_slot)
            outs[null_slot, m] = out[0].item()
    assert outs == pytest.approx({(False, 2): 1.0, (False, 3): 1.0, (True, 2): 2 / 3, (True, 3): 3 / 4})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "cubic"}, "'form' must be one of"),
        ({"path": "fast"}, "'path' must be one of"),
        ({"scores": ()}, "'scores' must be 2 tensors"),
        ({"scores": (torch.zeros(3, 1), torch.zeros(2, 1))}, "'scores' must have shape"),
        ({"values": (torch.zeros(2, 1, 1), torch.zeros(2, 1, 1))}, "'values' must have shape"),
        ({"values": (torch.zeros(3, 1, 1), torch.zeros(3, 1, 2))}, "'values' must be two tensors"),
        ({"num_nodes": 2}, "'edge_index' must name"),
        ({"batch": torch.tensor([0, 0])}, "'batch' must have one entry a node"),
        ({"batch": torch.tensor([0, 1, 1])}, "'batch' must put both ends"),
        ({"time": torch.zeros(2)}, "'time' must have one entry a node"),
        ({"edge_index": torch.tensor([[0, 0, 0], [1, 1, 2]]), "path": "dense"}, "'path' must be 'list'"),
    ],
)
def test_errors_name_the_argument(change, message):
    arguments = {
        "values": (torch.zeros(3, 1, 1), torch.zeros(3, 1, 1)),
        "scores": (torch.zeros(3, 1), torch.zeros(3, 1)),
        "edge_index": torch.tensor([[0, 0, 1], [2, 1, 2]]),
        "num_nodes": 3,
    }
    with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
        triangle_attention(**{**arguments, **change})


def test_errors_of_pairs():
    edge_index, x = torch.tensor([[0], [1]]), torch.zeros(1, 1, 1)
    with pytest.raises(ValueError, match=r"'cross' must have shape \(3, 4, 1\) \(got"):
        pair_attention(x, x, x, torch.zeros(1, 4, 1), edge_index, 2)
    with pytest.raises(ValueError, match=r"'along' must be 'source' or 'target' \(got 'row'\)"):
        axial_attention(x, x, x, edge_index, 2, along="row")
    with pytest.raises(ValueError, match=r"'batch' must put both ends"):
        pair_attention(x, x, x, torch.zeros(3, 4, 1), edge_index, 2, torch.tensor([0, 1]))
