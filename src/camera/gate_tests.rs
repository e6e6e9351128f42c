use proptest::prelude::*;

use super::*;

/// A stream of 25 pictures a second with a key frame every `group` pictures.
struct Stream {
    gate: Gate,
    start: Instant,
    next: u64,
    group: u64,
    scene: Scene,
    kept: usize,
}

impl Stream {
    fn new(group: u64, policy: SamplingPolicy) -> Self {
        let scene = Scene::default();
        Self { gate: Gate::new(policy, false), start: Instant::now(), next: 0, group, scene, kept: 0 }
    }

    fn at(&self) -> Duration {
        Duration::from_millis(self.next * 40)
    }

    /// The next picture: what became of it. Key frames decoded by themselves look as before.
    fn step(&mut self, bytes: usize) -> Verdict {
        let coded = Coded { at: self.at(), key: self.next.is_multiple_of(self.group), bytes };
        let verdict = self.gate.step(coded, &self.scene, self.kept, self.start + self.at());
        if matches!(verdict, Verdict::Alone | Verdict::All) {
            self.scene.seen = Some(coded.at);
        }
        self.kept = if verdict == Verdict::Keep { self.kept + bytes } else { 0 };
        self.scene.wake = false;
        self.next += 1;
        verdict
    }

    fn steps(&mut self, count: u64) -> Vec<Verdict> {
        (0..count).map(|_| self.step(if self.next.is_multiple_of(self.group) { 60_000 } else { 800 })).collect()
    }

    fn idle(group: u64, policy: SamplingPolicy) -> Self {
        let mut stream = Self::new(group, policy);
        stream.until(|verdict| verdict == Verdict::Alone);
        stream
    }

    /// Steps on until a picture is wanted in this way.
    fn until(&mut self, wanted: impl Fn(Verdict) -> bool) {
        let came = (0..1000).any(|_| self.steps(1).into_iter().any(&wanted));
        assert!(came, "not within 1000 pictures");
    }
}

fn policy(delay_ms: u64) -> SamplingPolicy {
    SamplingPolicy { max_detection_delay: Duration::from_millis(delay_ms), ..SamplingPolicy::default() }
}

#[test]
fn a_still_scene_decodes_key_frames_only() {
    let mut stream = Stream::new(50, policy(2000));
    let verdicts = stream.steps(1000);
    assert_eq!(verdicts[..200], [Verdict::All; 200], "neither the key-frame interval nor the scene is known yet");
    let late = &verdicts[300..];
    assert_eq!(late.iter().filter(|v| **v == Verdict::Alone).count(), late.len() / 50);
    assert!(late.iter().all(|v| matches!(v, Verdict::Alone | Verdict::Keep)));
}

#[test]
fn no_more_key_frames_are_decoded_than_the_promise_needs() {
    // Key frames once a second: of those allowed two seconds every other one, of those allowed one each.
    for (delay, each) in [(1000, 25), (1500, 25), (2000, 50), (4000, 100)] {
        let mut stream = Stream::idle(25, policy(delay));
        stream.steps(100);
        let alone: Vec<_> = (0..1000).filter(|_| stream.steps(1) == [Verdict::Alone]).collect();
        assert!(alone.windows(2).all(|two| two[1] - two[0] == each), "{delay} ms: {alone:?}");
        assert!(alone.len() >= 1000 / each - 1, "{delay} ms: {alone:?}");
    }
}

#[test]
fn whoever_asks_after_a_key_frame_was_passed_over_gets_what_came_since_the_last_look() {
    let mut stream = Stream::idle(25, policy(2000));
    stream.until(|verdict| verdict == Verdict::Alone);
    let key = stream.scene.seen.unwrap();
    assert_eq!(stream.steps(40), [Verdict::Keep; 40]);
    stream.scene.wake = true;
    assert_eq!(stream.steps(1), [Verdict::Wake { from: key }]);
}

#[test]
fn a_key_frame_that_does_not_come_when_one_was_passed_over_wakes_within_the_promise() {
    let mut stream = Stream::idle(25, policy(2000));
    stream.until(|verdict| verdict == Verdict::Alone);
    let key = stream.scene.seen.unwrap();
    stream.steps(30);
    stream.group = 100_000;
    stream.until(|verdict| matches!(verdict, Verdict::Wake { .. }));
    assert!(stream.at() - key <= Duration::from_millis(2280), "{:?}", stream.at() - key);
    stream.group = 25;
    stream.steps(25);
    assert!(stream.steps(200).contains(&Verdict::Alone), "one late key frame keeps it awake");
}

#[test]
fn key_frames_further_apart_than_the_promise_mean_full_decoding() {
    let mut stream = Stream::new(50, policy(500));
    assert!(stream.steps(1000).iter().all(|v| *v == Verdict::All));
    let all = SamplingPolicy { decoding: Decoding::All, ..policy(2000) };
    assert!(Stream::new(50, all).steps(1000).iter().all(|v| *v == Verdict::All));
}

#[test]
fn a_stream_whose_sizes_tell_nothing_is_decoded_in_full_unless_key_frames_are_asked_for() {
    for (decoding, idles) in [(Decoding::Auto, false), (Decoding::KeyFrames, true)] {
        let mut stream = Stream::new(50, SamplingPolicy { decoding, ..policy(2000) });
        let mut idle = 0;
        for i in 0..1500u64 {
            let bytes =
                if i % 5 < 2 { 20_000 + (i * 7919 % 26_000) as usize } else { 4_500 + (i * 31 % 2_000) as usize };
            stream.step(if stream.next.is_multiple_of(50) { 60_000 } else { bytes });
            idle += u32::from(stream.gate.is_idle());
        }
        assert_eq!(idle > 800, idles, "{decoding:?}: {idle}");
        assert_eq!(stream.gate.is_in_doubt(), !idles);
    }
}

#[test]
fn whoever_asks_is_answered_at_the_next_picture_and_nothing_is_left_out() {
    for ask in [|scene: &mut Scene| scene.wake = true, |scene: &mut Scene| scene.active = true] {
        let mut stream = Stream::idle(50, policy(2000));
        let key = stream.scene.seen.unwrap();
        stream.steps(20);
        ask(&mut stream.scene);
        assert_eq!(stream.steps(1), [Verdict::Wake { from: key }]);
        assert!(stream.steps(60).iter().all(|v| *v == Verdict::All), "it fell asleep at once");
        assert!(stream.scene.active || stream.steps(100).contains(&Verdict::Alone), "it stays awake for nothing");
    }
}

#[test]
fn a_large_picture_wakes_at_once_and_false_alarms_make_it_wary() {
    let mut stream = Stream::idle(50, policy(2000));
    stream.steps(330);
    let at = stream.at();
    assert_eq!(stream.step(1000), Verdict::Keep);
    assert_eq!(stream.step(2600), Verdict::Wake { from: at + Duration::from_millis(40) - LOOK_BACK });
    // Nothing changed in the picture: soon the same size is no alarm any more.
    let mut alarms = 0;
    for _ in 0..12 {
        stream.steps(300);
        assert!(stream.gate.is_idle());
        alarms += usize::from(matches!(stream.step(2600), Verdict::Wake { .. }));
    }
    assert!(alarms <= 3, "{alarms} false alarms");
}

#[test]
fn unusual_sizes_before_the_key_frame_was_judged_mean_looking_at_everything() {
    let mut stream = Stream::idle(50, policy(2000));
    stream.steps(300);
    let key = stream.scene.seen.unwrap();
    stream.steps(50);
    stream.scene.seen = Some(key);
    stream.steps(1);
    assert_eq!(stream.step(9000), Verdict::Wake { from: key });
}

#[test]
fn missing_key_frames_and_heavy_streams_wake_it() {
    let mut stream = Stream::idle(50, policy(2000));
    stream.group = 100_000;
    assert!(stream.steps(56).iter().any(|v| matches!(v, Verdict::Wake { .. })));
    stream.group = 50;
    let mut stream = Stream::idle(50, policy(2000));
    stream.kept = MOST_KEPT;
    assert!(matches!(stream.step(800), Verdict::Wake { .. }));
}

#[test]
fn a_clock_set_back_begins_anew() {
    let mut stream = Stream::idle(50, policy(2000));
    stream.next = 0;
    assert_eq!(stream.steps(1), [Verdict::All]);
    assert!(stream.steps(99).iter().all(|v| *v == Verdict::All), "intervals of the old clock still count");
}

#[test]
fn streams_of_key_frames_are_thinned_to_the_idle_rate() {
    let mut stream = Stream::idle(1, policy(2000));
    let alone = stream.steps(250).iter().filter(|v| **v == Verdict::Alone).count();
    assert!((45..=55).contains(&alone), "{alone} in ten seconds");
}

#[test]
fn a_stream_on_demand_waits_encoded_until_somebody_asks() {
    let mut stream = Stream::new(50, policy(500));
    stream.gate = Gate::new(policy(500), true);
    assert_eq!(stream.steps(3), [Verdict::Alone, Verdict::Keep, Verdict::Keep]);
    let verdicts = stream.steps(1000);
    assert!(verdicts.iter().all(|v| matches!(v, Verdict::Keep | Verdict::KeepAnew)), "it was decoded for nobody");
    stream.steps(30);
    stream.scene.active = true;
    let at = stream.at();
    assert_eq!(stream.steps(1), [Verdict::Wake { from: at - RECENT }]);
    assert!(stream.steps(200).iter().all(|v| *v == Verdict::All));
    stream.scene.active = false;
    assert!(stream.steps(60).contains(&Verdict::KeepAnew), "it is decoded for nobody");
}

proptest! {
    /// Whatever comes: a picture is either decoded, or kept and decoded at the next wake or replaced by a key frame that was decoded.
    #[test]
    fn no_gap_is_longer_than_promised(groups in proptest::collection::vec(1u64..80, 1..30), sizes in proptest::collection::vec(50usize..4000, 1..40)) {
        let mut gate = Gate::new(policy(1500), false);
        let (start, mut index, mut seen) = (Instant::now(), 0u64, Duration::ZERO);
        for group in groups {
            for i in 0..group {
                let at = Duration::from_millis(index * 40);
                let bytes = if i == 0 { 100_000 } else { sizes[index as usize % sizes.len()] };
                let coded = Coded { at, key: i == 0, bytes };
                let scene = Scene { seen: Some(seen), ..Scene::default() };
                match gate.step(coded, &scene, 0, start + at) {
                    Verdict::Keep | Verdict::KeepAnew => prop_assert!(at - seen <= Duration::from_millis(1880), "{at:?} {seen:?}"),
                    Verdict::Wake { from } => {
                        prop_assert!(from <= at && from >= seen);
                        seen = at;
                    }
                    Verdict::All | Verdict::Alone => seen = at,
                }
                index += 1;
            }
        }
    }
}
