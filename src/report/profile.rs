//! What is known of the system under test.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::claim::Depends;
use crate::kernel::page::page;

/// The system, the directory and the caller that a run was made with.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
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
    /// Looks at the system, without a call that is under test.
    pub fn look(directory: &Path) -> Profile {
        let uname = rustix::system::uname();
        let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
        Profile {
            sysname: text(uname.sysname()),
            release: text(uname.release()),
            version: text(uname.version()),
            machine: text(uname.machine()),
            page_size: page(),
            filesystem: FileSystem::of(directory),
            uid: rustix::process::geteuid().as_raw(),
            privileged: rustix::thread::capabilities(None).is_ok_and(|sets| !sets.effective.is_empty()),
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
            Depends::FileSystem => self.filesystem.kind.clone(),
            Depends::Release => {
                let mut numbers = self.release.split(|c: char| !c.is_ascii_digit());
                let mut number = || numbers.next().unwrap_or("0").to_owned();
                format!("{}.{}", number(), number())
            }
            Depends::Privilege => if self.privileged { "privileged" } else { "unprivileged" }.to_owned(),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Profile { sysname, release, machine, page_size, filesystem, uid, .. } = self;
        let FileSystem { kind, directory, .. } = filesystem;
        write!(f, "{sysname} {release}, {machine}, pages of {page_size} bytes, {kind} at {directory}, uid {uid}")
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
