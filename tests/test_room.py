"""The room: what pip and fetch read from it, what its page shows, and what hostile requests change (nothing)."""

import asyncio
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile

import pytest

from peft_from_scratch.assets import ASSETS
from peft_from_scratch.course import room as command
from peft_from_scratch.course.cli import main
from peft_from_scratch.course.errors import CourseError
from peft_from_scratch.course.progress import log_event
from peft_from_scratch.course.room import learner as client
from peft_from_scratch.course.room.elsewhere import elsewhere
from peft_from_scratch.course.room.guests import MOST, Full, Guests, Tell
from peft_from_scratch.course.room.stock import Stock, package_of

netutil = pytest.importorskip("tornado.netutil")


def small_wheel(folder, name="tiny_course", version="1.0"):
    """A wheel of a package with one line."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def room(tmp_path):
    """A room on a free port of this machine: (address, stock, guests)."""
    from peft_from_scratch.course.room.server import server_of

    stock = Stock(tmp_path / "room")
    stock.wheels.mkdir(parents=True)
    small_wheel(stock.wheels)
    (stock.folder / "course.zip").write_bytes(b"PK" + bytes(1000))
    (tmp_path / "secret.txt").write_text("secret")
    guests, started = Guests(stock.folder / "guests.json"), threading.Event()
    box = {}

    async def run():
        sockets = netutil.bind_sockets(0, "127.0.0.1")
        server = server_of(stock, guests)
        server.add_sockets(sockets)
        box.update(port=sockets[0].getsockname()[1], loop=asyncio.get_running_loop(), end=asyncio.Event())
        started.set()
        await box["end"].wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(10)
    yield f"http://127.0.0.1:{box['port']}", stock, guests
    box["loop"].call_soon_threadsafe(box["end"].set)
    thread.join(10)


def get(address, headers=None):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers or {}), timeout=10) as answer:
        return answer.status, answer.read()


def post(address, body):
    """(status, text) of a POST."""
    request = urllib.request.Request(address, body if isinstance(body, bytes) else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def raw(address, request: bytes) -> bytes:
    """The answer to bytes that no client would send."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(request)
        answer = b""
        try:
            while block := wire.recv(65536):
                answer += block
        except ConnectionError:
            pass
    return answer


def test_pip_installs_from_the_room_alone(room, tmp_path):
    address = room[0]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    environment = os.environ | {
        "PIP_INDEX_URL": f"{address}/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    environment |= {"PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    subprocess.run([*command, "Tiny.Course"], check=True, env=environment, capture_output=True, timeout=120)
    assert (tmp_path / "site" / "tiny_course.py").read_text() == "answer = 42\n"


def test_a_local_version_is_served_by_its_quoted_name(room):
    address, stock, _ = room
    path = small_wheel(stock.wheels, version="1.0+cpu")
    assert get(f"{address}/files/{path.name.replace('+', '%2B')}")[1] == path.read_bytes()


def test_a_download_goes_on_where_it_stopped(room):
    address, stock, _ = room
    whole = (stock.wheels / "tiny_course-1.0-py3-none-any.whl").read_bytes()
    status, rest = get(f"{address}/files/tiny_course-1.0-py3-none-any.whl", {"Range": "bytes=100-"})
    assert (status, rest) == (206, whole[100:])


def test_the_index_carries_hashes_and_only_what_is_there(room):
    address = room[0]
    assert b"#sha256=" in get(f"{address}/simple/tiny-course/")[1]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{address}/simple/torch/")


def test_the_page_says_how_to_join_and_asks_nobody_else(room):
    address = room[0]
    text = get(address)[1].decode()
    assert f"PIP_INDEX_URL={address}/simple" in text and "join(" in text
    assert "//" not in text.replace(address, "").replace("// ", ""), "no other address on the page"


GUEST = {"id": "0" * 32, "name": "Ada", "lesson": "00", "exercise": "start.guess", "status": "passed"}


def test_guests_are_seen_and_their_first_guesses_counted_without_names(room):
    address, _, guests = room
    assert post(f"{address}/tell", GUEST)[0] == 200
    for guess in (0.3, 99.0):  # the second one knows more
        post(f"{address}/tell", {"id": "0" * 32, "name": "Ada", "prediction": "00.share", "guess": guess})
    post(f"{address}/tell", {"id": "1" * 32, "name": "<b>Bob</b>", "prediction": "00.share", "guess": 5})
    seen = json.loads(get(f"{address}/state.json")[1])
    assert [row["name"] for row in seen["guests"]] == ["<b>Bob</b>", "Ada"] and seen["guests"][1]["passed"] == 1
    assert seen["predictions"] == {"00.share": [0.3, 5]}
    assert "0" * 32 not in json.dumps(seen)
    assert Guests(guests.path).seen()["predictions"] == seen["predictions"], "a room that is started again remembers"
    assert post(f"{address}/leave", {"id": "0" * 32})[0] == 200
    assert [row["name"] for row in guests.seen()["guests"]] == ["<b>Bob</b>"]


def test_join_and_leave_as_a_learner_does(room, tmp_path, monkeypatch, capsys):
    address, _, guests = room
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "mine" / "progress.jsonl"))
    log_event(
        "check", lesson="00", exercise="start.guess", status="passed", points=1
    )  # before joining: nobody's business
    client.join("Ada", address)
    assert "never your code" in capsys.readouterr().out
    log_event("predict", name="00.share", lesson="00", guess=0.3, low=0, high=1)
    log_event("hint", lesson="00", exercise="start.guess", level=1)
    log_event("check", lesson="00", exercise="lora.forward", status="failed", points=0)
    ends = time.time() + 5
    while time.time() < ends and not ([r.get("exercise") for r in guests.rows.values()] == ["lora.forward"]
                                      and guests.seen()["predictions"]):  # fmt: skip
        time.sleep(0.02)
    assert guests.seen()["guests"][0] | {"ago": 0} == {
        "name": "Ada", "lesson": "00", "exercise": "lora.forward", "status": "failed", "passed": 0, "ago": 0,
    }  # fmt: skip
    assert guests.seen()["predictions"] == {"00.share": [0.3]}
    client.leave()
    assert not guests.rows and "left the room" in capsys.readouterr().out
    client.leave()
    assert "in no room" in capsys.readouterr().out


@pytest.mark.parametrize("name, address, said", [
    ("", "http://127.0.0.1:9", "choose a name"), ("Ada", "127.0.0.1:9", "no address"),
    ("Ada", "http://127.0.0.1:9", "no room answers"),
])  # fmt: skip
def test_joining_nowhere_is_a_clear_error(name, address, said, monkeypatch, tmp_path):
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))
    with pytest.raises(ValueError, match=said):
        client.join(name, address)
    assert not (tmp_path / "room.json").exists()


def test_a_room_that_is_gone_stops_no_lesson(tmp_path, monkeypatch):
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))
    (tmp_path / "room.json").write_text(json.dumps({"room": "http://127.0.0.1:9", "name": "Ada", "id": "0" * 32}))
    start = time.monotonic()
    log_event("check", lesson="00", exercise="start.guess", status="passed")
    assert time.monotonic() - start < 0.5
    (tmp_path / "room.json").write_text("no JSON")
    log_event("check", lesson="00", exercise="start.guess", status="passed")


# --- hostile requests


def listing(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("path", [
    "/files/../stock.json", "/files/..%2f..%2fsecret.txt", "/files/%2e%2e/%2e%2e/secret.txt", "/../secret.txt",
    "/files//etc/passwd", "/files/%00", "/course.zip/../../secret.txt", "/stock.json", "/guests.json", "/files/.hidden",
    "/simple/../../secret.txt", "/files/C:%5csecret.txt", "//etc/passwd", "/wheels/tiny_course-1.0-py3-none-any.whl",
])  # fmt: skip
def test_nothing_outside_the_shelves_is_served(room, path):
    answer = raw(room[0], f"GET {path} HTTP/1.1\r\nHost: room\r\nConnection: close\r\n\r\n".encode())
    status = answer.split(b" ", 2)[1]
    assert status in (b"400", b"403", b"404"), answer[:200]
    assert b"secret" not in answer.split(b"\r\n\r\n", 1)[1] and b"root:" not in answer


@pytest.mark.parametrize("body", [
    b"", b"no json", b"[]", b"[1]", b"null", b"{}", b'{"id": 5}', b"\xff\xfe", b'{"id": "x", "name": "Ada"}',
    json.dumps(GUEST | {"name": "x" * 41}).encode(), json.dumps(GUEST | {"more": 1}).encode(),
    b'{"id": "' + b"0" * 32 + b'", "name": "A", "prediction": "p", "guess": NaN}',
    b'{"id": "' + b"0" * 32 + b'", "name": "A", "prediction": "p", "guess": 1e999}', b"[" * 3000,
])  # fmt: skip
def test_a_bad_message_changes_nothing(room, body):
    address, stock, guests = room
    before = listing(stock.folder)
    for to in ("tell", "leave"):
        status, said = post(f"{address}/{to}", body)
        assert (status in (400, 429)) or (to == "leave" and status == 200), (to, status, said)
        assert "Traceback" not in said
    assert not guests.rows and listing(stock.folder) == before


def test_large_uploads_and_other_methods_are_refused(room):
    address, stock, guests = room
    before = listing(stock.folder)
    for verb in ("PUT", "DELETE", "PATCH", "POST"):
        request = f"{verb} /files/evil.whl HTTP/1.1\r\nHost: r\r\nContent-Length: 4\r\nConnection: close\r\n\r\nevil"
        assert raw(address, request.encode()).split(b" ", 2)[1] in (b"404", b"405")
    large = b"POST /tell HTTP/1.1\r\nHost: r\r\nContent-Length: 3000000000\r\n\r\n" + bytes(100_000)
    assert raw(address, large).split(b" ", 2)[1:2] in ([b"400"], [b"413"], [])
    chunked = (
        b"POST /tell HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fff\r\n" + b"a" * 4095 + b"\r\n"
    )
    assert raw(address, chunked + b"fff\r\n" + b"a" * 4095 + b"\r\n0\r\n\r\n").split(b" ", 2)[1:2] in (
        [b"400"],
        [b"413"],
        [],
    )
    assert raw(address, b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n").split(b" ", 2)[1:2] in (
        [b"400"],
        [b"431"],
        [],
    )
    assert not guests.rows and listing(stock.folder) == before
    assert get(address)[0] == 200


def test_a_thousand_connections_and_the_room_still_answers(room):
    import resource

    address = room[0]
    host, port = address.removeprefix("http://").split(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"this machine lets a process hold {hard} connections only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    wires = []
    try:
        for _ in range(1000):  # opened, and silent
            wires.append(socket.create_connection((host, int(port)), timeout=10))
        assert get(address)[0] == 200
        assert post(f"{address}/tell", GUEST)[0] == 200
    finally:
        for wire in wires:
            wire.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert get(address)[0] == 200


def test_a_room_holds_so_many_and_forgets_who_went(tmp_path, monkeypatch):
    guests = Guests(tmp_path / "guests.json")
    for k in range(MOST):
        guests.tell(Tell(id=f"{k:032x}", name="x"))
    with pytest.raises(Full):
        guests.tell(Tell(id="f" * 32, name="one more"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 24 * 3600)
    guests.tell(Tell(id="f" * 32, name="one more"))
    assert len(guests.rows) == 1


# --- the stock


def test_names_are_normalised():
    assert package_of("PyYAML-6.0.3-cp311-cp311-manylinux.whl") == "pyyaml"
    assert package_of("typing_extensions-4.16.0-py3-none-any.whl") == "typing-extensions"
    assert package_of("some.thing_else-1.0.tar.gz") == "some-thing-else"


@pytest.mark.parametrize("machine", ["win_amd64", "win_amd64:2.7", ":3.12", "win amd64:3.12", "amiga_68k:3.12"])
def test_another_machine_is_said_in_one_form(machine):
    with pytest.raises(CourseError, match="PLATFORM:PYTHON"):
        elsewhere(machine, [])


@pytest.mark.parametrize("machine, needs, not_there", [
    ("win_amd64:3.12", {"colorama", "--platform=win_amd64"}, {"pexpect", "appnope"}),
    ("macosx_14_0_arm64:3.13", {"pexpect", "appnope", "--python-version=3.13"}, {"colorama"}),
    ("manylinux_2_28_x86_64:3.12", {"pexpect", "--platform=manylinux2014_x86_64"}, {"colorama", "appnope"}),
])  # fmt: skip
def test_another_machine_gets_what_its_own_system_needs(machine, needs, not_there):
    found = set(elsewhere(machine, ["ipykernel", "tqdm"]))
    assert needs | {"--no-deps", "ipykernel", "tqdm", "traitlets"} <= found and not found & not_there


def test_the_notebooks_of_a_class_are_handed_out(room, tmp_path):
    address, stock, _ = room
    assert b"class.zip" not in get(f"{address}/")[1]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{address}/class.zip")
    with pytest.raises(CourseError, match="has no notebooks: make them with"):
        stock.hand_out(tmp_path)
    (tmp_path / "00_start_here.ipynb").write_text("{}")
    stock.hand_out(tmp_path)
    assert f"curl -O {address}/class.zip".encode() in get(f"{address}/")[1]
    with zipfile.ZipFile(io.BytesIO(get(f"{address}/class.zip")[1])) as packed:
        assert packed.namelist() == ["class/00_start_here.ipynb"]
    stock.hand_out(None)
    assert b"class.zip" not in get(f"{address}/")[1]


@pytest.mark.parametrize("arguments, said", [
    (["--port", "99999"], "--port 99999 is none"), (["--fill", "--also", "windows"], "--also windows: say it as"),
])  # fmt: skip
def test_what_cannot_be_is_said_before_anything_is_done(arguments, said, tmp_path, capsys):
    assert main(["room", "--folder", str(tmp_path / "room"), *arguments]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "room").exists()


def test_a_machine_without_a_way_out_still_knows_its_address(monkeypatch):
    def no_route():
        raise OSError

    monkeypatch.setattr(command, "_by_route", no_route)
    monkeypatch.setattr(command, "_by_name", lambda: "127.0.1.1")
    monkeypatch.setattr(command, "_by_interface", lambda: "10.42.0.1")
    assert command.own_address() == "10.42.0.1"
    monkeypatch.setattr(command, "_by_interface", no_route)
    assert command.own_address() == "ADDRESS-OF-THIS-MACHINE"


def test_a_folder_that_is_not_filled_serves_nothing(tmp_path):
    stock = Stock(tmp_path)
    with pytest.raises(CourseError, match="is not filled: run"):
        stock.ready()
    stock.wheels.mkdir()
    stock.course.write_bytes(b"PK")
    (stock.wheels / ASSETS[0].wheel).write_bytes(b"")
    with pytest.raises(CourseError, match=f"lacks {ASSETS[1].name}"):
        stock.ready()


def test_the_course_is_packed_as_committed(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    stock = Stock(tmp_path)
    try:
        stock.pack()
    except CourseError as error:
        pytest.skip(f"this is no clone: {error}")
    with zipfile.ZipFile(stock.course) as archive:
        names = archive.namelist()
    assert "peft_from_scratch/Makefile" in names and "peft_from_scratch/notebooks/00_start_here.ipynb" in names


def test_hashes_are_kept_and_renewed(tmp_path):
    stock = Stock(tmp_path)
    stock.wheels.mkdir()
    path = small_wheel(stock.wheels)
    first = stock.index()
    assert stock.index() == first and list(first) == ["tiny-course"]
    path.write_bytes(path.read_bytes() + b"x")
    assert stock.index()["tiny-course"] != first["tiny-course"]
