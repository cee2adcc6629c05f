//! Whole programs: sequences of calls by several processes, each outcome checked against the [model](crate::model).

mod cells;
mod choice;
mod driver;
pub mod situations;

use std::cell::Cell;

use proptest::prelude::*;

use crate::claim::{Claim, claim, linux, posix};
use crate::input::{Gen, drawn};
use crate::model::Rule;

pub use choice::Op;

/// How long and how wide sequences are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Extent {
    /// How many calls at most.
    pub calls: usize,
    /// How many processes at most.
    pub processes: usize,
}

impl Default for Extent {
    fn default() -> Extent {
        Extent { calls: 60, processes: 4 }
    }
}

thread_local! {
    static EXTENT: Cell<Extent> = Cell::default();
    static WRONG: Cell<Option<Rule>> = const { Cell::new(None) };
}

/// From here on sequences have this extent.
pub fn set_extent(extent: Extent) {
    EXTENT.set(extent);
}

/// From here on the model is wrong in one rule: to see that it is noticed.
pub fn plant(rule: Option<Rule>) {
    WRONG.set(rule);
}

fn sequences(processes: usize) -> Gen<Vec<Op>> {
    let calls = EXTENT.get().calls.max(1);
    drawn(
        format!("sequences of up to {calls} calls by up to {processes} processes"),
        prop::collection::vec(any::<(u8, u8, u16, u16, u16, u16)>().prop_map(Op::from), 1..=calls),
    )
}

/// The sequences as claims: they are run, watched, simplified and reported as the claims of the documents are.
pub fn claims() -> Vec<Claim> {
    let most = EXTENT.get().processes.max(1);
    let mut list = vec![
        claim("sequences.one-process")
            .states("Any sequence of calls by one process has the outcomes that the model predicts.")
            .holds()
            .basis([posix("System Interfaces"), linux("the manual pages that each rule of the model names")])
            .for_all(sequences(1), |lab, ops| driver::drive(lab, &ops, 1, WRONG.get())),
    ];
    if most > 1 {
        list.push(
            claim("sequences.many-processes")
                .states("Any sequence of calls by several processes, each forked from another, has the outcomes that the model predicts.")
                .holds()
                .basis([posix("System Interfaces"), linux("the manual pages that each rule of the model names")])
                .for_all(sequences(most), move |lab, ops| driver::drive(lab, &ops, most, WRONG.get())),
        );
    }
    list
}
