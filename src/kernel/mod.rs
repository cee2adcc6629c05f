//! The kernel as the suite meets it: calls as data, the place where they are performed, and what comes of them.
//!
//! Here, and nowhere else in the crate, is unsafe code.

#![expect(
    unsafe_code,
    reason = "what is tested lies beyond what safe code can say: memory that is not there, processes that share it"
)]

pub mod arena;
pub mod bare;
pub mod call;
pub mod channel;
pub mod confine;
pub mod data;
pub mod environment;
pub mod filter;
pub mod guard;
pub mod lock;
pub mod machine;
pub mod names;
pub mod notation;
pub mod outcome;
pub mod page;
pub mod patience;
pub mod perform;
pub mod process;
pub mod tool;
mod variables;
mod whole;
