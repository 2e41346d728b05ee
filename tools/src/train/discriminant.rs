//! Mixture discriminant analysis with a shrunk covariance, in closed form.
//!
//! Each class has a mean for each way in which it is seen: as it is, and under each condition at the door (Hastie and Tibshirani 1996,
//! *Discriminant analysis by Gaussian mixtures*, JRSS B 58; here it is known which picture belongs to which part). A class is as likely as
//! the likeliest of its parts, so grey pictures are held against grey ones, and pictures as they are do not pay for that. A mean of its own
//! rests on some twenty pictures; it is drawn towards what a condition does to all classes alike ([`OWN`]).
//!
//! With so few pictures and thousands of features, the shared covariance cannot be estimated; drawn towards a multiple
//! of the identity it can (Friedman 1989, *Regularized discriminant analysis*, JASA 84). Classes count alike, however many pictures
//! they have, in the covariance too. Everything is computed from the products of pictures with each other ([`Gram`]): a
//! system as large as there are pictures, not features, and one table of products serves every fold.

use nalgebra::{Cholesky, DMatrix, DVector};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::knowledge::Knowledge;
use super::linear::{Layer, argmax};
use super::{Examples, FOLDS};

/// Share of the views at the door in the covariance and in what classes have in common under all conditions. Chosen once on the shared
/// pictures, like what follows.
const DOOR: f64 = 0.6;
/// Share of a class's own mean under a condition, against the mean of the class plus what the condition does to the mean of all classes.
/// With 0 grey and blurred pictures are told apart less well by one to two points, with 1 by up to two thirds of a point.
const OWN: f64 = 0.6;
/// Shares of the mean variance that are tried. Between them top-1 hardly changes; above it falls (by 0.4 points of the pictures at 0.9), which
/// the folds of a single training are too few to tell.
const SHRINKAGES: [f64; 3] = [0.6, 0.7, 0.8];
/// Share of the mean variance for [`Discriminant::fit_of_class`], whatever breeds are told apart with.
const FIT_SHRINKAGE: f64 = 0.95;
/// Weight of the part as it is in how well a picture fits to a class; the parts at the door share the rest. In a prototype, at thresholds as of
/// models that ship, equal shares let 0.3 % of the strangers pass in dim and blurred pictures, this share 0.13 %; the plain part alone 0.1 %, but
/// 4 to 5 points fewer of the pets than equal shares.
const FIT_PLAIN: f64 = 0.6;
/// Weight of the MobileNetV2 part's variance. Chosen once on the shared pictures of the Oxford-IIIT Pet set.
const SECOND_PART: f32 = 0.5;
/// What the roots of ImageNet's breed probabilities of each classifier are multiplied by: about a twentieth of the variance of the
/// features, each. Chosen like [`SECOND_PART`].
const BREEDS: [f32; 2] = [3.64, 3.71];
/// Pictures whose products are computed at a time.
const BLOCK: usize = 128;

/// Products of training pictures with each other and with those that are judged.
#[derive(Debug, Clone)]
pub struct Gram(DMatrix<f64>);

impl Gram {
    /// Of vectors of one length. `training` are the first pictures, `judged` those after them.
    pub fn of(training: &[Vec<f32>], judged: &[Vec<f32>]) -> Self {
        let length = training.first().map_or(0, Vec::len);
        let rows = DMatrix::from_fn(training.len(), length, |picture, at| f64::from(training[picture][at]));
        let all: Vec<&Vec<f32>> = training.iter().chain(judged).collect();
        let block = |pictures: &[&Vec<f32>]| {
            let columns = DMatrix::from_fn(length, pictures.len(), |at, picture| f64::from(pictures[picture][at]));
            (&rows * columns).data.into()
        };
        let blocks: Vec<Vec<f64>> = all.par_chunks(BLOCK).map(block).collect();
        Self(DMatrix::from_vec(training.len(), all.len(), blocks.concat()))
    }

    /// Products of `training` pictures with any.
    fn part(&self, training: &[usize], pictures: &[usize]) -> DMatrix<f64> {
        DMatrix::from_fn(training.len(), pictures.len(), |t, p| self.0[(training[t], pictures[p])])
    }
}

/// How pets are seen: the order of their vectors is pet by pet, view by view.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Weight of each view; their sum is 1.
    shares: Vec<f64>,
    /// What each view counts for in a pet's deviation, pet by pet: signs drawn by lot. One vector, whose square is on the mean over many pets
    /// the covariance between a pet's views.
    lots: Vec<Vec<f64>>,
}

impl Seen {
    /// `pets`, each as it is and in `door` views at the door.
    fn new(pets: usize, door: usize) -> Self {
        let shares = match door {
            0 => vec![1.0],
            _ => std::iter::once(1.0 - DOOR).chain(std::iter::repeat_n(DOOR / door as f64, door)).collect::<Vec<f64>>(),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut lot = |_| -> Vec<f64> {
            let signed: Vec<f64> = shares.iter().map(|share| if rng.random() { share.sqrt() } else { -share.sqrt() }).collect();
            // A pet's views less its mean view, Σ share · view, each with its sign.
            let sum: f64 = signed.iter().sum();
            signed.iter().zip(&shares).map(|(signed, share)| signed - share * sum).collect()
        };
        let lots = (0..pets).map(&mut lot).collect();
        Self { shares, lots }
    }

    fn views(&self) -> usize {
        self.shares.len()
    }

    /// Whether a pet's views differ at all.
    fn differ(&self) -> bool {
        self.views() > 1
    }

    /// \[means of each class in each view, means of the parts\], both view by view: a part's mean is drawn towards the mean of its view
    /// plus what the class has in common in all views.
    fn parts(&self, class_count: usize) -> DMatrix<f64> {
        let each = 1.0 / class_count as f64;
        let own = |same: bool| f64::from(u8::from(same));
        let count = self.views() * class_count;
        DMatrix::from_fn(count, count, |from, to| {
            let [view, class] = [from / class_count, from % class_count];
            let [same_view, same_class] = [own(view == to / class_count), own(class == to % class_count)];
            let common = same_view * each + self.shares[view] * (same_class - each);
            OWN * same_view * same_class + (1.0 - OWN) * common
        })
    }
}

/// A fitted discriminant: each part of each class is a sum of training pictures and a constant.
#[derive(Debug, Clone)]
pub struct Discriminant {
    /// Rows of the [`Gram`].
    training: Vec<usize>,
    /// \[training pictures, parts\], the parts view by view.
    coefficients: DMatrix<f64>,
    /// \[parts\].
    constants: DVector<f64>,
    class_count: usize,
}

impl Discriminant {
    /// Fits to `pets`, whose classes are `classes` (one a pet, each below `class_count`) and whose views are the training vectors of
    /// `gram` as `seen` says.
    ///
    /// The covariance is (1 − `shrinkage`) · within-part covariance + `shrinkage` · mean variance within parts · identity;
    /// 0 < `shrinkage` ≤ 1. `None` when a class has no picture, or all pictures of each part are the same.
    pub fn fit(
        gram: &Gram,
        seen: &Seen,
        pets: &[usize],
        classes: &[usize],
        class_count: usize,
        features: usize,
        shrinkage: f64,
    ) -> Option<Self> {
        let (count, views) = (pets.len(), seen.views());
        let mut sizes = vec![0.0; class_count];
        classes.iter().for_each(|&class| sizes[class] += 1.0);
        if sizes.contains(&0.0) {
            return None;
        }
        let training: Vec<usize> = pets.iter().flat_map(|&pet| pet * views..(pet + 1) * views).collect();
        let products = gram.part(&training, &training);
        let parts = seen.parts(class_count);
        let part_of = |row: usize| row % views * class_count + classes[row / views];
        // Parts' means of the rows of a matrix: [parts, columns].
        let means = |of: &DMatrix<f64>| {
            let mut sums = DMatrix::zeros(views * class_count, of.ncols());
            for (mut sums, column) in sums.column_iter_mut().zip(of.column_iter()) {
                column.iter().enumerate().for_each(|(row, value)| sums[part_of(row)] += value / sizes[classes[row / views]]);
            }
            parts.tr_mul(&sums)
        };
        // What the covariance is made of: of each pet the mean of its views, then what they differ in, about the means of its parts. Each
        // class has the same share.
        let counts = |row: usize, view: usize| {
            let pet = row % count;
            let weight = (1.0 / (class_count as f64 * sizes[classes[pet]])).sqrt();
            weight * if row < count { seen.shares[view] } else { seen.lots[pets[pet]][view] }
        };
        let rows = if seen.differ() { 2 * count } else { count };
        let spread = |of: &DMatrix<f64>| {
            let means = means(of);
            DMatrix::from_fn(rows, of.ncols(), |row, column| {
                let (pet, class) = (row % count, classes[row % count]);
                let about = |view: usize| of[(pet * views + view, column)] - means[(view * class_count + class, column)];
                (0..views).map(|view| counts(row, view) * about(view)).sum::<f64>()
            })
        };
        let half = spread(&products).transpose();
        let mut system = spread(&half);
        let variance = system.diagonal().sum() / features as f64;
        if variance.is_nan() || variance <= 0.0 {
            return None;
        }
        let ridge = shrinkage * variance;
        let of_means = DMatrix::from_fn(training.len(), parts.ncols(), |row, part| {
            parts[(part_of(row), part)] / sizes[classes[row / views]]
        });
        // Σ⁻¹ by Woodbury: 1/ridge · (1 − Zᵀ (λ + Z Zᵀ)⁻¹ Z), where Z is what the covariance is made of.
        let mut coefficients = of_means;
        if shrinkage < 1.0 {
            let lambda = ridge / (1.0 - shrinkage);
            (0..rows).for_each(|row| system[(row, row)] += lambda);
            let solved = Cholesky::new(system)?.solve(&means(&half).transpose());
            let back = DMatrix::from_fn(training.len(), parts.ncols(), |row, part| {
                let (pet, view) = (row / views, row % views);
                (pet..rows).step_by(count).map(|z| counts(z, view) * solved[(z, part)]).sum::<f64>()
            });
            let mut sums = DMatrix::zeros(parts.nrows(), parts.ncols());
            for row in 0..training.len() {
                (0..parts.ncols()).for_each(|part| sums[(part_of(row), part)] += back[(row, part)]);
            }
            let of_sums = &parts * sums;
            for row in 0..training.len() {
                let size = sizes[classes[row / views]];
                (0..parts.ncols()).for_each(|part| {
                    coefficients[(row, part)] -= back[(row, part)] - of_sums[(part_of(row), part)] / size;
                });
            }
        }
        coefficients /= ridge;
        let against = means(&products).transpose();
        // Likelihoods alone would depend on where the origin of the features lies; their ratios to the mean part do not.
        let mean = coefficients.column_mean();
        let of_mean = -0.5 * mean.dot(&against.column_mean());
        let constant = |part: usize, _| -0.5 * coefficients.column(part).dot(&against.column(part)) - of_mean;
        let constants = DVector::from_fn(parts.ncols(), constant);
        coefficients.column_iter_mut().for_each(|mut column| column -= &mean);
        Some(Self { training, coefficients, constants, class_count })
    }

    /// How well pictures fit to each class, whatever the condition: its parts' scores, weighted. One part a class.
    #[must_use]
    pub fn fit_of_class(&self, seen: &Seen) -> Self {
        let door = (1.0 - FIT_PLAIN) / seen.views().saturating_sub(1).max(1) as f64;
        let weight = |view: usize| match view {
            _ if !seen.differ() => 1.0,
            0 => FIT_PLAIN,
            _ => door,
        };
        let weights = DMatrix::from_fn(self.constants.len(), self.class_count, |part, class| {
            if part % self.class_count == class { weight(part / self.class_count) } else { 0.0 }
        });
        Self {
            training: self.training.clone(),
            coefficients: &self.coefficients * &weights,
            constants: weights.tr_mul(&self.constants),
            class_count: self.class_count,
        }
    }

    /// Logarithm of each part's likelihood over that of a part in the middle of all, for the pictures `pictures`: \[pictures\]\[parts\].
    pub fn scores(&self, gram: &Gram, pictures: &[usize]) -> Vec<Vec<f32>> {
        let scores = gram.part(&self.training, pictures).tr_mul(&self.coefficients);
        let row = |p: usize| (0..self.constants.len()).map(|part| (scores[(p, part)] + self.constants[part]) as f32).collect();
        (0..pictures.len()).map(row).collect()
    }

    /// The parts' scores as a layer over vectors like the training pictures', `vectors`.
    pub fn layer(&self, vectors: &[Vec<f32>]) -> Layer {
        let length = vectors.first().map_or(0, Vec::len);
        let mut weight = Vec::with_capacity(length * self.constants.len());
        for part in 0..self.constants.len() {
            let mut row = vec![0.0_f64; length];
            for (&picture, &coefficient) in self.training.iter().zip(self.coefficients.column(part).iter()) {
                row.iter_mut().zip(&vectors[picture]).for_each(|(sum, &value)| *sum += coefficient * f64::from(value));
            }
            weight.extend(row.into_iter().map(|value| value as f32));
        }
        Layer { weight, bias: self.constants.iter().map(|&constant| constant as f32).collect() }
    }
}

/// The score of each class in its likeliest part, from the scores of all parts, view by view.
pub fn likeliest(parts: &[f32], class_count: usize) -> Vec<f32> {
    let of_class = |class: usize| parts[class..].iter().step_by(class_count).copied();
    (0..class_count).map(|class| of_class(class).fold(f32::NEG_INFINITY, f32::max)).collect()
}

/// What a discriminant sees of a feature vector: roots, because features are averages of what is not negative, with a long tail;
/// the second backbone's part, which begins at `second`, with less weight; and the roots of ImageNet's breed probabilities.
pub fn transform(features: &[f32], second: usize, knowledge: Option<&Knowledge>) -> Vec<f32> {
    let breeds = knowledge.map_or_else(Default::default, |knowledge| knowledge.of(features).breeds);
    let scales = scales(features.len(), second, breeds.each_ref().map(Vec::len));
    let values = features.iter().chain(breeds.iter().flatten());
    values.zip(scales).map(|(value, scale)| value.max(0.0).sqrt() * scale).collect()
}

/// What each root is multiplied by, in the order of [`transform`].
pub fn scales(features: usize, second: usize, breeds: [usize; 2]) -> Vec<f32> {
    let parts = [(second, 1.0), (features - second, SECOND_PART.sqrt()), (breeds[0], BREEDS[0]), (breeds[1], BREEDS[1])];
    parts.into_iter().flat_map(|(count, scale)| std::iter::repeat_n(scale, count)).collect()
}

/// What is fitted to and what is judged, with their products, for any choice of training pictures.
#[derive(Debug)]
pub struct Table {
    gram: Gram,
    /// What is fitted to: of each pet the mean of its views as it is, then its views at the door.
    vectors: Vec<Vec<f32>>,
    seen: Seen,
    pictures: usize,
}

impl Table {
    /// Of `examples`, whose pets have all the same number of views at the door. Judged is a picture's plain view, and its features in each of
    /// `sets`, which hold one vector a picture.
    pub fn new(examples: &Examples, sets: &[Vec<Vec<f32>>], second: usize, knowledge: Option<&Knowledge>) -> Self {
        let transformed = |features: &[f32]| transform(features, second, knowledge);
        let mean = |views: &Vec<Vec<f32>>| {
            let each: Vec<Vec<f32>> = views.iter().map(|view| transformed(view)).collect();
            (0..each[0].len()).map(|at| each.iter().map(|view| view[at]).sum::<f32>() / each.len() as f32).collect()
        };
        let pets = examples.classes.len();
        let seen = Seen::new(pets, examples.door.first().map_or(0, Vec::len));
        let mut vectors: Vec<Vec<f32>> = Vec::with_capacity(pets * seen.views());
        for (pet, views) in examples.views[..pets].iter().enumerate() {
            vectors.push(mean(views));
            vectors.extend(examples.door.get(pet).into_iter().flatten().map(|view| transformed(view)));
        }
        let mut judged: Vec<Vec<f32>> = examples.views.iter().map(|views| transformed(&views[0])).collect();
        judged.extend(sets.iter().flatten().map(|features| transformed(features)));
        Self { gram: Gram::of(&vectors, &judged), vectors, seen, pictures: examples.len() }
    }

    /// The shrinkage that does best (top-1 over pictures and over classes, added) when each fold among the pets of `training` is left
    /// out in turn.
    pub fn shrinkage(&self, examples: &Examples, training: &[usize], folds: &[usize]) -> f64 {
        let pets: Vec<usize> = training.iter().copied().filter(|&i| examples.is_pet(i)).collect();
        let quality = |shrinkage: f64| {
            let mut right = vec![[0.0_f64; 2]; examples.class_count];
            for fold in 0..FOLDS {
                let (held, rest): (Vec<usize>, Vec<usize>) = pets.iter().partition(|&&i| folds[i] == fold);
                // A class that this fold holds alone cannot be judged.
                let Some(fitted) = self.fit(examples, &rest, shrinkage).filter(|_| !held.is_empty()) else { continue };
                for (&pet, parts) in held.iter().zip(self.scores(&fitted, &held, 0)) {
                    let [of_class, all] = &mut right[examples.classes[pet]];
                    let found = argmax(&likeliest(&parts, examples.class_count));
                    *of_class += f64::from(u8::from(found == examples.classes[pet]));
                    *all += 1.0;
                }
            }
            let micro = right.iter().map(|r| r[0]).sum::<f64>() / right.iter().map(|r| r[1]).sum::<f64>().max(1.0);
            let by_class: Vec<f64> = right.iter().filter(|r| r[1] > 0.0).map(|r| r[0] / r[1]).collect();
            micro + by_class.iter().sum::<f64>() / by_class.len().max(1) as f64
        };
        let tried: Vec<(f64, f64)> = SHRINKAGES.into_par_iter().map(|shrinkage| (quality(shrinkage), shrinkage)).collect();
        // Among equals the stronger shrinkage, which comes later.
        tried.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or(SHRINKAGES[0], |(_, shrinkage)| shrinkage)
    }

    /// Fits to the pets among `training`; `None` as [`Discriminant::fit`].
    pub fn fit(&self, examples: &Examples, training: &[usize], shrinkage: f64) -> Option<Discriminant> {
        let pets: Vec<usize> = training.iter().copied().filter(|&i| examples.is_pet(i)).collect();
        let classes: Vec<usize> = pets.iter().map(|&i| examples.classes[i]).collect();
        let features = self.vectors.first().map_or(0, Vec::len);
        Discriminant::fit(&self.gram, &self.seen, &pets, &classes, examples.class_count, features, shrinkage)
    }

    /// How well pictures fit to a class, from the pets among `training`; `None` as [`Discriminant::fit`].
    pub fn fit_of_class(&self, examples: &Examples, training: &[usize]) -> Option<Discriminant> {
        self.fit(examples, training, FIT_SHRINKAGE).map(|fitted| fitted.fit_of_class(&self.seen))
    }

    /// A fitted discriminant as a layer over [`transform`]ed features.
    pub fn layer(&self, fitted: &Discriminant) -> Layer {
        fitted.layer(&self.vectors)
    }

    /// Scores of the parts for `pictures` from their plain view (`set` 0), or from their features in the sets, counted from 1.
    pub fn scores(&self, fitted: &Discriminant, pictures: &[usize], set: usize) -> Vec<Vec<f32>> {
        let before = self.vectors.len() + set * self.pictures;
        fitted.scores(&self.gram, &pictures.iter().map(|&i| before + i).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: usize = 3;
    const LENGTH: usize = 5;

    fn noise(state: &mut u32) -> f32 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 8) as f32 / (1 << 24) as f32
    }

    /// 24 pets of three classes of different sizes, each in so many views.
    fn pictures(views: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut state = 9;
        let classes: Vec<usize> = (0..24).map(|p| if p < 12 { 0 } else { 1 + p % 2 }).collect();
        let mut vectors = vec![];
        for &class in &classes {
            let own: Vec<f32> = (0..LENGTH).map(|d| noise(&mut state) + if d == class { 0.7 } else { 0.0 }).collect();
            for view in 0..views {
                let change = |d: usize| 0.3 * view as f32 * if d == 4 { 1.0 } else { (d + class) as f32 / 5.0 };
                vectors.push(own.iter().enumerate().map(|(d, own)| own + change(d) + 0.2 * noise(&mut state)).collect());
            }
        }
        (vectors, classes)
    }

    fn all_pets() -> Vec<usize> {
        (0..24).collect()
    }

    fn fit(vectors: &[Vec<f32>], seen: &Seen, classes: &[usize], shrinkage: f64) -> (Gram, Discriminant) {
        let gram = Gram::of(vectors, vectors);
        let fitted = Discriminant::fit(&gram, seen, &all_pets(), classes, CLASSES, LENGTH, shrinkage).unwrap();
        (gram, fitted)
    }

    /// The textbook's way: means and the covariance itself, inverted. Weights \[parts, length\] and constants.
    fn plainly(vectors: &[Vec<f32>], seen: &Seen, classes: &[usize], shrinkage: f64) -> (DMatrix<f64>, DVector<f64>) {
        let views = seen.views();
        let vector = |pet: usize, view: usize| DVector::from_fn(LENGTH, |d, _| f64::from(vectors[pet * views + view][d]));
        let pets = |class: usize| (0..classes.len()).filter(move |&pet| classes[pet] == class);
        let size = |class: usize| pets(class).count() as f64;
        let mean = |class: usize, view: usize| pets(class).map(|pet| vector(pet, view)).sum::<DVector<f64>>() / size(class);
        let of_view = |view: usize| (0..CLASSES).map(|class| mean(class, view)).sum::<DVector<f64>>() / CLASSES as f64;
        let common = |class: usize| -> DVector<f64> {
            (0..views).map(|view| (mean(class, view) - of_view(view)) * seen.shares[view]).sum()
        };
        let part = |class: usize, view: usize| {
            let expected = of_view(view) + common(class);
            &expected + (mean(class, view) - &expected) * OWN
        };
        let mut covariance = DMatrix::zeros(LENGTH, LENGTH);
        for (pet, &class) in classes.iter().enumerate() {
            let about = |view: usize| vector(pet, view) - part(class, view);
            let middle: DVector<f64> = (0..views).map(|view| about(view) * seen.shares[view]).sum();
            let apart: DVector<f64> = (0..views).map(|view| about(view) * seen.lots[pet][view]).sum();
            covariance += (&middle * middle.transpose() + &apart * apart.transpose()) / (CLASSES as f64 * size(class));
        }
        let variance = covariance.trace() / LENGTH as f64;
        let shrunk = covariance * (1.0 - shrinkage) + DMatrix::identity(LENGTH, LENGTH) * (shrinkage * variance);
        let inverse = shrunk.try_inverse().unwrap();
        let parts: Vec<DVector<f64>> = (0..views * CLASSES).map(|at| part(at % CLASSES, at / CLASSES)).collect();
        let middle = parts.iter().sum::<DVector<f64>>() / parts.len() as f64;
        let half = |mean: &DVector<f64>| -0.5 * mean.dot(&(&inverse * mean));
        let constants = DVector::from_fn(parts.len(), |at, _| half(&parts[at]) - half(&middle));
        let weights: Vec<_> = parts.iter().map(|part| ((part - &middle).transpose() * &inverse).into_owned()).collect();
        (DMatrix::from_rows(&weights), constants)
    }

    #[test]
    fn it_is_the_textbooks_discriminant() {
        for (views, shrinkage) in [(1, 0.05), (1, 0.9), (1, 1.0), (3, 0.05), (3, 0.7), (4, 1.0)] {
            let (vectors, classes) = pictures(views);
            let seen = Seen::new(24, views - 1);
            let (gram, fitted) = fit(&vectors, &seen, &classes, shrinkage);
            let Layer { weight: weights, bias: biases } = fitted.layer(&vectors);
            let (expected, constants) = plainly(&vectors, &seen, &classes, shrinkage);
            assert_eq!((biases.len(), weights.len()), (views * CLASSES, views * CLASSES * LENGTH));
            for part in 0..biases.len() {
                for d in 0..LENGTH {
                    let (found, expected) = (f64::from(weights[part * LENGTH + d]), expected[(part, d)]);
                    assert!(
                        (found - expected).abs() < 1e-4 * expected.abs().max(1.0),
                        "{views}, {shrinkage}: {found} {expected}"
                    );
                }
                assert!((f64::from(biases[part]) - constants[part]).abs() < 1e-4 * constants[part].abs().max(1.0));
            }
            for picture in [3, 20] {
                let scores = fitted.scores(&gram, &[vectors.len() + picture]).remove(0);
                let of = |row: &[f32]| row.iter().zip(&vectors[picture]).map(|(w, x)| w * x).sum::<f32>();
                let parts: Vec<f32> = weights.chunks(LENGTH).zip(&biases).map(|(row, bias)| of(row) + bias).collect();
                scores.iter().zip(&parts).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{a} {b}"));
                let fit = fitted.fit_of_class(&seen).scores(&gram, &[vectors.len() + picture]).remove(0);
                assert_eq!(fit.len(), CLASSES);
                for (class, found) in fit.into_iter().enumerate() {
                    let at_the_door: f32 = (1..views).map(|view| parts[view * CLASSES + class]).sum();
                    let expected = match views {
                        1 => parts[class],
                        _ => 0.6 * parts[class] + 0.4 / (views - 1) as f32 * at_the_door,
                    };
                    assert!((found - expected).abs() < 1e-3, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_class_is_as_likely_as_its_likeliest_part() {
        assert_eq!(likeliest(&[5.0, 1.0, 9.0, 3.0, 8.0, -1.0], 3), [5.0, 8.0, 9.0]);
        assert_eq!(likeliest(&[2.0, 7.0], 2), [2.0, 7.0]);
    }

    /// What lots draw is on the mean what the views differ in.
    #[test]
    fn lots_stand_for_the_covariance_of_views() {
        let seen = Seen::new(20_000, 3);
        assert!((seen.shares.iter().sum::<f64>() - 1.0).abs() < 1e-12 && (seen.shares[0] - (1.0 - DOOR)).abs() < 1e-12);
        for a in 0..4 {
            for b in 0..4 {
                let found = seen.lots.iter().map(|lot| lot[a] * lot[b]).sum::<f64>() / 20_000.0;
                let expected = if a == b { seen.shares[a] } else { 0.0 } - seen.shares[a] * seen.shares[b];
                assert!((found - expected).abs() < 0.01, "{a} {b}: {found} {expected}");
            }
        }
        assert!(!Seen::new(2, 0).differ() && Seen::new(2, 0).lots[0][0].abs() < 1e-12);
    }

    /// Without parts, the second class under the condition would look like the first as it is.
    #[test]
    fn pictures_are_held_against_those_under_the_same_condition() {
        let mut state = 5;
        let classes: Vec<usize> = (0..40).map(|pet| pet % 2).collect();
        // The first number tells the classes apart, the condition moves it just as far, and the second number tells the condition.
        let place = |class: usize, view: usize| [(class + view) as f32, 6.0 * view as f32];
        let mut vectors: Vec<Vec<f32>> = vec![];
        for &class in &classes {
            vectors.extend((0..2).map(|view| place(class, view).map(|at| at + 0.2 * noise(&mut state)).to_vec()));
        }
        let gram = Gram::of(&vectors, &vectors);
        let pets: Vec<usize> = (0..40).collect();
        let fitted = Discriminant::fit(&gram, &Seen::new(40, 1), &pets, &classes, 2, 2, 0.1).unwrap();
        for (row, parts) in fitted.scores(&gram, &(80..160).collect::<Vec<_>>()).iter().enumerate() {
            assert_eq!(argmax(&likeliest(parts, 2)), classes[row / 2], "pet {}, view {}", row / 2, row % 2);
        }
    }

    #[test]
    fn scores_do_not_depend_on_the_origin() {
        for views in [1, 3] {
            let (vectors, classes) = pictures(views);
            let moved: Vec<Vec<f32>> = vectors.iter().map(|v| v.iter().map(|x| x + 3.0).collect()).collect();
            let of = |vectors: &[Vec<f32>]| {
                let (gram, fitted) = fit(vectors, &Seen::new(24, views - 1), &classes, 0.5);
                fitted.scores(&gram, &(0..vectors.len()).collect::<Vec<_>>())
            };
            for (here, there) in of(&vectors).iter().zip(of(&moved)) {
                here.iter().zip(there).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{a} {b}"));
            }
        }
    }

    #[test]
    fn a_part_of_the_pictures_is_fitted_as_if_there_were_no_others() {
        for views in [1, 3] {
            let (vectors, classes) = pictures(views);
            let part: Vec<usize> = (0..24).filter(|p| p % 4 != 1).collect();
            let of_part: Vec<usize> = part.iter().map(|&p| classes[p]).collect();
            let mut seen = Seen::new(24, views - 1);
            let fitted = Discriminant::fit(&Gram::of(&vectors, &[]), &seen, &part, &of_part, CLASSES, LENGTH, 0.3).unwrap();
            let alone: Vec<Vec<f32>> = part.iter().flat_map(|&p| vectors[p * views..(p + 1) * views].to_vec()).collect();
            seen.lots = part.iter().map(|&p| seen.lots[p].clone()).collect();
            let pets: Vec<usize> = (0..part.len()).collect();
            let again = Discriminant::fit(&Gram::of(&alone, &[]), &seen, &pets, &of_part, CLASSES, LENGTH, 0.3).unwrap();
            let (a, b) = (fitted.layer(&vectors), again.layer(&alone));
            let pairs = a.weight.iter().zip(&b.weight).chain(a.bias.iter().zip(&b.bias));
            pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{a} {b}"));
        }
    }

    #[test]
    fn a_pet_is_its_plain_views_then_those_at_the_door() {
        let views = |values: [f32; 2]| values.map(|value| vec![value; 3]).to_vec();
        let mut examples = Examples {
            views: vec![views([1.0, 1.0]), views([4.0, 16.0]), views([9.0, 9.0])],
            door: vec![],
            classes: vec![0, 1],
            strata: vec![0, 1, 2],
            groups: vec![0, 1, 2],
            class_count: 2,
        };
        let vectors = |examples: &Examples| Table::new(examples, &[], 3, None).vectors;
        // Roots: 1 and 1; 2 and 4. The negative is not fitted to.
        assert_eq!(vectors(&examples), [[1.0; 3], [3.0; 3]]);
        examples.door = vec![views([1.0, 4.0]), views([25.0, 49.0])];
        assert_eq!(vectors(&examples), [[1.0; 3], [1.0; 3], [2.0; 3], [3.0; 3], [5.0; 3], [7.0; 3]]);
    }

    #[test]
    fn what_cannot_be_fitted_is_none() {
        let vectors = vec![vec![1.0, 2.0]; 4];
        let fit = |vectors: &[Vec<f32>], classes: &[usize], class_count| {
            let pets: Vec<usize> = (0..classes.len()).collect();
            let gram = Gram::of(vectors, &[]);
            Discriminant::fit(&gram, &Seen::new(pets.len(), 0), &pets, classes, class_count, vectors[0].len(), 0.5)
        };
        assert!(fit(&vectors, &[0, 0, 1, 1], 2).is_none(), "no picture differs from another");
        let (vectors, classes) = pictures(1);
        assert!(fit(&vectors, &classes, CLASSES).is_some());
        assert!(fit(&vectors, &classes, CLASSES + 1).is_none(), "a class without pictures");
    }
}
