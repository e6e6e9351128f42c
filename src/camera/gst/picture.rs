//! Packets become encoded pictures, before anything is unpacked: a picture that is kept costs a list of packets, and no more.
//!
//! Where pictures are left out or sent again, packets get other numbers, so that a depayloader misses no more than the network lost.

use gstreamer::{Buffer, BufferList, ClockTime};

use super::rtp::{self, Packet};

/// What a packet takes beside its bytes, about: the buffer, its memory's head, its place in a list.
const BESIDE: usize = 512;

/// Bytes that a packet is counted as.
pub(super) fn cost(packet: &Buffer) -> usize {
    packet.size() + BESIDE
}

/// A picture as it came: all packets of one time, up to the one that says it is the last.
#[derive(Debug, Default, Clone)]
pub(super) struct Encoded {
    /// Each with how far its number is from that of the packet before it.
    packets: Vec<(u16, Buffer)>,
    timestamp: Option<u32>,
    /// Whether decoding can begin here; `None` for what is no picture, such as parameter sets alone.
    pub(super) key: Option<bool>,
    /// Parameter sets of H.264 are in it.
    pub(super) has_sets: bool,
    /// Bytes of payload.
    pub(super) bytes: usize,
    /// Bytes that keeping it takes.
    pub(super) cost: usize,
    /// Stream time.
    pub(super) pts: Option<ClockTime>,
}

impl Encoded {
    /// Its packets, in order.
    pub(super) fn packets(&self) -> impl Iterator<Item = &Buffer> {
        self.packets.iter().map(|(_, packet)| packet)
    }

    /// The same picture with packets replaced, each by what is made of it; those of `None` stay.
    pub(super) fn with(&self, replaced: impl Fn(&Buffer) -> Option<Buffer>) -> Self {
        let mut picture = self.clone();
        for (_, packet) in &mut picture.packets {
            if let Some(other) = replaced(packet) {
                *packet = other;
            }
        }
        picture
    }
}

/// Puts packets together, in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    last: Option<u16>,
    picture: Encoded,
}

impl Gatherer {
    /// Takes a packet. What is complete by it: the picture before, when its last packet said nothing of that, and its own.
    pub(super) fn take(&mut self, buffer: Buffer, packet: Packet) -> [Option<Encoded>; 2] {
        let step = self.last.replace(packet.sequence).map_or(1, |last| packet.sequence.wrapping_sub(last));
        let other = self.picture.timestamp.is_some_and(|timestamp| timestamp != packet.timestamp);
        let before = other.then(|| std::mem::take(&mut self.picture));
        let picture = &mut self.picture;
        picture.timestamp = Some(packet.timestamp);
        picture.key = picture.key.or(packet.slice);
        picture.has_sets |= packet.has_sets;
        picture.bytes += packet.bytes;
        picture.cost += cost(&buffer);
        picture.pts = picture.pts.or(buffer.pts());
        picture.packets.push((step, buffer));
        let whole = packet.is_last.then(|| std::mem::take(&mut self.picture));
        [before, whole]
    }
}

/// Numbers packets on their way to a depayloader.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    last: Option<u16>,
}

impl Numbering {
    /// The packets of a picture that is sent after the one before, whatever came between them.
    pub(super) fn packets(&mut self, picture: &Encoded) -> BufferList {
        let end = picture.packets.len().saturating_sub(1);
        let numbered = |(at, (step, packet)): (usize, &(u16, Buffer))| self.numbered(*step, packet.clone(), at == end);
        picture.packets.iter().enumerate().map(numbered).collect()
    }

    /// A packet with its number. The last one of a picture says so: where cameras don't, a depayloader would wait for the picture after it.
    fn numbered(&mut self, step: u16, mut buffer: Buffer, is_last: bool) -> Buffer {
        let head = buffer.map_readable().ok().and_then(|bytes| bytes.first_chunk::<4>().copied());
        let Some([_, kind, high, low]) = head else { return buffer };
        let own = u16::from_be_bytes([high, low]);
        let number = self.last.map_or(own, |last| last.wrapping_add(step));
        self.last = Some(number);
        if (number != own || (is_last && kind & 0x80 == 0))
            && let Ok(mut bytes) = buffer.make_mut().map_writable()
        {
            rtp::renumber(&mut bytes, number, is_last);
        }
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rtp::Coding, *};

    /// A packet of an H.264 picture: number, time, first byte of the payload.
    fn packet(sequence: u16, timestamp: u32, is_last: bool, unit: u8) -> Buffer {
        gstreamer::init().unwrap();
        let mut bytes = vec![0x80, 96 | u8::from(is_last) << 7];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend([0, 0, 0, 1, unit, 1, 2]);
        let mut buffer = Buffer::from_mut_slice(bytes);
        buffer.get_mut().unwrap().set_pts(ClockTime::from_mseconds(u64::from(timestamp)));
        buffer
    }

    fn read(buffer: &Buffer) -> Packet {
        Packet::read(Coding::H264, &buffer.map_readable().unwrap()).unwrap()
    }

    fn take(gatherer: &mut Gatherer, buffer: Buffer) -> [Option<Encoded>; 2] {
        let packet = read(&buffer);
        gatherer.take(buffer, packet)
    }

    fn numbers(list: &BufferList) -> Vec<(u16, bool)> {
        list.iter_owned().map(|buffer| read(&buffer)).map(|packet| (packet.sequence, packet.is_last)).collect()
    }

    /// Pictures of two packets each, from number 65530 on; times count up by 40.
    fn pictures(count: u32) -> Vec<Encoded> {
        let (mut gatherer, mut sequence) = (Gatherer::default(), 65_530u16);
        let mut all = Vec::new();
        for at in 0..count {
            let unit = if at == 0 { 0x65 } else { 0x41 };
            for (is_last, unit) in [(false, 9), (true, unit)] {
                all.extend(take(&mut gatherer, packet(sequence, 40 * at, is_last, unit)).into_iter().flatten());
                sequence = sequence.wrapping_add(1);
            }
        }
        all
    }

    #[test]
    fn a_picture_is_whole_when_a_packet_says_so_or_another_time_comes() {
        let mut gatherer = Gatherer::default();
        let [before, whole] = take(&mut gatherer, packet(7, 0, false, 0x67));
        assert!(before.is_none() && whole.is_none());
        let [before, whole] = take(&mut gatherer, packet(8, 0, true, 0x65));
        let whole = whole.unwrap();
        assert!(before.is_none());
        assert_eq!((whole.key, whole.bytes, whole.pts), (Some(true), 6, Some(ClockTime::ZERO)));
        assert_eq!(whole.cost, 2 * (15 + BESIDE));
        let [before, whole] = take(&mut gatherer, packet(9, 40, false, 0x41));
        assert!(before.is_none() && whole.is_none());
        let [before, whole] = take(&mut gatherer, packet(10, 80, true, 9));
        assert_eq!(before.unwrap().key, Some(false));
        assert_eq!(whole.unwrap().key, None, "no slice in it");
    }

    #[test]
    fn what_is_sent_in_order_keeps_its_numbers() {
        let mut numbering = Numbering::default();
        let sent: Vec<_> = pictures(5).iter().flat_map(|picture| numbers(&numbering.packets(picture))).collect();
        let own: Vec<_> = (0..10).map(|at| (65_530u16.wrapping_add(at), at % 2 == 1)).collect();
        assert_eq!(sent, own);
    }

    #[test]
    fn nothing_seems_lost_where_pictures_are_left_out_or_sent_again() {
        let (pictures, mut numbering) = (pictures(6), Numbering::default());
        let order = [0, 3, 0, 1, 2, 3, 4];
        let sent: Vec<_> = order.iter().flat_map(|at| numbers(&numbering.packets(&pictures[*at]))).collect();
        let steady: Vec<_> = (0..14).map(|at| (65_530u16.wrapping_add(at), at % 2 == 1)).collect();
        assert_eq!(sent, steady);
    }

    #[test]
    fn what_the_network_lost_is_missed_and_an_end_is_marked() {
        let (mut gatherer, mut numbering) = (Gatherer::default(), Numbering::default());
        take(&mut gatherer, packet(1, 0, false, 0x65));
        take(&mut gatherer, packet(2, 40, false, 0x41));
        // 3 is lost.
        let [skipped, _] = take(&mut gatherer, packet(4, 80, false, 0x41));
        let [after, _] = take(&mut gatherer, packet(6, 120, false, 0x41));
        drop(skipped);
        assert_eq!(numbers(&numbering.packets(&after.unwrap())), [(4, true)]);
        let [after, _] = take(&mut gatherer, packet(7, 160, false, 0x41));
        assert_eq!(numbers(&numbering.packets(&after.unwrap())), [(6, true)], "5 is missed");
    }
}
