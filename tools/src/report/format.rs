//! Numbers and names as readers see them. A number that is not finite is `n/a`, never `NaN`.

use crate::stats::Spread;

/// What stands for a number that is not there.
pub const ABSENT: &str = "n/a";

/// With `digits` behind the point.
pub fn number(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return ABSENT.into();
    }
    let text = format!("{:.digits$}", value.abs());
    let (whole, fraction) = text.split_once('.').map_or((&text[..], String::new()), |(w, f)| (w, format!(".{f}")));
    let sign = if value < 0.0 && text.contains(|c: char| ('1'..='9').contains(&c)) { "\u{2212}" } else { "" };
    format!("{sign}{}{fraction}", grouped(whole))
}

/// With as few digits as the value needs: a label of an axis.
pub fn tick(value: f64) -> String {
    let whole = |d: &i32| {
        let scaled = value * 10f64.powi(*d);
        (scaled - scaled.round()).abs() < 1e-6
    };
    number(value, (0..6).find(whole).unwrap_or(6) as usize)
}

/// With as many digits as say something: three figures, no exponent.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.1 => 3,
        _ => 4,
    };
    number(value, digits)
}

/// A share (0 to 1) in percent.
pub fn percent(share: f64, digits: usize) -> String {
    if share.is_finite() { format!("{}\u{202f}%", number(100.0 * share, digits)) } else { ABSENT.into() }
}

/// A share in percent, its digits chosen by its size.
pub fn percent_short(share: f64) -> String {
    let digits = match (100.0 * share).abs() {
        p if p >= 1.0 || p == 0.0 => usize::from((p - p.round()).abs() > 1e-6),
        p if p >= 0.1 => 1,
        _ => 2,
    };
    percent(share, digits)
}

/// A share, where there is one.
pub fn percent_or_absent(share: Option<f64>, digits: usize) -> String {
    share.map_or_else(|| ABSENT.into(), |s| percent(s, digits))
}

/// Mean and deviation of shares, in percent.
pub fn spread(spread: Spread, digits: usize) -> String {
    format!("{} ± {}\u{202f}%", number(100.0 * spread.mean, digits), number(100.0 * spread.sd, digits))
}

/// Mean and deviation, where there are any.
pub fn spread_or_absent(value: Option<Spread>, digits: usize) -> String {
    value.map_or_else(|| ABSENT.into(), |s| spread(s, digits))
}

/// A count with a comma between thousands.
pub fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// Digits with a comma between thousands.
fn grouped(digits: &str) -> String {
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or_default()).collect();
    groups.join(",")
}

/// A count that may be a mean: whole where it is whole.
pub fn mean_count(value: f64) -> String {
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) { count(value as u64) } else { number(value, 1) }
}

/// `3 pictures`, `1 picture`.
pub fn counted(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

/// A p-value.
pub fn p_value(p: f64) -> String {
    match p {
        p if !p.is_finite() => ABSENT.into(),
        p if p < 0.0001 => "p\u{a0}<\u{a0}0.0001".into(),
        p if p < 0.01 => format!("p\u{a0}=\u{a0}{p:.4}"),
        p => format!("p\u{a0}=\u{a0}{p:.2}"),
    }
}

/// A class's name as text.
pub fn name(class: &str) -> String {
    class.replace('_', " ")
}

/// With a capital first letter, as a sentence begins.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// At most `most` characters, the last an ellipsis when something was cut.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.into() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (count(0), count(999), count(3680), count(1_234_567)),
            ("0".into(), "999".into(), "3,680".into(), "1,234,567".into())
        );
        assert_eq!(percent(0.934_15, 1), "93.4\u{202f}%");
        assert_eq!(
            (percent_short(0.001), percent_short(0.05), percent_short(0.875)),
            ("0.1\u{202f}%".into(), "5\u{202f}%".into(), "87.5\u{202f}%".into())
        );
        assert_eq!(spread(Spread { mean: 0.9, sd: 0.004 }, 2), "90.00 ± 0.40\u{202f}%");
        assert_eq!((mean_count(12.0), mean_count(12.4)), ("12".into(), "12.4".into()));
        assert_eq!(
            (counted(1, "picture", "pictures"), counted(2000, "picture", "pictures")),
            ("1 picture".into(), "2,000 pictures".into())
        );
        assert_eq!(
            (p_value(0.00001), p_value(0.0004), p_value(0.5)),
            ("p\u{a0}<\u{a0}0.0001".into(), "p\u{a0}=\u{a0}0.0004".into(), "p\u{a0}=\u{a0}0.50".into())
        );
        assert_eq!((cut("abc", 3), cut("äbcd", 3)), ("abc".into(), "äb…".into()));
        assert_eq!((short(0.01234), short(1.5), short(-123.4)), ("0.0123".into(), "1.50".into(), "\u{2212}123".into()));
    }

    #[test]
    fn ticks_have_the_digits_they_need() {
        assert_eq!([0.0, 2.0, 2.5, 0.05, -0.3, 1500.0].map(tick), ["0", "2", "2.5", "0.05", "\u{2212}0.3", "1,500"]);
        assert_eq!((number(-0.001, 1), number(-1234.5, 1)), ("0.0".into(), "\u{2212}1,234.5".into()));
        assert_eq!((sentence("élan vital"), sentence("")), ("Élan vital".into(), String::new()));
    }

    #[test]
    fn what_is_not_finite_is_absent() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for text in
                [number(bad, 1), short(bad), tick(bad), percent(bad, 1), percent_short(bad), p_value(bad), mean_count(bad)]
            {
                assert_eq!(text, ABSENT);
            }
        }
    }
}
