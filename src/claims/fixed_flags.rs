//! Flags that say where: MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_32BIT.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
