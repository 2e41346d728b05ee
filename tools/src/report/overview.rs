//! The top of the page: title, headline figures, what to know first; and where weights and pictures come from.

use maud::{Markup, html};

use super::format::{ABSENT, count, counted, number, percent, short};
use super::{Data, Section};
use crate::stats::{clopper_pearson, wilson};

/// A figure with its meaning.
struct Headline {
    value: String,
    unit: &'static str,
    meaning: String,
}

pub fn header(data: &Data, title: &str) -> Markup {
    let headlines = headlines(data);
    let notes: Vec<&str> = data.summary.notes.iter().map(String::as_str).filter(|n| !n.trim().is_empty()).collect();
    html! {
        header {
            h1 { (title) }
            p class="byline" { (byline(data)) }
            @if !headlines.is_empty() {
                ul class="headlines" {
                    @for headline in &headlines {
                        li { strong { (headline.value) span class="unit" { (headline.unit) } } span { (headline.meaning) } }
                    }
                }
            }
            @if !notes.is_empty() {
                div class="notes" { h2 { "Before you read on" } ul { @for note in notes { li { (note) } } } }
            }
        }
    }
}

fn byline(data: &Data) -> String {
    let summary = &data.summary;
    let parts = [
        summary.model.as_ref().map(|m| m.name.clone()),
        (!data.classes.is_empty()).then(|| counted(data.classes.len() as u64, "class", "classes")),
        summary.pets.map(|n| counted(n, "picture of pets", "pictures of pets")),
        summary.negatives.map(|n| format!("{} without a pet", count(n))),
        (!summary.date.is_empty()).then(|| summary.date.clone()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn headlines(data: &Data) -> Vec<Headline> {
    let shipped = data.accuracy.iter().flat_map(|a| &a.rows).filter(|r| r.top1_micro.is_some());
    let shipped = shipped.clone().find(|r| r.ships).or_else(|| shipped.clone().next_back());
    let share = |share: f64, meaning: String| Headline { value: number(100.0 * share, 1), unit: "%", meaning };
    let breeds = match shipped {
        Some(row) => row.top1_micro.map(|s| share(s.mean, format!("of the pets get the right class ({})", row.name))),
        None => total(data),
    };
    let gate = data.gate.as_ref();
    let accepted = gate.and_then(|g| g.pets).map(|s| share(s.mean, "of the pets pass the gate".into()));
    let strangers = gate.and_then(|g| g.negatives).map(|s| Headline {
        value: number(100.0 * s.mean, 2),
        unit: "%",
        meaning: "of the pictures without a pet pass it too".into(),
    });
    let (events, openings) = data.doors.iter().fold((0, 0), |(e, o), d| (e + d.events, o + d.openings));
    let doors = (events > 0).then(|| Headline {
        value: short(1000.0 * openings as f64 / events as f64),
        unit: "in 1,000",
        meaning: format!(
            "strangers open the door; at most {} at 95\u{202f}% confidence",
            short(1000.0 * clopper_pearson(openings, events).high)
        ),
    });
    let speed = data.int8.iter().flat_map(|i| &i.speed).find_map(|s| Some((s.int8_ms?, &s.machine)));
    let speed = speed.map(|(ms, machine)| Headline {
        value: short(ms),
        unit: "ms",
        meaning: format!("an inference in int8 on {machine}"),
    });
    [breeds, accepted, strangers, doors, speed].into_iter().flatten().collect()
}

/// Without a table of networks: what the classes add up to.
fn total(data: &Data) -> Option<Headline> {
    let pictures: u64 = data.classes.iter().map(|c| c.pictures).sum();
    let right: f64 = data.classes.iter().map(|c| c.right).sum();
    let interval = wilson(right, pictures as f64);
    (pictures > 0 && right.is_finite()).then(|| Headline {
        value: number(100.0 * right / pictures as f64, 1),
        unit: "%",
        meaning: format!(
            "of {} get the right class ({} to {} at 95\u{202f}% confidence)",
            counted(pictures, "picture", "pictures"),
            percent(interval.low, 1),
            percent(interval.high, 1)
        ),
    })
}

/// Counts of pictures, the model file, origins and licences.
pub fn material(data: &Data) -> Option<Section> {
    let summary = &data.summary;
    let number = |name: &'static str, value: Option<u64>| value.map(|v| (name, count(v)));
    let list = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let facts: Vec<(&str, String)> = [
        number("pictures of pets", summary.pets),
        number("pictures without a pet", summary.negatives),
        number("listed but missing", summary.missing),
        number("not to be decoded", summary.broken),
        number("near duplicates, kept together", summary.near_duplicates),
        number("folds", summary.folds),
        (!summary.seeds.is_empty()).then(|| ("seeds", list(&summary.seeds))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let model = summary.model.as_ref();
    if facts.is_empty() && model.is_none() && summary.origins.is_empty() {
        return None;
    }
    let body = html! {
        div class="pair" {
            @if !facts.is_empty() { (table_of_facts(&facts)) }
            @if let Some(model) = model {
                dl {
                    div { dt { "model file" } dd { (model.name) } }
                    @if let Some(bytes) = model.bytes { div { dt { "size" } dd { (count(bytes)) " bytes" } } }
                    @if !model.sha256.is_empty() { div { dt { "SHA-256" } dd class="hash" { (model.sha256) } } }
                }
            }
        }
        @if !summary.origins.is_empty() {
            div class="scroll" tabindex="0" role="region" aria-label="table, scrolls sideways" {
                table class="plain" {
                    thead { tr { th scope="col" { "What" } th scope="col" { "Source" } th scope="col" { "Licence" } } }
                    tbody {
                        @for origin in &summary.origins {
                            tr { th scope="row" { (origin.what) } td { (source(&origin.source)) } td { (origin.licence) } }
                        }
                    }
                }
            }
        }
    };
    Some(Section { id: "material", title: "Material", lead: "What was measured, and whose work it rests on.".into(), body })
}

fn table_of_facts(facts: &[(&str, String)]) -> Markup {
    html! { dl { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// An `https` address is a link, which loads nothing until it is followed; anything else is text.
fn source(source: &str) -> Markup {
    match source.strip_prefix("https://") {
        Some(rest) => html! { a href=(source) rel="noreferrer" { (rest) } },
        None if source.is_empty() => html! { (ABSENT) },
        None => html! { (source) },
    }
}

pub fn footer(data: &Data) -> Markup {
    html! {
        footer {
            p {
                "Intervals are at 95\u{202f}% confidence: Wilson's for shares, Clopper and Pearson's for rare events. "
                "± is one standard deviation over the seeds. This page loads nothing and runs no script."
            }
            @if !data.summary.tool.is_empty() { p { "Written by " (data.summary.tool) "." } }
        }
    }
}
