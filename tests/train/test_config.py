import pytest

from tmt_geo.train import TrainConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 1.5),
        ("batch_size", -1),
        ("block_size", 1),
        ("grad_accum", 0),
        ("log_every", 0),
        ("eval_every", -1),
        ("save_every", -1),
        ("save_every", True),
        ("keep_checkpoints", 0),
        ("threads", 0),
        ("seed", -1),
        ("learning_rate", 0),
        ("learning_rate", "2e-3"),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("warmup", -1),
        ("max_grad_norm", float("inf")),
        ("adam_beta2", 1),
        ("report_to", "wandb"),
    ],
)
def test_option_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^'{name}' .*\(got .*\)$"):
        TrainConfig(**{"out": "run", name: value})


def test_resume_and_overwrite_exclude_each_other():
    with pytest.raises(ValueError, match="'resume' and 'overwrite'"):
        TrainConfig(out="run", resume=True, overwrite=True)
