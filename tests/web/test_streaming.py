import sys
import threading
from itertools import pairwise

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.cli.generate import continue_text
from tmt_geo.web import Shelf, write

HANGS = 600  # seconds: no measure of speed, but the end of a wait that would never end


@pytest.fixture(scope="module")
def shelf(runs):
    return Shelf(runs)


@pytest.mark.parametrize("run", ["demo/tmt", "demo/llama"])
@pytest.mark.parametrize(
    ("temperature", "options"), [(0.0, {"do_sample": False}), (2.0, {"do_sample": True, "temperature": 2.0})]
)
def test_it_grows_into_what_the_command_writes(shelf, run, temperature, options):
    model, tokenizer = shelf.get(run)
    told = list(write(model, tokenizer, "A list ", max_new_tokens=30, temperature=temperature, seed=3))
    assert told[-1] == continue_text(model, tokenizer, "A list ", max_new_tokens=30, seed=3, **options)
    assert told[0] == "A list " and all(new.startswith(old) for old, new in pairwise(told))


def test_words_come_while_it_writes(shelf):
    """Sampled, so that there are spaces to stop at."""
    told = write(*shelf.get("demo/tmt"), "A list ", max_new_tokens=100, temperature=2.0, seed=0)
    assert len(set(told)) > 4


def test_leaving_stops_the_model(shelf, monkeypatch):
    """Each token takes until somebody leaves, so that no more than the first is computed."""
    model, tokenizer = shelf.get("demo/tmt")
    steps, left, before = [], threading.Event(), set(threading.enumerate())  # other tests may have left threads
    monkeypatch.setattr(sys.modules["tmt_geo.web.write"], "Event", lambda: left)
    hook = model.register_forward_hook(lambda *_: steps.append(left.wait(HANGS)))
    try:
        told = write(model, tokenizer, "A list ", max_new_tokens=100)
        next(told)
        told.close()
        assert steps in ([], [True])
        threads = set(threading.enumerate()) - before
        assert not [thread for thread in threads if thread.name.startswith("ThreadPoolExecutor")]
    finally:
        hook.remove()


def test_several_write_at_a_time(shelf):
    """Each waits at its first word for the other."""
    barrier, told = threading.Barrier(2, timeout=HANGS), []

    def one():
        steps = write(*shelf.get("demo/tmt"), "A list ", max_new_tokens=10)
        next(steps)
        barrier.wait()
        told.append(list(steps)[-1])

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 2 and told[0] == told[1]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param("a" * 4001, r"^'text' must have at most 4,000 characters", id="characters"),
        pytest.param("a list ", r"^'max_new_tokens' exceeds with the prompt the model's max_seq_len=128", id="tokens"),
    ],
)
def test_what_is_too_long_is_refused(shelf, prompt, message):
    with pytest.raises(ValueError, match=message):
        list(write(*shelf.get("demo/tmt"), prompt, max_new_tokens=128))
