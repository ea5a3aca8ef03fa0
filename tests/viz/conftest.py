from types import SimpleNamespace

import pytest

from tmt_geo.viz import Contender


@pytest.fixture
def contenders():
    tmt = SimpleNamespace(
        word_ppl=1234.56,
        token_ppl=98.76,
        bits_per_byte=2.3456,
        active_share=[1.0, 0.5, 0.25],
        flops_per_token=1_234_567.0,
        flops_per_token_head=4_500.0,
        tokens_per_second=321.0,
    )
    peer = SimpleNamespace(**{**vars(tmt), "word_ppl": 2000.0, "active_share": [1.0, 1.0, 1.0]})
    history = [{"step": 1, "loss": 3.0}, {"step": 1, "eval_loss": 3.1}]
    return [
        Contender("TMT", 1_000_000, tmt, history, 5_000.0, "The end."),
        Contender("Llama <b>", 1_001_000, peer, history, None, "The <i>start</i>."),
    ]
