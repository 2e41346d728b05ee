use super::*;

const CATS: &str = "allow cats species=cat min=0.8";

#[test]
fn a_hand() {
    let end = play(
        CATS,
        "   0 none     wait
          200 blurred  wait
          400 none     wait
          600 cat      wait
          800 none     wait
         1000 blurred  wait
         1200 none     wait
         1400 none     wait",
    );
    assert_eq!(end.to_string(), "1 of the 3 frames that rule cats needs (others: perhaps a pet)");
    assert_eq!(end.granted(), None);
}

#[test]
fn a_branch_that_looks_like_a_cat_every_second() {
    let end = play(
        CATS,
        "   0 none wait
          500 cat  wait
         1000 none wait
         1500 cat  wait
         2000 none wait
         2500 none wait
         3000 cat  wait
         3500 none wait
         4000 none wait
         4500 none wait
         5000 none wait
         5600 none wait",
    );
    assert_eq!(end.to_string(), "no pet in the picture");
}

#[test]
fn two_animals_in_a_row() {
    play(
        "allow milo who=milo",
        "   0 cat/milo wait
          200 cat/milo wait
          400 cat/milo allow milo
          600 dog      allow milo
          800 dog      wait
         1000 dog      wait
         1200 dog      deny -",
    );
}

#[test]
fn one_or_two_good_frames_of_a_blurred_night() {
    let end = play(
        CATS,
        "   0 dark    wait
          250 cat     wait
          500 dark    wait
          750 dark    wait
         1000 cat     wait
         1250 blurred wait
         1500 dark    wait",
    );
    assert_eq!(end.to_string(), "1 of the 3 frames that rule cats needs (others: too dark)");
}

#[test]
fn a_slow_camera_never_gets_three_frames_into_the_window() {
    play(
        CATS,
        "   0 cat wait
         1500 cat wait
         3000 cat wait
         4500 cat wait",
    );
}

#[test]
fn a_pet_that_stays() {
    let rules = rules("allow cats species=cat cooldown=600 quota=1/day");
    let mut usage = Usage::default();
    let mut vote = Vote::new(Settings::default()).unwrap();
    let mut opened = 0;
    for ms in (0..60_000).step_by(500) {
        vote.add(mono(ms), ms, evidence("cat"));
        let (tally, at) = (vote.tally(mono(ms)), moment(ms));
        let again = rules.recheck("cats", &tally, &usage, &at);
        if let Some((rule, action)) = rules.decide(&tally, &usage, &at).granted() {
            usage.used(rule, at.now, action.units());
            opened += 1;
        }
        if opened > 0 {
            assert_eq!(again.granted(), Some(("cats", Action::Allow)), "what was granted stands while it stays");
        }
    }
    assert_eq!(opened, 1);
}

#[test]
fn a_recheck_exempts_the_acting_rule_only() {
    let rules = rules("allow milo who=milo cooldown=600\nallow cats species=cat cooldown=600");
    let mut usage = Usage::default();
    usage.used("milo", moment(0).now, 1);
    usage.used("cats", moment(0).now, 1);
    let tally = tally(&["cat/milo", "cat/milo", "cat/milo"]);
    assert_eq!(rules.recheck("cats", &tally, &usage, &moment(300)).granted(), Some(("cats", Action::Allow)));
    assert_eq!(outcome(&rules.decide(&tally, &usage, &moment(300))), "deny -");
}

#[test]
fn a_stranger_behind_the_pet() {
    play(
        "allow milo who=milo",
        "   0 cat/milo wait
          200 cat      wait
          400 cat/milo wait
          600 cat/milo allow milo
          800 cat      deny -
         1000 cat      deny -",
    );
    play(
        "allow milo who=milo",
        "   0 cat/milo wait
          200 cat      wait
          400 cat/milo wait
          600 cat      deny -
          800 cat/milo deny -
         1000 cat      deny -",
    );
}

#[test]
fn a_breed_that_flickers() {
    let frames = "   0 cat:Siamese OUT
                   200 cat:Birman  OUT
                   400 cat:Siamese OUT
                   600 cat:Birman  OUT
                   800 cat:Siamese OUT";
    let fill =
        |outcomes: [&str; 5]| outcomes.iter().fold(frames.to_owned(), |table, outcome| table.replacen("OUT", outcome, 1));
    play("allow siamese breed=Siamese", &fill(["wait", "wait", "wait", "deny -", "deny -"]));
    play("allow cats species=cat", &fill(["wait", "wait", "allow cats", "allow cats", "allow cats"]));
    // The owner named both: which of them it is does not matter.
    play("allow both breed=Siamese,Birman", &fill(["wait", "wait", "allow both", "allow both", "allow both"]));
    // The breed is settled after N + contradicting animals, and then the species.
    play("allow siamese breed=Siamese\nallow cats species=cat", &fill(["wait", "wait", "wait", "allow cats", "allow cats"]));
}

#[test]
fn cat_or_dog_opens_nothing_even_where_both_may_pass() {
    let end = play(
        "allow pets species=cat,dog\nallow any",
        "   0 cat wait
          200 dog wait
          400 cat wait
          600 dog wait
          800 cat wait
         1000 dog wait",
    );
    assert_eq!(end.to_string(), "the frames contradict each other: 3 for one species, 2 for another (at most 1 may be)");
}

#[test]
fn two_own_pets_at_once_are_not_one() {
    play(
        "allow mine who=milo,luna",
        "   0 cat/milo wait
          200 cat/luna wait
          400 cat/milo wait
          600 cat/luna deny -
          800 cat/luna deny -
         1000 cat/luna allow mine",
    );
}

#[test]
fn the_neighbours_cat_of_the_same_breed() {
    let mine_only = "allow milo who=milo min=0.8\ndeny others species=cat";
    play(
        mine_only,
        "   0 cat:Siamese/milo wait
          200 cat:Siamese/milo wait
          400 cat:Siamese/milo allow milo",
    );
    play(
        mine_only,
        "   0 cat:Siamese wait
          200 cat:Siamese deny others
          400 cat:Siamese deny others",
    );
    let not_felix = "deny felix who=felix\nallow siamese breed=Siamese";
    play(
        not_felix,
        "   0 cat:Siamese/felix wait
          200 cat:Siamese/felix deny felix
          400 cat:Siamese/felix deny felix",
    );
    play(
        not_felix,
        "   0 cat:Siamese wait
          200 cat:Siamese wait
          400 cat:Siamese allow siamese",
    );
}

#[test]
fn one_frame_of_a_denied_animal_delays_and_two_deny() {
    let rules = "deny felix who=felix\nallow cats species=cat";
    let end = play(
        rules,
        "   0 cat       wait
          200 cat/felix wait
          400 cat       wait
          600 cat       allow cats",
    );
    let Ruling::Decided(decided) = end else { unreachable!() };
    assert_eq!(decided.agreeing, [0, 2, 3], "felix' frame does not speak for it");
    assert_eq!(decided.passed_over, [("felix".into(), Miss::TooRare { have: 1, need: 2 })]);
    play(
        rules,
        "   0 cat       wait
          200 cat/felix wait
          400 cat       wait
          600 cat/felix deny felix
          800 cat       deny felix",
    );
}

#[test]
fn a_frame_that_speaks_for_a_denial_is_withheld_and_said_to_be() {
    let rules = "deny bengals breed=Bengal\nallow cats species=cat";
    let waiting = play(
        rules,
        "   0 cat         wait
          200 cat:Bengal  wait
          400 cat         wait",
    );
    let words = "2 of the 3 frames that rule cats needs; 1 more would speak for it, but also for an earlier rule that denies";
    assert_eq!(waiting.to_string(), words);
}

#[test]
fn a_denied_animal_that_left_the_window_no_longer_denies() {
    play(
        "deny dogs species=dog\nallow cats species=cat",
        "   0 dog  wait
          200 dog  deny dogs
          400 cat  deny dogs
          600 cat  deny dogs
          800 cat  deny dogs
         1000 cat  allow cats",
    );
}

#[test]
fn a_later_denial_waits_for_an_earlier_allowance() {
    play(
        "allow milo who=milo\ndeny cats species=cat",
        "   0 cat/milo wait
          200 cat      wait
          400 cat/milo wait
          600 cat/milo allow milo",
    );
    play(
        "allow milo who=milo\ndeny cats species=cat",
        "   0 cat/milo wait
          200 cat      wait
          400 cat      deny cats",
    );
}

#[test]
fn a_rule_that_may_match_yet_keeps_its_place() {
    let rules = "give:1 milo who=milo\ngive:2 cats species=cat";
    play(
        rules,
        "   0 cat/milo wait
          200 cat      wait
          400 cat/milo wait
          600 cat/milo give:1 milo",
    );
    play(
        rules,
        "   0 cat      wait
          200 cat      wait
          400 cat/milo give:2 cats",
    );
}

#[test]
fn conditions_must_hold_on_the_same_frames() {
    let end = play(
        "allow milo who=milo breed=Siamese",
        "   0 cat:Siamese/milo wait
          200 cat:Siamese      wait
          400 cat:Siamese/milo wait
          600 cat:Bombay/milo  deny -",
    );
    let Ruling::Decided(decided) = end else { unreachable!() };
    assert_eq!(decided.passed_over, [("milo".into(), Miss::Contradicted { others: 2, most: 1 })]);
}

#[test]
fn the_mean_probability_counts() {
    play(
        "allow cats species=cat min=0.8",
        "   0 cat@0.9  wait
          200 cat@0.6  wait
          400 cat@0.85 deny -
          600 cat@0.9  allow cats",
    );
    // Denying takes the likeliest frames; unlikely ones neither deny nor hold back.
    play(
        "deny bengal breed=Bengal min=0.8\nallow cats species=cat",
        "   0 cat:Bengal@0.4 wait
          200 cat:Bengal@0.4 wait
          400 cat:Bengal@0.4 allow cats
          600 cat:Bengal@0.9 allow cats
          800 cat:Bengal@0.9 deny bengal",
    );
}

#[test]
fn a_rule_that_names_a_breed_goes_by_the_probability_of_the_breed() {
    let Evidence::Animal(seen) = evidence("cat:Siamese@0.9") else { unreachable!() };
    let unsure = Evidence::Animal(Sighting { breed_p: 0.4, ..seen });
    let mut vote = Vote::new(Settings::default()).unwrap();
    (0..3).for_each(|frame| vote.add(mono(frame), frame, unsure.clone()));
    let decide = |text: &str| outcome(&rules(text).decide(&vote.tally(mono(2)), &Usage::default(), &moment(2)));
    assert_eq!(decide("allow siamese breed=Siamese min=0.5"), "deny -");
    assert_eq!(decide("allow cats species=cat min=0.5"), "allow cats");
    assert_eq!(decide("allow any min=0.5"), "allow any");
}

#[test]
fn with_a_stricter_vote() {
    let settings = Settings { agree: 4, of: 4, contradicting: 0, ..Settings::default() };
    play_with(
        settings,
        CATS,
        "   0 cat  wait
          100 dog  wait
          200 cat  wait
          300 cat  wait
          400 cat  wait
          500 cat  allow cats
          600 dark wait
          700 cat  wait",
    );
}

#[test]
fn no_rules_deny_everything() {
    let nothing = Rules::new(vec![]).unwrap();
    let ruling = nothing.decide(&tally(&["cat", "cat", "cat"]), &Usage::default(), &moment(300));
    assert_eq!(outcome(&ruling), "deny -");
    assert_eq!(ruling.to_string(), "no rule matches: 3 of 3 frames show a cat (Bombay)");
}

#[test]
fn a_decision_explains_itself() {
    let rules = rules(
        "deny dogs species=dog\nallow night species=cat time=22:00-06:00\nallow milo who=milo\nallow breeds breed=Egyptian_Mau",
    );
    let end = tally(&["dog", "cat:Egyptian_Mau@0.91", "cat:Egyptian_Mau@0.93", "cat:Egyptian_Mau@0.95"]);
    let Ruling::Decided(decided) = rules.decide(&end, &Usage::default(), &moment(400)) else { unreachable!() };
    assert_eq!(decided.grounds.to_string(), "3 of 4 frames show a cat (Egyptian Mau), probability 0.930");
    assert_eq!((decided.rule.as_deref(), decided.agreeing.as_slice()), (Some("breeds"), &[1, 2, 3][..]));
    let passed: Vec<_> = decided.passed_over.iter().map(|(rule, miss)| format!("{rule}: {miss}")).collect();
    assert_eq!(
        passed,
        [
            "dogs: only 1 of the 2 frames it needs",
            "night: outside its times",
            "milo: no frame shows an animal that it is about",
        ]
    );
    let waiting = rules.decide(&tally(&["cat/milo", "cat/milo"]), &Usage::default(), &moment(200));
    assert_eq!(waiting.to_string(), "2 of the 3 frames that rule milo needs");
}
