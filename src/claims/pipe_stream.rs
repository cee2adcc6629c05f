//! A pipe as a stream of bytes: order, counts, direction, ends.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
