//! A camera's picture as it lies in memory: encoded access units that are looped for ever.

use std::time::Duration;

use gstreamer as gst;

use super::Codec;

/// One encoded picture.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// The bytes, shared with every client.
    pub data: gst::Buffer,
    /// Presentation time from the start of the clip.
    pub pts: Duration,
    /// Whether a decoder can start here.
    pub is_key: bool,
}

/// An encoded clip: at least one unit, the first one a key frame.
#[derive(Debug, Clone)]
pub struct EncodedClip {
    /// How the units are encoded.
    pub codec: Codec,
    /// What the units are, for the payloader (byte-stream, one access unit a buffer).
    pub caps: gst::Caps,
    /// The units in decoding order.
    pub units: Vec<AccessUnit>,
    /// Length of one loop.
    pub duration: Duration,
}

impl EncodedClip {
    /// Index of the last key frame at or before `at` (time within one loop); the first unit when there is none.
    pub fn key_at(&self, at: Duration) -> usize {
        self.units.iter().rposition(|unit| unit.is_key && unit.pts <= at).unwrap_or(0)
    }

    /// Splits a time since the first loop into whole loops and the time within the loop.
    pub fn split(&self, at: Duration) -> (u32, Duration) {
        let length = self.duration.as_nanos().max(1);
        let loops = at.as_nanos() / length;
        (u32::try_from(loops).unwrap_or(u32::MAX), Duration::from_nanos((at.as_nanos() % length) as u64))
    }

    /// Bytes held by the units.
    pub fn bytes(&self) -> usize {
        self.units.iter().map(|unit| unit.data.size()).sum()
    }
}

/// Where a unit of H.264 begins behind its delimiter (ITU-T H.264, 7.3.2.4). Parsers put one before each, and it takes an RTP packet of its own,
/// which cameras need not send.
fn after_delimiter(unit: &[u8]) -> usize {
    if unit.starts_with(&[0, 0, 0, 1, 9]) && unit.get(6..).is_some_and(|rest| rest.starts_with(&[0, 0])) {
        6
    } else {
        0
    }
}

/// Collects units and refuses more bytes than allowed.
#[derive(Debug)]
pub(super) struct ClipBuilder {
    name: String,
    limit: usize,
    /// Units still to be left out.
    lead: u32,
    held: usize,
    caps: Option<gst::Caps>,
    units: Vec<(gst::Buffer, Option<gst::ClockTime>, bool)>,
}

impl ClipBuilder {
    pub(super) fn new(name: &str, limit: usize) -> Self {
        Self { name: name.to_owned(), limit, lead: 0, held: 0, caps: None, units: Vec::new() }
    }

    /// Leaves out the first `units`.
    pub(super) fn without(self, units: u32) -> Self {
        Self { lead: units, ..self }
    }

    /// Takes one sample of the encoder or parser; units before the first key frame are left out.
    pub(super) fn push(&mut self, sample: &gst::Sample) -> Result<(), super::SimulatorError> {
        let Some(buffer) = sample.buffer_owned() else { return Ok(()) };
        if self.lead > 0 {
            self.lead -= 1;
            return Ok(());
        }
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if self.units.is_empty() && !is_key {
            return Ok(());
        }
        // The encoder's own buffers may belong to a pool: a copy is the clip's alone.
        let begins = buffer.map_readable().map_or(0, |bytes| after_delimiter(&bytes));
        let data = buffer
            .copy_region(gst::BufferCopyFlags::all(), begins..)
            .map_err(|error| super::SimulatorError::Encode(error.to_string()))?;
        self.held += data.size();
        if self.held > self.limit {
            return Err(super::SimulatorError::TooLarge { name: self.name.clone(), limit_mib: self.limit >> 20 });
        }
        if let Some(caps) = sample.caps() {
            self.caps = Some(caps.to_owned());
        }
        self.units.push((data, buffer.pts(), is_key));
        Ok(())
    }

    /// The clip; `frame` is the length of one picture, for the end of the loop and for units without a time.
    pub(super) fn finish(self, codec: Codec, frame: Option<Duration>) -> Option<EncodedClip> {
        let caps = self.caps?;
        let mut times: Vec<Duration> = Vec::with_capacity(self.units.len());
        let guess = frame.unwrap_or(Duration::from_millis(40));
        for (_, pts, _) in &self.units {
            let next = times.last().map_or(Duration::ZERO, |last| *last + guess);
            times.push(pts.map_or(next, |pts| Duration::from_nanos(pts.nseconds())));
        }
        let first = *times.iter().min()?;
        let last = *times.iter().max()?;
        let step = match frame {
            Some(frame) => frame,
            None if times.len() > 1 => (last - first) / (times.len() as u32 - 1),
            None => guess,
        };
        let units = self
            .units
            .into_iter()
            .zip(times)
            .map(|((data, _, is_key), pts)| AccessUnit { data, pts: pts - first, is_key })
            .collect();
        Some(EncodedClip { codec, caps, units, duration: last - first + step })
    }
}

#[cfg(test)]
mod tests {
    use super::after_delimiter;

    #[test]
    fn a_delimiter_is_left_out_and_nothing_else() {
        assert_eq!(after_delimiter(&[0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67]), 6);
        assert_eq!(after_delimiter(&[0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x41]), 6);
        for other in [&[0, 0, 0, 1, 0x41, 9][..], &[0, 0, 0, 1, 9], &[0, 0, 0, 1, 9, 0xf0, 7], &[0xff, 0xd8], &[]] {
            assert_eq!(after_delimiter(other), 0, "{other:?}");
        }
    }
}
