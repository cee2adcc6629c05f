//! Flags that say how memory is provided: locking, populating, reserving, clearing.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
