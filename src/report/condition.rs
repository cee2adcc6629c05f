//! A condition on a system: machine, kernel, release, page size, file system.

use serde::Deserialize;

use super::implementation;
use super::profile::Profile;

/// Machines, and the page sizes that their kernels can have, in bytes: any other condition on these never comes true.
const MACHINES: &[(&str, &[usize])] = &[
    ("x86_64", &[4 << 10]),
    ("aarch64", &[4 << 10, 16 << 10, 64 << 10]),
    ("ppc64le", &[4 << 10, 64 << 10]),
    ("riscv64", &[4 << 10]),
    ("s390x", &[4 << 10]),
];

/// Facts that all have to be so; a fact that is not named may be as it likes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// uname(2), machine.
    machine: Option<OneOf<String>>,
    /// Which kernel answers: linux, uml, gvisor, qemu-user.
    kernel: Option<OneOf<String>>,
    /// uname(2), sysname.
    sysname: Option<OneOf<String>>,
    /// uname(2), release: its numbers lie in this range.
    release: Option<String>,
    /// uname(2), version: it contains this.
    version: Option<String>,
    /// In bytes.
    page_size: Option<OneOf<usize>>,
    /// The type of the file system that holds the directory under test.
    filesystem: Option<OneOf<String>>,
}

/// One value, or a list of which any will do.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "this takes a value or a list of values")]
enum OneOf<T> {
    One(T),
    Any(Vec<T>),
}

impl<T: PartialEq> OneOf<T> {
    fn list(&self) -> &[T] {
        match self {
            OneOf::One(value) => std::slice::from_ref(value),
            OneOf::Any(values) => values,
        }
    }
}

impl Condition {
    /// Whether it is so on the system of this profile.
    pub fn matches(&self, profile: &Profile) -> bool {
        let named = |names: &Option<OneOf<String>>, name: &str| {
            names.as_ref().is_none_or(|names| names.list().iter().any(|one| one == name))
        };
        named(&self.machine, &profile.machine)
            && named(&self.kernel, profile.kernel)
            && named(&self.sysname, &profile.sysname)
            && named(&self.filesystem, &profile.filesystem.kind)
            && self.page_size.as_ref().is_none_or(|sizes| sizes.list().contains(&profile.page_size))
            && self.version.as_ref().is_none_or(|part| profile.version.contains(part.as_str()))
            && self.release.as_ref().is_none_or(|range| {
                Range::parse(range).is_ok_and(|range| range.holds(release_numbers(&profile.release)))
            })
    }

    /// Whether any system could be so.
    ///
    /// # Errors
    /// Why none can.
    pub fn check(&self) -> Result<(), String> {
        let names = [&self.machine, &self.kernel, &self.sysname, &self.filesystem];
        let no_name = |names: &&OneOf<String>| names.list().is_empty() || names.list().iter().any(String::is_empty);
        if names.into_iter().flatten().any(|names| no_name(&names)) || self.version.as_deref() == Some("") {
            return Err("an empty name or list matches no system".into());
        }
        let known: Vec<&str> = MACHINES.iter().map(|(name, _)| *name).collect();
        for machine in self.machine.iter().flat_map(OneOf::list) {
            if !known.contains(&machine.as_str()) {
                return Err(format!("unknown machine {machine:?}; there are {}", known.join(", ")));
            }
        }
        for kernel in self.kernel.iter().flat_map(OneOf::list) {
            if !implementation::NAMES.contains(&kernel.as_str()) {
                return Err(format!("unknown kernel {kernel:?}; there are {}", implementation::NAMES.join(", ")));
            }
        }
        self.check_page_sizes()?;
        self.release.as_deref().map_or(Ok(()), |range| Range::parse(range).map(drop))
    }

    /// Each size must be one that some machine, of those that are named, can have.
    fn check_page_sizes(&self) -> Result<(), String> {
        let Some(sizes) = &self.page_size else { return Ok(()) };
        if sizes.list().is_empty() {
            return Err("an empty list matches no system".into());
        }
        let possible =
            |name: &str| self.machine.as_ref().is_none_or(|names| names.list().iter().any(|one| one == name));
        for size in sizes.list() {
            if !MACHINES.iter().any(|(name, sizes)| possible(name) && sizes.contains(size)) {
                return Err(format!("no such machine has pages of {size} bytes"));
            }
        }
        Ok(())
    }
}

type Numbers = [u32; 3];

/// Releases from one, which is in it, up to another, which is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: Numbers,
    below: Numbers,
}

impl Range {
    /// Reads `>=6.1, <6.12`: comparisons that all have to be so. `6.1` stands for all of 6.1, as in `=6.1` and `<=6.1`.
    fn parse(text: &str) -> Result<Range, String> {
        let mut range = Range { from: [0; 3], below: [u32::MAX; 3] };
        for comparison in text.split(',') {
            let comparison = comparison.trim();
            let number = comparison.trim_start_matches(['<', '>', '=']);
            let sign = &comparison[..comparison.len() - number.len()];
            let (first, next) =
                bounds(number.trim()).ok_or_else(|| format!("{comparison:?} compares with no release such as 6.12"))?;
            let (from, below) = match sign {
                ">=" => (first, range.below),
                ">" => (next, range.below),
                "<" => (range.from, first),
                "<=" => (range.from, next),
                "=" => (first, next),
                _ => return Err(format!("{comparison:?} has to begin with >=, >, <=, < or =")),
            };
            range = Range { from: range.from.max(from), below: range.below.min(below) };
        }
        if range.from >= range.below { Err(format!("no release is {text}")) } else { Ok(range) }
    }

    fn holds(self, release: Numbers) -> bool {
        self.from <= release && release < self.below
    }
}

/// The first release that begins with these numbers, and the first one after all that do.
fn bounds(text: &str) -> Option<(Numbers, Numbers)> {
    let numbers: Vec<u32> = text.split('.').map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let mut first = Numbers::default();
    first.get_mut(..numbers.len())?.copy_from_slice(&numbers);
    let mut next = first;
    let last = numbers.len().checked_sub(1)?;
    next[last] = next[last].checked_add(1)?;
    Some((first, next))
}

/// The numbers at the head of a release: 7.3.0 of `7.3-rc7-amd64`.
fn release_numbers(release: &str) -> Numbers {
    let head = release.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let mut numbers = Numbers::default();
    for (number, word) in numbers.iter_mut().zip(head.split('.')) {
        *number = word.parse().unwrap_or(0);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_lies_between_its_ends() {
        let cases = [
            (">=6.1, <6.12", "6.1.0-49-amd64", true),
            (">=6.1, <6.12", "6.11.9", true),
            (">=6.1, <6.12", "6.12.0", false),
            (">=6.1, <6.12", "5.10.223", false),
            ("=6.1", "6.1.176", true),
            ("=6.1.2", "6.1.176", false),
            ("<=6.1", "6.1.176", true),
            (">6.1", "6.1.176", false),
            (">6.1", "6.2.0", true),
            (">=7.3", "7.3-rc7-amd64", true),
            ("=4", "4.4.0", true),
        ];
        for (range, release, expected) in cases {
            let holds = Range::parse(range).expect("a range").holds(release_numbers(release));
            assert_eq!(holds, expected, "{release} in {range}");
        }
    }

    #[test]
    fn a_range_that_holds_nothing_is_no_range() {
        for range in [">=6.12, <6.1", ">6.1, <6.2", "<0", "", "6.1", "~6.1", ">=", ">=6.1.2.3", ">=six", "=6.1,"] {
            assert!(Range::parse(range).is_err(), "{range}");
        }
    }
}
