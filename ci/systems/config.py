"""ci/matrix.toml, read and checked."""

import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ("qemu", "uml", "gvisor", "qemu-user", "host")
SHARES = ("change", "nightly")


class Trouble(Exception):
    """Why something could not be done, in one line."""


@dataclass(frozen=True)
class System:
    """A system under test."""

    name: str
    cases: int
    memory: int  # MiB
    seconds: int
    timeout: int  # of a worker, in seconds
    share: str
    hugepages: int
    filesystems: tuple
    kind: str = "qemu"
    architecture: str = "x86_64"
    suite: str = ""
    package: str = ""  # a regular expression
    kernel: str = ""  # a path, in place of a package
    release: str = ""  # what uname -r begins with
    page: int = 0
    platform: str = ""
    emulator: str = ""
    snapshots: bool = False  # whether they are compared too, which doubles the time
    stalls: bool = False  # whether its kernel now and then comes to a stop, so that a run that hung is made once more
    linux: bool = True  # whether it is Linux, which is compared with the others

    def weight(self):
        """About how long it takes, beside others: what takes longest is begun first, so that nothing is waited for alone."""
        return len(self.filesystems) + (8 if self.snapshots else 0)


@dataclass(frozen=True)
class Matrix:
    """All of the file."""

    systems: list
    architectures: dict
    filesystems: dict
    claims: dict
    debian: dict
    change: dict


def read(path=REPOSITORY / "ci/matrix.toml"):
    with open(path, "rb") as file:
        data = tomllib.load(file)
    systems = []
    for entry in data["system"]:
        facts = data["defaults"] | entry
        facts["filesystems"] = tuple(facts["filesystems"])
        try:
            system = System(**facts)
        except TypeError as error:
            raise Trouble(f"{path}: {entry.get('name', 'a system without a name')}: {error}") from None
        unknown = set(system.filesystems) - set(data["filesystem"])
        if unknown or system.kind not in KINDS or system.share not in SHARES or system.architecture not in data["architecture"]:
            raise Trouble(f"{path}: {system.name}: an unknown kind, share, architecture or file system {unknown or ''}")
        systems.append(system)
    return Matrix(systems, data["architecture"], data["filesystem"], data["claims"], data["debian"], data["change"])


def select(matrix, names, share):
    """The systems named, or else those of a share."""
    by_name = {system.name: system for system in matrix.systems}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise Trouble(f"no such system: {', '.join(unknown)}; ci/matrix list names them")
    if names:
        return [by_name[name] for name in names]
    if share == "change":
        few = matrix.change["filesystems"]
        return [replace(system, cases=matrix.change["cases"], snapshots=False, filesystems=system.filesystems[:few])
                for system in matrix.systems if system.share == share]
    return matrix.systems


def cache():
    """Where what was fetched and built is kept between runs, outside the repository."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmap-conformance"
    path.mkdir(parents=True, exist_ok=True)
    return path
