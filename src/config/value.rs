//! The values of a configuration: one type a kind of value, each with its unit, its limits, and the words that say what was
//! expected. Which range a single key allows is not known here ([`super::check`] is).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Duration;

use jiff::civil::{Time, Weekday};
use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, SpanRelativeTo};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use toml::Spanned;

use super::error::{complaint, nearest};
use crate::hw::actuator::Position;
use crate::hw::actuator::gpio::{self, Active, Bias};
use crate::model::Species;
use crate::policy::door::{Exit, SafeState};
use crate::policy::rules::Period;
use crate::service::inputs::Press;

/// The longest text that a configuration may hold, in characters.
const MAX_TEXT: usize = 1000;

/// A value as it stands in the file, before anything is known about it.
pub(super) enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// Something that no value is written as, in words.
    Other(&'static str),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Escaped, so that a hostile file cannot steer a terminal.
            Self::Text(text) if text.chars().count() <= 60 => write!(f, "{text:?}"),
            Self::Text(text) => write!(f, "{:?}…", text.chars().take(60).collect::<String>()),
            Self::Integer(number) => write!(f, "the number {number}"),
            Self::Float(number) => write!(f, "the number {number}"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// What is wrong with a value, and what to do about it.
pub(super) struct Wrong {
    what: String,
    hint: Option<String>,
}

/// A kind of value that is no table and no list.
pub(super) trait Value: Sized {
    /// What is written in the file, in words that follow "expected".
    const EXPECTED: &'static str;
    /// What an editor may know about it.
    fn schema() -> Schema;
    /// Reads it.
    fn read(scalar: Scalar) -> Result<Self, Wrong>;

    /// It is something else altogether.
    fn other(scalar: &Scalar) -> Wrong {
        Wrong { what: format!("expected {}, found {scalar}", Self::EXPECTED), hint: None }
    }
}

/// Gives a [`Value`] its serde and schemars implementations.
macro_rules! value {
    ($($name:ident),*) => { $(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ScalarVisitor::<Self>(PhantomData))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                <Self as Value>::schema()
            }
        }
    )* };
}

value!(Text, Span, Size, Pixels, Count, Real, Flag, Clock, Day, Zone, ActionName);
value!(SpeciesName, SafeStateName, ExitName, PeriodName, LineName, DriveName, LevelName, BiasName, PositionName, ButtonName);
value!(DisplayName);

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Value> ScalarVisitor<T> {
    fn take<E: Error>(scalar: Scalar) -> Result<T, E> {
        T::read(scalar).map_err(|Wrong { what, hint }| E::custom(complaint(&what, hint.as_deref())))
    }
}

/// The visits of everything that is neither table nor list; `$take` makes the result of a [`Scalar`].
macro_rules! visit_scalars {
    ($value:ty, $take:path) => {
        fn visit_str<E: Error>(self, text: &str) -> Result<$value, E> {
            $take(Scalar::Text(text.to_owned()))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<$value, E> {
            $take(Scalar::Integer(number))
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<$value, E> {
            $take(Scalar::Other("a number that is too large"))
        }

        fn visit_i128<E: Error>(self, _: i128) -> Result<$value, E> {
            $take(Scalar::Other("a number that is too large"))
        }

        fn visit_u128<E: Error>(self, _: u128) -> Result<$value, E> {
            $take(Scalar::Other("a number that is too large"))
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<$value, E> {
            $take(Scalar::Float(number))
        }

        fn visit_bool<E: Error>(self, flag: bool) -> Result<$value, E> {
            $take(Scalar::Bool(flag))
        }
    };
}

impl<'de, T: Value> Visitor<'de> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    visit_scalars!(T, Self::take);

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        Self::take(Scalar::Other("a list"))
    }

    // A date or time without quotes comes as a map as well.
    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        Self::take(Scalar::Other("a table, or a date or time without quotes"))
    }
}

/// A key's value and where it stands, if the file has the key.
pub(super) struct Given<T>(Option<Spanned<T>>);

impl<T> Given<T> {
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_ref().map(Spanned::get_ref)
    }

    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.0.as_ref().map(Spanned::span)
    }
}

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

/// A wrapper that an editor does not see.
macro_rules! transparent {
    ($($name:ident),*) => { $(
        impl<T: JsonSchema> JsonSchema for $name<T> {
            fn schema_name() -> Cow<'static, str> {
                T::schema_name()
            }

            fn schema_id() -> Cow<'static, str> {
                T::schema_id()
            }

            fn inline_schema() -> bool {
                T::inline_schema()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                T::json_schema(generator)
            }
        }
    )* };
}

transparent!(Given, Table);

/// A table. serde's derived types also take a list of values in the order of their fields; a configuration does not.
#[derive(Default)]
pub(super) struct Table<T>(pub(super) T);

struct TableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
    type Value = Table<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Table<T>, A::Error> {
        let hint = "write the table's name in single brackets, and the table once";
        Err(A::Error::custom(complaint("expected one table, found a list", Some(hint))))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Table)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TableVisitor(PhantomData))
    }
}

/// Any number of tables.
#[derive(Default)]
pub(super) struct Tables<T>(pub(super) Vec<Spanned<Table<T>>>);

struct TablesVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TablesVisitor<T> {
    type Value = Tables<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tables")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tables<T>, A::Error> {
        let mut tables = vec![];
        while let Some(table) = list.next_element()? {
            tables.push(table);
        }
        Ok(Tables(tables))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Tables<T>, A::Error> {
        let hint = "write a table that may stand there several times in double brackets, such as [[rule]]; \
                    inside a table, write a list such as [{ … }]";
        Err(A::Error::custom(complaint("expected a list of tables, found one table", Some(hint))))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tables<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TablesVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Tables<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}List", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    }
}

/// One value, or a list of them.
pub(super) enum Many<T> {
    One(T),
    List(Vec<Spanned<T>>),
}

impl<T> Given<Many<T>> {
    /// The values with where they stand.
    pub(super) fn items(&self) -> Vec<(Range<usize>, &T)> {
        match (self.span(), self.get()) {
            (Some(span), Some(Many::One(value))) => vec![(span, value)],
            (_, Some(Many::List(values))) => values.iter().map(|value| (value.span(), value.get_ref())).collect(),
            _ => vec![],
        }
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<T: Value> ManyVisitor<T> {
    fn take<E: Error>(scalar: Scalar) -> Result<Many<T>, E> {
        ScalarVisitor::take(scalar).map(Many::One)
    }
}

impl<'de, T: Value + Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list", T::EXPECTED)
    }

    visit_scalars!(Many<T>, Self::take);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Many<T>, A::Error> {
        let mut values = vec![];
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Many::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Many<T>, A::Error> {
        Self::take(Scalar::Other("a table, or a date or time without quotes"))
    }
}

impl<'de, T: Value + Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Many<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrList", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// A text without control characters and without space at its ends.
pub(super) struct Text(pub(super) String);

impl Value for Text {
    const EXPECTED: &'static str = "a text in quotes";

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_TEXT })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        let Scalar::Text(text) = scalar else { return Err(Self::other(&scalar)) };
        let why = if text.is_empty() {
            "the text is empty"
        } else if text.trim() != text {
            "the text begins or ends with a space"
        } else if text.chars().any(char::is_control) {
            "the text holds a control character"
        } else if text.chars().count() > MAX_TEXT {
            "the text is too long"
        } else {
            return Ok(Self(text));
        };
        Err(Wrong { what: why.into(), hint: None })
    }
}

/// A duration with its unit.
#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

const SPAN_HINT: &str = r#"write a number and a unit, such as "500ms", "8s", "10m", "1h 30m" or "30d""#;

impl Value for Span {
    const EXPECTED: &'static str = r#"a duration with its unit, such as "8s""#;

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "pawgate-duration", "examples": ["500ms", "8s", "10m", "1h 30m", "30d"] })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        let hint = |text: &str| match text.trim() {
            digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && digits.len() < 10 => {
                Some(format!("if seconds are meant, write \"{digits}s\""))
            }
            _ => Some(SPAN_HINT.to_owned()),
        };
        match &scalar {
            Scalar::Text(text) => {
                span(text).map(Self).ok_or_else(|| Wrong { what: Self::other(&scalar).what, hint: hint(text) })
            }
            Scalar::Integer(number) => Err(Wrong { what: Self::other(&scalar).what, hint: hint(&number.to_string()) }),
            _ => Err(Wrong { hint: Some(SPAN_HINT.into()), ..Self::other(&scalar) }),
        }
    }
}

/// A day has 24 hours, a week seven days; months and years have no fixed length and are refused, and so is less than nothing.
fn span(text: &str) -> Option<Duration> {
    let span = SpanParser::new().parse_span(text).ok()?;
    let span: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(span).ok()
}

/// A duration as people write it: "1h 30m".
pub(crate) fn show_duration(duration: Duration) -> String {
    let hours = duration.as_secs() / 3600;
    if hours >= 24 && duration.subsec_nanos() == 0 && duration.as_secs().is_multiple_of(86_400) {
        return format!("{}d", hours / 24);
    }
    SpanPrinter::new().unsigned_duration_to_string(&duration)
}

/// A number of bytes.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) u64);

const UNITS: [(&str, u64); 8] = [
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl Value for Size {
    const EXPECTED: &'static str = r#"a size with its unit, such as "500MB""#;

    fn schema() -> Schema {
        json_schema!({
            "type": "string", "pattern": r"^[0-9]+ ?([kKmMgGtT][bB]|[kKmMgGtT][iI][bB])$",
            "examples": ["500MB", "2GB", "1GiB"],
        })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        let wrong = |scalar| Wrong {
            hint: Some("write a whole number and a unit: kB, MB, GB, TB (thousands) or KiB, MiB, GiB, TiB (1024s)".into()),
            ..Self::other(scalar)
        };
        let Scalar::Text(text) = &scalar else { return Err(wrong(&scalar)) };
        size(text).map(Self).ok_or_else(|| wrong(&scalar))
    }
}

fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Width and height of a picture.
#[derive(Clone, Copy)]
pub(super) struct Pixels(pub(super) [u32; 2]);

impl Value for Pixels {
    const EXPECTED: &'static str = r#"width and height in pixels, such as "640x480""#;

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{2,5}x[0-9]{2,5}$", "examples": ["640x480", "1280x720"] })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        let Scalar::Text(text) = &scalar else { return Err(Self::other(&scalar)) };
        let side = |side: &str| side.parse::<u32>().ok().filter(|side| (32..=8192).contains(side));
        let sides = text.split_once('x').and_then(|(width, height)| Some([side(width)?, side(height)?]));
        sides.map(Self).ok_or_else(|| Wrong { hint: Some("each is 32 to 8192".into()), ..Self::other(&scalar) })
    }
}

/// A line of a GPIO chip: its number or name, with the chip before it where that is not the usual one.
#[derive(Clone)]
pub(super) struct LineName {
    pub(super) chip: Option<gpio::ChipName>,
    pub(super) line: gpio::LineName,
}

impl Value for LineName {
    const EXPECTED: &'static str = r#"a GPIO line, such as "17", "GPIO17" or "gpiochip1:17""#;

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 100, "examples": ["17", "GPIO17", "pinctrl-rp1:17"] })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        let text = match &scalar {
            Scalar::Text(text) => text,
            Scalar::Integer(number) => {
                return Err(Wrong { hint: Some(format!("write it in quotes: \"{number}\"")), ..Self::other(&scalar) });
            }
            _ => return Err(Self::other(&scalar)),
        };
        let bad = |error: gpio::BadName| Wrong { what: error.to_string(), hint: None };
        let (chip, line) = match text.rsplit_once(':') {
            Some((chip, line)) => (Some(chip.parse().map_err(bad)?), line),
            None => (None, text.as_str()),
        };
        Ok(Self { chip, line: line.parse().map_err(bad)? })
    }
}

/// A number of bytes as people write it.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = UNITS.iter().filter(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match units.max_by_key(|(_, factor)| factor) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None if bytes == 0 => "0kB".to_owned(),
        None => format!("{bytes} bytes"),
    }
}

/// A whole number from 0.
#[derive(Clone, Copy)]
pub(super) struct Count(pub(super) u32);

impl Value for Count {
    const EXPECTED: &'static str = "a whole number";

    fn schema() -> Schema {
        json_schema!({ "type": "integer" })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        match scalar {
            Scalar::Integer(number) => u32::try_from(number).map(Self).map_err(|_| {
                let why = if number < 0 { "is less than nothing" } else { "is too large" };
                Wrong { what: format!("{number} {why}"), hint: None }
            }),
            Scalar::Text(ref text) if text.parse::<u32>().is_ok() => {
                Err(Wrong { hint: Some(format!("write {text} without quotes")), ..Self::other(&scalar) })
            }
            _ => Err(Self::other(&scalar)),
        }
    }
}

/// A number, finite.
#[derive(Clone, Copy)]
pub(super) struct Real(pub(super) f32);

impl Value for Real {
    const EXPECTED: &'static str = "a number";

    fn schema() -> Schema {
        json_schema!({ "type": "number" })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        let number = match scalar {
            Scalar::Float(number) => number as f32,
            Scalar::Integer(number) => number as f32,
            Scalar::Text(ref text) if text.ends_with('%') || text.parse::<f32>().is_ok_and(f32::is_finite) => {
                let hint = "write a number without quotes; a share is written from 0 to 1, such as 0.8 for 80 %";
                return Err(Wrong { hint: Some(hint.into()), ..Self::other(&scalar) });
            }
            _ => return Err(Self::other(&scalar)),
        };
        // Also what overflows f32.
        if number.is_finite() { Ok(Self(number)) } else { Err(Wrong { what: format!("{scalar} cannot be used"), hint: None }) }
    }
}

/// Yes or no.
pub(super) struct Flag(pub(super) bool);

impl Value for Flag {
    const EXPECTED: &'static str = "true or false, without quotes";

    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        if let Scalar::Bool(flag) = scalar { Ok(Self(flag)) } else { Err(Self::other(&scalar)) }
    }
}

/// A time of day; "24:00" is the end of the day.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// "24:00" is 00:00.
    pub(super) time: Time,
    /// Whether it was written "24:00".
    pub(super) end_of_day: bool,
}

impl Value for Clock {
    const EXPECTED: &'static str = r#"a time of day in quotes, such as "06:30""#;

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", "examples": ["06:30", "22:00"] })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        let wrong =
            |scalar| Wrong { hint: Some(r#"write hours and minutes, "00:00" to "24:00""#.into()), ..Self::other(scalar) };
        let Scalar::Text(text) = &scalar else { return Err(wrong(&scalar)) };
        if text == "24:00" {
            return Ok(Self { time: Time::midnight(), end_of_day: true });
        }
        let two_digits =
            |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?;
        let time = text.split_once(':').and_then(|(hour, minute)| Time::new(two_digits(hour)?, two_digits(minute)?, 0, 0).ok());
        time.map(|time| Self { time, end_of_day: false }).ok_or_else(|| wrong(&scalar))
    }
}

/// A time zone of the IANA data base.
pub(super) struct Zone(pub(super) TimeZone);

impl Value for Zone {
    const EXPECTED: &'static str = r#"the name of a time zone, such as "Europe/Berlin""#;

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["Europe/Berlin", "America/New_York", "UTC"] })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        let Scalar::Text(text) = &scalar else { return Err(Self::other(&scalar)) };
        match TimeZone::get(text) {
            // The system's data base may hold what is no zone.
            Ok(zone) if zone.iana_name().is_some() && !zone.is_unknown() => Ok(Self(zone)),
            _ => {
                let names: Vec<_> = jiff::tz::db().available().map(|name| name.to_string()).collect();
                let near = nearest(text, names.iter().map(String::as_str));
                let hint = near.map_or_else(
                    || "take a name from `timedatectl list-timezones`".to_owned(),
                    |name| format!("did you mean \"{name}\"?"),
                );
                Err(Wrong { what: format!("there is no time zone {scalar}"), hint: Some(hint) })
            }
        }
    }
}

/// A value that is one of a few words.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident($plain:ty), $expected:literal, $($word:literal => $value:expr),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name(pub(super) $plain);

        impl Value for $name {
            const EXPECTED: &'static str = $expected;

            fn schema() -> Schema {
                json_schema!({ "type": "string", "enum": [$($word),+] })
            }

            fn read(scalar: Scalar) -> Result<Self, Wrong> {
                let Scalar::Text(text) = &scalar else { return Err(Self::other(&scalar)) };
                match text.as_str() {
                    $($word => Ok(Self($value)),)+
                    text => {
                        let hint = nearest(text, [$($word),+].into_iter()).map(|word| format!("did you mean \"{word}\"?"));
                        Err(Wrong { hint, ..Self::other(&scalar) })
                    }
                }
            }
        }
    };
}

/// What a rule does, as the file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Allow,
    Deny,
    Dispense,
}

choice!(
    /// What a rule does.
    ActionName(Verb), r#""allow", "deny" or "dispense""#,
    "allow" => Verb::Allow, "deny" => Verb::Deny, "dispense" => Verb::Dispense
);
choice!(
    /// A species.
    SpeciesName(Species), r#""cat" or "dog""#, "cat" => Species::Cat, "dog" => Species::Dog
);
choice!(
    /// Where the latch goes after a fault.
    SafeStateName(SafeState), r#""locked" or "unlocked""#, "locked" => SafeState::Locked, "unlocked" => SafeState::Unlocked
);
choice!(
    /// Who may leave.
    ExitName(Exit), r#""never" or "always""#, "never" => Exit::Never, "always" => Exit::Always
);
/// What moves the bolt, as the file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DriveKind {
    Hold,
    Pulse,
    Servo,
}

choice!(
    /// What moves the bolt.
    DriveName(DriveKind), r#""hold", "pulse" or "servo""#,
    "hold" => DriveKind::Hold, "pulse" => DriveKind::Pulse, "servo" => DriveKind::Servo
);
/// A display's controller, as the file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Ssd1306,
    St7789,
}

choice!(
    /// A display's controller.
    DisplayName(Controller), r#""ssd1306" or "st7789""#, "ssd1306" => Controller::Ssd1306, "st7789" => Controller::St7789
);
choice!(
    /// A line's active level.
    LevelName(Active), r#""high" or "low""#, "high" => Active::High, "low" => Active::Low
);
choice!(
    /// What pulls at an input.
    BiasName(Bias), r#""pull-up", "pull-down", "off" or "as-is""#,
    "pull-up" => Bias::PullUp, "pull-down" => Bias::PullDown, "off" => Bias::Off, "as-is" => Bias::AsIs
);
choice!(
    /// A place of the bolt.
    PositionName(Position), r#""locked" or "unlocked""#, "locked" => Position::Locked, "unlocked" => Position::Unlocked
);
choice!(
    /// What a button does.
    ButtonName(Press), r#""unlock" or "lock""#, "unlock" => Press::Unlock, "lock" => Press::Lock
);
choice!(
    /// A day of the week.
    Day(Weekday), r#"a day: "mon", "tue", "wed", "thu", "fri", "sat" or "sun""#,
    "mon" => Weekday::Monday, "tue" => Weekday::Tuesday, "wed" => Weekday::Wednesday, "thu" => Weekday::Thursday,
    "fri" => Weekday::Friday, "sat" => Weekday::Saturday, "sun" => Weekday::Sunday
);

/// A quota's period.
pub(super) struct PeriodName(pub(super) Period);

impl Value for PeriodName {
    const EXPECTED: &'static str = r#""day" or a duration with its unit, such as "6h""#;

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "pawgate-duration", "examples": ["day", "6h"] })
    }

    fn read(scalar: Scalar) -> Result<Self, Wrong> {
        match &scalar {
            Scalar::Text(text) if text == "day" => Ok(Self(Period::Day)),
            Scalar::Text(text) => span(text).map(|span| Self(Period::Last(span))).ok_or_else(|| Self::other(&scalar)),
            _ => Err(Self::other(&scalar)),
        }
    }
}

/// A value whose range a key limits.
pub(super) trait Limited: Value {
    /// What is compared.
    type Plain: Copy + PartialOrd;
    fn plain(&self) -> Self::Plain;
    /// For messages.
    fn show(plain: Self::Plain) -> String;
}

impl Limited for Span {
    type Plain = Duration;

    fn plain(&self) -> Duration {
        self.0
    }

    fn show(plain: Duration) -> String {
        format!("\"{}\"", show_duration(plain))
    }
}

impl Limited for Size {
    type Plain = u64;

    fn plain(&self) -> u64 {
        self.0
    }

    fn show(plain: u64) -> String {
        format!("\"{}\"", show_size(plain))
    }
}

impl Limited for Count {
    type Plain = u32;

    fn plain(&self) -> u32 {
        self.0
    }

    fn show(plain: u32) -> String {
        plain.to_string()
    }
}

impl Limited for Real {
    type Plain = f32;

    fn plain(&self) -> f32 {
        self.0
    }

    fn show(plain: f32) -> String {
        plain.to_string()
    }
}
