"""What the server turns away, asked over a socket as any program would."""

import http.client
import random
import string
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.web import serve
from tmt_geo.web.guard import LOCAL, guards

FILE = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nkept\r\n--x--\r\n'


@pytest.fixture(scope="module")
def address(runs):
    app = serve(runs)
    yield urlsplit(app.local_url).netloc
    app.close(verbose=False)


def ask(address, method="GET", path="/", body=None, **headers):
    connection = http.client.HTTPConnection(address, timeout=120)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_a_request_by_another_name_sees_nothing(address, name):
    status, body = ask(address, Host=name)
    assert status == 400
    assert b"TemporalMesh" not in body


@pytest.mark.parametrize("name", LOCAL)
def test_a_request_by_a_name_of_this_machine_sees_the_page(address, name):
    status, body = ask(address, Host=f"{name}:{address.rsplit(':', 1)[1]}")
    assert status == 200
    assert b"TemporalMesh" in body


@pytest.mark.parametrize(
    "path",
    [
        "/upload",
        "/gradio_api/upload",
        "/gradio_api/upload/",
        "/gradio_api/upload?upload_id=a",
        "/gradio_api/call/draw",
    ],
)
def test_files_and_calls_are_refused(address, path):
    status, body = ask(address, "POST", path, FILE, **{"Content-Type": "multipart/form-data; boundary=x"})
    assert status == 403
    assert body == b"closed on this page"


def test_who_serves_to_other_machines_is_known_by_any_name():
    assert len(guards("0.0.0.0")) == len(guards("127.0.0.1")) - 1


def test_random_requests_end_in_an_answer_and_leave_the_page_as_it_was(address):
    """Twenty at a time, of any method, path and body; none is a fault of the server."""
    draw = random.Random(0)
    letters = string.ascii_letters + string.digits + "/._-%?=&"
    known = [
        "/config",
        "/gradio_api/queue/join",
        "/gradio_api/call/draw",
        "/gradio_api/file=/etc/passwd",
        "/theme.css",
    ]

    def request(_):
        path = draw.choice([*known, "/" + "".join(draw.choices(letters, k=draw.randrange(60)))])
        body = draw.choice([None, b"{}", b"[1", draw.randbytes(200), b'{"fn_index": 0, "data": [null]}'])
        kind = draw.choice(["application/json", "text/plain", "multipart/form-data"])
        return ask(
            address, draw.choice(["GET", "POST", "PUT", "DELETE", "HEAD"]), path, body, **{"Content-Type": kind}
        )

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(request, range(200)))
    assert {status for status, _ in answers} <= {200, 204, 307, 400, 401, 403, 404, 405, 413, 415, 422}
    assert not any(b"root:" in body for _, body in answers)
    assert ask(address)[0] == 200
