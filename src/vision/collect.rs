//! Which files are pictures: those that are named, and those that a folder holds.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// Names that a folder is searched for. A file that is named itself is read whatever its name.
pub const EXTENSIONS: [&str; 5] = ["bmp", "jpeg", "jpg", "png", "webp"];

/// A picture to read, or why there is none where the user pointed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The file, or the folder that has a problem.
    pub path: PathBuf,
    /// Why there is nothing to read.
    pub problem: Option<String>,
}

impl Input {
    /// The path as people read it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Files as they are named; folders searched recursively, in the order of their names.
pub fn collect(paths: &[PathBuf]) -> Vec<Input> {
    let mut inputs = Vec::new();
    for path in paths {
        if !path.is_dir() {
            inputs.push(Input { path: path.clone(), problem: None });
            continue;
        }
        let before = inputs.len();
        for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
            match entry {
                Ok(entry) if entry.file_type().is_file() && is_picture_name(entry.path()) => {
                    inputs.push(Input { path: entry.into_path(), problem: None });
                }
                Ok(entry) => log::debug!("{}: not looked at", entry.path().display()),
                Err(error) => {
                    let path = error.path().unwrap_or(path).to_path_buf();
                    inputs.push(Input { path, problem: Some(error.to_string()) });
                }
            }
        }
        if inputs.len() == before {
            let problem = format!("no pictures in this folder (looked for {})", EXTENSIONS.join(", "));
            inputs.push(Input { path: path.clone(), problem: Some(problem) });
        }
    }
    inputs
}

/// Whether a folder's file of this name is taken for a picture.
pub fn is_picture_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}
