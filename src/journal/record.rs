//! One event, as the journal keeps it, as `--json` prints it, and as `why` explains it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// pawgate began to run.
    Start,
    /// Something began to move in the picture.
    Motion,
    /// The picture came to rest.
    Still,
    /// The rules decided.
    Decision,
    /// The door changed its state.
    Door,
    /// The feeder changed its state.
    Feeder,
    /// Something failed.
    Fault,
    /// What had failed works again.
    Recovered,
    /// The configuration was read again, or refused.
    Config,
    /// pawgate ended.
    Stop,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::Motion,
        Self::Still,
        Self::Decision,
        Self::Door,
        Self::Feeder,
        Self::Fault,
        Self::Recovered,
        Self::Config,
        Self::Stop,
    ];

    /// Its name in JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Motion => "motion",
            Self::Still => "still",
            Self::Decision => "decision",
            Self::Door => "door",
            Self::Feeder => "feeder",
            Self::Fault => "fault",
            Self::Recovered => "recovered",
            Self::Config => "config",
            Self::Stop => "stop",
        }
    }

    /// Whether it is given up first where there is no room for everything.
    pub const fn is_minor(self) -> bool {
        matches!(self, Self::Motion | Self::Still)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no event `{name}`; the events are {names}")
        })
    }
}

/// What the rules said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The door may open, or the feeder gives.
    Allow,
    /// Neither.
    Deny,
}

impl Answer {
    /// Its name in JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Answer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Allow, Self::Deny]
            .into_iter()
            .find(|answer| answer.name() == name)
            .ok_or_else(|| format!("there is no decision `{name}`; it is allow or deny"))
    }
}

/// One event. Absent fields do not apply to its kind. A number that is not finite is `null` in JSON and NaN when it is read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the event, ascending; what `pawgate why` takes.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// What about.
    pub event: Kind,
    /// What the rules said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Answer>,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Portions that the decision gives; absent where there is no feeder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portions: Option<u32>,
    /// State of the door or feeder afterwards: `locked`, `open`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Who was seen, as far as the frames agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub animal: Option<Animal>,
    /// The frames that were weighed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
    /// The thresholds in force, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_nan::named_list")]
    pub thresholds: Vec<(String, f32)>,
    /// The rules that were looked at before, each with why it did not match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<(String, String)>,
    /// From the capture of the frame that completed the vote to the decision, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// File name of the snapshot, below the journal's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

/// Who was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Animal {
    /// `cat` or `dog`.
    pub species: String,
    /// The breed, where enough frames agree on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breed: Option<String>,
    /// The enrolled individual, where enough frames agree on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub individual: Option<String>,
}

/// One frame's evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Number of the frame since the start of the camera.
    pub frame: u64,
    /// Capture time before the event, in milliseconds.
    #[serde(deserialize_with = "null_is_nan::number")]
    pub before_ms: f64,
    /// `animal`, `no animal` or `unknown`.
    pub verdict: String,
    /// Why unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Probability that there is a pet, 0…1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pet: Option<f32>,
    /// The likeliest species and its probability, 0…1.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "null_is_nan::named")]
    pub species: Option<(String, f32)>,
    /// The likeliest breed and its probability, 0…1.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "null_is_nan::named")]
    pub breed: Option<(String, f32)>,
    /// The nearest enrolled individual within its radius, with the similarity.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "null_is_nan::named")]
    pub individual: Option<(String, f32)>,
    /// Whether the frame agrees with what was decided.
    pub agrees: bool,
}

impl Record {
    /// An event without details; the journal gives the number.
    pub fn new(event: Kind, time: Timestamp) -> Self {
        Self {
            id: 0,
            time,
            event,
            decision: None,
            rule: None,
            reason: None,
            portions: None,
            state: None,
            animal: None,
            frames: vec![],
            thresholds: vec![],
            passed_over: vec![],
            latency_ms: None,
            snapshot: None,
        }
    }
}

/// JSON knows no NaN; an event that holds one must still be read.
mod null_is_nan {
    use serde::{Deserialize, Deserializer};

    pub(super) fn number<'de, D: Deserializer<'de>>(source: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(source)?.unwrap_or(f64::NAN))
    }

    pub(super) fn named<'de, D: Deserializer<'de>>(source: D) -> Result<Option<(String, f32)>, D::Error> {
        let pair: Option<(String, Option<f32>)> = Option::deserialize(source)?;
        Ok(pair.map(|(name, value)| (name, value.unwrap_or(f32::NAN))))
    }

    pub(super) fn named_list<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<(String, f32)>, D::Error> {
        let pairs: Vec<(String, Option<f32>)> = Vec::deserialize(source)?;
        Ok(pairs.into_iter().map(|(name, value)| (name, value.unwrap_or(f32::NAN))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        for answer in [Answer::Allow, Answer::Deny] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), format!("\"{answer}\""));
            assert_eq!(answer.name().parse(), Ok(answer));
        }
        assert!("doors".parse::<Kind>().unwrap_err().contains("motion, still, decision"));
    }

    #[test]
    fn a_record_with_nan_is_read_again() {
        let mut record = Record::new(Kind::Decision, Timestamp::UNIX_EPOCH);
        record.thresholds = vec![("pet".into(), f32::NAN), ("species".into(), 0.8)];
        record.frames = vec![Frame {
            frame: 1,
            before_ms: f64::NAN,
            verdict: "animal".into(),
            reason: None,
            pet: Some(f32::NAN),
            species: Some(("cat".into(), f32::INFINITY)),
            breed: Some(("Bengal".into(), 0.5)),
            individual: None,
            agrees: true,
        }];
        let read: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert!(read.thresholds[0].1.is_nan() && read.frames[0].before_ms.is_nan());
        assert!(read.frames[0].species.as_ref().unwrap().1.is_nan());
        assert_eq!(read.frames[0].breed, record.frames[0].breed);
        assert_eq!(read.thresholds[1], record.thresholds[1]);
    }
}
