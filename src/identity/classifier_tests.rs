use super::*;
use crate::{face::Distance, identity::whispers::splitmix};

/// A normally distributed number, by Box and Muller.
fn normal(seed: &mut u64) -> f32 {
    let uniform = |seed: &mut u64| ((splitmix(seed) >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    let (a, b) = (uniform(seed), uniform(seed));
    ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
}

fn unit(mut values: Vec<f32>) -> Embedding {
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter_mut().for_each(|v| *v /= norm);
    Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values: values.into() }
}

/// A face around the direction of person `i`, 16 values.
pub(in crate::identity) fn look(i: usize, noise: f32, seed: &mut u64) -> Embedding {
    let mut own = 1000 + i as u64;
    let towards: Vec<f32> = (0..16).map(|_| normal(&mut own)).collect();
    unit(towards.into_iter().map(|v| v + noise * normal(seed)).collect())
}

/// `people` people, `faces` faces each.
pub(in crate::identity) fn crowd(people: usize, faces: usize, noise: f32) -> Vec<EnrolledFace> {
    let mut seed = 7;
    let mut all = Vec::new();
    for i in 0..people {
        for n in 0..faces {
            all.push(EnrolledFace {
                id: format!("f{i}-{n}").parse().unwrap(),
                person: format!("p{i}").parse().unwrap(),
                embedding: look(i, noise, &mut seed),
                quality: 0.9,
                source: String::new(),
                created: Timestamp::UNIX_EPOCH,
            });
        }
    }
    all
}

fn trained(faces: &[EnrolledFace]) -> Result<Classifier, TrainError> {
    Classifier::train(faces, Timestamp::UNIX_EPOCH, &CancellationToken::new())
}

#[test]
fn people_are_told_apart_and_probabilities_are_shared_among_those_asked_for() {
    let classifier = trained(&crowd(6, 4, 0.5)).unwrap();
    assert_eq!((classifier.people().len(), classifier.faces()), (6, 24));
    let (mut seed, mut right) = (99, 0);
    for round in 0..120 {
        let chances = classifier.chances(&look(round % 6, 0.5, &mut seed), classifier.people()).unwrap();
        assert!((chances.values().sum::<f32>() - 1.0).abs() < 1e-4);
        let best = chances.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        right += usize::from(best.0.as_str() == format!("p{}", round % 6));
    }
    assert!(right >= 115, "{right} of 120");
    let two: [PersonId; 3] = ["p1", "p4", "stranger"].map(|p| p.parse().unwrap());
    let chances = classifier.chances(&look(1, 0.1, &mut seed), &two).unwrap();
    assert!(chances.len() == 2 && chances[&two[0]] > 0.9, "{chances:?}");
    let mut other = look(1, 0.1, &mut seed);
    other.model = "n".parse().unwrap();
    assert_eq!(classifier.chances(&other, &two), None);
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    let faces = crowd(3, 2, 0.5);
    let mut values = Array2::<f64>::ones((6, 17));
    for (mut row, face) in values.rows_mut().into_iter().zip(&faces) {
        row.iter_mut().zip(face.embedding.values.iter()).for_each(|(v, e)| *v = f64::from(*e));
    }
    let loss = Loss::new(values, vec![0, 0, 1, 1, 2, 2], 3, CancellationToken::new());
    let mut seed = 3;
    let at: Vec<f64> = (0..51).map(|_| f64::from(normal(&mut seed))).collect();
    let gradient = loss.gradient(&at).unwrap();
    for i in [0, 7, 16, 20, 50] {
        let moved = |by: f64| {
            let mut p = at.clone();
            p[i] += by;
            loss.cost(&p).unwrap()
        };
        let measured = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((measured - gradient[i]).abs() < 1e-4, "{i}: {measured} is not {}", gradient[i]);
    }
}

#[test]
fn many_faces_make_nobody_likelier() {
    // 30 faces of p0, 2 of p1: a face between both is nobody's more than the other's.
    let mut faces = crowd(2, 30, 0.3);
    faces.retain(|f| f.person.as_str() == "p0" || ["f1-0", "f1-1"].contains(&f.id.as_str()));
    let classifier = trained(&faces).unwrap();
    let mean = |person: &str| {
        let own: Vec<(&Embedding, f32)> =
            faces.iter().filter(|f| f.person.as_str() == person).map(|f| (&f.embedding, 1.0)).collect();
        Embedding::weighted_mean(&own).unwrap()
    };
    let between = Embedding::weighted_mean(&[(&mean("p0"), 1.0), (&mean("p1"), 1.0)]).unwrap();
    let chances = classifier.chances(&between, classifier.people()).unwrap();
    assert!(chances.values().all(|c| (0.2..0.8).contains(c)), "{chances:?}");
}

#[test]
fn too_little_too_much_and_unusable_are_said() {
    assert!(trained(&crowd(1, 20, 0.1)).unwrap_err().to_string().contains("enrol more pictures"));
    assert!(matches!(trained(&crowd(20, 1, 0.1)), Err(TrainError::TooLittle { several: 0, .. })));
    assert!(matches!(trained(&[]), Err(TrainError::TooLittle { people: 0, .. })));
    let many: Vec<PersonId> = (0..2 * MOST_PEOPLE + 2).map(|i| format!("p{}", i / 2).parse().unwrap()).collect();
    assert!(matches!(enough(&many), Err(TrainError::TooMuch { .. })));
    let mut mixed = crowd(2, 5, 0.1);
    mixed[3].embedding.values = vec![f32::NAN; 16].into();
    assert_eq!(trained(&mixed), Err(TrainError::Unusable));
    mixed[3].embedding.values = vec![1.0; 3].into();
    assert_eq!(trained(&mixed), Err(TrainError::Unusable));
}

#[test]
fn equal_faces_of_two_people_do_not_break_it() {
    let mut faces = crowd(2, 5, 0.1);
    let same = faces[0].embedding.clone();
    faces.iter_mut().for_each(|f| f.embedding = same.clone());
    let classifier = trained(&faces).unwrap();
    let chances = classifier.chances(&same, classifier.people()).unwrap();
    assert!(chances.values().all(|c| (c - 0.5).abs() < 0.01), "{chances:?}");
}

#[test]
fn training_can_be_stopped() {
    let stop = CancellationToken::new();
    stop.cancel();
    let result = Classifier::train(&crowd(3, 5, 0.5), Timestamp::UNIX_EPOCH, &stop);
    assert_eq!(result, Err(TrainError::Stopped));
}

#[test]
fn the_state_is_that_of_faces_and_people_whatever_their_order() {
    let faces = crowd(2, 2, 0.1);
    let state = |faces: &[EnrolledFace]| GalleryState::of(faces.iter().map(|f| (&f.id, &f.person)));
    let mut turned = faces.clone();
    turned.reverse();
    assert_eq!(state(&faces), state(&turned));
    turned.pop();
    assert_ne!(state(&faces), state(&turned));
}
