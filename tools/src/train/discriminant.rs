//! Linear discriminant analysis with a shrunk covariance, in closed form.
//!
//! With some twenty pictures a class and thousands of features, the shared covariance cannot be estimated; drawn towards a multiple
//! of the identity it can (Friedman 1989, *Regularized discriminant analysis*, JASA 84). Classes count alike, however many pictures
//! they have, in the covariance too. What a picture's views under conditions at the door differ in ([`Table`]) is added to the
//! covariance: along it nothing is to be told apart. Everything is computed from the products of pictures with each other ([`Gram`]): a
//! system as large as there are pictures, not features, and one table of products serves every fold.

use nalgebra::{Cholesky, DMatrix, DVector};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::knowledge::Knowledge;
use super::linear::{Layer, argmax};
use super::{Examples, FOLDS};

/// Share of the views at the door in what is trained on of a pet. Chosen once on the shared pictures, like what follows.
const DOOR: f32 = 0.55;
/// What the views of a picture differ in counts half in the covariance: this is the root. Whole, pictures as they are are told apart less well.
const NUISANCE: f32 = 0.7;
/// Shares of the mean variance that are tried.
const SHRINKAGES: [f64; 4] = [0.7, 0.8, 0.9, 0.95];
/// Weight of the MobileNetV2 part's variance. Chosen once on the shared pictures of the Oxford-IIIT Pet set.
const SECOND_PART: f32 = 0.5;
/// What the roots of ImageNet's breed probabilities of each classifier are multiplied by: about a twentieth of the variance of the
/// features, each. Chosen like [`SECOND_PART`].
const BREEDS: [f32; 2] = [3.64, 3.71];

/// Products of training pictures with each other and with those that are judged.
#[derive(Debug, Clone)]
pub struct Gram(DMatrix<f64>);

impl Gram {
    /// Of vectors of one length. `training` are the first pictures, `judged` those after them.
    pub fn of(training: &[Vec<f32>], judged: &[Vec<f32>]) -> Self {
        let length = training.first().map_or(0, Vec::len);
        let columns =
            |vectors: &[Vec<f32>]| DMatrix::from_fn(length, vectors.len(), |at, picture| f64::from(vectors[picture][at]));
        let rows = columns(training);
        let mut products = rows.tr_mul(&rows).resize_horizontally(training.len() + judged.len(), 0.0);
        products.columns_mut(training.len(), judged.len()).copy_from(&rows.tr_mul(&columns(judged)));
        Self(products)
    }

    /// Products of `training` pictures with any.
    fn part(&self, training: &[usize], pictures: &[usize]) -> DMatrix<f64> {
        DMatrix::from_fn(training.len(), pictures.len(), |t, p| self.0[(training[t], pictures[p])])
    }
}

/// A fitted discriminant: each class is a sum of training pictures and a constant.
#[derive(Debug, Clone)]
pub struct Discriminant {
    training: Vec<usize>,
    /// \[training pictures, classes\].
    coefficients: DMatrix<f64>,
    /// \[classes\].
    constants: DVector<f64>,
}

impl Discriminant {
    /// Fits to the pictures `training`, whose classes are `classes` (one a picture of `training`, each below `class_count`).
    ///
    /// The covariance is (1 − `shrinkage`) · (within-class covariance + that of `nuisance`) + `shrinkage` · mean variance within
    /// classes · identity; 0 < `shrinkage` ≤ 1. `nuisance` are deviations that tell nothing: none, or one for each of `training`. `None` when a class has no picture, or all pictures of each class are the same.
    pub fn fit(
        gram: &Gram,
        training: &[usize],
        nuisance: &[usize],
        classes: &[usize],
        class_count: usize,
        features: usize,
        shrinkage: f64,
    ) -> Option<Self> {
        let count = training.len();
        let mut sizes = vec![0.0; class_count];
        classes.iter().for_each(|&class| sizes[class] += 1.0);
        if sizes.contains(&0.0) {
            return None;
        }
        // The pictures, then the deviations.
        let training = [training, nuisance].concat();
        let all = training.len();
        let products = gram.part(&training, &training);
        // Means as sums of pictures; and what takes the mean of its class from each picture.
        let share = |p: usize, class: usize| if p < count && classes[p] == class { 1.0 / sizes[class] } else { 0.0 };
        let means = DMatrix::from_fn(all, class_count, share);
        let centre = |rows: &DMatrix<f64>| {
            let sums = means.tr_mul(rows);
            let mean = |p: usize, c: usize| if p < count { sums[(classes[p], c)] } else { 0.0 };
            DMatrix::from_fn(all, rows.ncols(), |p, c| rows[(p, c)] - mean(p, c))
        };
        // Each class has the same share of the covariance.
        let weigh = |rows: &DMatrix<f64>| {
            let weights: Vec<f64> = classes.iter().map(|&class| (1.0 / (class_count as f64 * sizes[class])).sqrt()).collect();
            DMatrix::from_fn(all, rows.ncols(), |p, c| rows[(p, c)] * weights[p % count])
        };
        let half = weigh(&centre(&products));
        let mut system = weigh(&centre(&half.transpose()));
        let variance = (0..count).map(|p| system[(p, p)]).sum::<f64>() / features as f64;
        if variance.is_nan() || variance <= 0.0 {
            return None;
        }
        let ridge = shrinkage * variance;
        // Σ⁻¹ by Woodbury: 1/ridge · (1 − Zᵀ (λ + Z Zᵀ)⁻¹ Z), where Z are the centred and weighted pictures.
        let scaled = if shrinkage < 1.0 {
            let lambda = ridge / (1.0 - shrinkage);
            (0..all).for_each(|p| system[(p, p)] += lambda);
            let solved = Cholesky::new(system)?.solve(&(&half * &means));
            &means - centre(&weigh(&solved))
        } else {
            means.clone()
        };
        let mut coefficients = scaled / ridge;
        let against = &products * &means;
        // Likelihoods alone would depend on where the origin of the features lies; their ratios to the mean class do not.
        let mean = coefficients.column_mean();
        let of_mean = -0.5 * mean.dot(&against.column_mean());
        let constant = |c: usize, _| -0.5 * coefficients.column(c).dot(&against.column(c)) - of_mean;
        let constants = DVector::from_fn(class_count, constant);
        coefficients.column_iter_mut().for_each(|mut column| column -= &mean);
        Some(Self { training, coefficients, constants })
    }

    /// Logarithm of each class's likelihood over that of a class in the middle of all, for the pictures `pictures`:
    /// \[pictures\]\[classes\].
    pub fn scores(&self, gram: &Gram, pictures: &[usize]) -> Vec<Vec<f32>> {
        let scores = gram.part(&self.training, pictures).tr_mul(&self.coefficients);
        let row = |p: usize| (0..self.constants.len()).map(|c| (scores[(p, c)] + self.constants[c]) as f32).collect();
        (0..pictures.len()).map(row).collect()
    }

    /// The same as a layer over vectors like the training pictures', `vectors`.
    pub fn layer(&self, vectors: &[Vec<f32>]) -> Layer {
        let length = vectors.first().map_or(0, Vec::len);
        let mut weight = Vec::with_capacity(length * self.constants.len());
        for class in 0..self.constants.len() {
            let mut row = vec![0.0_f64; length];
            for (&picture, &coefficient) in self.training.iter().zip(self.coefficients.column(class).iter()) {
                row.iter_mut().zip(&vectors[picture]).for_each(|(sum, &value)| *sum += coefficient * f64::from(value));
            }
            weight.extend(row.into_iter().map(|value| value as f32));
        }
        Layer { weight, bias: self.constants.iter().map(|&constant| constant as f32).collect() }
    }
}

/// What a discriminant sees of a feature vector: roots, because features are averages of what is not negative, with a long tail;
/// the second backbone's part, which begins at `second`, with less weight; and the roots of ImageNet's breed probabilities.
pub fn transform(features: &[f32], second: usize, knowledge: Option<&Knowledge>) -> Vec<f32> {
    let breeds = knowledge.map_or_else(Default::default, |knowledge| knowledge.of(features).breeds);
    let scales = scales(features.len(), second, breeds.each_ref().map(Vec::len));
    let values = features.iter().chain(breeds.iter().flatten());
    values.zip(scales).map(|(value, scale)| value.max(0.0).sqrt() * scale).collect()
}

fn add(sum: &mut [f32], vector: &[f32], weight: f32) {
    sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += weight * value);
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
    /// What is fitted to: one vector a pet; then, where views at the door are trained on, one deviation a pet.
    vectors: Vec<Vec<f32>>,
    pets: usize,
    pictures: usize,
}

impl Table {
    /// Of `examples`. Trained on is the mean of a pet's views, drawn a good half of the way towards the mean of its views at the door; and how the
    /// views differ from that: their deviations with signs drawn by lot, added up to one vector, whose square is on the mean over many
    /// pictures half that of all deviations. Judged is a picture's plain view, and its features in each of `sets`, which
    /// hold one vector a picture.
    pub fn new(examples: &Examples, sets: &[Vec<Vec<f32>>], second: usize, knowledge: Option<&Knowledge>) -> Self {
        let seen = |features: &[f32]| transform(features, second, knowledge);
        let mean = |views: &Vec<Vec<f32>>| {
            let each: Vec<Vec<f32>> = views.iter().map(|view| seen(view)).collect();
            (0..each[0].len()).map(|at| each.iter().map(|view| view[at]).sum::<f32>() / each.len() as f32).collect()
        };
        let pets = examples.classes.len();
        let mut vectors: Vec<Vec<f32>> = examples.views[..pets].iter().map(mean).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut deviations = vec![];
        for (vector, door) in vectors.iter_mut().zip(&examples.door).filter(|(_, door)| !door.is_empty()) {
            let plain = vector.clone();
            let door: Vec<Vec<f32>> = door.iter().map(|view| seen(view)).collect();
            let share = DOOR / door.len() as f32;
            vector.iter_mut().for_each(|value| *value *= 1.0 - DOOR);
            door.iter().for_each(|view| add(vector, view, share));
            let mut deviation = vec![0.0; vector.len()];
            let plain_weight = (1.0 - DOOR).sqrt();
            for (view, weight) in
                std::iter::once((&plain, plain_weight)).chain(door.iter().map(|view| (view, (1.0 / door.len() as f32).sqrt())))
            {
                let signed = NUISANCE * if rng.random::<bool>() { weight } else { -weight };
                add(&mut deviation, view, signed);
                add(&mut deviation, vector, -signed);
            }
            deviations.push(deviation);
        }
        vectors.extend(deviations);
        let mut judged: Vec<Vec<f32>> = examples.views.iter().map(|views| seen(&views[0])).collect();
        judged.extend(sets.iter().flatten().map(|features| seen(features)));
        Self { gram: Gram::of(&vectors, &judged), vectors, pets, pictures: examples.len() }
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
                for (&pet, row) in held.iter().zip(self.scores(&fitted, &held, 0)) {
                    let [of_class, all] = &mut right[examples.classes[pet]];
                    *of_class += f64::from(u8::from(argmax(&row) == examples.classes[pet]));
                    *all += 1.0;
                }
            }
            let micro = right.iter().map(|r| r[0]).sum::<f64>() / right.iter().map(|r| r[1]).sum::<f64>().max(1.0);
            let by_class: Vec<f64> = right.iter().filter(|r| r[1] > 0.0).map(|r| r[0] / r[1]).collect();
            micro + by_class.iter().sum::<f64>() / by_class.len().max(1) as f64
        };
        let tried = SHRINKAGES.into_iter().map(|shrinkage| (quality(shrinkage), shrinkage));
        // Among equals the stronger shrinkage, which comes later.
        tried.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(SHRINKAGES[0], |(_, shrinkage)| shrinkage)
    }

    /// Fits to the pets among `training`; `None` as [`Discriminant::fit`].
    pub fn fit(&self, examples: &Examples, training: &[usize], shrinkage: f64) -> Option<Discriminant> {
        let pets: Vec<usize> = training.iter().copied().filter(|&i| examples.is_pet(i)).collect();
        let classes: Vec<usize> = pets.iter().map(|&i| examples.classes[i]).collect();
        let features = self.vectors.first().map_or(0, Vec::len);
        let nuisance: Vec<usize> = pets.iter().map(|&i| self.pets + i).filter(|&i| i < self.vectors.len()).collect();
        Discriminant::fit(&self.gram, &pets, &nuisance, &classes, examples.class_count, features, shrinkage)
    }

    /// A fitted discriminant as a layer over [`transform`]ed features.
    pub fn layer(&self, fitted: &Discriminant) -> Layer {
        fitted.layer(&self.vectors)
    }

    /// Scores of `pictures` from their plain view (`set` 0), or from their features in the sets, counted from 1.
    pub fn scores(&self, fitted: &Discriminant, pictures: &[usize], set: usize) -> Vec<Vec<f32>> {
        let before = self.vectors.len() + set * self.pictures;
        fitted.scores(&self.gram, &pictures.iter().map(|&i| before + i).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes of different sizes in five dimensions.
    fn pictures() -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut state = 9_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let classes: Vec<usize> = (0..24).map(|p| if p < 12 { 0 } else { 1 + p % 2 }).collect();
        let vectors =
            classes.iter().map(|&class| (0..5).map(|d| noise() + if d == class { 0.7 } else { 0.0 }).collect()).collect();
        (vectors, classes)
    }

    /// The textbook's way: the covariance itself, inverted.
    fn plainly(vectors: &[Vec<f32>], nuisance: &[Vec<f32>], classes: &[usize], shrinkage: f64) -> (DMatrix<f64>, DVector<f64>) {
        let rows = DMatrix::from_fn(vectors.len(), 5, |p, d| f64::from(vectors[p][d]));
        let mut means = DMatrix::zeros(3, 5);
        for class in 0..3 {
            let of_class: Vec<usize> = (0..vectors.len()).filter(|&p| classes[p] == class).collect();
            for d in 0..5 {
                means[(class, d)] = of_class.iter().map(|&p| rows[(p, d)]).sum::<f64>() / of_class.len() as f64;
            }
        }
        let mut covariance = DMatrix::zeros(5, 5);
        for (p, &class) in classes.iter().enumerate() {
            let difference = rows.row(p) - means.row(class);
            let size = classes.iter().filter(|&&other| other == class).count();
            covariance += difference.transpose() * difference / (3 * size) as f64;
        }
        let variance = covariance.trace() / 5.0;
        for (deviation, &class) in nuisance.iter().zip(classes) {
            let row = nalgebra::RowDVector::from_fn(5, |_, d| f64::from(deviation[d]));
            let size = classes.iter().filter(|&&other| other == class).count();
            covariance += row.transpose() * row / (3 * size) as f64;
        }
        let shrunk = covariance * (1.0 - shrinkage) + DMatrix::identity(5, 5) * (shrinkage * variance);
        let inverse = shrunk.try_inverse().unwrap();
        let mean = means.row_mean();
        let half = |m: &nalgebra::RowDVector<f64>| -0.5 * (m * &inverse).dot(m);
        let constants = DVector::from_fn(3, |c, _| half(&means.row(c).into_owned()) - half(&mean));
        let weights = DMatrix::from_rows(&[0, 1, 2].map(|c| (means.row(c) - &mean) * &inverse));
        (weights, constants)
    }

    #[test]
    fn it_is_the_textbooks_discriminant() {
        let (vectors, classes) = pictures();
        let count = vectors.len();
        let all: Vec<usize> = (0..count).collect();
        let deviations: Vec<Vec<f32>> =
            (0..count).map(|p| (0..5).map(|d| ((p * 5 + d) as f32).sin() * (d + 1) as f32).collect()).collect();
        let both = [vectors.clone(), deviations.clone()].concat();
        let gram = Gram::of(&both, &[]);
        for (shrinkage, with) in [(0.05, false), (0.9, false), (1.0, false), (0.05, true), (0.7, true)] {
            let nuisance: Vec<usize> = (count..2 * count).filter(|_| with).collect();
            let fitted = Discriminant::fit(&gram, &all, &nuisance, &classes, 3, 5, shrinkage).unwrap();
            let Layer { weight: weights, bias: biases } = fitted.layer(&both);
            let (expected, constants) = plainly(&vectors, if with { &deviations } else { &[] }, &classes, shrinkage);
            for class in 0..3 {
                for d in 0..5 {
                    let (found, expected) = (f64::from(weights[class * 5 + d]), expected[(class, d)]);
                    assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{shrinkage}: {found} {expected}");
                }
                assert!((f64::from(biases[class]) - constants[class]).abs() < 1e-4 * constants[class].abs().max(1.0));
            }
            let scores = fitted.scores(&gram, &[3, 20]);
            for (row, &picture) in scores.iter().zip(&[3, 20]) {
                for (class, &score) in row.iter().enumerate() {
                    let plain: f32 = weights[class * 5..][..5].iter().zip(&vectors[picture]).map(|(w, x)| w * x).sum();
                    assert!((score - plain - biases[class]).abs() < 1e-3, "{score} {plain}");
                }
            }
        }
    }

    #[test]
    fn scores_do_not_depend_on_the_origin() {
        let (vectors, classes) = pictures();
        let moved: Vec<Vec<f32>> = vectors.iter().map(|v| v.iter().map(|x| x + 3.0).collect()).collect();
        let all: Vec<usize> = (0..vectors.len()).collect();
        let of = |vectors: &[Vec<f32>]| {
            let gram = Gram::of(vectors, &[]);
            Discriminant::fit(&gram, &all, &[], &classes, 3, 5, 0.5).unwrap().scores(&gram, &all)
        };
        for (row, other) in of(&vectors).iter().zip(of(&moved)) {
            row.iter().zip(other).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{a} {b}"));
        }
    }

    #[test]
    fn a_part_of_the_pictures_is_fitted_as_if_there_were_no_others() {
        let (vectors, classes) = pictures();
        let part: Vec<usize> = (0..vectors.len()).filter(|p| p % 4 != 1).collect();
        let of_part: Vec<usize> = part.iter().map(|&p| classes[p]).collect();
        let fitted = Discriminant::fit(&Gram::of(&vectors, &[]), &part, &[], &of_part, 3, 5, 0.3).unwrap();
        let alone: Vec<Vec<f32>> = part.iter().map(|&p| vectors[p].clone()).collect();
        let again =
            Discriminant::fit(&Gram::of(&alone, &[]), &(0..part.len()).collect::<Vec<_>>(), &[], &of_part, 3, 5, 0.3).unwrap();
        assert_eq!(fitted.layer(&vectors), again.layer(&alone));
    }

    #[test]
    fn views_at_the_door_are_a_part_of_what_is_trained_on_and_the_rest_is_nuisance() {
        let views = |values: [f32; 2]| values.map(|value| vec![value; 3]).to_vec();
        let mut examples = Examples {
            views: vec![views([1.0, 1.0]), views([4.0, 16.0])],
            door: vec![],
            classes: vec![0, 1],
            strata: vec![0, 1],
            groups: vec![0, 1],
            class_count: 2,
        };
        let vectors = |examples: &Examples| Table::new(examples, &[], 3, None).vectors;
        // Roots: 1 and 1; 2 and 4.
        assert_eq!(vectors(&examples), [[1.0; 3], [3.0; 3]]);
        examples.door = vec![views([1.0, 1.0]), views([25.0, 49.0])];
        let found = vectors(&examples);
        // From 3 towards 6, the mean of 5 and 7.
        let middle = 3.0 + 3.0 * DOOR;
        let near = |row: &[f32], expected: f32| row.iter().all(|value| (value - expected).abs() < 1e-5);
        assert!(near(&found[0], 1.0) && near(&found[1], middle), "{found:?}");
        assert!(near(&found[2], 0.0), "all views alike");
        // Signs by lot.
        let plain = NUISANCE * (1.0 - DOOR).sqrt() * (3.0 - middle);
        let [first, second] = [5.0, 7.0].map(|value| NUISANCE * 0.5_f32.sqrt() * (value - middle));
        let signs = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]];
        let possible = signs.map(|[a, b]| (plain + a * first + b * second).abs());
        assert!(possible.iter().any(|value| (value - found[3][0].abs()).abs() < 1e-5), "{} {possible:?}", found[3][0]);
    }

    #[test]
    fn what_cannot_be_fitted_is_none() {
        let vectors = vec![vec![1.0, 2.0]; 4];
        let gram = Gram::of(&vectors, &[]);
        assert!(
            Discriminant::fit(&gram, &[0, 1, 2, 3], &[], &[0, 0, 1, 1], 2, 2, 0.5).is_none(),
            "no picture differs from another"
        );
        let (vectors, classes) = pictures();
        let all: Vec<usize> = (0..vectors.len()).collect();
        assert!(
            Discriminant::fit(&Gram::of(&vectors, &[]), &all, &[], &classes, 4, 5, 0.5).is_none(),
            "a class without pictures"
        );
    }
}
