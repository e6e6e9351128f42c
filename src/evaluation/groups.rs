//! Error rates per group, because one figure hides whom a model fails.
//!
//! `groups.csv`: a first line `person,COLUMN…` (age, sex, origin, camera …), then a line a person; a line whose first field is `person/file`
//! speaks of one picture. Within a group, FNMR is over genuine pairs and FMR over pairs of different people of that group (as NIST's FRTE part 8
//! counts, IR 8280); each with its 95 % interval, for groups are small.

use std::{collections::HashMap, path::Path};

use serde::Serialize;

use super::{EvaluationError, pairs::Pair, people::Sample, scores::wilson};

/// What is said of people and pictures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Groups {
    /// Names of the columns after the first.
    pub columns: Vec<String>,
    /// Person, or `person/file` → values, as many as there are columns; empty ones are unknown.
    values: HashMap<String, Vec<String>>,
}

/// Rates of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rates {
    /// The column.
    pub column: String,
    /// The value that makes the group.
    pub group: String,
    /// Genuine comparisons within the group.
    pub genuine: usize,
    /// Share of them refused, 0 to 1.
    pub fnmr: f64,
    /// 95 % interval of it.
    pub fnmr_interval: (f64, f64),
    /// Comparisons of different people of the group.
    pub impostor: usize,
    /// Share of them accepted, 0 to 1.
    pub fmr: f64,
    /// 95 % interval of it.
    pub fmr_interval: (f64, f64),
}

/// Fields of a line, separated by commas; quotes hold commas and doubled quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut field).trim().to_owned()),
            _ => field.push(c),
        }
    }
    out.push(field.trim().to_owned());
    out
}

/// Reads `groups.csv`.
///
/// # Errors
/// With the line, when the first one does not begin with `person` and a column, or another has not as many fields.
pub fn read(path: &Path) -> Result<Groups, EvaluationError> {
    let text = super::read_text(path)?;
    let text = text.trim_start_matches('\u{feff}');
    let at = |line: usize, message: String| EvaluationError::Line { path: path.to_owned(), line, message };
    let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    let columns = lines.next().map(|(_, line)| fields(line)).unwrap_or_default();
    if columns.len() < 2 || !columns[0].eq_ignore_ascii_case("person") {
        return Err(at(1, "the first line is `person,COLUMN…`, such as `person,sex,origin`".into()));
    }
    let mut groups = Groups { columns: columns[1..].to_vec(), values: HashMap::new() };
    for (number, line) in lines {
        let mut values = fields(line);
        if values.len() != columns.len() {
            return Err(at(number + 1, format!("has {} fields, the first line has {}", values.len(), columns.len())));
        }
        let key = values.remove(0);
        groups.values.insert(key, values);
    }
    Ok(groups)
}

impl Groups {
    /// Value of a column for a picture; its own line counts before its person's.
    fn of(&self, sample: &Sample, column: usize) -> Option<&str> {
        let values = self.values.get(&sample.name()).or_else(|| self.values.get(&sample.person))?;
        values.get(column).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Rates of every group at a threshold, by column, then by value. `similarities[i]` belongs to `pairs[i]`.
    pub fn rates(&self, samples: &[Sample], pairs: &[Pair], similarities: &[f32], threshold: f32) -> Vec<Rates> {
        let mut out = Vec::new();
        for (column, name) in self.columns.iter().enumerate() {
            let of: Vec<Option<&str>> = samples.iter().map(|s| self.of(s, column)).collect();
            // genuine, refused, impostor, accepted
            let mut counts: std::collections::BTreeMap<&str, [usize; 4]> =
                of.iter().flatten().map(|value| (*value, [0; 4])).collect();
            for (pair, similarity) in pairs.iter().zip(similarities) {
                let (Some(a), Some(b)) = (of[pair.a], of[pair.b]) else { continue };
                let Some(count) = counts.get_mut(a).filter(|_| a == b) else { continue };
                let accepted = *similarity >= threshold;
                let (all, errors) = if pair.same { (0, !accepted) } else { (2, accepted) };
                count[all] += 1;
                count[all + 1] += usize::from(errors);
            }
            out.extend(counts.into_iter().map(|(group, [genuine, refused, impostor, accepted])| Rates {
                column: name.clone(),
                group: group.to_owned(),
                genuine,
                fnmr: refused as f64 / genuine.max(1) as f64,
                fnmr_interval: wilson(refused, genuine),
                impostor,
                fmr: accepted as f64 / impostor.max(1) as f64,
                fmr_interval: wilson(accepted, impostor),
            }));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::people::all_pairs;

    fn groups(text: &str) -> Result<Groups, EvaluationError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("groups.csv");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn errors_are_counted_within_groups_only() {
        let groups =
            groups("person,origin,camera\nanna,x,\nberta,x,door\ncem,y,door\nanna/2.jpg,x,\"gate, left\"\n").unwrap();
        let sample =
            |person: &str, i: usize| Sample { person: person.into(), path: format!("{person}/{i}.jpg").into() };
        let samples =
            vec![sample("anna", 1), sample("anna", 2), sample("berta", 1), sample("cem", 1), sample("dora", 1)];
        let list = all_pairs(samples).unwrap();
        // anna-anna is refused, anna1-berta accepted.
        let similarity = |p: &Pair| {
            if p.same {
                0.3
            } else if (p.a, p.b) == (0, 2) {
                0.9
            } else {
                0.1
            }
        };
        let similarities: Vec<f32> = list.pairs.iter().map(similarity).collect();
        let rates = groups.rates(&list.samples, &list.pairs, &similarities, 0.5);
        let of = |column: &str, group: &str| rates.iter().find(|r| r.column == column && r.group == group).unwrap();
        let x = of("origin", "x");
        assert_eq!((x.genuine, x.fnmr, x.impostor, x.fmr), (1, 1.0, 2, 0.5));
        assert!(x.fmr_interval.0 < 0.5 && x.fmr_interval.1 > 0.5);
        assert_eq!((of("origin", "y").genuine, of("origin", "y").impostor), (0, 0));
        assert_eq!(of("camera", "door").impostor, 1);
        assert_eq!(of("camera", "gate, left").genuine, 0);
    }

    #[test]
    fn faults_name_the_line() {
        for (text, says) in [
            ("", "first line is"),
            ("name,sex\n", "first line is"),
            ("person\n", "first line is"),
            ("person,sex\na,b,c\n", "line 2: has 3 fields"),
        ] {
            let error = groups(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert_eq!(groups("\u{feff}Person,Sex\na,\"b\"\"c\"\n").unwrap().columns, ["Sex"]);
    }
}
