//! People held out: in each of many splits a part is enrolled, a part is background to calibrate with, and the rest are strangers.
//!
//! Nobody is in two parts of a split, so the threshold is learned without any face of the strangers it is judged on. A stranger comes as single
//! photographs and as tracks of looks, which go through the server's own [`TrackDecider`].

use fastrand::Rng;
use serde::Serialize;

use super::{Share, looks::Photo};
use crate::{
    evaluation::{
        EvaluationError,
        gallery::{self, Faces},
    },
    face::Embedding,
    identity::{
        Calibration, Candidates, DeciderSettings, EnrolledFace, Look, Taken, Thresholds, TrackDecider, decision,
        impostors,
    },
    inference::manifest::EmbedderSpec,
    time::Timestamp,
};

/// Looks of the tracks that are played.
pub const LENGTHS: [usize; 4] = [1, 4, 16, 64];
/// Faces enrolled of a person at most; the others are looked up.
const ENROLLED: usize = 4;
/// Tracks of a person in a split, by length and kind.
const TRACKS: usize = 3;
/// Time between two looks, milliseconds.
const STEP_MS: i64 = 200;

/// What looks a track is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Of one photograph: the face is seen from one side all the time.
    OnePhoto,
    /// Of all photographs of the person.
    AllPhotos,
}

/// How the looks of a track become an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A single photograph reaches the threshold.
    Single,
    /// The fused template, after the last look, reaches the threshold that stands for the learned one
    /// ([`crate::identity::Spread::raised`]).
    Fused,
    /// The fused template reaches the learned threshold itself: a rule that the server does not use.
    Plain,
    /// The server named somebody at any time: fused, asked after each look, lead over the second and number of looks as in service.
    Server,
    /// The best look reaches the threshold: the rule that the server does not use.
    BestLook,
}

/// Rules about tracks.
const RULES: [Rule; 4] = [Rule::Fused, Rule::Server, Rule::Plain, Rule::BestLook];

/// How to split.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The promise, above 0 and below 1.
    pub fpir: f64,
    /// Splits.
    pub splits: usize,
    /// Of the dice.
    pub seed: u64,
    /// How the server decides about tracks.
    pub decider: DeciderSettings,
    /// What the manifest says of the embedder.
    pub spec: EmbedderSpec,
}

/// What a rule did at one length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The rule.
    pub rule: Rule,
    /// Looks of a track.
    pub looks: usize,
    /// What the looks are of.
    pub kind: Option<Kind>,
    /// Share of strangers named. Its interval rests on different people, not on pictures or tracks, since those of a person are alike.
    pub named: Share,
    /// Share of splits in which at most the promised share was named.
    pub kept: f64,
    /// Share of enrolled people's probes not named rightly.
    pub missed: Share,
}

/// What all splits gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The promise.
    pub fpir: f64,
    /// Splits that could be calibrated.
    pub splits: usize,
    /// Splits with too little to calibrate.
    pub refused: usize,
    /// People that were strangers at least once.
    pub strangers: usize,
    /// Mean number of people enrolled, and of background faces.
    pub sizes: (f64, f64),
    /// Mean threshold.
    pub threshold: f64,
    /// By rule and length.
    pub rows: Vec<Row>,
}

/// Trials of a rule: by person, named of how many, strangers and mates apart, and by split.
#[derive(Debug, Clone, Default)]
struct Tally {
    strangers: Vec<(f64, f64)>,
    mates: Vec<(f64, f64)>,
    splits: Vec<(f64, f64)>,
}

impl Tally {
    fn add(list: &mut Vec<(f64, f64)>, place: usize, yes: bool) {
        if list.len() <= place {
            list.resize(place + 1, (0.0, 0.0));
        }
        list[place].0 += f64::from(u8::from(yes));
        list[place].1 += 1.0;
    }

    /// Mean over those with trials of their shares.
    fn share(list: &[(f64, f64)]) -> Share {
        let shares: Vec<f64> = list.iter().filter(|(_, n)| *n > 0.0).map(|(yes, n)| yes / n).collect();
        Share::of(shares.iter().sum::<f64>() / shares.len().max(1) as f64, shares.len())
    }
}

struct Site<'a> {
    plan: &'a Plan,
    faces: Faces,
    thresholds: Thresholds,
}

impl Site<'_> {
    /// Index of the nearest person and how near.
    fn nearest(&self, probe: &Embedding) -> Result<Option<(usize, f32)>, EvaluationError> {
        Ok(self.faces.search(probe, None)?.first().map(|hit| (hit.person, hit.similarity)))
    }

    fn reaches(&self, probe: &Embedding) -> Result<Option<usize>, EvaluationError> {
        Ok(self.nearest(probe)?.filter(|(_, s)| *s >= self.thresholds.similarity).map(|(person, _)| person))
    }

    /// The answers of the rules about a track, in the order of [`RULES`].
    fn track(&self, looks: &[&(Embedding, f32)]) -> Result<[Option<usize>; 4], EvaluationError> {
        let mut decider = TrackDecider::new(self.plan.decider.clone(), self.thresholds.similarity);
        let (mut server, mut best): (Option<usize>, Option<(usize, f32)>) = (None, None);
        for (i, (embedding, quality)) in looks.iter().enumerate() {
            if let Some((person, near)) = self.nearest(embedding)?.filter(|(_, s)| best.is_none_or(|b| *s > b.1)) {
                best = Some((person, near));
            }
            let at = Timestamp::from_millisecond(i as i64 * STEP_MS).unwrap_or(Timestamp::UNIX_EPOCH);
            match decider.look(Look { at, embedding: embedding.clone(), quality: *quality }) {
                Taken::Switched => decider = decider.split(),
                Taken::Agrees => {}
                Taken::Doubted | Taken::Refused => continue,
            }
            let Some(template) = decider.template() else { continue };
            let hits = gallery::candidates(&self.faces.search(&template, None)?)
                .map_err(|e| EvaluationError::TooLittle(e.to_string()))?;
            let asked = Candidates { spread: decider.evidence().spread(), ..Candidates::of(hits) };
            let decided = decision::decide(&asked, &self.thresholds);
            if let Some(statement) = decider.assess(at, decider.looks(), decided) {
                let named = statement.decision.known().and_then(|hit| hit.person.as_str().parse().ok());
                server = named.or(server);
            }
        }
        let needs = decider.evidence().spread().raised(self.thresholds.similarity);
        let near = decider.template().map(|t| self.nearest(&t)).transpose()?.flatten();
        let at = |threshold: f32| near.filter(|(_, s)| *s >= threshold).map(|(person, _)| person);
        let (fused, plain) = (at(needs), at(self.thresholds.similarity));
        let best = best.filter(|(_, s)| *s >= self.thresholds.similarity).map(|(person, _)| person);
        Ok([fused, server, plain, best])
    }
}

/// Plays the plan on photographs.
///
/// # Errors
/// When there are too few people, or no split could be calibrated.
pub fn play(photos: &[Photo], plan: &Plan, done: &mut dyn FnMut()) -> Result<Outcome, EvaluationError> {
    let people = photos.iter().map(|p| p.person + 1).max().unwrap_or(0);
    let of: Vec<Vec<&Photo>> =
        (0..people).map(|person| photos.iter().filter(|p| p.person == person).collect()).collect();
    let several: Vec<usize> = (0..people).filter(|p| of[*p].len() > 1).collect();
    let all = of.iter().filter(|p| !p.is_empty()).count();
    if several.len() < 4 || all < 8 {
        return Err(EvaluationError::TooLittle(format!(
            "{all} people, {} of them with several pictures: 8 and 4 are needed to hold some out; add people",
            several.len()
        )));
    }
    let mut dice = Rng::with_seed(plan.seed);
    let mut tallies: Vec<(Rule, usize, Option<Kind>, Tally)> = vec![(Rule::Single, 1, None, Tally::default())];
    for kind in [Kind::OnePhoto, Kind::AllPhotos] {
        for looks in LENGTHS {
            for rule in RULES {
                tallies.push((rule, looks, Some(kind), Tally::default()));
            }
        }
    }
    let (mut splits, mut refused, mut sizes, mut threshold) = (0, 0, (0.0, 0.0), 0.0);
    let mut too_little = None;
    for _ in 0..plan.splits {
        let mut order = several.clone();
        dice.shuffle(&mut order);
        let enrolled = &order[..order.len() / 2];
        let mut rest: Vec<usize> = (0..people).filter(|p| !of[*p].is_empty() && !enrolled.contains(p)).collect();
        dice.shuffle(&mut rest);
        let (background, strangers) = rest.split_at(rest.len() / 2);
        let mut faces: Vec<EnrolledFace> = Vec::new();
        let mut site = Faces::default();
        let mut probes: Vec<(usize, &Photo)> = Vec::new();
        for &person in enrolled {
            let mut pictures = of[person].clone();
            dice.shuffle(&mut pictures);
            let keep = ENROLLED.min(pictures.len() - 1);
            for (i, photo) in pictures.into_iter().enumerate() {
                if i >= keep {
                    probes.push((person, photo));
                    continue;
                }
                let id = |text: String| {
                    text.parse().map_err(|e: crate::ids::IdError| EvaluationError::TooLittle(e.to_string()))
                };
                faces.push(EnrolledFace {
                    id: id(format!("{person}-{i}"))?,
                    person: format!("{person}")
                        .parse()
                        .map_err(|e: crate::ids::IdError| EvaluationError::TooLittle(e.to_string()))?,
                    embedding: photo.embedding.clone(),
                    quality: 1.0,
                    source: String::new(),
                    created: Timestamp::UNIX_EPOCH,
                });
                site.push(&person.to_string(), String::new(), photo.embedding.clone());
            }
        }
        let unknown: Vec<Embedding> =
            background.iter().flat_map(|p| of[*p].iter().map(|photo| photo.embedding.clone())).collect();
        let compared = impostors::compare(&faces, &unknown);
        done();
        let learned = Calibration::learn(plan.fpir, &compared.comparisons, compared.people, Timestamp::UNIX_EPOCH);
        let similarity = match learned {
            Ok(learned) => learned.threshold(compared.people).cautious,
            Err(why) => {
                refused += 1;
                too_little = Some(why);
                continue;
            }
        };
        splits += 1;
        sizes = (sizes.0 + enrolled.len() as f64, sizes.1 + unknown.len() as f64);
        threshold += f64::from(similarity);
        let thresholds = Thresholds::of_model(similarity, plan.spec.margin, plan.spec.calibration);
        let site = Site { plan, faces: site, thresholds };
        // The gallery counts its people anew.
        let index = |person: usize| site.faces.people.iter().position(|p| *p == person.to_string());
        let split = splits - 1;
        for &person in strangers {
            for photo in &of[person] {
                let named = site.reaches(&photo.embedding)?.is_some();
                let tally = &mut tallies[0].3;
                Tally::add(&mut tally.strangers, person, named);
                Tally::add(&mut tally.splits, split, named);
            }
        }
        for (person, photo) in &probes {
            let missed = site.reaches(&photo.embedding)? != index(*person);
            Tally::add(&mut tallies[0].3.mates, *person, missed);
        }
        let mut place = 1;
        for kind in [Kind::OnePhoto, Kind::AllPhotos] {
            for looks in LENGTHS {
                for &person in strangers {
                    for _ in 0..TRACKS {
                        for (k, named) in site.track(&drawn(&of[person], kind, looks, &mut dice))?.iter().enumerate() {
                            let tally = &mut tallies[place + k].3;
                            Tally::add(&mut tally.strangers, person, named.is_some());
                            Tally::add(&mut tally.splits, split, named.is_some());
                        }
                    }
                }
                for &person in enrolled {
                    let own: Vec<&Photo> = probes.iter().filter(|p| p.0 == person).map(|p| p.1).collect();
                    for _ in 0..TRACKS {
                        for (k, named) in site.track(&drawn(&own, kind, looks, &mut dice))?.iter().enumerate() {
                            Tally::add(&mut tallies[place + k].3.mates, person, *named != index(person));
                        }
                    }
                }
                place += RULES.len();
            }
        }
    }
    if splits == 0 {
        let why = too_little.map_or_else(String::new, |e| format!(": {e}"));
        return Err(EvaluationError::TooLittle(format!("no split of these people could be calibrated{why}")));
    }
    let rows = tallies.into_iter().map(|(rule, looks, kind, tally)| {
        let kept = tally.splits.iter().filter(|(yes, n)| *n > 0.0 && yes / n <= plan.fpir).count();
        Row {
            rule,
            looks,
            kind,
            named: Tally::share(&tally.strangers),
            kept: kept as f64 / splits as f64,
            missed: Tally::share(&tally.mates),
        }
    });
    let rows: Vec<Row> = rows.collect();
    let n = splits as f64;
    let strangers = rows.first().map_or(0, |r| r.named.trials);
    Ok(Outcome {
        fpir: plan.fpir,
        splits,
        refused,
        strangers,
        sizes: (sizes.0 / n, sizes.1 / n),
        threshold: threshold / n,
        rows,
    })
}

/// Looks of a track, in order.
fn drawn<'a>(photos: &[&'a Photo], kind: Kind, looks: usize, dice: &mut Rng) -> Vec<&'a (Embedding, f32)> {
    if photos.is_empty() {
        return Vec::new();
    }
    let one = dice.usize(0..photos.len());
    (0..looks)
        .map(|_| {
            let photo = match kind {
                Kind::OnePhoto => photos[one],
                Kind::AllPhotos => photos[dice.usize(0..photos.len())],
            };
            &photo.looks[dice.usize(0..photo.looks.len())]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{open_set, promise::sphere};

    fn spec() -> EmbedderSpec {
        EmbedderSpec { identification_threshold: 0.5, ..open_set::tests::spec() }
    }

    #[test]
    fn the_best_look_names_more_strangers_the_longer_the_track_and_fusion_does_not() {
        let world = sphere::WORLDS[0];
        let photos = sphere::photos(&world, 40, 5, 7);
        let plan = Plan { fpir: 0.05, splits: 6, seed: 1, decider: DeciderSettings::default(), spec: spec() };
        let outcome = play(&photos, &plan, &mut || ()).unwrap();
        assert_eq!((outcome.splits, outcome.refused), (6, 0));
        let named = |rule: Rule, looks: usize| {
            let row =
                outcome.rows.iter().find(|r| (r.rule, r.looks) == (rule, looks) && r.kind != Some(Kind::OnePhoto));
            row.unwrap().named.share
        };
        assert!(named(Rule::BestLook, 64) > named(Rule::BestLook, 1), "{outcome:?}");
        assert!(named(Rule::Fused, 64) <= named(Rule::BestLook, 64));
        assert!(named(Rule::Server, 64) <= named(Rule::BestLook, 64));
    }

    #[test]
    fn too_few_people_are_refused() {
        let photos = sphere::photos(&sphere::WORLDS[0], 5, 2, 1);
        let plan = Plan { fpir: 0.05, splits: 1, seed: 1, decider: DeciderSettings::default(), spec: spec() };
        let error = play(&photos, &plan, &mut || ()).unwrap_err();
        assert!(error.to_string().contains("add people"), "{error}");
    }
}
