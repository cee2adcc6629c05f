//! What is known of the system under test.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::implementation;
use crate::claim::Depends;
use crate::kernel::page::page;
use crate::kernel::{lock, machine};
use crate::run::probe::{Features, Found};

/// The system, the directory and the caller that a run was made with.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Which kernel answers: linux, uml, gvisor, qemu-user.
    pub kernel: &'static str,
    /// uname(2), sysname.
    pub sysname: String,
    /// uname(2), release.
    pub release: String,
    /// uname(2), version.
    pub version: String,
    /// uname(2), machine.
    pub machine: String,
    /// The size of a page, in bytes.
    pub page_size: usize,
    /// What the directory under test lies on.
    pub filesystem: FileSystem,
    /// The effective user.
    pub uid: u32,
    /// Whether it has any capability, whatever its number.
    pub privileged: bool,
    /// How many processors it may use.
    pub processors: usize,
    /// getrlimit(2): soft and hard limits.
    pub limits: BTreeMap<&'static str, Bounds>,
    /// Huge pages, transparent and reserved.
    pub huge_pages: HugePages,
    /// proc(5), /proc/sys/vm/overcommit_memory; nothing without /proc.
    pub overcommit: Option<u32>,
    /// pipe(7), /proc/sys/fs/pipe-max-size and its like; empty without /proc.
    pub pipes: BTreeMap<&'static str, u64>,
    /// How many bits an address of user space has; nothing if it could not be found.
    pub address_bits: Option<u32>,
    /// What was found by trying; nothing if the process that tried was lost.
    pub features: Option<Features>,
}

/// A soft and a hard limit; nothing where there is none.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bounds {
    /// The limit in force.
    pub soft: Option<u64>,
    /// How far it can be raised.
    pub hard: Option<u64>,
}

/// Huge pages, as far as it can be known.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HugePages {
    /// /sys/kernel/mm/transparent_hugepage/enabled.
    pub transparent: Option<String>,
    /// /sys/kernel/mm/transparent_hugepage/shmem_enabled.
    pub shmem: Option<String>,
    /// The default size, in kilobytes (/proc/meminfo).
    pub size_kb: Option<u64>,
    /// How many are reserved.
    pub total: Option<u64>,
    /// How many of those are free.
    pub free: Option<u64>,
    /// Of each size in kilobytes, how many a mapping can be given.
    pub left: BTreeMap<usize, usize>,
}

/// A file system, as far as it can be known.
#[derive(Clone, Debug, Serialize)]
pub struct FileSystem {
    /// Its type, such as ext4; the magic number where nothing gives it a name.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is mounted, such as /dev/sda1; nothing without /proc.
    pub name: Option<String>,
    /// The options of the mount; nothing without /proc.
    pub options: Option<String>,
    /// The directory under test.
    pub directory: String,
}

impl Profile {
    /// Looks at the system, without a call that is under test; what it can do was found by [`crate::run::runner::Runner::probe`].
    pub fn look(directory: &Path, found: Option<Found>) -> Profile {
        let uname = rustix::system::uname();
        let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
        let (release, version) = (text(uname.release()), text(uname.version()));
        Profile {
            kernel: implementation::name(&release, &version),
            sysname: text(uname.sysname()),
            release,
            version,
            machine: text(uname.machine()),
            page_size: page(),
            filesystem: FileSystem::of(directory),
            uid: rustix::process::geteuid().as_raw(),
            privileged: rustix::thread::capabilities(None).is_ok_and(|sets| !sets.effective.is_empty()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            limits: LIMITS.iter().map(|(name, resource)| (*name, bounds(*resource))).collect(),
            huge_pages: HugePages::look(),
            overcommit: read("/proc/sys/vm/overcommit_memory").and_then(|text| text.parse().ok()),
            pipes: PIPES
                .iter()
                .filter_map(|name| Some((*name, read(&format!("/proc/sys/fs/{name}"))?.parse().ok()?)))
                .collect(),
            address_bits: found.and_then(|found| found.address_bits),
            features: found.map(|found| found.features),
        }
    }
}

impl Profile {
    /// What a snapshot's suffix says of a facet of the system.
    pub fn facet(&self, facet: Depends) -> String {
        const USUAL_PAGE: usize = 4 << 10;
        match facet {
            Depends::Machine if self.page_size == USUAL_PAGE => self.machine.clone(),
            Depends::Machine => format!("{}.{}k", self.machine, self.page_size >> 10),
            Depends::FileSystem if self.filesystem.is_dax() => format!("{}.dax", self.filesystem.kind),
            Depends::FileSystem => self.filesystem.kind.clone(),
            Depends::Release => {
                let mut numbers = self.release.split(|c: char| !c.is_ascii_digit());
                let mut number = || numbers.next().unwrap_or("0").to_owned();
                format!("{}.{}", number(), number())
            }
            Depends::Privilege => if self.privileged { "privileged" } else { "unprivileged" }.to_owned(),
            Depends::HugePages => self.huge_pages.facet(),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Profile { kernel, sysname, release, machine, page_size, filesystem, uid, .. } = self;
        let FileSystem { kind, directory, .. } = filesystem;
        if *kernel != "linux" {
            write!(f, "{kernel} as ")?;
        }
        write!(f, "{sysname} {release}, {machine}, pages of {page_size} bytes, {kind} at {directory}, uid {uid}")
    }
}

const LIMITS: &[(&str, Resource)] = &[
    ("address_space", Resource::As),
    ("core", Resource::Core),
    ("data", Resource::Data),
    ("file_size", Resource::Fsize),
    ("locked_memory", Resource::Memlock),
    ("open_files", Resource::Nofile),
    ("processes", Resource::Nproc),
    ("stack", Resource::Stack),
];

const PIPES: &[&str] = &["pipe-max-size", "pipe-user-pages-soft", "pipe-user-pages-hard"];

fn bounds(resource: Resource) -> Bounds {
    let limit = getrlimit(resource);
    Bounds { soft: limit.current, hard: limit.maximum }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn left() -> BTreeMap<usize, usize> {
    // No other worker holds some meanwhile.
    let _turn = lock::turn();
    let pools = machine::huge_sizes().into_iter().filter_map(machine::huge_pool);
    pools.map(|pool| (pool.size >> 10, pool.left)).collect()
}

impl HugePages {
    fn look() -> HugePages {
        let chosen = |name: &str| {
            let text = read(&format!("/sys/kernel/mm/transparent_hugepage/{name}"))?;
            Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
        };
        let meminfo = read("/proc/meminfo").unwrap_or_default();
        let number = |key: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        HugePages {
            transparent: chosen("enabled"),
            shmem: chosen("shmem_enabled"),
            size_kb: number("Hugepagesize"),
            total: number("HugePages_Total"),
            free: number("HugePages_Free"),
            left: left(),
        }
    }

    /// Each size, with how many there are as far as claims ask for them: `1048576kx0.2048kx2`.
    fn facet(&self) -> String {
        const MOST_ASKED_FOR: usize = 2;
        let word = |(size, left): (&usize, &usize)| format!("{size}kx{}", left.min(&MOST_ASKED_FOR));
        let words: Vec<String> = self.left.iter().map(word).collect();
        if words.is_empty() { "none".into() } else { words.join(".") }
    }
}

/// The file systems that are told by a number alone where there is no /proc (statfs(2)).
const MAGIC: &[(u64, &str)] = &[
    (0xef53, "ext4"),
    (0x0102_1994, "tmpfs"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x794c_7630, "overlay"),
    (0x8584_58f6, "ramfs"),
    (0x9584_58f6, "hugetlbfs"),
    (0x0102_1997, "9p"),
    (0x6969, "nfs"),
    (0x6573_5546, "fuse"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x2fc1_2fc1, "zfs"),
];

impl FileSystem {
    /// Whether it is mounted so that its files are mapped directly (Documentation/filesystems/dax.rst).
    fn is_dax(&self) -> bool {
        self.options.iter().flat_map(|options| options.split(',')).any(|option| matches!(option, "dax" | "dax=always"))
    }

    fn of(directory: &Path) -> FileSystem {
        let shown = directory.display().to_string();
        if let Some((kind, name, options)) = mount_of(directory) {
            return FileSystem { kind, name: Some(name), options: Some(options), directory: shown };
        }
        let magic = rustix::fs::statfs(directory).map_or(0, |info| info.f_type as u64 & 0xffff_ffff);
        let named = MAGIC.iter().find(|row| row.0 == magic).map(|row| row.1.to_owned());
        FileSystem { kind: named.unwrap_or_else(|| format!("{magic:#x}")), name: None, options: None, directory: shown }
    }
}

/// Type, source and options of the mount that holds a directory (proc(5), /proc/PID/mountinfo): the last one on the deepest mount point.
fn mount_of(directory: &Path) -> Option<(String, String, String)> {
    let directory = directory.canonicalize().ok()?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounts = table.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let front: Vec<&str> = front.split(' ').collect();
        let mut back = back.split(' ');
        let point = front.get(4)?.replace("\\040", " ");
        let (kind, source, over) = (back.next()?, back.next()?, back.next().unwrap_or_default());
        let found = (kind.to_owned(), source.to_owned(), merge(front.get(5)?, over));
        directory.starts_with(&point).then_some((point.len(), found))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, found)| found)
}

/// The options of a mount and those of its file system, each once.
fn merge(mount: &str, over: &str) -> String {
    let mut options: Vec<&str> = Vec::new();
    for option in mount.split(',').chain(over.split(',')) {
        if !options.contains(&option) && !option.is_empty() {
            options.push(option);
        }
    }
    options.join(",")
}
