//! How long a mapping and its data live: past close, unlink, and the process.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
