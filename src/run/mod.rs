//! Running claims: a worker process for each, and the runner that starts, watches and outlives it.

pub mod janitor;
pub mod job;
pub mod outcome;
pub mod probe;
pub mod replay;
pub mod runner;
pub mod settings;
pub mod unable;
mod watch;
pub mod worker;
mod workers;
