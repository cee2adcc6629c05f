//! Accesses that fault: which signal, which code, which address, and who survives.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
