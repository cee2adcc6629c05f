//! Calls as C statements: each sets `got` and `err`.

mod memory;
mod process;

use super::expressions::{address, descriptor, fill, size};
use crate::kernel::call::{Call, Special};
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
        Call::ReadAll { fd, reads } => {
            let of = |bytes: usize| size(Size(bytes));
            let sizes: Vec<String> = reads.sizes.iter().map(|size| of(*size)).collect();
            format!(
                "DO(read_all({}, (const size_t[]){{ {} }}, {}, {}, {}, {}, {}));",
                descriptor(*fd),
                if sizes.is_empty() { "0".to_owned() } else { sizes.join(", ") },
                sizes.len().max(1),
                reads.often,
                of(reads.then),
                reads.unit,
                of(reads.most)
            )
        }
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
            format!("DO(fstat({}, &facts)); if (!err) got = facts.st_size;", descriptor(*fd))
        }
        Call::Stat { path } => format!("DO(lstat(\"{path}\", &facts)); if (!err) got = facts.st_size;"),
        Call::Access { path } => format!("DO(access(\"{path}\", F_OK));"),
        Call::Unlink { path } => format!("DO(unlink(\"{path}\"));"),
        Call::Rename { from, to } => format!("DO(rename(\"{from}\", \"{to}\"));"),
        Call::Link { from, to } => format!("DO(link(\"{from}\", \"{to}\"));"),
        Call::Symlink { target, path } => format!("DO(symlink(\"{target}\", \"{path}\"));"),
        Call::Mkdir { path, mode } => format!("DO(mkdir(\"{path}\", 0{mode:o}));"),
        Call::Rmdir { path } => format!("DO(rmdir(\"{path}\"));"),
        Call::Mkfifo { path, mode, below } => {
            format!("DO(mkfifo(\"{path}{}\", 0{mode:o}));", below.suffix())
        }
        Call::Entries => "DO(entries());".into(),
        Call::Cachestat { fd, offset, len } => {
            format!("DO(unwritten({}, {}, {}));", descriptor(*fd), size(*offset), size(*len))
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
        Call::PipeAt { at, read, write } => format!(
            "DO(syscall(SYS_pipe2, {0}, 0)); if (!err) {{ {1} = ((int *)({0}))[0]; {2} = ((int *)({0}))[1]; }}",
            address(*at),
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
        _ => return memory::of(call).or_else(|| process::of(call)),
    };
    Some(text)
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
