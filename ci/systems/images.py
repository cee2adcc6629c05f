"""What a guest boots from: an initramfs with the program and its steps, disks with empty file systems."""

import os
import stat
import subprocess

from .config import REPOSITORY, Trouble, cache
from .packages import ensure_tools, find_tool

PMEM_STARTS = 1024  # MiB: where the memory that stands for a persistent one begins
DEVICE = (5, 1)  # console(4)
KNOWN = {"qemu": ["known-emulated.toml"], "gvisor": ["known-gvisor.toml"], "qemu-user": ["known-qemu-user.toml"]}


def archive(files):
    """A cpio archive as the kernel wants it (initramfs, format newc): {path: bytes, None for a directory}."""
    entries = [(path, stat.S_IFDIR | 0o755 if content is None else stat.S_IFREG | 0o755, content or b"", (0, 0))
               for path, content in files.items()]
    entries.append(("dev/console", stat.S_IFCHR | 0o600, b"", DEVICE))
    out = bytearray()
    for number, (path, mode, content, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", (0, 0))], 1):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def disk(name, facts):
    """An image with an empty file system, made once."""
    ensure_tools([facts["mkfs"][0]])
    folder = cache() / "disks"
    folder.mkdir(exist_ok=True)
    image = folder / f"{name}-{facts['disk']}M"
    if not image.exists():
        making = image.with_name(f"{image.name}.{os.getpid()}")
        with open(making, "wb") as file:
            file.truncate(facts["disk"] << 20)
        subprocess.run([find_tool(facts["mkfs"][0]), *facts["mkfs"][1:], making], check=True, stdout=subprocess.DEVNULL)
        making.rename(image)
    return image


def modules(folder, wanted):
    """The modules wanted and those that they need, in the order to load them in: [(name, bytes)]."""
    ensure_tools(["depmod", "modprobe", "xz"])
    base = next((base for base in (folder, folder / "usr") if (base / "lib/modules").is_dir()), None)
    if base is None:
        raise Trouble(f"no modules in {folder}")
    version = next((base / "lib/modules").iterdir()).name
    if not (base / "lib/modules" / version / "modules.dep").exists():
        subprocess.run([find_tool("depmod"), "-b", base, version], check=True, stderr=subprocess.DEVNULL)
    found = {}
    for name in wanted:
        command = [find_tool("modprobe"), "-d", base, "-S", version, "--show-depends", name]
        shown = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if shown.returncode != 0:
            raise Trouble(f"no module {name} for {version}: {shown.stderr.strip()}")
        for line in shown.stdout.splitlines():
            words = line.split()
            if words[0] == "insmod" and words[1] not in found:
                found[words[1]] = _content(words[1])
    return [(os.path.basename(path).split(".ko")[0] + ".ko", content) for path, content in found.items()]


def _content(path):
    if path.endswith(".xz"):
        return subprocess.run(["xz", "-dc", path], check=True, stdout=subprocess.PIPE).stdout
    with open(path, "rb") as file:
        return file.read()


def known_files(system):
    """The lists of known deviations: those of Linux, and those of the machine that QEMU makes, or of what is not Linux."""
    return [REPOSITORY / "ci" / name for name in ("known.toml", *KNOWN.get(system.kind, ()))]


def suite(system, matrix, facts, directory, report, snapshots):
    """The command line of one run of the suite, without the program."""
    claims = matrix.claims[facts["claims"]] if "claims" in facts else []
    words = ["run", *claims, "--dir", directory, "--cases", str(system.cases), "--jobs", "1"]
    words += ["--timeout", str(system.timeout), "--seed", "1", "--format", "json", "--output", report]
    return words + (["--snapshots", snapshots] if snapshots else [])


def steps(system, matrix, folder, known):
    """What process 1 does, the files that it needs, the disks in order, and the parts of memory that stand for disks."""
    lines, files, disks, pmem, loaded = [], {}, [], [], {}
    for name in system.filesystems:
        facts = matrix.filesystems[name]
        directory, lines = f"/fs/{name}", [*lines, f"group {name}"]
        needed = [*(["virtio_pci", "virtio_blk"] if "disk" in facts else []), *facts.get("modules", ())]
        for module, content in modules(folder, needed) if needed else ():
            if module not in loaded:
                loaded[module] = files[f"modules/{module}"] = content
                lines.append(f"module /modules/{module}")
        source, kind = "none", facts.get("type", name)
        if "disk" in facts:
            source = f"/dev/vd{chr(ord('a') + len(disks))}"
            disks.append(disk(name, facts))
        if "pmem" in facts:
            lines.append(f"copy {source} /dev/pmem{len(pmem)}")
            source = f"/dev/pmem{len(pmem)}"
            pmem.append((facts["pmem"], PMEM_STARTS + sum(size for size, _ in pmem)))
        options = facts.get("options", "-")
        if facts.get("layers"):
            options = ",".join(f"{layer}=/layers/{layer}" for layer in ("lowerdir", "upperdir", "workdir"))
            lines.append("mount tmpfs none /layers -")
            lines += [f"directory /layers/{layer}" for layer in ("lowerdir", "upperdir", "workdir")]
        lines.append(f"mount {kind} {source} {directory} {options}")
        report, new = f"/tmp/{name}.json", f"/tmp/new-{name}" if system.snapshots and name == system.filesystems[0] else ""
        lines.append(" ".join(["run", "/mmap-conformance", *suite(system, matrix, facts, directory, report, new), *known]))
        lines.append(f"send {report} {name}.json")
        if new:
            lines.append(f"send-all {new} snapshots")
    return lines, files, disks, pmem


def initramfs(system, matrix, folder, program, init):
    """The bytes of it, the disks that go with it, and the memory set apart for DAX."""
    known = {path.name: path.read_bytes() for path in known_files(system)}
    words = [word for name in known for word in ("--known", f"/{name}")]
    lines, modules_, disks, pmem = steps(system, matrix, folder, words)
    files = {"dev": None, "modules": None, "init": init.read_bytes(), "mmap-conformance": program.read_bytes()}
    files |= {"steps": "".join(line + "\n" for line in lines).encode()} | modules_ | known
    return archive(files), disks, pmem
