//! Charts whose width follows the page while their text does not.
//!
//! A plot is a box of fixed height. Its curves are an SVG stretched over the box (`preserveAspectRatio="none"`) whose strokes
//! keep their width; ticks and labels are HTML, placed in percent of the box. So text has the page's size on a phone, on a
//! screen and on paper, and colours are the page's CSS variables. A track is one row of a table with marks on a common axis.
//!
//! Axes and marks only; what they mean is the sections' business. Positions are percent of the box, 0 to 100.

use maud::{Markup, html};

/// Curves, bars and marks have one of these colours (`c0` is grey), then the same with another dash.
const COLOURS: usize = 5;

/// CSS classes of series `index`, from 1; 0 is grey.
pub fn colour(index: usize) -> String {
    match index.checked_sub(1) {
        None => "c0".into(),
        Some(i) => format!("c{} d{}", i % COLOURS + 1, i / COLOURS % 3),
    }
}

/// An axis of values.
pub struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From `low` to `high`, widened to round numbers, with at most about five ticks written by `text`.
    pub fn linear(low: f64, high: f64, text: impl Fn(f64) -> String) -> Self {
        let low = if low.is_finite() { low } else { 0.0 };
        let high = if high.is_finite() && high > low { high } else { low + 1.0 };
        let step = round_step((high - low) / 4.0);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks = (0..=(last - first) as usize).map(|i| (first + i as f64) * step).map(|v| (v, text(v))).collect();
        Self { low: first * step, high: last * step, logarithmic: false, ticks }
    }

    /// Shares from the round number below `lowest` to 1.
    pub fn shares(lowest: f64) -> Self {
        let lowest = if lowest.is_finite() { lowest.clamp(0.0, 0.95) } else { 0.0 };
        let step = round_step((1.0 - lowest) / 4.0);
        let steps = ((1.0 - lowest) / step - 1e-9).ceil();
        // Steps are counted from 1, where they may not divide 0 to 1; below 0 there are no shares.
        if steps * step > 1.0 {
            return Self::linear(0.0, 1.0, super::format::percent_short);
        }
        let ticks = (0..=steps as usize).rev().map(|i| 1.0 - i as f64 * step).map(|v| (v, super::format::percent_short(v)));
        Self { low: 1.0 - steps * step, high: 1.0, logarithmic: false, ticks: ticks.collect() }
    }

    /// From `low` to `high` exactly, with ticks at the round numbers between them.
    pub fn exact(low: f64, high: f64, text: impl Fn(f64) -> String) -> Self {
        let mut axis = Self::linear(low, high, text);
        if low.is_finite() && high.is_finite() && low < high {
            let slack = 1e-9 * (high - low);
            axis.ticks.retain(|(v, _)| (low - slack..=high + slack).contains(v));
            (axis.low, axis.high) = (low, high);
        }
        axis
    }

    /// A logarithmic axis over whole powers of ten, from the one below `low` to the one above `high`; both must be above 0.
    pub fn logarithmic(low: f64, high: f64, text: impl Fn(f64) -> String) -> Self {
        let power = |v: f64, round: fn(f64) -> f64| if v > 0.0 && v.is_finite() { round(v.log10()) as i32 } else { 0 };
        let first = power(low, |v| (v + 1e-9).floor());
        let last = power(high, |v| (v - 1e-9).ceil()).max(first + 1);
        let ticks: Vec<_> = (first..=last).map(|e| 10f64.powi(e)).map(|v| (v, text(v))).collect();
        Self { low: 10f64.powi(first), high: 10f64.powi(last), logarithmic: true, ticks }
    }

    /// Lower end.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Where `value` lies, 0 to 100; what is outside lies on the border.
    pub fn at(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if part.is_finite() { 100.0 * part.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough * (1.0 - 1e-9));
    step.filter(|s| s.is_finite() && *s > 0.0).unwrap_or(1.0)
}

/// A curve of a plot.
#[derive(Default)]
pub struct Series {
    /// What stands at its right end; nothing when empty.
    pub label: String,
    /// Classes from [`colour`].
    pub class: String,
    /// Values of both axes, in order.
    pub points: Vec<(f64, f64)>,
    /// Marks at these values too.
    pub dots: Vec<(f64, f64)>,
}

/// What begins at a marked value.
pub enum Side {
    /// It is left of the value.
    Left(&'static str),
    /// It is right of the value.
    Right(&'static str),
}

/// A box with curves.
pub struct Plot<'a> {
    /// What it shows, for those who do not see it; figures included.
    pub summary: String,
    /// Height of the box in pixels.
    pub height: u32,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// Name of the horizontal axis.
    pub x_name: &'a str,
    /// Name of the vertical axis, above it.
    pub y_name: &'a str,
    /// In the order in which they are drawn.
    pub series: Vec<Series>,
    /// Filled boxes: classes, left, right, bottom, top, as values.
    pub boxes: Vec<(String, [f64; 4])>,
    /// Marked values of the horizontal axis, and what lies to one side of them.
    pub marks: Vec<(f64, Side)>,
}

impl Plot<'_> {
    /// The box with its axes.
    pub fn render(&self) -> Markup {
        let labelled = self.series.iter().any(|s| !s.label.is_empty());
        html! {
            div class=(if labelled { "plot labelled" } else { "plot" }) {
                div class="y-name" aria-hidden="true" { (self.y_name) }
                div class="box" style=(format!("height:{}px", self.height)) {
                    svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" {
                        title { (self.summary) }
                        (self.grid())
                        @for (class, [left, right, bottom, top]) in &self.boxes { (self.filled(class, *left, *right, *bottom, *top)) }
                        @for series in &self.series { (self.curve(series)) }
                    }
                    div aria-hidden="true" { (self.texts()) }
                }
                div class="x-name" aria-hidden="true" { (self.x_name) }
            }
        }
    }

    fn grid(&self) -> Markup {
        let horizontal = self.y.ticks.iter().map(|(v, _)| 1000.0 - 10.0 * self.y.at(*v));
        let vertical = self.x.ticks.iter().map(|(v, _)| 10.0 * self.x.at(*v));
        let lines: String =
            horizontal.map(|y| format!("M0 {y:.1}H1000")).chain(vertical.map(|x| format!("M{x:.1} 0V1000"))).collect();
        let marks: String = self.marks.iter().map(|(v, _)| format!("M{:.1} 0V1000", 10.0 * self.x.at(*v))).collect();
        html! {
            path class="grid" d=(lines) {}
            path class="axis" d="M0 0V1000H1000" {}
            @if !marks.is_empty() { path class="mark" d=(marks) {} }
        }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (10.0 * self.x.at(x), 1000.0 - 10.0 * self.y.at(y))
    }

    fn filled(&self, class: &str, left: f64, right: f64, bottom: f64, top: f64) -> Markup {
        let ((x, y), (to_x, to_y)) = (self.place((left, top)), self.place((right, bottom)));
        let d = format!("M{x:.1} {y:.1}H{to_x:.1}V{to_y:.1}H{x:.1}Z");
        html! { path class=(format!("fill {class}")) d=(d) {} }
    }

    fn curve(&self, series: &Series) -> Markup {
        let finite = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).map(|p| self.place(*p)).collect()
        };
        let line: String = finite(&series.points)
            .iter()
            .enumerate()
            .map(|(i, (x, y))| format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }))
            .collect();
        // A line without length and with round ends is a dot, however the box is stretched.
        let dots: String = finite(&series.dots).iter().map(|(x, y)| format!("M{x:.1} {y:.1}h0")).collect();
        html! {
            @if !line.is_empty() { path class=(format!("curve {}", series.class)) d=(line) {} }
            @if !dots.is_empty() {
                path class=(format!("dot-edge {}", series.class)) d=(dots) {}
                path class=(format!("dot {}", series.class)) d=(dots) {}
            }
        }
    }

    fn texts(&self) -> Markup {
        html! {
            @for (value, text) in &self.x.ticks {
                span class="x-tick" style=(format!("left:{:.2}%", self.x.at(*value))) { (text) }
            }
            @for (value, text) in &self.y.ticks {
                span class="y-tick" style=(format!("bottom:{:.2}%", self.y.at(*value))) { (text) }
            }
            @for (value, side) in &self.marks {
                @let (class, text) = match side { Side::Left(text) => ("mark-text before", text), Side::Right(text) => ("mark-text", text) };
                span class=(class) style=(format!("left:{:.2}%", self.x.at(*value))) { (text) }
            }
            @for (top, series) in self.labels() {
                span class=(format!("end {}", series.class)) style=(format!("top:{top:.1}px")) { (series.label) }
            }
        }
    }

    /// Labels with the height of their middle in pixels from the top, at least a line apart where there is room.
    fn labels(&self) -> Vec<(f64, &Series)> {
        let line = 16.0;
        let height = f64::from(self.height);
        let mut labels: Vec<(f64, &Series)> = self
            .series
            .iter()
            .filter(|s| !s.label.is_empty())
            .filter_map(|s| Some((height * (1.0 - self.y.at(s.points.last()?.1) / 100.0), s)))
            .collect();
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        for i in 1..labels.len() {
            labels[i].0 = labels[i].0.max(labels[i - 1].0 + line);
        }
        let mut floor = height;
        for label in labels.iter_mut().rev() {
            label.0 = label.0.min(floor);
            floor = label.0 - line;
        }
        labels
    }
}

/// A mark on a track, with its classes from [`colour`].
pub enum Mark {
    /// A disc at a value.
    Dot(f64, String),
    /// A ring at a value.
    Ring(f64, String),
    /// A line between two values.
    Whisker(f64, f64, String),
    /// A bar from the axis's lower end, which must be 0.
    Bar(f64, String),
}

/// One row of [`Tracks`].
pub struct Row {
    /// Its name.
    pub name: Markup,
    /// What is drawn, in this order.
    pub marks: Vec<Mark>,
    /// The figures behind it, as text, one for each of [`Tracks::columns`].
    pub values: Vec<String>,
    /// Whether it stands out.
    pub strong: bool,
}

/// A table with a chart as one of its columns.
pub struct Tracks<'a> {
    /// Heading of the names.
    pub first: &'a str,
    /// The common axis.
    pub axis: &'a Axis,
    /// What the axis shows.
    pub axis_name: &'a str,
    /// Headings of the figures.
    pub columns: Vec<&'a str>,
    /// Whether a phone shows the figures below the track, each with its heading, because there are too many for a line.
    pub stacks: bool,
    /// A shaded range.
    pub band: Option<(f64, f64)>,
    /// A line at a value.
    pub line: Option<f64>,
    /// In this order.
    pub rows: Vec<Row>,
}

impl Tracks<'_> {
    /// The table, in a box of its own that scrolls when the page is too narrow.
    pub fn render(&self) -> Markup {
        html! {
            div class="scroll" tabindex="0" role="region" aria-label="table, scrolls sideways" {
                table class=(if self.stacks { "tracks wide" } else { "tracks" }) {
                    thead {
                        tr {
                            th scope="col" { (self.first) }
                            th class="track" scope="col" { span class="axis-name" { (self.axis_name) } (self.ticks()) }
                            @for column in &self.columns { th class="figure" scope="col" { (column) } }
                        }
                    }
                    tbody {
                        @for row in &self.rows {
                            tr class=[row.strong.then_some("strong")] {
                                th scope="row" { (row.name) }
                                td class="track" { (self.track(row)) }
                                @for (value, column) in row.values.iter().zip(&self.columns) { td class="figure" data-label=(column) { (value) } }
                            }
                        }
                    }
                }
            }
        }
    }

    fn ticks(&self) -> Markup {
        // Four labels at most fit over a track on a phone; the first and the last are always there.
        let every = self.axis.ticks.len().div_ceil(4).max(1);
        let last = self.axis.ticks.len().saturating_sub(1);
        html! {
            span class="ticks" aria-hidden="true" {
                @for (i, (value, text)) in self.axis.ticks.iter().enumerate() {
                    @let shown = if every > 1 { i == 0 || i == last || (last.is_multiple_of(2) && i == last / 2) } else { true };
                    @if shown { span style=(format!("left:{:.2}%", self.axis.at(*value))) { (text) } }
                }
            }
        }
    }

    fn track(&self, row: &Row) -> Markup {
        html! {
            svg width="100%" height="100%" aria-hidden="true" {
                @if let Some((low, high)) = self.band {
                    @let (low, high) = (self.axis.at(low), self.axis.at(high));
                    rect class="band" x=(p(low)) width=(p(high - low)) y="0" height="100%" {}
                }
                @for (value, _) in &self.axis.ticks {
                    @let at = self.axis.at(*value);
                    line class="grid" x1=(p(at)) x2=(p(at)) y1="0" y2="100%" {}
                }
                @if let Some(value) = self.line.filter(|v| v.is_finite()) {
                    line class="mark" x1=(p(self.axis.at(value))) x2=(p(self.axis.at(value))) y1="0" y2="100%" {}
                }
                @for mark in &row.marks { (self.mark(mark)) }
            }
        }
    }

    fn mark(&self, mark: &Mark) -> Markup {
        let at = |value: f64| p(self.axis.at(value));
        match mark {
            Mark::Dot(value, _) | Mark::Ring(value, _) | Mark::Bar(value, _) if !value.is_finite() => html! {},
            Mark::Whisker(low, high, _) if !low.is_finite() || !high.is_finite() => html! {},
            Mark::Dot(value, class) => html! { circle class=(format!("disc {class}")) cx=(at(*value)) cy="50%" r="4.5" {} },
            Mark::Ring(value, class) => html! { circle class=(format!("ring {class}")) cx=(at(*value)) cy="50%" r="4.5" {} },
            Mark::Whisker(low, high, class) => html! {
                line class=(format!("whisker {class}")) x1=(at(*low)) x2=(at(*high)) y1="50%" y2="50%" {}
            },
            Mark::Bar(value, class) => html! {
                rect class=(format!("bar {class}")) x="0" width=(at(*value)) y="50%" height="12" transform="translate(0,-6)" {}
            },
        }
    }
}

fn p(percent: f64) -> String {
    format!("{percent:.2}%")
}

/// A key to colours: classes and what they mean. `ring` marks are open.
pub fn key(entries: &[(String, &str, bool)]) -> Markup {
    html! {
        ul class="key" {
            @for (class, text, ring) in entries {
                li {
                    svg width="12" height="12" aria-hidden="true" {
                        circle class=(format!("{} {class}", if *ring { "ring" } else { "disc" })) cx="6" cy="6" r="4.5" {}
                    }
                    (text)
                }
            }
        }
    }
}

/// A key to curves.
pub fn line_sample(class: &str) -> Markup {
    html! {
        svg class="sample" width="26" height="10" aria-hidden="true" {
            line class=(format!("curve {class}")) x1="0" x2="26" y1="5" y2="5" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, t)| t.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        let axis = Axis::linear(0.0, 7.3, |v| format!("{v}"));
        assert_eq!(texts(&axis), ["0", "2", "4", "6", "8"]);
        let shares: Vec<String> = texts(&Axis::shares(0.83)).iter().map(|t| t.replace('\u{202f}', "")).collect();
        assert_eq!(shares, ["80%", "85%", "90%", "95%", "100%"]);
        let log: Vec<String> = texts(&Axis::logarithmic(0.001, 1.0, super::super::format::percent_short))
            .iter()
            .map(|t| t.replace('\u{202f}', ""))
            .collect();
        assert_eq!(log, ["0.1%", "1%", "10%", "100%"]);
        for high in [1e-9, 0.02, 1.0, 3.0, 99.0, 1e7] {
            assert!((3..=6).contains(&Axis::linear(0.0, high, |v| v.to_string()).ticks.len()), "{high}");
        }
        for low in [0.0, 0.1, 0.3, 0.49, 0.5, 0.77, 0.95, 1.0] {
            let axis = Axis::shares(low);
            assert!(axis.low >= 0.0 && axis.low <= low && (3..=6).contains(&axis.ticks.len()), "{low}: {:?}", axis.ticks);
        }
    }

    #[test]
    fn places_stay_within_the_box() {
        let axis = Axis::linear(f64::NAN, f64::NAN, |v| v.to_string());
        assert_eq!((axis.at(f64::NAN), axis.at(-3.0), axis.at(9.0), axis.at(0.5)), (0.0, 0.0, 100.0, 50.0));
        let log = Axis::logarithmic(0.001, 1.0, super::super::format::percent_short);
        assert_eq!((log.at(0.0), log.at(1.0), log.at(2.0)), (0.0, 100.0, 100.0));
        assert!((log.at(0.01) - 100.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn labels_at_the_ends_of_curves_keep_apart() {
        let series =
            |label: &str, y: f64| Series { label: label.into(), points: vec![(0.0, 0.0), (1.0, y)], ..Series::default() };
        let axis = || Axis::linear(0.0, 1.0, |v| v.to_string());
        let plot = Plot {
            summary: String::new(),
            height: 100,
            x: axis(),
            y: axis(),
            x_name: "",
            y_name: "",
            series: vec![series("a", 0.01), series("b", 0.0), series("c", 0.02), series("d", 1.0), series("e", 0.99)],
            boxes: vec![],
            marks: vec![],
        };
        let labels = plot.labels();
        let names: Vec<_> = labels.iter().map(|(_, s)| s.label.as_str()).collect();
        assert_eq!(names, ["d", "e", "c", "a", "b"]);
        assert!(labels.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 15.99) && labels[4].0 <= 100.0 && labels[0].0 >= 0.0);
    }

    #[test]
    fn colours_come_round_with_another_dash() {
        assert_eq!([0, 1, 5, 6, 16].map(colour), ["c0", "c1 d0", "c5 d0", "c1 d1", "c1 d0"]);
    }
}
