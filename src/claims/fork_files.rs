//! What a forked child has of its parent's descriptors and mappings made later.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
