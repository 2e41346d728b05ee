//! Files that are not complete yet: `NAME.part` beside the place of `NAME`, and what is known about where it came from.
//!
//! A file has its name only when its fingerprint was right and it is on the disk. Nothing here deletes bytes whose fingerprint is
//! wrong: they are moved to `NAME.wrong`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::write_whole;

/// Where the bytes of a part came from.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The address that was asked for.
    pub url: String,
    /// What tells the server that the file is still the same: a strong entity tag, or else the time of its last change.
    pub validator: Option<String>,
}

/// A file on its way.
#[derive(Debug)]
pub struct Part {
    target: PathBuf,
    path: PathBuf,
    origin: PathBuf,
}

impl Part {
    /// The part of the file `name` in `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let beside = |suffix: &str| folder.join(format!("{name}{suffix}"));
        Self { target: folder.join(name), path: beside(".part"), origin: beside(".part.json") }
    }

    /// Where the bytes are until they are complete.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes are there.
    pub fn len(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    /// Where the bytes came from, as far as it is known.
    pub fn origin(&self) -> Origin {
        let read = || serde_json::from_slice(&std::fs::read(&self.origin).ok()?).ok();
        read().unwrap_or_default()
    }

    /// Empties the part and notes where the next bytes come from.
    ///
    /// # Errors
    /// Names the path.
    pub fn begin(&self, origin: &Origin) -> anyhow::Result<File> {
        // The old bytes go before the new origin is noted: a tag must never stand beside bytes that it does not belong to.
        let file = File::options().create(true).write(true).truncate(true).open(&self.path);
        let file = file.with_context(|| format!("cannot write {}", self.path.display()))?;
        write_whole(&self.origin, &serde_json::to_vec(origin)?)?;
        Ok(file)
    }

    /// Opens the part to add to it.
    ///
    /// # Errors
    /// Names the path.
    pub fn resume(&self, origin: &Origin) -> anyhow::Result<File> {
        write_whole(&self.origin, &serde_json::to_vec(origin)?)?;
        File::options().append(true).open(&self.path).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Compares the fingerprint. If it is right, the file gets its name, else the bytes are moved to `NAME.wrong` and the fingerprint
    /// that was found and that path are returned.
    ///
    /// # Errors
    /// Names the path.
    pub fn finish(&self, sha256: &str) -> anyhow::Result<Result<(), (String, PathBuf)>> {
        let found = fingerprint(&self.path)?;
        if found == sha256 {
            settle(&self.path, &self.target)?;
            self.forget();
            return Ok(Ok(()));
        }
        let mut wrong = self.target.clone().into_os_string();
        wrong.push(".wrong");
        let wrong = PathBuf::from(wrong);
        std::fs::rename(&self.path, &wrong).with_context(|| format!("cannot move {} aside", self.path.display()))?;
        self.forget();
        Ok(Err((found, wrong)))
    }

    /// A note without a part says nothing, so it does no harm if it stays.
    fn forget(&self) {
        let _ = std::fs::remove_file(&self.origin);
    }
}

/// SHA-256 of a file's content in hexadecimal.
///
/// # Errors
/// Names the path.
pub fn fingerprint(path: &Path) -> anyhow::Result<String> {
    let hash = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()),
                n => hasher.update(&buffer[..n]),
            }
        }
    };
    hash().with_context(|| format!("cannot read {}", path.display()))
}

/// Brings a file or folder to the disk and gives it its name.
///
/// # Errors
/// Names the path.
pub fn settle(from: &Path, to: &Path) -> anyhow::Result<()> {
    let settle = || -> io::Result<()> {
        sync(from)?;
        std::fs::rename(from, to)?;
        to.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), sync)
    };
    settle().with_context(|| format!("cannot bring {} to the disk", to.display()))
}

/// Flushes a file or a folder's list of names, where that can be done through a handle for reading.
///
/// # Errors
/// When it cannot be opened or flushed.
pub fn sync(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
