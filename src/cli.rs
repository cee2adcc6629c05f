//! The arguments, and what is said of wrong ones.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Why nothing could be done, in one line.
pub type Trouble = String;

/// What is asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put claims to the running kernel (what the bare program does)
    #[command(after_help = RUN_NOTES)]
    Run(RunArguments),
    /// Put sequences of calls by several processes to the kernel, each outcome checked against a model
    #[command(after_help = SEQUENCES_NOTES)]
    Sequences(SequencesArguments),
    /// Perform the calls of a recording again, on this or another kernel
    Replay(ReplayArguments),
    /// Compare JSON reports of several systems: which claims, and which rows of snapshots, differ
    #[command(after_help = COMPARE_NOTES)]
    Compare(CompareArguments),
    /// Make one page of HTML, which needs nothing but itself, of JSON reports
    Page(PageArguments),
    /// List the claims
    List(ListArguments),
    /// Show all there is about one claim: statement, documents, verdict, authority, inputs, snapshot
    Explain(ExplainArguments),
    /// Judge the documents: what is wrong in which, what is right instead, by what authority
    Errata(ErrataArguments),
}

/// What the arguments come to.
#[derive(Debug)]
pub enum Request {
    /// Something to do.
    Command(Command),
    /// Something to say: the help, the version.
    Text(String),
}

const RUN_NOTES: &str = "\
A claim is named by its id (mmap.length.zero) or, with all of its family, by the first words of it (mmap.length).

Every case is drawn from the seed: the same seed, claim and number of cases give the same run.
What the machine lacks is skipped with a reason and a hint. A run that puts fewer cases to the kernel than it
declares has failed. A deviation that a file of --known lists for this system is no failure; one that is listed and
no longer happens is.

Exit status: 0 nothing failed; 1 a claim failed, a listed deviation has gone, or a snapshot differs from the reviewed one;
2 the run could not be made, or was interrupted.";

const COMPARE_NOTES: &str = "\
Rows are compared if the reports have them (run --format json --rows).

Exit status: 0 the last is no worse than the first; 1 a claim that passed, was known to deviate or was skipped in the
first fails in the last, or the last does not have it; 2 a file holds no report that this program reads.";

const SEQUENCES_NOTES: &str = "\
A sequence is a program: opens, reads and writes, mappings, loads and stores, forks and pipes, by up to four
processes. Every outcome is compared with what a model of a correct kernel predicts, and at intervals everything that
can be observed is: each byte of each mapping in each process, each file, size, offset and pipe. A departure is made
as short as it gets.

Exit status: 0 nothing failed; 1 a sequence departed from the model; 2 the run could not be made.";

const NOTES: &str = "\
Five introductory documents say how mmap, munmap, msync, fork, pipes and FIFOs behave. Each of their claims is put
to the running kernel with generated inputs, each in a process of its own. Try:

  mmap-conformance                          all claims, 256 cases each
  mmap-conformance run mmap.length          one family
  mmap-conformance explain mmap.length.zero
  mmap-conformance errata                   the documents judged";

#[derive(Debug, Parser)]
#[command(name = "mmap-conformance", version, args_conflicts_with_subcommands = true)]
#[command(about = "Puts the claims of five documents about memory mappings, pipes and FIFOs to the running kernel")]
#[command(after_help = NOTES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

/// How a run is made, and what is told of it.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Claims, or first words that claims have in common; all if none is named
    #[arg(value_name = "CLAIM-OR-PREFIX")]
    pub claims: Vec<String>,
    /// How many cases a claim tries: each of its parts so many up to 128, and an equal share of those above; a part that costs much tries a fixed share of that
    #[arg(long, value_name = "N", default_value = "256", value_parser = at_least_one)]
    pub cases: u64,
    /// The seed that cases are drawn from; a fresh one, which is printed, if not given
    #[arg(long, value_name = "S", env = "MMAP_CONFORMANCE_SEED", hide_env_values = true, value_parser = seed)]
    pub seed: Option<u64>,
    /// How many claims run side by side; twice as many as there are processors if not given, for claims also wait
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub jobs: Option<u64>,
    /// The directory under test; TMPDIR, else the system's, if not given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The form of the report
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: RunFormat,
    /// Where the report goes, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// A further report of the same run, in this form and file; as many as are wanted
    #[arg(long, value_name = "FORMAT=FILE", value_parser = report)]
    pub report: Vec<(RunFormat, PathBuf)>,
    /// Have what was seen in each case of the snapshots in the JSON report too (half a MB), for compare and page
    #[arg(long)]
    pub rows: bool,
    /// Compare with the reviewed snapshots too, and leave a .snap.new file here for each that differs
    #[arg(long, value_name = "DIR")]
    pub snapshots: Option<PathBuf>,
    /// Leave a recording (for replay) and a C program of each violation here
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Deviations that are known, with their reasons and the systems that have them (TOML; the README names its fields)
    #[arg(long, value_name = "FILE")]
    pub known: Vec<PathBuf>,
    /// How many seconds of processor time a claim may go on for without progress
    #[arg(long, value_name = "S", default_value = "30", value_parser = at_least_one)]
    pub timeout: u64,
}

/// How sequences are run, and for how long.
#[derive(Debug, Args)]
pub struct SequencesArguments {
    /// How many sequences of each kind; of each round, with --seconds
    #[arg(long, value_name = "N", default_value = "2000", value_parser = at_least_one)]
    pub cases: u64,
    /// How many calls a sequence has at most
    #[arg(long, value_name = "N", default_value = "60", value_parser = at_least_one)]
    pub calls: u64,
    /// How many processes a sequence has at most
    #[arg(long, value_name = "N", default_value = "4", value_parser = at_least_one)]
    pub processes: u64,
    /// The seed that sequences are drawn from; a fresh one, which is printed, if not given
    #[arg(long, value_name = "S", env = "MMAP_CONFORMANCE_SEED", hide_env_values = true, value_parser = seed)]
    pub seed: Option<u64>,
    /// Go on for so many seconds, in rounds of --cases, with a line of progress after each
    #[arg(long, value_name = "T", value_parser = at_least_one)]
    pub seconds: Option<u64>,
    /// How many run side by side; as many as there are processors if not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub jobs: Option<u64>,
    /// The directory under test; TMPDIR, else the system's, if not given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave a recording (for replay) and a C program of each violation here
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Show how often each call has met each situation that a kernel can reach, and which never
    #[arg(long)]
    pub situations: bool,
}

/// What is performed again.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// A recording that --save left
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The directory under test; TMPDIR, else the system's, if not given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunFormat {
    /// For reading: a line for each claim, then what failed and why
    Human,
    /// For programs; the README names its fields
    Json,
    /// The kernel's own form of test results, KTAP version 1
    Ktap,
    /// JUnit's XML, for CI systems
    Junit,
}

/// The forms of a list or a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For reading
    Human,
    /// For programs; the README names its fields
    Json,
}

/// What is compared, and how it is told.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// Reports of run --format json, two or more
    #[arg(value_name = "REPORT", required = true, num_args = 2..)]
    pub reports: Vec<PathBuf>,
    /// The form of the comparison
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: ListFormat,
}

/// What the page shows, and where it goes.
#[derive(Debug, Args)]
pub struct PageArguments {
    /// Reports of run --format json
    #[arg(value_name = "REPORT", required = true)]
    pub reports: Vec<PathBuf>,
    /// Where the page goes, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Which claims are listed, and how.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Claims, or first words that claims have in common; all if none is named
    #[arg(value_name = "PREFIX")]
    pub claims: Vec<String>,
    /// The form of the list
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: ListFormat,
}

/// Which claim is explained.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The claim
    #[arg(value_name = "CLAIM")]
    pub claim: String,
}

/// How the documents are judged.
#[derive(Debug, Args)]
pub struct ErrataArguments {
    /// The form of the judgement
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ErrataFormat,
}

/// The forms of the errata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ErrataFormat {
    /// For the terminal
    Text,
    /// For a page
    Markdown,
}

fn at_least_one(word: &str) -> Result<u64, String> {
    match word.parse::<u64>() {
        Ok(0) | Err(_) => Err("it must be a whole number, 1 or more".into()),
        Ok(number) => Ok(number),
    }
}

fn report(word: &str) -> Result<(RunFormat, PathBuf), String> {
    let (format, file) = word.split_once('=').ok_or("it must be FORMAT=FILE")?;
    match RunFormat::from_str(format, false) {
        Ok(format) if !file.is_empty() => Ok((format, file.into())),
        Ok(_) => Err("it names no file".into()),
        Err(_) => Err("the formats are human, json, ktap, junit".into()),
    }
}

fn seed(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| "it must be a whole number, 0 or more".into())
}

/// Reads the arguments of the process.
///
/// # Errors
/// What is wrong with them.
pub fn parse() -> Result<Request, Trouble> {
    match Arguments::try_parse() {
        Ok(arguments) => Ok(Request::Command(arguments.command.unwrap_or(Command::Run(arguments.run)))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Request::Text(error.to_string())),
            _ => Err(one_line(&error.to_string())),
        },
    }
}

/// The message and the tips of an error that would fill a screen.
fn one_line(text: &str) -> Trouble {
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let mut line = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    for more in lines.take_while(|more| !more.starts_with("Usage:") && !more.starts_with("For more")) {
        if !more.is_empty() {
            line.push_str("; ");
            line.push_str(more.strip_prefix("tip: ").unwrap_or(more));
        }
    }
    line
}

/// One line on standard error; where that is closed too, the exit status has to do.
pub fn complain(trouble: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "mmap-conformance: {trouble}");
}
