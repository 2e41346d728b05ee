//! The record of what happened and why: events, snapshots, the feeder's ledger, retention.

pub mod record;

pub use record::{Answer, Kind, Record};

use std::path::PathBuf;
use std::time::Duration;

/// Where the journal lies and how much it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its folder.
    pub folder: PathBuf,
    /// Events and snapshots older than this are deleted.
    pub keep_for: Duration,
    /// Bytes of events and snapshots together; the oldest snapshots go first.
    pub max_bytes: u64,
    /// Bytes of the file system that stay free, whatever else is configured.
    pub reserve_bytes: u64,
    /// Whether decisions keep a picture.
    pub snapshots: bool,
}
