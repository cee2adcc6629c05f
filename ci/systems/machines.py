"""Starting a system, and waiting for what it says."""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import images
from .config import Trouble
from .packages import ensure_tools

# What one of the emulated programs may reserve: QEMU 7.2 keeps a table of all of it, and would take all of the memory.
ADDRESS_SPACE = 16_000_000 << 10
ALONE = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]

_running, _guard = set(), threading.Lock()
stopping = threading.Event()


def stop_all(*_):
    """Ends every system that is running: for a signal handler."""
    stopping.set()
    for process in list(_running):
        _kill(process)


def _kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Ended:
    """How a process of a system ended."""

    def __init__(self, code, seconds, worked, boot, hung):
        self.code, self.seconds, self.worked, self.boot, self.hung = code, seconds, worked, boot, hung


def watch(command, console, seconds, output=None, before=None):
    """Runs a command with its words in the file `console` until it ends, or for so many seconds."""
    begun, boot = time.monotonic(), None
    with open(console, "wb") as said, open(output or os.devnull, "wb") as out:
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, start_new_session=True,
                                   stdout=out if output else said, stderr=said, preexec_fn=before)
    with _guard:
        _running.add(process)
    try:
        if stopping.is_set():
            _kill(process)
        hung, worked = False, None
        while worked is None:
            time.sleep(0.1)
            if boot is None and b"::begin" in Path(console).read_bytes()[-4096:]:
                boot = time.monotonic() - begun
            if time.monotonic() - begun > seconds and not hung:
                hung = True
                _kill(process)
            worked = _worked(process)
        return Ended(process.returncode, time.monotonic() - begun, worked, boot, hung)
    finally:
        _kill(process)
        process.wait()
        with _guard:
            _running.discard(process)


def _worked(process):
    """The seconds of processor time that a process and its children have used, once it has ended."""
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if pid == 0:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def boot(system, matrix, kernel, initramfs, folder, accelerator):
    """Boots a kernel under QEMU; its console is left in the folder."""
    image, disks, pmem = initramfs
    facts = matrix.architectures[system.architecture]
    ensure_tools([facts["qemu"]])
    append = [facts["append"], "quiet panic=-1 rdinit=/init"]
    append += [f"hugepages={system.hugepages}"] if system.hugepages else []
    append += ["memmap=" + ",".join(f"{size}M!{start}M" for size, start in pmem)] if pmem else []
    memory = images.PMEM_STARTS + sum(size for size, _ in pmem) + 256 if pmem else system.memory
    with tempfile.NamedTemporaryFile(prefix="initramfs-") as file:
        file.write(image)
        file.flush()
        command = [facts["qemu"], "-accel", accelerator, *facts["machine"], "-smp", "1", "-m", f"{memory}M", "-display", "none",
                   "-monitor", "none", "-no-reboot", "-kernel", kernel, "-initrd", file.name, "-append", " ".join(append)]
        for disk in disks:
            command += ["-drive", f"file={disk},if=virtio,format=raw,snapshot=on"]
        return watch(command, folder / "console", system.seconds)


def user_mode_linux(system, root, initramfs, folder):
    """Boots User-Mode Linux with the C library of its own release, in name spaces that end with it."""
    for link, target in (("lib", "usr/lib"), ("lib64", "usr/lib64")):
        if not (root / link).exists():
            (root / link).symlink_to(target)
    for name in ("dev", "proc", "tmp", "mnt"):
        (root / name).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="uml-") as there:
        Path(there, "initramfs").write_bytes(initramfs[0])
        mounts = (f"mount --rbind /dev {root}/dev && mount -t proc proc {root}/proc && "
                  f"mount -t tmpfs tmpfs {root}/tmp && mount --bind {there} {root}/mnt && exec chroot {root} ")
        kernel = (f"/usr/bin/linux.uml mem={system.memory}M initrd=/mnt/initramfs rdinit=/init con=null con0=fd:0,fd:1 "
                  "umid=mc uml_dir=/tmp/ quiet panic=-1")
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        return watch([*ALONE, *user, "sh", "-c", mounts + kernel], folder / "console", system.seconds)


def program_words(system, directory, folder):
    words = ["run", "--dir", directory, "--cases", str(system.cases), "--timeout", str(system.timeout), "--seed", "1", "--format", "json"]
    words += ["--snapshots", str(folder / "snapshots")] if system.snapshots else []
    return words + [word for path in images.known_files(system) for word in ("--known", str(path))]


def gvisor(system, program, runsc, folder):
    """Runs the suite in gVisor's sandbox; its report is all that comes out."""
    if os.geteuid() != 0:
        raise Trouble("runsc do wants root")
    with tempfile.TemporaryDirectory(prefix="gvisor-") as there:
        # Two workers with pipes bring the kernel of 2022 to a stop, all its processes included.
        command = [runsc, f"--root={there}", "--network=none", f"--platform={system.platform}", "do", program,
                   *program_words(system, "/tmp", folder), "--jobs", "1"]
        return watch([*ALONE, "--mount-proc", *command], folder / "console", system.seconds, folder / "tmpfs.json")


def qemu_user(system, program, emulator, folder):
    """Runs the suite under a translator of system calls, which is made the handler of its programs in a user name space."""
    with tempfile.TemporaryDirectory(prefix="mmap-conformance-", dir="/dev/shm") as there:
        marked = Path(there, "program")
        content = bytearray(program.read_bytes())
        # Bytes 9 to 15 of an ELF header mean nothing: they tell this program from those of the host.
        content[9:16] = b"emulate"
        marked.write_bytes(content)
        marked.chmod(0o755)
        magic = "".join(f"\\x{byte:02x}" for byte in content[9:16])
        shutil.copy(emulator, Path(there, "emulator"))
        register = f":mmapconf:M:9:{magic}::{there}/emulator:F"
        words = program_words(system, f"{there}/fs", folder)
        os.mkdir(f"{there}/fs")
        script = ('mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && printf %s "$0" > /proc/sys/fs/binfmt_misc/register '
                  '&& exec "$@"')
        command = [*ALONE, "--user", "--map-root-user", "--mount-proc", "sh", "-c", script, register, marked, *words]
        return watch(command, folder / "console", system.seconds, folder / "tmpfs.json",
                     lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE)))


def host(system, program, folder):
    """Runs the suite on the kernel of this machine."""
    with tempfile.TemporaryDirectory(prefix="mmap-conformance-", dir="/dev/shm") as there:
        command = [program, *program_words(system, there, folder)]
        return watch(command, folder / "console", system.seconds, folder / "tmpfs.json")
