"""Files of npm packages at build time: pinned, checked by their hash, kept in the cache."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..cache import cache_dir
from .errors import CourseError


@dataclass(frozen=True)
class Package:
    """A package at one version; `integrity` is the registry's own SHA-512, as npm writes it."""

    name: str
    version: str
    integrity: str

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}.tgz"


REVEAL = Package(
    "reveal.js",
    "6.0.2",
    "sha512-JYIg5D9aoxoaLeb84O+OvAwsKWdIavVgEDScxtYEXFCT6t6TQrhNtSgogcjdCpdLsWglhJn3zyE3fUOwiH5KEg==",
)


def members(package: Package, cache: Path | None = None) -> dict[str, bytes]:
    """The files of a package by name ("dist/reveal.js"); fetched once, hashed before every use. Raises CourseError."""
    archive = (cache or cache_dir()) / "npm" / package.file
    if not archive.is_file() or integrity(archive) != package.integrity:
        _fetch(package, archive)
    with tarfile.open(archive) as tar:
        files = [entry for entry in tar if entry.isfile()]
        return {entry.name.split("/", 1)[1]: tar.extractfile(entry).read() for entry in files}


def integrity(archive: Path) -> str:
    """The hash of a file as npm writes it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()


def _fetch(package: Package, archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        _pack(package, folder)
        arrived = Path(folder) / package.file
        if not arrived.is_file() or integrity(arrived) != package.integrity:
            raise CourseError(
                f"What npm sent as {package.name} {package.version} is not the file that this course pins (its SHA-512 "
                "differs), so it is not used. Try again, or look at your npm registry's settings."
            )
        os.replace(arrived, archive)


def _pack(package: Package, folder: str) -> None:
    npm = shutil.which("npm")
    where = f"Or copy {package.file} from a machine that has it into the folder npm/ of the cache"
    if npm is None:
        raise CourseError(
            f"This needs {package.name} {package.version}, and npm is not installed. Install Node.js. {where}."
        )
    command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", folder, "--silent"]
    command += ["--fetch-retries=0", "--fetch-timeout=20000"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        raise CourseError(
            f"{package.name} {package.version} could not be fetched from npm; it is needed once. Look at the network "
            f"and run this again. {where} ({cache_dir() / 'npm'})."
        )
