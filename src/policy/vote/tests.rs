use super::*;
use crate::model::Doubt;
use crate::policy::Individual;
use crate::vision::quality::Flaw;

fn ms(ms: u64) -> Monotonic {
    Monotonic::new(Duration::from_millis(ms))
}

fn animal(species: Species, breed: &str, individual: Option<&str>) -> Evidence {
    let individual = individual.map(|name| Individual { name: name.into(), similarity: 0.7 });
    Evidence::Animal(Sighting { species, species_p: 0.9, breed: breed.into(), breed_p: 0.6, pet: 0.99, individual })
}

fn cat() -> Evidence {
    animal(Species::Cat, "Siamese", None)
}

fn dog() -> Evidence {
    animal(Species::Dog, "pug", None)
}

fn dark() -> Evidence {
    Evidence::Unknown(Reason::Unclear(Doubt::Flaw(Flaw::TooDark)))
}

/// A frame every 100 ms, from 100 ms on, tallied at the last.
fn tally(settings: Settings, frames: impl IntoIterator<Item = Evidence>) -> Tally {
    let mut vote = Vote::new(settings).unwrap();
    let mut at = 0;
    for evidence in frames {
        at += 100;
        vote.add(ms(at), at / 100, evidence);
    }
    vote.tally(ms(at))
}

fn default(frames: impl IntoIterator<Item = Evidence>) -> Tally {
    tally(Settings::default(), frames)
}

#[test]
fn levels_agree_separately() {
    let seen = |breed, individual| animal(Species::Cat, breed, individual);
    let tally =
        default([seen("Siamese", Some("milo")), seen("Siamese", None), seen("Birman", Some("milo")), seen("Siamese", None)]);
    let species = tally.species.unwrap();
    assert_eq!((species.what, species.frames), (Species::Cat, 4));
    assert!((species.mean - 0.9).abs() < 1e-6);
    let breed = tally.breed.unwrap();
    assert_eq!((breed.what.as_str(), breed.frames), ("Siamese", 3));
    assert!((breed.mean - 0.6).abs() < 1e-6);
    assert_eq!(tally.individual, None, "two frames of a stranger contradict");
}

#[test]
fn an_individual_agrees_with_its_similarity() {
    let milo = || animal(Species::Cat, "Siamese", Some("milo"));
    let individual = default([milo(), milo(), cat(), milo()]).individual.unwrap();
    assert_eq!((individual.what.as_str(), individual.frames), ("milo", 3));
    assert!((individual.mean - 0.7).abs() < 1e-6);
}

#[test]
fn n_frames_are_enough_and_fewer_are_not() {
    assert_eq!(default([cat(), cat()]).species, None);
    assert_eq!(default([cat(), cat(), cat()]).species.unwrap().frames, 3);
}

#[test]
fn as_many_may_contradict_as_configured() {
    assert!(default([cat(), dog(), cat(), cat()]).species.is_some());
    let tally = default([cat(), dog(), cat(), dog(), cat()]);
    assert_eq!(tally.species, None);
    assert_eq!(tally.undecided(), Some(Undecided::Contradicting { leading: 3, others: 2, most: 1 }));
    let strict = Settings { contradicting: 0, ..Settings::default() };
    assert_eq!(super::tests::tally(strict, [cat(), dog(), cat(), cat()]).species, None);
}

#[test]
fn unknown_frames_take_places() {
    let tally = default([cat(), cat(), dark(), Evidence::NoAnimal, dark(), cat()]);
    assert_eq!(tally.ballots.len(), 5, "the first has left");
    let have_two = Undecided::TooFew { have: 2, need: 3, mostly: Some(Reason::Unclear(Doubt::Flaw(Flaw::TooDark))) };
    assert_eq!(tally.undecided(), Some(have_two));
}

#[test]
fn old_frames_and_frames_of_the_future_are_not_weighed() {
    let mut vote = Vote::new(Settings::default()).unwrap();
    for (frame, at) in [1000, 2000, 3500].into_iter().enumerate() {
        vote.add(ms(at), frame as u64, cat());
    }
    assert!(vote.tally(ms(3500)).species.is_some(), "exactly 2500 ms are not too old");
    assert_eq!(vote.tally(ms(3501)).ballots.len(), 2);
    assert_eq!(vote.tally(ms(3499)).ballots.len(), 2, "the third is not there yet");
}

#[test]
fn frames_that_are_not_newer_never_agree() {
    for times in [[100, 100, 100, 100], [400, 300, 200, 100], [100, 50, 100, 60]] {
        let mut vote = Vote::new(Settings::default()).unwrap();
        for (frame, at) in times.into_iter().enumerate() {
            vote.add(ms(at), frame as u64, cat());
        }
        let tally = vote.tally(ms(400));
        assert_eq!(tally.sightings().count(), 1, "{times:?}");
        assert!(matches!(tally.undecided(), Some(Undecided::TooFew { have: 1, mostly: Some(Reason::Fault(_)), .. })));
    }
}

#[test]
fn numbers_that_are_none_are_unknown() {
    let Evidence::Animal(good) = animal(Species::Cat, "Siamese", Some("milo")) else { unreachable!() };
    let bad = [
        Sighting { species_p: f32::NAN, ..good.clone() },
        Sighting { breed_p: f32::INFINITY, ..good.clone() },
        Sighting { pet: -f32::NAN, ..good.clone() },
        Sighting { individual: Some(Individual { name: "milo".into(), similarity: f32::NAN }), ..good },
    ];
    let tally = default(bad.map(Evidence::Animal));
    assert_eq!((tally.ballots.len(), tally.sightings().count()), (4, 0));
}

#[test]
fn visits_are_not_combined() {
    let mut vote = Vote::new(Settings::default()).unwrap();
    vote.add(ms(100), 1, cat());
    vote.add(ms(200), 2, cat());
    vote.clear();
    vote.add(ms(150), 3, cat());
    assert_eq!(vote.tally(ms(300)).undecided(), Some(Undecided::TooFew { have: 1, need: 3, mostly: None }));
}

#[test]
fn says_why_nothing_agrees() {
    let words = |frames: Vec<Evidence>| default(frames).undecided().map(|u| u.to_string());
    let blurred = || Evidence::Unknown(Reason::Unclear(Doubt::Gate));
    assert_eq!(words(vec![]).unwrap(), "no pet in the picture");
    assert_eq!(words(vec![Evidence::NoAnimal, dark(), Evidence::NoAnimal]).unwrap(), "no pet in the picture");
    let unknown = words(vec![dark(), blurred(), dark(), Evidence::NoAnimal]).unwrap();
    assert_eq!(unknown, "no frame allows a conclusion (3 unknown, mostly: too dark)");
    assert_eq!(words(vec![cat()]).unwrap(), "1 of the 3 frames that must agree");
    assert_eq!(words(vec![cat(), blurred()]).unwrap(), "1 of the 3 frames that must agree (others: perhaps a pet)");
    let contradicting = "the frames contradict each other: 2 for one species, 2 for another (at most 1 may be)";
    assert_eq!(words(vec![cat(), dog(), cat(), dog()]).unwrap(), contradicting);
    assert_eq!(words(vec![cat(), cat(), cat()]), None);
}

#[test]
fn possible_needs_more_than_one_frame() {
    let is_dog = |s: &Sighting| s.species == Species::Dog;
    assert!(!default([cat(), dog(), cat()]).possible(is_dog));
    assert!(default([dog(), cat(), dog()]).possible(is_dog));
}

#[test]
fn settings_out_of_range_are_refused() {
    let good = Settings::default();
    assert_eq!(good.check(), Ok(()));
    let bad = [
        ("agree", Settings { agree: 1, ..good }),
        ("of", Settings { of: 2, ..good }),
        ("of", Settings { of: MAX_FRAMES + 1, ..good }),
        ("within", Settings { within: Duration::ZERO, ..good }),
        ("within", Settings { within: MAX_WITHIN + Duration::from_nanos(1), ..good }),
        ("contradicting", Settings { contradicting: 3, ..good }),
        ("deny_agree", Settings { deny_agree: 1, ..good }),
        ("deny_agree", Settings { deny_agree: 4, ..good }),
    ];
    for (field, settings) in bad {
        let error = Vote::new(settings).map(|_| ()).unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().starts_with(&format!("vote: {field} is ")), "{error}");
    }
}
