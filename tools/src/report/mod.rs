//! The report: the figures of an evaluation as one page that needs nothing else.
//!
//! [`Data`] is what it is made of, [`render`] makes the page, [`Thumbnail`] brings pictures into it. The page has no script
//! and loads nothing; it follows the reader's light or dark setting, fits phones, and prints. Markup is `maud`'s, which
//! escapes every text; curves and marks are in `chart`. Nothing here measures: what is not in [`Data`] is not in the page.

mod accuracy;
mod calibration;
mod chart;
mod classes;
mod confusion;
mod data;
pub mod doors;
mod engine;
mod format;
mod gate;
mod overview;
mod pictures;
mod reproduction;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
mod thumbnail;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use data::*;
pub use thumbnail::Thumbnail;

/// A part of the page.
struct Section {
    /// Its address within the page.
    id: &'static str,
    /// Its heading.
    title: &'static str,
    /// One sentence for somebody who reads nothing else of it.
    lead: String,
    /// What follows.
    body: Markup,
}

/// The whole page.
pub fn render(data: &Data) -> String {
    let title = if data.title.trim().is_empty() { "Evaluation" } else { data.title.trim() };
    let sections: Vec<Section> = sections(data);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(if data.summary.tool.is_empty() { "pawgate-tools" } else { &data.summary.tool });
                title { (title) }
                // Taken in when this is compiled; it holds no `<`.
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (overview::header(data, title))
                @if sections.len() > 1 {
                    nav aria-label="Sections" {
                        @for section in &sections { a href=(format!("#{}", section.id)) { (section.title) } }
                    }
                }
                main {
                    @if sections.is_empty() { p class="lead" { "There are no figures in this evaluation." } }
                    @for section in &sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            p class="lead" { (format::sentence(&section.lead)) }
                            (section.body)
                        }
                    }
                }
                (overview::footer(data))
            }
        }
    };
    page.into_string()
}

/// Those for which there are figures, in the page's order.
fn sections(data: &Data) -> Vec<Section> {
    let all = [
        accuracy::accuracy(data),
        accuracy::training(data),
        classes::section(data),
        confusion::section(data),
        pictures::section(data),
        gate::gate(data),
        gate::doors(data),
        gate::left_out(data),
        gate::conditions(data),
        calibration::section(data),
        engine::int8(data),
        engine::backends(data),
        overview::material(data),
        reproduction::section(data),
    ];
    all.into_iter().flatten().collect()
}

/// A chart or a group of them with its caption.
fn figure(caption: &str, body: &Markup) -> Markup {
    html! { figure { figcaption { (caption) } (body) } }
}
