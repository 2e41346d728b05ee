//! Which class was taken for which: a heat map for up to [`MAP`] classes, and the most confused pairs.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::format::{count, cut, mean_count, name, percent};
use super::{Class, Confusion, Data, Pair, Section, Species, figure, pictures};

/// More classes than this have no heat map: nobody could read it.
const MAP: usize = 60;

/// Pairs in the list with and without a heat map.
const PAIRS: (usize, usize) = (10, 30);

/// Lower ends of the steps of colour, as shares of a row. The first begins above 0.
const STEPS: [f64; 6] = [0.0, 0.01, 0.03, 0.10, 0.30, 0.70];

pub fn section(data: &Data) -> Option<Section> {
    let confusion = data.confusion.as_ref()?;
    let matrix = Matrix::of(confusion, &data.classes);
    let pictures: u64 = matrix.rows.iter().flatten().sum();
    let map = (2..=MAP).contains(&matrix.names.len()) && pictures > 0;
    let pairs =
        if confusion.pairs.is_empty() { matrix.pairs(if map { PAIRS.0 } else { PAIRS.1 }) } else { confusion.pairs.clone() };
    if !map && pairs.is_empty() {
        return None;
    }
    let lead = match pairs.first() {
        Some(pair) => format!("{} is most often taken for {}.", name(&pair.truth), name(&pair.predicted)),
        None => "No class was taken for another.".into(),
    };
    let basis = if confusion.basis.is_empty() { String::new() } else { format!(" ({})", confusion.basis) };
    let body = html! {
        @if map {
            (figure(
                &format!("Each row is a class, each column what the model said{basis}. Colour is the share of the row, the figure the number of pictures."),
                &html! { (scale()) (matrix.heat_map()) },
            ))
        }
        @if !pairs.is_empty() { h3 { "Most confused pairs" } (list(&pairs)) }
    };
    Some(Section { id: "confusion", title: "Confusions", lead, body })
}

/// The counts, species together.
struct Matrix {
    names: Vec<String>,
    /// Shape `[truth][predicted]`.
    rows: Vec<Vec<u64>>,
    /// First class of every species but the first.
    borders: Vec<usize>,
}

impl Matrix {
    fn of(confusion: &Confusion, classes: &[Class]) -> Self {
        let species: BTreeMap<&str, Option<Species>> = classes.iter().map(|c| (c.name.as_str(), c.species)).collect();
        let kind = |class: &usize| species.get(confusion.names[*class].as_str()).copied().flatten();
        let mut order: Vec<usize> = (0..confusion.names.len()).collect();
        order.sort_by_key(|class| (kind(class).is_none(), kind(class)));
        let at =
            |truth: usize, predicted: usize| confusion.counts.get(truth).and_then(|r| r.get(predicted)).copied().unwrap_or(0);
        Self {
            names: order.iter().map(|&c| name(&confusion.names[c])).collect(),
            rows: order.iter().map(|&t| order.iter().map(|&p| at(t, p)).collect()).collect(),
            borders: (1..order.len()).filter(|&i| kind(&order[i]) != kind(&order[i - 1])).collect(),
        }
    }

    fn pairs(&self, most: usize) -> Vec<Pair> {
        let wrong =
            self.rows.iter().enumerate().flat_map(|(t, row)| {
                row.iter().enumerate().filter(move |(p, n)| *p != t && **n > 0).map(move |(p, n)| (*n, t, p))
            });
        let mut wrong: Vec<_> = wrong.collect();
        wrong.sort_by_key(|(n, t, p)| (std::cmp::Reverse(*n), *t, *p));
        let pair = |&(n, t, p): &(u64, usize, usize)| Pair {
            truth: self.names[t].clone(),
            predicted: self.names[p].clone(),
            pictures: n as f64,
            of: self.rows[t].iter().sum(),
            examples: vec![],
        };
        wrong.iter().take(most).map(pair).collect()
    }

    /// Names of the rows beside the cells, which scroll beneath them.
    fn heat_map(&self) -> Markup {
        let classes = self.names.len();
        let size = Size {
            cell: match classes {
                0..=8 => 48,
                9..=20 => 34,
                21..=40 => 23,
                41..=50 => 17,
                _ => 14,
            },
            left: 12 + 11 * self.names.iter().map(|n| n.chars().count().min(26)).max().unwrap_or(0) as u32 / 2,
            top: 14 + 5 * self.names.iter().map(|n| n.chars().count().min(26)).max().unwrap_or(0) as u32,
        };
        let (side, height) = (size.cell * classes as u32, size.top + size.cell * classes as u32 + 2);
        // Names of columns lean to the right of the last column.
        let width = side + size.top * 6 / 10 + 4;
        html! {
            div class="scroll heat" tabindex="0" role="region" aria-label="heat map, scrolls sideways" {
                div class="rows" style=(format!("flex-grow:{}", size.left)) { (self.row_names(&size, height)) }
                div class="cells" style=(format!("flex-grow:{width}")) {
                    svg width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role="img" {
                        title { (self.summary()) }
                        (self.column_names(&size))
                        rect class="ground" x="0" y=(size.top) width=(side) height=(side) {}
                        @for truth in 0..classes { (self.row(truth, &size)) }
                        @for &border in &self.borders { (line(border as u32, side, &size)) }
                    }
                }
            }
        }
    }

    fn summary(&self) -> String {
        let all: u64 = self.rows.iter().flatten().sum();
        let right: u64 = (0..self.rows.len()).map(|i| self.rows[i][i]).sum();
        format!(
            "Confusion matrix of {} classes: {} of {} pictures on the diagonal; the largest confusions are listed below",
            self.names.len(),
            count(right),
            count(all)
        )
    }

    fn row_names(&self, size: &Size, height: u32) -> Markup {
        html! {
            svg width=(size.left) height=(height) viewBox=(format!("0 0 {} {height}", size.left)) aria-hidden="true" {
                @for (i, name) in self.names.iter().enumerate() {
                    text x=(size.left - 6) y=(size.middle(i) + 4) text-anchor="end" { (cut(name, 26)) title { (name) } }
                }
            }
        }
    }

    fn column_names(&self, size: &Size) -> Markup {
        html! {
            g aria-hidden="true" {
                @for (i, name) in self.names.iter().enumerate() {
                    @let x = size.cell * i as u32 + size.cell / 2;
                    text transform=(format!("translate({},{}) rotate(-60)", x + 3, size.top - 6)) { (cut(name, 26)) title { (name) } }
                }
            }
        }
    }

    fn row(&self, truth: usize, size: &Size) -> Markup {
        let all: u64 = self.rows[truth].iter().sum();
        html! {
            @for (predicted, &n) in self.rows[truth].iter().enumerate().filter(|(_, n)| **n > 0) {
                @let share = n as f64 / all as f64;
                @let class = format!("{}{}", if predicted == truth { "right" } else { "wrong" }, step(share));
                @let (x, y) = (size.cell * predicted as u32, size.top + size.cell * truth as u32);
                g class=(class) {
                    title {
                        (self.names[truth]) @if predicted == truth { " recognised: " } @else { " taken for " (self.names[predicted]) ": " }
                        (count(n)) " of " (count(all)) " (" (percent(share, 1)) ")"
                    }
                    rect x=(x) y=(y) width=(size.cell) height=(size.cell) {}
                    @if size.cell >= 20 && (n < 1000 || size.cell > 30) {
                        text x=(x + size.cell / 2) y=(y + size.cell / 2 + 4) text-anchor="middle" { (n) }
                    }
                }
            }
        }
    }
}

/// Sizes of the heat map in pixels.
struct Size {
    cell: u32,
    /// Room for the names of rows.
    left: u32,
    /// Room for the names of columns.
    top: u32,
}

impl Size {
    fn middle(&self, row: usize) -> u32 {
        self.top + self.cell * row as u32 + self.cell / 2
    }
}

/// Lines between two species.
fn line(class: u32, side: u32, size: &Size) -> Markup {
    let at = class * size.cell;
    html! { path class="border" d=(format!("M{at} {}v{side}M0 {}h{side}", size.top, size.top + at)) {} }
}

/// Which step of colour a share of a row has, from 1.
fn step(share: f64) -> usize {
    STEPS.iter().filter(|s| share > **s).count().max(1)
}

fn scale() -> Markup {
    let text = |i: usize| match STEPS.get(i + 1) {
        Some(next) => format!("to {}", percent(*next, 0)),
        None => "more".into(),
    };
    html! {
        div class="scale" aria-hidden="true" {
            @for (kind, meaning) in [("right", "recognised"), ("wrong", "taken for another")] {
                div {
                    span { (meaning) }
                    @for i in 0..STEPS.len() { span class=(format!("swatch {kind}{}", i + 1)) { (text(i)) } }
                }
            }
        }
    }
}

fn list(pairs: &[Pair]) -> Markup {
    html! {
        ol class="confused" {
            @for pair in pairs {
                li {
                    p {
                        strong { (name(&pair.truth)) } " taken for " strong { (name(&pair.predicted)) }
                        span class="quiet" {
                            ": " (mean_count(pair.pictures))
                            @if pair.of > 0 { " of " (count(pair.of)) " (" (percent(pair.pictures / pair.of as f64, 1)) ")" }
                        }
                    }
                    @if !pair.examples.is_empty() { (pictures::strip(&pair.examples)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, species: Species) -> Class {
        Class { name: name.into(), species: Some(species), ..Class::default() }
    }

    #[test]
    fn species_stand_together_and_counts_move_with_them() {
        let confusion = Confusion {
            names: ["dog_a", "cat_a", "dog_b"].map(String::from).into(),
            counts: vec![vec![5, 0, 2], vec![1, 7], vec![3, 0, 9]],
            ..Confusion::default()
        };
        let classes = [class("cat_a", Species::Cat), class("dog_a", Species::Dog), class("dog_b", Species::Dog)];
        let matrix = Matrix::of(&confusion, &classes);
        assert_eq!(matrix.names, ["cat a", "dog a", "dog b"]);
        assert_eq!(matrix.rows, [[7, 1, 0], [0, 5, 2], [0, 3, 9]]);
        assert_eq!(matrix.borders, [1]);
        let pairs: Vec<_> = matrix.pairs(2).into_iter().map(|p| (p.truth, p.predicted, p.pictures, p.of)).collect();
        assert_eq!(pairs, [("dog b".into(), "dog a".into(), 3.0, 12), ("dog a".into(), "dog b".into(), 2.0, 7)]);
    }

    #[test]
    fn steps_of_colour_have_their_upper_end() {
        assert_eq!([0.000_1, 0.01, 0.010_1, 0.3, 0.71, 1.0].map(step), [1, 1, 2, 4, 6, 6]);
    }
}
