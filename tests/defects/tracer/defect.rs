//! A defect as data: what the kernel should do, what this one does, and which claims should notice.

use crate::tracer::behaviour::Behaviour;

/// What a defect is about; one file of the table each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    Arguments,
    Placement,
    Permissions,
    Sharing,
    Anonymous,
    Files,
    Faults,
    Unmap,
    Msync,
    Flags,
    Fork,
    Descriptors,
    Pipes,
    Fifos,
}

/// One deviation of a kernel.
pub struct Defect {
    /// Its name, on the command line and in reports.
    pub name: &'static str,
    /// What the kernel should do.
    pub correct: &'static str,
    /// What this one does.
    pub wrong: &'static str,
    /// Whether only some lengths, offsets, pages, children, counts or orders show it.
    pub subtle: bool,
    /// Claims expected to be among those that fail.
    pub claims: &'static [&'static str],
    /// A new kernel with the defect.
    pub make: fn() -> Box<dyn Behaviour>,
}

/// A defect that shows at once.
pub const PLAIN: bool = false;
/// A defect that shows only for some inputs.
pub const SUBTLE: bool = true;
