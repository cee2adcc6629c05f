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
mod fresh_mappings;
mod fresh_streams;
mod late_backings;
mod late_contents;
mod late_ends;
mod late_family;
mod late_faults;
mod late_fifos;
mod late_flags;
mod late_mappings;
mod late_pipes;
mod late_unmapping;
mod long_ranges;
mod long_sharing;
mod msync;
mod other_processes;
mod permissions;
mod pipe_blocking;
mod pipe_room;
mod pipes;
mod placement;
mod relatives;
mod sharing;
mod stray_contents;
mod stray_ends;
mod stray_fifos;
mod stray_flags;
mod stray_mappings;
mod stray_meetings;
mod stray_streams;
mod targets;
mod unmap;
mod waiting_crowds;

use crate::tracer::defect::{Defect, Topic};

/// Every topic with its defects.
pub const TABLE: &[(Topic, &[Defect])] = &[
    (Topic::Arguments, arguments::DEFECTS),
    (Topic::Arguments, targets::DEFECTS),
    (Topic::Arguments, late_mappings::ARGUMENTS),
    (Topic::Arguments, stray_mappings::ARGUMENTS),
    (Topic::Arguments, stray_meetings::ARGUMENTS),
    (Topic::Arguments, long_ranges::ARGUMENTS),
    (Topic::Arguments, other_processes::ARGUMENTS),
    (Topic::Placement, placement::DEFECTS),
    (Topic::Placement, late_mappings::PLACEMENT),
    (Topic::Placement, fresh_mappings::PLACEMENT),
    (Topic::Placement, stray_mappings::PLACEMENT),
    (Topic::Placement, stray_meetings::PLACEMENT),
    (Topic::Placement, long_ranges::PLACEMENT),
    (Topic::Permissions, permissions::DEFECTS),
    (Topic::Permissions, late_mappings::PERMISSIONS),
    (Topic::Permissions, fresh_mappings::PERMISSIONS),
    (Topic::Permissions, stray_mappings::PERMISSIONS),
    (Topic::Permissions, stray_meetings::PERMISSIONS),
    (Topic::Permissions, long_ranges::PERMISSIONS),
    (Topic::Sharing, sharing::DEFECTS),
    (Topic::Sharing, coherence::DEFECTS),
    (Topic::Sharing, late_contents::SHARING),
    (Topic::Sharing, late_backings::SHARING),
    (Topic::Sharing, fresh_mappings::SHARING),
    (Topic::Sharing, stray_contents::SHARING),
    (Topic::Sharing, stray_meetings::SHARING),
    (Topic::Sharing, long_sharing::SHARING),
    (Topic::Sharing, other_processes::SHARING),
    (Topic::Anonymous, anonymous::DEFECTS),
    (Topic::Anonymous, late_contents::ANONYMOUS),
    (Topic::Anonymous, late_backings::ANONYMOUS),
    (Topic::Anonymous, stray_flags::ANONYMOUS),
    (Topic::Anonymous, long_sharing::ANONYMOUS),
    (Topic::Anonymous, other_processes::ANONYMOUS),
    (Topic::Files, files::DEFECTS),
    (Topic::Files, file_contents::DEFECTS),
    (Topic::Files, late_contents::FILES),
    (Topic::Files, late_backings::FILES),
    (Topic::Files, fresh_mappings::FILES),
    (Topic::Files, stray_contents::FILES),
    (Topic::Files, stray_meetings::FILES),
    (Topic::Files, long_sharing::FILES),
    (Topic::Faults, faults::DEFECTS),
    (Topic::Faults, late_faults::DEFECTS),
    (Topic::Unmap, unmap::DEFECTS),
    (Topic::Unmap, late_unmapping::DEFECTS),
    (Topic::Unmap, fresh_mappings::UNMAPPING),
    (Topic::Unmap, stray_mappings::UNMAPPING),
    (Topic::Unmap, stray_meetings::UNMAPPING),
    (Topic::Unmap, long_ranges::UNMAPPING),
    (Topic::Msync, msync::DEFECTS),
    (Topic::Msync, late_flags::MSYNCS),
    (Topic::Msync, late_backings::MSYNCS),
    (Topic::Msync, fresh_mappings::MSYNCS),
    (Topic::Msync, stray_contents::MSYNCS),
    (Topic::Msync, stray_meetings::MSYNCS),
    (Topic::Msync, long_ranges::MSYNCS),
    (Topic::Msync, other_processes::MSYNCS),
    (Topic::Flags, flags::DEFECTS),
    (Topic::Flags, late_flags::MMAP_FLAGS),
    (Topic::Flags, late_backings::MMAP_FLAGS),
    (Topic::Flags, stray_flags::MMAP_FLAGS),
    (Topic::Flags, stray_meetings::MMAP_FLAGS),
    (Topic::Flags, long_ranges::MMAP_FLAGS),
    (Topic::Flags, other_processes::MMAP_FLAGS),
    (Topic::Fork, fork::DEFECTS),
    (Topic::Fork, relatives::DEFECTS),
    (Topic::Fork, late_family::FORKS),
    (Topic::Fork, fresh_mappings::FORKS),
    (Topic::Fork, stray_contents::FORKS),
    (Topic::Fork, long_sharing::FORKS),
    (Topic::Fork, other_processes::FORKS),
    (Topic::Descriptors, descriptors::DEFECTS),
    (Topic::Descriptors, late_family::DESCRIPTORS),
    (Topic::Descriptors, late_backings::DESCRIPTORS),
    (Topic::Descriptors, stray_fifos::DESCRIPTORS),
    (Topic::Descriptors, other_processes::DESCRIPTORS),
    (Topic::Pipes, pipes::DEFECTS),
    (Topic::Pipes, pipe_room::DEFECTS),
    (Topic::Pipes, pipe_blocking::DEFECTS),
    (Topic::Pipes, late_pipes::DEFECTS),
    (Topic::Pipes, late_ends::PIPES),
    (Topic::Pipes, fresh_streams::PIPES),
    (Topic::Pipes, stray_streams::READING),
    (Topic::Pipes, stray_streams::WRITING),
    (Topic::Pipes, stray_ends::PIPES),
    (Topic::Pipes, other_processes::PIPES),
    (Topic::Pipes, waiting_crowds::PIPES),
    (Topic::Fifos, fifos::DEFECTS),
    (Topic::Fifos, late_fifos::DEFECTS),
    (Topic::Fifos, late_ends::FIFOS),
    (Topic::Fifos, fresh_streams::FIFOS),
    (Topic::Fifos, stray_fifos::FIFOS),
    (Topic::Fifos, stray_ends::FIFOS),
    (Topic::Fifos, waiting_crowds::FIFOS),
];

/// All defects with their topics.
pub fn all() -> impl Iterator<Item = (Topic, &'static Defect)> {
    TABLE.iter().flat_map(|(topic, defects)| defects.iter().map(move |defect| (*topic, defect)))
}

/// The defect of this name.
pub fn find(name: &str) -> Option<&'static Defect> {
    all().map(|(_, defect)| defect).find(|defect| defect.name == name)
}
