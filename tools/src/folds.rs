//! Stratified folds that keep near duplicates together.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Cosine similarity of fused features from which two pictures count as the same one. Measured on the shared part of the
/// Oxford-IIIT Pet set: real duplicates (the same photograph scaled or mirrored) lie above 0.95, the likest different
/// photographs of one animal at 0.91.
pub const DUPLICATE_SIMILARITY: f32 = 0.95;

/// Puts pictures whose features (in any view) are nearly equal into one group; returns a group number a picture.
pub fn duplicate_groups(views: &[&[Vec<f32>]]) -> Vec<usize> {
    use rayon::prelude::*;
    let unit = |v: &Vec<f32>| {
        let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        v.iter().map(|x| x / norm).collect::<Vec<f32>>()
    };
    let unit_views: Vec<Vec<Vec<f32>>> = views.par_iter().map(|v| v.iter().map(unit).collect()).collect();
    // Against the plain view of the earlier picture it is enough to hold every view of the later one.
    let alike = |a: usize, b: usize| unit_views[b].iter().any(|view| dot(&unit_views[a][0], view) >= DUPLICATE_SIMILARITY);
    let bar = crate::progress::bar("looking for near duplicates", views.len());
    let with_earlier = |b: usize| {
        bar.inc(1);
        (0..b).filter(|&a| alike(a, b)).map(|a| (a, b)).collect::<Vec<_>>()
    };
    let pairs: Vec<(usize, usize)> = (0..views.len()).into_par_iter().flat_map_iter(with_earlier).collect();
    bar.finish_and_clear();
    let mut group: Vec<usize> = (0..views.len()).collect();
    for (a, b) in pairs {
        let (from, to) = (group[b].max(group[a]), group[b].min(group[a]));
        group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
    }
    group
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Assigns each picture to one of `count` folds such that every stratum is spread evenly and a group is never torn.
///
/// Groups are dealt stratum by stratum in an order that `seed` decides; where one stratum ended, the next begins.
pub fn assign(strata: &[usize], groups: &[usize], count: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Group number → its stratum (that of its first picture) and its pictures, in the order of their first appearance.
    let mut members: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut position = std::collections::HashMap::new();
    for (picture, &group) in groups.iter().enumerate() {
        let index = *position.entry(group).or_insert_with(|| {
            members.push((strata[picture], Vec::new()));
            members.len() - 1
        });
        members[index].1.push(picture);
    }
    members.shuffle(&mut rng);
    members.sort_by_key(|(stratum, _)| *stratum);
    let mut folds = vec![0; strata.len()];
    for (dealt, (_, pictures)) in members.iter().enumerate() {
        pictures.iter().for_each(|&p| folds[p] = dealt % count);
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strata_are_spread_and_groups_stay_whole() {
        let strata: Vec<usize> = (0..103).map(|i| i % 4).collect();
        // Pictures 8 and 12 (the same stratum) are one group.
        let groups: Vec<usize> = (0..103).map(|i| if i == 12 { 8 } else { i }).collect();
        let folds = assign(&strata, &groups, 5, 1);
        assert_eq!(folds[8], folds[12]);
        for stratum in 0..4 {
            let counts = [0, 1, 2, 3, 4].map(|f| (0..103).filter(|&i| strata[i] == stratum && folds[i] == f).count());
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 2, "{counts:?}");
        }
        assert_eq!(folds, assign(&strata, &groups, 5, 1), "the same seed");
        assert_ne!(folds, assign(&strata, &groups, 5, 2), "another seed");
    }

    #[test]
    fn duplicates_are_found_mirrored_too() {
        let a = vec![vec![1.0, 0.0, 0.2], vec![0.2, 0.0, 1.0]];
        let b = vec![vec![0.0, 1.0, 0.0], vec![0.0, 1.0, 0.0]];
        let mirrored_a = vec![vec![0.2, 0.01, 1.0], vec![1.0, 0.0, 0.21]];
        assert_eq!(duplicate_groups(&[&a, &b, &mirrored_a]), [0, 1, 0]);
    }
}
