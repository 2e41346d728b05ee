//! What somebody needs to repeat the evaluation.

use maud::html;

use super::{Data, Section};

pub fn section(data: &Data) -> Option<Section> {
    let reproduction = data.reproduction.as_ref()?;
    if reproduction.command.is_empty() && reproduction.facts.is_empty() && reproduction.configuration.is_empty() {
        return None;
    }
    let body = html! {
        @if !reproduction.command.is_empty() { pre tabindex="0" { code { (reproduction.command) } } }
        @if !reproduction.facts.is_empty() {
            dl class="wide" {
                @for fact in &reproduction.facts { div { dt { (fact.name) } dd class="hash" { (fact.value) } } }
            }
        }
        @if !reproduction.configuration.is_empty() {
            details { summary { "The whole configuration" } pre tabindex="0" { code { (reproduction.configuration) } } }
        }
    };
    let lead = "With these versions, seeds and settings the figures come out the same.".into();
    Some(Section { id: "reproduction", title: "To repeat this", lead, body })
}
