//! What the end of readers and writers means to the other side.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
