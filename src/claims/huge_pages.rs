//! MAP_HUGETLB and the sizes of huge pages.

use crate::claim::Claim;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![]
}
