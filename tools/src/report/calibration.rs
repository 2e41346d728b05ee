//! How far probabilities are true: reliability diagrams before and after the temperature.

use maud::{Markup, html};

use super::chart::{Axis, Plot, Series, colour};
use super::format::{count, percent, percent_short, sentence, short};
use super::{Data, Section};
use crate::stats::{Bin, expected_calibration_error};

pub fn section(data: &Data) -> Option<Section> {
    let calibration = data.calibration.as_ref()?;
    let (before, after) = (expected_calibration_error(&calibration.before), expected_calibration_error(&calibration.after));
    if before.is_none() && after.is_none() {
        return None;
    }
    let divided = calibration.temperature.map_or_else(String::new, |t| format!(" Logits are divided by {}.", short(t)));
    let lead = match (before, after) {
        (Some(before), Some(after)) => format!(
            "Probabilities are off by {} on average, and by {} before the temperature was fitted.{divided}",
            percent(after, 2),
            percent(before, 2)
        ),
        (Some(one), None) | (None, Some(one)) => format!("Probabilities are off by {} on average.{divided}", percent(one, 2)),
        (None, None) => return None,
    };
    let body = html! {
        figure {
            figcaption {
                "Of the answers of a given probability, which share was right? On the diagonal, probabilities are true; above it the \
                 model is too modest, below it too sure. Bins have equal width; below, how many answers fell into each."
            }
            div class="pair" {
                @if let Some(error) = before { (diagram("before", &calibration.before, error)) }
                @if let Some(error) = after { (diagram("after", &calibration.after, error)) }
            }
        }
    };
    Some(Section { id: "calibration", title: "Calibration", lead, body })
}

fn diagram(name: &str, bins: &[Bin], error: f64) -> Markup {
    let filled: Vec<&Bin> = bins.iter().filter(|b| b.count > 0 && b.confidence.is_finite() && b.accuracy.is_finite()).collect();
    let points: Vec<(f64, f64)> = filled.iter().map(|b| (b.confidence, b.accuracy)).collect();
    // How far each bin is off, as a stroke from the diagonal.
    let gaps = filled.iter().map(|b| Series {
        class: "c2 gap".into(),
        points: vec![(b.confidence, b.confidence), (b.confidence, b.accuracy)],
        ..Series::default()
    });
    let diagonal = Series { class: "c0 d1".into(), points: vec![(0.0, 0.0), (1.0, 1.0)], ..Series::default() };
    let reliability = Series { class: colour(1), points: points.clone(), dots: points, ..Series::default() };
    let unit = || Axis::shares(0.0);
    let plot = Plot {
        summary: format!(
            "Reliability {name}: {} bins with answers, expected calibration error {}",
            filled.len(),
            percent(error, 2)
        ),
        height: 260,
        x: unit(),
        y: unit(),
        x_name: "",
        y_name: "share that was right",
        series: std::iter::once(diagonal).chain(gaps).chain([reliability]).collect(),
        boxes: vec![],
        marks: vec![],
    };
    html! {
        div {
            h3 { (sentence(name)) " " span class="quiet" { "expected calibration error " (percent(error, 2)) } }
            (plot.render())
            (counts(bins))
        }
    }
}

fn counts(bins: &[Bin]) -> Markup {
    let all = bins.iter().map(|b| b.count).sum::<u64>() as f64;
    let width = 1.0 / bins.len() as f64;
    let share = |b: &Bin| b.count as f64 / all;
    let boxes = bins.iter().enumerate().filter(|(_, b)| b.count > 0);
    let boxes = boxes.map(|(i, b)| ("c0".to_owned(), [i as f64 * width, (i + 1) as f64 * width, 0.0, share(b)]));
    let list: Vec<String> = bins.iter().map(|b| count(b.count)).collect();
    Plot {
        summary: format!("Answers in each bin, from low to high probability: {}", list.join("; ")),
        height: 70,
        x: Axis::shares(0.0),
        y: Axis::linear(0.0, bins.iter().map(share).fold(0.0, f64::max).max(0.5), percent_short),
        x_name: "probability of the answer",
        y_name: "answers",
        series: vec![],
        boxes: boxes.collect(),
        marks: vec![],
    }
    .render()
}
