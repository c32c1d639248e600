"""`peft-course stamp OWNER/NAME[@REF]`: one repository's address in every badge, set-up line and link of the course."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from ..check.words import say
from .errors import CourseError
from .files import write

_ADDRESS = re.compile(
    r"(?P<repo>[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9_.-]{1,100})(?:@(?P<ref>[A-Za-z0-9_][\w./-]{0,100}))?"
)
_INSTALL = re.compile(r"git\+https://github\.com/([\w.-]+/[\w.-]+)(@[\w./-]+)?")
_README_LINK = re.compile(r"(\]\(notebooks/(\d\d_\w+)\.ipynb\))(?: · \[Colab\]\([^)]*\))?")


@dataclass(frozen=True)
class Address:
    """A repository on GitHub; `ref` is a branch, tag or commit, main if nothing was said."""

    repo: str
    ref: str = "main"

    def __str__(self) -> str:
        return self.repo if self.ref == "main" else f"{self.repo}@{self.ref}"

    def badge(self, notebook: str) -> str:
        """Where Colab opens a notebook of this repository."""
        return f"https://colab.research.google.com/github/{self.repo}/blob/{self.ref}/notebooks/{notebook}"

    @property
    def install(self) -> str:
        """What pip installs."""
        return f"git+https://github.com/{self}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="OWNER/NAME[@REF]", nargs="?", help="your repository or fork")
    parser.add_argument("--root", type=Path, default=Path("."), metavar="DIR", help="a clone (default: this folder)")
    parser.add_argument("--check", action="store_true", help="only say what is stamped; 1 where the files disagree")


def run(args: argparse.Namespace) -> int:
    """Stamp all notebooks and the README, or say what is stamped."""
    notebooks = sorted((args.root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise CourseError(f"There is no notebooks/NN_*.ipynb in {args.root.resolve()}: run this at the top of a clone.")
    if args.check or not args.address:
        return _say_current(notebooks)
    address = parse(args.address)
    readme = args.root / "README.md"
    texts = {path: stamped(path.read_text(encoding="utf-8"), path.name, address) for path in notebooks}
    if readme.is_file():
        texts[readme] = stamped_readme(readme.read_text(encoding="utf-8"), _current(notebooks[0]), address)
    changed = {path: text for path, text in texts.items() if text != path.read_text(encoding="utf-8")}
    for path, text in changed.items():
        write(path, text)
    say(f"Stamped {address} into {len(changed)} of {len(texts)} files.")
    return 0


def parse(text: str) -> Address:
    """An address from what was typed; CourseError says what is wrong with it."""
    found = _ADDRESS.fullmatch(text)
    if not found or ".." in text or text.endswith((".git", "/", ".lock")):
        raise CourseError(f"{text!r} is no address of the form OWNER/NAME or OWNER/NAME@REF, such as ada/peft@v2.")
    return Address(found["repo"], found["ref"] or "main")


def current(text: str) -> Address | None:
    """The address in a notebook's set-up line."""
    found = _INSTALL.search(text)
    return Address(found[1], found[2][1:] if found[2] else "main") if found else None


def stamped(text: str, notebook: str, new: Address) -> str:
    """A notebook's file with its address replaced: the badge, the set-up line, the links to the source."""
    old = current(text)
    if old is None:
        raise CourseError(
            f"{notebook} has no set-up line `%pip install -q git+https://github.com/OWNER/NAME` to stamp."
        )
    badges = rf"https://colab\.research\.google\.com/github/{re.escape(old.repo)}/blob/[\w./-]+?/notebooks/{re.escape(notebook)}"
    text = re.sub(badges, new.badge(notebook), text)
    text = _INSTALL.sub(lambda found: new.install if found[1] == old.repo else found[0], text)
    return _links(text, old, new)


def stamped_readme(text: str, old: Address | None, new: Address) -> str:
    """The README with a Colab link after each link to a notebook, and the repository's own address replaced."""
    text = _README_LINK.sub(lambda found: f"{found[1]} · [Colab]({new.badge(found[2] + '.ipynb')})", text)
    return _links(text, old, new) if old else text


def _links(text: str, old: Address, new: Address) -> str:
    """`github.com/OWNER/NAME`, but not an address that only begins like it."""
    return re.sub(rf"(?<!\+https://)github\.com/{re.escape(old.repo)}(?![\w.-]*\w)", f"github.com/{new.repo}", text)


def _current(path: Path) -> Address | None:
    return current(path.read_text(encoding="utf-8"))


def _say_current(notebooks: list[Path]) -> int:
    found = {path.name: _current(path) for path in notebooks}
    for name, address in found.items():
        say(f"{name:<28} {address or 'no set-up line'}")
    if len(set(found.values())) == 1 and None not in found.values():
        return 0
    say("The files disagree; run: peft-course stamp OWNER/NAME")
    return 1
