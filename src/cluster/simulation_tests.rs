use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn small(seed: u64) -> Simulation {
    Simulation::new(ClusterSize {
        cameras: 300,
        workers: 15,
        lease: seconds(5),
        network: (Duration::from_millis(1), Duration::from_millis(30)),
        connect: (Duration::from_millis(300), Duration::from_millis(1500)),
        seed,
    })
}

#[test]
fn every_camera_is_watched_soon_and_by_one() {
    let mut cluster = small(1);
    cluster.run(seconds(20));
    assert_eq!((cluster.watched(), cluster.contested()), (300, 0));
    let (most, fewest) = cluster.spread();
    assert!(most <= 40 && fewest >= 5, "{most} and {fewest}");
    cluster.measure();
    cluster.run(seconds(30));
    let quiet = cluster.measure();
    assert_eq!((quiet.moved, quiet.claims, quiet.fenced), (0, 0, 0), "{quiet:?}");
    assert!(quiet.longest_gap_s < 2.0, "{quiet:?}");
    // 15 workers, three renewals a lease of 5 seconds.
    assert!((8.0..10.0).contains(&quiet.requests_per_s), "{quiet:?}");
}

#[test]
fn cameras_of_a_dead_worker_are_watched_elsewhere_within_ten_seconds() {
    let mut cluster = small(2);
    cluster.run(seconds(20));
    let had = cluster.workers[3].running.len();
    cluster.measure();
    cluster.kill(3);
    cluster.run(seconds(20));
    let measured = cluster.measure();
    assert_eq!((cluster.watched(), measured.moved), (300, had), "only its cameras move: {measured:?}");
    assert!((3.0..10.0).contains(&measured.longest_gap_s), "{measured:?}");
}

#[test]
fn a_worker_that_comes_takes_its_share_without_a_gap() {
    let mut cluster = small(3);
    cluster.run(seconds(20));
    cluster.measure();
    let new = cluster.add();
    cluster.run(seconds(20));
    let measured = cluster.measure();
    assert_eq!((cluster.watched(), measured.moved), (300, cluster.workers[new].running.len()));
    assert!((5..45).contains(&measured.moved), "{measured:?}");
    assert!(measured.longest_gap_s < 2.0, "{measured:?}");
}

#[test]
fn a_worker_that_ends_hands_over_without_a_gap() {
    let mut cluster = small(4);
    cluster.run(seconds(20));
    let had = cluster.workers[5].running.len();
    cluster.measure();
    cluster.drain(5);
    cluster.run(seconds(15));
    let measured = cluster.measure();
    assert_eq!((measured.moved, cluster.workers[5].running.len()), (had, 0), "{measured:?}");
    assert!(measured.longest_gap_s < 2.0, "{measured:?}");
}

#[test]
fn a_worker_that_stood_still_tells_nothing_of_cameras_that_it_lost() {
    let mut cluster = small(5);
    cluster.run(seconds(20));
    cluster.measure();
    cluster.pause(7, seconds(12));
    cluster.run(seconds(11));
    assert_eq!((cluster.watched(), cluster.contested() > 0), (300, true), "it believes still");
    cluster.run(seconds(30));
    assert_eq!((cluster.watched(), cluster.contested()), (300, 0));
    let measured = cluster.measure();
    assert!(measured.fenced > 0, "what it told when it woke was refused: {measured:?}");
}

#[test]
fn random_trouble_ends_with_every_camera_watched_by_one() {
    for seed in 10..20 {
        let mut cluster = small(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        cluster.run(seconds(15));
        for _ in 0..6 {
            let place = random.usize(..cluster.workers.len());
            match random.u8(..4) {
                0 => cluster.kill(place),
                1 => cluster.pause(place, seconds(random.u64(1..15))),
                2 => cluster.drain(place),
                _ => drop(cluster.add()),
            }
            cluster.run(seconds(random.u64(..6)));
        }
        cluster.add();
        cluster.run(seconds(60));
        assert_eq!((cluster.watched(), cluster.contested()), (300, 0), "seed {seed}");
    }
}

#[test]
fn nothing_moves_when_the_registry_was_away_for_longer_than_a_lease() {
    let mut cluster = small(6);
    cluster.run(seconds(20));
    cluster.measure();
    cluster.outage(seconds(20));
    cluster.run(seconds(60));
    let measured = cluster.measure();
    assert_eq!((cluster.watched(), cluster.contested()), (300, 0));
    assert_eq!((measured.moved, measured.claims), (0, 0), "{measured:?}");
    // Who does not come back is missed all the same.
    let had = cluster.workers[2].running.len();
    cluster.outage(seconds(20));
    cluster.kill(2);
    cluster.run(seconds(60));
    let measured = cluster.measure();
    assert_eq!((cluster.watched(), measured.moved), (300, had), "{measured:?}");
}
