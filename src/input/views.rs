//! One file seen by several: mappings in one process and in others, and what each does to the file.

use std::fmt;

use proptest::prelude::*;
use proptest::strategy::Union;

use super::{Backing, Edit, Gen, Window, drawn, edit_within, file_backing, windows_on_one_file};
use crate::kernel::page::Size;

/// Whose mapping it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The worker's own.
    Worker,
    /// The worker's first mapping, in a child forked after it was made.
    Heir,
    /// One that a child made for itself.
    Child,
    /// One that a program started by exec made for itself.
    Peer,
}

/// How bytes get into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Stored to the mapping; the edit is placed in the window.
    Store,
    /// pwrite(2); the edit is placed in the file.
    Pwrite,
    /// lseek(2) and write(2); the edit is placed in the file.
    Write,
}

/// One change, by one of those who see the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Deed {
    /// Whose, by index.
    pub eye: usize,
    /// By which means.
    pub how: How,
    /// What is put where.
    pub edit: Edit,
}

/// A file, who sees what of it, and what they do to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Views {
    /// What kind of file.
    pub backing: Backing,
    /// Who sees it, and how much; the first is the worker's.
    pub eyes: Vec<(Who, Window)>,
    /// What is done, in order.
    pub deeds: Vec<Deed>,
}

impl Views {
    /// The file's size, in bytes.
    pub fn size(&self) -> Size {
        self.eyes[0].1.size
    }

    /// Where in the file a change begins.
    pub fn place(&self, deed: &Deed) -> Size {
        match deed.how {
            How::Store => self.eyes[deed.eye].1.offset + deed.edit.at,
            How::Pwrite | How::Write => deed.edit.at,
        }
    }

    /// Whether this one changes the file.
    pub fn acts(&self, eye: usize) -> bool {
        self.deeds.iter().any(|deed| deed.eye == eye)
    }
}

impl fmt::Debug for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {:?} {:?}", self.eye + 1, self.how, self.edit)
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}:", self.backing, self.size())?;
        for (index, (who, window)) in self.eyes.iter().enumerate() {
            write!(f, " #{} {who:?} {} at {},", index + 1, window.len, window.offset)?;
        }
        write!(f, " {:?}", self.deeds)
    }
}

/// Files of up to `most` pages seen by the worker alone, through one to four windows.
pub fn views_of_one_process(most: usize, how: &[How]) -> Gen<Views> {
    let about = format!("files of up to {most} pages, one to four windows on them in one process, one to four changes");
    drawn(about, views(most, 1..=4, vec![Who::Worker], how.to_vec()))
}

/// Files of up to `most` pages seen by the worker and by one to three other processes, related and not.
pub fn views_of_several(most: usize, how: &[How]) -> Gen<Views> {
    let about = format!(
        "files of up to {most} pages, windows on them in two to four processes, related and not, one to four changes by any"
    );
    drawn(about, views(most, 2..=4, vec![Who::Heir, Who::Child, Who::Peer], how.to_vec()))
}

fn views(most: usize, count: std::ops::RangeInclusive<usize>, others: Vec<Who>, how: Vec<How>) -> BoxedStrategy<Views> {
    let windows = windows_on_one_file(most, *count.start(), *count.end());
    let who = prop::collection::vec(prop::sample::select(others), *count.end());
    (file_backing(), windows, who)
        .prop_map(|(backing, windows, who)| {
            let first = windows[0];
            let eyes = windows.into_iter().zip(who).enumerate().map(|(index, (window, who))| match who {
                _ if index == 0 => (Who::Worker, window),
                Who::Heir => (Who::Heir, first),
                // A file without a name cannot be opened by a stranger.
                Who::Peer if backing == Backing::Memfd => (Who::Child, window),
                who => (who, window),
            });
            Views { backing, eyes: eyes.collect(), deeds: Vec::new() }
        })
        .prop_flat_map(move |views| {
            let deeds = prop::collection::vec(any_deed(&views, &how), 1..=4);
            (Just(views), deeds).prop_map(|(views, deeds)| Views { deeds, ..views })
        })
        .boxed()
}

fn any_deed(views: &Views, how: &[How]) -> impl Strategy<Value = Deed> + use<> {
    let size = views.size();
    let deeds = views.eyes.iter().enumerate().flat_map(|(eye, (_, window))| {
        how.iter().map(move |how| {
            let how = *how;
            let room = if how == How::Store { window.reach() } else { size };
            edit_within(room).prop_map(move |edit| Deed { eye, how, edit }).boxed()
        })
    });
    Union::new(deeds)
}
