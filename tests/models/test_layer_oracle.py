"""Whole layers against their formulas, written out node by node in float64: nothing of the package is called here.

What a layer should be is said once more, slowly: nearest nodes by brute force, one softmax a node and a head, and
autograd through all of it. Only the module under test, and the order in which it wants its input, come from the
package.
"""

import math

import pytest
import torch

from tmt_geo import ExitGate, TMTConfig, TMTEncoder, TMTLayer, TMTModel
from tmt_geo.nn.node_state import NodeState
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.testing.tiny import parts

CHANNELS, HEADS = 16, 4
SIZES = (9, 1, 7)  # nodes of three graphs
DEFAULTS = {
    "k": 8, "window": 0, "causal": True, "mesh": True, "decay": None, "shift": False, "rotary": False,
    "kv_heads": HEADS, "gated_heads": False, "dual_stream": True, "gated_streams": False, "memory_anchors": 0,
    "index_dim": None, "content_mesh": False, "qk_norm": False,
}  # fmt: skip
LAYERS = {
    "everything": {
        "k": 3, "window": 2, "decay": "log", "shift": True, "rotary": True, "kv_heads": 2, "gated_heads": True,
        "gated_streams": True, "memory_anchors": 3, "index_dim": 6, "qk_norm": True,
    },
    "two kinds of edges": {
        "k": 3, "window": 2, "decay": "log", "shift": True, "rotary": True, "kv_heads": 2, "content_mesh": True,
        "qk_norm": True,
    },
    "two kinds of edges, published decay": {
        "k": 2, "window": 3, "decay": "published", "rotary": True, "content_mesh": True,
    },
    "two kinds of edges without a window": {"k": 3, "decay": "log", "rotary": True, "content_mesh": True},
    "as published": {"k": 3, "decay": "published", "memory_anchors": 3},
    "published decay and all else": {
        "k": 2, "window": 1, "decay": "published", "shift": True, "rotary": True, "gated_heads": True,
        "memory_anchors": 2, "index_dim": 8,
    },
    "a plain transformer": {"mesh": False, "dual_stream": False},
    "dense, with all that fits": {
        "mesh": False, "decay": "log", "rotary": True, "kv_heads": 2, "gated_heads": True, "memory_anchors": 4,
        "qk_norm": True,
    },
    "both sides": {"k": 3, "causal": False, "decay": "log", "rotary": True, "kv_heads": 2, "memory_anchors": 2},
    "more neighbors than nodes": {"window": 3, "decay": "log", "shift": True, "rotary": True},
}  # fmt: skip
RULES = {"fixed": 0.6, "budget": 0.7, "learned": 0.8}  # and where these tests put the threshold (of the confidence)


# The formulas. `w` holds the weights of one layer by their names.


def norm(x, w, name):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * w[name + ".weight"] + w[name + ".bias"]


def root_mean_square_norm(x, w, name):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * w[name + ".weight"]


def linear(x, w, name):
    out = x @ w[name + ".weight"].T
    return out + w[name + ".bias"] if name + ".bias" in w else out


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def softmax(x, dim):
    power = torch.exp(x - x.max(dim, keepdim=True).values.detach())
    return power / power.sum(dim, keepdim=True)


def turned(x, place):
    """Channel c and channel c + C / 2 of each head turn by place * 10000 ** (-2 c / C)."""
    half = x.size(-1) // 2
    out = x.clone()
    for c in range(half):
        angle = place.double().unsqueeze(1) * 10000 ** (-c / half)  # [N, 1]
        out[..., c] = x[..., c] * angle.cos() - x[..., c + half] * angle.sin()
        out[..., c + half] = x[..., c] * angle.sin() + x[..., c + half] * angle.cos()
    return out


def in_time(batch, time):
    """The nodes of each graph, earliest first, and those at one time in the order they were given."""
    graphs = [[i for i in range(len(batch)) if batch[i] == graph] for graph in batch.unique()]
    return [sorted(nodes, key=lambda i: (float(time[i]), i)) for nodes in graphs]


def cosine(a, b):
    return float((a * b).sum() / a.norm() / b.norm())


def nearest(i, graph, z, o):
    """The k nearest of the nodes that the window leaves over, of equal ones the latest."""
    place = graph.index(i)
    allowed = graph[: max(place - o["window"], 0)] if o["causal"] else [j for j in graph if j != i]
    return sorted(allowed, key=lambda j: (-round(cosine(z[i], z[j]), 12), -graph.index(j)))[: o["k"]]


def feed_forward(x, w, o):
    if not o["dual_stream"]:
        return linear(gelu(linear(x, w, "ffn.lin_in")), w, "ffn.lin_out")
    hidden = linear(x, w, "ffn.lin_in")
    if o["gated_streams"]:
        opening, hidden = hidden.tensor_split(2, -1)
        hidden = opening * sigmoid(opening) * hidden
    else:
        hidden = gelu(hidden)
    syntax, semantic = hidden.tensor_split(2, -1)
    g = sigmoid(linear(x, w, "ffn.gate"))
    return g * linear(syntax, w, "ffn.syntax_out") + (1 - g) * linear(semantic, w, "ffn.semantic_out")


def layer(w, o, x, batch, time, left=None):
    """One layer over the nodes of all graphs.

    `left` is what the layer before has left: who is active, who was computed by it, keys and values, who was found,
    and how surely the active stayed. Returns the states and the same again, with what is observed in training.
    """
    n, width = x.shape
    share = HEADS // o["kv_heads"]
    left = left or {"active": list(range(n)), "changed": range(n), "nearest": {}, "stay": None}
    graphs = in_time(batch, time)
    place = torch.tensor([next(graph.index(i) for graph in graphs if i in graph) for i in range(n)])

    h = norm(x, w, "norm_attention")
    query, key, value = (
        linear(h, w, f"attention.lin_{part}").view(n, -1, width // HEADS) for part in ("query", "key", "value")
    )
    if o["qk_norm"]:
        query = root_mean_square_norm(query, w, "attention.norm_query")
        key = root_mean_square_norm(key, w, "attention.norm_key")
    if o["rotary"] and not o["content_mesh"]:
        query, key = turned(query, place), turned(key, place)
    if "key" in left:  # a node that has left is projected once more, and is a source with that for good
        changed = torch.tensor([i in left["changed"] for i in range(n)]).view(n, 1, 1)
        key, value = torch.where(changed, key, left["key"]), torch.where(changed, value, left["value"])

    z = (x if o["index_dim"] is None else x.detach() @ w["search.index.weight"].T) if o["mesh"] else None
    nearest_of, rows = dict(left["nearest"]), []
    for graph in graphs:
        for at, i in enumerate(graph):
            if i not in left["active"]:
                continue
            found = []
            if o["mesh"]:
                if o.get("rebuild", True) or i not in nearest_of:
                    nearest_of[i] = nearest(i, graph, z.detach(), o)
                found = nearest_of[i]
                sources = found + graph[max(at - o["window"], 0) : at]
            else:
                sources = graph[:at]

            keys, values = [key[j] for j in sources], [value[j] for j in sources]
            if o["shift"] and o["mesh"]:  # a neighbor passes on in part what came after it
                mu = sigmoid(w["attention.shift"])  # [2, H', C]
                after = [graph[graph.index(j) + 1] for j in sources]
                keys = [(1 - mu[0]) * key[j] + mu[0] * key[a] for j, a in zip(sources, after, strict=True)]
                values = [(1 - mu[1]) * value[j] + mu[1] * value[a] for j, a in zip(sources, after, strict=True)]
            if o["rotary"] and o["content_mesh"]:  # the keys of the window alone, by how far back they are
                backs = torch.tensor([0 if j in found else at - graph.index(j) for j in sources])
                keys = list(turned(torch.stack(keys), -backs)) if keys else []
            keys, values = torch.stack([*keys, key[i]]), torch.stack([*values, value[i]])  # [K, H', C]
            lag = torch.tensor([abs(float(time[i]) - float(time[j])) for j in [*sources, i]], dtype=torch.double)
            if o["content_mesh"]:
                lag[: len(found)] = math.nan  # no decay there
            outputs = []
            for head in range(HEADS):
                score = (keys[:, head // share] * query[i, head]).sum(1) / math.sqrt(width // HEADS)
                if o["decay"] == "log":
                    score = score - torch.log(1 + torch.exp(w["attention.decay.weight"][head])) * lag.nan_to_num(0)
                alpha = softmax(score, 0)
                if o["decay"] == "published":
                    factor = sigmoid(w["attention.decay.weight"][head] * lag.nan_to_num(0))
                    alpha = alpha * torch.where(lag.isnan(), 1.0, factor)
                outputs.append((alpha.unsqueeze(1) * values[:, head // share]).sum(0))
            if o["gated_heads"]:
                opening = sigmoid(linear(h[i], w, "lin_gate"))
                outputs = [opening[head] * part for head, part in enumerate(outputs)]
            rows.append((i, torch.cat(outputs)))

    rows.sort(key=lambda row: row[0])
    active = [i for i, _ in rows]
    before = x[active]
    y = before + linear(torch.stack([outputs for _, outputs in rows]), w, "lin_out")
    y = y + feed_forward(norm(y, w, "norm_ffn"), w, o)
    anchors = w.get("memory.anchors")
    if o["memory_anchors"]:
        query = norm(y, w, "norm_memory")
        alpha = softmax(query @ linear(anchors, w, "memory.lin_key").T / math.sqrt(width), 1)  # [T, M]
        y = y + alpha @ linear(anchors, w, "memory.lin_value")
        anchors = moved(anchors, query.detach(), alpha.detach())
    if left["stay"] is not None:  # straight through: the loss says whether this update was worth it
        y = before + (y - before) * (1 + left["stay"] - left["stay"].detach()).unsqueeze(1)
    out = x.clone()
    out[active] = y
    left = {"active": active, "changed": active, "key": key, "value": value, "nearest": nearest_of, "stay": None}
    return out, left | {"anchors": anchors, "y": y}


def moved(anchors, query, alpha, momentum=0.99):
    """Each anchor goes a hundredth of the way to the mean of the states nearest to it, by how much they read it."""
    new = anchors.clone()
    owner = [min(range(len(anchors)), key=lambda m, h=h: float((h - anchors[m]).pow(2).sum())) for h in query]
    for m in range(len(anchors)):
        own = [t for t, nearest_one in enumerate(owner) if nearest_one == m]
        if own:
            weight = alpha[own, m]
            new[m] = momentum * anchors[m] + (1 - momentum) * (weight @ query[own]) / weight.sum()
    return new


def gate(w, rule, left, balance=False):
    """Who of the active stays, and how surely; the gate's own loss of those that reached it.

    To `balance` a gate is to move its bias until about a half of them leave.
    """
    score = linear(left["y"].detach(), w, "gate.lin").squeeze(1)
    if balance:
        shift = math.log(RULES[rule] / (1 - RULES[rule])) - score.detach().mean()
        w["gate.lin.bias"].data += shift
        score = score + shift
    confidence = sigmoid(score)
    if rule == "fixed":
        leaves, stay = confidence >= RULES[rule], 1 - confidence
        loss = -(confidence * confidence.log() + (1 - confidence) * (1 - confidence).log())
    elif rule == "budget":
        leaves = score >= w["gate.running"]
        bias = w["gate.lin.bias"]
        stay, loss = 1 - sigmoid(score - bias + bias.detach()), torch.zeros_like(score)
    else:
        leaves, stay = score >= w["gate.logit"], sigmoid(w["gate.logit"] - score)
        loss = (w["gate.running"] - w["rate"]).detach() * stay
    kept = [t for t, leaving in enumerate(leaves.tolist()) if not leaving]
    return left | {"active": [left["active"][t] for t in kept], "stay": stay[kept]}, loss.sum(), score.detach()


# What is compared


def graphs_of_several_lengths(ragged=True):
    """Nodes of three graphs, mixed, at times of their own; some are twins, some are at one time."""
    sizes = SIZES if ragged else (6, 6)
    batch = torch.cat([torch.full((size,), graph) for graph, size in enumerate(sizes)])
    batch = batch[torch.randperm(len(batch))]
    time = torch.rand(len(batch), dtype=torch.double)
    x = torch.randn(len(batch), CHANNELS, dtype=torch.double)
    first = (batch == 0).nonzero().flatten()
    x[first[4]] = x[first[1]] = x[first[0]]
    time[first[2]] = time[first[3]]
    return x.requires_grad_(), batch, time


def lively(module):
    """Weights large enough for every part to show."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (1.0 if parameter.dim() < 2 else 0.3))
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
        for name, buffer in module.named_buffers():
            if "anchors" in name or "index" in name:
                buffer.normal_()
    return module.double()


def weights_of(module):
    """Copies of the weights by name, that take gradients where the module's own do."""
    learned = dict(module.named_parameters())
    return {name: value.clone().requires_grad_(name in learned) for name, value in module.state_dict().items()}


def assert_equal_gradients(module, weights, x, given, loss):
    """Of the input and of every parameter, by name; what one loss does not reach, the other may not reach either."""
    learned = {"x": x} | dict(module.named_parameters())
    leaves = [given if name == "x" else weights[name] for name in learned]
    wanted = torch.autograd.grad(loss, leaves, allow_unused=True)
    for (name, leaf), want in zip(learned.items(), wanted, strict=True):
        want = torch.zeros_like(leaf) if want is None else want
        got = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9, msg=lambda m, name=name: f"d{name}: {m}")
    assert sum(want is not None and bool(want.abs().max() > 1e-6) for want in wanted) > len(wanted) / 2


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_formula(name, ragged, training):
    o = DEFAULTS | LAYERS[name]
    module = lively(TMTLayer(CHANNELS, HEADS, **parts(CHANNELS, **LAYERS[name]))).train(training)
    x, batch, time = graphs_of_several_lengths(ragged)
    w, given = weights_of(module), x.detach().clone().requires_grad_()
    want, left = layer(w, o, given, batch, time)
    got = module(x, batch, time)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)
    weight = torch.randn_like(want)
    (got * weight).sum().backward()
    assert_equal_gradients(module, w, x, given, (want * weight).sum())
    if o["memory_anchors"]:
        torch.testing.assert_close(module.memory.anchors, left["anchors"] if training else w["memory.anchors"])
        assert not torch.equal(left["anchors"], w["memory.anchors"])


@pytest.mark.parametrize("name", [name for name in LAYERS if LAYERS[name].get("mesh", True)])
def test_frozen_nodes_are_sources_with_their_last_keys(name):
    """Only some nodes are computed, and some of the others have keys of long ago."""
    o = DEFAULTS | LAYERS[name]
    module = lively(TMTLayer(CHANNELS, HEADS, **parts(CHANNELS, **LAYERS[name]))).eval()
    x, batch, time = graphs_of_several_lengths()
    key, value = torch.randn(2, len(x), o["kv_heads"], CHANNELS // HEADS, dtype=torch.double)
    active, changed = [0, 3, 4, 9, 15], [0, 3, 4, 9, 11, 12, 15]
    left = {"active": active, "changed": changed, "key": key, "value": value, "nearest": {}, "stay": None}
    w, given = weights_of(module), x.detach().clone().requires_grad_()
    want, _ = layer(w, o, given, batch, time, left)
    state = NodeState(x, torch.tensor(active), torch.tensor(changed), key, value)
    got = module.step(state, DenseLayout.from_batch(len(x), batch, time))[0].x
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)
    weight = torch.randn_like(want)
    (got * weight).sum().backward()
    assert_equal_gradients(module, w, x, given, (want * weight).sum())


def stacked(depth, o, w, x, batch, time, rule, rebuild_every, balance=False):
    """All layers of an encoder, with its gates; `w` holds their weights under their full names."""
    left, losses, scores = None, [], []
    for number in range(depth):
        start = f"layers.{number}."
        own = {name.removeprefix(start): value for name, value in w.items() if name.startswith(start)}
        here = o | {"rebuild": number % rebuild_every == 0}
        here = here if here["rebuild"] else here | {"index_dim": None}
        x, left = layer(own, here, x, batch, time, left)
        if rule is not None and number < depth - 1:
            # Of all nodes a half is to be computed: 1 + r + r * r = 3 / 2 for three layers, 1 + r = 1 for two.
            rate = (math.sqrt(3) - 1) / 2 if depth == 3 else 0.0
            left, loss, score = gate(own | {"rate": rate}, rule, left, balance)
            losses.append(loss)
            scores.append(score)
    return norm(x, w, "norm"), sum(losses), scores


@pytest.mark.parametrize(
    ("name", "depth", "rule", "rebuild_every"),
    [
        *((name, 2, rule, 1) for name, rule in zip(LAYERS, [*RULES, *RULES, *RULES, None], strict=True)),
        ("everything", 3, "fixed", 1), ("everything", 3, "budget", 2), ("both sides", 3, "learned", 3),
        ("published decay and all else", 3, "fixed", 2), ("as published", 3, None, 1),
    ],
)  # fmt: skip
def test_a_stack_of_layers_is_their_formulas(name, depth, rule, rebuild_every):
    o = DEFAULTS | LAYERS[name]
    options = parts(CHANNELS, stack=True, **LAYERS[name]) | {
        "exit_rule": rule,
        "exit_budget": 0.5,
        "exit_threshold": RULES["fixed"],
    }
    encoder = TMTEncoder(None, CHANNELS, depth, heads=HEADS, rebuild_every=rebuild_every, **options)
    lively(encoder).train()
    for module in encoder.modules():
        if isinstance(module, ExitGate):  # thresholds among the scores, so that some leave
            logit = math.log(RULES[rule] / (1 - RULES[rule]))
            module.running.fill_(logit if rule == "budget" else 0.25)
            if module.logit is not None:
                module.logit.data.fill_(logit)
    x, batch, time = graphs_of_several_lengths()
    w, given = weights_of(encoder), x.detach().clone().requires_grad_()
    stacked(depth, o, w, given, batch, time, rule, rebuild_every, balance=True)
    encoder.load_state_dict(w)

    want, want_loss, scores = stacked(depth, o, w, given, batch, time, rule, rebuild_every)
    out = encoder.run(x, DenseLayout.from_batch(len(x), batch, time))
    torch.testing.assert_close(out.x, want, rtol=1e-9, atol=1e-10)
    computed = [len(x)] + [len(score) for score in scores[1:]]
    assert (~out.exit_masks()).sum(1).tolist()[: len(computed)] == computed
    if rule is not None:
        assert 0 < int((~out.exit_masks())[-1].sum()) < len(x)  # or the gates were not tried

    loss = x.new_zeros(()) if rule is None else out.gate_loss()
    torch.testing.assert_close(torch.as_tensor(loss).double(), torch.as_tensor(want_loss).double().detach())
    weight = torch.randn_like(want)
    ((out.x * weight).sum() + loss).backward()
    assert_equal_gradients(encoder, w, x, given, (want * weight).sum() + want_loss)

    for number, score in enumerate(scores):
        running = encoder.layers[number].gate.running
        if rule == "budget":  # of the first batch, as many lie below it as are to stay
            rate = (math.sqrt(3) - 1) / 2 if depth == 3 else 0.0
            assert abs(int((score < running).sum()) - rate * len(score)) <= 1


@pytest.mark.parametrize("decay", ["log", "published", None])
def test_a_language_model_is_its_formula_at_300_tokens(decay):
    """Positions are whole numbers however many there are, and time is their share of the longest sequence."""
    length, longest = 300, 400
    o = DEFAULTS | {"mesh": False, "decay": decay, "rotary": True}
    config = {"mesh": False, "decay": decay, "rotary": True, "exit": False, "memory_anchors": 0, "dropout": 0.0}
    config |= {"gated_heads": False, "gated_streams": False, "n_layers": 1, "max_seq_len": longest}
    model = lively(TMTModel(TMTConfig(vocab_size=23, d_model=CHANNELS, n_heads=HEADS, **config))).eval()
    encoder = next(module for module in model.modules() if isinstance(module, TMTEncoder))
    w, ids = weights_of(encoder), torch.randint(23, (1, length))
    if decay is not None:  # strong enough for a neighbor of one token to count
        for rate in (w["layers.0.attention.decay.weight"], encoder.layers[0].attention.decay.weight):
            rate.data.fill_(float(longest))
    own = {name.removeprefix("layers.0."): value for name, value in w.items()}
    one_graph, place = torch.zeros(length, dtype=torch.long), torch.arange(length)
    with torch.no_grad():
        x, _ = layer(own, o, model.get_input_embeddings().weight[ids[0]], one_graph, place.double() / longest)
        want = norm(x, w, "norm") @ model.get_output_embeddings().weight.T
        got = model(ids, use_cache=False).logits[0]
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)
