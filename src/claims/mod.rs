//! The claims, one file for each topic.

mod anonymous;
mod anonymous_family;
mod arguments;
mod beyond_size;
pub mod contradictions;
mod descriptors;
mod each_number;
mod execution;
mod faults;
mod fifo_creating;
mod fifo_files;
mod fifo_opening;
mod fifo_programs;
mod fifo_stream;
mod file_ends;
mod file_programs;
mod fixed_flags;
mod fork_files;
mod forking;
mod hints;
mod holders;
mod huge_pages;
mod isolation;
mod large_ranges;
mod legacies;
mod lengths;
mod lifetime;
mod locking;
mod mapping_programs;
mod memory_flags;
mod moved_pointers;
mod open_modes;
mod open_table;
mod peers;
mod pipe_atomic;
mod pipe_blocking;
mod pipe_capacity;
mod pipe_closing;
mod pipe_consuming;
mod pipe_ends;
mod pipe_limits;
mod pipe_nonblocking;
mod pipe_programs;
mod pipe_sharing;
mod pipe_stream;
mod placement;
mod planted;
mod privacy;
mod protections;
mod refusals;
mod resizing;
mod rights;
mod rounding;
mod sharing;
mod side_by_side;
mod sizes;
mod stores;
mod streams;
mod sync_ranges;
mod syncing;
mod tails;
mod unaided;
mod unmapping;
mod validated_flags;
mod windows;
mod writeback;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::claim::Claim;

/// The topics, and behind them what is not listed: sequences, and the planted claims, which test the harness.
const TOPICS: &[fn() -> Vec<Claim>] = &[
    arguments::claims,
    refusals::claims,
    lengths::claims,
    rounding::claims,
    windows::claims,
    placement::claims,
    hints::claims,
    descriptors::claims,
    open_modes::claims,
    open_table::claims,
    protections::claims,
    execution::claims,
    rights::claims,
    stores::claims,
    sharing::claims,
    unaided::claims,
    writeback::claims,
    privacy::claims,
    sizes::claims,
    resizing::claims,
    tails::claims,
    beyond_size::claims,
    faults::claims,
    file_ends::claims,
    unmapping::claims,
    moved_pointers::claims,
    lifetime::claims,
    legacies::claims,
    syncing::claims,
    sync_ranges::claims,
    anonymous::claims,
    anonymous_family::claims,
    fixed_flags::claims,
    memory_flags::claims,
    locking::claims,
    validated_flags::claims,
    huge_pages::claims,
    forking::claims,
    isolation::claims,
    fork_files::claims,
    peers::claims,
    mapping_programs::claims,
    file_programs::claims,
    pipe_stream::claims,
    pipe_consuming::claims,
    pipe_capacity::claims,
    pipe_atomic::claims,
    pipe_blocking::claims,
    pipe_nonblocking::claims,
    pipe_ends::claims,
    pipe_sharing::claims,
    pipe_closing::claims,
    pipe_programs::claims,
    fifo_files::claims,
    fifo_creating::claims,
    fifo_opening::claims,
    fifo_stream::claims,
    fifo_programs::claims,
    crate::sequences::claims,
    planted::claims,
];
const LISTED: usize = TOPICS.len() - 2;

/// Every claim, topic by topic.
pub fn all() -> Vec<Claim> {
    TOPICS[..LISTED].iter().flat_map(|topic| topic()).collect()
}

/// The claim with this id; those that are not listed are found too.
pub fn find(id: &str) -> Option<Claim> {
    find_in(topic(id)?, id)
}

/// The number of the topic of the claim with this id.
pub fn topic(id: &str) -> Option<usize> {
    static NUMBERS: LazyLock<HashMap<&str, usize>> = LazyLock::new(|| {
        let topics = (0..).zip(TOPICS);
        topics.flat_map(|(number, topic)| topic().into_iter().map(move |claim| (claim.id, number))).collect()
    });
    NUMBERS.get(id).copied()
}

/// As [`find`] for who knows the topic: a worker, which would spend more on making all claims than on a case.
pub fn find_in(topic: usize, id: &str) -> Option<Claim> {
    TOPICS.get(topic)?().into_iter().find(|claim| claim.id == id)
}
