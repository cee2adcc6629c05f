//! Several processes that each map a window of their own on one file, and store to it in turns.

use std::fmt;

use proptest::prelude::*;

use super::{Edit, Window, edit_within, windows_on_one_file};
use crate::kernel::data::Data;
use crate::kernel::page::{Size, pages};
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;
use crate::lab::{Lab, Map};

/// One file, a window for each process, and stores: by whom, and where in the window.
#[derive(Clone, PartialEq, Eq)]
pub struct Meeting {
    /// The windows, one for each process.
    pub windows: Vec<Window>,
    /// The stores, in order.
    pub stores: Vec<(usize, Edit)>,
}

impl fmt::Debug for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file of {}:", self.windows[0].size)?;
        for (index, window) in self.windows.iter().enumerate() {
            write!(f, " #{} maps {} at {},", index + 1, window.len, window.offset)?;
        }
        for (who, edit) in &self.stores {
            write!(f, " #{} stores {edit:?}", who + 1)?;
        }
        Ok(())
    }
}

/// Meetings of so many processes over files of up to `most` pages.
pub fn any_meeting(most: usize, processes: usize) -> BoxedStrategy<Meeting> {
    windows_on_one_file(most, processes, processes)
        .prop_flat_map(|windows| {
            let rooms: Vec<Size> = windows.iter().map(Window::reach).collect();
            let store = (0..windows.len()).prop_flat_map(move |who| (Just(who), edit_within(rooms[who])));
            (Just(windows), prop::collection::vec(store, 1..5))
        })
        .prop_map(|(windows, stores)| Meeting { windows, stores })
        .boxed()
}

impl Meeting {
    /// Three processes that map all of a file of so many pages, and store near its beginning, in its middle and to its end.
    pub fn of_pages(count: usize) -> Meeting {
        let window = Window { size: pages(count), offset: Size::ZERO, len: pages(count), contents: 2 };
        let places = [pages(count / 5), pages(count / 2) - 1, pages(count) - 2];
        let store = |(who, at)| (who, Edit { at, data: Data::at(3 + who as u32, at, 2) });
        Meeting { windows: vec![window; 3], stores: places.into_iter().enumerate().map(store).collect() }
    }

    /// The file's size, in bytes.
    pub fn size(&self) -> Size {
        self.windows[0].size
    }

    /// Stores in turns, through the mappings that the processes have of their windows; after each store all of them load all of theirs.
    /// Gives back what the file should hold then; `reaches` says whose stores are for all, others remain with their maker.
    ///
    /// # Errors
    /// A violation where a process does not see what it should.
    pub fn hold(&self, lab: &Lab, seats: &[(Actor<'_>, Map)], reaches: impl Fn(usize) -> bool) -> Verdict<Vec<u8>> {
        let mut file = self.windows[0].file().to_vec();
        let mut own: Vec<Option<Vec<u8>>> = vec![None; seats.len()];
        for (who, edit) in &self.stores {
            let (actor, map) = seats[*who];
            let at = (self.windows[*who].offset + edit.at).get();
            actor.store(map.at(edit.at), &edit.data).prepared()?;
            let contents = match reaches(*who) {
                true => &mut file,
                false => own[*who].get_or_insert_with(|| file.clone()),
            };
            edit.data.fill(&mut contents[at..at + edit.data.len()]);
            for (index, (window, (actor, map))) in self.windows.iter().zip(seats).enumerate() {
                let from = window.offset.get();
                let len = window.reach().get();
                let seen = own[index].as_ref().unwrap_or(&file);
                actor.load(map.start(), len).must_equal(&seen[from..from + len])?;
            }
        }
        lab.must(true, "every process sees what it should", String::new)?;
        Ok(file)
    }
}
