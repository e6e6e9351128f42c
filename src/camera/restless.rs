//! What changes again and again and is nobody: the time of day that a camera writes into its picture, a lamp that blinks. A pure rule over
//! coarse maps of brightness.

use std::time::{Duration, Instant};

use crate::frame::luma::{CHANGED, COLUMNS, FEW, LumaGrid, row_and_column};

/// Changes within this time count once.
const WINDOW: Duration = Duration::from_secs(1);
/// A cell is restless that changed in more windows than this.
const OFTEN: f32 = 2.0;
/// A window fades over this long; windows that say nothing don't count.
const MEMORY: Duration = Duration::from_secs(120);
/// More windows than this count no more: what no longer changes is forgotten a minute and a half later.
const MOST: f32 = 4.0;
/// Cells to the left and right of a restless one that belong to it: the minutes are written beside the seconds.
const BESIDE: usize = 4;

/// Learns which cells are restless.
#[derive(Debug, Default)]
pub struct Restless {
    last: Option<LumaGrid>,
    /// When the present window began.
    since: Option<Instant>,
    /// Cells that changed in it.
    changed: Vec<bool>,
    /// Windows in which each cell changed; old ones fade.
    windows: Vec<f32>,
    /// Restless cells and their neighbours.
    cells: Vec<bool>,
}

impl Restless {
    /// Takes the map of the next picture. While a face is `tracked` nothing is learnt, and nothing forgotten: whoever is there may stand before the clock.
    /// Cells that are not `watched` say nothing.
    pub fn learn(&mut self, grid: &LumaGrid, watched: impl Fn(usize) -> bool, tracked: bool, now: Instant) {
        let before = self.last.replace(grid.clone());
        let elsewhere = before.as_ref().is_some_and(|before| grid.is_another_view(before));
        match before.and_then(|before| grid.change(&before)) {
            // The camera was turned, or sends pictures of another size.
            _ if elsewhere => *self = Self { last: self.last.take(), since: Some(now), ..Self::default() },
            _ if tracked => self.since = None,
            None => self.since = Some(now),
            Some(cells) => self.mark(&cells, watched, now),
        }
    }

    fn mark(&mut self, cells: &[f32], watched: impl Fn(usize) -> bool, now: Instant) {
        let since = *self.since.get_or_insert_with(|| {
            self.changed.clear();
            now
        });
        self.changed.resize(cells.len(), false);
        for (cell, (changed, by)) in self.changed.iter_mut().zip(cells).enumerate() {
            *changed |= *by > CHANGED && watched(cell);
        }
        let lasted = now.saturating_duration_since(since);
        if lasted < WINDOW {
            return;
        }
        let together = self.changed.iter().filter(|changed| **changed).count();
        self.windows.resize(cells.len(), 0.0);
        if together as f32 <= FEW * cells.len() as f32 {
            let kept = (-lasted.as_secs_f32() / MEMORY.as_secs_f32()).exp();
            for (windows, changed) in self.windows.iter_mut().zip(&self.changed) {
                *windows = (*windows * kept + f32::from(u8::from(*changed))).min(MOST);
            }
            self.cells = with_neighbours(&self.windows);
        }
        self.changed.fill(false);
        self.since = Some(now);
    }

    /// Whether a cell is restless, or stands beside one that is.
    pub fn is_restless(&self, cell: usize) -> bool {
        self.cells.get(cell).copied().unwrap_or_default()
    }
}

/// Restless cells with those beside, above and below them; none when so many are restless that the scene is.
fn with_neighbours(windows: &[f32]) -> Vec<bool> {
    let restless: Vec<usize> = (0..windows.len()).filter(|cell| windows[*cell] > OFTEN).collect();
    let mut cells = vec![false; windows.len()];
    if restless.len() as f32 > FEW * windows.len() as f32 {
        return cells;
    }
    let columns = COLUMNS.min(windows.len());
    for cell in restless {
        let (row, column) = row_and_column(cell, windows.len());
        for row in row.saturating_sub(1)..=row + 1 {
            for column in column.saturating_sub(BESIDE)..=(column + BESIDE).min(columns - 1) {
                cells.get_mut(row * columns + column).into_iter().for_each(|near| *near = true);
            }
        }
    }
    cells
}
