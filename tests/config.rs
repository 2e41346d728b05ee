//! Configurations as owners write them, and as nobody should.

use std::path::{Path, PathBuf};

use pawgate::config::{Config, ConfigError, Current, Problem, schema};
use pawgate::hw::actuator::Position;
use pawgate::hw::actuator::gpio::{Active, Bias, LineSettings};
use pawgate::hw::actuator::servo::PulseWidth;
use pawgate::hw::actuator::settings::Drive;
use pawgate::hw::inputs::InputSettings;
use pawgate::individuals::{Individuals, ModelIdentity, Picture, Roster};
use pawgate::model::{Label, Species};
use pawgate::policy::rules::{Action, Period};
use pawgate::service::inputs::Press;
use proptest::prelude::*;
use serde_json::Value;

const MINIMAL: &str = "[camera]\nsource = \"pictures\"\n[door]\n";

/// Every key there is.
const FULL: &str = r#"[device]
name = "hall"
time_zone = "Europe/Berlin"
[camera]
source = ["a.jpg", "b"]
size = "800x600"
fps = 10
max_age = "800ms"
silence = "4s"
frozen_after = "1m"
[region]
left = 0.25
top = 0.5
width = 0.5
height = 0.5
[motion]
threshold = 20
min_area = 0.02
still_after = "3s"
margin = 0.5
[vote]
agree = 4
of = 8
within = "3s"
contradicting = 2
deny_agree = 3
[[rule]]
name = "no beagles at night"
action = "deny"
breed = ["Beagle"]
species = ["dog"]
min_probability = 0.4
times = [{ days = ["mon", "sun"], from = "22:00", to = "06:30" }]
[[rule]]
name = "milo"
action = "allow"
individual = "milo"
cooldown = "1m 30s"
quota = { count = 5, per = "6h" }
[[rule]]
name = "meals"
action = "dispense"
portions = 2
species = "cat"
quota = { count = 4, per = "day" }
[door]
open_for = "10s"
max_open = "20s"
min_interval = "2s"
travel = "3s"
safe_state = "unlocked"
exit = "always"
exit_open_for = "7s"
max_override = "1h"
[door.latch]
drive = "servo"
pwm_chip = 2
pwm_channel = 1
locked_us = 900
unlocked_us = 2100
off_after = "2s"
[door.sensor]
line = "GPIO5"
active = "high"
bias = "pull-down"
position = "unlocked"
[door.beam]
line = "6"
[door.button]
line = "gpiochip1:6"
action = "lock"
lasting = "2h"
[door.exit_sensor]
line = "7"
[feeder]
max_per_day = 8
min_interval = "10s"
portion_time = "20s"
[feeder.motor]
line = "8"
active = "low"
turn = "1500ms"
[display]
kind = "ssd1306"
bus = "/dev/i2c-7"
address = 60
size = "128x32"
rotation = 180
off_after = "1m"

[gpio]
chip = "pinctrl-rp1"
[individuals]
file = "pets.json"
min_pictures = 12
min_accepted = 0.8
max_strangers = 0.02
[journal]
folder = "log"
keep_for = "1w"
max_size = "2GiB"
keep_free = "1 GB"
snapshots = false
[model]
file = "model.onnx"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text.as_bytes(), Path::new("/etc/pawgate/config.toml"))
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}\n\nin\n{text}"))
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Ok(_) => panic!("taken for good:\n{text}"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error.problems().to_vec()
        }
    }
}

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn labels() -> Vec<Label> {
    let label = |name: &str, species| Label { name: name.into(), species };
    vec![
        label("Abyssinian", Species::Cat),
        label("Russian_Blue", Species::Cat),
        label("Beagle", Species::Dog),
        label("Boxer", Species::Dog),
    ]
}

/// Length of the model's embedding.
const LEN: usize = 2048 + 1280;

/// A cat named milo with so many pictures that are alike, so many that are like none, and pictures of so many strangers.
fn household(model: ModelIdentity, alike: usize, odd: usize, strangers: usize) -> Roster {
    let picture = |channel: usize, shared: f32| {
        let mut embedding = vec![0.0; LEN];
        // Of each backbone: a channel of the picture's own, and one that makes it alike to 0.9.
        for part in [0, 2048] {
            (embedding[part], embedding[part + channel]) = (shared, 1.0);
        }
        let file = format!("{channel}.jpg");
        Picture::new(&file, file.as_bytes(), Species::Cat, &embedding).unwrap()
    };
    let mut roster = Roster::new(model);
    let own = (1..=alike).map(|channel| picture(channel, 9.0)).chain((101..101 + odd).map(|channel| picture(channel, 0.0)));
    roster.enrol("milo", own.collect()).unwrap();
    roster.add_strangers((201..201 + strangers).map(|channel| picture(channel, 0.0)).collect()).unwrap();
    roster
}

fn milo(alike: usize, odd: usize, strangers: usize) -> Individuals {
    Individuals::from_roster(&household(another_model(), alike, odd, strangers))
}

fn another_model() -> ModelIdentity {
    ModelIdentity { sha256: "a".repeat(64), embedding_len: LEN }
}

/// A milo that has shown enough for the built-in minimum.
fn proven() -> Individuals {
    milo(10, 0, 36)
}

#[test]
fn every_key_reaches_its_setting() {
    let config = good(FULL);
    let text = format!("{config:?}");
    assert_eq!((config.device().name(), config.device().time_zone().iana_name()), ("hall", Some("Europe/Berlin")));
    let folder = |name: &str| Path::new("/etc/pawgate").join(name);
    assert_eq!(config.camera().source, pawgate::hw::camera::Source::Pictures(vec![folder("a.jpg"), folder("b")]));
    assert_eq!((config.camera().fps, config.camera().max_age.as_millis()), (10, 800));
    let region = config.region();
    assert_eq!([region.left, region.top, region.width, region.height], [0.25, 0.5, 0.5, 0.5]);
    let motion = config.motion();
    assert_eq!((motion.threshold, motion.min_area, motion.still_after.as_secs(), motion.margin), (20, 0.02, 3, 0.5));
    let vote = config.vote();
    assert_eq!((vote.agree, vote.of, vote.within.as_secs(), vote.contradicting, vote.deny_agree), (4, 8, 3, 2, 3));
    let [night, milo, meals] = config.rules() else { panic!("{text}") };
    assert_eq!((night.name.as_str(), night.action), ("no beagles at night", Action::Deny));
    assert_eq!(
        (night.breeds.as_slice(), night.species.as_slice()),
        (["Beagle".to_owned()].as_slice(), [Species::Dog].as_slice())
    );
    assert_eq!(night.min_probability, 0.4);
    let window = &night.times[0];
    assert_eq!(window.days, [jiff::civil::Weekday::Monday, jiff::civil::Weekday::Sunday]);
    assert_eq!((window.from, window.to), (jiff::civil::time(22, 0, 0, 0), jiff::civil::time(6, 30, 0, 0)));
    assert_eq!((milo.individuals.as_slice(), milo.cooldown.unwrap().as_secs()), (["milo".to_owned()].as_slice(), 90));
    assert!(matches!(milo.quota.unwrap().per, Period::Last(last) if last.as_secs() == 6 * 3600), "{milo:?}");
    assert_eq!((meals.action, meals.quota.unwrap().per, meals.quota.unwrap().count), (Action::Dispense(2), Period::Day, 4));
    let door = config.door().unwrap();
    let seconds = [door.open_for, door.max_open, door.min_interval, door.travel, door.exit_open_for, door.max_override]
        .map(|d| d.as_secs());
    assert_eq!(seconds, [10, 20, 2, 3, 7, 3600]);
    assert_eq!(door.safe_state, pawgate::policy::door::SafeState::Unlocked);
    assert_eq!(door.exit, pawgate::policy::door::Exit::Always);
    let feeder = config.feeder().unwrap();
    assert_eq!((feeder.max_per_day, feeder.min_interval.as_secs(), feeder.portion_time.as_secs()), (8, 10, 20));
    let individuals = config.individuals();
    assert_eq!((individuals.file.clone(), individuals.min_pictures), (folder("pets.json"), 12));
    assert_eq!((individuals.min_accepted, individuals.max_strangers), (0.8, 0.02));
    let journal = config.journal();
    assert_eq!((journal.folder.clone(), journal.keep_for.as_secs()), (folder("log"), 7 * 86_400));
    assert_eq!((journal.max_bytes, journal.reserve_bytes, journal.snapshots), (2 << 30, 1_000_000_000, false));
    assert_eq!(config.model(), Some(folder("model.onnx").as_path()));
    let camera = config.camera();
    assert_eq!((camera.size, camera.limits.silence.as_secs()), ([800, 600], 4));
    assert_eq!((camera.limits.frozen.as_secs(), camera.limits.black.as_secs()), (60, 60));
}

fn line(chip: &str, line: &str, active: Active) -> LineSettings {
    LineSettings { chip: chip.parse().unwrap(), line: line.parse().unwrap(), active }
}

#[test]
fn every_pin_reaches_its_device() {
    let config = good(FULL);
    let devices = config.devices();
    let latch = devices.latch.as_ref().unwrap();
    let Drive::Servo(servo) = &latch.drive else { panic!("{latch:?}") };
    let [locked, unlocked] = [900, 2100].map(|micros| PulseWidth::micros(micros).unwrap());
    assert_eq!((servo.chip, servo.channel, servo.locked, servo.unlocked), (2, 1, locked, unlocked));
    assert_eq!(servo.off_after.unwrap().as_secs(), 2);
    let sensor = latch.sensor.as_ref().unwrap();
    let gpio = |line, bias| InputSettings::Gpio { line, bias };
    assert_eq!(sensor.input, gpio(line("pinctrl-rp1", "GPIO5", Active::High), Bias::PullDown));
    assert_eq!(sensor.active, Position::Unlocked);
    let inputs = &devices.inputs;
    assert_eq!(inputs.beam, Some(gpio(line("pinctrl-rp1", "6", Active::Low), Bias::PullUp)));
    assert_eq!(inputs.exit, Some(gpio(line("pinctrl-rp1", "7", Active::Low), Bias::PullUp)));
    let button = inputs.button.as_ref().unwrap();
    assert_eq!(button.input, gpio(line("/dev/gpiochip1", "6", Active::Low), Bias::PullUp));
    assert_eq!((button.press, button.lasting.as_secs()), (Press::Lock, 7200));
    let motor = devices.motor.as_ref().unwrap();
    assert_eq!((&motor.line, motor.turn.as_millis()), (&line("pinctrl-rp1", "8", Active::Low), 1500));

    let latch = |keys: &str| good(&format!("{MINIMAL}[door.latch]\n{keys}")).devices().latch.clone().unwrap().drive;
    let hold = latch("drive = \"hold\"\nline = \"17\"\nenergised = \"locked\"\nactive = \"low\"\n");
    assert_eq!(hold, Drive::GpioHold { line: line("gpiochip0", "17", Active::Low), energised: Position::Locked });
    let pulse = latch("drive = \"pulse\"\nunlock_line = \"1\"\nlock_line = \"2\"\npulse = \"50ms\"\n");
    let Drive::GpioPulse { unlock, lock, width } = pulse else { panic!("{pulse:?}") };
    assert_eq!((unlock, lock), (line("gpiochip0", "1", Active::High), line("gpiochip0", "2", Active::High)));
    assert_eq!(width.as_millis(), 50);
}

#[test]
fn pins_that_cannot_be_are_named() {
    let cases = [
        ("[door.latch]\n", "door.latch.drive", "missing"),
        ("[door.latch]\ndrive = \"hold\"\n", "door.latch.line", "missing"),
        ("[door.latch]\ndrive = \"hold\"\nline = 17\n", "door.latch.line", "expected a GPIO line"),
        ("[door.latch]\ndrive = \"hold\"\nline = \"1\"\npulse = \"1s\"\n", "door.latch.pulse", "means nothing"),
        ("[door.latch]\ndrive = \"servo\"\nlocked_us = 2000\n", "door.latch.unlocked_us", "would not move"),
        ("[door.latch]\ndrive = \"pulse\"\nunlock_line = \"1\"\nlock_line = \"1\"\n", "door.latch", "the same line"),
        ("[door.latch]\ndrive = \"hold\"\nline = \"1\"\n[door.beam]\nline = \"1\"\n", "door.beam", "the same line"),
        ("[door.sensor]\nline = \"1\"\n", "door.sensor", "no [door.latch]"),
        ("[gpio]\nchip = \"7\"\n", "gpio.chip", "no GPIO chip"),
    ];
    for (text, key, what) in cases {
        let found = problems(&format!("{MINIMAL}{text}"));
        assert!(found.len() == 1 && found[0].key == key && found[0].what.contains(what), "{text}\n{found:#?}");
    }
}

#[test]
fn doubt_keeps_the_door_shut_where_a_rule_says_nothing() {
    let config =
        good(&format!("{MINIMAL}[[rule]]\nname = \"a\"\naction = \"allow\"\n[[rule]]\nname = \"d\"\naction = \"deny\"\n"));
    let [allow, deny] = config.rules() else { panic!() };
    assert!(allow.min_probability > deny.min_probability, "denying is easier than allowing");
    assert_eq!(config.door().unwrap(), pawgate::policy::door::Settings::default());
    assert_eq!(config.vote(), pawgate::policy::vote::Settings::default());
    assert_eq!(config.motion(), pawgate::vision::motion::Settings::default());
    assert_eq!(config.feeder(), None);
    assert!(good(MINIMAL).rules().is_empty());
    let short = good(&format!("{MINIMAL}open_for = \"3s\"\nmax_open = \"4s\"\n")).door().unwrap();
    assert_eq!(short.exit_open_for, short.max_open, "leaving never keeps it open for longer");
}

#[test]
fn bom_and_windows_line_ends_are_read() {
    let windows = format!("\u{feff}{}", FULL.replace('\n', "\r\n"));
    assert_eq!(good(&windows), good(FULL));
    let problem = &problems(&windows.replace("fps = 10", "fps = 0"))[0];
    let place = problem.place.as_ref().unwrap();
    assert_eq!((place.line, place.column, place.excerpt.as_str()), (7, 7, "fps = 0"));
}

/// Tables behind the camera; lines of a rule; line and column; key; part of the message; part of the hint.
type Mistake = (&'static str, &'static str, Option<(usize, usize)>, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const WRONG: &[Mistake] = &[
    ("[door]\nopne_for = \"8s\"", "", Some((4, 1)), "door.opne_for", "not known", "did you mean `open_for`?"),
    ("[door]\nzzzzzzz = 1", "", Some((4, 1)), "door.zzzzzzz", "not known", "open_for, max_open"),
    ("[dor]", "", Some((3, 2)), "dor", "not known", "did you mean `door`?"),
    ("[door]\nopen_for = 8", "", Some((4, 12)), "door.open_for", "found the number 8", "write \"8s\""),
    ("[door]\nopen_for = \"8\"", "", Some((4, 12)), "door.open_for", "found \"8\"", "write \"8s\""),
    ("[door]\nopen_for = \"-8s\"", "", Some((4, 12)), "door.open_for", "expected a duration", "1h 30m"),
    ("[door]\nopen_for = \"\"", "", Some((4, 12)), "door.open_for", "expected a duration", "1h 30m"),
    ("[door]\nopen_for = \"1 month\"", "", Some((4, 12)), "door.open_for", "expected a duration", "1h 30m"),
    ("[door]\nopen_for = \"0s\"", "", Some((4, 12)), "door.open_for", "is not between \"1s\" and \"5m\"", ""),
    ("[door]\nopen_for = \"9223372036854775807s\"", "", Some((4, 12)), "door.open_for", "", ""),
    ("[door]\nopen_for = true", "", Some((4, 12)), "door.open_for", "found true", "8s"),
    ("[door]\nopen_for = []", "", Some((4, 12)), "door.open_for", "found a list", "8s"),
    ("[door]\nopen_for = 06:00:00", "", Some((4, 12)), "door.open_for", "without quotes", "8s"),
    ("[door]\nmin_interval = \"8s\"", "", Some((4, 16)), "door.min_interval", "not shorter than open_for (8s)", "raise open_for"),
    ("[door]\ntravel = \"9s\"", "", Some((4, 10)), "door.travel", "not shorter than open_for (8s)", "raise open_for"),
    ("[door]\nmax_open = \"5s\"", "", Some((4, 12)), "door.max_open", "shorter than open_for (8s)", "raise max_open"),
    ("[door]\nexit_open_for = \"31s\"", "", Some((4, 17)), "door.exit_open_for", "31s is longer than max_open (30s)", "lower exit_open_for"),
    ("[door]\nsafe_state = \"open\"", "", Some((4, 14)), "door.safe_state", "expected \"locked\" or \"unlocked\"", ""),
    ("[door]\nexit = \"alway\"", "", Some((4, 8)), "door.exit", "found \"alway\"", "did you mean \"always\"?"),
    ("[[door]]", "", Some((3, 1)), "door", "expected one table, found a list", "single brackets"),
    ("[door]\n[door]", "", Some((4, 2)), "", "not TOML", ""),
    ("[door]\n[rule]\nname = \"x\"", "", Some((4, 1)), "rule", "expected a list of tables", "[[rule]]"),
    ("[door]\nopen_for = 8s", "", Some((4, 12)), "", "not TOML", "quotes"),
    ("", "", None, "", "neither a door nor a feeder", "add [door] or [feeder]"),
    ("[door]\n[device]\ntime_zone = \"Europe/Berln\"", "", Some((5, 13)), "device.time_zone", "no time zone", "\"Europe/Berlin\""),
    ("[door]\n[device]\ntime_zone = \"+02:00\"", "", Some((5, 13)), "device.time_zone", "no time zone", "timedatectl"),
    ("[door]\n[device]\nname = \"\"", "", Some((5, 8)), "device.name", "empty", ""),
    ("[door]\n[device]\nname = \"a\\u001bb\"", "", Some((5, 8)), "device.name", "control character", ""),
    ("[door]\n[region]\nleft = 0.5\nwidth = 0.6", "", Some((6, 9)), "region.width", "beyond the picture's right edge", "at most 1"),
    ("[door]\n[region]\nleft = 1", "", Some((4, 1)), "region.width", "no width", ""),
    ("[door]\n[region]\nleft = nan", "", Some((5, 8)), "region.left", "cannot be used", ""),
    ("[door]\n[region]\nleft = inf", "", Some((5, 8)), "region.left", "cannot be used", ""),
    ("[door]\n[region]\nleft = 1e300", "", Some((5, 8)), "region.left", "cannot be used", ""),
    ("[door]\n[region]\nleft = -0.1", "", Some((5, 8)), "region.left", "is not between 0 and 1", ""),
    ("[door]\n[region]\nleft = \"10%\"", "", Some((5, 8)), "region.left", "expected a number", "0.8 for 80 %"),
    ("[door]\n[vote]\nagree = 1", "", Some((5, 9)), "vote.agree", "1 is not between 2 and 20", ""),
    ("[door]\n[vote]\nagree = -9223372036854775808", "", Some((5, 9)), "vote.agree", "less than nothing", ""),
    ("[door]\n[vote]\nagree = 9223372036854775807", "", Some((5, 9)), "vote.agree", "too large", ""),
    ("[door]\n[vote]\nagree = 99999999999999999999", "", Some((5, 9)), "vote.agree", "too large", ""),
    ("[door]\n[vote]\nagree = 3.0", "", Some((5, 9)), "vote.agree", "whole number", ""),
    ("[door]\n[vote]\nagree = \"3\"", "", Some((5, 9)), "vote.agree", "whole number", "write 3 without quotes"),
    ("[door]\n[vote]\nof = 2", "", Some((5, 6)), "vote.of", "3 of the last 2 frames", "raise `of`"),
    ("[door]\n[vote]\ncontradicting = 3", "", Some((5, 17)), "vote.contradicting", "at most 2 may contradict", ""),
    ("[door]\n[vote]\nof = 10\ncontradicting = 3", "", Some((6, 17)), "vote.contradicting", "at most 2 may contradict", ""),
    ("[door]\n[vote]\ndeny_agree = 4", "", Some((5, 14)), "vote.deny_agree", "more frames (4) than allowing (3)", ""),
    ("[door]\n[vote]\nwithin = \"300ms\"", "", Some((5, 10)), "vote.within", "the camera gives 2", "camera.fps"),
    ("[door]\n[journal]\nmax_size = \"5MB\"", "", Some((5, 12)), "journal.max_size", "not between \"10MB\" and \"1TB\"", ""),
    ("[door]\n[journal]\nmax_size = \"5 potatoes\"", "", Some((5, 12)), "journal.max_size", "expected a size", "KiB"),
    ("[door]\n[journal]\nmax_size = 500000000", "", Some((5, 12)), "journal.max_size", "expected a size", "KiB"),
    ("[door]\n[journal]\nmax_size = \"99999999999999TB\"", "", Some((5, 12)), "journal.max_size", "expected a size", "KiB"),
    ("[door]\n[journal]\nsnapshots = \"true\"", "", Some((5, 13)), "journal.snapshots", "without quotes", ""),
    ("[door]\n[[rule]]\naction = \"allow\"", "", Some((4, 1)), "rule.name", "no name", "name = "),
    ("[door]\n[[rule]]\nname = \"x\"", "", Some((4, 1)), "rule.action", "no action", "\"deny\""),
    ("[door]", "action = \"alow\"", Some((6, 10)), "rule.action", "found \"alow\"", "did you mean \"allow\"?"),
    ("[door]", "action = \"dispense\"", Some((6, 10)), "rule.action", "no [feeder]", "add [feeder]"),
    ("[feeder]", "action = \"allow\"", Some((6, 10)), "rule.action", "no [door]", "add [door]"),
    ("[door]", "action = \"allow\"\nportions = 2", Some((7, 12)), "rule.portions", "only a rule that feeds", ""),
    ("[door]", "action = \"deny\"\ncooldown = \"1m\"", Some((7, 12)), "rule.cooldown", "a later rule could open", "delete it"),
    ("[door]", "action = \"deny\"\nquota = { count = 1, per = \"day\" }", Some((7, 9)), "rule.quota", "a later rule could open", "delete it"),
    ("[door]", "action = \"allow\"\nquota = { count = 1 }", Some((7, 9)), "rule.quota.per", "has no per", "per = \"day\""),
    ("[door]", "action = \"allow\"\nquota = { count = 0, per = \"day\" }", Some((7, 19)), "rule.quota.count", "between 1 and 1000", ""),
    ("[door]", "action = \"allow\"\nquota = { count = 1, per = \"dya\" }", Some((7, 28)), "rule.quota.per", "expected \"day\" or", ""),
    ("[door]", "action = \"allow\"\nquota = { count = 1, per = \"1s\" }", Some((7, 28)), "rule.quota.per", "between \"1m\" and \"31d\"", ""),
    ("[door]", "action = \"allow\"\nquota = [1, \"day\"]", Some((7, 9)), "rule.quota", "expected one table", ""),
    ("[door]", "action = \"allow\"\nspecies = []", Some((7, 11)), "rule.species", "empty", "does not restrict"),
    ("[door]", "action = \"allow\"\nspecies = [\"cat\", \"cow\"]", Some((7, 19)), "rule.species", "found \"cow\"", ""),
    ("[door]", "action = \"allow\"\nspecies = [\"cat\", \"cat\"]", Some((7, 19)), "rule.species", "twice", ""),
    ("[door]", "action = \"allow\"\nbreed = [\" \"]", Some((7, 10)), "rule.breed", "space", ""),
    ("[door]", "action = \"allow\"\nmin_probability = 1.5", Some((7, 19)), "rule.min_probability", "between 0 and 1", ""),
    ("[door]", "action = \"allow\"\ntimes = []", Some((7, 9)), "rule.times", "empty", ""),
    ("[door]", "action = \"allow\"\ntimes = [{}]", Some((7, 10)), "rule.times", "says nothing", ""),
    ("[door]", "action = \"allow\"\ntimes = { from = \"06:00\" }", Some((7, 9)), "rule.times", "found one table", "[{ … }]"),
    ("[door]", "action = \"allow\"\ntimes = [{ from = \"6:00\" }]", Some((7, 19)), "rule.times.from", "time of day", "00:00"),
    ("[door]", "action = \"allow\"\ntimes = [{ to = \"25:00\" }]", Some((7, 17)), "rule.times.to", "time of day", "00:00"),
    ("[door]", "action = \"allow\"\ntimes = [{ from = 06:00:00 }]", Some((7, 19)), "rule.times.from", "without quotes", "00:00"),
    ("[door]", "action = \"allow\"\ntimes = [{ from = \"06:00\", to = \"06:00\" }]", Some((7, 33)), "rule.times.to", "ends when it begins", "24:00"),
    ("[door]", "action = \"allow\"\ntimes = [{ days = \"monday\" }]", Some((7, 19)), "rule.times.days", "expected a day", ""),
    ("[door]", "action = \"allow\"\ntimes = [{ days = [\"mon\", \"mno\"] }]", Some((7, 27)), "rule.times.days", "expected a day", "did you mean \"mon\"?"),
    ("[door]", "action = \"allow\"\n[[rule]]\nname = \"r\"\naction = \"deny\"", Some((8, 8)), "rule.name", "another rule", "a name of its own"),
    ("[feeder]", "action = \"dispense\"\nportions = 3\nquota = { count = 2, per = \"day\" }", Some((8, 19)), "rule.quota.count", "less than the 3 portions", ""),
    ("[feeder]\nmax_per_day = 1", "action = \"dispense\"\nportions = 3", Some((8, 12)), "rule.portions", "more than the feeder gives a day (1)", ""),
];

#[test]
fn each_mistake_is_named_with_its_place_and_a_way_out() {
    for (tables, rule, at, key, what, hint) in WRONG {
        let rule = if rule.is_empty() { String::new() } else { format!("\n[[rule]]\nname = \"r\"\n{rule}") };
        let text = format!("[camera]\nsource = \"pictures\"\n{tables}{rule}\n");
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{text}\n{found:#?}");
        let problem = &found[0];
        let place = problem.place.as_ref().map(|place| (place.line, place.column));
        assert_eq!((place, problem.key.as_str()), (*at, *key), "{text}\n{problem:#?}");
        assert!(problem.what.contains(what), "{text}\n{problem:#?}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{text}\n{problem:#?}");
    }
}

#[test]
fn sources_are_devices_programs_pictures_or_refused() {
    use pawgate::hw::camera::Source;
    for source in [
        "\"file:///etc/passwd\"",
        "\"gopher://a\"",
        "0",
        "[]",
        "[\"a\", \"-\"]",
        "[\"a\", \"/dev/video0\"]",
        "\"\"",
        "[[\"a\"]]",
    ] {
        let found = problems(&format!("[camera]\nsource = {source}\n[door]\n"));
        assert_eq!((found.len(), found[0].key.as_str()), (1, "camera.source"), "{source}: {found:#?}");
    }
    let source = |camera: &str| good(&format!("[camera]\n{camera}\n[door]\n")).camera().source.clone();
    assert_eq!(source("source = \"-\""), Source::Stdin);
    for device in ["/dev/video0", "/dev/v4l/by-id/usb-Cam-video-index0", "0", "name:USB Camera"] {
        assert_eq!(source(&format!("source = \"{device}\"")), Source::Device(device.into()));
    }
    let Source::Program(command) = source("source = \"rpicam\"\nsize = \"1280x720\"\nfps = 8") else { panic!("a program") };
    assert_eq!(command[0], "rpicam-vid");
    assert!(
        command.windows(2).any(|pair| pair == ["--width", "1280"])
            && command.windows(2).any(|pair| pair == ["--framerate", "8"])
    );
    assert_eq!(source("command = [\"cat\", \"a b\"]"), Source::Program(vec!["cat".into(), "a b".into()]));
    let found = problems("[camera]\nsource = \"-\"\ncommand = \"cat\"\n[door]\n");
    assert_eq!((found.len(), found[0].key.as_str()), (1, "camera.command"), "{found:#?}");
    let found = problems("[door]\n");
    assert!(found[0].what.contains("no camera"), "{found:?}");
    let found = problems("[camera]\n[door]\n");
    assert_eq!((found[0].key.as_str(), found[0].what.as_str()), ("camera.source", "the key is missing"));
}

#[test]
fn everything_is_said_at_once_and_nothing_that_follows_from_it() {
    let text = "[camera]\nsource = 5\nfsp = 3\n[door]\nopen_for = 8\nmin_interval = \"5s\"\n[[rule]]\nnmae = \"x\"\naction = \"alow\"\n\
                [[rule]]\nname = \"y\"\n[region]\nleft = 2\n";
    let found = problems(text);
    let keys: Vec<_> = found.iter().map(|problem| (problem.key.as_str(), problem.place.as_ref().unwrap().line)).collect();
    let expected = [
        ("camera.source", 2),
        ("camera.fsp", 3),
        ("door.open_for", 5),
        ("rule.nmae", 8),
        ("rule.action", 9),
        ("rule.action", 10),
        ("region.left", 13),
    ];
    assert_eq!(keys, expected, "{found:#?}");
    // A report ends somewhere.
    let many: String = (0..500).map(|index| format!("key{index} = 1\n")).collect();
    assert!((10..100).contains(&problems(&format!("{MINIMAL}{many}")).len()));
}

#[test]
fn an_error_reads_like_this() {
    let error = parse("[camera]\nsource = \"pictures\"\n\n[door]\nopen_for = 8\ntravel = \"2\"\n").unwrap_err();
    let expected = r#"/etc/pawgate/config.toml:5:12: door.open_for: expected a duration with its unit, such as "8s", found the number 8
  |
5 | open_for = 8
  |            ^
  = if seconds are meant, write "8s"

/etc/pawgate/config.toml:6:10: door.travel: expected a duration with its unit, such as "8s", found "2"
  |
6 | travel = "2"
  |          ^^^
  = if seconds are meant, write "2s""#;
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_is_no_text_or_too_much_is_refused() {
    let refuse = |bytes: &[u8]| Config::parse(bytes, Path::new("x.toml")).unwrap_err();
    let error = refuse(b"[door]\nopen_for = \"\xff\"\n");
    let place = error.problems()[0].place.clone().unwrap();
    assert_eq!((place.line, place.column), (2, 13));
    assert!(error.to_string().contains("UTF-8"));
    assert!(refuse(&vec![b'#'; (1 << 20) + 1]).to_string().contains("more than"));
    let nested = format!("x = {}{}", "[".repeat(400_000), "]".repeat(400_000));
    refuse(nested.as_bytes());
    refuse(format!("x = {}1{}", "{a=".repeat(200_000), "}".repeat(200_000)).as_bytes());
    refuse(format!("{}=1", ["a"; 200_000].join(".")).as_bytes());
    refuse("[a]\n".repeat(200_000).as_bytes());
    refuse("[[rule]]\n".repeat(100_000).as_bytes());
    let list = |keys: &str, count| (0..count).map(|index| keys.replace('#', &format!("{index}"))).collect::<String>();
    refuse(format!("{MINIMAL}{}", list("[[rule]]\nname=\"#\"\naction=\"deny\"\n", 20_000)).as_bytes());
    refuse(format!("{MINIMAL}[[rule]]\nname=\"r\"\naction=\"deny\"\nbreed=[{}]\n", list("\"#\",", 80_000)).as_bytes());
    refuse(
        format!("{MINIMAL}[[rule]]\nname=\"r\"\naction=\"deny\"\ntimes=[{}]\n", list("{from=\"01:00\"},", 50_000)).as_bytes(),
    );
    refuse(b"\"\\u0001`, expected `\\u001b[31m\" = 1");
    assert!(Config::read(Path::new("/nowhere/x.toml")).unwrap_err().to_string().contains("--config FILE"));
    assert!(Config::read(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a regular file"));
    assert!(Config::read(Path::new("/tmp")).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn a_report_cannot_steer_a_terminal() {
    for text in [
        "\"\\u001b[31m\" = 1\n",
        "[door]\n\"\\u001b[31m\\u0001hint\" = 1\n",
        "[door]\nopen_for = \"\\u001b[31m\"\n",
        "[door]\nexit = '\u{7f}'\n",
        "door = \"\\u001b[31m\"\n",
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(!error.chars().any(|c| c.is_control() && c != '\n'), "{error:?}");
    }
}

#[test]
fn rules_are_held_against_the_model_and_the_enrolled_animals() {
    let rule = |lines: &str| good(&format!("{MINIMAL}[[rule]]\nname = \"r\"\n{lines}\n"));
    let refused = |lines: &str, enrolled: &Individuals| {
        let report = rule(lines).check_against(&labels(), enrolled).unwrap_err();
        assert_eq!(report.problems().len(), 1, "{report}");
        (report.problems()[0].place.clone().unwrap(), report.to_string())
    };
    let fine = |lines: &str| rule(lines).check_against(&labels(), &proven()).unwrap();
    fine("action = \"allow\"\nbreed = [\"Russian_Blue\", \"Abyssinian\"]\nspecies = \"cat\"");
    fine("action = \"allow\"\nindividual = \"milo\"");

    let (place, error) = refused("action = \"allow\"\nbreed = [\"Abyssinian\", \"russian blue\"]", &Individuals::nobody());
    assert_eq!((place.line, place.column, place.width), (7, 24, 14), "{error}");
    assert!(error.contains("did you mean \"Russian_Blue\"?"), "{error}");
    assert!(
        refused("action = \"deny\"\nbreed = \"Dachshund\"", &Individuals::nobody())
            .1
            .contains("Abyssinian, Russian_Blue, Beagle, Boxer")
    );
    let (place, error) = refused("action = \"deny\"\nbreed = \"Beagle\"\nspecies = \"cat\"", &Individuals::nobody());
    assert!(place.line == 4 && error.contains("can never match"), "{error}");

    let (place, error) = refused("action = \"allow\"\nindividual = [\"milo\", \"mila\"]", &proven());
    assert_eq!((place.line, place.column), (7, 23));
    assert!(error.contains("no animal \"mila\"") && error.contains("did you mean \"milo\"?"), "{error}");
    assert!(
        refused("action = \"deny\"\nindividual = \"tom\"", &Individuals::nobody()).1.contains("pawgate enroll"),
        "a name must be known to deny, too"
    );
}

#[test]
fn an_animal_that_has_shown_too_little_opens_nothing() {
    let (few, all) =
        ("rule.individual: a rule cannot allow by the name `milo` yet; it needs ", "PICTURES… --strangers PICTURES…`");
    for (shown, settings, lack, hint) in [
        ((7, 0, 36), "", "3 more pictures of milo (there are 7 of at least 10)", "`pawgate enroll \"milo\" PICTURES…`"),
        ((9, 0, 36), "", "1 more picture of milo (", "`pawgate enroll \"milo\" PICTURES…`"),
        ((10, 0, 36), "min_pictures = 12", "2 more pictures of milo (there are 10 of at least 12)", "PICTURES…`"),
        // 12 of 20 are recognised; with 7 more, 19 of 27 (70.4 %).
        ((12, 8, 36), "min_accepted = 0.7", "7 more pictures of milo (60 % of 20 recognised when left out, 70 %", "PICTURES…`"),
        ((10, 0, 30), "", "6 more pictures of other cats (0 of 30 taken", "`pawgate enroll \"milo\" --strangers PICTURES…`"),
        ((10, 0, 36), "max_strangers = 0.05", "36 more pictures of other cats (", "--strangers PICTURES…`"),
        ((9, 0, 0), "", "1 more picture of milo (there are 9 of at least 10), and 36 more pictures of other cats", all),
        ((10, 0, 36), "max_strangers = 0", "a larger share of strangers allowed", "raise individuals.max_strangers"),
    ] {
        let enrolled = milo(shown.0, shown.1, shown.2);
        let config = |devices: &str, action: &str| {
            let rule = format!("[[rule]]\nname = \"r\"\naction = \"{action}\"\nindividual = \"milo\"\n");
            good(&format!("[camera]\nsource = \"p\"\n{devices}\n{rule}[individuals]\n{settings}\n"))
        };
        for config in [config("[door]", "allow"), config("[feeder]", "dispense")] {
            let report = config.check_against(&labels(), &enrolled).unwrap_err();
            let (place, error) = (report.problems()[0].place.clone().unwrap(), report.to_string());
            assert_eq!((report.problems().len(), place.line, place.column), (1, 7, 14), "{error}");
            assert!(error.contains(&format!("{few}{lack}")) && error.contains(hint), "{shown:?}: {error}");
        }
        let deny = config("[door]", "deny");
        assert_eq!(deny.check_against(&labels(), &enrolled), Ok(()), "denying needs no evidence");
    }
}

#[test]
fn a_bad_file_leaves_the_last_good_configuration_in_force() {
    let mut current = Current::start(good(MINIMAL), &labels(), &Individuals::nobody()).unwrap();
    let before = current.config();
    let unknown_breed = format!("{MINIMAL}[[rule]]\nname = \"r\"\naction = \"allow\"\nbreed = \"Lynx\"\n");
    let broken: [&[u8]; 5] =
        [b"", b"\xff", b"[door", b"[camera]\nsource = \"x\"\n[door]\nopen_for = 1", unknown_breed.as_bytes()];
    for bytes in broken {
        current.reload(bytes, &labels(), &Individuals::nobody()).unwrap_err();
        assert!(std::sync::Arc::ptr_eq(&before, &current.config()));
    }
    let reloaded =
        current.reload(format!("{MINIMAL}open_for = \"9s\"\n").as_bytes(), &labels(), &Individuals::nobody()).unwrap();
    assert!(reloaded.restart.is_empty());
    assert_eq!(reloaded.config, current.config());
    assert_eq!(current.config().door().unwrap().open_for.as_secs(), 9);
    // A cold start has no last good one.
    assert!(Current::start(good(&unknown_breed), &labels(), &Individuals::nobody()).is_err());
}

#[test]
fn asking_more_of_an_animal_than_it_has_shown_is_refused_while_it_runs() {
    let rule = "[[rule]]\nname = \"r\"\naction = \"allow\"\nindividual = \"milo\"\n";
    let text = |pictures: u32| format!("{MINIMAL}{rule}[individuals]\nmin_pictures = {pictures}\n");
    let mut current = Current::start(good(&text(10)), &labels(), &proven()).unwrap();
    let error = current.reload(text(1000).as_bytes(), &labels(), &proven()).unwrap_err().to_string();
    assert!(error.contains("milo") && error.contains("pictures"), "{error}");
    assert_eq!(current.config().individuals().min_pictures, 10);
}

#[test]
fn what_needs_a_restart_is_named_and_keeps_its_value() {
    let mut current = Current::start(good(MINIMAL), &labels(), &Individuals::nobody()).unwrap();
    let before = current.config();
    let text = "[camera]\nsource = \"elsewhere\"\nfps = 7\n[feeder]\n[journal]\nfolder = \"/j\"\n[individuals]\nfile = \"/i\"\n\
                [model]\nfile = \"/m\"\n";
    let reloaded = current.reload(text.as_bytes(), &labels(), &Individuals::nobody()).unwrap();
    assert_eq!(reloaded.restart, ["camera.source", "journal.folder", "individuals.file", "model.file", "door", "feeder"]);
    let config = &reloaded.config;
    assert_eq!((&config.camera().source, config.camera().fps), (&before.camera().source, 7));
    assert_eq!((&config.journal().folder, config.model()), (&before.journal().folder, None));
    assert_eq!((config.door(), config.feeder()), (before.door(), None));
}

/// The guard of the latch and `pawgate safe-state` were told at the start where safe is.
#[test]
fn where_safe_is_changes_with_a_restart_only() {
    use pawgate::policy::door::SafeState;
    for (before, after, stays) in [("locked", "unlocked", SafeState::Locked), ("unlocked", "locked", SafeState::Unlocked)] {
        let text = |state: &str| format!("{MINIMAL}safe_state = \"{state}\"\n");
        let mut current = Current::start(good(&text(before)), &labels(), &Individuals::nobody()).unwrap();
        let reloaded = current.reload(text(after).as_bytes(), &labels(), &Individuals::nobody()).unwrap();
        assert_eq!(reloaded.restart, ["door.safe_state"]);
        assert_eq!(current.config().door().unwrap().safe_state, stays);
    }
}

// The schema, the documentation and the examples.

/// A key with its table's path (`rule.times`), and what the schema says about it.
fn keys() -> Vec<(String, String, Value)> {
    let schema = schema();
    let mut found = vec![];
    walk(&schema, &schema, "", &mut found);
    found
}

fn walk(schema: &Value, at: &Value, path: &str, found: &mut Vec<(String, String, Value)>) {
    for (key, property) in at["properties"].as_object().expect("a table has keys") {
        let inner = property.get("items").unwrap_or(property);
        let table = inner["$ref"].as_str().map(|name| &schema["$defs"][name.rsplit('/').next().unwrap()]);
        match table {
            Some(table) => {
                walk(schema, table, &[path, key].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("."), found)
            }
            None => found.push((path.to_owned(), key.clone(), property.clone())),
        }
    }
}

#[test]
fn the_schema_file_is_the_generated_one() {
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    assert!(
        shipped("config.schema.json") == generated,
        "docs/config.schema.json is not what the code generates: cargo run -- check --schema > docs/config.schema.json"
    );
    assert!(!generated.contains("null"), "TOML has no null");
    for (table, key, property) in keys() {
        assert!(property["description"].as_str().is_some_and(|text| text.len() > 5), "{table}.{key} has no description");
    }
}

/// Rows of the tables in docs/configuration.md: section, key, default.
fn documented() -> Vec<(String, String, String)> {
    let (mut section, mut rows) = (String::new(), vec![]);
    for line in shipped("configuration.md").lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = title.trim_start_matches('#').trim().trim_matches(['`', '[', ']']).to_owned();
        } else if let Some((key, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` |")) {
            let default = rest.split(" | ").nth(1).expect("four columns").trim().to_owned();
            rows.push((section.clone(), key.to_owned(), default));
        }
    }
    rows
}

#[test]
fn the_documentation_has_every_key_in_its_section_and_no_other() {
    let mut documented: Vec<_> = documented().into_iter().map(|(section, key, _)| (section, key)).collect();
    let mut known: Vec<_> = keys().into_iter().map(|(table, key, _)| (table, key)).collect();
    // A window and a quota have a section and a row of their own.
    known.extend(["times", "quota"].map(|key| ("rule".to_owned(), key.to_owned())));
    documented.sort();
    known.sort();
    assert_eq!(documented, known);
}

#[test]
fn documented_defaults_are_those_of_the_schema_and_of_the_code() {
    let documented = documented();
    let mut compared = 0;
    for (table, key, property) in keys() {
        let row = documented.iter().find(|(section, name, _)| (section, name) == (&table, &key)).unwrap();
        let Some(default) = property.get("default") else {
            assert!(!row.2.starts_with('`'), "{table}.{key}: the schema has no default");
            continue;
        };
        assert_eq!(row.2.trim_matches('`'), default.to_string(), "{table}.{key}");
        let base = "[camera]\nsource = \"p\"\n[door]\n[feeder]\n[[rule]]\nname = \"r\"\naction = \"dispense\"\n";
        let base =
            format!("{base}times = [{{ days = \"mon\" }}]\n[region]\n[motion]\n[vote]\n[device]\n[individuals]\n[journal]\n");
        let latch = match key.as_str() {
            "pulse" => "drive = \"pulse\"\nunlock_line = \"1\"\nlock_line = \"2\"\n",
            "energised" | "active" => "drive = \"hold\"\nline = \"1\"\n",
            _ => "drive = \"servo\"\n",
        };
        let pins = ["door.sensor", "door.beam", "door.button", "door.exit_sensor", "feeder.motor"];
        let pins: String = pins.iter().zip(3..).map(|(table, line)| format!("[{table}]\nline = \"{line}\"\n")).collect();
        let display = match key.as_str() {
            "spi_mode" | "inverted" => "kind = \"st7789\"\ndata_line = \"20\"\n",
            _ => "kind = \"ssd1306\"\n",
        };
        let base = format!("{base}[gpio]\n[door.latch]\n{latch}{pins}[display]\n{display}");
        let header = match table.as_str() {
            "rule" => "[[rule]]\n".to_owned(),
            "rule.times" => "times = [{ days = \"mon\"".to_owned(),
            table => format!("[{table}]\n"),
        };
        let joint = if table == "rule.times" { ", " } else { "" };
        let end = if table == "rule.times" { "" } else { "\n" };
        let explicit = base.replacen(&header, &format!("{header}{joint}{key} = {default}{end}"), 1);
        assert_ne!(explicit, base, "{table}.{key}");
        assert_eq!(good(&explicit), good(&base), "{table}.{key} = {default} is not what happens without it");
        compared += 1;
    }
    assert!(compared > 25, "{compared}");
}

#[test]
fn the_limits_of_the_schema_are_those_of_the_code() {
    let mut compared = 0;
    for (table, key, property) in keys() {
        for (limit, step) in [("minimum", -1.0), ("maximum", 1.0)] {
            let Some(value) = property.get(limit).and_then(Value::as_f64) else { continue };
            let integer = property["type"] == "integer";
            let beyond = if integer { format!("{}", value + step) } else { format!("{:?}", value + step * 0.001) };
            for (value, inside) in [(beyond, false), (if integer { value.to_string() } else { format!("{value:?}") }, true)] {
                let text = with_value(&table, &key, &value);
                let error = parse(&text).err().map(|error| error.to_string()).unwrap_or_default();
                let out = error.contains(&format!("{table}.{key}: "))
                    && (error.contains("is not between") || error.contains("less than nothing"));
                assert_eq!(out, !inside, "{table}.{key} = {value}: {error}");
                compared += 1;
            }
        }
    }
    assert!(compared > 50, "{compared}");
}

/// [`FULL`] with another value of a key.
fn with_value(table: &str, key: &str, value: &str) -> String {
    let mut full: toml::Table = toml::from_str(FULL).unwrap();
    if table == "display" && ["spi_mode", "inverted"].contains(&key) {
        full["display"] = toml::from_str("kind = \"st7789\"\ndata_line = \"25\"\nspi_mode = 3\ninverted = false").unwrap();
    }
    let value: toml::Value = toml::from_str::<toml::Table>(&format!("x = {value}")).unwrap()["x"].clone();
    let mut done = false;
    let mut path: Vec<_> = table.split('.').collect();
    path.push(key);
    replace(&mut toml::Value::Table(std::mem::take(&mut full)), &path, &value, &mut done).unwrap()
}

fn replace(root: &mut toml::Value, path: &[&str], value: &toml::Value, done: &mut bool) -> Option<String> {
    fn go(at: &mut toml::Value, path: &[&str], value: &toml::Value, done: &mut bool) {
        match at {
            toml::Value::Table(table) => match (path, table.get_mut(path[0])) {
                ([_], Some(old)) if !*done => {
                    *old = value.clone();
                    *done = true;
                }
                ([_, rest @ ..], Some(inner)) if !rest.is_empty() => go(inner, rest, value, done),
                _ => {}
            },
            toml::Value::Array(list) => list.iter_mut().for_each(|inner| go(inner, path, value, done)),
            _ => {}
        }
    }
    go(root, path, value, done);
    assert!(*done, "{path:?}");
    toml::to_string(root).ok()
}

#[test]
fn the_examples_are_good() {
    let mut names: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["door.toml", "feeder.toml"]);
    for name in names {
        let text = shipped(&format!("examples/{name}"));
        let config = good(&text);
        assert!(!config.rules().is_empty());
        // Also what stands behind a #, where it is TOML.
        let uncommented: String = text.lines().map(|line| uncomment(line).to_owned() + "\n").collect();
        let config = good(&uncommented);
        #[cfg(feature = "embedded-model")]
        {
            let classifier = pawgate::model::Classifier::embedded(pawgate::nn::Options::default()).unwrap();
            config.check_against(&classifier.metadata().labels, &proven()).unwrap();
        }
        drop(config);
    }
}

fn uncomment(line: &str) -> &str {
    match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
        _ => line,
    }
}

// Wrong in every way.

/// Good, or refused with places that lie inside the file.
fn never_panics(bytes: &[u8]) -> Result<Config, ConfigError> {
    let result = Config::parse(bytes, Path::new("x.toml"));
    if let Err(error) = &result {
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<_> = text.split('\n').collect();
        assert!(!error.problems().is_empty());
        for problem in error.problems() {
            assert!(!problem.what.is_empty());
            let missing = problem.what.contains("there is no camera") || problem.what.contains("neither a door nor a feeder");
            assert_eq!(problem.place.is_none(), missing, "{problem:?}");
            if let Some(place) = &problem.place {
                let line = lines.get(place.line - 1).unwrap_or_else(|| panic!("{place:?} in {text:?}"));
                assert!((1..=line.chars().count() + 1).contains(&place.column), "{place:?} in {text:?}");
            }
        }
        let shown = error.to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
    result
}

/// Every path to a value in the file, tables and lists included.
fn paths(value: &toml::Value, path: &[String], found: &mut Vec<Vec<String>>) {
    let mut inner = |key: String, value| {
        let path = [path, &[key]].concat();
        found.push(path.clone());
        paths(value, &path, found);
    };
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| inner(key.clone(), value)),
        toml::Value::Array(list) => list.iter().enumerate().for_each(|(index, value)| inner(index.to_string(), value)),
        _ => {}
    }
}

fn at<'a>(root: &'a mut toml::Value, path: &[String]) -> &'a mut toml::Value {
    path.iter().fold(root, |value, key| match value {
        toml::Value::Table(table) => table.get_mut(key).unwrap(),
        toml::Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
        _ => unreachable!(),
    })
}

const HOSTILE: [&str; 40] = [
    "\"\"",
    "\" \"",
    "\"x\"",
    "\"-\"",
    "\"8\"",
    "\"8s\"",
    "\"-8s\"",
    "\"99999999999999999999999d\"",
    "\"1e9s\"",
    "\"0.0000000001s\"",
    "\"500MB\"",
    "\"\\u0000\"",
    "\"ä\"",
    "\"../../etc/passwd\"",
    "\"24:00\"",
    "\"day\"",
    "0",
    "1",
    "-1",
    "3",
    "255",
    "9223372036854775807",
    "-9223372036854775808",
    "170141183460469231731687303715884105727",
    "0.5",
    "-0.0",
    "1e308",
    "-1e308",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "true",
    "false",
    "[]",
    "[[]]",
    "[1, \"a\", {}]",
    "{}",
    "{ a = 1 }",
    "1979-05-27T07:32:00Z",
];

#[test]
fn every_key_wrong_in_every_way() {
    for text in [FULL.to_owned(), shipped("examples/door.toml"), shipped("examples/feeder.toml")] {
        let original: toml::Value = toml::Value::Table(toml::from_str(&text).unwrap());
        let mut all = vec![];
        paths(&original, &[], &mut all);
        assert!(all.len() > 20);
        for path in &all {
            for hostile in HOSTILE {
                // Written by hand: toml's own types cannot hold all of these.
                let mut changed = original.clone();
                *at(&mut changed, path) = toml::Value::String("@@@".into());
                let changed = toml::to_string(&changed).unwrap().replace("\"@@@\"", hostile);
                let result = never_panics(changed.as_bytes());
                if hostile.contains("nan")
                    || hostile.contains("inf")
                    || hostile.contains("1e308")
                    || hostile.contains("922337203685477580")
                {
                    assert!(result.is_err(), "{path:?} = {hostile} is taken for good");
                }
            }
            let (key, table) = path.split_last().unwrap();
            let mut without = original.clone();
            if let toml::Value::Table(table) = at(&mut without, table) {
                let value = table.remove(key).unwrap();
                let _ = never_panics(toml::to_string(&without).unwrap().as_bytes());
                let mut misspelt = original.clone();
                let toml::Value::Table(table) = at(&mut misspelt, &path[..path.len() - 1]) else { unreachable!() };
                table.remove(key);
                table.insert(format!("{key}x"), value);
                let error = never_panics(toml::to_string(&misspelt).unwrap().as_bytes()).unwrap_err();
                let problem = error.problems().iter().find(|problem| problem.what.contains("not known")).unwrap();
                assert_eq!(problem.hint, Some(format!("did you mean `{key}`?")), "{error}");
            }
        }
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains(" = ") && !line.starts_with([' ', '#']))
        {
            let doubled: Vec<_> = text.lines().take(number + 1).chain([line]).chain(text.lines().skip(number + 1)).collect();
            never_panics(doubled.join("\n").as_bytes()).expect_err(line);
        }
        for end in 0..text.len() {
            let _ = never_panics(&text.as_bytes()[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_bytes_are_refused_or_good(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8)) {
        let mut bytes = FULL.as_bytes().to_vec();
        for (index, byte, kind) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        let _ = never_panics(&bytes);
    }

    #[test]
    fn random_text_is_refused(text in "(\\PC|[\\[\\]{}=\"'.#\\n\\r\t,0-9]){0,200}") {
        prop_assert!(never_panics(text.as_bytes()).is_err());
    }

    #[test]
    fn lines_in_any_order_are_refused_or_good(order in prop::collection::vec(any::<prop::sample::Index>(), 0..60)) {
        let lines: Vec<_> = FULL.lines().collect();
        let text: Vec<_> = order.iter().map(|index| *index.get(&lines)).collect();
        let _ = never_panics(text.join("\n").as_bytes());
    }
}

// The command.

#[cfg(feature = "embedded-model")]
mod command {
    use super::*;
    use std::process::{Command, Output};

    fn check(args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pawgate")).arg("check").args(args).output().unwrap()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn example(name: &str) -> String {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name);
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_good_file_is_explained() {
        let output = check(&["--config", &example("door.toml")]);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        let shown = text(&output.stdout);
        for part in [
            "nothing is wrong",
            "1  no dogs",
            "deny every dog",
            "allow every cat, at least 80% sure, 06:00–22:00",
            "3 of the last 5",
            "37 breeds",
        ] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
        let output = check(&["--config", &example("feeder.toml")]);
        assert_eq!(output.status.code(), Some(0));
        let shown = text(&output.stdout);
        assert!(shown.contains("give one portion to every cat") && shown.contains("at most 3 a day"), "{shown}");
    }

    #[test]
    fn a_bad_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let rule = "[[rule]]\nname = \"r\"\naction = \"allow\"\n";
        for (content, part) in [
            (format!("{MINIMAL}opne_for = \"8s\"\n"), "config.toml:4:1: door.opne_for: this key is not known"),
            (format!("{MINIMAL}{rule}breed = \"Beegle\"\n"), "did you mean \"beagle\"?"),
            (format!("{MINIMAL}{rule}individual = \"milo\"\n"), "no animal \"milo\" is enrolled"),
        ] {
            std::fs::write(&file, &content).unwrap();
            let output = check(&["--config", file.to_str().unwrap()]);
            assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(5), ""), "{content}");
            assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
        }
        let output = check(&["--config", "/nowhere/config.toml"]);
        assert_eq!(output.status.code(), Some(5));
        assert!(text(&output.stderr).contains("cannot read the configuration /nowhere/config.toml"));
        let model = file.to_str().unwrap();
        let output = check(&["--config", &example("door.toml"), "--model", model]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    }

    #[test]
    fn rules_are_held_against_the_file_of_enrolled_animals() {
        let folder = tempfile::tempdir().unwrap();
        let (config, pets) = (folder.path().join("config.toml"), folder.path().join("pets"));
        let rule = "[[rule]]\nname = \"r\"\naction = \"allow\"\nindividual = \"milo\"\n";
        std::fs::write(&config, format!("{MINIMAL}{rule}[individuals]\nfile = \"pets\"\n")).unwrap();
        let check = || {
            let output = check(&["--config", config.to_str().unwrap()]);
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        };
        let embedded = ModelIdentity::new(pawgate::model::EMBEDDED, LEN);
        household(embedded.clone(), 10, 0, 36).save(&pets).unwrap();
        let (code, shown, complaint) = check();
        assert_eq!((code, complaint.as_str()), (Some(0), ""));
        assert!(shown.contains("allow milo") && shown.contains("enrolled milo\n"), "{shown}");
        let refusals: [(&dyn Fn(), i32, &str); 5] = [
            (&|| household(embedded.clone(), 9, 0, 36).save(&pets).unwrap(), 5, "it needs 1 more picture of milo"),
            (&|| Roster::new(embedded.clone()).save(&pets).unwrap(), 5, "no animal \"milo\" is enrolled"),
            (
                &|| household(another_model(), 10, 0, 36).save(&pets).unwrap(),
                8,
                "were enrolled with another model (aaaaaaaaaaaa…;",
            ),
            (&|| std::fs::write(&pets, "pets").unwrap(), 8, "holds no enrolled animals"),
            (&|| std::fs::remove_file(&pets).unwrap(), 5, "no animal \"milo\" is enrolled"),
        ];
        for (prepare, expected, part) in refusals {
            prepare();
            let (code, shown, complaint) = check();
            assert_eq!((code, shown.as_str()), (Some(expected), ""), "{complaint}");
            assert!(complaint.contains(part), "{complaint}");
        }
    }

    #[test]
    fn the_schema_is_printed() {
        let output = check(&["--schema"]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout), shipped("config.schema.json"));
    }
}

// The display.

fn with_display(display: &str) -> String {
    format!("{MINIMAL}[display]\n{display}")
}

#[test]
fn a_display_is_what_most_have_unless_the_file_says_more() {
    use pawgate::hw::display::{Kind, Settings, ssd1306, st7789};
    let display = |text: &str| good(&with_display(text)).devices().display.clone().unwrap();
    assert_eq!(display("kind = \"ssd1306\""), Settings::default());
    let oled = display("kind = \"ssd1306\"\naddress = 0x3D\nsize = \"128x32\"\nrotation = 180\nbus = \"/dev/i2c-7\"");
    let kind = Kind::Ssd1306 { bus: "/dev/i2c-7".into(), address: 0x3D, size: ssd1306::Panel::W128H32 };
    assert_eq!(oled, Settings { kind, quarters: 2, ..Settings::default() });
    let text =
        "kind = \"st7789\"\nsize = \"170x320\"\nrotation = 270\ndata_line = \"25\"\nlight_line = \"GPIO24\"\nspi_mode = 3";
    let tft = display(text);
    assert_eq!((tft.size(), tft.quarters), ([320, 170], 3));
    let Kind::St7789(tft) = tft.kind else { panic!("{tft:?}") };
    assert_eq!(Some(tft.panel), st7789::Panel::of([170, 320]));
    assert_eq!((tft.bus.to_str().unwrap(), tft.mode3, tft.inverted), ("/dev/spidev0.0", true, true));
    assert_eq!(
        (tft.data.line.to_string(), tft.light.unwrap().line.to_string(), tft.reset),
        ("25".into(), "GPIO24".into(), None)
    );
}

#[test]
fn a_display_that_cannot_be_meant_is_refused() {
    let refused = [
        ("", "display.kind: the key is missing"),
        ("kind = \"ssd1307\"", "did you mean \"ssd1306\"?"),
        ("kind = \"ssd1306\"\nsize = \"240x240\"", "its sizes are \"128x64\" and \"128x32\""),
        ("kind = \"ssd1306\"\nrotation = 90", "write 0 or 180"),
        ("kind = \"ssd1306\"\naddress = 0x3E", "62 is not between 60 and 61"),
        ("kind = \"ssd1306\"\ndata_line = \"25\"", "data_line means nothing for this display"),
        ("kind = \"st7789\"", "display.data_line: the key is missing"),
        ("kind = \"st7789\"\ndata_line = \"25\"\naddress = 60", "address means nothing for this display"),
        ("kind = \"st7789\"\ndata_line = \"25\"\nspi_mode = 1", "write 0 or 3"),
        ("kind = \"st7789\"\ndata_line = \"25\"\nrotation = 45", "write 0, 90, 180 or 270"),
        ("kind = \"st7789\"\ndata_line = \"25\"\nreset_line = \"25\"", "display and display have the same line"),
        ("kind = \"ssd1306\"\noff_after = \"1s\"", "\"1s\" is not between \"5s\" and \"30d\""),
    ];
    for (text, why) in refused {
        let error = parse(&with_display(text)).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_line_of_the_display_is_no_line_of_the_door() {
    let text = with_display("kind = \"st7789\"\ndata_line = \"17\"\n[door.latch]\ndrive = \"hold\"\nline = \"17\"");
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.contains("display and door.latch have the same line"), "{error}");
}
