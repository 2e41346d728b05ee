//! From logits of unseen pictures to calibrated probabilities and thresholds.

use anyhow::ensure;
use pawgate::model::Gate;
use pawgate::model::metadata::{MAX_NEGATIVES_ACCEPTED, MIN_ACCEPT};

use super::linear::argmax;
use super::{OutOfFold, Recipe};

/// Share of the pets that the gate should accept. Above the 98 % that is promised, because unseen pictures do worse than
/// those the threshold was chosen on.
pub const ACCEPT_TARGET: f64 = 0.983;
/// Share of the pets that should not be called "no animal".
pub const NOT_REJECTED_TARGET: f64 = 0.997;
/// Share of the negatives that the gate of a model lets pass at most, out of fold: a picture at a door is one of many in an event, and
/// the door must not open for one in a hundred strangers…
const STRANGERS_TARGET: f64 = 0.001;
/// …as long as it lets so many of the pets pass: few negatives, or pets that look like them, cannot shut everybody out.
const LEAST_ACCEPTED: f64 = 0.95;

/// Least and greatest temperature; the scores of a discriminant over thousands of features are in the hundreds.
const TEMPERATURES: [f64; 2] = [0.05, 2000.0];

/// What the logits of unseen pictures tell about layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Divides the breed logits.
    pub breed_temperature: f32,
    /// Divides the pet logit.
    pub pet_temperature: f32,
    /// Thresholds on the calibrated probability.
    pub gate: Gate,
    /// Share of pets whose breed is right.
    pub top1: f64,
}

/// Calibrates both outputs on `unseen`, in which pets of `classes` come first, and chooses the gate's thresholds.
///
/// # Errors
/// When a logit is not finite, or the gate cannot tell pets from the rest.
pub fn calibrate(recipe: Recipe, classes: &[usize], unseen: &OutOfFold) -> anyhow::Result<Calibration> {
    let finite = unseen.pet.iter().chain(unseen.breed.iter().flatten()).all(|logit| logit.is_finite());
    ensure!(finite, "training diverged (a logit is not finite): lower --learning-rate");
    let pets = classes.len();
    let is_pet: Vec<bool> = (0..unseen.pet.len()).map(|i| i < pets).collect();
    let breed_logits: Vec<&[f32]> = unseen.breed[..pets].iter().map(Vec::as_slice).collect();
    let pet_temperature = binary_temperature(&unseen.pet, &is_pet);
    let probability = |logit: &f32| 1.0 / (1.0 + (-logit / pet_temperature).exp());
    let probabilities: Vec<f32> = unseen.pet.iter().map(probability).collect();
    let gate = choose_gate(&probabilities[..pets], &probabilities[pets..]);
    ensure!(
        gate.negatives_accepted <= MAX_NEGATIVES_ACCEPTED && gate.accept >= MIN_ACCEPT,
        "the gate is no use: to let {:.1} % of the pets pass it also lets {:.1} % of the negatives pass (threshold {:.3}); \
         train longer or on more pictures",
        gate.pets_accepted * 100.0,
        gate.negatives_accepted * 100.0,
        gate.accept
    );
    let right = breed_logits.iter().zip(classes).filter(|(row, class)| argmax(row) == **class).count();
    let breed_temperature = breed_temperature(recipe, &breed_logits, classes);
    Ok(Calibration { breed_temperature, pet_temperature, gate, top1: right as f64 / pets as f64 })
}

/// The temperature for a recipe's breed logits: [`class_temperature`] for the paper's, [`matching_temperature`] for the best.
pub fn breed_temperature(recipe: Recipe, logits: &[&[f32]], classes: &[usize]) -> f32 {
    match recipe {
        Recipe::Paper => class_temperature(logits, classes),
        Recipe::Best => matching_temperature(logits, classes),
    }
}

/// The temperature that minimises the mean negative log-likelihood of the right classes (Guo et al. 2017,
/// arXiv:1706.04599), found by golden-section search over [`TEMPERATURES`] in the logarithm, where the loss has one minimum.
pub fn class_temperature(logits: &[&[f32]], classes: &[usize]) -> f32 {
    minimise(|temperature| {
        let losses = logits.iter().zip(classes).map(|(row, &class)| {
            let scaled: Vec<f64> = row.iter().map(|&l| f64::from(l) / temperature).collect();
            let max = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            max + scaled.iter().map(|l| (l - max).exp()).sum::<f64>().ln() - scaled[class]
        });
        losses.sum::<f64>()
    })
}

/// The same for a single logit.
pub fn binary_temperature(logits: &[f32], positive: &[bool]) -> f32 {
    minimise(|temperature| {
        let losses = logits.iter().zip(positive).map(|(&logit, &positive)| {
            let margin = f64::from(logit) / temperature * if positive { 1.0 } else { -1.0 };
            // ln(1 + e^−m) without overflow on either side.
            (-margin).max(0.0) + (-margin.abs()).exp().ln_1p()
        });
        losses.sum::<f64>()
    })
}

/// The temperature at which the mean probability of the likeliest class is the share of right answers.
///
/// Scores of a discriminant are no log probabilities, and what likelihood makes of them is least sure where it matters least; this
/// asks for nothing but that probabilities can be believed on average. The share is drawn towards one half by one right and one wrong
/// answer, so that pictures that are all right leave a doubt.
pub fn matching_temperature(logits: &[&[f32]], classes: &[usize]) -> f32 {
    let right = logits.iter().zip(classes).filter(|(row, class)| argmax(row) == **class).count();
    let wanted = (right as f64 + 1.0) / (logits.len() as f64 + 2.0);
    let confidence = |temperature: f64| {
        let of = |row: &&[f32]| {
            let largest = f64::from(row[argmax(row)]);
            1.0 / row.iter().map(|&logit| ((f64::from(logit) - largest) / temperature).exp()).sum::<f64>()
        };
        logits.iter().map(of).sum::<f64>() / logits.len() as f64
    };
    // Falls with the temperature: halve the interval.
    let (mut low, mut high) = (TEMPERATURES[0].ln(), TEMPERATURES[1].ln());
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if confidence(middle.exp()) > wanted { low = middle } else { high = middle }
    }
    ((low + high) / 2.0).exp() as f32
}

fn minimise(loss: impl Fn(f64) -> f64) -> f32 {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (TEMPERATURES[0].ln(), TEMPERATURES[1].ln());
    for _ in 0..60 {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(a.exp()) <= loss(b.exp()) {
            high = b;
        } else {
            low = a;
        }
    }
    ((low + high) / 2.0).exp() as f32
}

/// The largest threshold that at least `share` of the values reach.
///
/// # Panics
/// When there are no values.
pub fn threshold_reached_by(values: &[f32], share: f64) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let below = ((1.0 - share) * sorted.len() as f64).floor() as usize;
    sorted[below.min(sorted.len() - 1)]
}

/// The least threshold that no more than `share` of the values reach.
///
/// # Panics
/// When there are no values.
fn threshold_kept_from(values: &[f32], share: f64) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let above = (share * sorted.len() as f64).floor() as usize;
    sorted[sorted.len() - 1 - above.min(sorted.len() - 1)].next_up()
}

/// Chooses both thresholds on calibrated probabilities of unseen pictures.
///
/// # Panics
/// When one of the two lists is empty.
pub fn choose_gate(pets: &[f32], negatives: &[f32]) -> Gate {
    let most = threshold_reached_by(pets, LEAST_ACCEPTED);
    let strict = match threshold_kept_from(negatives, STRANGERS_TARGET) {
        strict if strict <= most => strict,
        // No threshold keeps enough of them out: the least of those that keep out what `most` does, which costs no pet for nothing.
        _ => negatives.iter().copied().filter(|&negative| negative < most).max_by(f32::total_cmp).map_or(most, f32::next_up),
    };
    let accept = strict.max(threshold_reached_by(pets, ACCEPT_TARGET));
    let reject = threshold_reached_by(pets, NOT_REJECTED_TARGET).min(accept);
    let share = |values: &[f32]| values.iter().filter(|&&p| p >= accept).count() as f32 / values.len() as f32;
    Gate {
        accept,
        reject,
        pets_accepted: share(pets),
        negatives_accepted: share(negatives),
        chosen_by: format!(
            "5-fold cross-validation over {} pets and {} negatives: at most {:.2} % of the negatives accepted where that leaves {:.0} % of \
             the pets, and {:.2} % of the pets at most; at most {:.2} % of the pets rejected",
            pets.len(),
            negatives.len(),
            STRANGERS_TARGET * 100.0,
            LEAST_ACCEPTED * 100.0,
            ACCEPT_TARGET * 100.0,
            (1.0 - NOT_REJECTED_TARGET) * 100.0
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overconfident_logits_get_a_temperature_above_one() {
        // Right in 3 of 4 cases, whatever the logit claims: the calibrated logit is ln 3.
        let logits = [6.0f32, 6.0, 6.0, 6.0];
        let temperature = binary_temperature(&logits, &[true, true, true, false]);
        assert!((6.0 / temperature - 3f32.ln()).abs() < 1e-3, "{temperature}");
        let rows: Vec<&[f32]> = vec![&[6.0, 0.0]; 4];
        let temperature = class_temperature(&rows, &[0, 0, 0, 1]);
        assert!((6.0 / temperature - 3f32.ln()).abs() < 1e-3, "{temperature}");
    }

    #[test]
    fn a_matching_temperature_makes_confidence_the_share_of_right_answers() {
        // 998 pictures, three of four right, of very different certainty.
        let logits: Vec<[f32; 3]> = (0..998).map(|i| [50.0 + (i % 7) as f32 * 60.0, 0.0, -20.0]).collect();
        let rows: Vec<&[f32]> = logits.iter().map(|row| &row[..]).collect();
        let classes: Vec<usize> = (0..998).map(|i| usize::from(i % 4 == 3)).collect();
        let temperature = matching_temperature(&rows, &classes);
        let first = |row: &[f32; 3]| 1.0 / row.map(|logit| ((logit - row[0]) / temperature).exp()).iter().sum::<f32>();
        let confidence = logits.iter().map(first).sum::<f32>() / 998.0;
        let right = classes.iter().filter(|&&class| class == 0).count() as f32;
        assert!((confidence - (right + 1.0) / 1000.0).abs() < 1e-3, "{confidence} at {temperature}");
        // All right: sure, but not beyond what so many pictures can show.
        let temperature = matching_temperature(&rows[..10], &[0; 10]);
        let confidence =
            logits[..10].iter().map(|row| 1.0 / row.map(|l| ((l - row[0]) / temperature).exp()).iter().sum::<f32>());
        assert!((confidence.sum::<f32>() / 10.0 - 11.0 / 12.0).abs() < 1e-3);
    }

    #[test]
    fn a_gate_that_has_learnt_nothing_is_refused() {
        let classes: Vec<usize> = (0..10).map(|i| i % 2).collect();
        let breed = |i: usize| if i < 10 { vec![1.0, -1.0] } else { vec![] };
        let unseen = |pet: fn(usize) -> f32| OutOfFold { breed: (0..20).map(breed).collect(), pet: (0..20).map(pet).collect() };
        let sharp = calibrate(Recipe::Paper, &classes, &unseen(|i| if i < 10 { 3.0 } else { -3.0 })).unwrap();
        assert_eq!((sharp.gate.pets_accepted, sharp.gate.negatives_accepted, sharp.top1), (1.0, 0.0, 0.5));
        let error = |pet| calibrate(Recipe::Paper, &classes, &unseen(pet)).unwrap_err().to_string();
        assert!(error(|i| (i % 10) as f32 - 5.0).contains("no use"), "pets and negatives look the same");
        assert!(error(|_| f32::NAN).contains("diverged"));
    }

    #[test]
    fn thresholds_let_the_wanted_share_through() {
        let values: Vec<f32> = (0..1000).rev().map(|v| v as f32 / 1000.0).collect();
        let threshold = threshold_reached_by(&values, 0.98);
        assert_eq!(values.iter().filter(|&&v| v >= threshold).count(), 980);
        let gate = choose_gate(&values, &[0.0, 0.001, 0.5, 0.9]);
        assert_eq!((gate.pets_accepted, gate.negatives_accepted), (ACCEPT_TARGET as f32, 0.5), "two negatives look like pets");
        let gate = choose_gate(&values, &[0.0, 0.03, 0.5, 0.9]);
        assert!(gate.accept > 0.03 && gate.accept < 0.0301, "the others are kept out, and no pet more: {gate:?}");
        let strict = choose_gate(&values, &[0.0, 0.001, 0.02, 0.03]);
        assert!(strict.accept > 0.03 && strict.accept < 0.0301 && strict.negatives_accepted == 0.0, "{strict:?}");
        let usual = choose_gate(&values, &[0.0, 0.001, 0.002, 0.003]);
        assert_eq!((usual.pets_accepted, usual.negatives_accepted), (ACCEPT_TARGET as f32, 0.0));
        let many: Vec<f32> = (0..1000).map(|i| i as f32 / 25_000.0).collect();
        assert_eq!(choose_gate(&values, &many).negatives_accepted, STRANGERS_TARGET as f32);
        assert!(gate.reject < gate.accept);
    }
}
