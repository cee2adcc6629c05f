//! What a runner and a worker say to each other.

use serde::{Deserialize, Serialize};

use super::probe::Found;
use crate::kernel::outcome::{Lack, Outcome};
use crate::lab::trace::{Announcement, Departure, Step};
use crate::sequences::Extent;

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The claim.
    pub claim: String,
    /// The number of its topic.
    pub topic: usize,
    /// The seed of the run.
    pub seed: u64,
    /// How many cases a part tries, where it does not ask for fewer.
    pub cases: usize,
    /// The directory to work in, which exists and is the worker's own.
    pub directory: std::ffi::OsString,
    /// How long an actor may take to answer, in milliseconds.
    pub case_limit: u64,
    /// How long and wide sequences are.
    pub extent: Extent,
    /// Which cases.
    pub task: Task,
}

/// Which cases of a claim a worker runs, and what it tells of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// All of the parts from this one on.
    Run {
        /// The index of the first part.
        from: usize,
    },
    /// One case, made simpler as the history says; each call is announced before it is made.
    One {
        /// The index of the part.
        part: usize,
        /// The index of the case.
        case: usize,
        /// For each simplification tried so far, whether it still failed.
        history: Vec<bool>,
    },
    /// A few cases of each part, with what was seen, for a snapshot.
    Snapshot,
    /// None: it performs recorded calls again.
    Replay(Vec<Step>),
    /// None: it finds out what the system can do.
    Probe,
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// It is ready, and the channel works: the claim's name, as it came over.
    Ready(String),
    /// A part has been run.
    Part(PartReport),
    /// A case has departed from the rule.
    Violation(Box<Violation>),
    /// What was seen in a part.
    Seen(Seen),
    /// What became of recorded calls now.
    Replayed(Vec<Outcome>),
    /// How often sequences have met each pair of call and situation.
    Situations(Vec<((String, String), u64)>),
    /// What the system can do.
    Probed(Found),
    /// A call that is being made.
    Announced(Announcement),
    /// The history of simplifications has no continuation: the case cannot be made simpler.
    Simplest,
    /// The input of the one case that was asked for.
    Input(String),
    /// The one case has passed, or was skipped.
    Passed,
    /// All that was asked for is done.
    End,
}

/// What became of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReport {
    /// Its index.
    pub part: usize,
    /// How many cases ran to their end.
    pub ran: usize,
    /// How many were skipped, and for want of what.
    pub skipped: Vec<(Lack, usize)>,
    /// How many calls were put to the kernel.
    pub calls: u64,
}

/// A case in which the kernel did otherwise than a rule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The part's index.
    pub part: usize,
    /// The case's index.
    pub case: usize,
    /// The input, after simplification.
    pub input: String,
    /// How many simpler inputs were tried.
    pub simplified: usize,
    /// The calls of the case.
    pub steps: Vec<Step>,
    /// Where it departed.
    pub departure: Departure,
}

/// What was seen in the cases of one part, for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The part's index.
    pub part: usize,
    /// Input and outcome of each case.
    pub rows: Vec<(String, String)>,
    /// The calls of the first case.
    pub trace: Vec<String>,
    /// What this system does where others may do otherwise.
    pub facts: Vec<(String, String)>,
    /// Why rows are missing, if some are.
    pub lacking: Option<Lack>,
}
