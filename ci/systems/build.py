"""The static program of an architecture, and process 1 of its guests."""

import os
import shutil
import subprocess

from .config import REPOSITORY, Trouble, cache
from .packages import ensure_tools


def program(facts):
    """Builds the suite for an architecture; the path of the stripped program."""
    target, compiler = facts["target"], facts["compiler"]
    ensure_tools([compiler])
    if shutil.which("rustup"):
        added = subprocess.run(["rustup", "-q", "target", "add", target], cwd=REPOSITORY, check=False, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if added.returncode != 0:
            raise Trouble(f"rustup has no {target}: {added.stderr.strip().splitlines()[-1:]}")
    variable = "CARGO_TARGET_" + target.upper().replace("-", "_")
    # A program without relocations starts in a fifth of the time where an emulator has every page of them to fault in,
    # and each claim is put to the kernel by a process of its own.
    flags = f"-C target-feature=+crt-static -C relocation-model=static {facts.get('rustflags', '')}"
    environment = os.environ | {f"{variable}_LINKER": compiler, f"{variable}_RUSTFLAGS": flags.strip()}
    environment.pop("RUSTFLAGS", None)
    folder = cache() / "target"
    # In an emulator the kernel's time counts, not the program's: what is built in a fifth of the time runs as fast.
    settings = ("opt-level=0", 'lto="off"', 'package."*".opt-level=1', "incremental=true")
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target", target, "--target-dir", folder,
               *(word for setting in settings for word in ("--config", f"profile.release.{setting}"))]
    if subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode != 0:
        raise Trouble(f"the suite does not build for {target}")
    built = folder / target / "release/mmap-conformance"
    return _made(facts, "mmap-conformance", [compiler.removesuffix("gcc") + "strip", "-o", "{}", built])


def init(facts):
    """Compiles ci/init for an architecture; its path."""
    ensure_tools([facts["compiler"]])
    source = REPOSITORY / "ci/init/init.c"
    return _made(facts, "init", [facts["compiler"], "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", "{}", source])


def _made(facts, name, command):
    """The file that a command writes in place of {}: in one step, since others may be reading the old one."""
    folder = cache() / "programs" / facts["target"]
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"{name}.{os.getpid()}"
    subprocess.run([str(new) if word == "{}" else word for word in command], check=True)
    new.rename(folder / name)
    return folder / name
