//! Key frames that are decoded alone, without the filter that smooths the edges of blocks. Nothing is predicted from such a picture (what follows
//! it begins with the same key frame, decoded as it came), and the filter is about a quarter of its decoding.
//!
//! H.264 says in the head of each slice whether edges are filtered (7.3.3). "They are, in the usual strength" is three bits, 1 1 1, and "they are
//! not" is three bits, too: 0 1 0. So the packets keep their sizes. Slices that say it otherwise, or don't say it, are left as they are.

use std::ops::Range;

use gstreamer::{BUFFER_COPY_METADATA, Buffer, CapsRef, glib};
use h264_reader::{
    Context,
    nal::{NalHeader, UnitType, pps::PicParameterSet, slice::SliceHeader, sps::SeqParameterSet},
    rbsp::{BitRead, BitReader, BitReaderError, Integer, Primitive, decode_nal},
};

use super::{
    picture::Encoded,
    rtp::{self, Coding, SETS_OF_H264, Unit},
};

/// Bytes of a slice in which its head ends, by far.
const HEAD: usize = 64;

/// The kind of slices of key frames, ITU-T H.264 table 7-1.
const IDR: u8 = 5;

/// Heads have no larger numbers with a sign: steps of quantisation, offsets.
const LARGEST: u32 = 128;

/// Knows how the heads of the slices of an H.264 stream are written.
#[derive(Default)]
pub(super) struct Deblocking {
    sets: Context,
}

impl Deblocking {
    /// Reads the parameter sets that a stream was announced with (RFC 6184, 8.1).
    pub(super) fn announced(&mut self, caps: &CapsRef) {
        let sets = caps.structure(0).and_then(|structure| structure.get::<&str>("sprop-parameter-sets").ok());
        for set in sets.into_iter().flat_map(|sets| sets.split(',')) {
            self.set(&glib::base64_decode(set));
        }
    }

    /// Reads the parameter sets in a picture.
    pub(super) fn learn(&mut self, picture: &Encoded) {
        for packet in picture.packets() {
            let Ok(bytes) = packet.map_readable() else { continue };
            for unit in rtp::units(Coding::H264, &bytes) {
                if !SETS_OF_H264.contains(&unit.kind(Coding::H264)) {
                    continue;
                }
                let set = [&[unit.head], bytes.get(unit.rest).unwrap_or_default()].concat();
                self.set(if unit.is_whole { &set } else { &[] });
            }
        }
    }

    /// Reads a parameter set. After one that can't be read nothing is known any more.
    fn set(&mut self, set: &[u8]) {
        if self.read(set).is_none() {
            self.sets = Context::new();
        }
    }

    fn read(&mut self, set: &[u8]) -> Option<()> {
        let bytes = decode_nal(set).ok()?;
        match NalHeader::new(*set.first()?).ok()?.nal_unit_type() {
            UnitType::SeqParameterSet => {
                let set = SeqParameterSet::from_bits(BitReader::new(&*bytes)).ok()?;
                self.sets.put_seq_param_set(set);
            }
            UnitType::PicParameterSet => {
                let set = PicParameterSet::from_bits(&self.sets, BitReader::new(&*bytes)).ok()?;
                self.sets.put_pic_param_set(set);
            }
            _ => {}
        }
        Some(())
    }

    /// A key frame that is not filtered: as much of it as can be made so.
    pub(super) fn without(&self, picture: &Encoded) -> Encoded {
        picture.with(|packet| {
            let mut unfiltered = Buffer::from_mut_slice(self.rewritten(&packet.map_readable().ok()?)?);
            // Times and flags.
            packet.copy_into(unfiltered.get_mut()?, BUFFER_COPY_METADATA, ..).ok()?;
            Some(unfiltered)
        })
    }

    /// A packet in which slices begin, with those unfiltered; `None` when there is nothing to change.
    fn rewritten(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut written: Option<Vec<u8>> = None;
        let keys = rtp::units(Coding::H264, packet).filter(|unit| unit.kind(Coding::H264) == IDR);
        for Unit { head, rest, .. } in keys {
            let slice = packet.get(rest.clone()).unwrap_or_default();
            if let Some((at, byte)) = self.unfiltered(head, slice.get(..HEAD).unwrap_or(slice)) {
                let bytes = written.get_or_insert_with(|| packet.to_vec());
                let at = rest.start + at.start..rest.start + at.end;
                bytes.get_mut(at)?.copy_from_slice(&byte);
            }
        }
        written
    }

    /// Where bytes of a slice change, and to what; `None` when it is not filtered in the usual strength.
    fn unfiltered(&self, head: u8, slice: &[u8]) -> Option<(Range<usize>, [u8; 2])> {
        // Two bytes of nothing stand for something else: a slice may not have them by accident.
        let nothing = |bytes: &[u8]| bytes.windows(2).position(|pair| pair == [0, 0]);
        let plain = slice.get(..nothing(slice).map_or(slice.len(), |at| at + 1))?;
        let mut reader = Filtering { bits: BitReader::new(plain), at: 0, begins: None };
        let header = NalHeader::new(head).ok()?;
        // What is behind the head may be cut off, so only how far it was read counts.
        let _ = SliceHeader::from_bits(&self.sets, &mut reader, header, None);
        let begins = reader.begins?;
        let (byte, bit) = (begins / 8, begins % 8);
        // The byte behind tells whether nothing follows.
        let [first, second, _] = *plain.get(byte..)?.first_chunk::<3>()?;
        let (mask, usual, none) = (0b111 << (13 - bit), 0b111 << (13 - bit), 0b010 << (13 - bit));
        let bits = u16::from_be_bytes([first, second]);
        if bits & mask != usual {
            return None;
        }
        let changed = (bits & !mask | none).to_be_bytes();
        let mut around = plain.to_vec();
        around.get_mut(byte..byte + 2)?.copy_from_slice(&changed);
        nothing(&around).is_none().then_some((byte..byte + 2, changed))
    }
}

/// Reads a slice's head, and remembers where it says whether it is filtered.
struct Filtering<'a> {
    bits: BitReader<&'a [u8]>,
    /// Bits that were read.
    at: usize,
    begins: Option<usize>,
}

/// Bits of an Exp-Golomb number (9.1).
fn bits_of(number: u32) -> usize {
    2 * (u64::from(number) + 1).ilog2() as usize + 1
}

impl BitRead for Filtering<'_> {
    fn read_ue(&mut self, name: &'static str) -> Result<u32, BitReaderError> {
        if name == "disable_deblocking_filter_idc" {
            self.begins = Some(self.at);
        }
        let number = self.bits.read_ue(name)?;
        self.at += bits_of(number);
        Ok(number)
    }

    fn read_se(&mut self, name: &'static str) -> Result<i32, BitReaderError> {
        let number = self.bits.read_se(name)?;
        if number.unsigned_abs() > LARGEST {
            return Err(BitReaderError::ExpGolombTooLarge(name));
        }
        self.at += bits_of(2 * number.unsigned_abs() - u32::from(number > 0));
        Ok(number)
    }

    fn read_bit(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.at += 1;
        self.bits.read_bit(name)
    }

    fn read<const BITS: u32, I: Integer>(&mut self, name: &'static str) -> Result<I, BitReaderError> {
        self.at += BITS as usize;
        self.bits.read::<BITS, I>(name)
    }

    fn read_var<I: Integer>(&mut self, count: u32, name: &'static str) -> Result<I, BitReaderError> {
        self.at += count as usize;
        self.bits.read_var(count, name)
    }

    fn read_to<V: Primitive>(&mut self, name: &'static str) -> Result<V, BitReaderError> {
        self.at += 8 * size_of::<V>();
        self.bits.read_to(name)
    }

    fn skip(&mut self, count: u32, name: &'static str) -> Result<(), BitReaderError> {
        self.at += count as usize;
        self.bits.skip(count, name)
    }

    fn byte_aligned(&self) -> bool {
        self.bits.byte_aligned()
    }

    fn has_more_rbsp_data(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.bits.has_more_rbsp_data(name)
    }

    fn finish_rbsp(self) -> Result<(), BitReaderError> {
        self.bits.finish_rbsp()
    }

    fn finish_sei_payload(self) -> Result<(), BitReaderError> {
        self.bits.finish_sei_payload()
    }
}

#[cfg(test)]
mod tests {
    use gstreamer::{Caps, Pipeline, prelude::*};
    use gstreamer_app::{AppSink, AppSrc};

    use super::*;
    use crate::camera::gst::{
        picture::{Gatherer, Numbering},
        rtp::Packet,
    };

    const DEPAY: &str = "rtph264depay ! h264parse ! avdec_h264 max-threads=1 ! videoconvert ! video/x-raw,format=I420";

    fn started(description: &str) -> (Pipeline, AppSink) {
        gstreamer::init().unwrap();
        let pipeline = gstreamer::parse::launch(&format!("{description} ! appsink name=sink sync=false"));
        let pipeline = pipeline.unwrap().downcast::<Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
        pipeline.set_state(gstreamer::State::Playing).unwrap();
        (pipeline, sink)
    }

    /// Key frames of a rough encoding, and what they were announced with.
    fn encoded(options: &str, pay: &str) -> (Caps, Vec<Encoded>) {
        let (pipeline, sink) = started(&format!(
            "videotestsrc pattern=ball num-buffers=4 ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! \
             x264enc tune=zerolatency sliced-threads=false speed-preset=veryfast pass=qual quantizer=40 key-int-max=1 \
             option-string={options} ! rtph264pay mtu=400 {pay}"
        ));
        let (mut gatherer, mut pictures, mut caps) = (Gatherer::default(), Vec::new(), None);
        while let Ok(sample) = sink.pull_sample() {
            caps = sample.caps_owned();
            // Packets may come one by one or in lists.
            let list = sample.buffer_list_owned();
            for packet in list.iter().flat_map(|list| list.iter_owned()).chain(sample.buffer_owned()) {
                let read = Packet::read(Coding::H264, &packet.map_readable().unwrap()).unwrap();
                pictures.extend(gatherer.take(packet, read).into_iter().flatten());
            }
        }
        pipeline.set_state(gstreamer::State::Null).unwrap();
        assert_eq!(pictures.iter().filter(|picture| picture.key == Some(true)).count(), 4);
        (caps.unwrap(), pictures)
    }

    fn decoded<'a>(caps: &Caps, pictures: impl IntoIterator<Item = &'a Encoded>) -> Vec<Vec<u8>> {
        let (pipeline, sink) = started(&format!("appsrc name=packets format=time ! {DEPAY}"));
        let source = pipeline.by_name("packets").unwrap().downcast::<AppSrc>().unwrap();
        source.set_caps(Some(caps));
        let mut numbering = Numbering::default();
        for picture in pictures {
            source.push_buffer_list(numbering.packets(picture)).unwrap();
        }
        source.end_of_stream().unwrap();
        let mut frames = Vec::new();
        while let Ok(sample) = sink.pull_sample() {
            frames.push(sample.buffer().unwrap().map_readable().unwrap().to_vec());
        }
        pipeline.set_state(gstreamer::State::Null).unwrap();
        assert_eq!(frames.len(), 4);
        frames
    }

    fn unfiltered(caps: &Caps, pictures: &[Encoded], announced: bool) -> Vec<Encoded> {
        let mut deblocking = Deblocking::default();
        if announced {
            deblocking.announced(caps);
        }
        let mut without = Vec::new();
        for picture in pictures {
            if picture.has_sets && !announced {
                deblocking.learn(picture);
            }
            without.push(deblocking.without(picture));
        }
        without
    }

    /// Whether decoding changes to what an encoder makes that never filters: pictures of themselves are written alike.
    fn becomes_what_was_never_filtered(options: &str, pay: &str, announced: bool) {
        let (caps, pictures) = encoded(options, pay);
        let (_, never) = encoded(&format!("{options}:no-deblock=1"), pay);
        let without = unfiltered(&caps, &pictures, announced);
        let (filtered, without, never) = (decoded(&caps, &pictures), decoded(&caps, &without), decoded(&caps, &never));
        assert_ne!(filtered, without, "{options} {pay}");
        assert!(without == never, "{options} {pay}");
    }

    #[test]
    fn a_key_frame_decodes_to_what_was_never_filtered() {
        for (options, pay, announced) in [
            ("cabac=1", "config-interval=-1", false),
            ("cabac=0", "config-interval=-1 aggregate-mode=zero-latency", false),
            ("slices=4", "config-interval=-1 aggregate-mode=max-stap", false),
            ("slices=3:cabac=0", "", true),
        ] {
            becomes_what_was_never_filtered(options, pay, announced);
        }
    }

    fn bytes(pictures: &[Encoded]) -> Vec<Vec<u8>> {
        pictures.iter().flat_map(Encoded::packets).map(|packet| packet.map_readable().unwrap().to_vec()).collect()
    }

    #[test]
    fn what_says_it_otherwise_or_is_not_understood_stays_as_it_is() {
        let usual = encoded("cabac=1", "config-interval=-1");
        assert_eq!(bytes(&unfiltered(&Caps::new_empty(), &usual.1, true)), bytes(&usual.1), "no parameter sets");
        for options in ["no-deblock=1", "deblock=1,1"] {
            let (caps, pictures) = encoded(options, "config-interval=-1");
            assert_eq!(bytes(&unfiltered(&caps, &pictures, false)), bytes(&pictures), "{options}");
        }
        let mut deblocking = Deblocking::default();
        usual.1.iter().for_each(|picture| deblocking.learn(picture));
        assert_ne!(bytes(&[deblocking.without(&usual.1[1])]), bytes(&usual.1[1..2]));
        deblocking.set(&[0x67, 0x64]);
        assert_eq!(bytes(&[deblocking.without(&usual.1[1])]), bytes(&usual.1[1..2]), "a set that is broken");
    }

    #[test]
    fn any_bytes_are_read() {
        let (_, pictures) = encoded("slices=2", "config-interval=-1 aggregate-mode=max-stap");
        let mut random = fastrand::Rng::with_seed(5);
        let mut deblocking = Deblocking::default();
        for _ in 0..300 {
            for packet in bytes(&pictures) {
                let mut broken = packet.clone();
                for _ in 0..random.usize(..6) {
                    let (at, byte) = (random.usize(..broken.len().min(60)), random.u8(..));
                    broken[at] = byte;
                }
                for unit in rtp::units(Coding::H264, &broken) {
                    let set = [&[unit.head], &broken[unit.rest]].concat();
                    deblocking.set(&set);
                }
                let written = deblocking.rewritten(&broken);
                assert!(written.is_none_or(|written| written.len() == broken.len()));
            }
        }
    }
}
