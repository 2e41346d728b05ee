//! How far a counted share can be trusted: the exact interval of Clopper and Pearson ("The use of confidence or fiducial limits
//! illustrated in the case of the binomial", Biometrika 26, 1934), two-sided, 95 %.
//!
//! It never promises more than the count shows, also where nothing or everything was counted: 0 of 20 leaves up to 16.8 %.
//! Numbers only; what is counted is the caller's affair.

/// Probability that the share lies beyond one end.
const TAIL: f64 = 0.025;
/// Halvings of 0…1: more than an f64 can tell apart.
const STEPS: usize = 60;
/// The most pictures that [`least_total`] asks for.
const MOST: usize = 1_000_000;

/// Both ends of the interval of a share of which `count` of `total` were seen, 0…1; without any it is all of 0…1.
///
/// # Panics
/// When `count` is larger than `total`.
pub fn interval(count: usize, total: usize) -> (f64, f64) {
    assert!(count <= total, "{count} of {total}");
    let lower = if count == 0 { 0.0 } else { root(|p| 1.0 - at_most(count - 1, total, p) >= TAIL) };
    let upper = if count == total { 1.0 } else { root(|p| at_most(count, total, p) <= TAIL) };
    (lower, upper)
}

/// The smallest total whose interval ends at `limit` or below while `count` stays as it is; `None` when more than a million
/// would be needed.
pub fn least_total(count: usize, limit: f64) -> Option<usize> {
    let enough = |total: usize| interval(count, total).1 <= limit;
    let mut many = count.max(1);
    while !enough(many) {
        many *= 2;
        if many > MOST {
            return None;
        }
    }
    let (mut few, mut many) = (count, many);
    while few < many {
        let middle = few + (many - few) / 2;
        if enough(middle) {
            many = middle;
        } else {
            few = middle + 1;
        }
    }
    Some(many)
}

/// The smallest p for which `beyond` holds, which it does from there on.
fn root(beyond: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if beyond(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// Probability of at most `count` successes in `total` trials of probability `p`, summed in logarithms so that large totals do
/// not underflow.
fn at_most(count: usize, total: usize, p: f64) -> f64 {
    if p >= 1.0 {
        return f64::from(count >= total);
    }
    let odds = (p / (1.0 - p)).ln();
    let mut term = total as f64 * (-p).ln_1p();
    let mut sum = term.exp();
    for i in 1..=count {
        term += ((total - i + 1) as f64 / i as f64).ln() + odds;
        sum += term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_those_of_published_tables() {
        for (count, total, lower, upper) in [
            (0, 20, 0.0, 0.1684),
            (1, 10, 0.0025, 0.4450),
            (5, 50, 0.0333, 0.2181),
            (10, 10, 0.6915, 1.0),
            (0, 0, 0.0, 1.0),
            (0, 1, 0.0, 0.975),
        ] {
            let (l, u) = interval(count, total);
            assert!((l - lower).abs() < 1e-4 && (u - upper).abs() < 1e-4, "{count} of {total}: {l} {u}");
        }
    }

    #[test]
    fn nothing_of_n_has_a_closed_form() {
        for total in [1, 7, 36, 300, 50_000] {
            let expected = 1.0 - TAIL.powf(1.0 / total as f64);
            assert!((interval(0, total).1 - expected).abs() < 1e-9, "{total}");
        }
    }

    #[test]
    fn the_least_total_is_the_least() {
        for (count, limit) in [(0, 0.05), (0, 0.1), (0, 0.15), (1, 0.1), (4, 0.02), (0, 1.0), (3, 1.0)] {
            let total = least_total(count, limit).unwrap();
            assert!(interval(count, total).1 <= limit, "{count} {limit}: {total}");
            assert!(total == count || interval(count, total - 1).1 > limit, "{count} {limit}: {total}");
        }
        assert_eq!((least_total(0, 0.1), least_total(0, 0.05)), (Some(36), Some(72)));
        assert_eq!(least_total(0, 0.0), None, "no number of pictures shows that it never happens");
        assert_eq!(least_total(0, f64::NAN), None);
    }
}
