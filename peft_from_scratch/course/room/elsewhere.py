"""The packages that another kind of machine needs. pip reads the conditions of requirements for its own machine only,
so they are followed here, from what is installed.
"""

import re
from importlib.metadata import PackageNotFoundError, requires

from ..errors import CourseError

SYSTEMS = {  # by the beginning of pip's platform tag: what requirements ask for
    "win": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
    "macosx": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "manylinux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
}


def elsewhere(machine: str, wanted: list[str]) -> list[str]:
    """pip's arguments for "win_amd64:3.12": its options, then the closure of `wanted` there."""
    platform, _, python = machine.partition(":")
    system = next((found for start, found in SYSTEMS.items() if re.fullmatch(rf"{start}\w*_\w+", platform)), None)
    if system is None or not re.fullmatch(r"3\.\d+", python):
        raise CourseError(f"--also {machine}: say it as PLATFORM:PYTHON, for example win_amd64:3.12")
    processor = re.search(r"(x86_64|[a-z0-9]+)$", platform)[1]
    there = system | {"platform_machine": "AMD64" if processor == "amd64" else processor, "python_version": python,
                      "python_full_version": f"{python}.0", "implementation_name": "cpython",
                      "platform_python_implementation": "CPython"}  # fmt: skip
    older = [f"manylinux{tag}_{processor}" for tag in ("_2_17", "2014")] if platform.startswith("manylinux") else []
    options = ["--only-binary=:all:", "--no-deps", f"--python-version={python}"]
    return [*options, *(f"--platform={each}" for each in (platform, *older)), *closure(wanted, there)]


def closure(wanted: list[str], there: dict[str, str]) -> list[str]:
    """All packages behind these requirements where the environment is `there`. One that is not installed here has no
    requirements of its own that could be known.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[tuple[str, str], None] = {}
    todo = [(Requirement(line), "") for line in wanted]
    while todo:
        each, extra = todo.pop()
        if each.marker and not each.marker.evaluate(there | {"extra": extra}):
            continue
        for part in ("", *each.extras):
            key = canonicalize_name(each.name), part
            if key not in found:
                found[key] = None
                todo += [(Requirement(line), part) for line in _requires(each.name)]
    return sorted({name for name, _ in found})


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []
