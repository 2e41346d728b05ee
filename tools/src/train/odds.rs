//! The gate in two numbers: ImageNet's odds that it is a pet at all ([`super::knowledge`]), and how well the likeliest breed fits
//! ([`super::discriminant`]). A logistic curve over both, so that three numbers are learnt and little can be learnt by heart: what
//! keeps a kind of animal out that was never among the negatives.

use nalgebra::{Matrix3, Vector3};
use serde::{Deserialize, Serialize};

/// Weight of the squared coefficients (of standardised inputs), so that what can be told apart perfectly has a curve too.
const DECAY: f64 = 1e-4;
/// Newton's method doubles the digits with each step; this is plenty.
const STEPS: usize = 50;

/// One picture's two numbers.
pub type Pair = [f64; 2];

/// score = a · log odds + b · fit of the likeliest breed + c.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Odds {
    /// Weight of ImageNet's log odds.
    pub a: f64,
    /// Weight of the likeliest breed's score.
    pub b: f64,
    /// The constant.
    pub c: f64,
}

impl Odds {
    /// Fits to `pairs` of pets and of others with their weights (positive; their sums are made equal): least penalised cross-entropy, by
    /// Newton's method.
    pub fn fit(pets: &[Pair], others: &[(Pair, f64)]) -> Self {
        let pet_share = 0.5 / pets.len() as f64;
        let other_sum: f64 = others.iter().map(|(_, weight)| weight).sum();
        let rows: Vec<(Pair, f64, f64)> = (pets.iter().map(|&pair| (pair, pet_share, 1.0)))
            .chain(others.iter().map(|&(pair, weight)| (pair, 0.5 * weight / other_sum, 0.0)))
            .collect();
        let mean = |of: &dyn Fn(Pair) -> f64| rows.iter().map(|&(pair, weight, _)| weight * of(pair)).sum::<f64>();
        let means = [0, 1].map(|at| mean(&|pair| pair[at]));
        let spreads = [0, 1].map(|at| mean(&|pair| (pair[at] - means[at]).powi(2)).sqrt().max(f64::MIN_POSITIVE));
        let standard = |pair: Pair| Vector3::new((pair[0] - means[0]) / spreads[0], (pair[1] - means[1]) / spreads[1], 1.0);
        let decay = Vector3::new(DECAY, DECAY, 0.0);
        let loss = |beta: &Vector3<f64>| {
            let cross = rows.iter().map(|&(pair, weight, is_pet)| {
                let margin = beta.dot(&standard(pair)) * (2.0 * is_pet - 1.0);
                // ln(1 + e^−m) without overflow on either side.
                weight * ((-margin).max(0.0) + (-margin.abs()).exp().ln_1p())
            });
            cross.sum::<f64>() + 0.5 * beta.component_mul(beta).dot(&decay)
        };
        let mut beta = Vector3::zeros();
        for _ in 0..STEPS {
            let (mut slope, mut bend) =
                (-beta.component_mul(&decay), Matrix3::from_diagonal(&(decay + Vector3::repeat(1e-12))));
            for &(pair, weight, is_pet) in &rows {
                let x = standard(pair);
                let p = 1.0 / (1.0 + (-beta.dot(&x)).exp());
                slope += x * (weight * (is_pet - p));
                bend += x * x.transpose() * (weight * p * (1.0 - p));
            }
            let Some(step) = bend.lu().solve(&slope).filter(|step| step.norm() > 1e-10) else { break };
            // Far out the curve is flat, and a whole step overshoots.
            let shorter = (0..40).map(|halvings| beta + step * 0.5_f64.powi(halvings));
            let before = loss(&beta);
            let Some(better) = shorter.into_iter().find(|beta| loss(beta) < before) else { break };
            beta = better;
        }
        let [a, b] = [0, 1].map(|at| beta[at] / spreads[at]);
        Self { a, b, c: beta[2] - a * means[0] - b * means[1] }
    }

    /// Logit of a pet being there, at equal odds before looking.
    pub fn score(&self, [log_odds, fit]: Pair) -> f32 {
        (self.a * log_odds + self.b * fit + self.c) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_zero_at_what_was_fitted() {
        let pair = |i: usize, shift: f64| [(i * 7 % 11) as f64 / 3.0 + shift, 100.0 * ((i * 5 % 13) as f64 + shift)];
        let pets: Vec<Pair> = (0..40).map(|i| pair(i, 2.0)).collect();
        let others: Vec<(Pair, f64)> = (0..25).map(|i| (pair(i, 0.0), if i < 5 { 3.0 } else { 1.0 })).collect();
        let fitted = Odds::fit(&pets, &others);
        assert!(fitted.a > 0.0 && fitted.b > 0.0, "{fitted:?}");
        // With this little decay the weighted mean error is nought, plainly and along each input.
        let p = |pair| 1.0 / (1.0 + (-f64::from(fitted.score(pair))).exp());
        let slope = |of: &dyn Fn(Pair) -> f64| {
            let of_pets: f64 = pets.iter().map(|&pair| of(pair) * (1.0 - p(pair))).sum::<f64>() / 40.0;
            let of_others: f64 = others.iter().map(|&(pair, weight)| weight * of(pair) * p(pair)).sum::<f64>() / 35.0;
            of_pets - of_others
        };
        assert!(slope(&|_| 1.0).abs() < 1e-5 && slope(&|pair| pair[0]).abs() < 1e-3 && slope(&|pair| pair[1]).abs() < 0.2);
    }

    #[test]
    fn far_outliers_do_not_throw_it_off() {
        // Nearly told apart, with pictures a hundred spreads away: whole steps of Newton's method would run away from the least loss.
        let mut pets: Vec<Pair> = (0..200).map(|i| [20.0 + f64::from(i % 17), 900.0 + f64::from(i % 29)]).collect();
        let mut others: Vec<(Pair, f64)> =
            (0..300).map(|i| ([-20.0 - f64::from(i % 13), 700.0 + f64::from(i % 31)], 1.0)).collect();
        (pets[0], others[0].0) = ([-500.0, 800.0], [60.0, 950.0]);
        let fitted = Odds::fit(&pets, &others);
        let wrong = pets.iter().filter(|&&pair| fitted.score(pair) < 0.0).count();
        let wrong = wrong + others.iter().filter(|&&(pair, _)| fitted.score(pair) > 0.0).count();
        assert!(wrong <= 2, "{wrong} wrong, {fitted:?}");
    }

    #[test]
    fn what_is_told_apart_perfectly_has_a_curve() {
        let fitted = Odds::fit(&[[10.0, 5.0], [12.0, 6.0]], &[([-3.0, 1.0], 1.0), ([-4.0, 0.0], 1.0)]);
        assert!(fitted.score([11.0, 5.5]) > 2.0 && fitted.score([-3.5, 0.5]) < -2.0, "{fitted:?}");
        assert!([fitted.a, fitted.b, fitted.c].iter().all(|v| v.is_finite()));
    }
}
