//! Unpacking: a compressed archive becomes a folder, whole or not at all.
//!
//! Only plain files and folders are made, only below the one folder that the archive is known to hold, and only in a new folder, in
//! which no link can lead elsewhere.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::part::settle;

/// The file in an unpacked folder that names the archive it came from.
const MARK: &str = ".unpacked-from";

/// What an archive may hold; the real ones stay far below.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes after decompression, headers included.
    pub bytes: u64,
    /// Files and folders.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 4 << 30, entries: 100_000 }
    }
}

/// Whether `folder` was unpacked from the archive with this fingerprint.
///
/// # Errors
/// When there is such a folder, but from elsewhere.
pub fn is_unpacked(folder: &Path, sha256: &str) -> anyhow::Result<bool> {
    if std::fs::read_to_string(folder.join(MARK)).is_ok_and(|mark| mark.trim() == sha256) {
        return Ok(true);
    }
    let path = folder.display();
    ensure!(
        !folder.exists(),
        "{path} exists, but was not unpacked from this archive: use it as it is, or move it away and run again"
    );
    Ok(false)
}

/// Unpacks an archive that holds one folder to `folder`, which has its name and does not exist.
///
/// # Errors
/// An archive that is damaged, too large, or holds anything but files and folders below the one expected. Nothing is left of it then.
pub fn unpack(archive: &Path, folder: &Path, sha256: &str, limits: Limits) -> anyhow::Result<()> {
    let parent = folder.parent().context("an archive's folder lies in another one")?;
    let name = folder.file_name().and_then(|n| n.to_str()).context("an archive's folder has a name")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let temporary = parent.join(format!(".unpacking-{name}"));
    // What a run left that was killed.
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary).with_context(|| format!("cannot remove {}", temporary.display()))?;
    }
    let result = unpack_into(archive, &temporary, name, limits).and_then(|()| {
        let whole = temporary.join(name);
        std::fs::write(whole.join(MARK), format!("{sha256}\n"))?;
        sync_tree(&whole)?;
        settle(&whole, folder)
    });
    // On success an empty folder; on failure nobody wants what is there.
    let _ = std::fs::remove_dir_all(&temporary);
    result.with_context(|| format!("cannot unpack {}", archive.display()))
}

fn unpack_into(archive: &Path, temporary: &Path, name: &str, limits: Limits) -> anyhow::Result<()> {
    std::fs::create_dir(temporary)?;
    std::fs::create_dir(temporary.join(name))?;
    let file = File::open(archive)?;
    let bar = super::bytes_bar(&format!("unpacking {name}"), file.metadata()?.len());
    let compressed = BufReader::new(bar.wrap_read(file));
    let mut tar = Archive::new(Limited { inner: MultiGzDecoder::new(compressed), left: limits.bytes });
    for (count, entry) in (1..).zip(tar.entries()?) {
        ensure!(count <= limits.entries, "it holds more than {} entries", limits.entries);
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        place(&mut entry, &path, temporary, name).with_context(|| format!("entry `{}`", path.display()))?;
    }
    // The end of the tar is not the end of the stream; behind it stands the checksum.
    io::copy(&mut tar.into_inner(), &mut io::sink())?;
    bar.finish_and_clear();
    Ok(())
}

/// Flushes all files of a folder: with one call where there is one, because thousands of calls take a minute on a slow disk.
fn sync_tree(folder: &Path) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(File::open(folder)?)?;
    #[cfg(not(target_os = "linux"))]
    for entry in walkdir::WalkDir::new(folder) {
        super::part::sync(entry?.path())?;
    }
    Ok(())
}

/// Makes the file or folder of an entry.
fn place(entry: &mut Entry<'_, impl Read>, path: &Path, temporary: &Path, name: &str) -> anyhow::Result<()> {
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader || is_apple_double(path) {
        return Ok(());
    }
    let path = inside(path, name)?;
    let target = temporary.join(&path);
    match kind {
        EntryType::Directory => std::fs::create_dir_all(target)?,
        EntryType::Regular | EntryType::Continuous => {
            ensure!(path.components().count() > 1, "a file stands where the folder `{name}` should");
            std::fs::create_dir_all(target.parent().context("no folder")?)?;
            io::copy(entry, &mut File::create(target)?)?;
        }
        EntryType::Symlink | EntryType::Link => bail!("is a link, and links are not unpacked"),
        other => bail!("is neither a file nor a folder ({other:?})"),
    }
    Ok(())
}

/// The path without `.` components, if it stays below `name`.
fn inside(path: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => bail!("leads out of the archive's folder"),
        }
    }
    ensure!(clean.starts_with(name), "does not lie in `{name}`");
    Ok(clean)
}

/// Whether the file holds what macOS adds to another one; the annotations have thousands.
fn is_apple_double(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"._"))
}

/// A reader that fails when there is more than is allowed.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| io::Error::other("it holds more bytes than allowed"))?;
        Ok(n)
    }
}
