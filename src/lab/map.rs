//! Mappings by name.

use crate::kernel::call::{At, MapId};
use crate::kernel::page::Size;

/// A mapping as a case speaks of it, the same in every process that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Its name.
    pub id: MapId,
    /// Where it began in the process that made it.
    pub address: usize,
    /// The length that was asked for, in bytes.
    pub len: Size,
}

impl Map {
    /// So many bytes from its first.
    pub fn at(self, distance: impl Into<Size>) -> At {
        At::Map(self.id, distance.into().get() as isize)
    }

    /// Its first byte.
    pub fn start(self) -> At {
        self.at(0)
    }

    /// The first byte beyond its last page.
    pub fn end(self) -> At {
        self.at(self.len.round_up())
    }

    /// Its whole pages, in bytes.
    pub fn extent(self) -> Size {
        self.len.round_up()
    }
}
