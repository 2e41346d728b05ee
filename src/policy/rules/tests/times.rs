//! Time windows, changes to and from summer time, and clocks that cannot be believed.

use super::*;

/// The offsets of the day in minutes after `start` (UTC), in steps of `step`, at which `window` holds in `zone`: as ranges.
fn held(window: &TimeWindow, zone: &str, start: &str, minutes: i64) -> Vec<(i64, i64)> {
    let (zone, start) = (TimeZone::get(zone).unwrap(), start.parse::<Timestamp>().unwrap());
    let holds = |minute| window.contains(start + SignedDuration::from_mins(minute), &zone);
    let mut ranges: Vec<(i64, i64)> = vec![];
    for minute in (0..minutes).filter(|m| holds(*m)) {
        match ranges.last_mut() {
            Some((_, end)) if *end == minute => *end += 1,
            _ => ranges.push((minute, minute + 1)),
        }
    }
    ranges
}

fn on(text: &str, days: &[Weekday]) -> TimeWindow {
    TimeWindow { days: days.to_vec(), ..window(text) }
}

const DAY: i64 = 24 * 60;

#[test]
fn the_first_moment_is_inside_and_the_last_is_not() {
    let (zone, window) = (TimeZone::UTC, window("07:00-19:30"));
    let holds = |wall: &str| window.contains(wall.parse().unwrap(), &zone);
    assert!(!holds("2026-06-15T06:59:59.999999999Z") && holds("2026-06-15T07:00:00Z"));
    assert!(holds("2026-06-15T19:29:59.999999999Z") && !holds("2026-06-15T19:30:00Z"));
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    // From Friday, 19 June 2026, 00:00 on: Friday 22:00 to Saturday 06:00.
    let friday_night = on("22:00-06:00", &[Weekday::Friday]);
    assert_eq!(held(&friday_night, "UTC", "2026-06-19T00:00:00Z", 7 * DAY), [(22 * 60, 30 * 60)]);
    let every_night = window("22:00-06:00");
    assert_eq!(held(&every_night, "UTC", "2026-06-19T00:00:00Z", DAY), [(0, 360), (22 * 60, DAY)]);
}

#[test]
fn midnight_as_the_end_and_whole_days() {
    assert_eq!(
        held(&on("20:00-00:00", &[Weekday::Saturday]), "UTC", "2026-06-19T00:00:00Z", 3 * DAY),
        [(DAY + 20 * 60, 2 * DAY)]
    );
    assert_eq!(held(&on("00:00-00:00", &[Weekday::Saturday]), "UTC", "2026-06-19T00:00:00Z", 3 * DAY), [(DAY, 2 * DAY)]);
    assert_eq!(held(&on("06:00-06:00", &[Weekday::Friday]), "UTC", "2026-06-19T00:00:00Z", 3 * DAY), [(360, DAY + 360)]);
}

#[test]
fn the_hour_that_spring_skips() {
    // Berlin: 29 March 2026, 02:00 CET becomes 03:00 CEST, at 01:00 UTC. New York: 8 March 2026, at 07:00 UTC.
    for (zone, midnight) in [("Europe/Berlin", "2026-03-28T23:00:00Z"), ("America/New_York", "2026-03-08T05:00:00Z")] {
        assert_eq!(held(&window("02:15-02:45"), zone, midnight, 23 * 60), [], "{zone}");
        assert_eq!(
            held(&window("01:30-03:30"), zone, midnight, 23 * 60),
            [(90, 150)],
            "{zone}: 01:30 to 02:00 and 03:00 to 03:30"
        );
        assert_eq!(
            held(&window("22:00-06:00"), zone, midnight, 22 * 60),
            [(0, 300), (21 * 60, 22 * 60)],
            "{zone}: a short night"
        );
        assert_eq!(held(&window("07:00-19:00"), zone, midnight, 23 * 60), [(360, 1080)], "{zone}: by the clock on the wall");
    }
}

#[test]
fn the_hour_that_autumn_repeats() {
    // Berlin: 25 October 2026, 03:00 CEST becomes 02:00 CET, at 01:00 UTC.
    let berlin = |text| held(&window(text), "Europe/Berlin", "2026-10-24T22:00:00Z", 25 * 60);
    assert_eq!(berlin("02:15-02:45"), [(135, 165), (195, 225)], "both passes");
    assert_eq!(berlin("22:00-06:00"), [(0, 420), (23 * 60, 25 * 60)], "a long night");
    assert_eq!(berlin("22:00-02:30"), [(0, 150), (180, 210), (23 * 60, 25 * 60)], "the clock shows 02:00 to 02:30 once more");
    // New York: 1 November 2026, 02:00 EDT becomes 01:00 EST, at 06:00 UTC.
    let new_york = |text| held(&window(text), "America/New_York", "2026-11-01T04:00:00Z", 25 * 60);
    assert_eq!(new_york("01:15-01:45"), [(75, 105), (135, 165)], "both passes");
    assert_eq!(new_york("07:00-19:00"), [(480, 1200)], "by the clock on the wall");
}

#[test]
fn the_weekday_is_the_one_of_the_zone() {
    // 23:30 on Friday in New York is Saturday in Berlin and UTC.
    let wall: Timestamp = "2026-06-20T03:30:00Z".parse().unwrap();
    let friday = on("00:00-00:00", &[Weekday::Friday]);
    assert!(friday.contains(wall, &TimeZone::get("America/New_York").unwrap()));
    assert!(!friday.contains(wall, &TimeZone::get("Europe/Berlin").unwrap()));
}

#[test]
fn rules_keep_to_their_times() {
    let rules = rules("deny curfew time=22:00-06:00\nallow cats species=cat");
    let cats = tally(&["cat", "cat", "cat"]);
    let at = |wall: &str, trusted| Moment {
        now: Now { mono: mono(300), wall: wall.parse().unwrap() },
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        trusted,
    };
    let decide = |wall, trusted| outcome(&rules.decide(&cats, &Usage::default(), &at(wall, trusted)));
    assert_eq!(decide("2026-06-15T19:59:59Z", true), "allow cats", "21:59 in Berlin");
    assert_eq!(decide("2026-06-15T20:00:00Z", true), "deny curfew", "22:00 in Berlin");
    assert_eq!(decide("2026-06-15T04:00:00Z", true), "allow cats", "06:00 in Berlin");
    assert_eq!(decide("2026-06-15T10:00:00Z", false), "deny curfew", "who knows what time it is");
}

#[test]
fn while_the_clock_is_not_believed_only_rules_without_times_grant() {
    let cats = tally(&["cat", "cat", "cat"]);
    let decide =
        |text: &str, trusted| outcome(&rules(text).decide(&cats, &Usage::default(), &Moment { trusted, ..moment(300) }));
    for (text, granted) in [
        ("allow cats species=cat time=07:00-19:00", "allow cats"),
        ("allow cats species=cat quota=3/day", "allow cats"),
        ("give:1 cats species=cat quota=3/day", "give:1 cats"),
    ] {
        assert_eq!((decide(text, true).as_str(), decide(text, false).as_str()), (granted, "deny -"), "{text}");
    }
    for text in ["allow cats species=cat", "allow cats species=cat quota=3/3600", "allow cats species=cat cooldown=60"] {
        assert_eq!(decide(text, false), "allow cats", "{text}");
    }
}

/// Both clocks in seconds, the wall clock after [`EARLIEST`].
fn clocks(mono_s: f64, wall_s: f64) -> Now {
    Now {
        mono: Monotonic::new(Duration::from_secs_f64(mono_s)),
        wall: EARLIEST + SignedDuration::from_millis((wall_s * 1000.0) as i64),
    }
}

/// Looks every second from `from` to `to` (monotonic), with the wall clock `offset` ahead; what each look said.
fn looks(watch: &mut ClockWatch, from: u32, to: u32, offset: f64) -> Vec<bool> {
    (from..to).map(|s| watch.look(clocks(f64::from(s), f64::from(s) + offset))).collect()
}

#[test]
fn a_clock_is_believed_after_it_ran_evenly() {
    let mut watch = ClockWatch::new();
    assert_eq!(looks(&mut watch, 0, 60, 1e6), [false; 60]);
    assert_eq!(looks(&mut watch, 60, 90, 1e6), [true; 30]);
    assert!(ClockWatch::synchronised().look(clocks(5.0, 1e6)));
}

#[test]
fn a_jump_in_either_direction_costs_the_trust_for_a_while() {
    for jump in [-6.0, 6.0, -3600.0, 3600.0, -86_400.0, 86_400.0] {
        let mut watch = ClockWatch::synchronised();
        assert!(looks(&mut watch, 0, 10, 1e6).iter().all(|trusted| *trusted));
        assert_eq!(looks(&mut watch, 10, 70, 1e6 + jump), [false; 60], "{jump} s");
        assert!(watch.look(clocks(70.0, 70.0 + 1e6 + jump)), "{jump} s");
    }
}

#[test]
fn another_jump_begins_the_wait_anew() {
    let mut watch = ClockWatch::synchronised();
    looks(&mut watch, 0, 10, 1e6);
    looks(&mut watch, 10, 60, 2e6);
    assert_eq!(looks(&mut watch, 60, 120, 1e6), [false; 60]);
    assert!(watch.look(clocks(120.0, 120.0 + 1e6)));
}

#[test]
fn a_clock_that_was_never_set_is_not_believed() {
    let mut watch = ClockWatch::synchronised();
    assert_eq!(looks(&mut watch, 0, 200, -201.0), [false; 200]);
    // It reaches the earliest date by itself: no jump, and still wrong.
    assert_eq!(looks(&mut watch, 200, 250, -201.0), [false; 50]);
}

#[test]
fn slewing_is_no_jump() {
    // chrony's fastest, 8.3 %, looked at every second and every two minutes.
    for (step, rate) in [(1, 1.083), (120, 1.083), (1, 0.917), (120, 0.917)] {
        let mut watch = ClockWatch::synchronised();
        for s in (0..3600).step_by(step) {
            assert!(watch.look(clocks(f64::from(s), 1e6 + f64::from(s) * rate)), "{rate} every {step} s, at {s} s");
        }
    }
}

#[test]
fn a_suspended_machine_has_to_settle() {
    let mut watch = ClockWatch::synchronised();
    looks(&mut watch, 0, 10, 1e6);
    // The monotonic clock stood still for eight hours.
    assert!(!watch.look(clocks(10.0, 10.0 + 1e6 + 8.0 * 3600.0)));
    assert!(watch.look(clocks(70.0, 70.0 + 1e6 + 8.0 * 3600.0)));
}

#[test]
fn looks_out_of_order_and_extreme_clocks_are_not_believed() {
    let mut watch = ClockWatch::synchronised();
    watch.look(clocks(10.0, 1e6));
    assert!(!watch.look(clocks(9.0, 1e6)));
    for walls in [[Timestamp::MIN, Timestamp::MAX], [Timestamp::MAX, Timestamp::MIN]] {
        let mut watch = ClockWatch::synchronised();
        watch.look(Now { mono: Monotonic::default(), wall: walls[0] });
        assert!(!watch.look(Now { mono: mono(1000), wall: walls[1] }));
        // However long nobody looked: no overflow.
        watch.look(Now { mono: Monotonic::new(Duration::MAX), wall: walls[0] });
    }
}
