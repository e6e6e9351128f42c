//! Large pictures in tiles, so that small faces are found: which tiles, and one list of faces out of theirs.
//!
//! The detector misses faces narrower than about 16 pixels of its input, and one frame scaled to that input makes far faces
//! narrower than that although the frame has enough pixels to recognise them. Tiles are looked at beside the whole frame, at a scale at which
//! the smallest face that can be recognised has 20 pixels; the whole frame finds the large ones. Akyon et al., "Slicing Aided
//! Hyper Inference", ICIP 2022, do the same for objects. Pure.

use super::Detection;
use crate::frame::{BBox, scale::Part};

/// Width of the smallest face worth finding, in pixels of a tile's input: nine of ten such faces are found.
const WANTED_PX: f32 = 20.0;
/// Tiles that are barely larger than the whole frame's scale are not worth their cost.
const LEAST_GAIN: f32 = 1.25;
/// Most tiles of a picture; beyond it they are scaled down.
const MOST: u32 = 24;
/// Part of a tile that its neighbours see as well.
const OVERLAP: f32 = 0.25;
/// Boxes so near to a tile's inner edge, in parts of the tile, are cut off there: a neighbour has the whole face.
const NEAR_EDGE: f32 = 0.01;
/// Overlap from which two boxes are one face: as in the detector, …
const SAME_IOU: f32 = 0.4;
/// … or so much of the smaller one lies in the other.
const SAME_PART: f32 = 0.7;

/// Square tiles of a picture, in its pixels; none when the whole, scaled to `side`, shows faces of `smallest_px` well enough.
pub fn tiles(width: u32, height: u32, side: u32, smallest_px: f32) -> Vec<Part> {
    let (w, h, side) = (width as f32, height as f32, side as f32);
    let whole = (side / w.max(h)).min(1.0);
    let wanted = (WANTED_PX / smallest_px.max(1.0)).min(1.0);
    if !wanted.is_finite() || wanted < whole * LEAST_GAIN {
        return Vec::new();
    }
    let mut edge = side / wanted;
    let along = |length: f32, edge: f32| ((length - edge * OVERLAP) / (edge * (1.0 - OVERLAP))).ceil().max(1.0) as u32;
    while along(w, edge) * along(h, edge) > MOST {
        edge *= 1.1;
    }
    let (columns, rows) = (along(w, edge), along(h, edge));
    let edge = |length: u32| (edge.ceil() as u32).min(length);
    let (tile_width, tile_height) = (edge(width), edge(height));
    // The last tile ends where the picture does, so all have one shape.
    let start = |i: u32, of: u32, length: u32, edge: u32| (length - edge) * i / of.saturating_sub(1).max(1);
    let tile = |i: u32| Part {
        x: start(i % columns, columns, width, tile_width),
        y: start(i / columns, rows, height, tile_height),
        width: tile_width,
        height: tile_height,
    };
    (0..columns * rows).map(tile).collect()
}

/// One list from the faces of the whole picture and those of each tile, all in the picture's pixels; highest score first.
pub fn merged(whole: Vec<Detection>, tiles: Vec<(Part, Vec<Detection>)>, width: u32, height: u32) -> Vec<Detection> {
    let mut all = whole;
    for (tile, faces) in tiles {
        let near = tile.width.max(tile.height) as f32 * NEAR_EDGE;
        let (right, bottom) = (tile.x + tile.width, tile.y + tile.height);
        let cut_off = |b: &BBox| {
            (tile.x > 0 && b.x1 < tile.x as f32 + near)
                || (tile.y > 0 && b.y1 < tile.y as f32 + near)
                || (right < width && b.x2 > right as f32 - near)
                || (bottom < height && b.y2 > bottom as f32 - near)
        };
        all.extend(faces.into_iter().filter(|face| !cut_off(&face.bbox)));
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for face in all {
        if !kept.iter().any(|other| is_same(&other.bbox, &face.bbox)) {
            kept.push(face);
        }
    }
    kept
}

fn is_same(a: &BBox, b: &BBox) -> bool {
    let width = (a.x2.min(b.x2) - a.x1.max(b.x1)).max(0.0);
    let height = (a.y2.min(b.y2) - a.y1.max(b.y1)).max(0.0);
    a.iou(b) > SAME_IOU || width * height > SAME_PART * a.area().min(b.area())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Point;

    fn face(x: f32, y: f32, edge: f32, score: f32) -> Detection {
        Detection { bbox: BBox::new(x, y, x + edge, y + edge), score, landmarks: [Point::default(); 5] }
    }

    #[test]
    fn small_pictures_need_no_tiles_and_large_ones_get_few() {
        assert!(tiles(640, 480, 640, 40.0).is_empty());
        assert!(tiles(1000, 800, 640, 40.0).is_empty());
        let full_hd = tiles(1920, 1080, 640, 40.0);
        assert_eq!(full_hd.len(), 2, "{full_hd:?}");
        assert!(tiles(6000, 4000, 640, 40.0).len() <= 24);
        assert!(!tiles(60_000, 200, 640, 40.0).is_empty(), "a strip");
        assert!(tiles(0, 0, 640, 40.0).is_empty());
    }

    #[test]
    fn faces_cut_by_a_tile_and_seen_twice_count_once() {
        let tiles = vec![
            (
                Part { x: 0, y: 0, width: 640, height: 640 },
                vec![face(600.0, 100.0, 40.0, 0.95), face(100.0, 100.0, 30.0, 0.9)],
            ),
            (Part { x: 480, y: 0, width: 640, height: 640 }, vec![face(600.0, 100.0, 60.0, 0.9)]),
        ];
        let whole = vec![face(101.0, 99.0, 31.0, 0.7), face(590.0, 95.0, 70.0, 0.8)];
        let found = merged(whole, tiles, 1120, 640);
        assert_eq!(found.iter().map(|f| f.score).collect::<Vec<_>>(), [0.9, 0.9]);
        assert!(merged(vec![], vec![], 10, 10).is_empty());
    }

    proptest! {
        #[test]
        fn every_face_of_the_smallest_size_is_whole_in_a_tile(w in 700u32..9000, h in 700u32..9000, x in 0f32..1.0, y in 0f32..1.0) {
            let all = tiles(w, h, 640, 40.0);
            prop_assert!(all.len() <= 24);
            let (x, y) = (x * (w as f32 - 60.0), y * (h as f32 - 60.0));
            for tile in &all {
                prop_assert!(tile.width > 0 && tile.x + tile.width <= w && tile.y + tile.height <= h);
            }
            let seen = vec![face(x, y, 60.0, 0.9)];
            let inside = all.iter().filter(|t| {
                let (left, top) = (t.x as f32, t.y as f32);
                left <= x && top <= y && left + t.width as f32 >= x + 60.0 && top + t.height as f32 >= y + 60.0
            });
            let per_tile = inside.map(|t| (*t, seen.clone())).collect::<Vec<_>>();
            prop_assert!(all.is_empty() || merged(vec![], per_tile, w, h).len() == 1);
        }
    }
}
