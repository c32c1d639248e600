"""The command that starts a worker in the strongest sandbox this machine has, and one sentence that says which."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..lessons import notebook_folders
from .limits import PACKAGE

KINDS = ("bwrap", "unshare", "none")
_KEEP = ("PATH", "LANG", "LC_ALL")
_NO_BWRAP = "bubblewrap is not installed (on Debian or Ubuntu: apt-get install bubblewrap)"
_FOLDERS = ("PFS_LESSONS", "PFS_NOTEBOOKS", "PYTHONPATH")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_ALONE = ("--die-with-parent", "--new-session", "--as-pid-1", "--unshare-ipc", "--unshare-pid", "--unshare-net",
          "--unshare-uts", "--proc", "/proc", "--dev", "/dev", "--size", str(2**29), "--tmpfs", "/tmp",
          "--chdir", "/tmp")  # fmt: skip
_AS_ROOT = [
    part for cap in ("SETUID", "SETGID", "KILL", "CHOWN", "DAC_OVERRIDE") for part in ("--cap-add", f"CAP_{cap}")
]


@dataclass(frozen=True)
class Sandbox:
    """`kind` is bwrap, unshare or none; `sentence` is for people; `scratch` is a folder that exists only inside."""

    kind: str
    words: tuple[str, ...]
    sentence: str
    scratch: str = ""

    def prefix(self, inbox: Path) -> tuple[str, ...]:
        """What goes before a worker's command; of the instructor's folders it sees `inbox` alone."""
        return (*self.words, "--ro-bind", str(inbox), str(inbox)) if self.kind == "bwrap" else self.words


def find_sandbox(kind: str | None = None) -> Sandbox:
    """The strongest one that works here, or the one that is asked for."""
    why = "bubblewrap was not asked for" if kind in ("unshare", "none") else _NO_BWRAP
    if kind in (None, "bwrap") and shutil.which("bwrap"):
        words = _bwrap()
        fault = _fault(words)
        if not fault:
            return Sandbox("bwrap", words, "Sandbox: bubblewrap. No network, nothing to write but a folder of its own.",
                           scratch="/tmp")  # fmt: skip
        why = f"bubblewrap does not work here ({fault})"
    network = next((prefix for prefix in _unshare() if kind in (None, "unshare") and not _fault(prefix)), ())
    return Sandbox(
        "unshare" if network else "none",
        network,
        f"NO SANDBOX: {why}. {'No network, but' if network else 'The network is open to compiled code, and'} files "
        "that this user may change are protected from Python code only. Grade here only what you would run yourself, "
        "or grade in a container.",
    )


def command() -> list[str]:
    """What starts a worker."""
    return [sys.executable, "-m", "peft_from_scratch.course.grading.worker"]


def environment(seed: str, folder: str) -> dict[str, str]:
    """A worker's whole environment: the course in ci mode, offline, on the CPU, nothing of the instructor's."""
    kept = {name: os.environ[name] for name in _KEEP if name in os.environ}
    kept |= {name: os.pathsep.join(map(str, _folders(name))) for name in _FOLDERS if name in os.environ}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE.parent), kept.get("PYTHONPATH")]))
    return kept | {
        "PEFT_COURSE_MODE": "ci", "PFS_SEED": seed, "PFS_PROGRESS": f"{folder}/progress.jsonl", "HOME": folder,
        "TMPDIR": folder, "USER": "learner", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip


def _bwrap() -> tuple[str, ...]:
    python = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]}
    clone = PACKAGE.parent
    own = {PACKAGE, *notebook_folders(), clone / "quizzes", clone / "results", *_folders("PFS_LESSONS", "PYTHONPATH")}
    binds = [*_SYSTEM, *sorted(str(each) for each in {*python, *own} if each.exists())]
    rights = ["--cap-drop", "ALL", *_AS_ROOT] if os.geteuid() == 0 else ["--unshare-user"]
    above = sorted({str(each) for path in binds for each in Path(path).parents} - {"/"})  # else only root passes
    folders = (part for path in above for part in ("--perms", "0755", "--dir", path))
    return ("bwrap", *_ALONE, *rights, *folders, *(p for path in binds for p in ("--ro-bind-try", path, path)))


def _unshare() -> tuple[tuple[str, ...], ...]:
    if not shutil.which("unshare"):
        return ()
    return ("unshare", "--net"), ("unshare", "--net", "--map-current-user")


def _fault(prefix: tuple[str, ...]) -> str:
    """ "" where a command runs behind this prefix, else what it says."""
    try:
        tried = subprocess.run([*prefix, sys.executable, "-c", "import os"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if tried.returncode == 0 else (tried.stderr.strip().splitlines() or ["it fails"])[-1]


def _folders(*variables: str) -> list[Path]:
    return [Path(part).resolve() for each in variables for part in os.environ.get(each, "").split(os.pathsep) if part]
