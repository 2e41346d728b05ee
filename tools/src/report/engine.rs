//! What eight bits cost and bring, and how fast back ends are.

use maud::{Markup, html};

use super::chart::{Axis, Mark, Row, Tracks, colour, key};
use super::format::{ABSENT, number, percent, percent_or_absent, percent_short, short, spread, tick};
use super::{Backend, Data, Estimator, Int8, Layer, Section, Speed, figure};

/// So many layers are shown; the others are folded away.
const LAYERS: usize = 15;

pub fn int8(data: &Data) -> Option<Section> {
    let int8 = data.int8.as_ref()?;
    if *int8 == Int8::default() {
        return None;
    }
    let lead = match (int8.agreement, int8.top1_lost) {
        (Some(agreement), Some(lost)) => format!(
            "In eight bits the model says the same as in 32 for {} of the pets; {}.",
            percent(agreement.mean, 1),
            loss(lost.mean)
        ),
        (Some(agreement), None) => {
            format!("In eight bits the model says the same as in 32 for {} of the pets.", percent(agreement.mean, 1))
        }
        _ => "What eight bits cost and bring.".into(),
    };
    let facts = [
        int8.agreement.map(|s| ("same class first", spread(s, 2))),
        int8.top1_lost.map(|s| ("top-1 lost, points", format!("{} ± {}", number(100.0 * s.mean, 2), number(100.0 * s.sd, 2)))),
    ];
    let body = html! {
        dl class="inline" { @for (name, value) in facts.iter().flatten() { div { dt { (name) } dd { (value) } } } }
        @if !int8.speed.is_empty() { (speed(&int8.speed)) }
        @if !int8.estimators.is_empty() { (estimators(&int8.estimators)) }
        @if !int8.layers.is_empty() { (layers(int8)) }
    };
    Some(Section { id: "int8", title: "Eight bits", lead, body })
}

fn loss(lost: f64) -> String {
    let points = number(100.0 * lost.abs(), 2);
    if lost > 0.0 {
        format!("top-1 falls by {points} points")
    } else {
        format!("top-1 does not fall (it is {points} points higher)")
    }
}

fn speed(speeds: &[Speed]) -> Markup {
    let times = speeds.iter().flat_map(|s| [s.fp32_ms, s.int8_ms].into_iter().flatten());
    let axis = Axis::linear(0.0, times.filter(|v| v.is_finite()).fold(0.0, f64::max), tick);
    let row = |s: &Speed| Row {
        name: html! { (s.machine) },
        marks: [s.fp32_ms.map(|v| Mark::Ring(v, colour(0))), s.int8_ms.map(|v| Mark::Dot(v, colour(1)))]
            .into_iter()
            .flatten()
            .collect(),
        values: vec![
            s.fp32_ms.map_or_else(|| ABSENT.into(), short),
            s.int8_ms.map_or_else(|| ABSENT.into(), short),
            s.fp32_ms.zip(s.int8_ms).map_or_else(|| ABSENT.into(), |(a, b)| format!("{}×", short(a / b))),
        ],
        strong: false,
    };
    let tracks = Tracks {
        first: "Machine",
        axis: &axis,
        axis_name: "milliseconds an inference",
        columns: vec!["fp32, ms", "int8, ms", "faster"],
        stacks: true,
        band: None,
        line: None,
        rows: speeds.iter().map(row).collect(),
    };
    let entries = [(colour(1), "int8", false), (colour(0), "fp32", true)];
    figure("Time of one inference; less is better.", &html! { (key(&entries)) (tracks.render()) })
}

fn estimators(estimators: &[Estimator]) -> Markup {
    type Of = fn(&Estimator) -> Option<f64>;
    let columns: [(&str, Of); 3] =
        [("error of the scores", |e| e.score_error), ("says the same", |e| e.agreement), ("top-1", |e| e.top1)];
    // What was not measured of any has no column.
    let columns = columns.into_iter().filter(|(_, of)| estimators.iter().any(|e| of(e).is_some())).collect::<Vec<_>>();
    let table = html! {
        div class="scroll" tabindex="0" role="region" aria-label="table, scrolls sideways" {
            table class="plain" {
                thead {
                    tr {
                        th scope="col" { "Ranges chosen by" }
                        @for (name, _) in &columns { th class="figure" scope="col" { (name) } }
                        th scope="col" {}
                    }
                }
                tbody {
                    @for estimator in estimators {
                        tr class=[estimator.chosen.then_some("strong")] {
                            th scope="row" { (estimator.name) }
                            @for (_, of) in &columns { td class="figure" { (percent_or_absent(of(estimator), 2)) } }
                            td { @if estimator.chosen { "ships" } }
                        }
                    }
                }
            }
        }
    };
    figure("Ways to choose the ranges of activations that were tried.", &table)
}

/// A chart for each backbone, on one axis.
fn layers(int8: &Int8) -> Markup {
    let finite: Vec<&Layer> = int8.layers.iter().filter(|l| l.error.is_finite()).collect();
    let axis = Axis::linear(0.0, finite.iter().map(|l| l.error).fold(0.0, f64::max), percent_short);
    let mut backbones: Vec<&str> = vec![];
    for layer in &finite {
        if !backbones.contains(&&layer.backbone[..]) {
            backbones.push(&layer.backbone);
        }
    }
    html! { @for backbone in backbones { (of_backbone(int8, backbone, &finite, &axis)) } }
}

fn of_backbone(int8: &Int8, backbone: &str, layers: &[&Layer], axis: &Axis) -> Markup {
    let mut sorted: Vec<&Layer> = layers.iter().copied().filter(|l| l.backbone == backbone).collect();
    sorted.sort_by(|a, b| b.error.total_cmp(&a.error));
    let parts = sorted.iter().any(|l| l.weights.is_some() || l.activations.is_some());
    let mut columns = vec!["error"];
    columns.extend(parts.then_some(["weights", "activations"]).into_iter().flatten());
    let table = |layers: &[&Layer]| {
        let row = |l: &&Layer| {
            let mut values = vec![percent(l.error, 2)];
            values.extend([l.weights, l.activations].into_iter().filter(|_| parts).map(|part| percent_or_absent(part, 2)));
            Row {
                name: html! { span class="code" { (l.name) } },
                marks: vec![Mark::Bar(l.error.max(0.0), colour(1))],
                values,
                strong: false,
            }
        };
        Tracks {
            first: "Layer",
            axis,
            axis_name: "",
            columns: columns.clone(),
            stacks: parts,
            band: None,
            line: None,
            rows: layers.iter().map(row).collect(),
        }
        .render()
    };
    let (shown, folded) = sorted.split_at(sorted.len().min(LAYERS));
    let of = if int8.error_of.is_empty() { "error" } else { &int8.error_of };
    let name = if backbone.is_empty() { String::new() } else { format!(" of {backbone}") };
    let whole = int8.backbones.iter().find(|whole| whole.name == backbone && whole.error.is_finite()).map(|whole| {
        format!(
            " All of them together: {} (weights alone {}, activations alone {}).",
            percent(whole.error, 2),
            percent_or_absent(whole.weights, 2),
            percent_or_absent(whole.activations, 2)
        )
    });
    let caption = format!(
        "The layers{name} that suffer most in eight bits, one at a time: {of}, of {} layers.{}",
        sorted.len(),
        whole.unwrap_or_default()
    );
    let body = html! {
        (table(shown))
        @if !folded.is_empty() { details { summary { "The other " (folded.len()) " layers" } (table(folded)) } }
    };
    figure(&caption, &body)
}

pub fn backends(data: &Data) -> Option<Section> {
    if data.backends.is_empty() {
        return None;
    }
    let fastest = data.backends.iter().filter(|b| b.pictures_per_second.is_some_and(f64::is_finite));
    let fastest = fastest.max_by(|a, b| a.pictures_per_second.unwrap_or(0.0).total_cmp(&b.pictures_per_second.unwrap_or(0.0)));
    let lead = fastest.map_or_else(
        || "How fast features are extracted and heads are trained.".into(),
        |b| format!("{} is fastest: {} pictures a second.", b.name, short(b.pictures_per_second.unwrap_or(0.0))),
    );
    let speeds = data.backends.iter().filter_map(|b| b.pictures_per_second).filter(|v| v.is_finite() && *v > 0.0);
    let (lowest, highest) = speeds.fold((f64::MAX, 0.0), |(low, high), v| (v.min(low), v.max(high)));
    // Bars need an axis from 0; where they would vanish on it, dots on a logarithmic one show more.
    let logarithmic = highest > 30.0 * lowest;
    let axis = if logarithmic { Axis::logarithmic(lowest, highest, tick) } else { Axis::linear(0.0, highest, tick) };
    let mark = |v: f64| if logarithmic { Mark::Dot(v, colour(1)) } else { Mark::Bar(v, colour(1)) };
    let row = |b: &Backend| Row {
        name: html! { (b.name) },
        marks: b.pictures_per_second.map(mark).into_iter().collect(),
        values: [b.pictures_per_second, b.seconds_per_epoch].map(|v| v.map_or_else(|| ABSENT.into(), short)).into(),
        strong: false,
    };
    let tracks = Tracks {
        first: "Back end",
        axis: &axis,
        axis_name: if logarithmic { "pictures a second (logarithmic)" } else { "pictures a second" },
        columns: vec!["pictures/s", "s/epoch"],
        stacks: true,
        band: None,
        line: None,
        rows: data.backends.iter().map(row).collect(),
    };
    let body =
        figure("Pictures a second while features are extracted, and seconds for an epoch of training.", &tracks.render());
    Some(Section { id: "backends", title: "Back ends", lead, body })
}
