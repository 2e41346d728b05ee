//! Synthetic animals: each has its own channels, and every picture its own strengths of them.

use proptest::prelude::*;

use super::*;

const LEN: usize = 256;
/// Channels of one animal.
const OWN: usize = 64;

fn identity() -> ModelIdentity {
    ModelIdentity { sha256: "a".repeat(64), embedding_len: LEN }
}

/// A picture's embedding: channels `first..first + OWN`, strengths by `seed`. Two of one animal are alike to about 0.9.
fn embedding(first: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) + first as u64);
    let mut values = vec![0.0; LEN];
    (first..first + OWN).for_each(|channel| values[channel % LEN] = 0.03 + random.f32());
    values
}

fn picture(first: usize, seed: u64) -> Picture {
    let name = format!("{first}-{seed}.jpg");
    Picture::new(&name, name.as_bytes(), Species::Cat, &embedding(first, seed)).unwrap()
}

fn pictures(first: usize, seeds: std::ops::Range<u64>) -> Vec<Picture> {
    seeds.map(|seed| picture(first, seed)).collect()
}

/// Milo, Luna, and strangers of which some share most of Milo's channels.
fn household() -> Roster {
    let mut roster = Roster::new(identity());
    roster.enrol("milo", pictures(0, 0..12)).unwrap();
    roster.enrol("luna", pictures(100, 0..11)).unwrap();
    roster.add_strangers([pictures(4, 100..120), pictures(180, 0..20)].concat()).unwrap();
    roster
}

fn name_of(individuals: &Individuals, embedding: &[f32]) -> Option<String> {
    individuals.recognise(embedding).map(|individual| individual.name)
}

#[test]
fn animals_are_told_apart_and_from_strangers() {
    let individuals = Individuals::from_roster(&household());
    let share = |first: usize, name: &str| {
        (500..600).filter(|&seed| name_of(&individuals, &embedding(first, seed)).as_deref() == Some(name)).count()
    };
    assert!(share(0, "milo") > 60, "{}", share(0, "milo"));
    assert!(share(100, "luna") > 60, "{}", share(100, "luna"));
    assert_eq!((share(0, "luna"), share(100, "milo")), (0, 0));
    assert!(share(4, "milo") < 5, "the neighbour's cat: {}", share(4, "milo"));
    assert_eq!((share(180, "milo"), share(220, "milo"), share(220, "luna")), (0, 0, 0), "unknown ones");
}

/// An embedding whose direction has this angle.
fn at(angle: f32) -> [f32; 2] {
    [angle.cos().powi(2), angle.sin().powi(2)]
}

#[test]
fn only_who_is_clearly_nearest_is_named() {
    let figures = Figures { pictures: 1, recognised: 0, strangers: 0, taken: 0 };
    let at_angle = |name: &str, angle: f32, rivals: &[usize]| Known {
        name: name.into(),
        species: Species::Cat,
        prototypes: vec![angle.cos(), angle.sin()],
        rivals: rivals.to_vec(),
        radius: 0.9,
        figures,
    };
    // Strangers 0 and 1; only the second is held against an animal.
    let strangers = [0.4_f32, 1.2].map(|angle| [angle.cos(), angle.sin()]).concat();
    let animals = vec![at_angle("a", 0.2, &[]), at_angle("b", 0.6, &[]), at_angle("c", 1.1, &[1])];
    let individuals = Individuals { embedding_len: 2, animals, strangers };
    for (angle, name) in [
        (0.2, Some("a")),
        (0.39, None), // as near to a as to b
        (0.6, Some("b")),
        (0.85, None), // as near to b as to c
        (1.1, None),  // the stranger at 1.2 is too near
        (1.04, Some("c")),
        (1.2, None),
        (1.57, None), // beyond every radius
    ] {
        assert_eq!(name_of(&individuals, &at(angle)).as_deref(), name, "{angle}");
    }
}

#[test]
fn between_two_animals_is_nobody() {
    let mut roster = Roster::new(identity());
    roster.enrol("milo", pictures(0, 0..5)).unwrap();
    let own = embedding(0, 2);
    assert_eq!(name_of(&Individuals::from_roster(&roster), &own).as_deref(), Some("milo"));
    // Somebody whose pictures are the same to the network.
    let twin = |seed: u64| Picture::new("twin", &seed.to_le_bytes(), Species::Cat, &embedding(0, seed)).unwrap();
    roster.enrol("twin", (0..5).map(twin).collect()).unwrap();
    let individuals = Individuals::from_roster(&roster);
    assert!((0..5).all(|seed| individuals.recognise(&embedding(0, seed)).is_none()));
    assert!(individuals.evidence(&Settings::default()).iter().all(|enrolled| enrolled.accepted == 0.0));
}

#[test]
fn a_stranger_that_looks_the_same_makes_nobody_of_it() {
    let mut roster = Roster::new(identity());
    roster.enrol("milo", pictures(0, 0..5)).unwrap();
    let same = Picture::new("stranger", b"other bytes", Species::Cat, &embedding(0, 2)).unwrap();
    roster.add_strangers(vec![same]).unwrap();
    assert!(Individuals::from_roster(&roster).recognise(&embedding(0, 2)).is_none());
}

#[test]
fn the_radius_keeps_out_a_stranger_that_no_other_stranger_is_like() {
    let mut roster = Roster::new(identity());
    roster.enrol("milo", pictures(0, 0..12)).unwrap();
    let wide = roster.animal("milo").unwrap().radius;
    // Near enough to be inside of the radius.
    let near: Vec<Picture> = (0..400).map(|seed| picture(1, seed)).collect();
    let likeness = |p: &Picture| {
        roster.animal("milo").unwrap().pictures.iter().map(|own| similarity(&own.feature, &p.feature)).fold(0.0, f32::max)
    };
    let near = near.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap();
    assert!(likeness(&near) >= wide, "{} {wide}", likeness(&near));
    let limit = likeness(&near);
    roster.add_strangers(vec![near]).unwrap();
    assert!(roster.animal("milo").unwrap().radius > limit);
}

#[test]
fn pictures_that_are_alike_make_the_radius_narrow() {
    let mut roster = Roster::new(identity());
    roster.enrol("milo", pictures(0, 0..12)).unwrap();
    let animal = roster.animal("milo").unwrap();
    let nearest = |own: &Picture| {
        let others = animal.pictures.iter().filter(|other| *other != own);
        others.map(|other| similarity(&own.feature, &other.feature)).fold(-1.0, f32::max)
    };
    let mut alike: Vec<f32> = animal.pictures.iter().map(nearest).collect();
    alike.sort_by(f32::total_cmp);
    assert!(alike[1] > learn::MIN_RADIUS, "{alike:?}");
    assert_eq!(animal.radius, alike[1], "one of twelve may lie outside");
}

#[test]
fn near_duplicates_are_one_picture() {
    let mut roster = Roster::new(identity());
    let burst = |n: u8| {
        let mut values = embedding(0, 1);
        values[0] += f32::from(n) * 0.001;
        Picture::new(&format!("burst-{n}"), &[n], Species::Cat, &values).unwrap()
    };
    roster.enrol("milo", (0..20).map(burst).collect()).unwrap();
    let figures = roster.animal("milo").unwrap().figures;
    assert_eq!((figures.pictures, figures.recognised), (1, 0), "a burst shows itself only");
    roster.add_strangers((20..40).map(burst).collect()).unwrap();
    assert_eq!(roster.animal("milo").unwrap().figures.strangers, 1);
    // Bytes that are known already add nothing at all.
    let before = roster.clone();
    roster.enrol("milo", (0..20).map(burst).collect()).unwrap();
    roster.add_strangers((0..40).map(burst).collect()).unwrap();
    assert_eq!(roster, before);
}

#[test]
fn strangers_of_another_species_do_not_count() {
    let mut roster = Roster::new(identity());
    roster.enrol("milo", pictures(0, 0..10)).unwrap();
    let dogs = (0..50).map(|seed| Picture { species: Species::Dog, ..picture(150, seed) });
    roster.add_strangers(dogs.collect()).unwrap();
    assert_eq!(roster.animal("milo").unwrap().figures.strangers, 0);
}

#[test]
fn what_is_no_direction_is_nobody() {
    let individuals = Individuals::from_roster(&household());
    let mut broken = embedding(0, 0);
    assert!(individuals.recognise(&broken).is_some());
    broken[200] = f32::NAN;
    for nobody in [broken, vec![0.0; LEN], vec![f32::INFINITY; LEN], vec![], vec![1.0; LEN - 1], vec![1.0; 2 * LEN]] {
        assert_eq!(individuals.recognise(&nobody), None);
    }
    assert!(Picture::new("x", b"x", Species::Cat, &[0.0; LEN]).is_err());
    assert!(Picture::new("x", b"x", Species::Cat, &[f32::NAN; LEN]).is_err());
    let longer = Picture::new("x", b"x", Species::Cat, &[1.0; LEN + 1]).unwrap();
    assert!(household().enrol("milo", vec![longer]).is_err());
    assert_eq!(Individuals::nobody().recognise(&embedding(0, 0)), None);
}

/// The plain way: for each group of near duplicates, enrol everybody else's pictures from nothing and ask for those left out.
fn measured_by_hand(roster: &Roster, name: &str) -> Figures {
    let mut all: Vec<(Option<&str>, &Picture)> = Vec::new();
    for animal in roster.animals() {
        all.extend(animal.pictures.iter().map(|picture| (Some(animal.name.as_str()), picture)));
    }
    all.extend(roster.strangers().iter().map(|picture| (None, picture)));
    let mut group: Vec<usize> = (0..all.len()).collect();
    for _ in 0..all.len() {
        for (a, b) in (0..all.len()).flat_map(|a| (0..all.len()).map(move |b| (a, b))) {
            if all[a].0 == all[b].0 && similarity(&all[a].1.feature, &all[b].1.feature) >= learn::DUPLICATE {
                group[b] = group[b].min(group[a]);
            }
        }
    }
    let mut figures = Figures { pictures: 0, recognised: 0, strangers: 0, taken: 0 };
    for left_out in (0..all.len()).filter(|&p| group[p] == p) {
        let rest = |owner: Option<&str>| -> Vec<Picture> {
            let kept = (0..all.len()).filter(|&p| group[p] != left_out && all[p].0 == owner);
            kept.map(|p| all[p].1.clone()).collect()
        };
        let mut without = Roster::new(roster.model().clone());
        for animal in roster.animals() {
            without.enrol(&animal.name, rest(Some(&animal.name))).unwrap();
        }
        without.add_strangers(rest(None)).unwrap();
        let individuals = Individuals::from_roster(&without);
        // Squares of the directions are embeddings with the same directions.
        let mut asked = (0..all.len()).filter(|&p| group[p] == left_out);
        let taken = |p: usize| {
            let embedding: Vec<f32> = all[p].1.feature.iter().map(|v| v * v).collect();
            name_of(&individuals, &embedding).as_deref() == Some(name)
        };
        if all[left_out].0 == Some(name) {
            figures.pictures += 1;
            figures.recognised += usize::from(asked.all(taken));
        } else {
            figures.strangers += 1;
            figures.taken += usize::from(asked.any(taken));
        }
    }
    figures
}

#[test]
fn the_figures_are_what_the_plain_way_finds() {
    let mut roster = household();
    let mut double = embedding(0, 3);
    double[7] += 0.01;
    let double = Picture::new("double", b"double", Species::Cat, &double).unwrap();
    roster.enrol("milo", vec![double]).unwrap();
    // Strangers that are the same to the network, so that some are taken.
    roster.add_strangers(pictures(0, 300..302)).unwrap();
    let mut interesting = 0;
    for animal in roster.animals() {
        assert_eq!(animal.figures, measured_by_hand(&roster, &animal.name), "{}", animal.name);
        assert!(animal.figures.recognised > 0);
        interesting += animal.figures.taken;
    }
    assert_eq!(roster.animal("milo").unwrap().figures.pictures, 12, "the double counts once");
    assert!(interesting > 0, "the test shows nothing about strangers");
}

#[test]
fn names_must_be_usable() {
    let roster = household();
    for name in ["Milo 2", "l'été", "old-dog_1"] {
        roster.check_name(name).unwrap();
    }
    for name in ["", " milo", "milo\n", "a/b", "-v", "MILO", "\u{7}", &"x".repeat(41)] {
        assert!(roster.check_name(name).is_err(), "{name:?}");
    }
}

#[test]
fn too_many_pictures_change_nothing() {
    let mut roster = household();
    let before = roster.clone();
    assert!(matches!(roster.enrol("milo", pictures(0, 1000..1064)), Err(IndividualsError::TooMany { count: 76, limit: 64 })));
    assert_eq!(roster, before);
}

fn known(pictures: usize, recognised: usize, strangers: usize, taken: usize) -> Enrolled {
    let figures = Figures { pictures, recognised, strangers, taken };
    let animal = Known { name: "milo".into(), species: Species::Cat, prototypes: vec![], rivals: vec![], radius: 0.9, figures };
    Enrolled::new(&animal, &Settings::default())
}

#[test]
fn short_evidence_is_refused_with_the_number_that_is_missing() {
    let enough = known(10, 6, 36, 0);
    assert_eq!((enough.needs_more, enough.refusal()), (None, None));
    let few = known(4, 4, 36, 0);
    assert_eq!((few.needs_more, few.needs_own, few.needs_strangers), (Some(6), 6, Some(0)));
    assert!(few.refusal().unwrap().contains("6 more pictures of milo"), "{few:?}");
    let unlike = known(10, 3, 36, 0);
    assert_eq!(unlike.needs_more, Some(8));
    assert!(unlike.refusal().unwrap().contains("30 % of 10 recognised when left out, 60 % are required"), "{unlike:?}");
    assert_eq!((unlike.needs_own, known(18, 11, 36, 0).needs_more), (8, None), "{unlike:?}");
    let untested = known(10, 10, 20, 0);
    assert_eq!((untested.needs_more, untested.needs_strangers), (Some(16), Some(16)));
    let refusal = untested.refusal().unwrap();
    assert!(refusal.contains("16 more pictures of other cats") && refusal.contains("16.8 %"), "{refusal}");
    let confused = known(10, 10, 36, 2);
    let more = confused.needs_strangers.unwrap();
    assert!(interval::interval(2, 36 + more).1 <= 0.1 && interval::interval(2, 36 + more - 1).1 > 0.1);
    assert_eq!(known(0, 0, 0, 0).needs_more, Some(46));
    let impossible = Settings { max_strangers: 0.0, min_accepted: f32::NAN, ..Settings::default() };
    let individuals = Individuals::from_roster(&household());
    assert!(individuals.evidence(&impossible).iter().all(|e| e.needs_more.is_some() && e.refusal().is_some()));
}

#[test]
fn a_file_gives_back_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("individuals.safetensors");
    let mut roster = household();
    roster.save(&path).unwrap();
    assert_eq!(Roster::load(&path, &identity()).unwrap(), roster);
    for name in ["milo", "luna"] {
        roster.forget(name).unwrap();
    }
    roster.forget_strangers();
    roster.save(&path).unwrap();
    assert_eq!(Roster::load(&path, &identity()).unwrap(), Roster::new(identity()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn nobody_is_recognised_from_a_file_that_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("individuals.safetensors");
    assert!(matches!(Individuals::load(&path, &identity()), Err(IndividualsError::Missing(_))));
    household().save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Individuals::load(&path, &identity())
    };
    for end in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        assert!(matches!(load(&whole[..end]), Err(IndividualsError::Foreign { .. })), "{end}");
    }
    for at in (0..whole.len()).step_by(97) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        assert!(load(&changed).is_err(), "byte {at}");
    }
    let text = String::from_utf8_lossy(&whole).into_owned();
    assert!(text.contains(r#""pawgate.individuals.version":"1""#), "{}", &text[..300]);
    let version = |digit: u8| {
        let needle = br#""pawgate.individuals.version":"1""#;
        let at = whole.windows(needle.len()).position(|window| window == needle).unwrap();
        let mut changed = whole.clone();
        changed[at + needle.len() - 2] = digit;
        changed
    };
    assert!(matches!(load(&version(b'2')), Err(IndividualsError::Newer { found: 2, .. })));
    assert!(matches!(load(&version(b'0')), Err(IndividualsError::Older { found: 0, .. })));
    assert!(matches!(load(b"not a file of ours, but long enough"), Err(IndividualsError::Foreign { .. })));
    load(&whole).unwrap();
    let other = ModelIdentity { sha256: "b".repeat(64), ..identity() };
    let error = Individuals::load(&path, &other).unwrap_err();
    assert!(error.to_string().contains("another model (aaaaaaaaaaaa…; this one is bbbbbbbbbbbb…)"), "{error}");
    assert!(matches!(Individuals::load(folder.path(), &identity()), Err(IndividualsError::Foreign { .. })));
}

#[test]
fn a_second_process_has_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/individuals.safetensors");
    let lock = file::lock(&path).unwrap();
    assert!(matches!(file::lock(&path), Err(IndividualsError::Busy(_))));
    drop(lock);
    file::lock(&path).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked: who is named has a prototype within the radius, and nobody else comes as near.
    #[test]
    fn nobody_beyond_the_radius_is_named(first in 0..LEN, seed in 0_u64..1000, blend in 0.0_f32..1.0, own in 0_u64..12) {
        let roster = household();
        let individuals = Individuals::from_roster(&roster);
        let other = embedding(first, seed);
        let query: Vec<f32> = embedding(0, own).iter().zip(&other).map(|(a, b)| a * blend + b * (1.0 - blend)).collect();
        let mut direction = vec![];
        feature::feature(&query, LEN, &mut direction).unwrap();
        let nearest = |pictures: &[Picture]| pictures.iter().map(|p| similarity(&direction, &p.feature)).fold(-1.0, f32::max);
        match individuals.recognise(&query) {
            Some(individual) => {
                let animal = roster.animal(&individual.name).unwrap();
                prop_assert!(nearest(&animal.pictures) >= animal.radius);
                prop_assert_eq!(nearest(&animal.pictures), individual.similarity);
                for other in roster.animals().iter().filter(|other| other.name != animal.name) {
                    prop_assert!(individual.similarity - nearest(&other.pictures) >= MARGIN);
                }
                prop_assert!(individual.similarity - nearest(roster.strangers()) >= MARGIN);
            }
            None => {
                let milo = roster.animal("milo").unwrap();
                let rival = nearest(&roster.animal("luna").unwrap().pictures).max(nearest(roster.strangers()));
                prop_assert!(nearest(&milo.pictures) < milo.radius || nearest(&milo.pictures) - rival < MARGIN);
            }
        }
    }

    /// In which order, in how many parts: what is learnt is the same.
    #[test]
    fn the_order_of_enrolment_does_not_matter(seed in 0_u64..1000, cut in 0_usize..12) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut milo, mut luna) = (pictures(0, 0..12), pictures(100, 0..11));
        let mut strangers = [pictures(4, 100..120), pictures(180, 0..20)].concat();
        random.shuffle(&mut milo);
        random.shuffle(&mut luna);
        random.shuffle(&mut strangers);
        let later = milo.split_off(cut);
        let mut roster = Roster::new(identity());
        roster.add_strangers(strangers.split_off(20)).unwrap();
        roster.enrol("luna", luna).unwrap();
        roster.enrol("milo", later).unwrap();
        roster.add_strangers(strangers).unwrap();
        roster.enrol("milo", milo).unwrap();
        prop_assert_eq!(roster, household());
    }

    /// Nothing is left of a forgotten animal, and the others are as if it had never been there.
    #[test]
    fn forgetting_leaves_nothing(count in 1_u64..20, first in 0..LEN) {
        let before = household();
        let mut roster = before.clone();
        roster.enrol("guest", pictures(first, 2000..2000 + count)).unwrap();
        prop_assert!(roster != before);
        roster.forget("guest").unwrap();
        prop_assert!(roster == before);
        let gone = matches!(roster.forget("guest"), Err(IndividualsError::Unknown { .. }));
        prop_assert!(gone);
    }
}
