//! The length of a mapping: none, any, and that of a file.

use std::fmt;

use libc::{EINVAL, ENOMEM};
use proptest::prelude::*;

use super::arguments::must_behave;
use super::placement::{Neighbours, neighbours};
use crate::claim::{Claim, DAY8, IPC, MAPIO, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Edit, Gen, Request, all_prots, any_mapping, any_sharing, any_size, content_seed, drawn, each,
    edits_within, off_boundary,
};
use crate::kernel::call::{At, Call, Library, MmapArgs, Special};
use crate::kernel::data::Data;
use crate::kernel::names::{
    ANONYMOUS, EXEC, FIXED_NOREPLACE, Flags, NONE, PRIVATE, Prot, READ, READ_WRITE, SHARED, SHARED_VALIDATE,
};
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, bytes, page, pages};
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, anonymous, request};
use crate::lab::{Lab, Map};

/// MAP_NORESERVE.
const NO_RESERVE: Flags = Flags(libc::MAP_NORESERVE as u32);

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![zero(), malloc_of_zero(), rounded_up(), file_size()]
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

/// A readable and writable mapping, what surrounds it, and edits in all of its pages.
#[derive(Clone, Debug)]
struct Rounded {
    mapping: Request,
    place: Place,
    between: Neighbours,
    edits: Vec<Edit>,
}

/// Who chooses where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// MAP_FIXED.
    Fixed,
    /// A hint at a hole that is as large.
    Hint,
    /// The kernel, where a larger mapping has just been unmapped.
    Null,
}

fn rounded_up() -> Claim {
    claim("mmap.length.rounded-up")
        .states("The length may be any number of bytes: whole pages are mapped, so it is in effect rounded up to the page size.")
        .documents([WHAT.at("mmap, length")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, page size paragraph"),
            unspecified("mmap, RATIONALE: references past the end of the area asked for"),
            linux("mmap(2), NOTES"),
            linux("linux 7.2, mm/mmap.c, do_mmap()"),
        ])
        .for_all(any_rounded(6), |lab, rounded| whole_pages_are_mapped(lab, &rounded))
        .part("many pages", any_rounded(300), |lab, rounded| whole_pages_are_mapped(lab, &rounded))
        .one_in(16)
}

fn any_rounded(most: usize) -> Gen<Rounded> {
    let mapping = (any_mapping(), any_size(1, most), 0_usize..3).prop_map(|(mapping, len, further)| {
        // The file reaches to the last page of the mapping, ends there or goes on.
        let size = mapping.offset + (len - 1).round_down() + pages(further) + 1 + mapping.size;
        Request { len, prot: READ_WRITE, size, ..mapping }
    });
    let strategy = mapping.prop_flat_map(|mapping| {
        let edits = edits_within(mapping.len.round_up(), 3);
        let place = prop::sample::select(vec![Place::Fixed, Place::Hint, Place::Null]);
        (Just(mapping), place, neighbours(), edits).prop_map(|(mapping, place, between, edits)| Rounded {
            mapping,
            place,
            between,
            edits,
        })
    });
    let edges = [pages(1) + 1, pages(2) - 1, pages(3) + 1, pages(5) - 1, pages(16), pages(33) + 1, pages(129) - 1];
    let named = edges.into_iter().filter(move |len| *len <= pages(most)).map(|len| Rounded {
        mapping: Request::of_length(len),
        place: Place::Fixed,
        between: Neighbours::HOLES,
        edits: vec![Edit { at: len - 1, data: Data::at(1, len - 1, 1) }],
    });
    drawn(format!("mappings of one byte to {most} pages, and what lies before and behind them"), strategy).also(named)
}

/// Every byte of the last page belongs to the mapping, and the next page does not.
///
/// A place of the kernel's choice may be in a hole beside the one meant, so that none is made then.
fn whole_pages_are_mapped(lab: &Lab, Rounded { mapping, place, between, edits }: &Rounded) -> Verdict {
    let at = pages(8);
    let among = (*place != Place::Null).then_some(*between);
    if let Some(between) = among {
        between.put_around(lab, at, mapping.len.round_up())?;
    }
    let args = mapping.prepare(lab)?;
    let map = match place {
        Place::Fixed => lab.map(args.fixed(At::Arena(at.get())))?,
        Place::Hint => lab.map(args.hint(lab.hole(at, mapping.len)))?,
        Place::Null => map_where_there_is_room(lab, args)?,
    };
    let mut view = mapping.view();
    lab.load(map.start(), map.extent()).must_equal(&view)?;
    for edit in edits {
        lab.store(map.at(edit.at), &edit.data).must_succeed()?;
        edit.apply(&mut view);
    }
    let last = Data::repeat(1, 1);
    lab.store(map.end().minus(1), &last).must_succeed()?;
    last.fill(&mut view[map.extent().get() - 1..]);
    lab.load(map.start(), map.extent()).must_equal(&view)?;
    if let Some(between) = among {
        between.must_be_as_they_were(lab, at, map.extent())?;
    }
    if mapping.backing.is_file() {
        let mut contents = Data::pattern(mapping.contents, mapping.size).to_vec();
        if mapping.sharing == SHARED {
            let from = mapping.offset.get();
            let shown = (contents.len() - from).min(view.len());
            contents[from..from + shown].copy_from_slice(&view[..shown]);
        }
        lab.pread(args.fd, mapping.size + 1, 0).must_equal(&contents)?;
    }
    Ok(())
}

/// A mapping at an address of the kernel's choice; of a larger range that was unmapped just before, it takes up its own pages and no more.
fn map_where_there_is_room(lab: &Lab, args: MmapArgs) -> Verdict<Map> {
    let room = lab.map(anonymous(args.len.round_up() + pages(2), NONE, PRIVATE))?;
    lab.unmap(room)?;
    let map = lab.map(args)?;
    let taken = map.address..map.address + map.extent().get();
    let mut rest = (0..room.len.get()).step_by(page()).filter(|start| !taken.contains(&(room.address + start)));
    lab.aside(|| rest.try_for_each(|start| lab.load(room.at(start), 1).must_be_unmapped(0)))?;
    Ok(map)
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
