//! Whether there is a pet at all: the gate's curves and rates, doors opened by strangers, and worse conditions.

use maud::{Markup, html};

use super::chart::{Axis, Mark, Plot, Row, Series, Side, Tracks, colour, key, line_sample};
use super::format::{count, percent, percent_or_absent, percent_short, short, spread, spread_or_absent, tick};
use super::{Category, Condition, Curve, Data, Door, Gate, Histogram, Section, figure};
use crate::stats::{Spread, clopper_pearson, pets_at, wilson};

/// Where the curves' axis of accepted negatives begins.
const FLOOR: f64 = 0.001;

/// What a rate means whose category training did not see.
const LEFT_OUT: &str =
    "Left out: training saw no picture of the category, so this is what to expect of strangers nobody thought of. ";

pub fn gate(data: &Data) -> Option<Section> {
    let gate = data.gate.as_ref()?;
    let curves: Vec<&Curve> = gate.curves.iter().filter(|c| !c.points.is_empty()).collect();
    let scores = gate.scores.as_ref().filter(|s| s.pets.iter().chain(&s.negatives).any(|n| *n > 0));
    if curves.is_empty() && gate.categories.is_empty() && scores.is_none() && gate.pets.is_none() && gate.negatives.is_none() {
        return None;
    }
    let lead = match (gate.pets, gate.negatives) {
        (Some(pets), Some(negatives)) => format!(
            "The gate decides whether there is a pet at all: it lets {} of the pets pass and {} of the pictures without one.",
            percent(pets.mean, 1),
            percent(negatives.mean, 2)
        ),
        (Some(pets), None) => {
            format!("The gate decides whether there is a pet at all: it lets {} of the pets pass.", percent(pets.mean, 1))
        }
        _ => "The gate decides whether there is a pet at all.".into(),
    };
    let body = html! {
        (thresholds(gate))
        @if !curves.is_empty() { (roc(&curves, gate.threshold)) }
        @if !gate.categories.is_empty() { (categories(&gate.categories)) }
        @if let Some(scores) = scores { (histogram(scores, gate)) }
    };
    Some(Section { id: "gate", title: "Gate", lead, body })
}

fn thresholds(gate: &Gate) -> Markup {
    let rows = [
        gate.threshold.map(|t| ("accept at or above", short(t))),
        gate.reject_below.map(|t| ("no animal below", short(t))),
        gate.pets.map(|s| ("pets accepted", spread(s, 2))),
        gate.negatives.map(|s| ("negatives accepted", spread(s, 2))),
    ];
    html! { dl class="inline" { @for (name, value) in rows.iter().flatten() { div { dt { (name) } dd { (value) } } } } }
}

/// The curve's point at a threshold, negatives first: the last whose scores are all accepted, or nothing accepted at all.
fn at_threshold(curve: &Curve, threshold: Option<f64>) -> Option<(f64, f64)> {
    let threshold = threshold.filter(|t| t.is_finite())?;
    let point = curve.points.iter().rev().find(|p| p.threshold >= threshold);
    Some(point.map_or((0.0, 0.0), |p| (p.negatives, p.pets)))
}

fn roc(curves: &[&Curve], threshold: Option<f64>) -> Markup {
    // Where a curve crosses the left border is the best that the axis can show of it.
    let start = |c: &Curve| c.points.iter().filter(|p| p.negatives <= FLOOR).map(|p| p.pets).fold(0.0, f64::max);
    let lowest = curves.iter().map(|c| start(c)).chain(curves.iter().filter_map(|c| Some(at_threshold(c, threshold)?.1)));
    let lowest = lowest.filter(|v| v.is_finite()).fold(1.0, f64::min);
    let series = curves.iter().enumerate().map(|(i, curve)| Series {
        label: String::new(),
        class: colour(i),
        points: steps(start(curve), curve),
        dots: at_threshold(curve, threshold).into_iter().filter(|dot| dot.0 >= FLOOR).collect(),
    });
    // The first curve, which stands for all, is drawn last and so lies on top.
    let mut series: Vec<Series> = series.collect();
    series.reverse();
    let all = curves[0];
    let plot = Plot {
        summary: format!(
            "Curves of {} kinds of negatives: share of pets accepted against share of negatives accepted. {}: {} of the pets at 1% of the negatives",
            curves.len(),
            all.name,
            percent(pets_at(&all.points, 0.01), 1)
        ),
        height: 320,
        x: Axis::logarithmic(FLOOR, 1.0, percent_short),
        y: Axis::shares(lowest),
        x_name: "negatives accepted (logarithmic)",
        y_name: "pets accepted",
        series,
        boxes: vec![],
        marks: vec![],
    };
    let caption = "Each curve runs through all thresholds; higher and further left is better. The dot is the threshold that ships. \
         Below the left border, 0.1\u{202f}%, a curve would rest on single pictures.";
    figure(caption, &html! { div class="split" { (plot.render()) (curve_key(curves, threshold)) } })
}

/// Corners of a curve: between two points nothing more is accepted until the next negative is.
fn steps(start: f64, curve: &Curve) -> Vec<(f64, f64)> {
    let mut corners = vec![(FLOOR, start)];
    for point in curve.points.iter().filter(|p| p.negatives > FLOOR) {
        let level = corners.last().map_or(start, |c| c.1);
        corners.extend([(point.negatives, level), (point.negatives, point.pets)]);
    }
    corners
}

fn curve_key(curves: &[&Curve], threshold: Option<f64>) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="table, scrolls sideways" {
            table class="plain curves" {
                thead {
                    tr {
                        th scope="col" { "Negatives" }
                        th class="figure" scope="col" { "of" }
                        th class="figure" scope="col" { "pets at 1\u{202f}%" }
                        @if threshold.is_some() { th class="figure" scope="col" { "at threshold" } }
                    }
                }
                tbody {
                    @for (i, curve) in curves.iter().enumerate() {
                        tr {
                            th scope="row" { (line_sample(&colour(i))) (curve.name) }
                            td class="figure" { (count(curve.negatives)) }
                            td class="figure" { (percent(pets_at(&curve.points, 0.01), 1)) }
                            @if threshold.is_some() {
                                td class="figure" { (percent_or_absent(at_threshold(curve, threshold).map(|p| p.0), 2)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn categories(categories: &[Category]) -> Markup {
    let upper = |c: &Category, s: Option<Spread>| s.map(|s| wilson(s.mean * c.pictures as f64, c.pictures as f64).high);
    // The bound is that of the harder question, where it was asked.
    let bound = |c: &Category| upper(c, c.left_out.or(c.plain)).filter(|_| c.pictures > 0);
    let rates = categories.iter().flat_map(|c| [c.plain, c.left_out].into_iter().flatten().map(|s| s.mean).chain(bound(c)));
    let axis = Axis::linear(0.0, rates.filter(|v| v.is_finite()).fold(0.001, f64::max), percent_short);
    let left_out = categories.iter().any(|c| c.left_out.is_some());
    let row = |c: &Category| {
        let harder = c.left_out.or(c.plain).map(|s| s.mean);
        let whisker = harder.zip(bound(c)).map(|(s, b)| Mark::Whisker(s, b, colour(if c.left_out.is_some() { 2 } else { 1 })));
        let plain = c.plain.map(|s| Mark::Dot(s.mean, colour(1)));
        let ring = c.left_out.map(|s| Mark::Ring(s.mean, colour(2)));
        let mut values = vec![count(c.pictures), spread_or_absent(c.plain, 2)];
        values.extend(left_out.then(|| spread_or_absent(c.left_out, 2)));
        values.push(percent_or_absent(bound(c), 2));
        Row {
            name: html! { (super::format::name(&c.name)) },
            marks: [whisker, plain, ring].into_iter().flatten().collect(),
            values,
            strong: false,
        }
    };
    let mut columns = vec!["pictures", "plain"];
    columns.extend(left_out.then_some("left out"));
    columns.push("at most");
    let tracks = Tracks {
        first: "Negatives",
        axis: &axis,
        axis_name: "accepted at the threshold",
        columns,
        stacks: true,
        band: None,
        line: None,
        rows: categories.iter().map(row).collect(),
    };
    let caption = format!(
        "Share accepted of each category. {}At most: upper end of the interval at 95\u{202f}% confidence, drawn as a line.",
        if left_out { LEFT_OUT } else { "" }
    );
    let entries = [(colour(1), "plain", false), (colour(2), "left out while training", true)];
    figure(&caption, &html! { @if left_out { (key(&entries)) } (tracks.render()) })
}

fn histogram(scores: &Histogram, gate: &Gate) -> Markup {
    let bins = scores.pets.len().max(scores.negatives.len());
    let (low, high) = if scores.high > scores.low { (scores.low, scores.high) } else { (0.0, 1.0) };
    let width = (high - low) / bins as f64;
    let shares = |counts: &[u64]| -> Vec<f64> {
        let all = counts.iter().sum::<u64>().max(1) as f64;
        (0..bins).map(|i| counts.get(i).copied().unwrap_or(0) as f64 / all).collect()
    };
    let (pets, negatives) = (shares(&scores.pets), shares(&scores.negatives));
    let steps = |shares: &[f64]| -> Vec<(f64, f64)> {
        let edge = |i: usize| low + i as f64 * width;
        let tops = shares.iter().enumerate().flat_map(|(i, s)| [(edge(i), *s), (edge(i + 1), *s)]);
        std::iter::once((low, 0.0)).chain(tops).chain([(high, 0.0)]).collect()
    };
    let series = |class: usize, shares: &[f64]| Series { class: colour(class), points: steps(shares), ..Series::default() };
    let marks = [(gate.reject_below, Side::Left("no animal")), (gate.threshold, Side::Right("accept"))];
    let marks = marks.into_iter().filter_map(|(v, side)| Some((v.filter(|v| (low..=high).contains(v))?, side)));
    let plot = Plot {
        summary: format!(
            "Scores of {} pets and {} negatives",
            count(scores.pets.iter().sum()),
            count(scores.negatives.iter().sum())
        ),
        height: 200,
        x: Axis::exact(low, high, tick),
        y: Axis::linear(0.0, pets.iter().chain(&negatives).copied().fold(0.0, f64::max), percent_short),
        x_name: "score",
        y_name: "share of its kind in a bin",
        series: vec![series(2, &negatives), series(1, &pets)],
        boxes: vec![],
        marks: marks.collect(),
    };
    let entries = [(colour(1), "pets", false), (colour(2), "pictures without a pet", false)];
    figure(
        "How the scores of pets and negatives are distributed, each kind adding up to 100\u{202f}%.",
        &html! { (key(&entries)) (plot.render()) },
    )
}

pub fn doors(data: &Data) -> Option<Section> {
    let (events, openings, body) = openings(&data.doors, "Strangers")?;
    let lead = format!("Before a door that should stay shut, {}.", rate(events, openings));
    Some(Section { id: "doors", title: "Doors opened by strangers", lead, body })
}

/// Strangers before gates that have seen none of their category.
pub fn left_out(data: &Data) -> Option<Section> {
    let (events, openings, body) = openings(&data.left_out, "Strangers, left out")?;
    let pets = data.let_in.as_ref().filter(|pets| pets.events > 0).map(|pets| {
        let interval = clopper_pearson(pets.openings, pets.events);
        let [low, high] = [interval.low, interval.high].map(|share| percent(share, 1));
        let share = percent(pets.openings as f64 / pets.events as f64, 1);
        format!(" Of {} visits of pets that no head had seen, {share} opened it ({low} to {high}).", count(pets.events))
    });
    let lead = format!(
        "Before gates that were trained without the stranger's category, {}.{}",
        rate(events, openings),
        pets.unwrap_or_default()
    );
    Some(Section { id: "left-out", title: "Doors opened by strangers nobody thought of", lead, body })
}

fn thousand(openings: u64, events: u64) -> f64 {
    1000.0 * openings as f64 / events as f64
}

fn rate(events: u64, openings: u64) -> String {
    format!(
        "{} of {} events opened it: {} in 1,000, and at most {} at 95\u{202f}% confidence",
        count(openings),
        count(events),
        short(thousand(openings, events)),
        short(1000.0 * clopper_pearson(openings, events).high)
    )
}

/// All events, all openings, and the chart of the categories that have events.
fn openings(doors: &[Door], first: &str) -> Option<(u64, u64, Markup)> {
    let doors: Vec<&Door> = doors.iter().filter(|d| d.events > 0).collect();
    if doors.is_empty() {
        return None;
    }
    let bound = |d: &Door| 1000.0 * clopper_pearson(d.openings, d.events).high;
    let axis = Axis::linear(0.0, doors.iter().map(|d| bound(d)).fold(0.0, f64::max), tick);
    let row = |d: &&Door| Row {
        name: html! { (super::format::name(&d.name)) },
        marks: vec![
            Mark::Whisker(1000.0 * clopper_pearson(d.openings, d.events).low, bound(d), colour(1)),
            Mark::Dot(thousand(d.openings, d.events), colour(1)),
        ],
        values: vec![count(d.openings), count(d.events), short(thousand(d.openings, d.events)), short(bound(d))],
        strong: false,
    };
    let tracks = Tracks {
        first,
        axis: &axis,
        axis_name: "openings in 1,000 events",
        columns: vec!["openings", "events", "in 1,000", "at most"],
        stacks: true,
        band: None,
        line: None,
        rows: doors.iter().map(row).collect(),
    };
    let body = figure(
        "An event is a whole visit, decided by several frames. Lines are exact intervals at 95\u{202f}% confidence (Clopper and Pearson).",
        &tracks.render(),
    );
    let (events, openings) = doors.iter().fold((0, 0), |(e, o), d| (e + d.events, o + d.openings));
    Some((events, openings, body))
}

pub fn conditions(data: &Data) -> Option<Section> {
    let first = data.conditions.first()?;
    let values = data.conditions.iter().flat_map(|c| [c.top1, c.pets_accepted].into_iter().flatten());
    let axis = Axis::shares(values.filter(|v| v.is_finite()).fold(1.0, f64::min));
    let negatives = data.conditions.iter().any(|c| c.negatives_accepted.is_some());
    let row = |c: &Condition| {
        let mut values = vec![percent_or_absent(c.top1, 1), percent_or_absent(c.pets_accepted, 1)];
        values.extend(negatives.then(|| percent_or_absent(c.negatives_accepted, 2)));
        values.push(count(c.pictures));
        Row {
            name: html! { (super::format::name(&c.name)) },
            marks: [c.pets_accepted.map(|v| Mark::Ring(v, colour(2))), c.top1.map(|v| Mark::Dot(v, colour(1)))]
                .into_iter()
                .flatten()
                .collect(),
            values,
            strong: false,
        }
    };
    let mut columns = vec!["top-1", "pets pass"];
    columns.extend(negatives.then_some("others pass"));
    columns.push("of");
    let tracks = Tracks {
        first: "Condition",
        axis: &axis,
        axis_name: "share of the pets",
        columns,
        stacks: true,
        band: None,
        line: first.top1,
        rows: data.conditions.iter().map(row).collect(),
    };
    let lead = worst(&data.conditions);
    let entries = [(colour(1), "right class first", false), (colour(2), "pets that the gate lets pass", true)];
    let caption = format!("The dashed line is top-1 for {}. The axis begins at {}.", first.name, percent_short(axis.low()));
    Some(Section {
        id: "conditions",
        title: "Night and weather",
        lead,
        body: figure(&caption, &html! { (key(&entries)) (tracks.render()) }),
    })
}

/// What the first condition and the worst of the others do.
fn worst(conditions: &[Condition]) -> String {
    let [first, ..] = conditions else { return String::new() };
    let worst = conditions[1..].iter().filter(|c| c.top1.is_some_and(f64::is_finite));
    let worst = worst.min_by(|a, b| a.top1.unwrap_or(1.0).total_cmp(&b.top1.unwrap_or(1.0)));
    match (first.top1, worst) {
        (Some(plain), Some(Condition { name, top1: Some(top1), .. })) => format!(
            "The same pictures made worse: top-1 is {} for {}, and {} at worst ({name}).",
            percent(plain, 1),
            first.name,
            percent(*top1, 1)
        ),
        _ => "The same pictures under other conditions.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::RocPoint;

    #[test]
    fn the_dot_is_what_the_threshold_accepts() {
        let point = |threshold, negatives, pets| RocPoint { threshold, pets, negatives };
        let curve =
            Curve { points: vec![point(3.0, 0.0, 0.2), point(2.0, 0.1, 0.6), point(1.0, 1.0, 1.0)], ..Curve::default() };
        assert_eq!(at_threshold(&curve, Some(2.0)), Some((0.1, 0.6)));
        assert_eq!(at_threshold(&curve, Some(1.5)), Some((0.1, 0.6)));
        assert_eq!(at_threshold(&curve, Some(4.0)), Some((0.0, 0.0)));
        assert_eq!(at_threshold(&curve, None), None);
    }
}
