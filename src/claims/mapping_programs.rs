//! The documents' whole programs that use mappings.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
