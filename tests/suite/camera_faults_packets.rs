//! Video as RTP packets: recorded once, played by a camera that may do with them what it likes.

use gstreamer::prelude::*;

/// The packets of one picture.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Whole RTP packets.
    pub packets: Vec<Vec<u8>>,
    /// Decoding can begin here.
    pub key: bool,
}

/// A short video, to be looped.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Name in the session description, such as `H264`.
    pub encoding: &'static str,
    /// Payload type.
    pub payload: u8,
    pub units: Vec<Unit>,
}

/// How RTP packets are made of raw pictures.
fn encoder(encoding: &str) -> &'static str {
    match encoding {
        "H264" => {
            "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! video/x-h264,profile=baseline ! \
             rtph264pay config-interval=-1 mtu=1200 pt=96"
        }
        "H265" => {
            "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! h265parse config-interval=-1 ! \
             rtph265pay config-interval=-1 mtu=1200 pt=96"
        }
        _ => "jpegenc ! rtpjpegpay mtu=1200 pt=26",
    }
}

/// Pictures of a moving ball.
pub fn record(encoding: &'static str, (width, height): (u32, u32), pictures: u32) -> Recording {
    gstreamer::init().unwrap();
    let text = format!(
        "videotestsrc num-buffers={pictures} pattern=ball ! video/x-raw,format=I420,width={width},height={height},framerate=15/1 ! \
         {} ! appsink name=out sync=false",
        encoder(encoding)
    );
    let pipeline = gstreamer::parse::launch(&text).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let mut units: Vec<Unit> = Vec::new();
    let mut last = None;
    while let Ok(sample) = sink.pull_sample() {
        let packet = sample.buffer().unwrap().map_readable().unwrap().to_vec();
        let time = packet[4..8].to_vec();
        if last.as_ref() != Some(&time) {
            units.push(Unit { packets: Vec::new(), key: encoding == "JPEG" });
            last = Some(time);
        }
        let unit = units.last_mut().unwrap();
        unit.key |= encoding == "H264" && begins_h264(&packet[12..]);
        unit.packets.push(packet);
    }
    pipeline.set_state(gstreamer::State::Null).unwrap();
    assert!(units.len() as u32 >= pictures.min(2), "nothing was recorded");
    Recording { encoding, payload: if encoding == "JPEG" { 26 } else { 96 }, units }
}

/// Whether an H.264 payload belongs to an IDR picture, whole or in fragments.
fn begins_h264(payload: &[u8]) -> bool {
    match payload[0] & 0x1f {
        5 => true,
        28 => payload[1] & 0x1f == 5,
        _ => false,
    }
}

/// One picture that announces a size and holds nothing of it: parameter sets and the begin of a slice.
pub fn announcing(width_mbs: u32, height_mbs: u32) -> Recording {
    let mut sps = Bits::default();
    // Baseline profile, level 6.2.
    [66, 0, 62].into_iter().for_each(|byte| sps.put(byte, 8));
    // Id, frame numbers, order type 2, one reference, no gaps.
    [0, 0, 2, 1].into_iter().for_each(|value| sps.exp_golomb(value));
    sps.put(0, 1);
    sps.exp_golomb(width_mbs - 1);
    sps.exp_golomb(height_mbs - 1);
    // Frames only, direct inference, no cropping, no usability information, stop bit.
    [1, 1, 0, 0, 1].into_iter().for_each(|bit| sps.put(bit, 1));
    let pps = [0xce, 0x38, 0x80];
    let nal = |kind: u8, payload: &[u8]| {
        let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, kind];
        packet.extend(payload);
        packet
    };
    let mut slice = nal(0x65, &[0x88, 0x84, 0x21, 0xa0, 0x55, 0x33, 0x77, 0x12]);
    slice[1] |= 0x80;
    let unit = Unit { packets: vec![nal(0x67, &sps.0), nal(0x68, &pps), slice], key: true };
    Recording { encoding: "H264", payload: 96, units: vec![unit] }
}

/// Bits, first one first.
#[derive(Default)]
struct Bits(Vec<u8>, u32);

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            *self.0.last_mut().unwrap() |= (((value >> bit) & 1) as u8) << (7 - self.1 % 8);
            self.1 += 1;
        }
    }

    fn exp_golomb(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.put(0, length - 1);
        self.put(value + 1, length);
    }
}
