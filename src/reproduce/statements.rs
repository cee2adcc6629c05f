//! Calls as C statements: each sets `got` and `err`.

use super::expressions::{address, descriptor, fill, size};
use crate::kernel::call::{Call, Disposition, Special, Width};
use crate::kernel::names::{self, Bits};
use crate::kernel::notation::open_flags;
use crate::kernel::page::Size;

/// The statements of a call; `None` for one that has no place in a short C program.
pub(super) fn of(call: &Call) -> Option<String> {
    let text = match call {
        Call::Open { path, flags, mode, fd } => {
            format!("DO(open(\"{path}\", {}, 0{mode:o})); {} = got;", open_flags(*flags), descriptor(*fd))
        }
        Call::OpenPath { path, flags, fd } => {
            format!("DO(open(\"{path}\", {})); {} = got;", open_flags(*flags), descriptor(*fd))
        }
        Call::Memfd { fd } => format!("DO(syscall(SYS_memfd_create, \"m\", 3)); {} = got;", descriptor(*fd)),
        Call::Close { fd } => format!("DO(close({}));", descriptor(*fd)),
        Call::Dup { of, fd } => format!("DO(dup({})); {} = got;", descriptor(*of), descriptor(*fd)),
        Call::Dup2 { of, onto, cloexec } => {
            let flags = if *cloexec { "dup3" } else { "dup2" };
            let more = if *cloexec { ", O_CLOEXEC" } else { "" };
            format!("DO({flags}({}, {}{more}));", descriptor(*of), descriptor(*onto))
        }
        Call::Lseek { fd, offset, whence } => {
            let whence = ["SEEK_SET", "SEEK_CUR", "SEEK_END"].get(*whence as usize)?;
            let sign = if *offset < 0 { "-(long)" } else { "" };
            let distance = size(Size(offset.unsigned_abs() as usize));
            format!("DO(lseek({}, {sign}({distance}), {whence}));", descriptor(*fd))
        }
        Call::Read { fd, len } => format!("DO(read({}, buffer, {}));", descriptor(*fd), size(Size(*len))),
        Call::Write { fd, data } => {
            format!("{} DO(write({}, buffer, {}));", fill("buffer", data), descriptor(*fd), size(Size(data.len())))
        }
        Call::Pread { fd, len, offset } => {
            format!("DO(pread({}, buffer, {}, {}));", descriptor(*fd), size(Size(*len)), size(*offset))
        }
        Call::Pwrite { fd, data, offset } => format!(
            "{} DO(pwrite({}, buffer, {}, {}));",
            fill("buffer", data),
            descriptor(*fd),
            size(Size(data.len())),
            size(*offset)
        ),
        Call::Ftruncate { fd, len } => format!("DO(ftruncate({}, {}));", descriptor(*fd), size(*len)),
        Call::Truncate { path, len } => format!("DO(truncate(\"{path}\", {}));", size(*len)),
        Call::Fsync { fd } => format!("DO(fsync({}));", descriptor(*fd)),
        Call::Fstat { fd } => {
            format!("{{ struct stat s; DO(fstat({}, &s)); if (!err) got = s.st_size; }}", descriptor(*fd))
        }
        Call::Stat { path } => format!("{{ struct stat s; DO(lstat(\"{path}\", &s)); if (!err) got = s.st_size; }}"),
        Call::Access { path } => format!("DO(access(\"{path}\", F_OK));"),
        Call::Unlink { path } => format!("DO(unlink(\"{path}\"));"),
        Call::Rename { from, to } => format!("DO(rename(\"{from}\", \"{to}\"));"),
        Call::Link { from, to } => format!("DO(link(\"{from}\", \"{to}\"));"),
        Call::Mkdir { path, mode } => format!("DO(mkdir(\"{path}\", 0{mode:o}));"),
        Call::Rmdir { path } => format!("DO(rmdir(\"{path}\"));"),
        Call::Mkfifo { path, mode, below } => {
            format!("DO(mkfifo(\"{path}{}\", 0{mode:o}));", if *below { "/x" } else { "" })
        }
        Call::Umask { mask } => format!("DO(umask(0{mask:o}));"),
        Call::Fcntl { fd, command, argument } => {
            format!("DO(fcntl({}, {}, {}));", descriptor(*fd), command_name(*command), size(Size(*argument as usize)))
        }
        Call::Fionread { fd } => {
            format!("{{ int n = 0; DO(ioctl({}, FIONREAD, &n)); if (!err) got = n; }}", descriptor(*fd))
        }
        Call::Poll { fd, events } => format!(
            "{{ struct pollfd p = {{ {}, {events:#x}, 0 }}; DO(poll(&p, 1, 0)); if (!err) got = p.revents; }}",
            descriptor(*fd)
        ),
        Call::Pipe { read, write, flags } => format!(
            "{{ int ends[2]; DO(pipe2(ends, {})); if (!err) {{ {} = ends[0]; {} = ends[1]; }} }}",
            Bits(names::OPEN_FLAGS, *flags, "0"),
            descriptor(*read),
            descriptor(*write)
        ),
        Call::Socketpair { one, two } => format!(
            "{{ int ends[2]; DO(socketpair(AF_UNIX, SOCK_STREAM, 0, ends)); if (!err) {{ {} = ends[0]; {} = ends[1]; }} }}",
            descriptor(*one),
            descriptor(*two)
        ),
        Call::SendFd { over, fd } => format!("DO(send_fd({}, {}));", descriptor(*over), descriptor(*fd)),
        Call::ReceiveFd { over, fd } => format!("DO(receive_fd({})); {} = got;", descriptor(*over), descriptor(*fd)),
        Call::Special { kind, fd } => {
            let call = match kind {
                Special::Eventfd => "eventfd(0, 0)",
                Special::Epoll => "epoll_create1(0)",
                Special::Socket => "socket(AF_UNIX, SOCK_STREAM, 0)",
            };
            format!("DO({call}); {} = got;", descriptor(*fd))
        }
        _ => return memory(call).or_else(|| of_process(call)),
    };
    Some(text)
}

fn memory(call: &Call) -> Option<String> {
    let text = match call {
        Call::Mmap { args, map } => format!(
            "DO(sys_mmap({}, {}, {:?}, {}, {}, {})); {map:?} = got;",
            address(args.at),
            size(args.len),
            args.prot,
            map_flags(args.flags),
            descriptor(args.fd),
            size(args.offset)
        ),
        Call::Munmap { at, len } => format!("DO(syscall(SYS_munmap, {}, {}));", address(*at), size(*len)),
        Call::Mprotect { at, len, prot } => {
            format!("DO(syscall(SYS_mprotect, {}, {}, {prot:?}));", address(*at), size(*len))
        }
        Call::Mremap { at, old, new, flags, to, map } => format!(
            "DO(syscall(SYS_mremap, {}, {}, {}, {}, {})); {map:?} = got;",
            address(*at),
            size(*old),
            size(*new),
            Bits(names::MREMAP_FLAGS, *flags, "0"),
            address(*to)
        ),
        Call::Msync { at, len, flags } => {
            let flags = Bits(names::MSYNC_FLAGS, *flags, "0");
            format!("DO(syscall(SYS_msync, {}, {}, {flags}));", address(*at), size(*len))
        }
        Call::Madvise { at, len, advice } => {
            format!("DO(syscall(SYS_madvise, {}, {}, {advice}));", address(*at), size(*len))
        }
        Call::Mincore { at, len } => format!(
            "DO(syscall(SYS_mincore, {}, {}, buffer)); if (!err) {{ got = {}; for (long i = 0; i < got; i++) buffer[i] &= 1; }}",
            address(*at),
            size(*len),
            len.in_pages()
        ),
        Call::Mlock { at, len } => format!("DO(syscall(SYS_mlock, {}, {}));", address(*at), size(*len)),
        Call::Munlock { at, len } => format!("DO(syscall(SYS_munlock, {}, {}));", address(*at), size(*len)),
        Call::Load { at, len } => format!("DO(load({}, {}));", address(*at), size(Size(*len))),
        Call::Store { at, data } => {
            format!("{} DO(store({}, buffer, {}));", fill("buffer", data), address(*at), size(Size(data.len())))
        }
        Call::LoadWord { at, width } => format!(
            "fault_signal = 0; if (!sigsetjmp(after_fault, 1)) DO(*(volatile {} *)({}));",
            word(*width),
            address(*at)
        ),
        Call::StoreWord { at, width, value } => format!(
            "fault_signal = 0; if (!sigsetjmp(after_fault, 1)) {{ *(volatile {} *)({}) = {value:#x}; got = err = 0; }}",
            word(*width),
            address(*at)
        ),
        Call::Execute { at } => format!("DO(call_code({}));", address(*at)),
        Call::CompareExchange { at, old, new } => format!(
            "fault_signal = 0; if (!sigsetjmp(after_fault, 1)) {{ uint32_t seen = {old}; \
             __atomic_compare_exchange_n((uint32_t *)({}), &seen, {new}u, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); got = seen; err = 0; }}",
            address(*at)
        ),
        Call::FetchAdd { at, add, times } => format!(
            "fault_signal = 0; if (!sigsetjmp(after_fault, 1)) for (int i = 0; i < {times}; i++) \
             DO(__atomic_fetch_add((uint32_t *)({}), {add}, __ATOMIC_SEQ_CST));",
            address(*at)
        ),
        _ => return None,
    };
    Some(text)
}

fn of_process(call: &Call) -> Option<String> {
    let text = match call {
        Call::Kill { actor, signal } => format!("DO(kill(pid[{}], {}));", actor.0, names::signal(*signal)),
        Call::Signal { signal, disposition } => {
            let name = names::signal(*signal);
            match disposition {
                Disposition::Default => format!("signal({name}, SIG_DFL); got = err = 0;"),
                Disposition::Ignore => format!("signal({name}, SIG_IGN); got = err = 0;"),
                Disposition::Handle => format!("handled = 0; signal({name}, count_signal); got = err = 0;"),
                Disposition::Block => format!(
                    "{{ sigset_t set; sigemptyset(&set); sigaddset(&set, {name}); DO(sigprocmask(SIG_BLOCK, &set, NULL)); }}"
                ),
            }
        }
        Call::SignalCount => "got = handled; err = 0;".into(),
        Call::Limit { resource, soft } => format!(
            "{{ struct rlimit l; getrlimit({resource}, &l); l.rlim_cur = {soft}ul; DO(setrlimit({resource}, &l)); }}"
        ),
        _ => return None,
    };
    Some(text)
}

/// MAP_SHARED_VALIDATE is not in every C library's header.
fn map_flags(flags: names::Flags) -> String {
    let rest = flags.0 & !names::Flags::TYPE;
    let sharing = match flags.sharing() {
        names::SHARED => "MAP_SHARED".into(),
        names::PRIVATE => "MAP_PRIVATE".into(),
        names::Flags(other) => format!("{other:#x}"),
    };
    let plain: &[(u32, &str)] = &[
        (libc::MAP_FIXED as u32, "MAP_FIXED"),
        (libc::MAP_ANONYMOUS as u32, "MAP_ANONYMOUS"),
        (libc::MAP_NORESERVE as u32, "MAP_NORESERVE"),
        (libc::MAP_POPULATE as u32, "MAP_POPULATE"),
        (libc::MAP_LOCKED as u32, "MAP_LOCKED"),
    ];
    match rest {
        0 => sharing,
        _ => format!("{sharing}|{}", Bits(plain, rest, "")),
    }
}

fn word(width: Width) -> &'static str {
    match width {
        Width::One => "uint8_t",
        Width::Two => "uint16_t",
        Width::Four => "uint32_t",
        Width::Eight => "uint64_t",
    }
}

fn command_name(command: i32) -> String {
    match command {
        libc::F_GETFL => "F_GETFL".into(),
        libc::F_SETFL => "F_SETFL".into(),
        libc::F_GETFD => "F_GETFD".into(),
        libc::F_SETFD => "F_SETFD".into(),
        libc::F_GETPIPE_SZ => "F_GETPIPE_SZ".into(),
        libc::F_SETPIPE_SZ => "F_SETPIPE_SZ".into(),
        other => other.to_string(),
    }
}
