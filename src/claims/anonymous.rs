//! Memory without a file: what it takes to have it, and that it begins as zeros.

use libc::{EBADF, EINVAL};
use proptest::prelude::*;

use crate::claim::{Claim, DAY8, IPC, MAPIO, WHAT, claim, linux, posix, unspecified};
use crate::input::{
    Backing, Cut, Edit, Gen, Layout, Range, any_request, any_sharing, any_short, any_size, drawn, each, edit_within,
    edits_within, layouts_and_cuts, page_range, reach,
};
use crate::kernel::call::{ActorId, Call, Fd, MmapArgs};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ_WRITE, SHARED};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, NO_FD, anonymous, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![no_file(), zeroed(), map_anon_alias(), linux_only(), mapping_needs_file()]
}

/// What POSIX has on the flag since Issue 8.
const ISSUE_8: &str = "POSIX.1-2024 <sys/mman.h>, MAP_ANON and MAP_ANONYMOUS (Austin Group defect 850)";

fn no_file() -> Claim {
    claim("anon.no-file")
        .states("MAP_ANONYMOUS with descriptor -1 needs no file.")
        .documents([DAY8.at("anonymous"), IPC.at("anonymous"), MAPIO.at("anonymous"), WHAT.at("mmap, flags")])
        .holds()
        .basis([linux("mmap(2), MAP_ANONYMOUS"), posix(ISSUE_8)])
        .for_all(stored_memory(20), |lab, (len, sharing, edits)| {
            let map = lab.map(anonymous(len, READ_WRITE, sharing))?;
            must_work(lab, map, &edits)
        })
        .part(
            "any descriptor, any whole offset",
            stored_memory(6).and(ignored()),
            |lab, ((len, sharing, edits), given)| {
                let (descriptor, offset) = given;
                let file = Data::pattern(2, len);
                let fd = descriptor.open(lab, &file)?;
                let map = lab.map(anonymous(len, READ_WRITE, sharing).fd(fd).offset(offset))?;
                must_work(lab, map, &edits)?;
                match descriptor {
                    Given::File | Given::Memfd => lab.pread(fd, len + 1, 0).must_hold(&file),
                    _ => Ok(()),
                }
            },
        )
        .part("an unaligned offset", stored_memory(6).and(unaligned()), |lab, ((len, sharing, _), offset)| {
            let args = anonymous(len, READ_WRITE, sharing);
            lab.mmap(args.offset(offset)).must_fail(EINVAL)?;
            let map = lab.map(args.offset(offset.round_down()))?;
            must_work(lab, map, &[])
        })
}

/// Every byte is 0 at first, and afterwards what was stored there.
fn must_work(lab: &Lab, map: Map, edits: &[Edit]) -> Verdict {
    let mut model = vec![0; map.extent().get()];
    lab.load(map.start(), map.extent()).must_equal(&model)?;
    for edit in edits {
        lab.store(map.at(edit.at), &edit.data).must_succeed()?;
        edit.apply(&mut model);
    }
    lab.load(map.start(), map.extent()).must_equal(&model)
}

/// A length, a sharing type, and stores.
fn stored_memory(most: usize) -> Gen<(Size, Flags, Vec<Edit>)> {
    let strategy = (any_size(1, most), any_sharing())
        .prop_flat_map(|(len, sharing)| (Just(len), Just(sharing), edits_within(len, 3)));
    drawn(format!("lengths from one byte to {most} pages, both sharing types, stores"), strategy)
}

/// A descriptor that MAP_ANONYMOUS makes the kernel ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Number(i32),
    File,
    ReadOnly,
    Memfd,
    Pipe,
    Directory,
}

impl Given {
    fn open(self, lab: &Lab, contents: &Data) -> Verdict<Fd> {
        match self {
            Given::Number(number) => Ok(Fd::Number(number)),
            Given::File => Backing::File.open(lab, contents),
            Given::ReadOnly => lab.open(lab.file(contents)?, libc::O_RDONLY),
            Given::Memfd => Backing::Memfd.open(lab, contents),
            Given::Pipe => lab.pipe(0).map(|(read, _)| read),
            Given::Directory => lab.open_device("/", libc::O_RDONLY),
        }
    }
}

fn ignored() -> Gen<(Given, Size)> {
    // No process has so many descriptors: sysctl fs.nr_open ends below.
    const NEVER_OPEN: i32 = 1 << 30;
    let number = prop_oneof![Just(-1), Just(-2), Just(-100), Just(i32::MIN), NEVER_OPEN..=i32::MAX];
    let descriptor = prop_oneof![
        3 => number.prop_map(Given::Number),
        3 => prop::sample::select(vec![Given::File, Given::ReadOnly, Given::Memfd, Given::Pipe, Given::Directory]),
    ];
    drawn("descriptors, open and not; offsets of whole pages up to 2^64", (descriptor, whole_offset()))
}

fn whole_offset() -> BoxedStrategy<Size> {
    let from_the_end = (1_usize..5).prop_map(|count| Size::ZERO - pages(count));
    prop_oneof![2 => Just(Size::ZERO), 2 => (1_usize..600).prop_map(pages), 2 => from_the_end].boxed()
}

fn unaligned() -> Gen<Size> {
    let off = (1..reach(), any::<bool>()).prop_map(|(off, back)| if back { pages(1) - off } else { Size(off) });
    let strategy = ((0_usize..600).prop_map(pages), off).prop_map(|(whole, off)| whole + off);
    drawn("offsets that are no whole pages", strategy)
}

fn zeroed() -> Claim {
    claim("anon.zeroed")
        .states("Anonymous memory starts as zeros.")
        .documents([WHAT.at("mmap, flags, MAP_UNINITIALIZED row"), MAPIO.at("anonymous")])
        .holds()
        .basis([linux("mmap(2), MAP_ANONYMOUS"), posix(ISSUE_8)])
        .part("again and again", rounds(), |lab, Rounds { len, flags, looks, rounds }| {
            for edits in &rounds {
                let map = lab.map(anonymous(len, READ_WRITE, flags))?;
                let mut model = vec![0; map.extent().get()];
                if looks {
                    lab.load(map.start(), map.extent()).must_equal(&model)?;
                }
                for edit in edits {
                    lab.store(map.at(edit.at), &edit.data).must_succeed()?;
                    edit.apply(&mut model);
                }
                lab.load(map.start(), map.extent()).must_equal(&model)?;
                dirty_and_free(lab, map)?;
            }
            Ok(())
        })
        .part("hundreds of pages", large(), |lab, (len, sharing, edit)| {
            dirty_and_free(lab, lab.map(anonymous(len, READ_WRITE, sharing))?)?;
            let map = lab.map(anonymous(len, READ_WRITE, sharing))?;
            must_work(lab, map, &[edit])
        })
        .one_in(128)
        .part(
            "over what was mapped",
            stretches().and(each("sharing", [PRIVATE, SHARED])),
            |lab, ((layout, cuts), sharing)| {
                let mut stretch = layout.lay(lab)?;
                for cut in cuts {
                    let args = anonymous(cut.len(), READ_WRITE, sharing);
                    let map = lab.map(args.fixed(stretch.at(cut.from)))?;
                    stretch.renew(cut);
                    stretch.must_be_as_modelled(lab)?;
                    lab.load(map.start(), map.extent()).must_hold(&Data::zeros(map.extent()))?;
                }
                stretch.files_must_be_as_modelled(lab)
            },
        )
        .part("after MADV_DONTNEED", given_back(), |lab, (len, sharing, edits, range, short)| {
            let map = lab.map(anonymous(len, READ_WRITE, sharing))?;
            let mut model = vec![0; map.extent().get()];
            for edit in &edits {
                lab.store(map.at(edit.at), &edit.data).prepared()?;
                edit.apply(&mut model);
            }
            lab.madvise(map.at(range.at), range.len - short, libc::MADV_DONTNEED).must_return(0_u64)?;
            // Shared memory is kept for those that share it.
            if sharing == PRIVATE {
                model[range.at.get()..range.end().get()].fill(0);
            }
            lab.load(map.start(), map.extent()).must_equal(&model)
        })
        .part("where a mapping has grown", sizes(), |lab, sizes| {
            let mut map = lab.map(anonymous(sizes[0], READ_WRITE, PRIVATE))?;
            let mut model = Vec::new();
            for (round, size) in sizes.iter().enumerate() {
                if round > 0 {
                    map = lab.remap(map, *size)?;
                }
                model.resize(map.extent().get(), 0);
                lab.load(map.start(), map.extent()).must_equal(&model)?;
                let data = Data::pattern(2 * round as u32 + 1, map.extent());
                lab.store(map.start(), &data).prepared()?;
                data.fill(&mut model);
            }
            Ok(())
        })
        .part("after another process", stored_memory(20), |lab, (len, sharing, edits)| {
            let child = lab.fork()?;
            let dirty = child.map(anonymous(len, READ_WRITE, sharing))?;
            child.store(dirty.start(), &Data::pattern(1, dirty.extent())).prepared()?;
            child.kill()?;
            let map = lab.map(anonymous(len, READ_WRITE, sharing))?;
            must_work(lab, map, &edits)
        })
        .one_in(16)
}

/// Fills every page and gives them back: the next to get them must not see it.
fn dirty_and_free(lab: &Lab, map: Map) -> Verdict {
    lab.store(map.start(), &Data::pattern(1, map.extent())).prepared()?;
    lab.unmap(map)
}

/// Memory that is mapped, stored to and unmapped, several times over.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rounds {
    len: Size,
    flags: Flags,
    /// Whether the first access to every page is a load.
    looks: bool,
    rounds: Vec<Vec<Edit>>,
}

fn rounds() -> Gen<Rounds> {
    let besides = prop::sample::select(vec![0, 0, libc::MAP_POPULATE, libc::MAP_NORESERVE, libc::MAP_STACK]);
    let strategy =
        (any_size(1, 30), any_sharing(), besides, any::<bool>()).prop_flat_map(|(len, sharing, besides, looks)| {
            let flags = sharing | Flags(besides as u32);
            prop::collection::vec(edits_within(len, 2), 1..=3).prop_map(move |rounds| Rounds {
                len,
                flags,
                looks,
                rounds,
            })
        });
    drawn("lengths from one byte to 30 pages, mapped, stored to, filled and unmapped up to three times", strategy)
}

fn large() -> Gen<(Size, Flags, Edit)> {
    let strategy = (400_usize..600, any_sharing())
        .prop_flat_map(|(count, sharing)| (Just(pages(count)), Just(sharing), edit_within(pages(count))));
    drawn("lengths of 400 to 600 pages, both sharing types, a store", strategy)
}

fn stretches() -> Gen<(Layout, Vec<Cut>)> {
    drawn("mappings and holes side by side, and page ranges that cut across them", layouts_and_cuts(4, 2))
}

/// Memory, stores, and a range of its pages that is given back, the end of it so many bytes before the end of a page.
fn given_back() -> Gen<(Size, Flags, Vec<Edit>, Range, usize)> {
    let strategy = (any_size(1, 30), any_sharing()).prop_flat_map(|(len, sharing)| {
        (Just(len), Just(sharing), edits_within(len, 4), page_range(len.in_pages()), any_short())
    });
    drawn("memory of up to 30 pages, stores, and a range of pages", strategy)
}

fn sizes() -> Gen<Vec<Size>> {
    drawn("two to four sizes, each up to 30 pages", prop::collection::vec(any_size(1, 30), 2..=4))
}

fn map_anon_alias() -> Claim {
    claim("anon.map-anon-alias")
        .states("MAP_ANON is the same flag as MAP_ANONYMOUS.")
        .documents([DAY8.at("anonymous")])
        .holds()
        .basis([linux("mmap(2), MAP_ANON"), posix(ISSUE_8)])
        .for_all(stored_memory(12), |lab, (len, sharing, edits)| {
            let alias = Flags(libc::MAP_ANON as u32);
            let map = lab.map(request(len, READ_WRITE, sharing | alias, NO_FD))?;
            lab.must(libc::MAP_ANON == libc::MAP_ANONYMOUS, "MAP_ANON is MAP_ANONYMOUS", || format!("{alias:?}"))?;
            must_work(lab, map, &edits)
        })
}

fn linux_only() -> Claim {
    claim("anon.linux-only")
        .states("MAP_ANONYMOUS and MAP_ANON exist on Linux and nowhere else.")
        .documents([DAY8.at("anonymous")])
        .unobservable(
            "A program on Linux sees no other system. It is wrong all the same: the BSDs, macOS, Solaris and AIX have one or \
             the other, and POSIX.1-2024 has both.",
        )
        .basis([linux("mmap(2), The flags argument, last paragraph"), posix(ISSUE_8)])
}

fn mapping_needs_file() -> Claim {
    claim("anon.mapping-needs-file")
        .states("A mapping always rests on a file.")
        .documents([DAY8.at("anonymous")])
        .refuted("MAP_ANONYMOUS needs none; /dev/zero and memfd need no name on a disk either.")
        .basis([linux("mmap(2), MAP_ANONYMOUS"), posix(ISSUE_8), unspecified("mmap, DESCRIPTION, memory objects")])
        .part("without the flag it does", any_request(), |lab, request| {
            let args = request.prepare(lab)?;
            let without = Flags(args.flags.0 & !libc::MAP_ANONYMOUS as u32);
            for number in [-1, -100, i32::MIN] {
                let args = MmapArgs { flags: without, ..args };
                lab.mmap(args.fd(Fd::Number(number))).must_fail(EBADF)?;
            }
            lab.map(args).map(|_| ())
        })
        .part("without a file", stored_memory(20), |lab, (len, sharing, edits)| {
            let map = lab.map(anonymous(len, READ_WRITE, sharing))?;
            must_work(lab, map, &edits)?;
            lab.munmap(map.start(), map.len).must_return(0_u64)
        })
        .part("without a file of a name", stored_memory(20).and(nameless()), |lab, ((len, sharing, edits), backing)| {
            let fd = backing.open(lab, &Data::zeros(len))?;
            if backing == Backing::Memfd {
                let links = lab.call(ActorId(0), Call::Fstat { fd }).stat()?.links;
                lab.must(links == 0, "the file has no name", || format!("{links} names"))?;
            }
            let map = lab.map(request(len, READ_WRITE, sharing, fd))?;
            lab.close(fd).must_return(0_u64)?;
            must_work(lab, map, &edits)
        })
}

fn nameless() -> Gen<Backing> {
    each("a file without a name, and a device", [Backing::Memfd, Backing::DevZero])
}
