"""The room's server: a package index (PEP 503), files that can be resumed, a page, and what guests tell.

It only ever reads from the stock's folder, and writes one file of guests. Everything else is refused: another path,
another method, a body of more than four kilobytes.
"""

import asyncio
import html
import json
import os
import re

import tornado.httpserver
import tornado.netutil
import tornado.web

from ..errors import CourseError
from .guests import Full, Guests, Leave, Tell, read
from .page import page
from .stock import Stock

MOST_BODY = 4096  # bytes of a message; a guest's is under 400
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'"
)
IDLE = 60  # seconds that a silent connection is kept


class Index(tornado.web.RequestHandler):
    """/simple/ and /simple/NAME/: what pip reads."""

    def initialize(self, packages: dict[str, dict[str, str]]):
        self.packages = packages

    def get(self, name: str = ""):
        if not name:
            links = [(f"/simple/{each}/", each) for each in self.packages]
        else:
            files = self.packages.get(re.sub(r"[-_.]+", "-", name).lower())
            if files is None:
                raise tornado.web.HTTPError(404)
            links = [(f"/files/{file}#sha256={found}", file) for file, found in files.items()]
        rows = "".join(f'<a href="{html.escape(to)}">{html.escape(text)}</a><br>\n' for to, text in links)
        self.write(f"<!DOCTYPE html><html><body>\n{rows}</body></html>\n")


class Page(tornado.web.RequestHandler):
    """The room's page, with the address under which this guest reached it."""

    def initialize(self, stock: Stock):
        self.stock = stock

    def get(self):
        self.set_header("Content-Security-Policy", POLICY)
        self.write(page(f"{self.request.protocol}://{self.request.host}", self.stock.copies.exists()))


class Seen(tornado.web.RequestHandler):
    """/state.json: who is here and what was guessed."""

    def initialize(self, guests: Guests):
        self.guests = guests

    def get(self):
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.write(json.dumps(self.guests.seen()))


class Message(Seen):
    """POST /tell and /leave: one message of one guest."""

    def post(self, what: str):
        kind, take = {"tell": (Tell, self.guests.tell), "leave": (Leave, self.guests.leave)}[what]
        try:
            take(read(kind, self.request.body))
        except (ValueError, Full) as error:
            self.set_status(429 if isinstance(error, Full) else 400)
            self.finish(str(error))


class Files(tornado.web.StaticFileHandler):
    """Wheels, models and data: whole or from where a download stopped. Only what a listing of the folder shows."""

    def validate_absolute_path(self, root: str, absolute_path: str):
        folder, name = os.path.split(absolute_path)
        if name.startswith(".") or folder != root or name not in os.listdir(root):
            raise tornado.web.HTTPError(404)
        return super().validate_absolute_path(root, absolute_path)


def application(stock: Stock, guests: Guests) -> tornado.web.Application:
    state, index = {"guests": guests}, {"packages": stock.index()}
    return tornado.web.Application(
        [
            (r"/", Page, {"stock": stock}),
            (r"/state\.json", Seen, state),
            (r"/(tell|leave)", Message, state),
            (r"/simple/?", Index, index),
            (r"/simple/([\w.-]+)/?", Index, index),
            (r"/files/([^/]+)", Files, {"path": str(stock.wheels.resolve())}),
            (r"/((?:course|class)\.zip)", Files, {"path": str(stock.folder.resolve())}),
        ],
        log_function=lambda handler: None,  # who asks for what is nobody's business
    )


def server_of(stock: Stock, guests: Guests) -> tornado.httpserver.HTTPServer:
    return tornado.httpserver.HTTPServer(
        application(stock, guests), max_body_size=MOST_BODY, max_header_size=16_384, idle_connection_timeout=IDLE,
        body_timeout=10,
    )  # fmt: skip


def serve(stock: Stock, host: str, port: int, address: str) -> int:
    """Serve until Ctrl-C."""
    server = server_of(stock, Guests(stock.folder / "guests.json"))
    try:
        sockets = tornado.netutil.bind_sockets(port, host, backlog=256)
    except OSError as error:
        raise CourseError(f"port {port} cannot be used ({error.strerror}): choose another one with --port") from error

    async def forever():
        server.add_sockets(sockets)
        await asyncio.Event().wait()

    print(f"The room's page: http://{address}:{port}    (Ctrl-C ends it; nothing leaves this network)", flush=True)
    asyncio.run(forever())
    return 0
