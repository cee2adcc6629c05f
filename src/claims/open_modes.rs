//! How a file was opened, and what may then be asked of a mapping of it.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
