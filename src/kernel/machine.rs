//! What the machine says of itself, where it cannot be tried: mount options, hardware, policies.
//!
//! Nothing here decides what a kernel must do; it decides what a case asks for, and what excuses a refusal.
use std::fs::{read_dir, read_to_string};
use std::sync::OnceLock;

use rustix::fs::{StatVfsMountFlags, statvfs};

/// Whether a file lies on a mount that takes no PROT_EXEC (mount(8), noexec).
pub fn is_noexec(path: &str) -> bool {
    statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// Whether something beside the access rights may refuse executable memory: SELinux, a seccomp filter, PR_SET_MDWE.
pub fn restricts_execution() -> bool {
    const PR_GET_MDWE: libc::c_int = 66;
    // SAFETY: this prctl takes no pointer.
    let deny_write_execute = unsafe { libc::prctl(PR_GET_MDWE, 0, 0, 0, 0) } > 0;
    let selinux = read_to_string("/sys/fs/selinux/enforce").is_ok_and(|mode| mode.trim() == "1");
    let filtered = read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')));
    deny_write_execute || selinux || filtered
}

/// Whether PROT_READ gives PROT_EXEC as well, by the caller's personality (personality(2), READ_IMPLIES_EXEC).
pub fn read_implies_exec() -> bool {
    const ASK: libc::c_ulong = 0xffff_ffff;
    // SAFETY: personality takes a number, and this one changes nothing.
    let personality = unsafe { libc::personality(ASK) };
    personality != -1 && personality & libc::READ_IMPLIES_EXEC != 0
}

/// Whether this machine is known to refuse the execution of memory without PROT_EXEC; where it is not, that has to be tried.
pub fn enforces_no_execution() -> bool {
    match std::env::consts::ARCH {
        // The kernel takes "nx" away when it is booted without; User-Mode Linux shows the flag and has no such thing.
        "x86_64" => cpuinfo().split_ascii_whitespace().any(|word| word == "nx") && !is_user_mode_linux(),
        "aarch64" | "riscv64" | "powerpc64" => true,
        _ => false,
    }
}

/// Whether the kernel is itself a program of another Linux.
pub fn is_user_mode_linux() -> bool {
    cpuinfo().contains("User Mode Linux")
}

/// Whether another program translates this one's system calls, and shares its address space with it (qemu-user).
///
/// A translator names the translated program where it expects the question; the path by the thread's number it leaves to
/// the kernel, which names the translator.
pub fn is_translated() -> bool {
    let own = std::fs::read_link("/proc/self/exe");
    let threads = std::fs::read_link(format!("/proc/self/task/{}/exe", rustix::thread::gettid().as_raw_nonzero()));
    own.is_ok_and(|own| threads.is_ok_and(|threads| own != threads))
}

fn cpuinfo() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// Whether memory files are kept in huge pages (shmem_enabled, Documentation/admin-guide/mm/transhuge.rst): then pages past the
/// end of the file, up to the end of a huge page, may be there.
pub fn memfd_in_huge_pages() -> bool {
    const BASE: &str = "/sys/kernel/mm/transparent_hugepage";
    let sizes = read_dir(BASE).into_iter().flatten().flatten().map(|entry| entry.path().join("shmem_enabled"));
    let switches = sizes.chain([format!("{BASE}/shmem_enabled").into()]);
    switches.filter_map(|path| read_to_string(path).ok()).any(|text| {
        let chosen = text.split(['[', ']']).nth(1).unwrap_or("never");
        !matches!(chosen, "never" | "deny" | "advise" | "inherit")
    })
}

/// As [`memfd_in_huge_pages`], for the current directory: a tmpfs with the option huge, or one of which that is not known.
pub fn directory_in_huge_pages() -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    if !rustix::fs::statfs(".").is_ok_and(|fs| fs.f_type as u64 == TMPFS_MAGIC) {
        return false;
    }
    let (Ok(mounts), Ok(here)) = (read_to_string("/proc/self/mountinfo"), std::env::current_dir()) else { return true };
    let place = |line: &str| line.split(' ').nth(4).map(std::path::PathBuf::from).unwrap_or_default();
    let mount =
        mounts.lines().filter(|line| here.starts_with(place(line))).max_by_key(|line| place(line).as_os_str().len());
    let option =
        |line: &str| line.split([',', ' ']).find_map(|word| word.strip_prefix("huge=").map(|how| how != "never"));
    mount.and_then(option).unwrap_or(false) || memfd_in_huge_pages()
}

/// Whether the kernel is of a release before this one (uname(2)).
pub fn is_before(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().unwrap_or("").split(['.', '-']).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}

/// The huge pages of one size that this machine can be asked for (Documentation/admin-guide/mm/hugetlbpage.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The size of one, in bytes.
    pub size: usize,
    /// How many a mapping can still be given, those beyond the pool that the machine may make included.
    pub left: usize,
}

const POOLS: &str = "/sys/kernel/mm/hugepages";

/// The sizes of huge pages that this machine has, in bytes; none where it has none, or does not say.
pub fn huge_sizes() -> Vec<usize> {
    let entries = read_dir(POOLS).into_iter().flatten().flatten();
    let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<usize>().ok();
    entries.filter_map(|entry| size(entry.file_name().to_str()?)).map(|kilobytes| kilobytes << 10).collect()
}

/// The size of huge pages that MAP_HUGETLB stands for by itself (proc_meminfo(5), Hugepagesize).
pub fn default_huge_size() -> Option<usize> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.split_ascii_whitespace().next()?.parse::<usize>().ok().map(|kilobytes| kilobytes << 10)
}

/// What is left of the pages of a size, at this moment.
pub fn huge_pool(size: usize) -> Option<Pool> {
    let read =
        |file: &str| read_to_string(format!("{POOLS}/hugepages-{}kB/{file}", size >> 10)).ok()?.trim().parse().ok();
    let (free, spoken_for): (usize, usize) = (read("free_hugepages")?, read("resv_hugepages")?);
    let (more, made): (usize, usize) = (read("nr_overcommit_hugepages")?, read("surplus_hugepages")?);
    Some(Pool { size, left: free.saturating_sub(spoken_for) + more.saturating_sub(made) })
}

/// Whether a control group other than the root may set limits of its own (cgroups(7)): to huge pages, or to memory nodes.
pub fn is_in_a_control_group() -> bool {
    read_to_string("/proc/self/cgroup").is_ok_and(|text| text.lines().any(|line| !line.ends_with(":/")))
}

/// How many processes the system has killed for want of memory so far, whether its own or a memory cgroup's (proc_vmstat(5), oom_kill).
pub fn killed_for_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Lets the system choose the caller, and what it forks, when it has to kill something for want of memory (proc_pid_oom_score_adj(5)).
pub fn volunteer_for_memory() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}
