"""One system, from its package to its verdict."""

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from . import build, console, images, machines
from .config import Trouble
from .result import Result

TCG = "tcg,thread=multi"
TRIAL = 30  # seconds that a guest with nothing to do has under KVM


class Runner:
    """Runs systems, with what they share made once."""

    def __init__(self, matrix, packages, output):
        self.matrix, self.packages, self.output = matrix, packages, output
        self.programs, self.inits, self.lacking = {}, {}, {}
        self.kvm, self.trial = None, threading.Lock()

    def prepare(self, architectures, guests):
        """Builds for each architecture before anything is started."""
        for name in architectures:
            try:
                self.programs[name] = build.program(self.matrix.architectures[name])
                if name in guests:
                    self.inits[name] = build.init(self.matrix.architectures[name])
            except (Trouble, OSError, subprocess.SubprocessError) as error:
                self.lacking[name] = str(error)

    def run(self, system):
        """Runs a system, twice if it came to nothing; the console of the first is kept."""
        folder = self.output / system.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        result = Result(system, folder)
        try:
            self._once(system, folder, result)
            vain = {"no closing line", "it said nothing", f"it had not ended after {system.seconds} s" if system.stalls else ""}
            if vain & set(result.wrong) and not machines.stopping.is_set():
                (folder / "console").rename(folder / "console.first")
                for report in folder.glob("*.json"):
                    report.unlink()
                first, result = result, Result(system, folder)
                self._once(system, folder, result)
                result.seconds += first.seconds
                result.worked += first.worked
        except (Trouble, OSError, subprocess.SubprocessError) as error:
            result.skipped = str(error)
        result.save()
        return result

    def _once(self, system, folder, result):
        ended = self._start(system, folder)
        result.seconds, result.worked, result.boot = ended.seconds, ended.worked, ended.boot
        if system.kind in ("qemu", "uml"):
            self._read_console(system, folder, result)
        else:
            result.exits["tmpfs"] = ended.code
        if system.kind == "qemu" and ended.code != 0 and not ended.hung:
            result.wrong.append(f"its machine ended with {ended.code}")
        if ended.hung:
            result.wrong.append(f"it had not ended after {system.seconds} s")
        self._read_reports(system, folder, result)

    def _start(self, system, folder):
        if system.architecture in self.lacking:
            raise Trouble(self.lacking[system.architecture])
        program = self.programs[system.architecture]
        if system.kind == "host":
            return machines.host(system, program, folder)
        there = self.packages.folder(self.packages.want(self.matrix, system)) if system.package else None
        if system.kind == "qemu-user":
            return machines.qemu_user(system, program, there / "usr/bin" / system.emulator, folder)
        if system.kind == "gvisor":
            return machines.gvisor(system, program, there / "usr/bin/runsc", folder)
        image = images.initramfs(system, self.matrix, there, program, self.inits[system.architecture])
        if system.kind == "uml":
            return machines.user_mode_linux(system, there, image, folder)
        kernel = system.kernel or find_kernel(there)
        return machines.boot(system, self.matrix, kernel, image, folder, self._accelerator(system, kernel))

    def _accelerator(self, system, kernel):
        """KVM where a guest of this very architecture comes to its end with it; not everywhere that has the device does one."""
        if system.architecture != platform.machine() or not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return TCG
        with self.trial, tempfile.TemporaryDirectory(prefix="kvm-") as there:
            if self.kvm is None:
                image = images.archive({"init": self.inits[system.architecture].read_bytes(), "steps": b""})
                idle = dataclasses.replace(system, seconds=TRIAL)
                machines.boot(idle, self.matrix, kernel, (image, [], []), Path(there), "kvm")
                self.kvm = bool(console.read(Path(there, "console").read_text(errors="replace")).closing)
        return "kvm" if self.kvm else TCG

    def _read_console(self, system, folder, result):
        seen = console.read((folder / "console").read_text(errors="replace"))
        result.release, result.machine, result.page, result.exits = seen.release, seen.machine, seen.page, seen.exits
        result.wrong += [f"trouble: {trouble}" for trouble in seen.troubles] + seen.wrong
        if seen.alarm:
            result.wrong.append(f"its kernel says: {seen.alarm}")
        if not seen.release:
            result.wrong.append("it said nothing")
        elif not seen.closing:
            result.wrong.append("no closing line")
        for name, content in seen.files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)

    def _read_reports(self, system, folder, result):
        for name in system.filesystems:
            try:
                report = json.loads((folder / f"{name}.json").read_text())
            except (OSError, ValueError):
                result.wrong.append(f"no report for {name}")
                continue
            result.reports[name] = report
            due = 0 if report["result"] == "pass" else 1
            if result.exits.get(name) != due:
                result.wrong.append(f"the report for {name} says {report['result']}, the exit status is {result.exits.get(name)}")
            profile = report["profile"]
            result.release, result.machine, result.page = profile["release"], profile["machine"], profile["page_size"]
        if system.page and result.page not in (0, system.page):
            result.wrong.append(f"its pages have {result.page} bytes, not {system.page}")
        if result.release and not result.release.startswith(system.release):
            result.wrong.append(f"its release is {result.release}, not {system.release}")


def find_kernel(folder):
    """The kernel's image in what a package holds."""
    for pattern in ("boot/vmlinu*", "usr/lib/modules/*/vmlinu*", "lib/modules/*/vmlinu*"):
        for path in sorted(folder.glob(pattern)):
            return path
    raise Trouble(f"no kernel in {folder}")
