//! What the system can do, found by trying, in a process that may die of it.

use serde::{Deserialize, Serialize};

use crate::kernel::call::{ActorId, At, Below, Call, Confinement, Special};
use crate::kernel::data::Data;
use crate::kernel::names::{EXEC, FIXED_NOREPLACE, Flags, NONE, PRIVATE, READ, READ_WRITE, SHARED_VALIDATE};
use crate::kernel::outcome::Outcome;
use crate::kernel::page::pages;
use crate::lab::Lab;
use crate::lab::verbs::{Calls, anonymous, request};

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// /proc is mounted.
    pub proc: bool,
    /// memfd_create(2).
    pub memfd: bool,
    /// cachestat(2).
    pub cachestat: bool,
    /// seccomp(2), filters.
    pub seccomp: bool,
    /// unix(7), with descriptors handed over.
    pub sockets: bool,
    /// MAP_SYNC is accepted in the directory under test.
    pub dax: bool,
    /// A mapping of huge pages of the default size is granted.
    pub hugetlb: bool,
    /// A FIFO can be made in the directory under test.
    pub fifos: bool,
    /// A file of the directory under test can be mapped with PROT_EXEC.
    pub executable: bool,
    /// A page can be locked.
    pub mlock: bool,
    /// /dev/zero can be opened.
    pub dev_zero: bool,
    /// A process can be made by fork.
    pub fork: bool,
    /// A program can be started by exec.
    pub exec: bool,
}

/// All that a probe finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What there is and what not.
    pub features: Features,
    /// How many bits an address of user space has, for a mapping that is asked for there.
    pub address_bits: Option<u32>,
}

/// Tries everything.
pub(super) fn try_everything(lab: &Lab) -> Found {
    let mut found = Features {
        proc: std::path::Path::new("/proc/self/stat").exists(),
        memfd: lab.memfd(&Data::zeros(pages(1))).is_ok(),
        sockets: lab.special(Special::Socket).is_ok() && lab.socketpair().is_ok(),
        fifos: lab
            .call(ActorId(0), Call::Mkfifo { path: lab.new_path(), mode: 0o600, below: Below::Nothing })
            .prepared()
            .is_ok(),
        dev_zero: lab.open_device("/dev/zero", libc::O_RDWR).is_ok(),
        hugetlb: huge_page_size().is_some_and(|size| {
            lab.map(anonymous(size, READ_WRITE, PRIVATE).and(Flags(libc::MAP_HUGETLB as u32))).is_ok()
        }),
        mlock: lab
            .map(anonymous(pages(1), READ_WRITE, PRIVATE))
            .and_then(|map| lab.call(ActorId(0), Call::Mlock { at: map.start(), len: pages(1) }).prepared())
            .is_ok(),
        ..Features::default()
    };
    if let Ok((_, fd)) = lab.new_file(&Data::zeros(pages(1))) {
        let sync = Flags(libc::MAP_SYNC as u32);
        found.cachestat =
            lab.call(ActorId(0), Call::Cachestat { fd, offset: pages(0), len: pages(1) }).prepared().is_ok();
        found.dax = lab.map(request(pages(1), READ_WRITE, SHARED_VALIDATE | sync, fd)).is_ok();
        found.executable = lab.map(request(pages(1), READ | EXEC, PRIVATE, fd)).is_ok();
    }
    if let Ok(child) = lab.fork() {
        found.fork = true;
        found.seccomp = child.call(Call::Confine(Confinement::NoMmap)).prepared().is_ok();
    }
    found.exec = lab.peer().is_ok();
    let address_bits = address_bits(lab);
    lab.end_case();
    Found { features: found, address_bits }
}

/// The highest power of two below which the kernel lets a mapping be placed: beyond it is ENOMEM, and taken is not beyond.
fn address_bits(lab: &Lab) -> Option<u32> {
    const MARGIN: usize = 64;
    (30..=63).rev().find(|bits| {
        let at = At::Number((1_usize << bits).wrapping_sub(pages(MARGIN).get()));
        let args = anonymous(pages(1), NONE, PRIVATE).and(FIXED_NOREPLACE).hint(at);
        let At::Number(wanted) = at else { return false };
        match lab.mmap(args).outcome() {
            Outcome::Mapped(address) => *address == wanted,
            outcome => outcome.errno() == Some(libc::EEXIST),
        }
    })
}

/// The default size of a huge page (proc(5), /proc/meminfo), in bytes.
fn huge_page_size() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kilobytes| kilobytes << 10)
}
