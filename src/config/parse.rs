//! From text to the raw shape, with everything that is wrong with single keys and values.
//!
//! serde stops at the first error. Here what was wrong is cut out of the parsed file and the rest is read again, so that one
//! report names everything. A file with a syntax error is not read any further: what a parser makes of the rest is guesswork.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{Problems, dissect};
use super::raw::Raw;

/// Reads `text`; nothing when it is not TOML, or beyond help. What is wrong is in `problems`.
pub(super) fn parse(text: &str, problems: &mut Problems) -> Option<Raw> {
    let mut tree = match DeTable::parse(text) {
        Ok(tree) => tree,
        Err(error) => {
            let hint = "text stands in quotes; docs/configuration.md shows how keys and values are written".to_owned();
            problems.push("", error.span(), format!("this is not TOML: {}", one_line(error.message())), Some(hint));
            return None;
        }
    };
    while !problems.full() {
        let error = match Raw::deserialize(Deserializer::from(tree.clone())) {
            Ok(raw) => return Some(raw),
            Err(error) => error,
        };
        let mut path = vec![];
        let found = error.span().is_some_and(|span| cut(tree.get_mut(), &span, &mut path));
        let key = path.join(".");
        let (what, hint) = dissect(error.message(), &key);
        problems.push(&one_line(&key), error.span(), one_line(&what), hint);
        path.pop();
        problems.mark_broken(path.iter().map(|part| format!("{part}.")).collect());
        if !found {
            return None;
        }
    }
    None
}

/// Removes the innermost entry that `span` lies in and sets `path` to the keys that lead to it; numbers stand for tables in lists.
fn cut(table: &mut DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    for (key, value) in table.iter_mut() {
        path.push(key.get_ref().to_string());
        if cut_inside(value.get_mut(), span, path) {
            return true;
        }
        path.pop();
    }
    let covers = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let hit = table.iter().find(|(key, value)| covers(key.span()) || covers(value.span()));
    let Some(key) = hit.map(|(key, _)| key.get_ref().to_string()) else { return false };
    table.remove(key.as_str());
    path.push(key);
    true
}

fn cut_inside(value: &mut DeValue<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    match value {
        DeValue::Table(table) => cut(table, span, path),
        DeValue::Array(list) => list.iter_mut().map(Spanned::get_mut).enumerate().any(|(index, value)| {
            path.push(index.to_string());
            let found = cut_inside(value, span, path);
            if !found {
                path.pop();
            }
            found
        }),
        _ => false,
    }
}

/// A message that cannot break out of its line: keys may hold anything.
fn one_line(text: &str) -> String {
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
    if visible.len() < text.len() && text.chars().nth(400).is_some() { format!("{visible}…") } else { visible }
}
