//! What was found when it was last measured: needed.tsv, one line for each defect.
//!
//! Its columns are the defect's name; the least number of cases with which a claim named for it finds it; the named claims that
//! find it with up to 256 cases; and the other claims of the documents that find it with 8, `-` for none, `?` where they were not tried.

use std::collections::BTreeMap;

/// The columns, as the file's first line has them.
pub const HEADING: &str = "defect\tcases\tfound by\tand by";
const UNTRIED: &str = "?";
const NONE: &str = "-";
/// The file, in the repository.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/defects/needed.tsv");

/// What was found of one defect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Cases needed.
    pub cases: usize,
    /// Claims named for it that find it, in the order of their names.
    pub named: Vec<String>,
    /// Other claims that find it, unless nobody has tried.
    pub others: Option<Vec<String>>,
}

impl Finding {
    /// The one claim that finds it.
    pub fn alone(&self) -> Option<&str> {
        match (self.named.as_slice(), self.others.as_deref()) {
            ([one], Some([])) => Some(one),
            _ => None,
        }
    }
}

/// What was found, by the defect's name; one that was missed is not in it.
#[derive(Default)]
pub struct Findings(pub BTreeMap<String, Finding>);

impl Findings {
    /// Those of the repository.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is not of three columns.
    pub fn read() -> Result<Findings, String> {
        let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        let rows = text.lines().skip(1).map(|line| row(line).ok_or_else(|| format!("{FILE}: {line:?} is no row")));
        Ok(Findings(rows.collect::<Result<_, _>>()?))
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = format!("{HEADING}\n");
        for (name, Finding { cases, named, others }) in &self.0 {
            let others = match others.as_deref() {
                None => UNTRIED.to_owned(),
                Some([]) => NONE.to_owned(),
                Some(claims) => claims.join(" "),
            };
            text += &format!("{name}\t{cases}\t{}\t{others}\n", named.join(" "));
        }
        text
    }

    /// How many cases the named claims needed to find a defect.
    pub fn needed(&self, defect: &str) -> Option<usize> {
        self.0.get(defect).map(|finding| finding.cases)
    }
}

fn row(line: &str) -> Option<(String, Finding)> {
    let mut columns = line.split('\t');
    let mut next = || columns.next();
    let (name, cases, named, others) = (next()?, next()?.parse().ok()?, next()?, next()?);
    let list = |text: &str| text.split(' ').map(str::to_owned).collect();
    let others = match others {
        UNTRIED => None,
        NONE => Some(Vec::new()),
        claims => Some(list(claims)),
    };
    Some((name.to_owned(), Finding { cases, named: list(named), others }))
}
