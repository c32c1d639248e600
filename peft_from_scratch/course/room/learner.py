"""The learner's side of a room: `join("Ada", "http://192.168.1.5:8000")`. Who does not join sends nothing.

Sent: the chosen name, the last exercise and whether it passed, and first guesses. Never code, never answers.
"""

import json
import secrets
import threading
import urllib.error
import urllib.request
from pathlib import Path

from ..files import write

WAIT = 2.0  # seconds; a lesson never waits for the room


def join(name: str, room: str) -> None:
    """Be seen on the room's page under a name of your choice. ValueError where no room answers there."""
    from ..progress import progress_path

    name, room = name.strip()[:40], room.rstrip("/")
    if not name:
        raise ValueError("choose a name, any name: it is what the room's page shows")
    if not room.startswith(("http://", "https://")):
        raise ValueError(f"{room} is no address: it looks like http://192.168.1.5:8000, as on the instructor's page")
    setting = {"room": room, "name": name, "id": secrets.token_hex(16)}
    try:
        post(setting, {"id": setting["id"], "name": name})
    except (OSError, ValueError) as error:
        raise ValueError(f"no room answers at {room} ({error}): look at the address on the instructor's page") from None
    path = setting_path(progress_path())
    write(path, json.dumps(setting))
    print(
        f"{name} is in the room. It sees this name, which exercise you checked last, whether it passed, and your first "
        "guesses without your name; never your code. leave() ends it."
    )


def leave() -> None:
    """Take your row off the page, and send nothing more."""
    from ..progress import progress_path

    path = setting_path(progress_path())
    setting = read(path)
    if setting is None:
        print("You are in no room.")
        return
    path.unlink()
    try:
        post(setting, {"id": setting["id"]}, to="leave")
        print("You have left the room.")
    except OSError:
        print("The room does not answer any more; nothing will be sent to it.")


def forward(event: dict, log: Path) -> None:
    """Tell the room of one event of the log, if the learner has joined one: beside, and at most for two seconds."""
    setting = read(setting_path(log))
    message = told(event) if setting else None
    if message:
        message |= {"id": setting["id"], "name": setting["name"]}
        threading.Thread(target=quietly, args=(setting, message), daemon=True).start()


def told(event: dict) -> dict | None:
    """What the room may know of an event; None: nothing."""
    if event.get("kind") == "check":
        return {"lesson": event["lesson"], "exercise": event["exercise"], "status": event["status"]}
    if event.get("kind") == "predict":
        return {"prediction": event["name"], "guess": event["guess"]}
    return None


def quietly(setting: dict, message: dict) -> None:
    try:
        post(setting, message)
    except (OSError, ValueError):
        pass  # the room is a courtesy: a lesson goes on without it


def post(setting: dict, message: dict, to: str = "tell") -> None:
    data = json.dumps(message).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{setting['room']}/{to}", data, headers, method="POST")
    no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the room is next door
    with no_proxy.open(request, timeout=WAIT):
        pass


def setting_path(log: Path) -> Path:
    return log.with_name("room.json")


def read(path: Path) -> dict | None:
    try:
        setting = json.loads(path.read_text(encoding="utf-8"))
        return setting if {"room", "name", "id"} <= setting.keys() else None
    except (OSError, ValueError, AttributeError):
        return None
