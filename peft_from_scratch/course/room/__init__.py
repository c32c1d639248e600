"""`peft-course room`: one laptop serves the whole course to a room over its own network.

Thirty downloads of 300 MB kill a room's Wi-Fi, and some rooms have no network at all. So the instructor fills a folder
once (`--fill`, with network), and in the room serves from it: wheels, models and data as a package index that pip
understands, the course as a zip, and a page on which those who want to be seen are seen.
"""

import argparse
import socket
from pathlib import Path

from .learner import forward, join, leave

__all__ = ["forward", "join", "leave"]

DEFAULT = Path("outputs/room")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--folder", type=Path, default=DEFAULT, help=f"where the files of the room lie (default {DEFAULT})")
    add("--fill", action="store_true", help="only fill the folder: do this the day before, with network")
    others = "also for other machines, for example win_amd64:3.12 or macosx_11_0_arm64:3.13 (may be repeated)"
    add("--also", action="append", default=[], metavar="PLATFORM:PYTHON", help=others)
    add("--port", type=int, default=8000, help="port of the server (default 8000)")
    add("--host", default="0.0.0.0", help="address to listen on (default: every one of this machine)")


def run(args: argparse.Namespace) -> int:
    from .server import serve  # tornado comes with Jupyter and loads only here
    from .stock import Stock

    stock = Stock(args.folder)
    if args.fill:
        stock.fill(args.also)
        return 0
    stock.ready()
    return serve(stock, args.host, args.port, own_address())


def own_address() -> str:
    """This machine's address in the local network; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
            return probe.getsockname()[0]
        except OSError:  # a network without a way out names no address
            return "ADDRESS-OF-THIS-MACHINE"
