//! `fetch`: the files that the recipe starts from, with their fingerprints checked.
//!
//! | module | knows |
//! |---|---|
//! | [`catalogue`] | what there is |
//! | [`download`] | HTTP |
//! | [`part`] | files that are not complete yet |
//! | [`archive`] | unpacking |
//!
//! A file has its name, and an archive's folder is there, only when they are complete and right. What is there already is not
//! fetched again.

mod archive;
mod catalogue;
mod download;
mod part;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use archive::Limits;
use catalogue::Item;
use download::{Client, Pace, Wanted};
use part::{Part, fingerprint, settle};

/// Names mirrors when `--mirror` does not.
const MIRROR_VARIABLE: &str = "PAWGATE_FETCH_MIRROR";

/// Where the Oxford-IIIT Pet archives are unpacked, below the folder of the files.
const PETS: &str = "oxford-pets";

/// What to fetch, from where and to where.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to fetch: names from `--list`, or `weights`, `pets`, `all`.
    #[arg(value_name = "WHAT", default_value = "all")]
    what: Vec<String>,
    /// Where the files go; archives are unpacked to `oxford-pets` in it.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// Show what there is, with sizes and licences, and fetch nothing.
    #[arg(long)]
    list: bool,
    /// Ask this address, with the file's name added, before the official ones. May be given several times. Without it, the
    /// environment variable PAWGATE_FETCH_MIRROR names mirrors, separated by spaces.
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
    /// Take the files from this folder instead of the network; their fingerprints are checked all the same.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["mirror", "proxy"])]
    from: Option<PathBuf>,
    /// Go through this proxy (http, https, socks4, socks5). Without it, ALL_PROXY, HTTPS_PROXY and HTTP_PROXY count, and NO_PROXY.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Give up a connection that brings no byte for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Give up a source after so many failures in a row.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
}

/// Where files come from.
#[derive(Debug)]
enum Supply {
    /// A folder that has them already.
    Folder(PathBuf),
    /// Servers, mirrors first.
    Network { client: Client, mirrors: Vec<String> },
}

/// What was done about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was there and right.
    Present,
    /// It came.
    Fetched,
}

/// Runs the subcommand.
///
/// # Errors
/// An unknown name, a folder that cannot be written or another run in it; after all was tried, what could not be fetched and why.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.list {
        println!("{}", listing());
        return Ok(());
    }
    let items = catalogue::select(&args.what)?;
    let out = args.out.as_deref().context("--out is missing: say where the files go")?;
    fetch_all(&items, &supply(args)?, out)
}

fn supply(args: &Args) -> anyhow::Result<Supply> {
    if let Some(folder) = &args.from {
        ensure!(folder.is_dir(), "--from: there is no folder {}", folder.display());
        return Ok(Supply::Folder(folder.clone()));
    }
    let pace = Pace { silence: Duration::from_secs(args.timeout), tries: args.tries, ..Pace::default() };
    let client = Client::new(pace, args.proxy.as_deref())?;
    Ok(Supply::Network { client, mirrors: mirrors(&args.mirror, std::env::var(MIRROR_VARIABLE).ok().as_deref())? })
}

/// The mirrors of the command line, or else those of the environment.
fn mirrors(flags: &[String], variable: Option<&str>) -> anyhow::Result<Vec<String>> {
    let named = || variable.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let mirrors: Vec<String> = if flags.is_empty() { named() } else { flags.to_vec() };
    for mirror in &mirrors {
        ensure!(
            mirror.starts_with("https://") || mirror.starts_with("http://"),
            "`{mirror}` is not the address of a mirror: it begins with neither https:// nor http://"
        );
    }
    Ok(mirrors)
}

/// Fetches the items one after the other; one that fails does not keep the others from being tried.
fn fetch_all(items: &[Item], supply: &Supply, out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let _lock = lock(out)?;
    let mut failures = Vec::new();
    for item in items {
        match fetch(item, supply, out) {
            Ok(Outcome::Present) => log::info!("{}: nothing to do", item.name),
            Ok(Outcome::Fetched) => log::info!("{}: done", item.name),
            Err(error) => {
                let failure = format!("{}: {error:#}", item.name);
                log::error!("{failure}");
                failures.push(failure);
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{} of {} failed: {}", failures.len(), items.len(), failures.join("; ")) }
}

/// Keeps a second run from writing to the same parts. Where the file system has no locks, nothing does.
fn lock(out: &Path) -> anyhow::Result<File> {
    let path = out.join(".fetch.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => bail!("another run fetches to {}: wait for it, or name another --out", out.display()),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

fn fetch(item: &Item, supply: &Supply, out: &Path) -> anyhow::Result<Outcome> {
    let folder = item.folder.map(|folder| out.join(PETS).join(folder));
    if let Some(folder) = &folder
        && archive::is_unpacked(folder, item.sha256)?
    {
        return Ok(Outcome::Present);
    }
    let target = out.join(item.file);
    let mut outcome = Outcome::Present;
    if !is_right(&target, item.sha256)? {
        outcome = Outcome::Fetched;
        match supply {
            Supply::Folder(from) => copy(item, from, &target)?,
            Supply::Network { client, mirrors } => {
                let wanted = Wanted { file: item.file, size: item.size, sha256: item.sha256 };
                client.fetch(&wanted, &sources(item, mirrors), &Part::new(out, item.file))?;
            }
        }
    }
    if let Some(folder) = &folder {
        outcome = Outcome::Fetched;
        archive::unpack(&target, folder, item.sha256, Limits::default())?;
        log::info!("unpacked to {}; {} is not needed any more", folder.display(), target.display());
    }
    Ok(outcome)
}

fn sources(item: &Item, mirrors: &[String]) -> Vec<String> {
    let at_mirror = |mirror: &String| format!("{}/{}", mirror.trim_end_matches('/'), item.file);
    mirrors.iter().map(at_mirror).chain(item.origins.iter().map(|&origin| origin.to_owned())).collect()
}

/// Whether the file is there already.
///
/// # Errors
/// When something else has its name.
fn is_right(target: &Path, sha256: &str) -> anyhow::Result<bool> {
    if !target.exists() {
        return Ok(false);
    }
    let found = fingerprint(target)?;
    let path = target.display();
    ensure!(found == sha256, "{path} has SHA-256 {found} instead of {sha256}: move it away and run again");
    Ok(true)
}

/// Copies a file from a folder; what is compared is the copy.
fn copy(item: &Item, from: &Path, target: &Path) -> anyhow::Result<()> {
    let source = from.join(item.file);
    let path = source.display();
    ensure!(source.is_file(), "{path} is not there: put {} into the folder, or leave --from out", item.file);
    let folder = target.parent().context("a file lies in a folder")?;
    let copy = tempfile::Builder::new().prefix(".partial-").tempfile_in(folder)?.into_temp_path();
    std::fs::copy(&source, &copy).with_context(|| format!("cannot copy {path} to {}", folder.display()))?;
    let (found, expected) = (fingerprint(&copy)?, item.sha256);
    ensure!(found == expected, "{path} has SHA-256 {found} instead of {expected}: it was left as it is, replace it");
    settle(&copy, target)
}

/// A bar over bytes.
fn bytes_bar(what: &str, len: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:<34} {wide_bar} {bytes}/{total_bytes}  {eta} left").expect("a valid template");
    let bar = crate::progress::bar(what.to_owned(), 0).with_style(style);
    bar.set_length(len);
    bar
}

/// A table of everything there is.
fn listing() -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["name", "file", "MB", "licence"]);
    for item in catalogue::ITEMS {
        table.add_row([item.name, item.file, &format!("{:.1}", item.size as f64 / 1e6), item.licence]);
    }
    table.column_iter_mut().skip(2).take(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.trim_fmt()
}
