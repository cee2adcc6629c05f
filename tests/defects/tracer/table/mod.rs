//! All defects, by topic.

mod anonymous;
mod arguments;
mod coherence;
mod descriptors;
mod faults;
mod fifos;
mod file_contents;
mod files;
mod flags;
mod fork;
mod msync;
mod permissions;
mod pipe_blocking;
mod pipe_room;
mod pipes;
mod placement;
mod relatives;
mod sharing;
mod targets;
mod unmap;

use crate::tracer::defect::{Defect, Topic};

/// Every topic with its defects.
pub const TABLE: &[(Topic, &[Defect])] = &[
    (Topic::Arguments, arguments::DEFECTS),
    (Topic::Arguments, targets::DEFECTS),
    (Topic::Placement, placement::DEFECTS),
    (Topic::Permissions, permissions::DEFECTS),
    (Topic::Sharing, sharing::DEFECTS),
    (Topic::Sharing, coherence::DEFECTS),
    (Topic::Anonymous, anonymous::DEFECTS),
    (Topic::Files, files::DEFECTS),
    (Topic::Files, file_contents::DEFECTS),
    (Topic::Faults, faults::DEFECTS),
    (Topic::Unmap, unmap::DEFECTS),
    (Topic::Msync, msync::DEFECTS),
    (Topic::Flags, flags::DEFECTS),
    (Topic::Fork, fork::DEFECTS),
    (Topic::Fork, relatives::DEFECTS),
    (Topic::Descriptors, descriptors::DEFECTS),
    (Topic::Pipes, pipes::DEFECTS),
    (Topic::Pipes, pipe_room::DEFECTS),
    (Topic::Pipes, pipe_blocking::DEFECTS),
    (Topic::Fifos, fifos::DEFECTS),
];

/// All defects with their topics.
pub fn all() -> impl Iterator<Item = (Topic, &'static Defect)> {
    TABLE.iter().flat_map(|(topic, defects)| defects.iter().map(move |defect| (*topic, defect)))
}

/// The defect of this name.
pub fn find(name: &str) -> Option<&'static Defect> {
    all().map(|(_, defect)| defect).find(|defect| defect.name == name)
}
