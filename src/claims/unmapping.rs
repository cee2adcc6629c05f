//! munmap: what it accepts, what it takes away, and what it leaves.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
