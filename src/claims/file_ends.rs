//! Pages of a mapping that lie beyond the end of the file, and pages that a full file system has no room for.

use proptest::prelude::*;

use crate::claim::{Claim, DAY8, Depends, claim, linux, posix};
use crate::input::patchwork::beyond_the_file;
use crate::input::{Backing, Gen, Window, any_sharing, any_size, any_window, drawn, file_backing, reach};
use crate::kernel::call::Call;
use crate::kernel::data::Data;
use crate::kernel::machine;
use crate::kernel::names::{Flags, PRIVATE, READ_WRITE, SHARED};
use crate::kernel::page::{Size, page, pages};
use crate::lab::expect::Expect;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};
use crate::lab::{Lab, Map};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![beyond_file()]
}

fn beyond_file() -> Claim {
    claim("fault.beyond-end-of-file")
        .states("A bus error is the answer of pages of a file mapping that lie wholly beyond the end of the file.")
        .documents([DAY8.at("note 3")])
        .holds()
        .basis([
            posix("mmap, DESCRIPTION, end of an object; SIGBUS"),
            posix("ftruncate, DESCRIPTION, decrease"),
            linux("mmap(2), Signals, SIGBUS"),
        ])
        .part("a mapping longer than the file", overlong(), past_the_end)
        .depends_on([Depends::FileSystem])
        .part("a file that shrinks and grows", resized(), past_an_end_that_moves)
        .depends_on([Depends::FileSystem])
        .part("a file that open empties", emptied(), nothing_is_left_of_it)
        .depends_on([Depends::FileSystem])
        .one_in(8)
        .part("a full file system, inside the file", drawn("sizes of a file system and a file", full()), no_space_left)
        .one_in(64)
}

/// A window that reaches beyond the end of its file.
#[derive(Clone, Copy)]
struct Overlong {
    backing: Backing,
    sharing: Flags,
    /// The file, in bytes.
    size: Size,
    /// Where the window begins: at most a page behind the end of the file.
    offset: Size,
    len: Size,
    /// The place in each page that is accessed.
    place: Size,
    /// Whether the pages inside the file are loaded before those beyond it.
    ahead: bool,
}

impl std::fmt::Debug for Overlong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Overlong { backing, sharing, size, offset, len, .. } = self;
        write!(f, "{len} at {offset} of {backing:?} {size}, {sharing:?}")
    }
}

fn overlong() -> Gen<Overlong> {
    let place = prop_oneof![1 => Just(0), 1 => 0..reach(), 1 => Just(page() - 1)];
    let strategy = (
        file_backing(),
        any_sharing(),
        any_size(0, 12),
        any::<prop::sample::Index>(),
        any_size(1, 12),
        place,
        any::<bool>(),
    )
        .prop_map(|(backing, sharing, size, first, len, place, ahead)| {
            let offset = pages(first.index(size.in_pages() + 2));
            Overlong { backing, sharing, size, offset, len, place: Size(place), ahead }
        });
    let empty = Overlong {
        backing: Backing::File,
        sharing: PRIVATE,
        size: Size(0),
        offset: Size(0),
        len: pages(1),
        place: Size(0),
        ahead: false,
    };
    drawn("windows that reach beyond the end of their file, or lie beyond it", strategy).also([
        empty,
        Overlong { sharing: SHARED, ..empty },
        Overlong { size: Size(1), len: pages(3), ..empty },
        Overlong { size: pages(1), len: pages(2), sharing: SHARED, ..empty },
    ])
}

impl Overlong {
    fn data(&self) -> Data {
        Data::pattern(2, self.size)
    }

    fn is_in_huge_pages(&self) -> bool {
        match self.backing {
            Backing::Memfd => machine::memfd_in_huge_pages(),
            _ => machine::directory_in_huge_pages(),
        }
    }

    /// What an access to a page beyond the end may come to: SIGBUS, but where huge pages hold the file, the end is theirs.
    fn beyond(&self, zero: Expect) -> Expect {
        if self.is_in_huge_pages() { Expect::AnyOf(vec![beyond_the_file(), zero]) } else { beyond_the_file() }
    }

    /// Loads and stores in every page of the mapping: those that hold a byte of the file work, the others are SIGBUS.
    fn must_end_with(&self, lab: &Lab, map: Map, size: Size, seen: &mut [u8]) -> Verdict {
        let count = map.len.in_pages();
        for number in 0..count {
            let at = pages(number) + self.place;
            let inside = self.offset + pages(number) < size;
            let byte = Data::repeat(number as u8 | 1, 1);
            let value = if inside { seen[at.get()] } else { 0 };
            let loads = if inside { Expect::Bytes(vec![value]) } else { self.beyond(Expect::Bytes(vec![value])) };
            let stores = if inside { Expect::Success } else { self.beyond(Expect::Success) };
            if self.ahead {
                lab.load(map.at(at), 1).checked(&loads)?;
                lab.store(map.at(at), &byte).checked(&stores)?;
            } else {
                lab.store(map.at(at), &byte).checked(&stores)?;
            }
            if inside {
                byte.fill(&mut seen[at.get()..=at.get()]);
                lab.load(map.at(at), 1).checked(&Expect::Bytes(byte.to_vec()))?;
            }
        }
        lab.must(
            true,
            "pages with a byte of the file work, and those wholly beyond it are SIGBUS BUS_ADRERR",
            String::new,
        )
    }
}

fn past_the_end(lab: &Lab, window: Overlong) -> Verdict {
    let data = window.data();
    let fd = window.backing.open(lab, &data)?;
    let map = lab.map(request(window.len, READ_WRITE, window.sharing, fd).offset(window.offset))?;
    let mut seen = window_of(&data, window.offset, map.extent());
    window.must_end_with(lab, map, window.size, &mut seen)?;
    // The file has kept its size, and got nothing from beyond its end.
    let mut file = data.to_vec();
    if window.sharing.is_shared() {
        let end = window.size.less(window.offset).get().min(seen.len());
        if end > 0 {
            file[window.offset.get()..][..end].copy_from_slice(&seen[..end]);
        }
    }
    lab.pread(fd, file.len() + page(), 0).must_equal(&file)
}

/// The bytes of a file from an offset on, with zeros behind its end.
fn window_of(data: &Data, offset: Size, extent: Size) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize((offset + extent).get().max(bytes.len()), 0);
    bytes[offset.get()..][..extent.get()].to_vec()
}

fn resized() -> Gen<(Overlong, Size)> {
    overlong().and(drawn("a further size of the file", any_size(0, 12)))
}

/// The end moves with the file: what was cut off is SIGBUS, private copies too; what grows again is zero.
fn past_an_end_that_moves(lab: &Lab, (window, smaller): (Overlong, Size)) -> Verdict {
    let data = window.data();
    let fd = window.backing.open(lab, &data)?;
    let map = lab.map(request(window.len, READ_WRITE, window.sharing, fd).offset(window.offset))?;
    let inside = window.size.less(window.offset).get().min(map.len.get());
    // Some private pages are copies, and some shared ones are dirty, when the file shrinks.
    lab.store(map.start(), &Data::pattern(1, inside)).must_succeed()?;
    let smaller = Size(smaller.get().min(window.size.get()));
    lab.ftruncate(fd, smaller).prepared()?;
    let mut seen = Data::pattern(1, inside).to_vec();
    seen.resize(map.extent().get(), 0);
    // Bytes of the last page behind the new end: zero in the file, left open in a private copy.
    let shrunk = Overlong { place: Size(0), ..window };
    shrunk.must_end_with(lab, map, smaller, &mut seen)?;
    if window.is_in_huge_pages() {
        // Stores beyond the end may have been taken, and come back.
        return Ok(());
    }
    lab.ftruncate(fd, window.size).prepared()?;
    for number in smaller.in_pages()..window.size.in_pages() {
        if let Some(at) = pages(number).get().checked_sub(window.offset.get())
            && at < map.extent().get()
        {
            lab.load(map.at(at), page()).checked(&Expect::Bytes(vec![0; page()]))?;
        }
    }
    lab.must(true, "what was cut off comes back as zeros", String::new)
}

fn emptied() -> Gen<(Window, Flags)> {
    drawn("windows on files, shared and private", (any_window(12), any_sharing()))
}

/// O_TRUNC takes every page away, from mappings too.
fn nothing_is_left_of_it(lab: &Lab, (window, sharing): (Window, Flags)) -> Verdict {
    let (path, fd) = lab.new_file(&window.file())?;
    let map = lab.map(request(window.len, READ_WRITE, sharing, fd).offset(window.offset))?;
    lab.store(map.start(), &Data::pattern(1, 1)).must_succeed()?;
    lab.open(path, libc::O_WRONLY | libc::O_TRUNC)?;
    lab.pread(fd, 1, 0).must_equal(&[])?;
    if machine::directory_in_huge_pages() {
        return Ok(());
    }
    for number in 0..map.len.in_pages() {
        lab.load(map.at(pages(number)), 1).checked(&beyond_the_file())?;
    }
    lab.must(true, "no page of it is left", String::new)
}

fn full() -> BoxedStrategy<(usize, usize, bool)> {
    (1..6_usize, 1..6_usize, any::<bool>()).prop_map(|(room, more, backwards)| (room, room + more, backwards)).boxed()
}

/// Of a sparse file on a full file system as many pages can be had as there is room for; the others are SIGBUS.
fn no_space_left(lab: &Lab, (room, count, backwards): (usize, usize, bool)) -> Verdict {
    let child = lab.fork()?;
    let options = format!("mode=0700,huge=never,nr_blocks={room}");
    child.call(Call::Tmpfs { options, noexec: false }).prepared()?;
    let path = lab.new_path();
    let fd = child.open(path, libc::O_RDWR | libc::O_CREAT)?;
    child.ftruncate(fd, pages(count)).prepared()?;
    let map = child.map(request(pages(count), READ_WRITE, SHARED, fd))?;
    let number = |index: usize| if backwards { count - 1 - index } else { index };
    for index in 0..count {
        let answer = child.store(map.at(pages(number(index))), &Data::repeat(index as u8 + 1, 1));
        answer.checked(&if index < room { Expect::Success } else { beyond_the_file() })?;
    }
    for index in 0..room {
        child.load(map.at(pages(number(index))), 1).checked(&Expect::Bytes(vec![index as u8 + 1]))?;
    }
    lab.must(true, "as many pages as there is room for can be stored to, the others are SIGBUS", String::new)
}
