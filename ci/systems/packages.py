"""Debian's packages, of any release and architecture, fetched by apt and unpacked; nothing of them is installed."""

import functools
import json
import os
import re
import shutil
import subprocess

from .config import Trouble, cache

TOOLS = {
    "mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs", "mkfs.btrfs": "btrfs-progs",
    "depmod": "kmod", "modprobe": "kmod", "xz": "xz-utils", "unshare": "util-linux", "dpkg-deb": "dpkg",
    "qemu-system-x86_64": "qemu-system-x86", "qemu-system-aarch64": "qemu-system-arm", "qemu-system-ppc64": "qemu-system-ppc",
    "qemu-system-riscv64": "qemu-system-misc", "qemu-system-s390x": "qemu-system-misc",
    "x86_64-linux-gnu-gcc": "gcc libc6-dev",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "powerpc64le-linux-gnu-gcc": "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross",
    "riscv64-linux-gnu-gcc": "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross",
    "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu libc6-dev-s390x-cross",
}
# The kernel's parts that stand in packages of their own since 7.0.
COMPANIONS = ("linux-modules-", "linux-base-")
# What a program of another release is run with.
LIBRARIES = {"user-mode-linux": ["libc6"]}


def find_tool(name):
    """Root's tools are wanted by others too."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def ensure_tools(names):
    """Installs the tools that the machine lacks, or says which they are."""
    missing = sorted({name for name in names if not find_tool(name)})
    if not missing:
        return
    wanted = sorted({package for name in missing for package in TOOLS.get(name, name).split()})
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Trouble(f"this machine lacks {', '.join(missing)}; on Debian and Ubuntu: apt-get install {' '.join(wanted)}")
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*apt, "update"], check=False, stdout=subprocess.DEVNULL)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run([*apt, "install", "-y", "--no-install-recommends", *wanted],
                          env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0 or any(not find_tool(name) for name in missing):
        raise Trouble(f"apt-get could not install {' '.join(wanted)}")


class Packages:
    """Packages in the cache, by what `want` gives."""

    def __init__(self, debian):
        self.mirror, self.keyring = debian["mirror"], debian["keyring"]
        self.home = cache() / "packages"
        for folder in ("debs", "unpacked", "apt/lists/partial", "apt/cache/archives/partial"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        self.index = self.home / "index.json"
        self.known = json.loads(self.index.read_text()) if self.index.exists() else {}
        self.lacking = {}

    def fetch(self, wanted, update=False):
        """Has all of them in the cache, with one call of apt for what is not; what cannot be had is said by `folder`."""
        missing = [want for want in sorted(set(wanted)) if update or not self._here(want)]
        try:
            if missing:
                self._fetch(missing)
        except (Trouble, OSError, subprocess.SubprocessError) as error:
            self.lacking |= {want: str(error) for want in missing if want not in self.lacking and not self._here(want)}

    def _fetch(self, missing):
        if not shutil.which("apt-get"):
            raise Trouble("kernels are fetched by apt-get, which this machine lacks; --kernel takes one that is here")
        sources = {}
        for suite, architecture, *_ in missing:
            sources.setdefault(suite, set()).add(architecture)
        lists = self._update(sources)
        chosen = {}
        for want in missing:
            try:
                chosen[want] = choose(lists.get(want[:2], {}), want)
            except Trouble as trouble:
                self.lacking[want] = str(trouble)
        exact = {(name, want[1], version) for want, packages in chosen.items() for name, version in packages}
        absent = [f"{name}:{arch}={version}" for name, arch, version in sorted(exact) if not self._deb(name, version, arch)]
        if absent:
            self._apt("download", *absent, cwd=self.home / "debs")
        for want, packages in chosen.items():
            debs = [self._deb(name, version, want[1]) for name, version in packages]
            if not all(debs):
                raise Trouble(f"apt-get left no file for {want[2]} of {want[0]}")
            self.known["/".join(want)] = [deb.name for deb in debs]
        self.index.write_text(json.dumps(self.known, indent=1))

    @staticmethod
    def want(matrix, system):
        """The key of the packages of a system: suite, Debian's architecture, name, and whether modules are wanted."""
        guest = system.kind == "qemu"
        architecture = matrix.architectures[system.architecture if guest else "x86_64"]["debian"]
        facts = [matrix.filesystems[name] for name in system.filesystems]
        modular = guest and any("disk" in fact or "modules" in fact for fact in facts)
        return (system.suite, architecture, system.package, "modules" if modular else "alone")

    def folder(self, want):
        """The folder with all that the packages hold."""
        if want in self.lacking:
            raise Trouble(self.lacking[want])
        want = self._at_hand(want)
        debs = self.known["/".join(want)]
        folder = self.home / "unpacked" / f"{debs[0].removesuffix('.deb')}-{want[3]}"
        if not folder.exists():
            making = folder.with_name(f"{folder.name}.{os.getpid()}")
            for deb in debs:
                subprocess.run(["dpkg-deb", "-x", self.home / "debs" / deb, making], check=True)
            making.rename(folder)
        return folder

    def _at_hand(self, want):
        """The key under which it is in the cache: with its modules, if not alone."""
        with_modules = (*want[:3], "modules")
        return want if "/".join(want) in self.known or "/".join(with_modules) not in self.known else with_modules

    def _here(self, want):
        debs = self.known.get("/".join(self._at_hand(want)))
        return debs and all((self.home / "debs" / deb).exists() for deb in debs)

    def _deb(self, name, version, architecture):
        quoted = version.replace(":", "%3a")
        for which in (architecture, "all"):
            deb = self.home / "debs" / f"{name}_{quoted}_{which}.deb"
            if deb.exists():
                return deb
        return None

    def _apt(self, *arguments, cwd=None, capture=False):
        apt, architectures = self.home / "apt", ("amd64", "arm64", "ppc64el", "riscv64", "s390x")
        options = [
            f"Dir::State::Lists={apt}/lists", f"Dir::Cache={apt}/cache", f"Dir::Etc::SourceList={apt}/sources.list",
            "Dir::Etc::SourceParts=/dev/null", "Dir::Etc::Preferences=/dev/null", "Dir::Etc::PreferencesParts=/dev/null",
            # The date in the list of a release that changes daily is soon past; what it signs is checked all the same.
            "Acquire::Check-Valid-Until=false", "Acquire::Languages=none", "APT::Sandbox::User=",
            *(f"APT::Architectures::={architecture}" for architecture in architectures),
        ]
        command = ["apt-get", "-q", *(word for option in options for word in ("-o", option)), *arguments]
        done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=900)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            raise Trouble(f"apt-get {arguments[0]}: {'; '.join(errors) or 'failed'}")
        return done.stdout if capture else None

    def _update(self, sources):
        """The list of packages of each suite and architecture, as apt has fetched and verified it."""
        if not os.path.exists(self.keyring):
            ensure_tools_for_keyring(self.keyring)
        lines = [f"deb [arch={','.join(sorted(architectures))} signed-by={self.keyring}] {self.mirror} {suite} main\n"
                 for suite, architectures in sorted(sources.items())]
        (self.home / "apt/sources.list").write_text("".join(lines))
        self._apt("update")
        targets = self._apt("indextargets", "--format", "$(CODENAME) $(SUITE) $(ARCHITECTURE) $(FILENAME)", "Created-By: Packages", capture=True)
        lists = {}
        for line in targets.splitlines():
            codename, suite, architecture, file = line.split()
            for name in (codename, suite):
                if architecture in sources.get(name, ()):
                    text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", file], check=True, stdout=subprocess.PIPE).stdout
                    lists[name, architecture] = names_and_versions(text)
        return lists


def ensure_tools_for_keyring(keyring):
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "-qq", "install", "-y", "debian-archive-keyring"], check=False, stdout=subprocess.DEVNULL)
    if not os.path.exists(keyring):
        raise Trouble(f"{keyring} is not here; apt-get install debian-archive-keyring")


def names_and_versions(text):
    """Every version of every package of a list."""
    found = {}
    for name, version in re.findall(rb"^Package: (\S+)\n(?:.+\n)*?Version: (\S+)$", text, re.MULTILINE):
        found.setdefault(name.decode(), []).append(version.decode())
    return found


def choose(packages, want):
    """The newest package of that name, and what belongs to it: [(name, version)]."""
    suite, architecture, pattern, parts = want
    matching = [(version, name) for name in packages if re.fullmatch(pattern, name) for version in packages[name]]
    if not matching:
        family = pattern.replace("\\", "").split("-")[:2]
        there = sorted(name for name in packages if name.split("-")[:2] == family)
        raise Trouble(f"{suite} has no package {pattern} for {architecture}; it has {', '.join(there) or 'none like it'}")
    version, name = max(matching, key=functools.cmp_to_key(lambda one, other: older_first(one[0], other[0])))
    chosen = [(name, version)]
    for library in LIBRARIES.get(name, ()):
        chosen.append((library, max(packages[library], key=functools.cmp_to_key(older_first))))
    if name.startswith("linux-binary-") and parts == "modules":
        others = [prefix + name.removeprefix("linux-binary-") for prefix in COMPANIONS]
        chosen += [(other, version) for other in others if version in packages.get(other, ())]
    return chosen


def older_first(one, other):
    if one == other:
        return 0
    return -1 if subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0 else 1
