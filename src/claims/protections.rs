//! What PROT_READ, PROT_WRITE, PROT_EXEC and PROT_NONE allow, set by mmap or later by mprotect.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
