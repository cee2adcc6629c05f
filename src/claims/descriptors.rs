//! What can be mapped: descriptors that are open, and kinds of files.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
