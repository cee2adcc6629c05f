//! What a claim is: a statement of the documents, how it stands with Linux, by what authority, and the properties that put it to a kernel.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::input::{Drawn, Gen, Seed};
use crate::lab::Lab;
use crate::lab::trace::Verdict;

/// One of the documents that the claims come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Document {
    /// Its short name.
    pub name: &'static str,
    /// Its title, in English.
    pub title: &'static str,
}

/// "Linux day 8: shared mappings, anonymous mappings".
pub const DAY8: Document = Document { name: "day8", title: "Linux day 8: shared mappings, anonymous mappings" };
/// "Shared memory with the mmap system call".
pub const SHM: Document = Document { name: "shm", title: "Shared memory with the mmap system call" };
/// "Inter-process communication: pipes, FIFOs, mappings".
pub const IPC: Document = Document { name: "ipc", title: "Inter-process communication: pipes, FIFOs, mappings" };
/// "Memory-mapped I/O".
pub const MAPIO: Document = Document { name: "mapio", title: "Memory-mapped I/O" };
/// "What is mmap".
pub const WHAT: Document = Document { name: "what", title: "What is mmap" };

/// All of the documents.
pub const DOCUMENTS: [Document; 5] = [DAY8, SHM, IPC, MAPIO, WHAT];

/// A place in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The document.
    pub document: Document,
    /// Where in it.
    pub at: &'static str,
}

impl Document {
    /// A place in this document.
    pub const fn at(self, at: &'static str) -> Place {
        Place { document: self, at }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.document.name, self.at)
    }
}

/// How far a kernel is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// POSIX.1 promises it.
    Posix,
    /// Linux promises it, beyond POSIX.
    Linux,
    /// Neither does: what is shown is what Linux does.
    Unspecified,
}

/// A source of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Basis {
    /// Whose rule it is.
    pub authority: Authority,
    /// Where it stands: a manual page and section, or a place in POSIX.
    pub cite: &'static str,
}

/// POSIX.1-2024, at this place.
pub const fn posix(cite: &'static str) -> Basis {
    Basis { authority: Authority::Posix, cite }
}

/// Linux, by this manual page or document of the kernel.
pub const fn linux(cite: &'static str) -> Basis {
    Basis { authority: Authority::Linux, cite }
}

/// Left open; where that is said, or what it rests on.
pub const fn unspecified(cite: &'static str) -> Basis {
    Basis { authority: Authority::Unspecified, cite }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = match self.authority {
            Authority::Posix => "POSIX",
            Authority::Linux => "Linux",
            Authority::Unspecified => "unspecified",
        };
        write!(f, "{authority}: {}", self.cite)
    }
}

/// How a claim stands with Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is so, for every input that the claim covers.
    Holds,
    /// It is so under a condition that the documents leave out: this one.
    Qualified(&'static str),
    /// It is not so: this is.
    Refuted(&'static str),
    /// No program can decide it, for this reason.
    Unobservable(&'static str),
}

impl Standing {
    /// The one word for it.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Holds => "holds",
            Standing::Qualified(_) => "qualified",
            Standing::Refuted(_) => "refuted",
            Standing::Unobservable(_) => "unobservable",
        }
    }

    /// What is right instead, the condition, or the reason.
    pub fn instead(self) -> Option<&'static str> {
        match self {
            Standing::Holds => None,
            Standing::Qualified(text) | Standing::Refuted(text) | Standing::Unobservable(text) => Some(text),
        }
    }
}

/// A statement of the documents and what puts it to a kernel.
pub struct Claim {
    /// Its name, dotted, from general to special.
    pub id: &'static str,
    /// The statement, in this project's words.
    pub statement: &'static str,
    /// Where the documents make it.
    pub documents: Vec<Place>,
    /// How it stands with Linux.
    pub standing: Standing,
    /// By what authority.
    pub basis: Vec<Basis>,
    /// The properties; none only for an unobservable claim.
    pub parts: Vec<Part>,
}

/// A facet of the system that a part's outcomes may depend on without the kernel being wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Depends {
    /// The architecture.
    Machine,
    /// The file system of the directory under test.
    FileSystem,
    /// The release of the kernel.
    Release,
    /// Privileges and limits of the caller.
    Privilege,
    /// The sizes of huge pages, and how many of each can be had.
    HugePages,
}

/// One property of a claim.
pub struct Part {
    /// Its name within the claim.
    pub name: &'static str,
    /// What is generated.
    pub about: String,
    /// It tries one case for so many that are asked for.
    pub one_in: usize,
    /// What its outcomes depend on: then they stand in a snapshot of their own.
    pub depends: Vec<Depends>,
    property: Box<dyn Property>,
}

trait Property {
    fn cases(&self, wanted: usize) -> usize;
    fn draw<'p>(&'p self, seed: Seed, index: usize) -> Box<dyn Case + 'p>;
}

/// One generated input, which can be run and made simpler.
pub trait Case {
    /// Runs the property once.
    fn run(&self, lab: &Lab) -> Verdict;
    /// The input, as a row of a snapshot shows it.
    fn input(&self) -> String;
    /// Makes the input simpler; `false` if it cannot be.
    fn simplify(&mut self) -> bool;
    /// Takes a part of the last simplification back; `false` if none is left.
    fn complicate(&mut self) -> bool;
}

struct ForAll<T: fmt::Debug, F> {
    inputs: Gen<T>,
    body: F,
}

struct Instance<'p, T: fmt::Debug, F> {
    drawn: Drawn<T>,
    body: &'p F,
}

impl<T: fmt::Debug + Clone + 'static, F: Fn(&Lab, T) -> Verdict> Property for ForAll<T, F> {
    fn cases(&self, wanted: usize) -> usize {
        self.inputs.cases(wanted)
    }

    fn draw<'p>(&'p self, seed: Seed, index: usize) -> Box<dyn Case + 'p> {
        Box::new(Instance { drawn: self.inputs.draw(seed, index), body: &self.body })
    }
}

impl<T: fmt::Debug + Clone + 'static, F: Fn(&Lab, T) -> Verdict> Case for Instance<'_, T, F> {
    fn run(&self, lab: &Lab) -> Verdict {
        (self.body)(lab, self.drawn.value())
    }

    fn input(&self) -> String {
        format!("{:?}", self.drawn.value())
    }

    fn simplify(&mut self) -> bool {
        self.drawn.simplify()
    }

    fn complicate(&mut self) -> bool {
        self.drawn.complicate()
    }
}

impl Part {
    /// How many cases it tries when so many are asked for.
    pub fn cases(&self, wanted: usize) -> usize {
        const AT_LEAST: usize = 8;
        let share = (wanted / self.one_in).max(AT_LEAST.min(wanted));
        self.property.cases(share)
    }

    /// The input of this index, drawn from a seed: the same for the same three.
    pub fn draw<'p>(&'p self, claim: &str, seed: u64, index: usize) -> Box<dyn Case + 'p> {
        self.property.draw(Seed::of(seed, claim, self.name, index), index)
    }
}

/// A claim with this id; what it says and how it is put to a kernel follow.
pub fn claim(id: &'static str) -> Claim {
    Claim { id, statement: "", documents: Vec::new(), standing: Standing::Holds, basis: Vec::new(), parts: Vec::new() }
}

impl Claim {
    /// How many cases one of its parts tries when so many are asked for: all up to 128, and of those above an equal share.
    pub fn cases(&self, part: &Part, wanted: usize) -> usize {
        const FOR_EACH: usize = 128;
        let shared = wanted.saturating_sub(FOR_EACH) / self.parts.len().max(1);
        part.cases(wanted.min(FOR_EACH) + shared)
    }

    /// What the documents say, in other words.
    pub fn states(mut self, statement: &'static str) -> Claim {
        self.statement = statement;
        self
    }

    /// Where they say it.
    pub fn documents(mut self, places: impl IntoIterator<Item = Place>) -> Claim {
        self.documents.extend(places);
        self
    }

    /// It is so.
    pub fn holds(mut self) -> Claim {
        self.standing = Standing::Holds;
        self
    }

    /// It is so only under this condition.
    pub fn qualified(mut self, condition: &'static str) -> Claim {
        self.standing = Standing::Qualified(condition);
        self
    }

    /// It is not so; this is.
    pub fn refuted(mut self, instead: &'static str) -> Claim {
        self.standing = Standing::Refuted(instead);
        self
    }

    /// No program can decide it, and why.
    pub fn unobservable(mut self, why: &'static str) -> Claim {
        self.standing = Standing::Unobservable(why);
        self
    }

    /// By what authority.
    pub fn basis(mut self, sources: impl IntoIterator<Item = Basis>) -> Claim {
        self.basis.extend(sources);
        self
    }

    /// The claim's only property, or its main one.
    pub fn for_all<T, F>(self, inputs: Gen<T>, body: F) -> Claim
    where
        T: fmt::Debug + Clone + 'static,
        F: Fn(&Lab, T) -> Verdict + 'static,
    {
        self.part("main", inputs, body)
    }

    /// A further property, with a name of its own.
    pub fn part<T, F>(mut self, name: &'static str, inputs: Gen<T>, body: F) -> Claim
    where
        T: fmt::Debug + Clone + 'static,
        F: Fn(&Lab, T) -> Verdict + 'static,
    {
        let about = inputs.about().to_owned();
        let property = Box::new(ForAll { inputs, body });
        self.parts.push(Part { name, about, one_in: 1, depends: Vec::new(), property });
        self
    }

    /// The latest part costs more than most (processes, disks): it tries one case for so many that are asked for.
    pub fn one_in(mut self, share: usize) -> Claim {
        if let Some(part) = self.parts.last_mut() {
            part.one_in = share.max(1);
        }
        self
    }

    /// The outcomes of the latest part are right and yet differ between systems, by this.
    pub fn depends_on(mut self, facets: impl IntoIterator<Item = Depends>) -> Claim {
        if let Some(part) = self.parts.last_mut() {
            part.depends.extend(facets);
        }
        self
    }
}
