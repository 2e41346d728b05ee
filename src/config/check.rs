//! From the raw shape to checked settings: defaults, ranges, and what must fit together.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Problems;
use super::raw::{self, Raw};
use super::value::{Given, Limited, Many, Real, Table, Text, Verb, show_duration};
use super::{Device, Marks, Values};
use crate::hw::camera::{self, Source, keeper};
use crate::policy::rules::{Action, Period, Quota, Rule, TimeWindow};
use crate::policy::{door, feeder, vote};
use crate::vision::{motion, region::Region};
use crate::{individuals, journal};

/// Least probability of a rule that opens or gives, where it says nothing.
const MIN_PROBABILITY: f32 = 0.8;
/// Least probability of a rule that denies, where it says nothing: less, so that doubt keeps the door shut.
const MIN_PROBABILITY_DENY: f32 = 0.5;

/// Most rules, and most entries of one list: every pair of names is compared.
const MAX_ENTRIES: usize = 500;

const SOURCES: &str =
    "name a camera (\"/dev/video0\", \"rpicam\", \"rtsp://…\"), a folder of pictures, or \"-\" for standard input";

pub(super) const DAY: u64 = 86_400;
const HOUR: u64 = 3600;
const MINUTE: u64 = 60;

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One table while it is checked.
pub(super) struct Section<'p> {
    problems: &'p mut Problems,
    /// Keys that lead to it, each with a dot behind.
    path: String,
    /// Where the table stands.
    span: Option<Range<usize>>,
}

impl Section<'_> {
    pub(super) fn inner(&mut self, path: &str, span: Option<Range<usize>>) -> Section<'_> {
        let path = format!("{}{path}.", self.path);
        Section { problems: self.problems, path, span }
    }

    /// Something is wrong with the value of `key`.
    pub(super) fn wrong(&mut self, key: &str, span: Option<Range<usize>>, what: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.problems.push(&format!("{}{key}", self.path), span, what, hint);
    }

    /// Values do not fit together, or one is missing. Says nothing where the table has lost values that were wrong themselves.
    pub(super) fn conflict(&mut self, key: &str, span: Option<Range<usize>>, what: impl Into<String>, hint: &str) {
        if !self.problems.is_broken(&self.path) {
            let span = span.or_else(|| self.span.clone());
            self.wrong(key, span, what, hint);
        }
    }

    /// The value of `key`, or `default`; a problem when it lies outside `range`.
    pub(super) fn within<T: Limited>(
        &mut self,
        key: &str,
        given: &Given<T>,
        default: T::Plain,
        range: RangeInclusive<T::Plain>,
    ) -> T::Plain {
        let Some(value) = given.get().map(T::plain) else { return default };
        if range.contains(&value) {
            return value;
        }
        let [from, to, value] = [*range.start(), *range.end(), value].map(T::show);
        self.wrong(key, given.span(), format!("{value} is not between {from} and {to}"), "");
        self.problems.mark_broken(self.path.clone());
        default
    }
}

/// The table, or one without keys.
pub(super) fn table<'r, T>(given: &'r Given<Table<T>>, empty: &'r T) -> &'r T {
    given.get().map_or(empty, |Table(table)| table)
}

/// Checks everything. The result is only good when no problem was found.
pub(super) fn check(raw: &Raw, path: &Path, problems: &mut Problems) -> (Values, Vec<Marks>) {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut root = Section { problems, path: String::new(), span: None };
    let camera = check_camera(&mut root, &raw.camera, table(&raw.camera, &Default::default()), folder);
    let vote = check_vote(&mut root.inner("vote", raw.vote.span()), table(&raw.vote, &Default::default()), camera.fps);
    let door = raw.door.get().map(|Table(table)| check_door(&mut root.inner("door", raw.door.span()), table));
    let feeder = raw.feeder.get().map(|Table(table)| check_feeder(&mut root.inner("feeder", raw.feeder.span()), table));
    if door.is_none() && feeder.is_none() {
        root.conflict("", None, "there is neither a door nor a feeder", "add [door] or [feeder]; the table may be empty");
    }
    let (rules, marks) = check_rules(&mut root, raw, feeder.as_ref());
    let values = Values {
        device: check_device(table(&raw.device, &Default::default())),
        region: check_region(&mut root.inner("region", raw.region.span()), table(&raw.region, &Default::default())),
        motion: check_motion(&mut root.inner("motion", raw.motion.span()), table(&raw.motion, &Default::default())),
        individuals: check_individuals(
            &mut root.inner("individuals", raw.individuals.span()),
            table(&raw.individuals, &Default::default()),
            folder,
        ),
        journal: check_journal(
            &mut root.inner("journal", raw.journal.span()),
            table(&raw.journal, &Default::default()),
            folder,
        ),
        model: table(&raw.model, &Default::default()).file.get().map(|Text(file)| folder.join(file)),
        camera,
        vote,
        rules,
        devices: super::pins::check(&mut root, raw),
        door,
        feeder,
    };
    (values, marks)
}

fn check_device(raw: &raw::Device) -> Device {
    let zone = raw.time_zone.get().map(|zone| zone.0.clone());
    Device {
        name: raw.name.get().map_or_else(|| "pawgate".to_owned(), |Text(name)| name.clone()),
        zone_is_configured: zone.is_some(),
        time_zone: zone.unwrap_or_else(jiff::tz::TimeZone::system),
    }
}

fn check_camera(
    root: &mut Section<'_>,
    given: &Given<Table<raw::Camera>>,
    raw: &raw::Camera,
    folder: &Path,
) -> camera::Settings {
    if given.get().is_none() {
        root.conflict("", None, "there is no camera", "add [camera] with source = \"/dev/video0\"");
    }
    let section = &mut root.inner("camera", given.span());
    let default = keeper::Limits::default();
    let size = raw.size.get().map_or([640, 480], |size| size.0);
    let fps = section.within("fps", &raw.fps, 5, 1..=60);
    let frozen = section.within("frozen_after", &raw.frozen_after, default.frozen, seconds(2)..=seconds(DAY));
    let silence = section.within("silence", &raw.silence, default.silence, millis(500)..=seconds(MINUTE));
    camera::Settings {
        source: check_source(section, raw, folder, size, fps),
        fps,
        max_age: section.within("max_age", &raw.max_age, seconds(1), millis(50)..=seconds(10)),
        size,
        limits: keeper::Limits { silence, frozen, black: frozen, ..default },
    }
}

fn check_source(section: &mut Section<'_>, raw: &raw::Camera, folder: &Path, size: [u32; 2], fps: u32) -> Source {
    let items = raw.source.items();
    if raw.command.get().is_some() {
        if raw.source.get().is_some() {
            let what = "there is a source and a command";
            section.conflict("command", raw.command.span(), what, "delete one of the two");
        }
        let command: Vec<String> = raw.command.items().into_iter().map(|(_, Text(word))| word.clone()).collect();
        if command.is_empty() {
            section.conflict("command", raw.command.span(), "the list is empty", "name a program and its arguments");
        }
        return Source::Program(command);
    }
    if items.is_empty() && section.span.is_some() {
        let what = if raw.source.get().is_some() { "the list is empty" } else { "the key is missing" };
        section.conflict("source", raw.source.span(), what, SOURCES);
    }
    if items.len() > 1 {
        for (span, Text(source)) in items.iter().filter(|(_, Text(source))| camera::Live::of(source).is_some() || source == "-")
        {
            let what = format!("{source:?} stands beside other sources");
            section.wrong("source", Some(span.clone()), what, "write it alone; only pictures and folders can be a list");
        }
    }
    match items.as_slice() {
        [(_, Text(source))] if source == "-" => Source::Stdin,
        [(span, Text(source))] => match camera::Live::of(source) {
            None => Source::Pictures(vec![folder.join(source)]),
            Some(live) => live.source(size, fps).unwrap_or_else(|what| {
                section.wrong("source", Some(span.clone()), what, SOURCES);
                Source::Stdin
            }),
        },
        items => Source::Pictures(items.iter().map(|(_, Text(source))| folder.join(source)).collect()),
    }
}

fn check_region(section: &mut Section<'_>, raw: &raw::Region) -> Region {
    let left = section.within("left", &raw.left, 0.0, 0.0..=1.0);
    let top = section.within("top", &raw.top, 0.0, 0.0..=1.0);
    let mut extent = |key: &str, given: &Given<Real>, edge: f32, far: &str| {
        let rest = 1.0 - edge;
        let extent = section.within(key, given, rest, 0.05..=1.0);
        if extent > rest + 1e-6 {
            let what = format!("the region ends {:.3} beyond the picture's {far}", extent - rest);
            section.conflict(
                key,
                given.span(),
                what,
                "both are shares of the picture: left + width and top + height are at most 1",
            );
        } else if rest < 0.05 {
            let what = format!("the region has no {key}: it begins at the picture's {far}");
            section.conflict(key, given.span(), what, "left and top are the upper left corner, in shares of the picture");
        }
        extent.min(rest)
    };
    let width = extent("width", &raw.width, left, "right edge");
    let height = extent("height", &raw.height, top, "lower edge");
    Region { left, top, width, height }
}

fn check_motion(section: &mut Section<'_>, raw: &raw::Motion) -> motion::Settings {
    let default = motion::Settings::default();
    motion::Settings {
        threshold: section.within("threshold", &raw.threshold, default.threshold.into(), 1..=255) as u8,
        min_area: section.within("min_area", &raw.min_area, default.min_area, 0.0001..=1.0),
        still_after: section.within("still_after", &raw.still_after, default.still_after, millis(100)..=seconds(MINUTE)),
        margin: section.within("margin", &raw.margin, default.margin, 0.0..=2.0),
    }
}

fn check_vote(section: &mut Section<'_>, raw: &raw::Vote, fps: u32) -> vote::Settings {
    let default = vote::Settings::default();
    let agree = section.within("agree", &raw.agree, default.agree as u32, 2..=20);
    // Whoever asks for more agreement than the default window holds means a larger window.
    let of = section.within("of", &raw.of, agree.max(default.of as u32), 2..=20);
    let within = section.within("within", &raw.within, default.within, millis(200)..=seconds(10));
    let most = of.saturating_sub(agree).min(agree - 1);
    let contradicting = section.within("contradicting", &raw.contradicting, most.min(default.contradicting as u32), 0..=10);
    let deny_agree = section.within("deny_agree", &raw.deny_agree, default.deny_agree as u32, 2..=20);
    if of < agree {
        section.conflict(
            "of",
            raw.of.span(),
            format!("{agree} of the last {of} frames cannot agree"),
            "raise `of` or lower `agree`",
        );
    } else if contradicting > most {
        let what = format!("where {agree} of {of} frames must agree, at most {most} may contradict, not {contradicting}");
        section.conflict("contradicting", raw.contradicting.span(), what, "lower `contradicting`, or raise `of` or `agree`");
    }
    if deny_agree > agree {
        let what = format!("denying would need more frames ({deny_agree}) than allowing ({agree})");
        section.conflict("deny_agree", raw.deny_agree.span(), what, "lower `deny_agree` or raise `agree`");
    }
    let frames = (within.as_secs_f64() * f64::from(fps)).floor() + 1.0;
    if f64::from(agree) > frames && !section.problems.is_broken("camera.") {
        let what =
            format!("{agree} frames cannot agree within {}: the camera gives {frames} in that time", show_duration(within));
        section.conflict("within", raw.within.span(), what, "lengthen `within`, lower `agree`, or raise camera.fps");
    }
    vote::Settings {
        agree: agree as usize,
        of: of as usize,
        within,
        contradicting: contradicting as usize,
        deny_agree: deny_agree as usize,
    }
}

fn check_door(section: &mut Section<'_>, raw: &raw::Door) -> door::Settings {
    let default = door::Settings::default();
    let open_for = section.within("open_for", &raw.open_for, default.open_for, seconds(1)..=seconds(5 * MINUTE));
    let max_open = section.within("max_open", &raw.max_open, default.max_open.max(open_for), seconds(1)..=seconds(10 * MINUTE));
    let exit_open_for = default.exit_open_for.min(max_open);
    let settings = door::Settings {
        open_for,
        max_open,
        exit_open_for: section.within("exit_open_for", &raw.exit_open_for, exit_open_for, seconds(1)..=seconds(5 * MINUTE)),
        min_interval: section.within("min_interval", &raw.min_interval, default.min_interval, millis(200)..=seconds(MINUTE)),
        travel: section.within("travel", &raw.travel, default.travel, millis(100)..=seconds(30)),
        safe_state: raw.safe_state.get().map_or(default.safe_state, |name| name.0),
        exit: raw.exit.get().map_or(default.exit, |name| name.0),
        max_override: section.within("max_override", &raw.max_override, default.max_override, seconds(1)..=seconds(DAY)),
    };
    let open = show_duration(open_for);
    if settings.max_open < open_for {
        let what = format!("{} is shorter than open_for ({open})", show_duration(settings.max_open));
        section.conflict("max_open", raw.max_open.span(), what, "raise max_open or lower open_for");
    }
    if settings.max_open < settings.exit_open_for {
        let [exit, most] = [settings.exit_open_for, max_open].map(show_duration);
        let what = format!("{exit} is longer than max_open ({most})");
        section.conflict("exit_open_for", raw.exit_open_for.span(), what, "lower exit_open_for or raise max_open");
    }
    for (key, given, value) in
        [("min_interval", &raw.min_interval, settings.min_interval), ("travel", &raw.travel, settings.travel)]
    {
        if value >= open_for {
            let what =
                format!("{} is not shorter than open_for ({open}): the door could not close in time", show_duration(value));
            section.conflict(key, given.span(), what, &format!("lower {key} or raise open_for"));
        }
    }
    settings
}

fn check_feeder(section: &mut Section<'_>, raw: &raw::Feeder) -> feeder::Settings {
    let default = feeder::Settings::default();
    feeder::Settings {
        max_per_day: section.within("max_per_day", &raw.max_per_day, default.max_per_day, 1..=100),
        min_interval: section.within("min_interval", &raw.min_interval, default.min_interval, seconds(1)..=seconds(DAY)),
        portion_time: section.within("portion_time", &raw.portion_time, default.portion_time, seconds(1)..=seconds(5 * MINUTE)),
    }
}

fn check_individuals(section: &mut Section<'_>, raw: &raw::Individuals, folder: &Path) -> individuals::Settings {
    let default = individuals::Settings::default();
    individuals::Settings {
        file: path(&raw.file, folder, individuals::DEFAULT_FILE),
        min_pictures: section.within("min_pictures", &raw.min_pictures, default.min_pictures as u32, 2..=1000) as usize,
        min_accepted: section.within("min_accepted", &raw.min_accepted, default.min_accepted, 0.0..=1.0),
        max_strangers: section.within("max_strangers", &raw.max_strangers, default.max_strangers, 0.0..=0.5),
    }
}

fn check_journal(section: &mut Section<'_>, raw: &raw::Journal, folder: &Path) -> journal::Settings {
    let most = 1_000_000_000_000;
    journal::Settings {
        folder: path(&raw.folder, folder, journal::DEFAULT_FOLDER),
        keep_for: section.within("keep_for", &raw.keep_for, seconds(30 * DAY), seconds(HOUR)..=seconds(3650 * DAY)),
        max_bytes: section.within("max_size", &raw.max_size, 1_000_000_000, 10_000_000..=most),
        reserve_bytes: section.within("keep_free", &raw.keep_free, 500_000_000, 0..=most),
        snapshots: raw.snapshots.get().is_none_or(|flag| flag.0),
    }
}

fn path(given: &Given<Text>, folder: &Path, default: &str) -> PathBuf {
    given.get().map_or_else(|| PathBuf::from(default), |Text(path)| folder.join(path))
}

fn check_rules(root: &mut Section<'_>, raw: &Raw, feeder: Option<&feeder::Settings>) -> (Vec<Rule>, Vec<Marks>) {
    let list = raw.rule.get().map(|tables| tables.0.as_slice()).unwrap_or_default();
    let (mut rules, mut marks): (Vec<Rule>, Vec<Marks>) = (vec![], vec![]);
    let devices = Devices { door: raw.door.get().is_some() || root.problems.is_broken(""), feeder: feeder.copied() };
    if list.len() > MAX_ENTRIES {
        root.wrong("rule", raw.rule.span(), format!("there are more than {MAX_ENTRIES} rules"), "write fewer");
    }
    for (index, table) in list.iter().take(MAX_ENTRIES).enumerate() {
        let Table(raw) = table.get_ref();
        let section = &mut root.inner(&format!("rule.{index}"), Some(table.span()));
        let rule = check_rule(section, raw, devices);
        if !rule.name.is_empty() && rules.iter().any(|earlier| earlier.name == rule.name) {
            let what = format!("another rule is called {:?} as well", rule.name);
            section.wrong("name", raw.name.span(), what, "give every rule a name of its own; decisions are recorded with it");
        }
        marks.push(Marks {
            rule: table.span(),
            individuals: raw.individual.items().into_iter().map(|(span, _)| span).collect(),
            breeds: raw.breed.items().into_iter().map(|(span, _)| span).collect(),
        });
        rules.push(rule);
    }
    (rules, marks)
}

/// What a rule can act on.
#[derive(Clone, Copy)]
struct Devices {
    door: bool,
    feeder: Option<feeder::Settings>,
}

fn check_rule(section: &mut Section<'_>, raw: &raw::Rule, devices: Devices) -> Rule {
    if raw.name.get().is_none() {
        section.conflict("name", None, "the rule has no name", "add a line such as name = \"our cats\"");
    }
    let action = check_action(section, raw, devices);
    let least = if action == Action::Deny { MIN_PROBABILITY_DENY } else { MIN_PROBABILITY };
    let name = |Text(name): &Text| name.clone();
    Rule {
        name: raw.name.get().map(name).unwrap_or_default(),
        individuals: list(section, "individual", &raw.individual, name),
        breeds: list(section, "breed", &raw.breed, name),
        species: list(section, "species", &raw.species, |species| species.0),
        min_probability: section.within("min_probability", &raw.min_probability, least, 0.0..=1.0),
        times: check_times(section, raw),
        cooldown: raw
            .cooldown
            .get()
            .map(|_| section.within("cooldown", &raw.cooldown, Duration::ZERO, seconds(1)..=seconds(30 * DAY))),
        quota: check_quota(section, raw, action),
        action,
    }
}

/// The values of a list. An empty one is refused: does it mean nobody, or everybody?
fn list<T, U: PartialEq>(section: &mut Section<'_>, key: &str, given: &Given<Many<T>>, make: impl Fn(&T) -> U) -> Vec<U> {
    let items = given.items();
    if given.get().is_some() && items.is_empty() {
        section.wrong(
            key,
            given.span(),
            "the list is empty",
            "name at least one, or delete the key: then it does not restrict",
        );
    }
    if items.len() > MAX_ENTRIES {
        section.wrong(key, given.span(), format!("the list has more than {MAX_ENTRIES} entries"), "write fewer");
    }
    let mut values = vec![];
    for (span, value) in items.into_iter().take(MAX_ENTRIES) {
        let value = make(value);
        if values.contains(&value) {
            section.wrong(key, Some(span), "this stands in the list twice", "delete one of the two");
        }
        values.push(value);
    }
    values
}

fn check_action(section: &mut Section<'_>, raw: &raw::Rule, devices: Devices) -> Action {
    let Some(verb) = raw.action.get().map(|action| action.0) else {
        section.conflict("action", None, "the rule has no action", "add action = \"allow\", \"deny\" or \"dispense\"");
        return Action::Deny;
    };
    let span = raw.action.span();
    match verb {
        Verb::Allow if !devices.door => {
            section.conflict(
                "action",
                span,
                "the rule opens a door, but there is no [door]",
                "add [door]; the table may be empty",
            );
        }
        Verb::Dispense if devices.feeder.is_none() && !section.problems.is_broken("") => {
            section.conflict(
                "action",
                span,
                "the rule feeds, but there is no [feeder]",
                "add [feeder]; the table may be empty",
            );
        }
        _ => {}
    }
    let portions = section.within("portions", &raw.portions, 1, 1..=10);
    if raw.portions.get().is_some() && verb != Verb::Dispense {
        section.wrong(
            "portions",
            raw.portions.span(),
            "only a rule that feeds gives portions",
            "delete it, or write action = \"dispense\"",
        );
    }
    // A deny that wears out would let the next rule open.
    for (key, span) in [("cooldown", raw.cooldown.span()), ("quota", raw.quota.span())] {
        if verb == Verb::Deny && span.is_some() {
            let what = format!("a rule that denies has no {key}: it would end, and a later rule could open");
            section.wrong(key, span, what, "delete it");
        }
    }
    if let Some(feeder) = devices.feeder.filter(|feeder| verb == Verb::Dispense && feeder.max_per_day < portions) {
        let what = format!("{portions} portions are more than the feeder gives a day ({})", feeder.max_per_day);
        section.conflict("portions", raw.portions.span(), what, "lower portions or raise feeder.max_per_day");
    }
    match verb {
        Verb::Allow => Action::Allow,
        Verb::Deny => Action::Deny,
        Verb::Dispense => Action::Dispense(portions),
    }
}

fn check_times(section: &mut Section<'_>, raw: &raw::Rule) -> Vec<TimeWindow> {
    let list = raw.times.get().map(|tables| tables.0.as_slice()).unwrap_or_default();
    if raw.times.get().is_some() && list.is_empty() {
        section.wrong(
            "times",
            raw.times.span(),
            "the list is empty",
            "add a window, or delete the key: then the rule always holds",
        );
    }
    if list.len() > MAX_ENTRIES {
        section.wrong("times", raw.times.span(), format!("the list has more than {MAX_ENTRIES} entries"), "write fewer");
    }
    let mut windows = vec![];
    for (index, table) in list.iter().take(MAX_ENTRIES).enumerate() {
        let Table(raw) = table.get_ref();
        let section = &mut section.inner(&format!("times.{index}"), Some(table.span()));
        let time = |given: &Given<super::value::Clock>| given.get().map_or(jiff::civil::Time::midnight(), |clock| clock.time);
        let window =
            TimeWindow { days: self::list(section, "days", &raw.days, |day| day.0), from: time(&raw.from), to: time(&raw.to) };
        if raw.days.get().is_none() && raw.from.get().is_none() && raw.to.get().is_none() {
            section.conflict("", None, "the window says nothing", "add days, from or to, or delete it");
        } else if window.from == window.to && (raw.from.get().is_some() || raw.to.get().is_some()) && !whole_day(raw) {
            let what = "the window ends when it begins";
            section.conflict(
                "to",
                raw.to.span(),
                what,
                "for whole days write from = \"00:00\", to = \"24:00\", or leave both out",
            );
        }
        windows.push(window);
    }
    windows
}

/// Whether a window from midnight to midnight was meant: its end is the end of the day, or was left out.
fn whole_day(raw: &raw::Window) -> bool {
    raw.to.get().is_none_or(|clock| clock.end_of_day)
}

fn check_quota(section: &mut Section<'_>, raw: &raw::Rule, action: Action) -> Option<Quota> {
    let Table(quota) = raw.quota.get()?;
    let span = raw.quota.span();
    let section = &mut section.inner("quota", span);
    let count = section.within("count", &quota.count, 1, 1..=1000);
    for (key, missing) in [("count", quota.count.get().is_none()), ("per", quota.per.get().is_none())] {
        if missing {
            let what = format!("the quota has no {key}");
            section.conflict(key, None, what, "write, for example, quota = { count = 3, per = \"day\" }");
        }
    }
    if let Action::Dispense(portions) = action
        && portions > count
    {
        let what = format!("a quota of {count} is less than the {portions} portions that the rule gives at once");
        section.conflict("count", quota.count.span(), what, "raise count or lower portions");
    }
    let per = quota.per.get().map_or(Period::Day, |per| per.0);
    if let Period::Last(period) = per
        && !(seconds(MINUTE)..=seconds(31 * DAY)).contains(&period)
    {
        section.wrong("per", quota.per.span(), format!("\"{}\" is not between \"1m\" and \"31d\"", show_duration(period)), "");
    }
    Some(Quota { count, per })
}
