//! What the tables of all evaluations share: figures beside each other, percentages, pictures that could not be read.

use std::io;

use crate::{
    cli::{
        error::{OK, PARTLY},
        output::{Ink, Io, cell, plain},
    },
    evaluation::{Found, faces::Unreadable},
};

/// A share as per cent with as many digits as hundreds of pairs carry.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// The name of a column: the model, and what was changed about it.
pub fn column(model: &str, mirror: bool) -> String {
    if mirror { format!("{model} (mirror)") } else { model.to_owned() }
}

/// A table with a line a figure and a column a model.
pub fn beside(io: &mut Io<'_>, columns: &[String], rows: &[(&str, Vec<String>)]) -> io::Result<()> {
    let mut headings = vec![""];
    headings.extend(columns.iter().map(String::as_str));
    let mut table = io.table(&headings);
    for (name, values) in rows {
        let mut row = vec![cell(*name, Some(Ink::Dim))];
        row.extend(values.iter().map(|v| cell(v, None)));
        table.add_row(row);
    }
    io.show(&table)
}

/// Counts of pictures that gave no face.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lost {
    /// Pictures looked at.
    pub pictures: usize,
    /// Pictures in which the detector saw no face, unreadable ones included.
    pub no_face: usize,
    /// Pictures that could not be read.
    pub unreadable: usize,
}

impl Lost {
    /// Counts.
    pub fn of(found: &[Found]) -> Self {
        Self {
            pictures: found.len(),
            no_face: found.iter().filter(|f| f.face().is_none()).count(),
            unreadable: found.iter().filter(|f| matches!(f, Found::Unreadable(_))).count(),
        }
    }

    /// Share of pictures without a face, 0 to 1.
    pub fn share(&self) -> f64 {
        self.no_face as f64 / self.pictures.max(1) as f64
    }
}

/// Most pictures that are named on stderr.
const NAMED: usize = 20;

/// Names the pictures that could not be read, on stderr.
pub fn name_unreadable(io: &mut Io<'_>, bad: &[Unreadable]) -> io::Result<()> {
    for Unreadable { path, why } in bad.iter().take(NAMED) {
        io.remark(format!("warning: {}: {}", plain(&path.display().to_string()), plain(why)))?;
    }
    if bad.len() > NAMED {
        io.remark(format!("warning: {} more pictures could not be read", bad.len() - NAMED))?;
    }
    Ok(())
}

/// The exit code of a command that could not read some pictures.
pub fn exit(bad: &[Unreadable]) -> u8 {
    if bad.is_empty() { OK } else { PARTLY }
}
