//! Mappings to ask for: backings, rights, sharing types, windows on files.

use proptest::prelude::*;

use super::{Gen, any_size, content_seed, drawn};
use crate::kernel::call::{Fd, MmapArgs};
use crate::kernel::data::Data;
use crate::kernel::names::{ANONYMOUS, EXEC, Flags, PRIVATE, Prot, READ, SHARED, WRITE};
use crate::kernel::page::{Size, pages};
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, NO_FD, request};
use crate::lab::{Lab, Map};

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backing {
    /// A file in the directory under test.
    File,
    /// A file without a name (memfd_create(2)).
    Memfd,
    /// /dev/zero.
    DevZero,
    /// No file at all (MAP_ANONYMOUS).
    Anonymous,
}

impl Backing {
    /// Whether it is a file with a size and contents of its own.
    pub fn is_file(self) -> bool {
        matches!(self, Backing::File | Backing::Memfd)
    }

    /// Its descriptor, open for reading and writing, with these contents if it can have any; -1 for none.
    ///
    /// # Errors
    /// A skip where the machine has no such backing.
    pub fn open<'l>(self, who: impl Calls<'l>, contents: &Data) -> Verdict<Fd> {
        match self {
            Backing::File => who.new_file(contents).map(|(_, fd)| fd),
            Backing::Memfd => who.memfd(contents),
            Backing::DevZero => who.open_device("/dev/zero", libc::O_RDWR),
            Backing::Anonymous => Ok(NO_FD),
        }
    }

    /// The flag that it needs besides a sharing type.
    pub fn flags(self) -> Flags {
        if self == Backing::Anonymous { ANONYMOUS } else { Flags::default() }
    }
}

/// Every backing.
pub const BACKINGS: [Backing; 4] = [Backing::File, Backing::Memfd, Backing::DevZero, Backing::Anonymous];

/// Every backing.
pub fn any_backing() -> BoxedStrategy<Backing> {
    prop::sample::select(BACKINGS.to_vec()).boxed()
}

/// Backings with a size and contents.
pub fn file_backing() -> BoxedStrategy<Backing> {
    prop_oneof![2 => Just(Backing::File), 1 => Just(Backing::Memfd)].boxed()
}

/// Any of the eight combinations of rights.
pub fn any_prot() -> BoxedStrategy<Prot> {
    prop::sample::select(all_prots()).boxed()
}

/// The eight combinations of rights, in order.
pub fn all_prots() -> Vec<Prot> {
    (0..8)
        .map(|bits: u32| {
            let right = |bit: u32, prot: Prot| if bits & bit != 0 { prot } else { Prot(0) };
            right(1, READ) | right(2, WRITE) | right(4, EXEC)
        })
        .collect()
}

/// MAP_SHARED or MAP_PRIVATE.
pub fn any_sharing() -> BoxedStrategy<Flags> {
    prop_oneof![Just(SHARED), Just(PRIVATE)].boxed()
}

/// A mapping to ask for that a kernel grants, unless a claim changes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What is mapped.
    pub backing: Backing,
    /// Its contents, if it has any: which pattern.
    pub contents: u32,
    /// Its size, if it has one, in bytes.
    pub size: Size,
    /// length.
    pub len: Size,
    /// prot.
    pub prot: Prot,
    /// The sharing type.
    pub sharing: Flags,
    /// offset, whole pages.
    pub offset: Size,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Request { backing, size, len, prot, sharing, offset, .. } = self;
        match backing.is_file() {
            true => write!(f, "{backing:?} of {size}: {len} at {offset}, {prot:?}, {sharing:?}"),
            false => write!(f, "{backing:?}: {len} at {offset}, {prot:?}, {sharing:?}"),
        }
    }
}

impl Request {
    /// A shared mapping of so many bytes of a file's pages from the second on, to be read and written.
    pub fn of_length(len: Size) -> Request {
        let size = pages(1) + len.round_up();
        Request {
            backing: Backing::Memfd,
            contents: 2,
            size,
            len,
            prot: READ | WRITE,
            sharing: SHARED,
            offset: pages(1),
        }
    }

    /// Opens the backing and puts together mmap's arguments.
    ///
    /// # Errors
    /// A skip where the machine has no such backing.
    pub fn prepare(&self, lab: &Lab) -> Verdict<MmapArgs> {
        let fd = self.backing.open(lab, &Data::pattern(self.contents, self.size))?;
        Ok(request(self.len, self.prot, self.sharing | self.backing.flags(), fd).offset(self.offset))
    }
}

impl Request {
    /// The same of another backing, less what no kernel has to grant: executable mappings are refused on a noexec mount, as /dev may be.
    pub fn of(self, backing: Backing) -> Request {
        let mounted = matches!(backing, Backing::File | Backing::DevZero);
        let prot = if mounted { Prot(self.prot.0 & !EXEC.0) } else { self.prot };
        Request { backing, prot, ..self }
    }

    /// What is stored through its mapping is in its file if that is shared, and only then; nothing is asked where there is no file.
    ///
    /// # Errors
    /// A violation where it is otherwise.
    pub fn must_share_with(&self, lab: &Lab, map: Map, fd: Fd) -> Verdict {
        let view = self.view();
        if !self.backing.is_file() || view.is_empty() {
            return Ok(());
        }
        lab.mprotect(map.start(), map.len, READ | WRITE).must_succeed()?;
        for at in [Size::ZERO, Size(view.len() - 1).round_down()] {
            let (stored, place) = (Data::repeat(1, 1), self.offset + at);
            lab.store(map.at(at), &stored).must_succeed()?;
            let there = if self.sharing.is_shared() { stored } else { Data::at(self.contents, place, 1) };
            lab.pread(fd, 1, place).must_hold(&there)?;
        }
        Ok(())
    }

    /// The bytes that loads find at first, as far as there is something behind the pages: zeros fill a file's last page.
    pub fn view(&self) -> Vec<u8> {
        let extent = self.len.round_up();
        if !self.backing.is_file() {
            return vec![0; extent.get()];
        }
        let mut view = Data::at(self.contents, self.offset, self.size.less(self.offset)).to_vec();
        view.resize(self.size.round_up().less(self.offset).min(extent).get(), 0);
        view
    }
}

/// Any mapping that a kernel with memory for it grants.
pub fn any_request() -> Gen<Request> {
    drawn("mappings of every backing, length, protection, sharing type and page offset", any_mapping())
}

/// Any mapping that a kernel with memory for it grants.
pub fn any_mapping() -> BoxedStrategy<Request> {
    let parts = (any_backing(), content_seed(), any_size(0, 6), any_size(1, 6), any_prot(), any_sharing(), 0_usize..4);
    parts
        .prop_map(|(backing, contents, size, len, prot, sharing, offset)| {
            // A shared mapping of /dev/zero ends early at an offset; that has a claim of its own.
            let offset = if backing == Backing::DevZero { Size::ZERO } else { pages(offset) };
            Request { backing, contents, size, len, prot, sharing, offset }.of(backing)
        })
        .boxed()
}

/// A window on a file: byte `i` of the mapping is byte `offset + i` of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The file's size, in bytes.
    pub size: Size,
    /// Where the window begins, whole pages, inside the file.
    pub offset: Size,
    /// Its length, in bytes; it ends with the file or before.
    pub len: Size,
    /// The file's contents: which pattern.
    pub contents: u32,
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} of {}", self.len, self.offset, self.size)
    }
}

impl Window {
    /// The bytes of the whole file.
    pub fn file(&self) -> Data {
        Data::pattern(self.contents, self.size)
    }

    /// How much of the file the mapping reaches: its whole pages, up to the end of the file.
    pub fn reach(&self) -> Size {
        self.len.round_up().min(self.size - self.offset)
    }

    /// The bytes that the window shows at first.
    pub fn view(&self) -> Data {
        Data::at(self.contents, self.offset, self.len)
    }
}

/// A window's first page, as a part of the file's pages, and how many bytes of the rest it shows; `None` for all of them.
type Opening = (f64, Option<Size>);

fn opening(most: usize) -> BoxedStrategy<Opening> {
    let first = prop_oneof![2 => Just(0.0), 3 => 0.0..1.0_f64];
    (first, prop_oneof![1 => Just(None), 1 => any_size(1, most).prop_map(Some)]).boxed()
}

fn window(size: Size, (start, len): Opening, contents: u32) -> Window {
    let count = size.in_pages();
    let offset = pages(((start * count as f64) as usize).min(count - 1));
    let rest = size - offset;
    Window { size, offset, len: len.map_or(rest, |len| len.min(rest)), contents }
}

/// Windows on files of 1 byte to `most` pages: all of it, its beginning, its end, any part.
pub fn any_window(most: usize) -> BoxedStrategy<Window> {
    (any_size(1, most), opening(most), content_seed())
        .prop_map(|(size, opening, contents)| window(size, opening, contents))
        .boxed()
}

/// Some windows on one file, at least `least` of them.
pub fn windows_on_one_file(pages: usize, least: usize, most: usize) -> BoxedStrategy<Vec<Window>> {
    (any_size(1, pages), prop::collection::vec(opening(pages), least..=most), content_seed())
        .prop_map(|(size, openings, contents)| {
            openings.into_iter().map(|opening| window(size, opening, contents)).collect()
        })
        .boxed()
}

/// Windows on files.
pub fn windows(most: usize) -> Gen<Window> {
    drawn(
        format!("windows on files of one byte to {most} pages: all of it, its beginning, its end, any part"),
        any_window(most),
    )
}
