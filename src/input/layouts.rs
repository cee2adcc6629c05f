//! Stretches of addresses: mappings side by side with holes between them, and ranges that cut across them.

use proptest::prelude::*;

use super::{Backing, any_backing, any_sharing, content_seed, reach};
use crate::kernel::call::{At, Call, Fd};
use crate::kernel::data::Data;
use crate::kernel::names::{Flags, PRIVATE, READ_WRITE, SHARED};
use crate::kernel::page::{Size, page, pages};
use crate::lab::Lab;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// What some pages of a stretch are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Nothing is mapped there.
    Hole,
    /// A readable and writable mapping of this backing with this sharing type.
    Mapped(Backing, Flags),
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Piece::Hole => write!(f, "hole"),
            Piece::Mapped(backing, PRIVATE) => write!(f, "private {backing:?}"),
            Piece::Mapped(backing, _) => write!(f, "shared {backing:?}"),
        }
    }
}

/// A stretch of the arena to be laid out: so many pages of each piece, with a page or more of PROT_NONE on both sides.
#[derive(Clone, PartialEq, Eq)]
pub struct Layout {
    /// The page of the arena that the first piece begins at; not the first.
    pub first: usize,
    /// The pieces, in order.
    pub pieces: Vec<(usize, Piece)>,
    /// What the files hold at first: which pattern.
    pub contents: u32,
    /// So many bytes before the end of the last page the files end.
    pub short: usize,
    /// Whether every second page is stored to before anything else happens, or none is touched.
    pub stored: bool,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (count, piece)) in self.pieces.iter().enumerate() {
            write!(f, "{}{count}p {piece:?}", if index == 0 { "" } else { ", " })?;
        }
        write!(f, "{}", if self.stored { "; stored to" } else { "" })
    }
}

/// A range of a stretch: whole pages, the last of them named by a part of it only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Its first page; 0 is the page before the first piece.
    pub from: usize,
    /// The page after its last.
    pub to: usize,
    /// So many bytes before the end of its last page it ends.
    pub short: usize,
}

impl Cut {
    /// Its length in bytes.
    pub fn len(self) -> Size {
        pages(self.to - self.from) - self.short
    }
}

impl std::fmt::Debug for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {})", pages(self.from), pages(self.to) - self.short)
    }
}

/// How many bytes before a page boundary something ends: none, one, few, some.
pub fn any_short() -> BoxedStrategy<usize> {
    prop_oneof![3 => Just(0), 1 => Just(1), 2 => 1..reach()].boxed()
}

fn any_piece() -> BoxedStrategy<Piece> {
    let mapped = (any_backing(), any_sharing()).prop_map(|(backing, sharing)| Piece::Mapped(backing, sharing));
    prop_oneof![1 => Just(Piece::Hole), 4 => mapped].boxed()
}

/// Layouts of 1 to `most` pieces, one of them mapped at least; most are of few pages, some of a hundred.
pub fn any_layout(most: usize) -> BoxedStrategy<Layout> {
    let count = prop_oneof![40 => 1_usize..4, 20 => 4_usize..9, 1 => 30_usize..100];
    let pieces = prop::collection::vec((count, any_piece()), 1..=most);
    let first = prop_oneof![2 => 2_usize..6, 1 => 2_usize..520];
    (first, pieces, content_seed(), any_short(), any::<bool>())
        .prop_map(|(first, mut pieces, contents, short, stored)| {
            if pieces.iter().all(|(_, piece)| *piece == Piece::Hole) {
                pieces[0].1 = Piece::Mapped(Backing::Anonymous, PRIVATE);
            }
            Layout { first, pieces, contents, short, stored }
        })
        .boxed()
}

/// Ranges of a layout with the page before and the page behind it: all, from the beginning, to the end, one page, any.
pub fn any_cut(layout: &Layout) -> BoxedStrategy<Cut> {
    let all = layout.count() + 2;
    let ends = prop_oneof![
        1 => Just((1, all - 1)),
        1 => (2..=all).prop_map(|to| (1, to)),
        1 => (0..all - 1).prop_map(move |from| (from, all - 1)),
        2 => (0..all).prop_map(|from| (from, from + 1)),
        4 => (0..all, 0..all).prop_map(|(one, two)| (one.min(two), one.max(two) + 1)),
    ];
    (ends, any_short()).prop_map(|((from, to), short)| Cut { from, to, short }).boxed()
}

/// Layouts, each with some ranges of it.
pub fn layouts_and_cuts(pieces: usize, most: usize) -> BoxedStrategy<(Layout, Vec<Cut>)> {
    any_layout(pieces)
        .prop_flat_map(move |layout| {
            let cuts = prop::collection::vec(any_cut(&layout), 1..=most);
            (Just(layout), cuts)
        })
        .boxed()
}

/// What is to be found on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Page {
    Reserved,
    Hole,
    Bytes(Vec<u8>),
}

/// A layout as it was made, with a model of what every page of it and every byte of its files should be.
#[derive(Clone, Debug)]
pub struct Stretch {
    first: usize,
    address: usize,
    pages: Vec<Page>,
    files: Vec<(Backing, Fd, Vec<u8>)>,
}

impl Layout {
    /// How many pages its pieces have together.
    pub fn count(&self) -> usize {
        self.pieces.iter().map(|(count, _)| count).sum()
    }

    /// Makes it: page `i` of the stretch maps page `i` of a file, all files being of one size.
    ///
    /// # Errors
    /// A skip where the machine has not what it takes, such as a /dev/zero.
    pub fn lay(&self, lab: &Lab) -> Verdict<Stretch> {
        const MARGIN: usize = 4;
        let first = self.first.min(lab.arena_pages() - self.count() - MARGIN);
        let mut stretch = Stretch { first: first - 1, address: 0, pages: vec![Page::Reserved], files: Vec::new() };
        let contents = Data::pattern(self.contents, pages(self.count() + 1) - self.short);
        for (count, piece) in &self.pieces {
            let from = stretch.pages.len();
            let to = from + count;
            match *piece {
                Piece::Hole => {
                    lab.hole(pages(stretch.first + from), pages(*count));
                    stretch.pages.resize(to, Page::Hole);
                }
                Piece::Mapped(backing, sharing) => {
                    let fd = stretch.open(lab, backing, &contents)?;
                    let offset = if backing.is_file() { pages(from) } else { Size::ZERO };
                    let args = request(pages(*count), READ_WRITE, sharing | backing.flags(), fd);
                    let map = lab.map(args.offset(offset).fixed(stretch.at(from)))?;
                    stretch.address = map.address - from * page();
                    let held = |index| if backing.is_file() { page_of(&contents, index) } else { vec![0; page()] };
                    stretch.pages.extend((from..to).map(|index| Page::Bytes(held(index))));
                    if self.stored {
                        let file = (sharing == SHARED && backing.is_file()).then_some(backing);
                        (from..to)
                            .step_by(2)
                            .try_for_each(|index| stretch.store(lab, index, self.contents + 1, file))?;
                    }
                }
            }
        }
        stretch.pages.push(Page::Reserved);
        Ok(stretch)
    }
}

/// A page of a file, with zeros behind the file's end.
fn page_of(contents: &Data, index: usize) -> Vec<u8> {
    let from = index * page();
    let mut bytes = vec![0; page()];
    let len = contents.len().saturating_sub(from).min(page());
    if let Data::Pattern { seed, .. } = *contents {
        Data::at(seed, from, len).fill(&mut bytes[..len]);
    }
    bytes
}

impl Stretch {
    /// The address of a page; 0 is the page before the first piece.
    pub fn at(&self, index: usize) -> At {
        At::Arena((self.first + index) * page())
    }

    /// The same address as the process has it.
    pub fn address(&self, index: usize) -> usize {
        self.address + index * page()
    }

    /// How many pages it has, with the page before the first piece and the page behind the last.
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Whether anything is mapped on a page of it.
    pub fn is_mapped(&self, index: usize) -> bool {
        self.pages[index] != Page::Hole
    }

    /// Whether a range of it holds a page where nothing is mapped.
    pub fn has_hole(&self, cut: Cut) -> bool {
        self.pages[cut.from..cut.to].contains(&Page::Hole)
    }

    /// The model after the pages of a range have been unmapped.
    pub fn vacate(&mut self, cut: Cut) {
        self.pages[cut.from..cut.to].fill(Page::Hole);
    }

    /// The model after memory without a file has been mapped over a range.
    pub fn renew(&mut self, cut: Cut) {
        self.pages[cut.from..cut.to].fill(Page::Bytes(vec![0; page()]));
    }

    /// Stores to every page that is still mapped, and keeps the model up to date.
    ///
    /// # Errors
    /// A violation where that is not possible.
    pub fn store_to_what_is_left(&mut self, lab: &Lab, layout: &Layout) -> Verdict {
        let mut from = 1;
        for (count, piece) in &layout.pieces {
            if let Piece::Mapped(backing, sharing) = *piece {
                let file = (sharing == SHARED && backing.is_file()).then_some(backing);
                let left = (from..from + count).filter(|index| self.is_mapped(*index)).collect::<Vec<_>>();
                left.into_iter().try_for_each(|index| self.store(lab, index, layout.contents + 3, file))?;
            }
            from += count;
        }
        Ok(())
    }

    fn open(&mut self, lab: &Lab, backing: Backing, contents: &Data) -> Verdict<Fd> {
        if let Some((_, fd, _)) = self.files.iter().find(|file| file.0 == backing) {
            return Ok(*fd);
        }
        let fd = backing.open(lab, contents)?;
        if fd != crate::lab::verbs::NO_FD {
            let model = if backing.is_file() { contents.to_vec() } else { Vec::new() };
            self.files.push((backing, fd, model));
        }
        Ok(fd)
    }

    fn store(&mut self, lab: &Lab, index: usize, seed: u32, file: Option<Backing>) -> Verdict {
        let from = index * page();
        let mut data = Data::at(seed, from, page());
        if let Some((_, _, model)) = self.files.iter_mut().find(|entry| Some(entry.0) == file) {
            // What is stored beyond the end of a file stays only until the page is written back.
            data = Data::at(seed, from, (model.len() - from).min(page()));
            data.fill(&mut model[from..][..data.len()]);
        }
        lab.store(self.at(index), &data).prepared()?;
        if let Page::Bytes(held) = &mut self.pages[index] {
            data.fill(&mut held[..data.len()]);
        }
        Ok(())
    }

    /// Every page is as the model has it, one page on either side of the stretch too.
    ///
    /// # Errors
    /// A violation at the first that is not.
    pub fn must_be_as_modelled<'l>(&self, who: impl Calls<'l>) -> Verdict {
        who.place().0.in_a_word("every page as it should be", || self.look_at_all(who))
    }

    fn look_at_all<'l>(&self, who: impl Calls<'l>) -> Verdict {
        who.load(self.at(0).minus(1), 1).must_be_forbidden(0)?;
        for (index, held) in self.pages.iter().enumerate() {
            match held {
                Page::Reserved => who.load(self.at(index), 1).must_be_forbidden(0)?,
                // The first byte of a page or the last, whichever it be: a page is mapped or it is not.
                Page::Hole if index % 2 == 0 => who.load(self.at(index), 1).must_be_unmapped(0)?,
                Page::Hole => who.load(self.at(index + 1).minus(1), 1).must_be_unmapped(0)?,
                Page::Bytes(bytes) => who.load(self.at(index), page()).must_equal(bytes)?,
            }
        }
        who.load(self.at(self.pages.len()), 1).must_be_forbidden(0)
    }

    /// The files hold what was stored through shared mappings, and nothing else that was stored; /dev/zero holds nothing.
    ///
    /// # Errors
    /// A violation at the first that does not.
    pub fn files_must_be_as_modelled<'l>(&self, who: impl Calls<'l>) -> Verdict {
        for (backing, fd, model) in &self.files {
            if backing.is_file() {
                who.call(Call::Pread { fd: *fd, len: model.len() + 1, offset: Size::ZERO }).must_equal(model)?;
            }
        }
        Ok(())
    }
}
