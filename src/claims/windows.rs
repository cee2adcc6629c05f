//! The offset of a mapping, its unit, and the window on a file that it opens.

use std::fmt;

use libc::EINVAL;
use proptest::prelude::*;

use super::arguments::{files_and_edits, must_behave, must_share};
use super::each_number::{self, each_number};
use super::side_by_side::{laid_in_order, side_by_side};
use crate::claim::{Claim, DAY8, Depends, IPC, MAPIO, SHM, WHAT, claim, linux, posix};
use crate::input::{
    BACKINGS, Backing, Edit, Gen, Range, Request, Window, any_mapping, any_sharing, any_size, any_window, drawn, each,
    edits_within, file_backing, off_boundary, place_in,
};
use crate::kernel::call::{At, Call, Library};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ, READ_WRITE, SHARED};
use crate::kernel::page::{Size, bytes, page, pages};
use crate::lab::verbs::{Calls, NO_FD, anonymous, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![page_multiple(), page_of_4k(), zero_is_start(), window()]
}

/// What else is wrong with a call whose offset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Besides {
    Nothing,
    NoLength,
    NoDescriptor,
    Closed,
    FarOut,
}

/// A number of the documents' unit, 4 KiB, which is no page everywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Documented(usize);

impl Documented {
    /// The documents say 4 KiB: here, and only here, that is meant.
    const UNIT: usize = 4 << 10;

    fn size(self) -> Size {
        bytes(self.0 * Documented::UNIT)
    }
}

impl fmt::Debug for Documented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.size().get() >> 10)
    }
}

fn page_multiple() -> Claim {
    claim("mmap.offset.page-multiple")
        .states("The offset must be a multiple of 4 KiB; 1000, for example, makes mmap return MAP_FAILED.")
        .documents([
            DAY8.at("note 4"),
            DAY8.at("mmap, offset"),
            IPC.at("question 3"),
            IPC.at("mmap, offset"),
            MAPIO.at("notes"),
        ])
        .qualified(
            "The unit is the page size of the running kernel (4, 16 or 64 KiB), so 4096 itself is EINVAL on larger \
             pages; every other offset is refused with EINVAL.",
        )
        .basis([
            posix("mmap, ERRORS, may fail, [EINVAL]"),
            posix("mmap, DESCRIPTION, page size paragraph"),
            linux("mmap(2), DESCRIPTION, offset"),
            linux("mmap(2), ERRORS, EINVAL"),
            linux("mmap(2), NOTES, Huge page mappings"),
        ])
        .part("any other offset", offsets_off(), |lab, (mapping, off, besides)| {
            let args = mapping.prepare(lab)?;
            let bad = args.offset(args.offset + off);
            let bad = match besides {
                Besides::Nothing => bad,
                Besides::NoLength => bad.length(0),
                Besides::NoDescriptor => bad.fd(NO_FD),
                Besides::FarOut => bad.offset(Size::ZERO - pages(1) + off),
                Besides::Closed => {
                    let fd = lab.memfd(&Data::pattern(0, pages(1)))?;
                    lab.close(fd).prepared()?;
                    bad.fd(fd)
                }
            };
            lab.mmap(bad).must_fail(EINVAL)?;
            must_behave(lab, &mapping, lab.map(args)?)
        })
        .part("multiples of the page", offsets_of_pages(), |lab, (backing, size, offset, sharing)| {
            let fd = backing.open(lab, &Data::pattern(2, size))?;
            let map = lab.map(request(pages(1), READ, sharing, fd).offset(offset))?;
            if offset >= size {
                return lab.load(map.start(), 1).must_be_beyond_the_file(0);
            }
            let mut view = Data::at(2, offset, (size - offset).min(pages(1))).to_vec();
            view.resize(page(), 0);
            lab.load(map.start(), pages(1)).must_equal(&view)
        })
        .part("multiples of 4 KiB", multiples_of_4k(), |lab, (multiple, sharing)| {
            let fd = lab.memfd(&Data::pattern(2, multiple.size() + pages(1)))?;
            let args = request(pages(1), READ, sharing, fd).offset(multiple.size());
            if !multiple.size().is_whole() {
                return lab.mmap(args).must_fail(EINVAL);
            }
            lab.load(lab.map(args)?.start(), pages(1)).must_hold(&Data::at(2, multiple.size(), pages(1)))
        })
        .depends_on([Depends::Machine])
}

fn offsets_off() -> Gen<(Request, Size, Besides)> {
    let besides = prop_oneof![
        4 => Just(Besides::Nothing),
        1 => Just(Besides::NoLength),
        1 => Just(Besides::NoDescriptor),
        1 => Just(Besides::Closed),
        1 => Just(Besides::FarOut),
    ];
    let (size, len) = (pages(2), pages(1));
    let of =
        move |backing, sharing| Request { backing, contents: 0, size, len, prot: READ, sharing, offset: Size::ZERO };
    let mappings = BACKINGS.into_iter().flat_map(move |backing| [SHARED, PRIVATE].map(|sharing| of(backing, sharing)));
    // The document's example, and one byte to either side of a boundary.
    let offsets = [bytes(1000), bytes(1), pages(1) - 1];
    drawn("mappings of every kind with an offset off a page boundary", (any_mapping(), off_boundary(), besides))
        .also(mappings.flat_map(move |mapping| offsets.map(|off| (mapping, off, Besides::Nothing))))
}

fn offsets_of_pages() -> Gen<(Backing, Size, Size, Flags)> {
    let size = prop_oneof![4 => any_size(0, 20), 1 => any_size(0, 300)];
    let strategy = (file_backing(), size, 0.0..1.2_f64, any_sharing()).prop_map(|(backing, size, share, sharing)| {
        let offset = pages((share * size.in_pages() as f64) as usize);
        (backing, size, offset, sharing)
    });
    drawn("offsets of whole pages, in files and behind them", strategy)
}

fn multiples_of_4k() -> Gen<(Documented, Flags)> {
    let counts = each("multiples of 4 KiB", (1..=32).map(Documented));
    counts.and(each("both sharing types", [SHARED, PRIVATE]))
}

fn page_of_4k() -> Claim {
    claim("mmap.page-size-4k")
        .states("A page, the unit the MMU works in, has 4 KiB.")
        .documents([DAY8.at("note 4"), IPC.at("question 7"), MAPIO.at("notes")])
        .qualified(
            "It depends on machine and kernel: 4 KiB on x86-64, 4, 16 or 64 KiB on arm64, 4 or 64 KiB on POWER, and huge \
             pages beside it. Ask sysconf or AT_PAGESZ.",
        )
        .basis([
            posix("<limits.h>, {PAGESIZE}"),
            posix("mmap, DESCRIPTION, page size paragraph"),
            linux("sysconf(3), PAGESIZE"),
            linux("proc_pid_smaps(5), KernelPageSize"),
        ])
        .part("what the system says", each("the one case there is", [()]), |lab, ()| {
            let told = Calls::call(lab, Call::Library(Library::PageSize)).value()? as usize;
            lab.fact("the page size", format!("{} KiB", told >> 10));
            lab.must(told == page(), "sysconf(3) and AT_PAGESZ agree", || format!("{told} and {}", page()))?;
            let known = PAGE_SIZES.iter().find(|(machine, _)| *machine == std::env::consts::ARCH);
            let permitted = known.map_or(told.is_power_of_two(), |(_, sizes)| sizes.contains(&(told >> 10)));
            lab.must(permitted, "a page size of this machine", || format!("{told} bytes"))
        })
        .part("offsets", each("powers of two", (0..=20).map(|power| Power(1 << power))), |lab, Power(offset)| {
            let fd = lab.memfd(&Data::pattern(2, pages(1)))?;
            let args = request(1, READ, SHARED, fd).offset(offset);
            match offset % page() {
                0 => lab.mmap(args).must_succeed(),
                _ => lab.mmap(args).must_fail(EINVAL),
            }
        })
        .depends_on([Depends::Machine])
        .part("extent", drawn("mappings of one page at most, each in a hole", one_page()), |lab, (mapping, distance)| {
            let hole = Range { at: pages(8), len: pages(20) };
            lab.hole(hole.at, hole.len);
            let map = lab.map(mapping.prepare(lab)?.fixed(At::Arena(pages(10).get())))?;
            lab.load(map.start(), pages(1)).must_equal(&mapping.view())?;
            lab.load(map.at(pages(1) + distance), 1).must_be_unmapped(0)?;
            lab.load(map.start().minus(distance + 1), 1).must_be_unmapped(0)
        })
        .part("protection", drawn("one page of several, by any length up to a page", one_of_several()), |lab, of| {
            let (count, which, len, off) = of;
            let map = lab.map(anonymous(pages(count), READ_WRITE, PRIVATE))?;
            lab.mprotect(map.at(pages(which) + off), len, READ).must_fail(EINVAL)?;
            lab.mprotect(map.at(pages(which)), len, READ).must_succeed()?;
            let byte = Data::repeat(1, 1);
            for page in 0..count {
                for edge in [pages(page), pages(page + 1) - 1] {
                    let store = lab.store(map.at(edge), &byte);
                    if page == which { store.must_be_forbidden(0)? } else { store.must_succeed()? }
                }
            }
            Ok(())
        })
}

/// A power of two, in bytes and not in pages.
#[derive(Clone, Copy)]
struct Power(usize);

impl fmt::Debug for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// The page sizes that Linux can be built with, in KiB (arch/*/Kconfig); a machine that is not listed may have any power of two.
const PAGE_SIZES: &[(&str, &[usize])] = &[
    ("x86_64", &[4]),
    ("s390x", &[4]),
    ("riscv64", &[4]),
    ("aarch64", &[4, 16, 64]),
    ("powerpc64", &[4, 16, 64, 256]),
    ("loongarch64", &[4, 16, 64]),
];

fn one_page() -> BoxedStrategy<(Request, Size)> {
    (any_mapping(), any_size(1, 1), any_size(0, 1))
        .prop_map(|(mapping, len, distance)| {
            let size = mapping.offset + pages(1) + mapping.size;
            (Request { len: len.min(pages(1)), prot: READ, size, ..mapping }, distance)
        })
        .boxed()
}

fn one_of_several() -> BoxedStrategy<(usize, usize, Size, Size)> {
    (1_usize..8, 0_usize..8, any_size(1, 1), off_boundary())
        .prop_map(|(count, which, len, off)| (count, which % count, len.min(pages(1)), off))
        .boxed()
}

/// How a descriptor's own offset is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Seek(Size),
    SeekPastEnd(Size),
    Read(Size),
}

fn zero_is_start() -> Claim {
    let moved = prop_oneof![
        any_size(0, 20).prop_map(Move::Seek),
        any_size(0, 20).prop_map(Move::SeekPastEnd),
        any_size(1, 20).prop_map(Move::Read),
    ];
    let inputs = (any_window(20), file_backing(), any_sharing(), moved, prop::bool::ANY);
    claim("mmap.offset.zero-is-start")
        .states("With offset 0 the mapping shows the file from its beginning.")
        .documents([SHM.at("mmap, len"), IPC.at("mmap, offset"), WHAT.at("mmap, offset")])
        .holds()
        .basis([posix("mmap, DESCRIPTION, off"), linux("mmap(2), DESCRIPTION, offset")])
        .for_all(drawn("files, with the descriptor's own offset anywhere", inputs), |lab, input| {
            let (window, backing, sharing, moved, duplicated) = input;
            let opened = backing.open(lab, &window.file())?;
            let fd = if duplicated { lab.dup(opened)? } else { opened };
            let position = match moved {
                Move::Seek(to) => lab.lseek(fd, to.get() as i64, libc::SEEK_SET).value()?,
                Move::SeekPastEnd(by) => lab.lseek(fd, by.get() as i64, libc::SEEK_END).value()?,
                Move::Read(len) => {
                    lab.lseek(fd, 0, libc::SEEK_SET).must_return(0_u64)?;
                    let whole = Data::pattern(window.contents, len.min(window.size));
                    lab.read(fd, len).must_hold(&whole)?;
                    whole.len() as u64
                }
            };
            let map = lab.map(request(window.len, READ_WRITE, sharing, fd))?;
            let mut contents = window.file().to_vec();
            let mut view = contents.clone();
            view.resize(view.len().max(map.extent().get()), 0);
            lab.load(map.start(), map.extent()).must_equal(&view[..map.extent().get()])?;
            let byte = Data::repeat(1, 1);
            lab.store(map.at(window.len - 1), &byte).must_succeed()?;
            if sharing == SHARED {
                byte.fill(&mut contents[window.len.get() - 1..][..1]);
            }
            lab.pread(fd, window.size, 0).must_equal(&contents)?;
            lab.lseek(opened, 0, libc::SEEK_CUR).must_return(position)?;
            let rest = contents.get(position as usize..).unwrap_or_default();
            lab.read(fd, window.size).must_equal(rest)
        })
}

/// Two windows on one file, and edits in the first.
type TwoWindows = (Window, Window, Vec<Edit>);

fn window() -> Claim {
    claim("mmap.offset.window")
        .states(
            "The whole of a file can be mapped or a part of it: byte i of the mapping is byte offset + i of the file.",
        )
        .documents([DAY8.at("mmap, offset"), SHM.at("mmap, len")])
        .holds()
        .basis([posix("mmap, DESCRIPTION, off"), linux("mmap(2), DESCRIPTION, offset")])
        .for_all(files_and_edits(), |lab, (file, edits)| must_share(lab, &file, file.sharing, &edits))
        .part("large files", large_files(), |lab, (window, sharing)| {
            let (_, fd) = lab.new_file(&window.file())?;
            let map = lab.map(request(window.len, READ, sharing, fd).offset(window.offset))?;
            lab.load(map.start(), window.len).must_hold(&window.view())
        })
        .one_in(4)
        .part("two windows", two_windows(), |lab, (one, two, edits)| {
            let (_, fd) = lab.new_file(&one.file())?;
            let mut contents = one.file().to_vec();
            let first = lab.map(request(one.len, READ_WRITE, SHARED, fd).offset(one.offset))?;
            let second = lab.map(request(two.len, READ, SHARED, fd).offset(two.offset))?;
            let third = lab.map(request(two.len, READ, PRIVATE, fd).offset(two.offset))?;
            lab.load(second.start(), two.len).must_hold(&two.view())?;
            lab.load(third.start(), two.len).must_hold(&two.view())?;
            for edit in edits {
                lab.store(first.at(edit.at), &edit.data).must_succeed()?;
                edit.apply(&mut contents[one.offset.get()..]);
            }
            let view = |window: &Window| contents[window.offset.get()..][..window.len.get()].to_vec();
            lab.load(first.start(), one.len).must_equal(&view(&one))?;
            lab.load(second.start(), two.len).must_equal(&view(&two))?;
            lab.pread(fd, one.size, 0).must_equal(&contents)
        })
        .part("side by side", side_by_side(), |lab, windows| laid_in_order(lab, &windows))
        .one_in(4)
        .part("behind the end", behind_the_end(), |lab, (backing, size, further, len, sharing)| {
            let fd = backing.open(lab, &Data::pattern(2, size))?;
            let offset = size.round_up() + further;
            let map = lab.map(request(len, READ, sharing, fd).offset(offset))?;
            lab.load(map.start(), 1).must_be_beyond_the_file(0)?;
            lab.load(map.at(len - 1), 1).must_be_beyond_the_file(0)?;
            let data = Data::at(4, offset, len);
            lab.pwrite(fd, &data, offset).must_return(len.get() as u64)?;
            lab.load(map.start(), len).must_hold(&data)
        })
        .part("at each offset", each_number(), each_number::at_an_offset)
        .part("far into a sparse file", far_windows(), |lab, (backing, far, len, sharing)| {
            let (fd, offset) = (backing.open(lab, &Data::pattern(2, pages(2)))?, far.offset());
            let data = Data::at(4, offset, len);
            lab.pwrite(fd, &data, offset).must_return(len.get() as u64)?;
            let map = lab.map(request(len, READ_WRITE, sharing, fd).offset(offset))?;
            lab.load(map.start(), len).must_hold(&data)?;
            let edit = Data::at(1, offset, len);
            lab.store(map.start(), &edit).must_succeed()?;
            lab.pread(fd, len, offset).must_hold(if sharing == SHARED { &edit } else { &data })?;
            lab.pread(fd, pages(2), 0).must_hold(&Data::pattern(2, pages(2)))
        })
        .one_in(4)
}

fn large_files() -> Gen<(Window, Flags)> {
    let window = prop_oneof![3 => any_window(40), 1 => any_window(600)];
    // From the sixteenth page on, with a page behind.
    let middle = Window { size: pages(18), offset: pages(16), len: pages(1), contents: 2 };
    drawn("windows on files of up to 600 pages", (window, any_sharing())).also([(middle, SHARED)])
}

fn two_windows() -> Gen<TwoWindows> {
    let pair = (any_window(12), 0.0..1.0_f64, 0.0..1.0_f64).prop_map(|(one, from, share)| {
        let offset = pages((from * one.size.in_pages() as f64) as usize);
        let two = Window { offset, len: place_in(one.size - offset, share) + 1, ..one };
        (one, two)
    });
    drawn(
        "two windows on a file, and edits in the first",
        pair.prop_flat_map(|(one, two)| (Just(one), Just(two), edits_within(one.len, 4))),
    )
}

fn behind_the_end() -> Gen<(Backing, Size, Size, Size, Flags)> {
    let further = (0_usize..8).prop_map(pages);
    drawn(
        "windows on pages wholly behind the end of a file",
        (file_backing(), any_size(0, 8), further, any_size(1, 4), any_sharing()),
    )
}

/// An offset of 2^`power` pages and a few.
#[derive(Clone, Copy)]
struct Far {
    power: u32,
    further: usize,
}

impl Far {
    fn offset(self) -> Size {
        pages((1 << self.power) + self.further)
    }
}

impl fmt::Debug for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{}p", self.power)?;
        if self.further == 0 { Ok(()) } else { write!(f, "+{}p", self.further) }
    }
}

/// A file of the directory under test is not made that long, since not every file system has holes.
fn far_windows() -> Gen<(Backing, Far, Size, Flags)> {
    const LONG: u32 = 8;
    let power = prop_oneof![1 => 2..=LONG, 2 => 2..=40_u32];
    let strategy = (power, 0_usize..4, any_size(1, 3), file_backing(), any_sharing()).prop_map(
        |(power, further, len, backing, sharing)| {
            let backing = if power > LONG { Backing::Memfd } else { backing };
            (backing, Far { power, further }, len, sharing)
        },
    );
    let near = (Backing::File, Far { power: 7, further: 2 }, pages(1) + 1, SHARED);
    let far = (Backing::Memfd, Far { power: 32, further: 1 }, pages(1) + 1, SHARED);
    drawn("windows far into sparse files", strategy).also([near, far])
}
