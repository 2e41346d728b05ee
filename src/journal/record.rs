//! One event, as the journal keeps it, as `--json` prints it, and as `why` explains it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// What the rules said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The door may open, or the feeder gives.
    Allow,
    /// Neither.
    Deny,
}

/// One event. Absent fields do not apply to its kind.
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub species: Option<(String, f32)>,
    /// The likeliest breed and its probability, 0…1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breed: Option<(String, f32)>,
    /// The nearest enrolled individual within its radius, with the similarity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
