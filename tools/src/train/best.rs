//! `--recipe best`: breeds by a shrunk discriminant on the features' roots and ImageNet's breed probabilities ([`super::discriminant`]),
//! the gate by three numbers ([`super::odds`]). In closed form: nothing is drawn by lot but the folds.
//!
//! A pet is trained on as it is (the mean of both views) and as a camera at a door would see it; the gate on pictures as they are.
//!
//! The gate is fitted to what discriminants say of pictures that they have not seen: a pet is judged by the one that its own fold was
//! left out of. No discriminant has seen a negative; a negative is judged by the one of its fold, so that both kinds get scores of
//! the same make.

use anyhow::Context;
use rayon::prelude::*;

use super::discriminant::{Discriminant, Table, likeliest, transform};
use super::knowledge::Knowledge;
use super::linear::Layer;
use super::odds::{Odds, Pair};
use super::{Examples, FOLDS, OutOfFold, calibrate};
use crate::graph::fused::RESNET_FEATURES;

/// A fitted head.
#[derive(Debug, Clone, PartialEq)]
pub struct BestHead {
    /// The rows of ImageNet's classifiers.
    pub knowledge: Knowledge,
    /// Scores of the breeds' parts over [`transform`]ed features: as they are, then under each condition ([`likeliest`]).
    pub breed: Layer,
    /// How well the picture fits to each breed, over the same; one row a breed.
    pub fit: Layer,
    /// The gate, over ImageNet's log odds and the best fit.
    pub odds: Odds,
}

impl BestHead {
    /// Breed scores and the gate's, not calibrated, from fused features.
    pub fn scores(&self, features: &[f32]) -> (Vec<f32>, f32) {
        let seen = transform(features, RESNET_FEATURES, Some(&self.knowledge));
        let fit = largest(&self.fit.logits(&seen));
        let pet = self.odds.score([f64::from(self.knowledge.of(features).log_odds), fit]);
        (likeliest(&self.breed.logits(&seen), self.fit.bias.len()), pet)
    }
}

/// Pictures as this recipe sees them, ready to be fitted to and judged in any fold.
#[derive(Debug)]
pub struct Bench<'a> {
    examples: &'a Examples,
    table: Table,
    /// ImageNet's log odds of the plain view of each picture; then those of each set.
    log_odds: Vec<Vec<f64>>,
}

/// What tells breeds apart, and how well a picture fits to any. The second is shrunk more: what strangers have in common with a breed is
/// not in the directions in which breeds hardly differ.
#[derive(Debug)]
pub struct Discriminants {
    breed: Discriminant,
    fit: Discriminant,
}

/// What was fitted to a choice of pictures.
#[derive(Debug)]
pub struct Fitted {
    /// Fitted to all of them.
    pub discriminants: Discriminants,
    /// Its shrinkage: the one that does best when folds among the pictures are left out.
    pub shrinkage: f64,
    /// For each of the pictures: breed scores and the gate's two numbers, from discriminants that have not seen it.
    unseen: Vec<(usize, Vec<f32>, Pair)>,
}

/// A fitted gate with its thresholds.
#[derive(Debug, Clone, Copy)]
pub struct FittedGate {
    /// Its curve.
    pub odds: Odds,
    /// A pet from here on.
    pub accept: f32,
    /// No pet below.
    pub reject: f32,
}

impl<'a> Bench<'a> {
    /// Of `examples`, and of what else of them is judged: in each of `sets` one feature vector a picture.
    pub fn new(examples: &'a Examples, knowledge: &Knowledge, sets: &[Vec<Vec<f32>>]) -> Self {
        let odds = |features: &Vec<f32>| f64::from(knowledge.of(features).log_odds);
        let mut log_odds = vec![examples.views.iter().map(|views| odds(&views[0])).collect()];
        log_odds.extend(sets.iter().map(|set| set.iter().map(odds).collect()));
        Self { examples, table: Table::new(examples, sets, RESNET_FEATURES, Some(knowledge)), log_odds }
    }

    /// Fits to the pictures `training`. `None` when a class has no picture among them, or all of each class are the same.
    pub fn fit(&self, training: &[usize], folds: &[usize]) -> Option<Fitted> {
        let shrinkage = self.table.shrinkage(self.examples, training, folds);
        let both = |training: &[usize]| {
            let breed = self.table.fit(self.examples, training, shrinkage)?;
            Some(Discriminants { breed, fit: self.table.fit_of_class(self.examples, training)? })
        };
        let discriminants = both(training)?;
        let of_fold = |fold: usize| {
            let (held, rest): (Vec<usize>, Vec<usize>) = training.iter().partition(|&&i| folds[i] == fold);
            let inner = both(&rest).filter(|_| !held.is_empty());
            inner.map(|inner| self.judge(&inner, &held, 0)).unwrap_or_default()
        };
        let unseen: Vec<Vec<_>> = (0..FOLDS).into_par_iter().map(of_fold).collect();
        let unseen = unseen.concat();
        let is_pet = |(picture, ..): &(usize, Vec<f32>, Pair)| self.examples.is_pet(*picture);
        let of_both_kinds = unseen.iter().any(is_pet) && !unseen.iter().all(is_pet);
        of_both_kinds.then_some(Fitted { discriminants, shrinkage, unseen })
    }

    /// Breed scores and the gate's two numbers of pictures, from their plain view (`set` 0) or their features in the sets, counted from 1.
    pub fn judge(&self, by: &Discriminants, pictures: &[usize], set: usize) -> Vec<(usize, Vec<f32>, Pair)> {
        let [parts, fit] = [&by.breed, &by.fit].map(|discriminant| self.table.scores(discriminant, pictures, set));
        let odds = &self.log_odds[set];
        let judged = |((&picture, parts), fit): ((&usize, Vec<f32>), Vec<f32>)| {
            (picture, likeliest(&parts, self.examples.class_count), [odds[picture], largest(&fit)])
        };
        pictures.iter().zip(parts).zip(fit).map(judged).collect()
    }

    /// The gate over what was found, fitted without one category of negatives if so wanted (see [`Examples::category`]).
    ///
    /// A category weighs as the root of its size, so that the large ones do not decide alone.
    pub fn gate(&self, fitted: &Fitted, without: Option<usize>) -> FittedGate {
        let of = |wanted: Option<usize>| {
            let chosen = fitted.unseen.iter().filter(move |(picture, ..)| self.examples.category(*picture) == wanted);
            chosen.map(|(_, _, pair)| *pair).collect::<Vec<Pair>>()
        };
        let pets = of(None);
        let categories = (0..self.examples.categories()).filter(|category| Some(*category) != without);
        let others: Vec<(Pair, f64)> = categories
            .flat_map(|category| {
                let negatives = of(Some(category));
                let weight = 1.0 / (negatives.len() as f64).sqrt();
                negatives.into_iter().map(move |pair| (pair, weight))
            })
            .collect();
        let odds = Odds::fit(&pets, &others);
        let scores: Vec<f32> = pets.iter().map(|&pair| odds.score(pair)).collect();
        let accept = calibrate::threshold_reached_by(&scores, calibrate::ACCEPT_TARGET);
        let reject = calibrate::threshold_reached_by(&scores, calibrate::NOT_REJECTED_TARGET).min(accept);
        FittedGate { odds, accept, reject }
    }

    /// Fits to everything: the head that ships, its shrinkage, and what heads without the picture's fold say of each picture.
    ///
    /// # Errors
    /// When a class is too small: it must have pictures in two folds that are no near duplicates of each other.
    pub fn head(&self, knowledge: Knowledge, folds: &[usize]) -> anyhow::Result<(BestHead, f64, OutOfFold)> {
        let everything: Vec<usize> = (0..self.examples.len()).collect();
        let fitted = self.fit(&everything, folds);
        let fitted = fitted.filter(|fitted| fitted.unseen.len() == everything.len()).context(
            "a class is too small for cross-validation: each needs two pictures at least that do not show nearly the same",
        )?;
        let (head, _, unseen) = self.head_of(knowledge, &fitted, None);
        Ok((head, fitted.shrinkage, unseen))
    }

    /// The head that was fitted, its gate without one category of negatives if so wanted; with what heads without the picture's fold
    /// say of the pictures that it was fitted to, pets first in their order, and the classes of these pets.
    pub fn head_of(&self, knowledge: Knowledge, fitted: &Fitted, without: Option<usize>) -> (BestHead, Vec<usize>, OutOfFold) {
        let odds = self.gate(fitted, without).odds;
        let left_out = |picture: usize| without.is_some() && self.examples.category(picture) == without;
        let mut known: Vec<_> = fitted.unseen.iter().filter(|(picture, ..)| !left_out(*picture)).collect();
        known.sort_by_key(|(picture, ..)| *picture);
        let mut unseen = OutOfFold { breed: vec![], pet: vec![] };
        for (picture, breed, pair) in &known {
            unseen.pet.push(odds.score(*pair));
            unseen.breed.push(if self.examples.is_pet(*picture) { breed.clone() } else { vec![] });
        }
        let classes = known.iter().filter_map(|(picture, ..)| self.examples.classes.get(*picture).copied()).collect();
        let [breed, fit] = [&fitted.discriminants.breed, &fitted.discriminants.fit].map(|one| self.table.layer(one));
        (BestHead { knowledge, breed, fit, odds }, classes, unseen)
    }
}

fn largest(scores: &[f32]) -> f64 {
    f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::graph::fused::FEATURES;
    use crate::train::knowledge::{PARTS, Rows, pet_count};
    use crate::train::linear::argmax;

    /// Features from here on say which breed it is, in both parts…
    const BREEDS: usize = 40;
    /// …and these two say *pet* to each part's ImageNet classifier.
    const PET: [usize; 2] = [0, RESNET_FEATURES];

    /// A classifier that finds a pet likelier the larger the first feature of its part is.
    fn knowledge() -> Knowledge {
        let rows = PARTS.map(|part| {
            let count = 237;
            let mut weights = vec![0; count * part.len()];
            (0..count).for_each(|row| weights[row * part.len()] = if row < pet_count() { 4 } else { -4 });
            Rows::new(weights, vec![0.5; count], vec![0.0; count]).unwrap()
        });
        Knowledge::from_rows(rows).unwrap()
    }

    /// Three breeds of twenty pets, two categories of fifteen negatives; the second category looks half like a pet.
    fn examples() -> Examples {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut views, mut strata) = (vec![], vec![]);
        for (stratum, count, pet) in [(0, 20, 1.0), (1, 20, 1.0), (2, 20, 1.0), (3, 15, 0.1), (4, 15, 0.5)] {
            for _ in 0..count {
                let mut features: Vec<f32> = (0..FEATURES).map(|_| rng.random::<f32>()).collect();
                PET.iter().for_each(|&at| features[at] = pet + 0.2 * rng.random::<f32>());
                if stratum < 3 {
                    for part in PARTS {
                        (0..12).for_each(|i| features[part.start + BREEDS + stratum * 12 + i] += 2.0);
                    }
                }
                views.push(vec![features.clone(), features]);
                strata.push(stratum);
            }
        }
        let classes = strata.iter().copied().filter(|&stratum| stratum < 3).collect();
        Examples { groups: (0..views.len()).collect(), views, door: vec![], classes, strata, class_count: 3 }
    }

    #[test]
    fn breeds_and_strangers_are_told_apart_by_pictures_that_were_not_seen() {
        let (examples, knowledge) = (examples(), knowledge());
        let folds = examples.folds(1);
        let bench = Bench::new(&examples, &knowledge, &[]);
        let (head, shrinkage, unseen) = bench.head(knowledge, &folds).unwrap();
        assert!((0.6..=0.8).contains(&shrinkage));
        let gate = bench.gate(&bench.fit(&(0..examples.len()).collect::<Vec<_>>(), &folds).unwrap(), None);
        let (mut right, mut refused) = (0, 0);
        for picture in 0..examples.len() {
            let accepted = unseen.pet[picture] >= gate.accept;
            refused += usize::from(examples.is_pet(picture) && !accepted);
            assert!(examples.is_pet(picture) || !accepted, "picture {picture}: {}", unseen.pet[picture]);
            let (breeds, pet) = head.scores(&examples.views[picture][0]);
            assert_eq!(pet >= gate.accept, examples.is_pet(picture), "picture {picture}, seen: {pet}");
            if examples.is_pet(picture) {
                right += usize::from(argmax(&unseen.breed[picture]) == examples.classes[picture]);
                assert_eq!(argmax(&breeds), examples.classes[picture]);
            } else {
                assert!(unseen.breed[picture].is_empty());
            }
        }
        // The threshold is the one that 98.3 % of 60 pets reach.
        assert!(right >= 57 && refused == 1, "{right} of 60 right, {refused} refused");
    }

    /// What judges a pet must not have been fitted to it: pictures of noise alone are then guessed, not known by heart.
    #[test]
    fn a_pet_is_judged_by_what_has_not_seen_it() {
        let (mut examples, knowledge) = (examples(), knowledge());
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for views in &mut examples.views[..60] {
            let noise: Vec<f32> = (0..FEATURES).map(|_| rng.random()).collect();
            views.fill(noise);
        }
        let folds = examples.folds(1);
        let bench = Bench::new(&examples, &knowledge, &[]);
        let (head, _, unseen) = bench.head(knowledge, &folds).unwrap();
        let right =
            |breeds: &dyn Fn(usize) -> Vec<f32>| (0..60).filter(|&pet| argmax(&breeds(pet)) == examples.classes[pet]).count();
        assert_eq!(right(&|pet| head.scores(&examples.views[pet][0]).0), 60, "learnt by heart");
        let guessed = right(&|pet| unseen.breed[pet].clone());
        assert!(guessed < 35, "{guessed} of 60 noises are told apart");
    }

    #[test]
    fn a_category_left_out_has_no_part_in_the_gate() {
        let (mut examples, knowledge) = (examples(), knowledge());
        let folds = examples.folds(1);
        let all: Vec<usize> = (0..examples.len()).collect();
        let gate = |examples: &Examples, without| {
            let bench = Bench::new(examples, &knowledge, &[]);
            let fitted = bench.fit(&all, &folds).unwrap();
            let gate = bench.gate(&fitted, without);
            (gate.odds, gate.accept, gate.reject)
        };
        let (with, without) = (gate(&examples, None), gate(&examples, Some(1)));
        assert_ne!(with, without);
        // Whatever the second category looks like.
        for views in &mut examples.views[75..] {
            views.iter_mut().for_each(|view| PET.iter().for_each(|&at| view[at] = 0.9));
        }
        assert_eq!(gate(&examples, Some(1)), without);
        assert_ne!(gate(&examples, None), with);
    }

    #[test]
    fn a_head_is_calibrated_on_what_its_gate_was_fitted_to() {
        let (examples, knowledge) = (examples(), knowledge());
        let folds = examples.folds(1);
        let bench = Bench::new(&examples, &knowledge, &[]);
        let all: Vec<usize> = (0..examples.len()).collect();
        let fitted = bench.fit(&all, &folds).unwrap();
        let (whole, classes, unseen) = bench.head_of(knowledge.clone(), &fitted, None);
        let (head, _, of_head) = bench.head(knowledge.clone(), &folds).unwrap();
        assert_eq!((&whole, &classes, &unseen.breed, &unseen.pet), (&head, &examples.classes, &of_head.breed, &of_head.pet));
        // The second category is the last: what remains is the beginning, but for the gate's answers.
        let (other, classes, unseen) = bench.head_of(knowledge.clone(), &fitted, Some(1));
        assert_eq!((&classes, &unseen.breed[..]), (&examples.classes, &of_head.breed[..75]));
        assert_eq!((unseen.pet.len(), other.odds), (75, bench.gate(&fitted, Some(1)).odds));
        assert_eq!(other.breed, whole.breed, "no breed rests on a negative");
        // Fitted to four folds only: nothing of the fifth.
        let rest: Vec<usize> = all.iter().copied().filter(|&i| folds[i] != 0).collect();
        let (_, classes, unseen) = bench.head_of(knowledge, &bench.fit(&rest, &folds).unwrap(), None);
        let pets: Vec<usize> = rest.iter().filter_map(|&i| examples.classes.get(i).copied()).collect();
        assert_eq!((&classes, unseen.pet.len(), unseen.breed.len()), (&pets, rest.len(), rest.len()));
    }

    #[test]
    fn a_class_that_only_one_fold_has_is_refused() {
        let (mut examples, knowledge) = (examples(), knowledge());
        examples.groups[..20].fill(0);
        let folds = examples.folds(1);
        let error = Bench::new(&examples, &knowledge, &[]).head(knowledge, &folds).unwrap_err();
        assert!(error.to_string().contains("too small for cross-validation"), "{error}");
    }
}
