"""What the server of the page turns away before the page sees it."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost")
# Nothing on the page takes a file, which gradio would keep on the disk, and nothing can be called by a name.
CLOSED = ("upload", "call")


def guards(host: str) -> list[Middleware]:
    """Returns the middleware of a page that is served at this address.

    At an address of this machine alone, only requests that name it pass. Without that, any page open in the browser
    could read this one under a name of its own that it makes point here (DNS rebinding). Who serves to other machines
    is known by names that only they know.
    """
    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL))] if host in LOCAL else []
    return [*hosts, Middleware(ClosedPaths), Middleware(OnlyText)]


class ClosedPaths:
    """Refuses what gradio offers and the page has no use for, see :data:`CLOSED`.

    Args:
        app: The application behind.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on all other paths."""
        if scope["type"] == "http" and not set(CLOSED).isdisjoint(scope["path"].split("/")):
            await PlainTextResponse("closed on this page", status_code=403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class OnlyText:
    """Refuses what cannot be read as text: FastAPI would fail on telling what is wrong with it.

    Args:
        app: The application behind.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on, and answers where the text cannot be decoded."""
        try:
            await self.app(scope, receive, send)
        except UnicodeDecodeError:
            await PlainTextResponse("the request is no text in UTF-8", status_code=400)(scope, receive, send)
