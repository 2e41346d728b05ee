//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// Most problems that one report lists.
pub(super) const MAX_PROBLEMS: usize = 25;
/// Most characters of a line that a report shows.
const MAX_SHOWN: usize = 100;
/// Longest word that [`nearest`] looks at, in characters.
const MAX_WORD: usize = 64;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}: {why}; {hint}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The file was read, and something in it is wrong.
    #[error(transparent)]
    Wrong(#[from] Report),
}

impl ConfigError {
    /// What is wrong in the file; nothing when it could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Wrong(report) => report.problems(),
        }
    }
}

/// Everything that is wrong in one file, at least one problem, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Report {
    path: PathBuf,
    problems: Vec<Problem>,
}

impl Report {
    /// What is wrong, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key that it is about, with its table's name (`door.open_for`); empty where it is about the whole file.
    pub key: String,
    /// Where it stands; none where something is missing in the whole file.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Number of the line, from 1.
    pub line: usize,
    /// Number of the character in the line, from 1; one beyond the last where something is missing at the end.
    pub column: usize,
    /// The line, or the part of a long one around the column; without control characters.
    pub excerpt: String,
    /// Characters of the excerpt before the marked ones.
    pub before: usize,
    /// How many characters are marked, at least 1.
    pub width: usize,
}

impl Place {
    /// The place of `span` (bytes) in `text`. A span beyond the end is the end.
    fn new(text: &str, span: &Range<usize>) -> Self {
        let start = floor(text, span.start);
        // What is missing after the last line break is missing at the end of the last line.
        let start = if start == text.len() { text.trim_end_matches(['\n', '\r']).len().min(start) } else { start };
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[..begin].matches('\n').count() + 1;
        let content = text[begin..].split('\n').next().unwrap_or_default();
        let content = content.strip_suffix('\r').unwrap_or(content);
        let column = text[begin..start].chars().count().min(content.chars().count());
        let marked =
            text[start..floor(text, span.end).max(start)].split(['\n', '\r']).next().unwrap_or_default().chars().count();
        let skipped = if column > MAX_SHOWN * 3 / 4 { column - MAX_SHOWN / 2 } else { 0 };
        // One character for each, so that the mark stands below what it marks.
        let visible = |c: char| if c.is_control() || c == '\u{feff}' { ' ' } else { c };
        let excerpt: String = content.chars().skip(skipped).take(MAX_SHOWN).map(visible).collect();
        let before = column - skipped;
        let width = marked.clamp(1, excerpt.chars().count().saturating_sub(before).max(1));
        Self { line, column: column + 1, excerpt, before, width }
    }
}

/// The last character boundary not after `index`.
fn floor(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f, "\n")?;
            }
            problem.write(f, &self.path)?;
        }
        Ok(())
    }
}

impl Problem {
    fn write(&self, f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
        write!(f, "{}:", path.display())?;
        if let Some(place) = &self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.what)?;
        let mut margin = String::new();
        if let Some(place) = &self.place {
            let line = place.line.to_string();
            margin = " ".repeat(line.len());
            write!(
                f,
                "\n{margin} |\n{line} | {}\n{margin} | {}{}",
                place.excerpt,
                " ".repeat(place.before),
                "^".repeat(place.width)
            )?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n{margin} = {hint}"),
            None => Ok(()),
        }
    }
}

/// Problems as they are found, in one text.
pub(super) struct Problems {
    path: PathBuf,
    text: Arc<str>,
    found: Vec<(usize, Problem)>,
    /// Tables in which something was wrong, so that what is missing there, or does not fit together, is no news.
    broken: Vec<String>,
}

impl Problems {
    pub(super) fn new(path: &Path, text: Arc<str>) -> Self {
        Self { path: path.to_owned(), text, found: vec![], broken: vec![] }
    }

    pub(super) fn push(&mut self, key: &str, span: Option<Range<usize>>, what: impl Into<String>, hint: Option<String>) {
        // Finding a place takes a walk over the text: a hostile file must not have it done a hundred thousand times.
        if self.full() {
            return;
        }
        let order = span.as_ref().map_or(usize::MAX, |span| span.start);
        let place = span.map(|span| Place::new(&self.text, &span));
        let key = readable(key);
        self.found.push((order, Problem { key, place, what: what.into(), hint }));
    }

    /// Whether no more are listed.
    pub(super) fn full(&self) -> bool {
        self.found.len() >= MAX_PROBLEMS
    }

    pub(super) fn mark_broken(&mut self, table: String) {
        self.broken.push(table);
    }

    /// Whether `table`, or a table inside it, has lost something. The file itself (an empty name) only when a whole table went.
    pub(super) fn is_broken(&self, table: &str) -> bool {
        self.broken.iter().any(|broken| if table.is_empty() { broken.is_empty() } else { broken.starts_with(table) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What was found, in the order of the file.
    pub(super) fn report(self) -> Report {
        let mut found = self.found;
        found.sort_by_key(|(order, _)| *order);
        Report { path: self.path, problems: found.into_iter().map(|(_, problem)| problem).collect() }
    }
}

/// A path without the numbers of rules and windows: the line says which.
fn readable(path: &str) -> String {
    path.split('.').filter(|part| !part.is_empty() && part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".")
}

/// Stands between what is wrong and the hint in the one string that serde's errors carry.
const SEPARATOR: char = '\u{1}';

/// A message of a `Deserialize` implementation, with a hint.
pub(super) fn complaint(what: &str, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{what}{SEPARATOR}{hint}"),
        None => what.to_owned(),
    }
}

/// Takes a message of serde or of [`complaint`] apart.
pub(super) fn dissect(message: &str, key: &str) -> (String, Option<String>) {
    if message.starts_with("unknown field") {
        let name = key.rsplit('.').next().unwrap_or(key);
        // Everything between backquotes behind the unknown name.
        let known: Vec<_> = message.rsplit(", expected").next().unwrap_or_default().split('`').skip(1).step_by(2).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("what may stand here: {}", known.join(", ")),
        };
        return ("this key is not known".into(), Some(hint));
    }
    if let Some((what, hint)) = message.split_once(SEPARATOR) {
        return (what.to_owned(), Some(hint.to_owned()));
    }
    match message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => (format!("expected {expected}, found {}", found.replace('`', "")), None),
        None => (message.to_owned(), None),
    }
}

/// The known word that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |word: &str| word.to_lowercase().replace([' ', '-'], "_");
    let length = word.chars().count();
    if length == 0 || length > MAX_WORD {
        return None;
    }
    let word = fold(word);
    let best = known.map(|candidate| (distance(&word, &fold(candidate)), candidate)).min_by_key(|(distance, _)| *distance)?;
    (best.0 <= (length / 3).max(1)).then_some(best.1)
}

/// Characters to insert, delete or replace, or neighbours to swap, to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swapped = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(swapped)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_one_slip_away_are_found() {
        let known = ["open_for", "max_open", "min_interval", "travel"];
        for (word, expected) in [
            ("opne_for", Some("open_for")),
            ("openfor", Some("open_for")),
            ("Open-For", Some("open_for")),
            ("traval", Some("travel")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), known.into_iter()), None);
    }

    #[test]
    fn places_count_characters_and_never_leave_the_file() {
        let text = "a = 1\r\nname = \"ä\" x\n";
        let x = text.find('x').unwrap();
        let place = Place::new(text, &(x..x + 1));
        assert_eq!(
            (place.line, place.column, place.excerpt.as_str(), place.before, place.width),
            (2, 12, "name = \"ä\" x", 11, 1)
        );
        let end = Place::new(text, &(text.len()..text.len() + 9));
        assert_eq!((end.line, end.column, end.width), (2, 13, 1));
        assert_eq!(Place::new("", &(0..0)).line, 1);
        let a = Place::new(text, &(0..usize::MAX));
        assert_eq!((a.line, a.column, a.width), (1, 1, 5), "a mark ends with its line");
    }

    #[test]
    fn a_long_line_is_shown_in_part_and_without_control_characters() {
        let text = format!("{}\u{1b}[31m!{}", "x".repeat(5000), "y".repeat(5000));
        let at = text.find('!').unwrap();
        let place = Place::new(&text, &(at..at + 1));
        assert_eq!(place.column, 5006);
        assert_eq!(place.excerpt.chars().count(), MAX_SHOWN);
        assert_eq!(place.excerpt.chars().nth(place.before), Some('!'));
        assert!(!place.excerpt.contains('\u{1b}'));
    }
}
