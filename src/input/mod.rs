//! Inputs: small vocabularies that claims share, drawn by proptest and shrunk by it.

mod bytes;
mod family;
mod layouts;
mod meeting;
mod open_files;
pub mod patchwork;
mod requests;
mod shrinking;
mod streams;
mod text;
mod views;

use std::cell::Cell;
use std::fmt::Debug;

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::kernel::page::{Size, pages};
pub use bytes::*;
pub use family::*;
pub use layouts::*;
pub use meeting::*;
pub use open_files::*;
pub use requests::*;
pub use streams::*;
pub use text::*;
pub use views::*;

/// A source of inputs: how they are drawn, what they are in words, and which ones are always tried first.
#[derive(Clone)]
pub struct Gen<T: Debug> {
    about: String,
    strategy: BoxedStrategy<T>,
    named: Vec<T>,
    long: Vec<T>,
    turns: Vec<T>,
    complete: bool,
}

/// Inputs drawn by a strategy of proptest; `about` says what they are, as the end of "for all ...".
pub fn drawn<T: Debug + 'static>(about: impl Into<String>, strategy: impl Strategy<Value = T> + 'static) -> Gen<T> {
    Gen {
        about: about.into(),
        strategy: strategy.boxed(),
        named: Vec::new(),
        long: Vec::new(),
        turns: Vec::new(),
        complete: false,
    }
}

/// Every one of a list, each once.
pub fn each<T: Debug + Clone + 'static>(about: impl Into<String>, list: impl IntoIterator<Item = T>) -> Gen<T> {
    let named: Vec<T> = list.into_iter().collect();
    let strategy = proptest::sample::select(named.clone()).boxed();
    Gen { about: about.into(), strategy, named, long: Vec::new(), turns: Vec::new(), complete: true }
}

/// Those of a list, one after the other: as many cases as it is long meet each of them, and fewer meet some from all of its parts.
pub fn in_turn<T: Debug + Clone + 'static>(about: impl Into<String>, list: impl IntoIterator<Item = T>) -> Gen<T> {
    let turns: Vec<T> = list.into_iter().collect();
    let strategy = proptest::sample::select(turns.clone());
    Gen { turns, ..drawn(about, strategy) }
}

/// No input: the claim has one case.
pub fn once() -> Gen<()> {
    each("the one case there is", [()])
}

impl<T: Debug + Clone + 'static> Gen<T> {
    /// What is drawn, in words.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// An input that is always tried, before all that are drawn.
    pub fn also(mut self, values: impl IntoIterator<Item = T>) -> Gen<T> {
        self.named.extend(values);
        self
    }

    /// Long inputs ([`many_pages`]), which take their time: tried from the fifth case on, and behind those that are always tried.
    /// Not in snapshots, since how long they are depends on the size of a page.
    pub fn also_long(mut self, values: impl IntoIterator<Item = T>) -> Gen<T> {
        self.long.extend(values);
        self
    }

    /// Inputs made of these.
    pub fn map<U: Debug + Clone + 'static>(self, make: impl Fn(T) -> U + Clone + 'static) -> Gen<U> {
        Gen {
            about: self.about,
            named: self.named.into_iter().map(make.clone()).collect(),
            long: self.long.into_iter().map(make.clone()).collect(),
            turns: self.turns.into_iter().map(make.clone()).collect(),
            strategy: self.strategy.prop_map(make).boxed(),
            complete: self.complete,
        }
    }

    /// Inputs of both kinds, each with each. Two complete lists give the complete table.
    pub fn and<U: Debug + Clone + 'static>(self, other: Gen<U>) -> Gen<(T, U)> {
        let complete = self.complete && other.complete;
        let pairs = |these: &[T], those: &[U]| {
            these.iter().flat_map(|one| those.iter().map(move |two| (one.clone(), two.clone()))).collect()
        };
        let mut long: Vec<(T, U)> = pairs(&self.long, &other.named);
        long.extend::<Vec<_>>(pairs(&self.named, &other.long));
        Gen {
            about: format!("{}; {}", self.about, other.about),
            named: pairs(&self.named, &other.named),
            long,
            turns: Vec::new(),
            strategy: (self.strategy, other.strategy).boxed(),
            complete,
        }
    }

    pub(crate) fn cases(&self, wanted: usize) -> usize {
        match self.turns.len() {
            _ if self.complete => self.named.len(),
            0 => wanted.max(self.named.len()),
            turns => wanted.min(turns),
        }
    }

    pub(crate) fn draw(&self, seed: Seed, index: usize) -> Drawn<T> {
        const SHORT_ONES: usize = 4;
        let first = self.named.len().max(SHORT_ONES);
        let long = index.checked_sub(first).and_then(|index| self.long.get(index)).filter(|_| !is_for_snapshot());
        match self.named.get(index).or(long).or_else(|| self.turn(index)) {
            Some(value) => Drawn::Named(value.clone()),
            None => Drawn::Tree(self.tree(seed)),
        }
    }

    /// Steps through the list by a golden section of it, so that the first few are apart.
    fn turn(&self, index: usize) -> Option<&T> {
        let count = self.turns.len();
        let coprime =
            |step: &usize| (2..=*step).all(|divisor| !(step.is_multiple_of(divisor) && count.is_multiple_of(divisor)));
        let step = (count * 5 / 8..count).find(coprime).unwrap_or(1);
        self.turns.get(index.checked_mul(step)?.checked_rem(count)?)
    }

    fn tree(&self, seed: Seed) -> Box<dyn ValueTree<Value = T>> {
        let rng = TestRng::from_seed(RngAlgorithm::XorShift, &seed.0);
        let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
        match self.strategy.new_tree(&mut runner) {
            Ok(tree) => tree,
            Err(reason) => panic!("no input could be drawn: {reason}"),
        }
    }
}

/// An input: a named one, or one that proptest drew and can make simpler.
pub(crate) enum Drawn<T> {
    Named(T),
    Tree(Box<dyn ValueTree<Value = T>>),
}

impl<T: Clone + Debug> Drawn<T> {
    pub(crate) fn value(&self) -> T {
        match self {
            Drawn::Named(value) => value.clone(),
            Drawn::Tree(tree) => tree.current(),
        }
    }

    pub(crate) fn simplify(&mut self) -> bool {
        match self {
            Drawn::Named(_) => false,
            Drawn::Tree(tree) => tree.simplify(),
        }
    }

    pub(crate) fn complicate(&mut self) -> bool {
        match self {
            Drawn::Named(_) => false,
            Drawn::Tree(tree) => tree.complicate(),
        }
    }
}

/// What one case is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Seed([u8; 16]);

impl Seed {
    /// The seed of one case of a run: two cases share one only by chance.
    pub fn of(run: u64, claim: &str, part: &str, index: usize) -> Seed {
        let mut state = run ^ 0x6a09_e667_f3bc_c908;
        let mut stir = |byte: u8| {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
        };
        claim.bytes().chain([0]).chain(part.bytes()).for_each(&mut stir);
        index.to_le_bytes().into_iter().for_each(&mut stir);
        let mut seed = [0; 16];
        for half in seed.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            half.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        Seed(seed)
    }
}

thread_local! {
    static FOR_SNAPSHOT: Cell<bool> = const { Cell::new(false) };
}

/// From here on inputs are drawn for a snapshot: the same on kernels with pages of any size.
pub fn draw_for_snapshot(yes: bool) {
    FOR_SNAPSHOT.set(yes);
}

/// Whether inputs are drawn for a snapshot.
pub(crate) fn is_for_snapshot() -> bool {
    FOR_SNAPSHOT.get()
}

/// How many bytes from a page boundary inputs may lie: for a snapshot so few that the sum of two is less than half of the smallest page,
/// and is written alike on kernels with pages of any size; else half of the running kernel's.
pub fn reach() -> usize {
    const UNDER_A_QUARTER_OF_THE_SMALLEST: usize = 1023;
    if FOR_SNAPSHOT.get() { UNDER_A_QUARTER_OF_THE_SMALLEST } else { crate::kernel::page::page() / 2 }
}

/// A number of pages that is more than a large page of 2 MiB takes, and more than 64.
pub fn many_pages() -> usize {
    const LARGE_PAGE: usize = 2 << 20;
    (LARGE_PAGE / crate::kernel::page::page()).max(64) + 6
}

/// The position that lies at `share` (0 to 1) of `len` bytes, below `len`; for a snapshot within [`reach`] above a page boundary.
pub fn place_in(len: Size, share: f64) -> Size {
    let at = if FOR_SNAPSHOT.get() {
        let place = share * len.in_pages() as f64;
        pages(place as usize) + (place.fract() * reach() as f64) as usize
    } else {
        Size((share * len.get() as f64) as usize)
    };
    at.min(len.less(Size(1)))
}
