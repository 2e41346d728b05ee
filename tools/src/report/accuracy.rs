//! Accuracy by network, whether the fusion's gain is more than chance, and how training went.

use maud::{Markup, html};

use super::chart::{Axis, Mark, Plot, Row, Series, Tracks, colour};
use super::format::{count, number, p_value, percent, sentence, spread_or_absent};
use super::{Accuracy, Data, Epoch, Network, Paired, Section, figure};
use crate::stats::mcnemar;

pub fn accuracy(data: &Data) -> Option<Section> {
    let accuracy = data.accuracy.as_ref().filter(|a| !a.rows.is_empty() || !a.paired.is_empty())?;
    let body = html! {
        @if !accuracy.rows.is_empty() { (rows(accuracy)) }
        @if !accuracy.paired.is_empty() { h3 { "Is the difference more than chance?" } (paired(&accuracy.paired)) }
    };
    Some(Section { id: "accuracy", title: "Accuracy", lead: lead(accuracy), body })
}

fn lead(accuracy: &Accuracy) -> String {
    let best = |row: &&Network| row.top1_micro.filter(|s| s.mean.is_finite()).map(|s| s.mean);
    let Some(row) = accuracy.rows.iter().find(|r| r.ships).or_else(|| accuracy.rows.last()) else {
        return "The networks compared picture by picture.".into();
    };
    let Some(mean) = best(&row) else { return "How often the right class comes first.".into() };
    match &accuracy.claim {
        Some(claim) if mean > claim.high => {
            format!(
                "{} names the right class for {} of the pets, above what {} claims.",
                row.name,
                percent(mean, 1),
                claim.source
            )
        }
        Some(claim) if mean < claim.low => {
            format!(
                "{} names the right class for {} of the pets, below what {} claims.",
                row.name,
                percent(mean, 1),
                claim.source
            )
        }
        Some(claim) => {
            format!(
                "{} names the right class for {} of the pets, within what {} claims.",
                row.name,
                percent(mean, 1),
                claim.source
            )
        }
        None => format!("{} names the right class for {} of the pets.", row.name, percent(mean, 1)),
    }
}

fn rows(accuracy: &Accuracy) -> Markup {
    let means = accuracy.rows.iter().flat_map(|r| [r.top1_micro, r.top1_macro].into_iter().flatten());
    let lowest = means.map(|s| s.mean - s.sd).chain(accuracy.claim.iter().map(|c| c.low)).filter(|v| v.is_finite());
    let axis = Axis::shares((lowest.fold(1.0, f64::min) - 0.01).min(0.9));
    let row = |row: &Network| {
        let class = colour(usize::from(row.ships));
        let marks = row
            .top1_micro
            .into_iter()
            .flat_map(|s| [Mark::Whisker(s.mean - s.sd, s.mean + s.sd, class.clone()), Mark::Dot(s.mean, class.clone())]);
        Row {
            name: html! { (row.name) },
            marks: marks.collect(),
            values: [row.top1_micro, row.top1_macro, row.top5].map(|s| spread_or_absent(s, 2)).into(),
            strong: row.ships,
        }
    };
    let tracks = Tracks {
        first: "Network",
        axis: &axis,
        axis_name: "top-1",
        columns: vec!["top-1", "by class", "top-5"],
        stacks: true,
        band: accuracy.claim.as_ref().map(|c| (c.low, c.high)),
        line: None,
        rows: accuracy.rows.iter().map(row).collect(),
    };
    let mut caption = String::from(
        "Top-1: the right class comes first. By class: the same, every class counting alike (macro average). \
         Whiskers are one standard deviation over the seeds.",
    );
    if let Some(claim) = &accuracy.claim {
        caption += &format!(
            " The shaded range, {} to {}, is what {} claims.",
            percent(claim.low, 0),
            percent(claim.high, 0),
            claim.source
        );
    }
    caption += &format!(" The axis begins at {}.", percent(axis.low(), 0));
    figure(&caption, &tracks.render())
}

fn paired(pairs: &[Paired]) -> Markup {
    html! {
        @for pair in pairs {
            @let p = mcnemar(pair.only_a, pair.only_b);
            div class="paired" {
                p {
                    strong { (pair.a) } " against " strong { (pair.b) }
                    @if !pair.basis.is_empty() { span class="quiet" { ", " (pair.basis) } }
                }
                (discordance(pair))
                p { (verdict(pair, p)) " " span class="quiet" { "Exact McNemar test, two-sided: " (p_value(p)) "." } }
            }
        }
    }
}

/// Pictures on which one of the two is right, as two bars that share a length.
fn discordance(pair: &Paired) -> Markup {
    let most = pair.only_a.max(pair.only_b).max(1) as f64;
    let bar = |class: &'static str, value: u64, name: &str| {
        html! {
            li {
                span { "only " (name) " right" }
                svg width="100%" height="12" aria-hidden="true" {
                    rect class=(format!("bar {class}")) x="0" y="0" height="100%" width=(format!("{:.2}%", 100.0 * value as f64 / most)) {}
                }
                span class="figure" { (count(value)) }
            }
        }
    };
    html! { ul class="bars" { (bar("c1", pair.only_a, &pair.a)) (bar("c0", pair.only_b, &pair.b)) } }
}

fn verdict(pair: &Paired, p: f64) -> String {
    let gain = (pair.only_a as f64 - pair.only_b as f64) / pair.pictures.max(1) as f64;
    let points = number(100.0 * gain.abs(), 2);
    let of = if pair.pictures > 0 { format!(" on {} pictures", count(pair.pictures)) } else { String::new() };
    let direction = match gain {
        _ if pair.pictures == 0 => "The two differ".to_owned(),
        g if g > 0.0 => format!("{} is better by {points} points{of}", pair.a),
        g if g < 0.0 => format!("{} is worse by {points} points{of}", pair.a),
        _ => format!("Neither is better{of}"),
    };
    format!(
        "{}; {}.",
        sentence(&direction),
        if p < 0.05 { "chance alone rarely does this" } else { "chance alone may well do this" }
    )
}

pub fn training(data: &Data) -> Option<Section> {
    let loss = panel(
        &data.training,
        "loss in nats",
        |e| (e.train_loss, e.held_out_loss),
        |high| Axis::linear(0.0, high, |v| number(v, usize::from(high < 8.0) + usize::from(high < 0.4))),
    );
    let accuracy = panel(
        &data.training,
        "top-1",
        |e| (e.train_accuracy, e.held_out_accuracy),
        |_| {
            let all = data.training.iter().flat_map(|e| [e.train_accuracy, e.held_out_accuracy].into_iter().flatten());
            Axis::shares(all.filter(|v| v.is_finite()).fold(1.0, f64::min))
        },
    );
    let last = data.training.last()?;
    if loss.is_none() && accuracy.is_none() {
        return None;
    }
    let lead = match (last.train_accuracy, last.held_out_accuracy) {
        (Some(train), Some(held)) => format!(
            "After epoch {} the head names {} of the training pictures and {} of those held out.",
            last.epoch,
            percent(train, 1),
            percent(held, 1)
        ),
        _ => "How loss and accuracy changed while the head was trained.".into(),
    };
    let body =
        html! { div class="pair" { @if let Some(loss) = loss { (loss) } @if let Some(accuracy) = accuracy { (accuracy) } } };
    Some(Section { id: "training", title: "Training", lead, body })
}

fn panel(
    epochs: &[Epoch],
    name: &str,
    of: impl Fn(&Epoch) -> (Option<f64>, Option<f64>),
    axis: impl Fn(f64) -> Axis,
) -> Option<Markup> {
    let curve = |part: &dyn Fn(&Epoch) -> Option<f64>| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|e| Some((f64::from(e.epoch), part(e).filter(|v| v.is_finite())?))).collect()
    };
    let (train, held) = (curve(&|e| of(e).0), curve(&|e| of(e).1));
    let high = train.iter().chain(&held).map(|p| p.1).fold(0.0, f64::max);
    if train.is_empty() && held.is_empty() {
        return None;
    }
    let (first, last) = (epochs.first()?.epoch, epochs.last()?.epoch);
    let series = |label: &str, class: usize, points: Vec<(f64, f64)>| Series {
        label: if points.is_empty() { String::new() } else { label.into() },
        class: colour(class),
        dots: if points.len() <= 30 { points.clone() } else { vec![] },
        points,
    };
    let end = |points: &[(f64, f64)]| points.last().map_or_else(|| super::format::ABSENT.into(), |p| number(p.1, 3));
    let plot = Plot {
        summary: format!(
            "{name} by epoch, from {first} to {last}; at the end {} in training, {} held out",
            end(&train),
            end(&held)
        ),
        height: 220,
        x: Axis::linear(f64::from(first.min(1)), f64::from(last.max(first + 1)), |v| {
            if v.fract() == 0.0 { number(v, 0) } else { String::new() }
        }),
        y: axis(high),
        x_name: "epoch",
        y_name: name,
        series: vec![series("training", 0, train), series("held out", 1, held)],
        boxes: vec![],
        marks: vec![],
    };
    Some(html! { figure { (plot.render()) } })
}
