//! Pictures of decisions: `snapshots/YYYY-MM-DD/HHMMSS-ID.jpg`, days and times in UTC.
//!
//! A file is complete when it has its name. Only names of this pattern are ever deleted, and no link is followed to find them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::sqlite::FileError;

/// Their folder, below the journal's.
const FOLDER: &str = "snapshots";
/// JPEG quality, 1…100.
const QUALITY: u8 = 85;
/// Pixels; larger pictures are made smaller.
const MAX_WIDTH: u32 = 640;
/// Pixels; bounds a picture that is taller than wide.
const MAX_HEIGHT: u32 = 640;
/// Ends the name of a picture that is being written.
const PARTIAL: &str = ".part";

/// A picture on the disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Snapshot {
    /// Number of its event.
    pub id: u64,
    /// When its event happened, to the second.
    pub time: Timestamp,
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// Writes the picture of event `id`; its path below the journal's folder, and its length.
pub(super) fn write(folder: &Path, id: u64, time: Timestamp, picture: &RgbImage) -> Result<(String, u64), FileError> {
    let (day, file) = name(id, time);
    let directory = folder.join(FOLDER).join(&day);
    fs::create_dir_all(&directory).map_err(|e| FileError::from_io(&directory, &e))?;
    let (target, partial) = (directory.join(&file), directory.join(format!("{file}{PARTIAL}")));
    let result = encode(&partial, picture).and_then(|bytes| {
        fs::rename(&partial, &target)?;
        Ok(bytes)
    });
    match result {
        Ok(bytes) => Ok((format!("{FOLDER}/{day}/{file}"), bytes)),
        Err(error) => {
            // What is left of it is of no use; where this fails too, the next start removes it.
            let _ = fs::remove_file(&partial);
            Err(FileError::from_io(&target, &error))
        }
    }
}

fn name(id: u64, time: Timestamp) -> (String, String) {
    let time = time.to_zoned_datetime(TimeZone::UTC);
    (time.strftime("%Y-%m-%d").to_string(), format!("{}-{id}.jpg", time.strftime("%H%M%S")))
}

/// Whole and on the disk before it gets its name.
fn encode(path: &Path, picture: &RgbImage) -> std::io::Result<u64> {
    let (width, height) = picture.dimensions();
    let scale = f64::min(1.0, f64::min(f64::from(MAX_WIDTH) / f64::from(width), f64::from(MAX_HEIGHT) / f64::from(height)));
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let small = (scale < 1.0).then(|| image::imageops::thumbnail(picture, scaled(width), scaled(height)));
    let mut out = BufWriter::new(File::create(path)?);
    let encoded = JpegEncoder::new_with_quality(&mut out, QUALITY).encode_image(small.as_ref().unwrap_or(picture));
    encoded.map_err(|error| match error {
        image::ImageError::IoError(error) => error,
        other => std::io::Error::other(other),
    })?;
    out.flush()?;
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_data()?;
    Ok(file.metadata()?.len())
}

/// All pictures, oldest event first.
pub(super) fn list(folder: &Path) -> Vec<Snapshot> {
    let mut found = vec![];
    for (day, directory) in days(folder) {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let parsed = entry.file_name().to_str().and_then(|n| parse(day, n));
            // Not `metadata`: that of a link's target would be another file's.
            if let (Some((id, time)), Ok(data)) = (parsed, path.symlink_metadata())
                && data.is_file()
            {
                found.push(Snapshot { id, time, path, bytes: data.len() });
            }
        }
    }
    found.sort();
    found
}

/// Removes what a crash left half written.
pub(super) fn remove_partial(folder: &Path) {
    for (day, directory) in days(folder) {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let ours = name.to_str().and_then(|n| n.strip_suffix(PARTIAL)).is_some_and(|n| parse(day, n).is_some());
            if ours && entry.path().symlink_metadata().is_ok_and(|data| data.is_file()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Deletes one, and its day's folder when that is empty.
pub(super) fn delete(snapshot: &Snapshot) -> Result<(), FileError> {
    match fs::remove_file(&snapshot.path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(FileError::from_io(&snapshot.path, &error)),
        _ => {}
    }
    if let Some(day) = snapshot.path.parent() {
        // Fails where another picture is left, as it should.
        let _ = fs::remove_dir(day);
    }
    Ok(())
}

fn days(folder: &Path) -> Vec<(Date, PathBuf)> {
    let root = folder.join(FOLDER);
    if !root.symlink_metadata().is_ok_and(|data| data.is_dir()) {
        return vec![];
    }
    let entries = fs::read_dir(&root).into_iter().flatten().flatten();
    let day = |entry: fs::DirEntry| {
        let day = entry.file_name().to_str().filter(|n| n.len() == 10)?.parse::<Date>().ok()?;
        let path = entry.path();
        path.symlink_metadata().is_ok_and(|data| data.is_dir()).then_some((day, path))
    };
    entries.filter_map(day).collect()
}

/// `HHMMSS-ID.jpg` → number and time.
fn parse(day: Date, name: &str) -> Option<(u64, Timestamp)> {
    let (clock, id) = name.strip_suffix(".jpg")?.split_once('-')?;
    if clock.len() != 6 || ![clock, id].iter().all(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| clock[range].parse::<i8>().ok();
    let time = Time::new(part(0..2)?, part(2..4)?, part(4..6)?, 0).ok()?;
    let time = day.to_datetime(time).to_zoned_datetime(TimeZone::UTC).ok()?.timestamp();
    Some((id.parse().ok()?, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]))
    }

    #[test]
    fn a_picture_is_found_under_the_name_that_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let time: Timestamp = "2026-01-02T23:04:05.9Z".parse().unwrap();
        let (name, bytes) = write(folder.path(), 17, time, &picture(1280, 720)).unwrap();
        assert_eq!(name, "snapshots/2026-01-02/230405-17.jpg");
        let path = folder.path().join(&name);
        let read = image::open(&path).unwrap();
        assert_eq!((read.width(), read.height()), (640, 360));
        let listed = list(folder.path());
        let second: Timestamp = "2026-01-02T23:04:05Z".parse().unwrap();
        assert_eq!(listed, [Snapshot { id: 17, time: second, path: path.clone(), bytes }]);
        delete(&listed[0]).unwrap();
        assert!(!path.exists() && !path.parent().unwrap().exists());
        delete(&listed[0]).unwrap();
    }

    #[test]
    fn small_and_odd_pictures_keep_their_shape() {
        let folder = tempfile::tempdir().unwrap();
        for (width, height, expected) in [(3, 2, (3, 2)), (100, 2000, (32, 640)), (9000, 1, (640, 1))] {
            let (name, _) = write(folder.path(), 1, Timestamp::UNIX_EPOCH, &picture(width, height)).unwrap();
            let read = image::open(folder.path().join(name)).unwrap();
            assert_eq!((read.width(), read.height()), expected);
        }
    }

    #[test]
    fn a_picture_without_pixels_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path(), 1, Timestamp::UNIX_EPOCH, &RgbImage::new(0, 0)).is_err());
        assert!(list(folder.path()).is_empty());
    }

    #[test]
    fn other_files_and_links_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let day = folder.path().join("snapshots/2026-01-02");
        fs::create_dir_all(&day).unwrap();
        fs::create_dir_all(folder.path().join("snapshots/holiday")).unwrap();
        fs::write(outside.path().join("120000-5.jpg"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("snapshots/2026-01-03")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("120000-5.jpg"), day.join("120000-6.jpg")).unwrap();
        for name in [
            "cat.jpg",
            "120000.jpg",
            "-1.jpg",
            "120000-.jpg",
            "250000-1.jpg",
            "120000-1.png",
            "1é000-1.jpg",
            "120000-x.jpg.part",
        ] {
            fs::write(day.join(name), "x").unwrap();
        }
        fs::write(folder.path().join("snapshots/holiday/120000-1.jpg"), "x").unwrap();
        fs::write(day.join("120000-7.jpg.part"), "x").unwrap();
        assert!(list(folder.path()).is_empty());
        remove_partial(folder.path());
        assert!(!day.join("120000-7.jpg.part").exists() && day.join("120000-x.jpg.part").exists());
        assert_eq!(fs::read_dir(&day).unwrap().count(), 9);
        assert!(outside.path().join("120000-5.jpg").exists());
    }
}
