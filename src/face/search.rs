//! Where in a camera's frame faces are looked for: around what changed since it was last searched, and around the faces that are there. Pure.
//!
//! A face can't show up without changing what is seen, so what looks as it did when it was last searched, and showed no face, needs no
//! search. The detector takes inputs of any size, and its time goes with their area.

use std::time::Duration;

use crate::{
    frame::{
        BBox,
        luma::{CHANGED, COLUMNS, FEW, LumaGrid, ROWS},
        scale::{self, Part},
    },
    time::Timestamp,
};

mod squares;
use squares::{FIXED, STEP, Wanted};

/// Parts that cost more than this share of a frame save too little.
const LARGE: f32 = 0.7;
/// The whole is searched this long after the last time, while faces are there or something moves: nobody who was overlooked stays so …
const WHOLE_EVERY: Duration = Duration::from_secs(1);
/// … and while neither is so.
const WHOLE_EVERY_EMPTY: Duration = Duration::from_secs(5);
/// So near to an inner edge, pixels of the input, a box is cut off there.
const NEAR_EDGE: f32 = 2.0;

/// A part of a frame, and the size at which the detector sees it: the same scale as the whole frame's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// In pixels of the frame.
    pub part: Part,
    /// Width and height of the input.
    pub size: (u32, u32),
}

impl Window {
    fn holds(&self, place: &BBox) -> bool {
        let Part { x, y, width, height } = self.part;
        place.x1 >= x as f32
            && place.y1 >= y as f32
            && place.x2 <= (x + width) as f32
            && place.y2 <= (y + height) as f32
    }

    /// Whether a face of the frame is cut off by an edge of the part that is none of the frame.
    pub fn cuts(&self, face: &BBox, frame: (u32, u32)) -> bool {
        let Part { x, y, width, height } = self.part;
        let near = NEAR_EDGE * width as f32 / self.size.0.max(1) as f32;
        (x > 0 && face.x1 < x as f32 + near)
            || (y > 0 && face.y1 < y as f32 + near)
            || (x + width < frame.0 && face.x2 > (x + width) as f32 - near)
            || (y + height < frame.1 && face.y2 > (y + height) as f32 - near)
    }
}

/// What was seen when each part of one camera's view was last searched.
#[derive(Debug, Default)]
pub struct Search {
    seen: Option<LumaGrid>,
    frame: (u32, u32),
    /// When the whole was last searched.
    whole: Option<Timestamp>,
    /// Faces found in the last search, and those before that it missed, until the whole is searched.
    found: Vec<BBox>,
}

impl Search {
    /// The parts of a frame that are to be searched, which don't overlap; `None` for the whole. `expected` are the places of faces that are
    /// followed, `side` the longer side of the detector's input.
    pub fn windows(
        &self,
        grid: &LumaGrid,
        frame: (u32, u32),
        expected: &[BBox],
        side: u32,
        at: Timestamp,
    ) -> Option<Vec<Window>> {
        let (seen, whole) = (self.seen.as_ref()?, self.whole?);
        let changed = cells(grid, seen, frame)?;
        let moves = changed.len() as f32 > FEW * (COLUMNS * ROWS) as f32;
        let empty = expected.is_empty() && self.found.is_empty() && !moves;
        let every = if empty { WHOLE_EVERY_EMPTY } else { WHOLE_EVERY };
        // A clock that was set back says nothing.
        let since = at.duration_since(whole);
        if frame != self.frame || since.is_negative() || since.unsigned_abs() >= every {
            return None;
        }
        let input = scale::fitted(frame.0, frame.1, side);
        let scale = (input.0 as f32 / frame.0.max(1) as f32, input.1 as f32 / frame.1.max(1) as f32);
        let mut wanted = Wanted::new(input);
        for place in changed.iter().chain(expected).chain(&self.found) {
            wanted.mark(place, scale);
        }
        let boxes = wanted.boxes();
        let cost: u32 = boxes.iter().map(|b| b.area() + FIXED).sum();
        if boxes.is_empty() || cost as f32 * (STEP * STEP) as f32 > LARGE * input.0 as f32 * input.1 as f32 {
            return None;
        }
        Some(boxes.into_iter().map(|b| b.window(frame, input)).collect())
    }

    /// A frame was searched, in parts or (`None`) as a whole.
    pub fn searched(
        &mut self,
        grid: &LumaGrid,
        frame: (u32, u32),
        windows: Option<&[Window]>,
        found: impl Iterator<Item = BBox>,
        at: Timestamp,
    ) {
        let found: Vec<BBox> = found.collect();
        match (windows, &mut self.seen) {
            (Some(windows), Some(seen)) => {
                // A face that flickers is looked for again where it was, though nothing moves there and nobody follows it.
                self.found.retain(|old| !found.iter().any(|new| is_near(old, new)));
                self.found.extend(found);
                // A cell that was seen in part only was not searched.
                seen.take_from(grid, |cell| windows.iter().any(|window| window.holds(&place(cell, frame))));
            }
            _ => {
                self.found = found;
                (self.seen, self.frame, self.whole) = (Some(grid.clone()), frame, Some(at));
            }
        }
    }
}

/// Whether a face found may be one found before, which moved by less than its own size.
fn is_near(old: &BBox, new: &BBox) -> bool {
    let (a, b) = (old.center(), new.center());
    (a.x - b.x).abs() < old.width() && (a.y - b.y).abs() < old.height()
}

/// Where in a frame a cell of its map is.
fn place(cell: usize, (width, height): (u32, u32)) -> BBox {
    let (columns, rows) = (COLUMNS.min(width as usize), ROWS.min(height as usize));
    let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
    let (w, h) = (width as f32 / columns as f32, height as f32 / rows as f32);
    BBox::new(column * w, row * h, (column + 1.0) * w, (row + 1.0) * h)
}

/// Places of the cells that changed; `None` for pictures of another size.
fn cells(grid: &LumaGrid, seen: &LumaGrid, frame: (u32, u32)) -> Option<Vec<BBox>> {
    let change = grid.change(seen)?;
    Some((0..change.len()).filter(|cell| change[*cell] > CHANGED).map(|cell| place(cell, frame)).collect())
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Picture;

    const HD: (u32, u32) = (1920, 1080);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    /// A room with things in it: x, y, edge, brightness; a sixth of the size of the frames that it stands for.
    fn room(things: &[(u32, u32, u32, u8)]) -> LumaGrid {
        let mut image = RgbImage::from_pixel(320, 180, Rgb([120; 3]));
        for &(x, y, edge, value) in things {
            (0..edge * edge).for_each(|i| image.put_pixel((x + i % edge) / 6, (y + i / edge) / 6, Rgb([value; 3])));
        }
        LumaGrid::of(&Picture::from_rgb(image))
    }

    fn one(windows: Option<Vec<Window>>) -> Window {
        let windows = windows.unwrap();
        assert_eq!(windows.len(), 1, "{windows:?}");
        windows[0]
    }

    fn begun(found: &[BBox]) -> Search {
        let mut search = Search::default();
        search.searched(&room(&[]), HD, None, found.iter().copied(), at(0));
        search
    }

    #[test]
    fn who_comes_is_searched_for_with_something_around_and_the_rest_is_left_out() {
        let search = begun(&[]);
        let window = one(search.windows(&room(&[(900, 480, 120, 220)]), HD, &[], 640, at(200)));
        // 300 to 340 and 160 to 200 in the input, and 64 around.
        assert_eq!(window.size, (416 - 224, 288 - 96));
        assert_eq!(window.part, Part { x: 672, y: 288, width: 576, height: 576 });
        let corner = one(search.windows(&room(&[(0, 0, 60, 220)]), HD, &[], 640, at(200)));
        assert_eq!(corner.part, Part { x: 0, y: 0, width: 288, height: 288 });
        let bottom = one(search.windows(&room(&[(1800, 1000, 60, 220)]), HD, &[], 640, at(200)));
        assert_eq!((bottom.part.x + bottom.part.width, bottom.part.y + bottom.part.height), HD);
        assert_eq!(bottom.size.1, 360 - 256);
    }

    #[test]
    fn faces_that_are_there_are_searched_for_wherever_something_moves() {
        let face = BBox::new(300.0, 300.0, 400.0, 400.0);
        let beside = BBox::new(500.0, 300.0, 600.0, 400.0);
        for (found, expected) in [(vec![face, beside], vec![]), (vec![face], vec![beside])] {
            let window = one(begun(&found).windows(&room(&[]), HD, &expected, 640, at(200)));
            let (left, right) = (window.part.x, window.part.x + window.part.width);
            assert!(left <= 300 - 192 && right >= 600 + 192, "{window:?}");
        }
    }

    #[test]
    fn two_who_are_far_apart_are_searched_for_apart() {
        let moved = room(&[(100, 100, 60, 220), (1700, 900, 60, 220)]);
        let windows = begun(&[]).windows(&moved, HD, &[], 640, at(10)).unwrap();
        assert_eq!(windows.len(), 2, "{windows:?}");
        let area: u32 = windows.iter().map(|w| w.size.0 * w.size.1).sum();
        assert!(area < 640 * 360 / 4, "{windows:?}");
        // Of four, two that are near each other are searched together.
        let four = room(&[(100, 100, 30, 220), (500, 100, 30, 220), (100, 900, 30, 220), (1700, 900, 30, 220)]);
        let windows = begun(&[]).windows(&four, HD, &[], 640, at(10)).unwrap();
        assert_eq!(windows.len(), 3, "{windows:?}");
    }

    #[test]
    fn the_whole_is_searched_in_the_beginning_now_and_then_and_when_much_changes() {
        let (face, still) = (BBox::new(300.0, 300.0, 400.0, 400.0), room(&[]));
        assert_eq!(Search::default().windows(&still, HD, &[], 640, at(0)), None);
        let search = begun(&[face]);
        assert!(search.windows(&still, HD, &[], 640, at(990)).is_some());
        assert_eq!(search.windows(&still, HD, &[], 640, at(1000)), None);
        assert_eq!(search.windows(&still, HD, &[], 640, at(-10)), None, "the clock was set back");
        assert_eq!(search.windows(&still, (1280, 720), &[], 640, at(10)), None, "another size");
        let crowd = room(&std::array::from_fn::<_, 12, _>(|i| ((i as u32 % 4) * 500, (i as u32 / 4) * 400, 60, 220)));
        assert_eq!(search.windows(&crowd, HD, &[], 640, at(10)), None, "everywhere");
        let empty = begun(&[]);
        assert_eq!(
            empty.windows(&still, HD, &[], 640, at(10)),
            None,
            "somebody asks for a search although nothing changed"
        );
        assert!(empty.windows(&room(&[(900, 480, 60, 220)]), HD, &[], 640, at(4990)).is_some());
        assert_eq!(empty.windows(&room(&[(900, 480, 60, 220)]), HD, &[], 640, at(5000)), None);
        let large = room(&[(900, 480, 240, 220)]);
        assert!(empty.windows(&large, HD, &[], 640, at(990)).is_some());
        assert_eq!(
            empty.windows(&large, HD, &[], 640, at(1000)),
            None,
            "somebody may be there whose face was not seen yet"
        );
    }

    #[test]
    fn a_face_that_is_missed_once_is_looked_for_where_it_was_until_the_whole_is_searched() {
        let walker = |x: f32| BBox::new(x, 300.0, x + 100.0, 400.0);
        let (seated, still) = (BBox::new(1500.0, 700.0, 1560.0, 760.0), room(&[]));
        let mut search = begun(&[walker(300.0), seated]);
        for step in 1..4 {
            let windows = search.windows(&still, HD, &[], 640, at(step * 200)).unwrap();
            let holds = |place: &BBox| windows.iter().any(|window| window.holds(place));
            assert!(holds(&seated) && holds(&walker(300.0 + 60.0 * step as f32)), "{windows:?}");
            // It is not found again; who walks is, half a face further.
            let found = [walker(300.0 + 60.0 * step as f32)].into_iter();
            search.searched(&still, HD, Some(&windows), found, at(step * 200));
            assert_eq!(search.found.len(), 2, "who walks is looked for once");
        }
        search.searched(&still, HD, None, std::iter::empty(), at(1000));
        assert_eq!(search.windows(&still, HD, &[], 640, at(1200)), None, "nobody is there any more");
    }

    #[test]
    fn what_was_searched_is_known_and_what_was_not_is_not() {
        let mut search = begun(&[]);
        let first = room(&[(300, 480, 60, 220)]);
        let windows = search.windows(&first, HD, &[], 640, at(200));
        // Meanwhile something changed elsewhere, too, a little: not within the part.
        let second = room(&[(300, 480, 60, 220), (1500, 480, 60, 220)]);
        search.searched(&second, HD, windows.as_deref(), std::iter::empty(), at(200));
        let next = one(search.windows(&second, HD, &[], 640, at(400)));
        assert!(next.part.x > 900, "{next:?}");
        search.searched(&second, HD, Some(&[next]), std::iter::empty(), at(400));
        assert_eq!(search.windows(&second, HD, &[], 640, at(600)), None);
    }

    #[test]
    fn a_face_at_an_inner_edge_is_cut_off_and_one_at_the_frames_edge_is_not() {
        let window = Window { part: Part { x: 0, y: 288, width: 576, height: 576 }, size: (192, 192) };
        let face = |x: f32, y: f32| BBox::new(x, y, x + 100.0, y + 100.0);
        assert!(!window.cuts(&face(0.0, 400.0), HD));
        assert!(window.cuts(&face(100.0, 290.0), HD));
        assert!(window.cuts(&face(474.0, 400.0), HD));
        assert!(window.cuts(&face(100.0, 762.0), HD));
        assert!(!window.cuts(&face(200.0, 500.0), HD));
    }

    proptest! {
        #[test]
        fn a_window_lies_in_the_frame_at_the_scale_of_the_whole(
            w in 64u32..4000, h in 64u32..4000, side in 128u32..1300, x in 0f32..1.0, y in 0f32..1.0, edge in 1f32..400.0,
        ) {
            let grid = LumaGrid::of(&Picture::from_rgb(RgbImage::new(64, 36)));
            let mut search = Search::default();
            search.searched(&grid, (w, h), None, std::iter::empty(), at(0));
            let (x, y) = (x * w as f32, y * h as f32);
            let face = BBox::new(x, y, x + edge, y + edge);
            for Window { part, size } in search.windows(&grid, (w, h), &[face], side, at(100)).unwrap_or_default() {
                prop_assert!(part.x + part.width <= w && part.y + part.height <= h && part.width > 0 && part.height > 0);
                let whole = scale::fitted(w, h, side);
                prop_assert!(size.0 <= whole.0 && size.1 <= whole.1);
                let expected = part.width as f32 * whole.0 as f32 / w as f32;
                prop_assert!((expected - size.0 as f32).abs() <= 2.5, "{expected} {size:?}");
                let inside = face.clipped(w, h);
                prop_assert!(inside.x1 >= part.x as f32 - 2.0 && inside.x2 <= (part.x + part.width) as f32 + 2.0);
                prop_assert!(inside.y1 >= part.y as f32 - 2.0 && inside.y2 <= (part.y + part.height) as f32 + 2.0);
            }
        }
    }
}
