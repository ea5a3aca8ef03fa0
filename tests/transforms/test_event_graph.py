import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.nn import TransformerConv
from torch_geometric.transforms import Compose, LineGraph

from tmt_geo import EventGraph
from tmt_geo.ops.events import recent_events


def ratings(num_events, num_users=5):
    return Data(
        edge_index=torch.randint(num_users, (2, num_events)),
        edge_attr=torch.randn(num_events, 2),
        time=torch.rand(num_events),
        y=torch.randint(2, (num_events,)),
        train_mask=torch.rand(num_events) < 0.5,
        x=torch.randn(num_users, 3),
        num_nodes=num_users,
    )


def test_events_become_nodes():
    data = ratings(12)
    out = EventGraph(num_recent=2)(data)
    edge_index, relation = recent_events(data.edge_index, data.time, 2)
    assert torch.equal(out.edge_index, edge_index) and torch.equal(out.relation, relation)
    assert out.num_nodes == 12 and torch.equal(out.x, data.edge_attr)
    for key in ("time", "y", "train_mask"):
        assert torch.equal(out[key], data[key])
    assert out.validate() and out.edge_attr is None
    assert str(EventGraph()) == "EventGraph(num_recent=10)"


def test_the_input_is_not_touched():
    data = ratings(12)
    before = data.clone()
    out = Compose([EventGraph(3)])(data)
    assert out is not data and data.keys() == before.keys()
    for key in data.keys():  # noqa: SIM118
        assert torch.equal(torch.as_tensor(data[key]), torch.as_tensor(before[key]))


def test_what_belongs_to_users_is_left_behind():
    data = Data(edge_index=torch.tensor([[0, 1, 2], [1, 2, 0]]), time=torch.arange(3), x=torch.randn(4, 2))
    data.y, data.name = torch.tensor([1]), "three ratings"
    out = EventGraph()(data)
    assert sorted(out.keys()) == ["edge_index", "num_nodes", "relation", "time"]
    assert out.num_nodes == 3


def test_with_nothing_left_out_it_is_the_line_graph_along_time():
    source, target = torch.triu_indices(5, 5, offset=1)
    data = Data(edge_index=torch.stack([source, target]), time=torch.randperm(10), num_nodes=5)
    out = EventGraph(num_recent=100)(data)
    both = torch.cat([data.edge_index, data.edge_index.flip(0)], dim=1)
    line = LineGraph()(Data(edge_index=both, num_nodes=5)).edge_index
    forward = line[:, data.time[line[0]] < data.time[line[1]]]
    assert sorted(out.edge_index.t().tolist()) == sorted(forward.t().tolist())


def test_a_batch_is_its_graphs():
    parts = [ratings(n) for n in (7, 1, 12)]
    batch = EventGraph(3)(Batch.from_data_list(parts))
    assert batch.num_graphs == 3 and batch.num_nodes == 20
    assert torch.equal(batch.batch, torch.arange(3).repeat_interleave(torch.tensor([7, 1, 12])))
    whole = Batch.from_data_list([EventGraph(3)(part) for part in parts])
    for key in whole.keys():  # noqa: SIM118
        assert torch.equal(torch.as_tensor(batch[key]), torch.as_tensor(whole[key]))
    for part, out in zip(parts, batch.to_data_list(), strict=True):
        assert torch.equal(out.edge_index, EventGraph(3)(part).edge_index)


def test_features_on_the_edges_show_an_event_only_what_earlier_ones_brought():
    data = ratings(30)
    conv = TransformerConv(1, 4, edge_dim=2)

    def predict(data):
        out = EventGraph()(data)
        return conv(out.x.new_ones(30, 1), out.edge_index, out.x[out.edge_index[0]])

    before = predict(data)
    now = data.time.sort().values[15]
    changed = data.clone()
    changed.edge_attr[data.time >= now] += 1
    after = predict(changed)
    assert torch.equal(before[data.time <= now], after[data.time <= now])
    assert not torch.allclose(before[data.time > now], after[data.time > now])


def test_bitcoin_otc(data_folder):
    file = data_folder / "bitcoin_otc" / "raw" / "soc-sign-bitcoinotc.csv"
    if not file.is_file():
        pytest.skip(f"Bitcoin OTC is absent: no file {file}")
    table = torch.from_numpy(np.loadtxt(file, delimiter=","))
    out = EventGraph(10)(Data(edge_index=table[:, :2].long().t(), edge_attr=table[:, 2:3], time=table[:, 3]))
    src, dst = out.edge_index
    assert out.num_nodes == 35592 and (out.time[src] < out.time[dst]).all()
    user = [table[event, (out.relation // 2 if event is dst else out.relation % 2)] for event in (src, dst)]
    assert torch.equal(*user)
    assert torch.bincount(4 * dst + out.relation).max() <= 10


def test_bad_input_names_the_argument():
    with pytest.raises(ValueError, match="'num_recent'"):
        EventGraph(num_recent=-1)
    data = ratings(4)
    for key in ("time", "edge_index"):
        with pytest.raises(ValueError, match=f"'data' .* '{key}'"):
            EventGraph()(Data(**{name: data[name] for name in ("time", "edge_index") if name != key}))
    data.time = data.time[:3]
    with pytest.raises(ValueError, match="'time'"):
        EventGraph()(data)
    with pytest.raises(ValueError, match=r"'data' .*HeteroData"):
        EventGraph()(HeteroData())
