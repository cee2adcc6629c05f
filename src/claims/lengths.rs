//! The length of a mapping: none, any, and that of a file.

use std::fmt;

use libc::{EINVAL, ENOMEM};
use proptest::prelude::*;

use super::arguments::must_behave;
use crate::claim::{Claim, DAY8, IPC, MAPIO, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Gen, Request, all_prots, any_mapping, any_sharing, any_size, content_seed, drawn, each, off_boundary,
};
use crate::kernel::call::{At, Call, Library, MmapArgs, Special};
use crate::kernel::data::Data;
use crate::kernel::names::{
    ANONYMOUS, EXEC, FIXED_NOREPLACE, Flags, NONE, PRIVATE, Prot, READ, READ_WRITE, SHARED, SHARED_VALIDATE,
};
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, bytes, pages};
use crate::lab::expect::Expect;
use crate::lab::verbs::{Calls, anonymous, request};

/// MAP_NORESERVE.
const NO_RESERVE: Flags = Flags(libc::MAP_NORESERVE as u32);

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![zero(), malloc_of_zero(), file_size()]
}

fn zero() -> Claim {
    claim("mmap.length.zero")
        .states("A mapping of length 0 is refused, whatever else is asked for.")
        .documents([DAY8.at("note 1"), IPC.at("mmap, length"), IPC.at("question 4"), MAPIO.at("notes")])
        .holds()
        .basis([
            posix("mmap, ERRORS, [EINVAL]"),
            posix("mmap, DESCRIPTION, len"),
            linux("mmap(2), ERRORS, EINVAL (since Linux 2.6.12)"),
            linux("mmap(2), BUGS"),
            linux("linux 7.2, mm/mmap.c, do_mmap(): before access and kind of file"),
        ])
        .for_all(any_kind_of_mapping(), |lab, request| {
            let args = request.prepare(lab)?;
            lab.mmap(args.length(0)).must_fail(EINVAL)?;
            let one = Request { len: bytes(1), ..request };
            must_behave(lab, &one, lab.map(args.length(one.len))?)
        })
        .part("any address, flags and offset", oddities(), |lab, (request, oddity)| {
            let taken = lab.map(anonymous(pages(3), READ_WRITE, PRIVATE).fixed(At::Arena(pages(2).get())))?;
            lab.store(taken.start(), &Data::pattern(0, taken.len)).prepared()?;
            let args = request.prepare(lab)?.length(0);
            lab.mmap(oddity.put_into(args)).must_fail(EINVAL)?;
            lab.load(taken.start(), taken.len).must_hold(&Data::pattern(0, taken.len))
        })
        .part("a descriptor of any kind", kinds_of_descriptor(), |lab, (kind, prot, sharing)| {
            let fd = match kind {
                Kind::ReadOnly => {
                    let path = lab.file(&Data::pattern(0, 1))?;
                    lab.open(path, libc::O_RDONLY)?
                }
                Kind::WriteOnly => {
                    let path = lab.file(&Data::pattern(0, 1))?;
                    lab.open(path, libc::O_WRONLY)?
                }
                Kind::Directory => lab.open_device(".", libc::O_RDONLY | libc::O_DIRECTORY)?,
                Kind::PipeRead => lab.pipe(0)?.0,
                Kind::PipeWrite => lab.pipe(0)?.1,
                Kind::Eventfd => lab.special(Special::Eventfd)?,
            };
            lab.mmap(request(0, prot, sharing, fd)).must_fail(EINVAL)
        })
}

/// Mappings of every kind: each backing with each protection and sharing type, and then any.
fn any_kind_of_mapping() -> Gen<Request> {
    let mut all = Vec::new();
    for backing in [Backing::File, Backing::Memfd, Backing::DevZero, Backing::Anonymous] {
        for prot in all_prots() {
            // Executable mappings are refused on a noexec mount, as /dev may be.
            let mounted = matches!(backing, Backing::File | Backing::DevZero);
            if mounted && prot.has(EXEC) {
                continue;
            }
            for sharing in [SHARED, PRIVATE] {
                let (size, len) = (pages(1) + 1, bytes(1));
                all.push(Request { backing, contents: 0, size, len, prot, sharing, offset: Size::ZERO });
            }
        }
    }
    drawn("mappings of every backing, protection, sharing type, size and page offset", any_mapping()).also(all)
}

/// Arguments besides the length that are unusual, or wrong with an errno that comes later or is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    /// A hint, from the first page of the arena.
    Hint(Size),
    /// MAP_FIXED at a mapping.
    FixedOver(Size),
    /// MAP_FIXED_NOREPLACE at a mapping.
    NoReplace(Size),
    /// An address beyond all.
    FarHint,
    /// An offset so many pages from the largest.
    FarOffset(usize),
    /// These flags besides.
    Flags(Flags),
    /// This sharing type.
    Sharing(Flags),
    /// An offset off a page boundary.
    OffsetOff(Size),
}

impl Oddity {
    fn put_into(self, args: MmapArgs) -> MmapArgs {
        match self {
            Oddity::Hint(at) => args.hint(At::Arena(at.get())),
            Oddity::FixedOver(at) => args.fixed(At::Arena((pages(2) + at).get())),
            Oddity::NoReplace(at) => args.hint(At::Arena((pages(2) + at).get())).and(FIXED_NOREPLACE),
            Oddity::FarHint => args.hint(At::Null.minus(pages(1))),
            Oddity::FarOffset(count) => args.offset(Size::ZERO - pages(count)),
            Oddity::Flags(flags) => args.and(flags),
            Oddity::Sharing(sharing) => args.sharing(sharing),
            Oddity::OffsetOff(distance) => args.offset(args.offset + distance),
        }
    }
}

fn oddities() -> Gen<(Request, Oddity)> {
    let flag = |bits: i32| Flags(bits as u32);
    let flags = vec![
        flag(libc::MAP_NORESERVE),
        flag(libc::MAP_POPULATE),
        flag(libc::MAP_POPULATE | libc::MAP_NONBLOCK),
        flag(libc::MAP_LOCKED),
        flag(libc::MAP_STACK),
        flag(libc::MAP_NORESERVE | libc::MAP_LOCKED | libc::MAP_POPULATE),
        ANONYMOUS,
    ];
    let types = vec![Flags::default(), SHARED_VALIDATE, Flags(4), Flags(15)];
    let file = Request {
        backing: Backing::File,
        contents: 0,
        size: pages(1) + 1,
        len: bytes(1),
        prot: READ_WRITE,
        sharing: SHARED,
        offset: Size::ZERO,
    };
    let named =
        types.iter().map(|sharing| Oddity::Sharing(*sharing)).chain(flags.iter().map(|flags| Oddity::Flags(*flags)));
    let always: Vec<_> = named.map(|oddity| (file, oddity)).collect();
    let oddity = prop_oneof![
        any_size(0, 8).prop_map(Oddity::Hint),
        any_size(0, 3).prop_map(Oddity::FixedOver),
        any_size(0, 3).prop_map(Oddity::NoReplace),
        Just(Oddity::FarHint),
        (1_usize..1000).prop_map(Oddity::FarOffset),
        prop::sample::select(flags).prop_map(Oddity::Flags),
        prop::sample::select(types).prop_map(Oddity::Sharing),
        off_boundary().prop_map(Oddity::OffsetOff),
    ];
    drawn("mappings of length 0 with an unusual address, flag, sharing type or offset", (any_mapping(), oddity))
        .also(always)
}

/// Descriptors that are no good for a mapping, or only for some: that is found out after the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ReadOnly,
    WriteOnly,
    Directory,
    PipeRead,
    PipeWrite,
    Eventfd,
}

fn kinds_of_descriptor() -> Gen<(Kind, Prot, Flags)> {
    use Kind::*;
    let kinds = each("descriptors of every kind", [ReadOnly, WriteOnly, Directory, PipeRead, PipeWrite, Eventfd]);
    let rights = each("every protection", all_prots()).and(each("both sharing types", [SHARED, PRIVATE]));
    kinds.and(rights).map(|(kind, (prot, sharing))| (kind, prot, sharing))
}

fn malloc_of_zero() -> Claim {
    claim("mmap.length.malloc-zero")
        .states("malloc, unlike mmap, takes a size of 0.")
        .documents([DAY8.at("note 1")])
        .holds()
        .basis([
            unspecified(
                "malloc, DESCRIPTION and RETURN VALUE: a null pointer or one that free takes; a fact of the C library",
            ),
            linux("malloc(3), DESCRIPTION"),
        ])
        .for_all(each("sizes of none and some bytes", [0, 1, 64].map(bytes)), |lab, len| {
            let answer = Calls::call(lab, Call::Library(Library::Malloc { len }));
            if len == Size::ZERO {
                lab.fact("malloc(0)", if matches!(answer.outcome(), Outcome::Value(0)) { "NULL" } else { "a pointer" });
                answer.may(&[Expect::Value(0), Expect::Value(1)])?;
                lab.mmap(anonymous(len, READ_WRITE, PRIVATE)).must_fail(EINVAL)
            } else {
                answer.must_return(1_u64)?;
                lab.mmap(anonymous(len, READ_WRITE, PRIVATE)).must_succeed()
            }
        })
}

/// What becomes of a file before it is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    Truncate(Size),
    Append(Size),
    AppendAt(Size),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Nothing => write!(f, "as written"),
            Change::Truncate(size) => write!(f, "ftruncate to {size}"),
            Change::Append(len) => write!(f, "{len} appended"),
            Change::AppendAt(len) => write!(f, "{len} put behind the end"),
        }
    }
}

fn file_size() -> Claim {
    claim("mmap.length.file-size")
        .states("The usual length is the file's size, whether got from stat or by seeking to its end; mapped with it, the whole file is in view.")
        .documents([
            IPC.at("mmap, length"),
            IPC.at("mmap example, listing"),
            MAPIO.at("first listing"),
            MAPIO.at("copy, listing"),
            WHAT.at("listing"),
        ])
        .holds()
        .basis([
            posix("lseek, DESCRIPTION and RETURN VALUE"),
            posix("<sys/stat.h>, st_size"),
            posix("mmap, DESCRIPTION"),
            linux("lseek(2), DESCRIPTION, SEEK_END"),
        ])
        .for_all(files_that_change(12), |lab, (size, contents, change, sharing)| {
            let (path, fd) = lab.new_file(&Data::pattern(contents, size))?;
            let mut whole = Data::pattern(contents, size).to_vec();
            match change {
                Change::Nothing => {}
                Change::Truncate(size) => {
                    lab.ftruncate(fd, size).prepared()?;
                    whole.resize(size.get(), 0);
                }
                Change::Append(len) | Change::AppendAt(len) => {
                    let more = Data::at(contents, size, len);
                    match change {
                        Change::Append(_) => lab.write(fd, &more),
                        _ => lab.pwrite(fd, &more, size),
                    }
                    .must_return(len.get() as u64)?;
                    whole.extend(more.to_vec());
                }
            }
            let size = Size(whole.len());
            let found = lab.stat(path).stat()?.size;
            lab.must(found as usize == size.get(), "stat gives the size", || format!("{}", Size(found as usize)))?;
            let found = lab.size(fd)?;
            lab.must(found == size, "fstat gives the size", || format!("{found}"))?;
            lab.lseek(fd, 0, libc::SEEK_END).must_return(size.get() as u64)?;
            if size == Size::ZERO {
                return lab.mmap(request(size, READ, sharing, fd)).must_fail(EINVAL);
            }
            let map = lab.map(request(size, READ, sharing, fd))?;
            lab.lseek(fd, 0, libc::SEEK_END).must_return(size.get() as u64)?;
            whole.resize(map.extent().get(), 0);
            lab.load(map.start(), map.extent()).must_equal(&whole)
        })
        .part("more than an int holds", huge_files(), |lab, (size, contents)| {
            let fd = lab.memfd(&Data::zeros(0))?;
            lab.ftruncate(fd, size).prepared()?;
            let last = Data::at(contents, 0, 8);
            lab.pwrite(fd, &last, size - 8).must_return(8_u64)?;
            let found = lab.size(fd)?;
            lab.must(found == size, "fstat gives the size", || format!("{found}"))?;
            lab.lseek(fd, 0, libc::SEEK_END).must_return(size.get() as u64)?;
            if lab.mmap(anonymous(size, NONE, PRIVATE).and(NO_RESERVE)).outcome().errno() == Some(ENOMEM) {
                return lab.lacking(Lack::Memory);
            }
            let map = lab.map(request(size, READ, SHARED, fd))?;
            lab.load(map.start(), 8).must_hold(&Data::zeros(8))?;
            lab.load(map.at(size - 8), 8).must_hold(&last)
        })
        .one_in(32)
}

fn files_that_change(most: usize) -> Gen<(Size, u32, Change, Flags)> {
    let change = prop_oneof![
        2 => Just(Change::Nothing),
        2 => any_size(0, most).prop_map(Change::Truncate),
        1 => any_size(1, most).prop_map(Change::Append),
        1 => any_size(1, most).prop_map(Change::AppendAt),
    ];
    drawn(
        format!("files of up to {most} pages, as written, cut, grown or appended to"),
        (any_size(0, most), content_seed(), change, any_sharing()),
    )
}

fn huge_files() -> Gen<(Size, u32)> {
    let size = (31_u32..34, any_size(0, 4), prop::bool::ANY).prop_map(|(power, rest, below)| {
        let base = Size(1 << power);
        if below && power > 31 { base - rest } else { base + rest + 8 }
    });
    drawn("sparse files of 2 GiB and more", (size, content_seed()))
}
