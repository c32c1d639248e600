"""`peft-course room`: one laptop serves the whole course to a room over its own network.

Thirty downloads of 300 MB kill a room's Wi-Fi, and some rooms have no network at all. So the instructor fills a folder
once (`--fill`, with network), and in the room serves from it: wheels, models and data as a package index that pip
understands, the course as a zip, and a page on which those who want to be seen are seen.
"""

import argparse
import contextlib
import socket
import struct
import sys
from pathlib import Path

from ..errors import CourseError
from .learner import forward, join, leave

__all__ = ["forward", "join", "leave"]

DEFAULT = Path("outputs/room")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--folder", type=Path, default=DEFAULT, help=f"where the files of the room lie (default {DEFAULT})")
    add("--fill", action="store_true", help="only fill the folder: do this the day before, with network")
    copies = "hand out these notebooks too, the folder that `release --out DIR` wrote"
    add("--class", type=Path, dest="copies", metavar="DIR", help=copies)
    others = "also for other machines, for example win_amd64:3.12 or macosx_14_0_arm64:3.13 (may be repeated)"
    add("--also", action="append", default=[], metavar="PLATFORM:PYTHON", help=others)
    add("--port", type=int, default=8000, help="port of the server (default 8000)")
    add("--host", default="0.0.0.0", help="address to listen on (default: every one of this machine)")


def run(args: argparse.Namespace) -> int:
    from .server import serve  # tornado comes with Jupyter and loads only here
    from .stock import Stock

    if not 0 < args.port < 65_536:
        raise CourseError(f"--port {args.port} is none: choose one between 1024 and 65535.")
    stock = Stock(args.folder)
    if args.fill:
        stock.fill(args.also)
        return 0
    stock.ready()
    stock.hand_out(args.copies)
    return serve(stock, args.host, args.port, own_address())


def own_address() -> str:
    """This machine's address in the local network; no packet is sent to find it. A hotspot that this machine makes
    itself is no way out, so there the route says nothing and the interfaces are asked.
    """
    for find in (_by_route, _by_name, _by_interface):
        try:
            address = find()
        except OSError:
            continue
        if not address.startswith("127."):
            return address
    return "ADDRESS-OF-THIS-MACHINE"


def _by_route() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.255.255.255", 1))
        return probe.getsockname()[0]


def _by_name() -> str:
    return socket.gethostbyname(socket.gethostname())


def _by_interface() -> str:
    """The first interface with an address, on Linux; OSError elsewhere, or where there is none."""
    if not sys.platform.startswith("linux"):
        raise OSError
    import fcntl

    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            told = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()))  # SIOCGIFADDR
            if told[20:21] != b"\x7f":
                return socket.inet_ntoa(told[20:24])
    raise OSError
