import sys
import threading
from itertools import pairwise

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.apps.continuation import continue_text
from tmt_geo.web import ModelCache, stream_text

HANGS = 600  # seconds: no measure of speed, but the end of a wait that would never end


@pytest.fixture(scope="module")
def cache(runs):
    return ModelCache(runs)


@pytest.mark.parametrize("run", ["demo/tmt", "demo/llama"])
@pytest.mark.parametrize(
    ("temperature", "options"), [(0.0, {"do_sample": False}), (2.0, {"do_sample": True, "temperature": 2.0})]
)
def test_it_grows_into_what_the_command_writes(cache, run, temperature, options):
    model, tokenizer = cache.get(run)
    shown = list(stream_text(model, tokenizer, "A list ", max_new_tokens=30, temperature=temperature, seed=3))
    assert shown[-1] == continue_text(model, tokenizer, "A list ", max_new_tokens=30, seed=3, **options)
    assert shown[0] == "A list " and all(new.startswith(old) for old, new in pairwise(shown))


def test_words_come_while_it_writes(cache):
    """Sampled, so that there are spaces to stop at."""
    shown = stream_text(*cache.get("demo/tmt"), "A list ", max_new_tokens=100, temperature=2.0, seed=0)
    assert len(set(shown)) > 4


def test_leaving_stops_the_model(cache, monkeypatch):
    """Each token takes until somebody leaves, so that no more than the first is computed."""
    model, tokenizer = cache.get("demo/tmt")
    steps, left, before = [], threading.Event(), set(threading.enumerate())  # other tests may have left threads
    monkeypatch.setattr(sys.modules["tmt_geo.web.streaming"], "Event", lambda: left)
    hook = model.register_forward_hook(lambda *_: steps.append(left.wait(HANGS)))
    try:
        shown = stream_text(model, tokenizer, "A list ", max_new_tokens=100)
        next(shown)
        shown.close()
        assert steps in ([], [True])
        threads = set(threading.enumerate()) - before
        assert not [thread for thread in threads if thread.name.startswith("ThreadPoolExecutor")]
    finally:
        hook.remove()


def test_several_write_at_a_time(cache):
    """Each waits at its first word for the other."""
    barrier, shown = threading.Barrier(2, timeout=HANGS), []

    def one():
        steps = stream_text(*cache.get("demo/tmt"), "A list ", max_new_tokens=10)
        next(steps)
        barrier.wait()
        shown.append(list(steps)[-1])

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shown) == 2 and shown[0] == shown[1]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param("a" * 4001, r"^'text' must have at most 4,000 characters", id="characters"),
        pytest.param("a list ", r"^'max_new_tokens' and the prompt exceed the model's max_seq_len=128", id="tokens"),
    ],
)
def test_what_is_too_long_is_refused(cache, prompt, message):
    with pytest.raises(ValueError, match=message):
        list(stream_text(*cache.get("demo/tmt"), prompt, max_new_tokens=128))
