//! What holds whatever the frames and rules are. The checks count for themselves, from the frames that were added.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

/// Time since the frame before in milliseconds, and what the frame shows.
type Frames = Vec<(u64, Evidence)>;

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let shows = [
        "none",
        "dark",
        "blurred",
        "cat:A",
        "cat:A@0.6",
        "cat:B",
        "cat:A/milo",
        "cat:A/milo",
        "cat:B/milo@0.7",
        "cat:A/felix",
        "cat:A/milo@0.9",
        "dog:P",
        "dog:P/rex",
        "dog:P@0.7",
    ];
    select(shows.to_vec()).prop_map(evidence)
}

fn any_frames(most: usize) -> impl Strategy<Value = Frames> {
    vec((select(vec![0, 100, 200, 200, 200, 300, 800]), any_evidence()), 0..=most)
}

/// Frames that all fit into the window, in number and time.
fn few_frames() -> impl Strategy<Value = Frames> {
    vec((Just(100), any_evidence()), 0..=4)
}

fn some<T: Clone + std::fmt::Debug + 'static>(of: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let all = of.len();
    prop_oneof![Just(vec![]), subsequence(of, 1..=all)]
}

prop_compose! {
    fn any_conditions()(
        individuals in some(vec!["milo".to_owned(), "felix".into(), "rex".into()]),
        breeds in some(vec!["A".to_owned(), "B".into(), "P".into()]),
        species in some(vec![Species::Cat, Species::Dog]),
        min_probability in select(vec![0.0, 0.0, 0.65, 0.8]),
        times in some(vec![window("11:00-13:00"), window("22:00-06:00")]),
    ) -> Rule {
        Rule { individuals, breeds, species, min_probability, times, ..rule("", Action::Deny) }
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let action = select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Dispense(1), Action::Dispense(2)]);
    let limits = (select(vec![None, None, Some(quota("1/day")), Some(quota("2/60"))]), select(vec![None, None, Some(60_u64)]));
    (any_conditions(), action, limits).prop_map(|(rule, action, (quota, cooldown))| {
        let quota = quota.filter(|q| action != Action::Deny && q.count >= action.units());
        let cooldown = cooldown.filter(|_| action != Action::Deny).map(Duration::from_secs);
        Rule { action, quota, cooldown, ..rule }
    })
}

fn named(rules: Vec<Rule>) -> Vec<Rule> {
    rules.into_iter().enumerate().map(|(index, rule)| Rule { name: format!("rule {index}"), ..rule }).collect()
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    vec(any_rule(), 0..6).prop_map(named)
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (2_usize..=4, 0_usize..=3, 0_usize..=3, 2_usize..=4).prop_map(|(agree, more, contradicting, deny_agree)| Settings {
        agree,
        of: agree + more,
        contradicting: contradicting.min(agree - 1),
        deny_agree: deny_agree.min(agree),
        ..Settings::default()
    })
}

/// The tally at the last frame, and its time.
fn run(settings: Settings, frames: &Frames) -> (Tally, u64) {
    let mut vote = Vote::new(settings).unwrap();
    let mut at = 0;
    for (frame, (step, evidence)) in frames.iter().enumerate() {
        at += step;
        vote.add(mono(at), frame as u64, evidence.clone());
    }
    (vote.tally(mono(at)), at)
}

fn decide(rules: &[Rule], tally: &Tally, at: &Moment) -> Ruling {
    let mut usage = Usage::default();
    // Rule 1 has just acted.
    usage.used("rule 1", moment(0).now, 1);
    Rules::new(rules.to_vec()).unwrap().decide(tally, &usage, at)
}

fn fulfils(rule: &Rule, s: &Sighting) -> bool {
    let individual = s.individual.as_ref().map(|i| i.name.clone());
    let among = |list: &Vec<String>, name: Option<&String>| list.is_empty() || name.is_some_and(|name| list.contains(name));
    among(&rule.individuals, individual.as_ref())
        && among(&rule.breeds, Some(&s.breed))
        && (rule.species.is_empty() || rule.species.contains(&s.species))
}

/// The animals on the last M frames that are not too old and came in order.
fn window_of<'a>(settings: &Settings, frames: &'a Frames) -> Vec<&'a Sighting> {
    let total: u64 = frames.iter().map(|(step, _)| step).sum();
    let mut at = 0;
    let mut animals = vec![];
    for (index, (step, evidence)) in frames.iter().enumerate() {
        at += step;
        let in_order = index == 0 || *step > 0;
        let recent = index + settings.of >= frames.len() && u128::from(total - at) <= settings.within.as_millis();
        if let (true, true, Evidence::Animal(sighting)) = (in_order, recent, evidence) {
            animals.push(sighting);
        }
    }
    animals
}

/// Failures are printed whole; no file of them is kept. `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(500), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_grant_has_n_frames_that_fulfil_the_rule(
        settings in any_settings(), frames in any_frames(12), rules in any_rules(), trusted: bool,
    ) {
        let (tally, at) = run(settings, &frames);
        let ruling = decide(&rules, &tally, &Moment { trusted, ..moment(at) });
        if let Some((name, action)) = ruling.granted() {
            let rule = rules.iter().find(|r| r.name == name).unwrap();
            prop_assert_eq!(rule.action, action);
            let animals = window_of(&settings, &frames);
            let speaking: Vec<_> = animals.iter().filter(|s| fulfils(rule, s)).collect();
            let one = |s: &Sighting| (s.species, s.individual.as_ref().filter(|_| !rule.individuals.is_empty()).map(|i| i.name.clone()));
            let most = speaking.iter().map(|s| speaking.iter().filter(|o| one(o) == one(s)).count()).max().unwrap_or(0);
            prop_assert!(most >= settings.agree, "{most} frames");
            prop_assert!(animals.len() - most <= settings.contradicting);
            prop_assert!(trusted || (rule.times.is_empty() && rule.quota.is_none_or(|q| q.per != Period::Day)));
            for denying in rules.iter().take_while(|r| r.name != name).filter(|r| r.action == Action::Deny && r.min_probability == 0.0) {
                let in_force = denying.times.is_empty() || !trusted || denying.times.contains(&window("11:00-13:00"));
                prop_assert!(!in_force || animals.iter().filter(|s| fulfils(denying, s)).count() < settings.deny_agree);
            }
        }
    }

    #[test]
    fn a_frame_without_an_animal_never_turns_denial_into_a_grant(
        frames in few_frames(), place in 0_usize..5, kind in select(vec!["none", "dark", "blurred"]), rules in any_rules(),
    ) {
        let settings = Settings::default();
        let (before, at) = run(settings, &frames);
        let mut more = frames.clone();
        more.insert(place.min(frames.len()), (100, evidence(kind)));
        let (after, later) = run(settings, &more);
        let (before, after) = (decide(&rules, &before, &moment(at)), decide(&rules, &after, &moment(later)));
        prop_assert_eq!(before.granted(), after.granted());
        prop_assert_eq!(matches!(before, Ruling::Decided(_)), matches!(after, Ruling::Decided(_)));
    }

    #[test]
    fn a_frame_without_an_animal_helps_by_nothing_but_the_frames_that_it_pushes_out(
        settings in any_settings(), frames in any_frames(12), kind in select(vec!["none", "dark"]), rules in any_rules(),
    ) {
        let mut more = frames.clone();
        more.push((100, evidence(kind)));
        let (tally, at) = run(settings, &more);
        // The same window without the last frame.
        let mut without = tally.clone();
        without.ballots.pop();
        let (with, without) = (decide(&rules, &tally, &moment(at)), decide(&rules, &without, &moment(at)));
        prop_assert_eq!(with.granted(), without.granted());
    }

    #[test]
    fn a_denial_in_front_never_grants_more(
        settings in any_settings(), frames in any_frames(12), rules in any_rules(), denial in any_conditions(), trusted: bool,
    ) {
        let (tally, at) = run(settings, &frames);
        let at = Moment { trusted, ..moment(at) };
        let before = decide(&rules, &tally, &at);
        let mut stricter = vec![Rule { name: "denial".into(), ..denial }];
        stricter.extend(rules);
        let after = decide(&stricter, &tally, &at);
        prop_assert!(after.granted().is_none() || after.granted() == before.granted(), "{before:?} → {after:?}");
    }

    #[test]
    fn later_rules_never_change_an_earlier_match(
        settings in any_settings(), frames in any_frames(12), rules in any_rules(), later in any_rules(),
    ) {
        let (tally, at) = run(settings, &frames);
        let before = decide(&rules, &tally, &moment(at));
        let Ruling::Decided(Decided { rule: Some(name), .. }) = &before else { return Ok(()) };
        let keep = rules.iter().position(|r| r.name == *name).unwrap() + 1;
        let renamed = later.into_iter().map(|r| Rule { name: format!("later {}", r.name), ..r });
        let changed: Vec<Rule> = rules.iter().take(keep).cloned().chain(renamed).collect();
        prop_assert_eq!(decide(&changed, &tally, &moment(at)), before.clone());
        let reversed: Vec<Rule> = rules.iter().take(keep).chain(rules.iter().skip(keep).rev()).cloned().collect();
        prop_assert_eq!(decide(&reversed, &tally, &moment(at)), before);
    }

    #[test]
    fn it_never_waits_for_ever(rules in any_rules(), shows in any_evidence()) {
        let settings = Settings::default();
        let frames = vec![(100, shows.clone()); settings.agree];
        let (tally, at) = run(settings, &frames);
        let decided = matches!(decide(&rules, &tally, &moment(at)), Ruling::Decided(_));
        prop_assert_eq!(decided, matches!(shows, Evidence::Animal(_)), "N frames of one animal decide");
    }

    #[test]
    fn n_and_contradicting_animals_settle_the_earlier_rules(animals in vec(any_evidence(), 20), rules in any_rules()) {
        let settings = Settings::default();
        let animals: Vec<_> = animals.into_iter().filter(|e| matches!(e, Evidence::Animal(_))).collect();
        // One species and no denial, which could hold back for longer: up to a full window.
        let rules: Vec<Rule> = rules.into_iter().filter(|r| r.action != Action::Deny).collect();
        let frames: Frames = animals.into_iter().take(settings.agree + settings.contradicting).map(|e| (100, e)).collect();
        prop_assume!(frames.len() == settings.agree + settings.contradicting);
        let (tally, at) = run(settings, &frames);
        let ruling = decide(&rules, &tally, &moment(at));
        prop_assert!(!matches!(ruling, Ruling::Undecided(Waiting::Rule { .. })), "{ruling:?}");
    }

    #[test]
    fn a_setting_of_the_clock_never_fills_a_cooldown_or_a_rolling_quota(hours in -2000_i64..2000, used in 0_u64..60, trusted: bool) {
        for text in ["allow cats species=cat cooldown=60", "allow cats species=cat quota=1/60"] {
            let mut usage = Usage::default();
            usage.used("cats", moment(used * 1000).now, 1);
            let mut at = Moment { trusted, ..moment(59_999) };
            at.now.wall += SignedDuration::from_hours(hours);
            let ruling = rules(text).decide(&tally(&["cat", "cat", "cat"]), &usage, &at);
            prop_assert_eq!(ruling.granted(), None);
        }
    }
}
