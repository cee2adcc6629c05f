//! Memory without a file: zeros, sharing with children, /dev/zero.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
