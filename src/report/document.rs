//! The fields of a report for programs, as they are written and read. Their names are stable; [`SCHEMA`] counts up when one
//! changes its meaning or goes.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Totals;
use super::snapshot::Comparison;
use crate::run::outcome::{Deviation, Status};

/// The version of the fields' names and meanings.
pub const SCHEMA: u32 = 1;

/// A run; `P` is the profile, of which readers know less than writers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document<P> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Who wrote it.
    pub program: Program,
    /// The system.
    pub profile: P,
    /// The seed that every case was drawn from.
    pub seed: u64,
    /// How many cases each claim was to try.
    pub cases: usize,
    /// Someone ended it.
    pub interrupted: bool,
    /// `pass` or `fail`.
    pub result: Status,
    /// Claim by claim.
    pub claims: Vec<ClaimReport>,
    /// How the snapshots compare with the reviewed ones, if that was asked for.
    pub snapshots: Option<Vec<Comparison>>,
    /// What was seen in the cases that snapshots show, if that was asked for.
    #[serde(default)]
    pub rows: Option<Vec<Rows>>,
    /// How much of it there was.
    pub totals: TotalsReport,
}

/// Who wrote a report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// How much of it there was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TotalsReport {
    /// Counts.
    #[serde(flatten)]
    pub totals: Totals,
    /// How long it took.
    pub seconds: f64,
}

/// What became of a claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimReport {
    /// Its name.
    pub id: String,
    /// What became of it.
    pub result: Status,
    /// Why it was skipped, cannot be observed, or deviates.
    pub reason: Option<String>,
    /// How many cases ran.
    pub cases: usize,
    /// Part by part.
    pub parts: Vec<PartReport>,
    /// How many calls were put to the kernel.
    pub calls: u64,
    /// How long it took.
    pub seconds: f64,
    /// The first thing that went wrong.
    pub violation: Option<ViolationReport>,
    /// What else went wrong.
    pub further_violations: Vec<ViolationReport>,
    /// What is listed of it as a deviation of this system.
    #[serde(default)]
    pub deviations: Vec<Deviation>,
}

/// What became of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartReport {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub result: Status,
    /// How many cases ran.
    pub cases: usize,
    /// Why all of it was skipped.
    pub reason: Option<String>,
    /// Cases that were skipped.
    pub skipped: Vec<Skipped>,
}

/// Cases that were skipped for one reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Skipped {
    /// What is missing.
    pub reason: String,
    /// What would provide it.
    pub hint: String,
    /// How many cases.
    pub cases: usize,
}

/// Something that went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ViolationReport {
    /// `violation`, `lost` or `harness`.
    pub kind: String,
    /// The part's name.
    pub part: Option<String>,
    /// The case's index.
    pub case: Option<usize>,
    /// The input, after simplification.
    pub input: Option<String>,
    /// What the rule allows.
    pub expected: String,
    /// What the kernel did.
    pub seen: String,
    /// The calls.
    pub steps: Vec<StepReport>,
    /// The index of the call that departed from the rule.
    pub departure: Option<usize>,
    /// The command that makes the same cases again.
    pub replay: String,
    /// A C program that shows it without this suite.
    #[serde(default)]
    pub program: Option<String>,
}

/// One call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepReport {
    /// Who performed it.
    pub actor: String,
    /// The call and its outcome.
    pub line: String,
}

/// What was seen in the cases of one part, from the fixed seed of snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The claim's name.
    pub claim: String,
    /// The part's name.
    pub part: String,
    /// Input and outcome of each case.
    pub rows: Vec<(String, String)>,
    /// What this system does where others may do otherwise.
    pub facts: Vec<(String, String)>,
    /// What the machine lacks, if rows are missing for that.
    pub lacking: Option<String>,
}

/// What readers of a report know of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    /// Which kernel answered: linux, uml, gvisor, qemu-user.
    pub kernel: String,
    /// uname(2), sysname.
    pub sysname: String,
    /// uname(2), release.
    pub release: String,
    /// uname(2), version.
    pub version: String,
    /// uname(2), machine.
    pub machine: String,
    /// The size of a page, in bytes.
    pub page_size: usize,
    /// What the directory under test lay on.
    pub filesystem: FileSystem,
    /// The effective user.
    pub uid: u32,
    /// Whether it had any capability.
    pub privileged: bool,
}

/// What readers of a report know of the file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileSystem {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let System { kernel, sysname, release, machine, page_size, filesystem, .. } = self;
        let name = if kernel.is_empty() || kernel == "linux" { sysname } else { kernel };
        write!(f, "{name} {release}, {machine}, {} KiB pages, {}", page_size >> 10, filesystem.kind)?;
        if self.privileged { Ok(()) } else { write!(f, ", unprivileged") }
    }
}

/// A report as its readers have it.
pub type Report = Document<System>;

/// Reads the report in a file.
///
/// # Errors
/// In one line: the file cannot be read, holds no report, or one of another schema.
pub fn read(path: &Path) -> Result<Report, String> {
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    let name = path.display();
    let text = std::fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let none = |error: serde_json::Error| format!("{name}: this is no report: {error}");
    let head: Head = serde_json::from_slice(&text).map_err(none)?;
    if head.schema != SCHEMA {
        return Err(format!("{name}: a report of schema {}, and this program reads schema {SCHEMA}", head.schema));
    }
    serde_json::from_slice(&text).map_err(none)
}

impl Report {
    /// What became of a claim; nothing if it was not put to this system.
    pub fn claim(&self, id: &str) -> Option<&ClaimReport> {
        self.claims.iter().find(|claim| claim.id == id)
    }
}
