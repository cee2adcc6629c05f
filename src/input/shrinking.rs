//! How numbers become simpler: towards 0, past the borders between the alternatives that they were drawn from.

use proptest::num::{isize as whole, usize as natural};
use proptest::strategy::{BoxedStrategy, NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// Draws as another strategy does, and halves its way to the smallest number that will do, whichever alternative that would be of.
///
/// `prop_oneof` alone stays within the alternative that it drew from: a length that fails from 3 pages on would end at the least
/// that "4 to 20 pages" has to offer.
#[derive(Debug)]
pub(super) struct TowardsZero<T>(BoxedStrategy<T>);

/// Numbers of this strategy that become simpler towards 0.
pub(super) fn towards_zero<T: std::fmt::Debug>(strategy: impl Strategy<Value = T> + 'static) -> TowardsZero<T> {
    TowardsZero(strategy.boxed())
}

impl Strategy for TowardsZero<usize> {
    type Tree = natural::BinarySearch;
    type Value = usize;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        Ok(natural::BinarySearch::new(self.0.new_tree(runner)?.current()))
    }
}

impl Strategy for TowardsZero<isize> {
    type Tree = whole::BinarySearch;
    type Value = isize;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        Ok(whole::BinarySearch::new(self.0.new_tree(runner)?.current()))
    }
}
