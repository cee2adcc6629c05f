//! Calls on memory as C statements.

use super::super::expressions::{address, descriptor, fill, size};
use crate::kernel::call::{Call, Library, MmapArgs, Width};
use crate::kernel::data::Data;
use crate::kernel::guard::RETURN;
use crate::kernel::names::{self, Bits};
use crate::kernel::page::Size;

/// The statements of a call on memory.
pub(super) fn of(call: &Call) -> Option<String> {
    let text = match call {
        Call::Mmap { args, map } => {
            format!("DO(sys_mmap({}, {})); {map:?} = got;", address(args.at), behind_the_address(args))
        }
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
        Call::Library(Library::Mmap { args, map }) => {
            format!("DO(mmap((void *)({}), {})); {map:?} = got;", address(args.at), behind_the_address(args))
        }
        Call::Mlock { at, len } => format!("DO(syscall(SYS_mlock, {}, {}));", address(*at), size(*len)),
        Call::Munlock { at, len } => format!("DO(syscall(SYS_munlock, {}, {}));", address(*at), size(*len)),
        Call::Load { at, len } => format!("DO(load({}, {}));", address(*at), size(Size(*len))),
        Call::Store { at, data } => {
            format!("{} DO(store({}, buffer, {}));", fill("buffer", data), address(*at), size(Size(data.len())))
        }
        Call::LoadWord { at, width } => format!(
            "fault_signal = 0; if (!sigsetjmp(after_fault, 0)) DO(*(volatile {} *)({}));",
            word(*width),
            address(*at)
        ),
        Call::StoreWord { at, width, value } => format!(
            "fault_signal = 0; if (!sigsetjmp(after_fault, 0)) {{ *(volatile {} *)({}) = {value:#x}; got = err = 0; }}",
            word(*width),
            address(*at)
        ),
        Call::StoreReturn { at } => format!(
            "{} DO(store({1}, buffer, {2})); __builtin___clear_cache((char *)({1}), (char *)({1}) + {2});",
            fill("buffer", &Data::Literal(RETURN.to_vec())),
            address(*at),
            RETURN.len()
        ),
        Call::Touch { at, len, store } => {
            format!("DO(touch({}, {}, {}));", address(*at), size(*len), u8::from(*store))
        }
        Call::Await { at, value } => format!("DO(await({}, {value}));", address(*at)),
        Call::Reply { at, len, rounds } => format!("DO(reply({}, {}, {rounds}));", address(*at), size(Size(*len))),
        Call::LockedAdd { lock, at, add, times } => {
            format!("DO(locked_add({}, {}, {add}, {times}));", address(*lock), address(*at))
        }
        Call::Execute { at } => format!("DO(call_code({}));", address(*at)),
        Call::CompareExchange { at, old, new } => format!(
            "fault_signal = 0; if (!sigsetjmp(after_fault, 0)) {{ uint32_t seen = {old}; \
             __atomic_compare_exchange_n((uint32_t *)({}), &seen, {new}u, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); got = seen; err = 0; }}",
            address(*at)
        ),
        Call::FetchAdd { at, add, times } => format!(
            "fault_signal = 0; if (!sigsetjmp(after_fault, 0)) for (int i = 0; i < {times}; i++) \
             DO(__atomic_fetch_add((uint32_t *)({}), {add}, __ATOMIC_SEQ_CST));",
            address(*at)
        ),
        _ => return None,
    };
    Some(text)
}

/// The arguments of mmap but the first.
fn behind_the_address(args: &MmapArgs) -> String {
    let MmapArgs { len, prot, flags, fd, offset, .. } = args;
    format!("{}, {prot:?}, {}, {}, {}", size(*len), map_flags(*flags), descriptor(*fd), size(*offset))
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
