//! mmap's arguments: what is accepted, what is refused, and with which errno.

use libc::EINVAL;

use crate::claim::{Claim, DAY8, IPC, MAPIO, claim, linux, posix};
use crate::input::any_request;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![zero_length()]
}

fn zero_length() -> Claim {
    claim("mmap.length.zero")
        .states("A mapping of length 0 is refused, whatever else is asked for.")
        .documents([DAY8.at("note 1"), IPC.at("mmap, length"), IPC.at("question 4"), MAPIO.at("notes")])
        .holds()
        .basis([posix("mmap, ERRORS, [EINVAL]"), linux("mmap(2), ERRORS, EINVAL")])
        .for_all(any_request(), |lab, request| {
            let args = request.prepare(lab)?;
            lab.mmap(args.length(0)).must_fail(EINVAL)
        })
}
