use super::*;

const LEASE: Duration = Duration::from_secs(5);

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn id(text: &str) -> CameraId {
    text.parse().unwrap()
}

fn lease(epoch: u64) -> Lease {
    Lease { epoch, capacity: 10.0, draining: false }
}

fn owner(worker: &str, epoch: u64) -> Owner {
    Owner { worker: worker.parse().unwrap(), epoch }
}

/// Worker `a` of life 1, which has heard of everybody.
fn worker(others: &[(&str, u64)], cameras: &[&str]) -> Coordinator {
    let mut worker = Coordinator::new("a".parse().unwrap(), 1, LEASE);
    worker.worker("a".parse().unwrap(), Some(lease(1)));
    for (name, epoch) in others {
        worker.worker(name.parse().unwrap(), Some(lease(*epoch)));
    }
    worker.cameras(cameras.iter().map(|c| id(c)));
    worker.renewed(at(0.0));
    // Long ago.
    worker.complete(at(0.0));
    worker
}

fn claim(camera: &str, over: Option<u64>) -> Action {
    Action::Claim { camera: id(camera), over }
}

/// What a worker does whose lease is written in time.
fn plan(worker: &mut Coordinator, seconds: f64) -> Vec<Action> {
    worker.renewed = worker.renewed.map(|_| at(seconds));
    worker.plan(at(seconds))
}

/// A camera that belongs to `a` of these workers, by its number.
fn of_a(others: &[(&str, u64)]) -> String {
    let mut trial = worker(others, &[]);
    let names: Vec<String> = (0..100).map(|i| format!("c{i}")).collect();
    trial.cameras(names.iter().map(|c| id(c)));
    plan(&mut trial, 9.0);
    trial.mine.iter().next().unwrap().to_string()
}

#[test]
fn a_camera_of_nobody_is_claimed_and_run() {
    let mut a = worker(&[], &["door"]);
    assert_eq!(plan(&mut a, 9.1), [claim("door", None)]);
    assert_eq!(plan(&mut a, 9.2), [], "one claim at a time");
    assert_eq!(
        a.claimed(&id("door"), Some(Claimed::Won(7)), at(9.3)),
        Some(Action::Run { camera: id("door"), revision: 7 })
    );
    assert_eq!(plan(&mut a, 9.4), []);
    assert_eq!(a.owned().collect::<Vec<_>>(), [&id("door")]);
    // Its own claim comes back by the watch, and an old word does not undo it.
    a.owner(id("door"), Some((owner("a", 1), 7)));
    a.owner(id("door"), Some((owner("b", 1), 3)));
    assert_eq!(plan(&mut a, 9.5), []);
    a.cameras([]);
    assert_eq!(plan(&mut a, 9.6), [Action::Drop(id("door"))]);
    assert_eq!(plan(&mut a, 9.7), []);
}

#[test]
fn nothing_is_claimed_before_everything_is_known_and_everybody_is_there() {
    let mut a = Coordinator::new("a".parse().unwrap(), 1, LEASE);
    a.cameras([id("door")]);
    a.worker("a".parse().unwrap(), Some(lease(1)));
    a.complete(at(0.0));
    assert_eq!(plan(&mut a, 6.0), [], "no lease yet");
    a.begin_anew();
    a.renewed(at(6.5));
    a.worker("a".parse().unwrap(), Some(lease(1)));
    assert_eq!(plan(&mut a, 7.0), [], "the watch has not told all");
    a.complete(at(7.0));
    assert_eq!(plan(&mut a, 11.9), [], "others may be on their way");
    assert_eq!(plan(&mut a, 12.0), [claim("door", None)]);
    // Nobody knows how it ended: once more.
    assert_eq!(a.claimed(&id("door"), None, at(12.1)), None);
    assert_eq!(plan(&mut a, 13.0), []);
    assert_eq!(plan(&mut a, 14.1), [claim("door", None)]);
    assert_eq!(a.claimed(&id("door"), Some(Claimed::Lost), at(14.2)), None);
    a.owner(id("door"), Some((owner("b", 9), 4)));
    assert_eq!(plan(&mut a, 14.3), [claim("door", Some(4))], "b holds no lease");
}

#[test]
fn a_worker_that_was_cut_off_goes_on_until_it_hears_who_took_its_cameras() {
    let mut a = worker(&[], &["door", "gate"]);
    for action in plan(&mut a, 9.1) {
        let Action::Claim { camera, .. } = action else { panic!("{action:?}") };
        a.claimed(&camera, Some(Claimed::Won(1)), at(9.2));
    }
    // The watch ended, and leases have ended meanwhile, its own among them.
    a.begin_anew();
    assert_eq!(plan(&mut a, 60.0), []);
    a.owner(id("door"), Some((owner("a", 1), 1)));
    a.owner(id("gate"), Some((owner("b", 1), 2)));
    a.complete(at(61.0));
    assert_eq!(plan(&mut a, 61.1), [Action::Drop(id("gate"))]);
    assert_eq!(a.owned().collect::<Vec<_>>(), [&id("door")]);
}

#[test]
fn a_camera_of_a_living_worker_is_warmed_up_first_and_taken_when_it_streams() {
    let others = [("b", 1)];
    let camera = of_a(&others);
    let mut a = worker(&others, &[&camera]);
    a.owner(id(&camera), Some((owner("b", 1), 5)));
    assert_eq!(plan(&mut a, 9.1), [Action::Warm(id(&camera))]);
    assert_eq!(plan(&mut a, 12.9), [], "b watches until then");
    a.streaming(&id(&camera), true);
    assert_eq!(plan(&mut a, 12.95), [claim(&camera, Some(5))]);
    assert_eq!(
        a.claimed(&id(&camera), Some(Claimed::Won(6)), at(12.96)),
        Some(Action::Run { camera: id(&camera), revision: 6 })
    );
}

#[test]
fn a_camera_of_a_worker_that_ends_is_not_waited_for_long() {
    let others = [("b", 1)];
    let camera = of_a(&others);
    let mut a = worker(&others, &[&camera]);
    a.owner(id(&camera), Some((owner("b", 1), 5)));
    a.worker("b".parse().unwrap(), Some(Lease { draining: true, ..lease(1) }));
    assert_eq!(plan(&mut a, 9.1), [Action::Warm(id(&camera))]);
    assert_eq!(plan(&mut a, 11.0), []);
    assert_eq!(plan(&mut a, 12.2), [claim(&camera, Some(5))]);
}

#[test]
fn cameras_of_the_dead_are_claimed_at_once() {
    let others = [("b", 1)];
    let camera = of_a(&others);
    let mut a = worker(&others, &[&camera]);
    // Of another life than the one that holds the lease.
    a.owner(id(&camera), Some((owner("b", 0), 5)));
    assert_eq!(plan(&mut a, 9.1), [claim(&camera, Some(5))]);
    // Of one that dies while it is being warmed up.
    let mut a = worker(&others, &[&camera]);
    a.owner(id(&camera), Some((owner("b", 1), 5)));
    assert_eq!(plan(&mut a, 9.1), [Action::Warm(id(&camera))]);
    a.worker("b".parse().unwrap(), None);
    assert_eq!(plan(&mut a, 9.2), [claim(&camera, Some(5))]);
}

#[test]
fn what_another_took_is_dropped_without_a_word() {
    let others = [("b", 1)];
    let camera = of_a(&others);
    let mut a = worker(&others, &[&camera]);
    assert_eq!(plan(&mut a, 9.1), [claim(&camera, None)]);
    a.claimed(&id(&camera), Some(Claimed::Won(1)), at(9.2));
    a.owner(id(&camera), Some((owner("b", 1), 2)));
    // It is still assigned here, so it is warmed up again.
    assert_eq!(plan(&mut a, 9.3), [Action::Drop(id(&camera))]);
    assert_eq!(plan(&mut a, 9.4), [Action::Warm(id(&camera))]);
    // Assigned elsewhere: what was warm is dropped.
    a.worker("a".parse().unwrap(), Some(Lease { draining: true, ..lease(1) }));
    assert_eq!(plan(&mut a, 9.5), [Action::Drop(id(&camera))]);
}

#[test]
fn a_worker_that_ends_keeps_its_cameras_until_they_are_taken() {
    let mut a = worker(&[("b", 1)], &["c1", "c2", "c3", "c4", "c5", "c6"]);
    for action in plan(&mut a, 9.1) {
        let Action::Claim { camera, .. } = action else { panic!("{action:?}") };
        a.claimed(&camera, Some(Claimed::Won(1)), at(9.2));
    }
    let owned: Vec<CameraId> = a.owned().cloned().collect();
    assert!(!owned.is_empty());
    a.worker("a".parse().unwrap(), Some(Lease { draining: true, ..lease(1) }));
    assert_eq!(plan(&mut a, 9.3), []);
    for camera in &owned {
        a.owner(camera.clone(), Some((owner("b", 1), 2)));
    }
    assert_eq!(plan(&mut a, 9.4), owned.into_iter().map(Action::Drop).collect::<Vec<_>>());
}

#[test]
fn a_worker_that_could_not_write_its_lease_does_not_take_others_for_dead() {
    let others = [("b", 1)];
    let camera = of_a(&others);
    let mut a = worker(&others, &[&camera]);
    a.owner(id(&camera), Some((owner("b", 1), 5)));
    a.renewed(at(9.0));
    // Nobody could write: every lease ends, this worker's own among them.
    a.worker("b".parse().unwrap(), None);
    assert_eq!(a.plan(at(12.4)), [], "its own is late");
    a.renewed(at(12.5));
    assert_eq!(a.plan(at(12.6)), [], "b may be on its way");
    a.worker("b".parse().unwrap(), Some(lease(1)));
    a.renewed(at(15.0));
    assert_eq!(a.plan(at(17.6)), [Action::Warm(id(&camera))], "b is there");
    // Whoever does not come back is dead.
    a.worker("b".parse().unwrap(), None);
    assert_eq!(a.plan(at(17.7)), [claim(&camera, Some(5))]);
}

#[test]
fn a_watch_that_ended_is_begun_anew() {
    let mut a = worker(&[("b", 1)], &["door"]);
    a.begin_anew();
    assert_eq!(plan(&mut a, 9.1), [], "nothing is known");
    a.worker("a".parse().unwrap(), Some(lease(1)));
    a.owner(id("door"), Some((owner("z", 1), 8)));
    a.complete(at(9.2));
    assert_eq!(plan(&mut a, 14.2), [claim("door", Some(8))]);
}

#[test]
fn a_camera_whose_events_are_refused_is_claimed_anew() {
    let mut a = worker(&[("b", 1)], &["door", "gate", "hall", "yard"]);
    let Some(Action::Claim { camera, .. }) = plan(&mut a, 9.0).pop() else { panic!("nothing is assigned to a") };
    a.claimed(&camera, Some(Claimed::Won(4)), at(9.1));
    assert_eq!(a.fenced(&camera, at(9.2)), Some(Action::Claim { camera: camera.clone(), over: Some(4) }));
    assert_eq!(a.fenced(&camera, at(9.3)), None, "it is on its way");
    // It was not this worker's any more.
    a.claimed(&camera, Some(Claimed::Lost), at(9.4));
    a.owner(camera.clone(), Some((owner("b", 1), 5)));
    assert!(!a.owned().any(|owned| *owned == camera));
    assert_eq!(a.warming().collect::<Vec<_>>(), [&camera]);
}

#[test]
fn a_worker_whose_name_another_process_has_takes_nothing() {
    let mut a = worker(&[], &["door"]);
    a.worker("a".parse().unwrap(), Some(lease(2)));
    assert_eq!(plan(&mut a, 9.0), []);
    a.owner(id("door"), Some((owner("a", 2), 3)));
    assert_eq!(plan(&mut a, 9.1), []);
    // That one is gone, and this one has its lease back.
    a.worker("a".parse().unwrap(), Some(lease(1)));
    assert_eq!(plan(&mut a, 9.2), [claim("door", Some(3))]);
}

#[test]
fn what_is_assigned_after_changes_is_what_a_newcomer_would_compute() {
    let names: Vec<String> = (0..200).map(|i| format!("c{i}")).collect();
    let cameras: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut old = worker(&[("b", 1), ("c", 1), ("d", 1), ("e", 1)], &cameras);
    plan(&mut old, 9.0);
    old.worker("c".parse().unwrap(), None);
    plan(&mut old, 9.1);
    old.worker("d".parse().unwrap(), Some(Lease { draining: true, ..lease(1) }));
    plan(&mut old, 9.2);
    let mut new = worker(&[("b", 1), ("e", 1)], &cameras);
    plan(&mut new, 9.0);
    assert_eq!(old.mine, new.mine);
    old.worker("c".parse().unwrap(), Some(lease(2)));
    plan(&mut old, 9.3);
    new.worker("c".parse().unwrap(), Some(lease(2)));
    plan(&mut new, 9.3);
    assert_eq!((&old.mine, &old.assigned), (&new.mine, &new.assigned));
}
