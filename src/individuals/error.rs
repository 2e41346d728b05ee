//! Why enrolled animals cannot be read, changed or written.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::file::FORMAT_VERSION;

/// Whatever is wrong, nobody is recognised.
#[derive(Debug, Error)]
pub enum IndividualsError {
    /// The operating system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// There is no file yet.
    #[error("there are no enrolled animals: {} does not exist (`pawgate enroll NAME PICTURES…` makes it)", .0.display())]
    Missing(PathBuf),
    /// Some other kind of file.
    #[error("{} holds no enrolled animals ({why}): name another file, or move it away and enrol again", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was expected.
        why: String,
    },
    /// Cut, or changed by something other than pawgate.
    #[error("{} is damaged ({why}): put a copy of it back, or move it away and enrol again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What contradicts what.
        why: String,
    },
    /// Written by a newer pawgate.
    #[error("{} has format version {found}, this program reads {FORMAT_VERSION}: update pawgate", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// Written by an older pawgate that learnt in another way.
    #[error(
        "{} has format version {found}, this program reads {FORMAT_VERSION}: move it away and enrol again with the pictures",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// Features of one model say nothing about those of another.
    #[error(
        "the animals in {} were enrolled with another model ({}…; this one is {}…): run the model they were enrolled with, \
         or move the file away and enrol again with the pictures; until then nobody is recognised",
        path.display(), short(.enrolled), short(.running)
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// SHA-256 of the model that made the features, hexadecimal.
        enrolled: String,
        /// SHA-256 of the model that runs, hexadecimal.
        running: String,
    },
    /// Another process is changing the file.
    #[error("another pawgate is changing the files in {}: wait until it has ended, and try again", .0.display())]
    Busy(PathBuf),
    /// A name that rules, journal and tables could not carry.
    #[error("`{name}` cannot be the name of an animal: {why}")]
    Name {
        /// What was given.
        name: String,
        /// What a name must be.
        why: &'static str,
    },
    /// Nobody of this name.
    #[error("no animal `{name}` is enrolled{}", enrolled_names(.known))]
    Unknown {
        /// What was given.
        name: String,
        /// Who is enrolled.
        known: Vec<String>,
    },
    /// An embedding that nothing can be learnt from.
    #[error("{what}: {why}; the model file may be damaged")]
    Embedding {
        /// Whose it is.
        what: String,
        /// What is wrong with it.
        why: FeatureError,
    },
    /// More pictures than are compared with each other in reasonable time.
    #[error("{count} pictures are more than the limit of {limit}: choose the ones that are like the door's camera sees it")]
    TooMany {
        /// Pictures given and stored.
        count: usize,
        /// The most there may be.
        limit: usize,
    },
}

impl IndividualsError {
    pub(super) fn io(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { what, path: path.to_path_buf(), source }
    }
}

/// Why an embedding has no direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FeatureError {
    /// Not as long as the model's.
    #[error("an embedding of {found} numbers where {expected} are expected")]
    Length {
        /// Numbers given.
        found: usize,
        /// The model's.
        expected: usize,
    },
    /// NaN or infinite, or too large to be squared.
    #[error("an embedding with a number that is not finite")]
    NotFinite,
    /// All of a part is zero: it points nowhere.
    #[error("an embedding that is zero all over")]
    Zero,
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

fn enrolled_names(names: &[String]) -> String {
    if names.is_empty() { " (nobody is)".into() } else { format!(" (there are: {})", names.join(", ")) }
}
