//! File systems of a test's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system of its own, where this user may mount one.
pub struct Mount(PathBuf);

impl Mount {
    pub fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(arguments).arg(at).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
