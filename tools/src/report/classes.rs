//! Accuracy by class, best first, with the interval that its number of pictures allows.

use maud::{Markup, html};

use super::chart::{Axis, Mark, Row, Tracks, colour, key};
use super::format::{count, cut, name, number, percent};
use super::{Class, Data, Section, Species, figure};
use crate::stats::{Interval, wilson};

/// More classes than this stand in two panels.
const PANEL: usize = 12;

/// Fewer pictures than this say little about a class.
const FEW: u64 = 20;

pub fn section(data: &Data) -> Option<Section> {
    if data.classes.is_empty() {
        return None;
    }
    let mut classes: Vec<(&Class, f64, Interval)> =
        data.classes.iter().map(|c| (c, c.right / c.pictures as f64, wilson(c.right, c.pictures as f64))).collect();
    // Classes without pictures have no share and come last.
    classes.sort_by(|a, b| {
        let share = |c: f64| if c.is_finite() { c } else { -1.0 };
        share(b.1).total_cmp(&share(a.1)).then_with(|| b.0.pictures.cmp(&a.0.pictures)).then_with(|| a.0.name.cmp(&b.0.name))
    });
    let known: Vec<f64> = classes.iter().map(|c| c.1).filter(|s| s.is_finite()).collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let body = figure(&caption(&classes, mean), &html! { (species_key(data)) (panels(&classes, mean)) });
    Some(Section { id: "classes", title: "Each class", lead: lead(&classes), body })
}

fn lead(classes: &[(&Class, f64, Interval)]) -> String {
    let known: Vec<_> = classes.iter().filter(|c| c.1.is_finite()).collect();
    match known[..] {
        [] => "There is no test picture of any class.".into(),
        [only] => format!("{} is recognised in {} of its pictures.", name(&only.0.name), percent(only.1, 0)),
        [best, .., worst] => format!(
            "{} is recognised best ({}), {} worst ({}).",
            name(&best.0.name),
            percent(best.1, 0),
            name(&worst.0.name),
            percent(worst.1, 0)
        ),
    }
}

fn caption(classes: &[(&Class, f64, Interval)], mean: f64) -> String {
    let mut caption = String::from("Share recognised of each class, with its interval at 95\u{202f}% confidence (Wilson).");
    if mean.is_finite() {
        caption += &format!(" The dashed line is the mean of all classes, {}.", percent(mean, 1));
    }
    let few = classes.iter().filter(|c| c.0.pictures < FEW).count();
    if few > 0 {
        caption += &format!(
            " {few} of {} classes have fewer than {FEW} test pictures: their intervals are wide, and differences between them mean little.",
            classes.len()
        );
    }
    caption
}

fn species_class(species: Option<Species>) -> String {
    colour(match species {
        Some(Species::Dog) => 1,
        Some(Species::Cat) => 2,
        Some(Species::Other) => 3,
        None => 0,
    })
}

fn species_key(data: &Data) -> Markup {
    let mut kinds: Vec<Option<Species>> = data.classes.iter().map(|c| c.species).collect();
    kinds.sort_by_key(|k| (k.is_none(), *k));
    kinds.dedup();
    let text = |kind: &Option<Species>| match kind {
        Some(Species::Cat) => "cat",
        Some(Species::Dog) => "dog",
        Some(Species::Other) => "other animal",
        None => "not known",
    };
    let entries: Vec<_> = kinds.iter().map(|k| (species_class(*k), text(k), *k == Some(Species::Cat))).collect();
    html! { @if kinds.len() > 1 { (key(&entries)) } }
}

fn panels(classes: &[(&Class, f64, Interval)], mean: f64) -> Markup {
    let with_pictures = classes.iter().filter(|c| c.1.is_finite());
    let axis = Axis::shares(with_pictures.map(|c| c.2.low).fold(1.0, f64::min));
    let count = if classes.len() <= PANEL { 1 } else { 2 };
    let panels = classes.chunks(classes.len().div_ceil(count));
    html! {
        div class=(if count == 1 { "panels one" } else { "panels" }) {
            @for panel in panels {
                (Tracks {
                    first: "Class",
                    axis: &axis,
                    axis_name: "recognised",
                    columns: vec!["", "95\u{202f}% interval", "of"],
                    stacks: false,
                    band: None,
                    line: mean.is_finite().then_some(mean),
                    rows: panel.iter().map(row).collect(),
                }.render())
            }
        }
    }
}

fn row(&(class, share, interval): &(&Class, f64, Interval)) -> Row {
    let colour = species_class(class.species);
    let marks = match (share.is_finite(), class.species) {
        (false, _) => vec![],
        (true, Some(Species::Cat)) => {
            vec![Mark::Whisker(interval.low, interval.high, colour.clone()), Mark::Ring(share, colour)]
        }
        (true, _) => vec![Mark::Whisker(interval.low, interval.high, colour.clone()), Mark::Dot(share, colour)],
    };
    let right = if class.pictures == 0 { "no pictures".into() } else { percent(share, 1) };
    let range = if class.pictures == 0 {
        String::new()
    } else {
        format!("{} to {}", number(100.0 * interval.low, 1), number(100.0 * interval.high, 1))
    };
    Row {
        name: html! { span title=(name(&class.name)) { (cut(&name(&class.name), 40)) } },
        marks,
        values: vec![right, range, count(class.pictures)],
        strong: false,
    }
}
