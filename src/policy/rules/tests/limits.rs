//! Cooldowns, quotas, restarts, and rules that are refused.

use super::*;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn cats() -> Tally {
    tally(&["cat", "cat", "cat"])
}

fn decide(rules: &Rules, usage: &Usage, at: &Moment) -> String {
    outcome(&rules.decide(&cats(), usage, at))
}

fn miss(rules: &Rules, usage: &Usage, at: &Moment) -> Option<Miss> {
    match rules.decide(&cats(), usage, at) {
        Ruling::Decided(decided) => decided.passed_over.into_iter().next().map(|(_, miss)| miss),
        Ruling::Undecided(_) => None,
    }
}

fn untrusted(at: Moment) -> Moment {
    Moment { trusted: false, ..at }
}

/// The monotonic clock at `ms`, the wall clock `set_hours` ahead of where [`moment`] has it.
fn set(ms: u64, set_hours: i64) -> Moment {
    let mut at = moment(ms);
    at.now.wall += SignedDuration::from_hours(set_hours);
    at
}

#[test]
fn a_cooldown_runs_on_the_monotonic_clock() {
    let rules = rules("allow cats species=cat cooldown=600");
    let mut usage = Usage::default();
    usage.used("cats", moment(0).now, 1);
    assert_eq!(miss(&rules, &usage, &moment(599_000)), Some(Miss::Cooling { left: Duration::from_secs(1) }));
    assert_eq!(decide(&rules, &usage, &moment(600_000)), "allow cats");
    for hours in [-30, 30] {
        assert_eq!(decide(&rules, &usage, &set(599_000, hours)), "deny -", "the wall clock set by {hours} h");
        assert_eq!(decide(&rules, &usage, &untrusted(set(600_000, hours))), "allow cats", "the wall clock set by {hours} h");
    }
}

#[test]
fn the_latest_use_counts_for_the_cooldown() {
    let rules = rules("allow cats species=cat cooldown=600");
    let mut usage = Usage::default();
    usage.used("cats", moment(0).now, 1);
    usage.used("cats", moment(500_000).now, 1);
    assert_eq!(decide(&rules, &usage, &moment(700_000)), "deny -");
}

#[test]
fn a_quota_of_portions() {
    let rules = rules("give:2 cats species=cat quota=5/day");
    let mut usage = Usage::default();
    let mut given = vec![];
    for _ in 0..4 {
        given.push(decide(&rules, &usage, &moment(0)));
        if given.last().unwrap().starts_with("give") {
            usage.used("cats", moment(0).now, 2);
        }
    }
    assert_eq!(given, ["give:2 cats", "give:2 cats", "deny -", "deny -"], "one portion is left, a meal has two");
    assert_eq!(miss(&rules, &usage, &moment(0)), Some(Miss::QuotaSpent { used: 4, count: 5 }));
}

#[test]
fn a_rule_that_may_not_act_keeps_no_place() {
    let rules = rules("give:1 milo who=milo cooldown=600\ngive:2 cats species=cat");
    let mut usage = Usage::default();
    let seen = tally(&["cat/milo", "cat", "cat/milo"]);
    assert_eq!(outcome(&rules.decide(&seen, &usage, &moment(300))), "wait");
    usage.used("milo", moment(0).now, 1);
    assert_eq!(outcome(&rules.decide(&seen, &usage, &moment(300))), "give:2 cats");
}

#[test]
fn quotas_are_counted_rule_by_rule() {
    let rules = rules("give:1 milo who=milo quota=1/day\ngive:1 cats species=cat quota=1/day");
    let mut usage = Usage::default();
    usage.used("milo", moment(0).now, 1);
    assert_eq!(decide(&rules, &usage, &moment(0)), "give:1 cats");
}

#[test]
fn a_daily_quota_begins_anew_at_local_midnight() {
    let rules = rules("allow cats species=cat quota=1/day");
    let berlin = |wall: &str| Moment {
        now: Now { mono: mono(0), wall: wall.parse().unwrap() },
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        trusted: true,
    };
    let mut usage = Usage::default();
    usage.used("cats", berlin("2026-06-15T20:00:00Z").now, 1);
    assert_eq!(decide(&rules, &usage, &berlin("2026-06-15T21:59:59Z")), "deny -");
    assert_eq!(decide(&rules, &usage, &berlin("2026-06-15T22:00:00Z")), "allow cats", "00:00 in Berlin");
}

#[test]
fn a_clock_set_back_does_not_fill_a_daily_quota() {
    let rules = rules("allow cats species=cat quota=1/day");
    let mut usage = Usage::default();
    usage.used("cats", moment(0).now, 1);
    for hours in [-1, -13, -30, -24 * 400] {
        assert_eq!(decide(&rules, &usage, &set(1000, hours)), "deny -", "set by {hours} h");
    }
}

#[test]
fn a_clock_set_forward_fills_a_daily_quota_once_it_is_believed() {
    let rules = rules("allow cats species=cat quota=1/day");
    let mut usage = Usage::default();
    usage.used("cats", moment(0).now, 1);
    assert_eq!(miss(&rules, &usage, &untrusted(set(1000, 24))), Some(Miss::ClockUntrusted));
    assert_eq!(decide(&rules, &usage, &set(1000, 24)), "allow cats");
    usage.used("cats", set(1000, 24).now, 1);
    assert_eq!(decide(&rules, &usage, &set(2000, 0)), "deny -", "and back again");
}

#[test]
fn a_rolling_quota_runs_on_the_monotonic_clock() {
    let rules = rules("allow cats species=cat quota=2/3600");
    let mut usage = Usage::default();
    usage.used("cats", moment(0).now, 1);
    usage.used("cats", moment(HOUR / 2).now, 1);
    for at in [moment(HOUR - 1), set(HOUR - 1, 48), set(HOUR - 1, -48), untrusted(set(HOUR - 1, 48))] {
        assert_eq!(decide(&rules, &usage, &at), "deny -");
    }
    assert_eq!(decide(&rules, &usage, &moment(HOUR)), "allow cats", "the first is an hour ago");
}

/// A process that started now, one hour after the rule acted.
fn restarted(minutes_ago: i64) -> Usage {
    let mut usage = Usage::default();
    usage.restore("cats", moment(0).now.wall - SignedDuration::from_mins(minutes_ago), 1, moment(0).now);
    usage
}

#[test]
fn a_restart_does_not_end_a_cooldown() {
    let rules = rules("allow cats species=cat cooldown=7200");
    let usage = restarted(60);
    assert_eq!(miss(&rules, &usage, &moment(0)), Some(Miss::Cooling { left: Duration::from_secs(3600) }));
    assert_eq!(decide(&rules, &usage, &moment(HOUR)), "allow cats");
    assert_eq!(decide(&rules, &usage, &untrusted(moment(HOUR))), "deny -", "only an hour is certain");
    assert_eq!(decide(&rules, &usage, &untrusted(moment(2 * HOUR))), "allow cats");
    assert_eq!(decide(&rules, &usage, &set(0, -5)), "deny -", "a clock set back");
    assert_eq!(decide(&rules, &usage, &set(2 * HOUR, -5)), "allow cats", "but not for ever");
}

#[test]
fn a_restart_does_not_fill_a_quota() {
    let daily = rules("allow cats species=cat quota=1/day");
    let rolling = rules("allow cats species=cat quota=1/7200");
    for rules in [&daily, &rolling] {
        assert_eq!(decide(rules, &restarted(60), &moment(0)), "deny -");
        assert_eq!(decide(rules, &restarted(60), &untrusted(moment(0))), "deny -");
        assert_eq!(decide(rules, &restarted(60), &set(0, -5)), "deny -", "a clock set back");
    }
    assert_eq!(decide(&rolling, &restarted(60), &moment(HOUR)), "allow cats");
    assert_eq!(decide(&rolling, &restarted(60), &untrusted(moment(HOUR))), "deny -", "only an hour is certain");
    assert_eq!(decide(&daily, &restarted(13 * 60), &moment(0)), "allow cats", "yesterday");
}

#[test]
fn pruning_keeps_what_may_still_count() {
    let rules = rules("allow cats species=cat quota=1/2678400");
    let mut usage = Usage::default();
    usage.used("cats", moment(0).now, 1);
    usage.prune(mono(31 * DAY));
    assert_eq!(decide(&rules, &usage, &moment(31 * DAY - 1)), "deny -");
    usage.prune(mono(32 * DAY + 1));
    assert_eq!(usage, Usage::default());
}

#[test]
fn memory_is_bounded_and_the_bound_exhausts_any_quota() {
    let rules = rules("allow cats species=cat quota=1000/day");
    let mut usage = Usage::default();
    for _ in 0..3 * MAX_COUNT {
        usage.used("cats", moment(0).now, 1);
    }
    assert_eq!(miss(&rules, &usage, &moment(0)), Some(Miss::QuotaSpent { used: MAX_COUNT, count: MAX_COUNT }));
    usage.used("cats", moment(0).now, 0);
    assert_eq!(miss(&rules, &usage, &moment(0)), Some(Miss::QuotaSpent { used: MAX_COUNT, count: MAX_COUNT }));
}

fn refused(change: impl Fn(&mut Rule)) -> (&'static str, String) {
    let mut wrong = rule("wrong", Action::Allow);
    change(&mut wrong);
    let error = Rules::new(vec![rule("right", Action::Allow), wrong]).unwrap_err();
    assert_eq!(error.index, 1);
    (error.field, error.to_string())
}

#[test]
fn rules_that_cannot_be_meant_are_refused() {
    let long = MAX_PERIOD + Duration::from_secs(1);
    type Change = fn(&mut Rule);
    let cases: [(&str, Change); 18] = [
        ("name", |r| r.name = " ".into()),
        ("name", |r| r.name = "right".into()),
        ("individuals", |r| r.individuals = vec![String::new()]),
        ("breeds", |r| r.breeds = vec!["Pug".into(), "Pug".into()]),
        ("min_probability", |r| r.min_probability = f32::NAN),
        ("min_probability", |r| r.min_probability = 1.01),
        ("min_probability", |r| r.min_probability = -0.01),
        ("action", |r| r.action = Action::Dispense(0)),
        ("action", |r| r.action = Action::Dispense(MAX_COUNT + 1)),
        ("cooldown", |r| r.cooldown = Some(Duration::ZERO)),
        ("quota", |r| r.quota = Some(Quota { count: 0, per: Period::Day })),
        ("quota", |r| r.quota = Some(Quota { count: MAX_COUNT + 1, per: Period::Day })),
        ("quota", |r| r.quota = Some(Quota { count: 1, per: Period::Last(Duration::ZERO) })),
        ("cooldown", |r| (r.action, r.cooldown) = (Action::Deny, Some(Duration::from_secs(1)))),
        ("quota", |r| (r.action, r.quota) = (Action::Deny, Some(quota("1/day")))),
        ("quota", |r| (r.action, r.quota) = (Action::Dispense(3), Some(quota("2/day")))),
        ("cooldown", |r| r.cooldown = Some(MAX_PERIOD + Duration::from_nanos(1))),
        ("quota", |r| r.quota = Some(Quota { count: 1, per: Period::Last(MAX_PERIOD + Duration::from_nanos(1)) })),
    ];
    for (field, change) in cases {
        assert_eq!(refused(change).0, field);
    }
    let (_, message) = refused(|r| r.cooldown = Some(long));
    assert_eq!(message, "rule 2 (`wrong`): cooldown: 2678401s is out of range: give more than 0 and at most 2678400s");
    let (_, message) = refused(|r| r.name = "right".into());
    assert_eq!(message, "rule 2 (`right`): name: rule 1 has the same name, which would mix up their quotas: give another");
}

#[test]
fn the_extremes_of_the_ranges_are_taken() {
    let mut widest = rule("widest", Action::Dispense(MAX_COUNT));
    widest.cooldown = Some(MAX_PERIOD);
    widest.quota = Some(Quota { count: MAX_COUNT, per: Period::Last(MAX_PERIOD) });
    widest.min_probability = 1.0;
    assert!(Rules::new(vec![widest]).is_ok());
}
