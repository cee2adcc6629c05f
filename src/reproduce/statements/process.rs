//! Calls of and on processes, and what the C library tells, as C statements.

use super::super::expressions::{address, descriptor, size};
use crate::kernel::call::{Call, Confinement, Disposition, Library};
use crate::kernel::names;
use crate::kernel::page::Size;

/// The statements of a call on signals, limits, privileges, or another process, and of what the C library is asked.
pub(super) fn of(call: &Call) -> Option<String> {
    let text = match call {
        Call::Kill { actor, signal } => format!("DO(kill(pid[{}], {}));", actor.0, names::signal(*signal)),
        Call::Signal { signal, disposition } => {
            let name = names::signal(*signal);
            match disposition {
                Disposition::Default => format!("signal({name}, SIG_DFL); got = err = 0;"),
                Disposition::Ignore => format!("signal({name}, SIG_IGN); got = err = 0;"),
                Disposition::Handle => format!(
                    "handled = 0; DO(sigaction({name}, &(struct sigaction){{ .sa_handler = count_signal }}, NULL));"
                ),
                Disposition::Block => format!(
                    "{{ sigset_t set; sigemptyset(&set); sigaddset(&set, {name}); DO(sigprocmask(SIG_BLOCK, &set, NULL)); }}"
                ),
            }
        }
        Call::SignalCount => "got = handled; err = 0;".into(),
        Call::Limit { resource, soft } => format!(
            "{{ struct rlimit l; getrlimit({resource}, &l); l.rlim_cur = {soft}ul; DO(setrlimit({resource}, &l)); }}"
        ),
        Call::DropPrivileges => "DO(drop_privileges());".into(),
        Call::Tmpfs { options, noexec } => {
            format!("DO(own_tmpfs(\"{options}\", {}));", if *noexec { "MS_NOEXEC" } else { "0" })
        }
        Call::Confine(Confinement::ChannelOnly) => "DO(confine_to_turns());".into(),
        Call::Confine(Confinement::NoMmap) => "DO(confine(1, 1, (const int[]){ SYS_mmap }));".into(),
        Call::PageFaults => "DO(page_faults());".into(),
        Call::Smaps { at, key } => format!("DO(line_of(\"/proc/self/smaps\", {}, \"{key}\"));", address(*at)),
        Call::Status { key } => format!("DO(line_of(\"/proc/self/status\", 0, \"{key}\"));"),
        Call::ReadOther { actor, at, len } => format!(
            "{{ struct iovec mine = {{ buffer, {1} }}, its = {{ (void *)({0}), {1} }}; \
             DO(process_vm_readv(pid[{2}], &mine, 1, &its, 1, 0)); }}",
            address(*at),
            size(Size(*len)),
            actor.0
        ),
        Call::Exec { tool, keep } => {
            let words: String = tool.iter().map(|word| format!("\"{word}\", ")).collect();
            let kept: String =
                keep.iter().map(|(fd, number)| format!("dup2({}, {number}); ", descriptor(*fd))).collect();
            format!("{kept}DO(execl(\"/proc/self/exe\", \"reproduce\", \"tool\", {words}(char *)NULL));")
        }
        Call::Library(Library::Malloc { len }) => format!(
            "{{ size_t n = {}; void *block = (errno = 0, malloc(n)); err = block || !n ? 0 : errno; \
             if (block) memset(block, 0xff, n); got = block != NULL; free(block); }}",
            size(*len)
        ),
        Call::Library(Library::PipeBuf { fd }) => format!("DO(fpathconf({}, _PC_PIPE_BUF));", descriptor(*fd)),
        Call::Library(Library::PageSize) => "DO(sysconf(_SC_PAGESIZE));".into(),
        _ => return None,
    };
    Some(text)
}
