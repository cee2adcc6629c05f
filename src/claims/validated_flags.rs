//! Flags that are checked, and flags that are not: MAP_SHARED_VALIDATE, MAP_SYNC, MAP_STACK.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
