//! Test pictures with what the model said of them.

use maud::{Markup, html};

use super::format::{counted, name, percent};
use super::{Data, Example, Section};

pub fn section(data: &Data) -> Option<Section> {
    if data.examples.is_empty() {
        return None;
    }
    let known: Vec<bool> = data.examples.iter().filter_map(right).collect();
    let all = counted(data.examples.len() as u64, "picture", "pictures");
    let lead = match known.iter().filter(|r| **r).count() {
        _ if known.is_empty() => format!("What the model says of {all}."),
        right => format!("What the model says of {all}: {right} right, {} wrong.", known.len() - right),
    };
    Some(Section { id: "pictures", title: "Pictures", lead, body: grid(&data.examples, "album") })
}

/// Pictures in one row that wraps.
pub fn strip(examples: &[Example]) -> Markup {
    grid(examples, "album small")
}

/// Whether the model was right, where the right class is known.
fn right(example: &Example) -> Option<bool> {
    example.truth.as_ref().map(|truth| *truth == example.predicted)
}

fn grid(examples: &[Example], class: &str) -> Markup {
    html! { ul class=(class) { @for example in examples { li { (card(example)) } } } }
}

fn card(example: &Example) -> Markup {
    let right = right(example);
    let said = name(&example.predicted);
    let alternative = match (&example.truth, right) {
        (Some(truth), Some(false)) => format!("{}: {}, called {said}", example.file, name(truth)),
        _ => format!("{}: {said}", example.file),
    };
    html! {
        @match &example.thumbnail {
            Some(thumbnail) => img src=(thumbnail.data_url()) alt=(alternative) title=(example.file);,
            None => div class="no-picture" { (example.file) }
        }
        div class="said" {
            @match right {
                Some(true) => span class="verdict yes" { "✓" span class="hidden" { " right: " } }
                Some(false) => span class="verdict no" { "✗" span class="hidden" { " wrong: " } }
                None => {}
            }
            span class="what" { (said) }
        }
        div class="sure" {
            @if let Some(probability) = example.probability { (percent(probability, 0)) " sure" }
            @if let (Some(truth), Some(false)) = (&example.truth, right) { div class="no" { "is " (name(truth)) } }
        }
    }
}
