//! The page as a whole: well-formed, self-contained, escaped, and without nonsense for figures at the edge.

use super::*;
use crate::stats::{Bin, RocPoint, Spread};

/// Elements that HTML does not close.
const VOID: [&str; 3] = ["meta", "img", "br"];

/// Walks through all tags: each is closed in order, attributes are quoted, no bare `<` or `&` is left in text.
fn check_form(page: &str) {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("begins with the doctype");
    let mut open: Vec<&str> = Vec::new();
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag is closed");
        let tag = &rest[start + 1..end];
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "wrong closing tag near {}", &rest[..end.min(300)]),
            None => {
                let name = tag.split([' ', '\n']).next().unwrap_or_default();
                assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()), "`<{tag}>`");
                assert_eq!(tag.matches('"').count() % 2, 0, "quotes of `<{tag}>`");
                if !VOID.contains(&name) {
                    open.push(name);
                }
            }
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

fn check_text(text: &str) {
    for (at, _) in text.match_indices('&') {
        let entity = ["&amp;", "&lt;", "&gt;", "&quot;"].iter().any(|e| text[at..].starts_with(e));
        assert!(entity, "a bare & in `{}`", &text[at..].chars().take(30).collect::<String>());
    }
}

/// The page without its pictures, whose base64 may spell anything.
fn without_pictures(page: &str) -> String {
    let mut parts = page.split("base64,");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "base64," + part.split_once('"').map_or("", |(_, after)| after))
}

/// Nothing is loaded, no script runs, no number is nonsense, addresses within the page exist and are unique.
fn check_content(page: &str) {
    let (page, whole) = (&without_pictures(page)[..], page);
    for bad in [
        "NaN",
        "inf%",
        "infpx",
        ">inf<",
        "\"inf",
        "-inf",
        "inf\u{202f}",
        "<script",
        "<link",
        "<iframe",
        "@import",
        "url(",
        "srcset",
        "javascript:",
    ] {
        assert!(
            !page.contains(bad),
            "{bad}: {}",
            page.split(bad).next().map_or("", |t| &t[t.floor_char_boundary(t.len().saturating_sub(200))..])
        );
    }
    for (at, _) in whole.match_indices("src=\"") {
        assert!(whole[at + 5..].starts_with("data:image/jpeg;base64,"));
    }
    for (at, _) in page.match_indices("href=\"") {
        let target = page[at + 6..].split('"').next().unwrap();
        let within = target.strip_prefix('#').is_some_and(|id| page.matches(&format!("id=\"{id}\"")).count() == 1);
        let link = target.starts_with("https://") && page[..at].ends_with("<a ");
        assert!(within || link, "{target}");
    }
    for (at, _) in page.match_indices("<svg") {
        let svg = page[at..].split("</svg>").next().unwrap();
        let tag = svg.split('>').next().unwrap();
        assert!(tag.contains("aria-hidden") || svg.contains("<title>"), "a chart without a text: {tag}");
    }
    assert!(!page.contains('—'), "em dash");
}

fn checked(data: &Data) -> String {
    let page = render(data);
    check_form(&page);
    check_content(&page);
    page
}

#[test]
fn any_number_of_classes_makes_a_page() {
    for classes in [1, 2, 37, 61, 120, 200] {
        let page = checked(&sample::data(classes));
        assert_eq!(page.matches("<section").count(), if classes == 1 { 13 } else { 14 }, "{classes}");
        assert_eq!(page.contains("Confusion matrix of"), (2..=60).contains(&classes), "{classes}");
    }
}

#[test]
fn json_and_back_is_the_same() {
    let data = sample::data(37);
    let json = data.to_json().unwrap();
    // The parser may be off by the last digit of a number; what it gives is kept.
    let back = Data::from_json(&json).unwrap();
    let again = Data::from_json(&back.to_json().unwrap()).unwrap();
    assert_eq!(render(&again), render(&data));
    assert_eq!(Data::from_json(b"{}").unwrap(), Data::default());
}

#[test]
fn foreign_json_and_numbers_that_are_none_are_refused() {
    let error = |json: &str| format!("{:#}", Data::from_json(json.as_bytes()).unwrap_err());
    assert!(error(r#"{"pets": 3}"#).contains("unknown field `pets`"));
    assert!(error(r#"{"examples": [{"thumbnail": "aGk="}]}"#).contains("not a JPEG"));
    let mut data = sample::data(2);
    data.classes[1].right = f64::NAN;
    assert!(format!("{:#}", data.to_json().unwrap_err()).contains("`classes.1.right`"));
}

#[test]
fn nothing_makes_a_page_too() {
    let page = checked(&Data::default());
    assert!(page.contains("no figures") && !page.contains("<section") && !page.contains("<nav"));
}

#[test]
fn each_part_stands_alone() {
    let whole = serde_json::to_value(sample::data(37)).unwrap();
    for (key, value) in whole.as_object().unwrap() {
        let part = serde_json::json!({ key.as_str(): value });
        checked(&Data::from_json(part.to_string().as_bytes()).unwrap());
    }
}

/// Puts `text` in place of every string that is not a picture.
fn spoil(value: &mut serde_json::Value, text: &str) {
    match value {
        serde_json::Value::String(s) if !s.starts_with("/9j/") && !["cat", "dog", "other"].contains(&s.as_str()) => {
            *s = text.into()
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|v| spoil(v, text)),
        serde_json::Value::Object(items) => items.values_mut().for_each(|v| spoil(v, text)),
        _ => {}
    }
}

#[test]
fn every_text_is_escaped() {
    for text in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "a & b &lt; ]]> </style></title>",
        "https://a\"onclick=\"b",
    ] {
        for classes in [3, 37, 61] {
            let mut json = serde_json::to_value(sample::data(classes)).unwrap();
            spoil(&mut json, text);
            let data = Data::from_json(json.to_string().as_bytes()).unwrap();
            assert_eq!(data.classes[0].name, text);
            let page = checked(&data);
            assert!(!page.contains(text), "{text}");
            assert!(!page.contains("onclick=\"") && !page.contains("<img src=\"x"), "{text}");
        }
    }
}

#[test]
fn only_https_addresses_become_links() {
    let mut data = sample::data(2);
    for (source, link) in
        [("https://example.org/a", true), ("http://example.org", false), ("javascript-like text", false), ("", false)]
    {
        data.summary.origins = vec![Origin { source: source.into(), ..Origin::default() }];
        assert_eq!(checked(&data).contains("<a href=\"https"), link, "{source}");
    }
}

#[test]
fn a_class_without_pictures_and_no_negatives_are_said() {
    let mut data = sample::data(5);
    data.classes[2] = Class { name: "empty".into(), ..Class::default() };
    let confusion = data.confusion.as_mut().unwrap();
    confusion.counts[2] = vec![0; 5];
    let gate = data.gate.as_mut().unwrap();
    gate.negatives = None;
    gate.curves.clear();
    gate.categories = vec![Category { name: "none".into(), ..Category::default() }];
    gate.scores = Some(Histogram { pets: vec![1, 2], ..Histogram::default() });
    data.doors = vec![Door { name: "never".into(), ..Door::default() }];
    data.left_out.clone_from(&data.doors);
    let page = checked(&data);
    assert!(page.contains("no pictures") && !page.contains("id=\"doors\"") && !page.contains("id=\"left-out\""));
}

#[test]
fn figures_that_are_none_show_as_absent() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut data = sample::data(4);
        let spread = Some(Spread { mean: bad, sd: bad });
        data.accuracy
            .as_mut()
            .unwrap()
            .rows
            .iter_mut()
            .for_each(|r| (r.top1_micro, r.top1_macro, r.top5) = (spread, spread, spread));
        data.accuracy.as_mut().unwrap().claim = Some(Claim { low: bad, high: bad, source: String::new() });
        data.training.iter_mut().for_each(|e| (e.train_loss, e.held_out_accuracy) = (Some(bad), Some(bad)));
        data.classes.iter_mut().for_each(|c| c.right = bad);
        let gate = data.gate.as_mut().unwrap();
        (gate.threshold, gate.reject_below, gate.pets, gate.negatives) = (Some(bad), Some(bad), spread, spread);
        gate.categories.iter_mut().for_each(|c| (c.plain, c.left_out) = (spread, spread));
        gate.curves.iter_mut().for_each(|c| c.points = vec![RocPoint { threshold: bad, pets: bad, negatives: bad }]);
        gate.scores = Some(Histogram { low: bad, high: bad, pets: vec![1], negatives: vec![] });
        let calibration = data.calibration.as_mut().unwrap();
        calibration.temperature = Some(bad);
        calibration.after = vec![Bin { count: 1, confidence: bad, accuracy: bad }];
        let int8 = data.int8.as_mut().unwrap();
        (int8.agreement, int8.top1_lost) = (spread, spread);
        int8.layers.iter_mut().skip(1).for_each(|l| l.error = bad);
        (int8.layers[0].weights, int8.backbones[0].activations, int8.backbones[1].error) = (Some(bad), Some(bad), bad);
        int8.speed.iter_mut().for_each(|s| (s.fp32_ms, s.int8_ms) = (Some(bad), Some(bad)));
        data.conditions
            .iter_mut()
            .for_each(|c| (c.top1, c.pets_accepted, c.negatives_accepted) = (Some(bad), Some(bad), Some(bad)));
        data.backends.iter_mut().for_each(|b| (b.pictures_per_second, b.seconds_per_epoch) = (Some(bad), Some(bad)));
        data.examples.iter_mut().for_each(|e| e.probability = Some(bad));
        assert!(checked(&data).contains("n/a"));
    }
}

#[test]
fn zeros_and_ends_make_a_page() {
    let zero = Some(Spread { mean: 0.0, sd: 0.0 });
    let mut data = sample::data(3);
    data.classes.iter_mut().for_each(|c| c.right = 0.0);
    data.training.truncate(1);
    data.accuracy.as_mut().unwrap().rows.iter_mut().for_each(|r| r.top1_micro = zero);
    data.accuracy.as_mut().unwrap().paired = vec![Paired::default()];
    data.confusion.as_mut().unwrap().counts.clear();
    data.gate.as_mut().unwrap().categories.iter_mut().for_each(|c| (c.plain, c.left_out) = (zero, None));
    data.calibration.as_mut().unwrap().before = vec![Bin::default(); 15];
    data.int8.as_mut().unwrap().layers = vec![Layer { name: "one".into(), ..Layer::default() }];
    data.conditions.truncate(1);
    data.backends.iter_mut().for_each(|b| b.pictures_per_second = Some(0.0));
    data.doors.iter_mut().for_each(|d| d.openings = d.events * 2);
    checked(&data);
}

#[test]
fn layers_are_shown_by_backbone_and_openings_with_their_bounds() {
    let mut data = sample::data(3);
    let int8 = data.int8.as_mut().unwrap();
    let layer =
        |name: &str, backbone: &str, error| Layer { name: name.into(), backbone: backbone.into(), error, ..Layer::default() };
    int8.layers = vec![layer("a/1", "a", 0.011), layer("b/1", "b", 0.052), layer("a/2", "a", 0.023)];
    int8.backbones = vec![Layer { weights: Some(0.04), activations: Some(0.06), ..layer("b", "b", 0.071) }];
    let strangers = |events, openings| Door { name: "foxes".into(), events, openings };
    data.left_out = vec![strangers(100, 1), strangers(647, 0)];
    data.let_in = Some(Door { name: "pets".into(), events: 739, openings: 721 });
    let page = checked(&data);
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    let order = ["layers of a that", "a/2", "a/1", "layers of b that", "b/1"].map(place);
    assert!(order.is_sorted(), "{order:?}");
    assert!(!page.contains("<th class=\"figure\" scope=\"col\">weights"), "no layer says what its weights cost");
    place("All of them together: 7.10\u{202f}% (weights alone 4.00\u{202f}%, activations alone 6.00\u{202f}%)");
    // 1 of 747: at most 7.44 in 1,000 (Clopper and Pearson); 721 of 739: 96.18 to 98.55 %.
    place("1 of 747 events opened it: 1.34 in 1,000, and at most 7.44");
    place("Of 739 visits of pets that no head had seen, 97.6\u{202f}% opened it (96.2\u{202f}% to 98.6\u{202f}%)");
    data.int8.as_mut().unwrap().layers[1].weights = Some(0.01);
    assert!(checked(&data).contains("weights</th>"), "and now one does");
}

/// `REPORT_SAMPLE=folder cargo test -- --ignored sample`: pages to look at.
#[test]
#[ignore = "writes pages of invented figures to look at, on request"]
fn write_sample_pages() {
    let folder = std::path::PathBuf::from(std::env::var_os("REPORT_SAMPLE").expect("REPORT_SAMPLE names a folder"));
    for classes in [2, 37, 60, 120] {
        std::fs::write(folder.join(format!("report-{classes}.html")), render(&sample::data(classes))).unwrap();
    }
    let whole = sample::data(5);
    let mut small = Data { classes: whole.classes, examples: whole.examples, confusion: whole.confusion, ..Data::default() };
    small.title = "My animals".into();
    small.classes.iter_mut().for_each(|c| (c.pictures, c.right) = (c.pictures / 9, (c.right / 9.0).floor()));
    std::fs::write(folder.join("report-own.html"), render(&small)).unwrap();
    std::fs::write(folder.join("sample.json"), sample::data(37).to_json().unwrap()).unwrap();
}
