//! Pictures that were refused or doubted beside the enrolled faces that speak against them, on one picture.

use std::path::Path;

use image::RgbImage;

use super::error::Failure;
use crate::{
    frame::{
        BBox, Picture,
        contact_sheet::{self, TILE_PX, Tile},
        crop,
        still::{self, StillLimits},
    },
    whole_file,
};

/// Most pairs on a sheet.
pub const MOST: usize = 200;
/// Surroundings of a face that are shown, in box sizes.
const AROUND: f32 = 1.6;
const LIMITS: StillLimits = StillLimits { bytes: 64 << 20, pixels: 100_000_000 };

/// A picture and the enrolled face that speaks against it, as they are drawn.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The picture's face as [`tile`] cuts it; `None` leaves a blank.
    pub new: Option<RgbImage>,
    /// The enrolled face; `None` where no picture is kept.
    pub enrolled: Option<RgbImage>,
    /// Two lines below the picture, two below the face.
    pub lines: [[String; 2]; 2],
}

/// Writes the sheet; pairs stand side by side. Blocks.
///
/// # Errors
/// When the file can't be written, or its name does not end like a picture.
pub fn write(path: &Path, pairs: Vec<Pair>) -> Result<(), Failure> {
    let tiles: Vec<Tile> = pairs
        .into_iter()
        .flat_map(|pair| {
            let [new, enrolled] = pair.lines;
            [Tile { picture: pair.new, lines: new }, Tile { picture: pair.enrolled, lines: enrolled }]
        })
        .collect();
    whole_file::write_picture(path, &contact_sheet::draw(&tiles)).map_err(|e| {
        Failure::new(format!("cannot write {}", path.display())).because(&e).hint("name a .png or .jpg file")
    })
}

/// An encoded picture as a tile: `bbox` (pixels: left, top, right, bottom) with a little around it, or all of it. `None` when the bytes are no
/// picture. Blocks.
pub fn tile(bytes: &[u8], bbox: Option<[f32; 4]>) -> Option<RgbImage> {
    let picture: Picture = still::decode(bytes, &LIMITS).ok()?;
    let part = match bbox {
        Some([x1, y1, x2, y2]) => crop::cut_out(&picture, &BBox::new(x1, y1, x2, y2).grown(AROUND)).0,
        None => crop::to_rgb(&picture),
    };
    let longer = part.width().max(part.height()).max(1);
    let size = |edge: u32| (u64::from(edge) * u64::from(TILE_PX) / u64::from(longer)).max(1) as u32;
    Some(crop::resized(&part, size(part.width()), size(part.height())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_stand_side_by_side_and_a_face_without_picture_is_blank() {
        let png = |shade: [u8; 3]| {
            let mut out = std::io::Cursor::new(Vec::new());
            RgbImage::from_pixel(300, 200, image::Rgb(shade)).write_to(&mut out, image::ImageFormat::Png).unwrap();
            out.into_inner()
        };
        let lines = || [["anna".to_owned(), "a.png".to_owned()], ["berta".to_owned(), "0.61 refused".to_owned()]];
        let both = Pair {
            new: tile(&png([200, 10, 10]), Some([50.0, 50.0, 150.0, 150.0])),
            enrolled: tile(&png([10, 10, 200]), None),
            lines: lines(),
        };
        let alone = Pair { enrolled: None, lines: lines(), ..both.clone() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheet.png");
        write(&path, vec![both, alone]).unwrap();
        let sheet = image::open(&path).unwrap().into_rgb8();
        let at = |column: u32| sheet.get_pixel(8 + column * 168 + 80, 8 + 80).0;
        assert_eq!((at(0), at(1), at(2)), ([200, 10, 10], [10, 10, 200], [200, 10, 10]));
        assert_eq!(at(3)[0], at(3)[1], "a blank");
        assert!(tile(&png([1, 2, 3]), None).is_some_and(|t| t.width() <= TILE_PX), "only tiles are kept, not pictures");
        assert!(tile(b"no picture", None).is_none());
        assert!(write(&dir.path().join("sheet.txt"), Vec::new()).unwrap_err().message.contains("sheet.txt"));
    }
}
