//! What `pawgate replay --each --json` printed of pictures that may not enter, for the report.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::Door;

/// One line; what else it says is not needed.
#[derive(Deserialize)]
struct Event {
    file: String,
    opened: bool,
}

/// Counts events and openings by folder.
///
/// # Errors
/// Names the first line that is no event; there must be one at least.
pub fn read(lines: &str) -> anyhow::Result<Vec<Door>> {
    let mut folders: BTreeMap<String, Door> = BTreeMap::new();
    for (number, line) in (1..).zip(lines.lines()) {
        let event: Event = serde_json::from_str(line)
            .with_context(|| format!("line {number} is no event of `pawgate replay --each --json`: {line}"))?;
        let folder = Path::new(&event.file).parent().and_then(Path::file_name);
        let name = folder.map_or_else(|| "pictures".to_owned(), |name| name.to_string_lossy().into_owned());
        let door = folders.entry(name.clone()).or_insert(Door { name, ..Door::default() });
        door.events += 1;
        door.openings += u64::from(event.opened);
    }
    ensure!(!folders.is_empty(), "there are no events in it");
    Ok(folders.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_folder() {
        let lines = [
            r#"{"file":"neg/raccoon/1.jpg","opened":false,"decision":"refuse","rule":null,"reason":"x","seconds":1.5}"#,
            r#"{"file":"neg/bird/2.jpg","opened":false,"decision":null,"rule":null,"reason":null,"seconds":null}"#,
            r#"{"file":"other/raccoon/3.jpg","opened":true,"decision":"allow","rule":"dogs","reason":"y","seconds":0.4}"#,
            r#"{"file":"4.jpg","opened":false}"#,
        ];
        let doors = read(&lines.join("\n")).unwrap();
        let found: Vec<_> = doors.iter().map(|door| (door.name.as_str(), door.events, door.openings)).collect();
        assert_eq!(found, [("bird", 1, 0), ("pictures", 1, 0), ("raccoon", 2, 1)]);
    }

    #[test]
    fn what_is_no_event_is_named() {
        assert!(read("").unwrap_err().to_string().contains("no events"));
        let error = format!("{:#}", read("{\"file\":\"a\",\"opened\":true}\nfolder  events").unwrap_err());
        assert!(error.contains("line 2") && error.contains("replay --each --json"), "{error}");
    }
}
