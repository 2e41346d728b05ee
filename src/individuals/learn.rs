//! Learning who is who from pictures, and measuring what was learnt on pictures that were left out of the learning.
//!
//! An animal's model is its *prototypes* (its pictures), a *radius* (the least similarity to one of them), and its *rivals*:
//! the strangers that look most like it. A picture is the animal's when the nearest prototype lies within the radius and
//! nearer, by [`MARGIN`], than every rival and every prototype of the other animals.
//!
//! Pictures that are nearly the same ([`DUPLICATE`]) are one group. A group counts once and is left out as one: what a
//! burst shows twice is no second piece of evidence. Similarities in, numbers out; nothing here knows files or names.

use super::feature::similarity;
use crate::model::Species;

/// The most pictures an animal has; each is a prototype.
pub const MAX_PICTURES: usize = 64;
/// The most strangers that are kept.
pub const MAX_STRANGERS: usize = 500;
/// The most strangers an animal is held against.
pub const MAX_RIVALS: usize = 32;
/// The least radius, however few an animal's pictures are. Of 17,639 pairs of different pictures of one breed (shared part of
/// the Oxford-IIIT Pet set) 7 % are more alike; of 27 pairs that show one animal as far as the eye can tell, 24 are. Without
/// pictures of strangers this radius alone keeps out no more than half of the other animals of a breed.
pub const MIN_RADIUS: f32 = 0.85;
/// How much nearer than anybody else the nearest prototype must be.
pub const MARGIN: f32 = 0.01;
/// How far inside a stranger that only the radius keeps away the radius must end.
pub const GAP: f32 = 0.005;
/// Share of an animal's own pictures that may lie outside of the radius, so that one odd picture does not widen it.
pub const OUTSIDE: f32 = 0.1;
/// Similarity from which two pictures count as one. Real duplicates in the shared pictures lie above 0.98, the likest different
/// pictures at 0.923.
pub const DUPLICATE: f32 = 0.95;

/// What was learnt about one animal. Numbers are those of the pictures given to [`Learner::new`].
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its pictures.
    pub prototypes: Vec<usize>,
    /// The strangers most like it, the likest first.
    pub rivals: Vec<usize>,
    /// Least similarity to the nearest prototype.
    pub radius: f32,
}

/// What left-out pictures show. Near duplicates count once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The animal's own pictures.
    pub pictures: usize,
    /// Those recognised by what the others teach (of near duplicates: all of them).
    pub recognised: usize,
    /// Pictures of other animals of its species: strangers, and the other enrolled ones.
    pub strangers: usize,
    /// Those taken for the animal by what the others teach (of near duplicates: any of them).
    pub taken: usize,
}

/// One picture to learn from.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// Number of the animal; none is a stranger.
    pub owner: Option<usize>,
    /// Species on the picture.
    pub species: Species,
    /// Its direction ([`super::feature::feature`]).
    pub feature: &'a [f32],
}

/// All pictures, compared with each other once.
#[derive(Debug)]
pub struct Learner {
    owner: Vec<Option<usize>>,
    species: Vec<Species>,
    /// Number of the first picture of the group that a picture belongs to.
    group: Vec<usize>,
    /// Row-major, `len` by `len`.
    alike: Vec<f32>,
}

impl Learner {
    /// Compares all pictures: time and memory grow with the square of their number.
    pub fn new(items: &[Item<'_>]) -> Self {
        let len = items.len();
        let mut alike = vec![1.0; len * len];
        for a in 0..len {
            for b in 0..a {
                let value = similarity(items[a].feature, items[b].feature);
                (alike[a * len + b], alike[b * len + a]) = (value, value);
            }
        }
        let owner = items.iter().map(|item| item.owner).collect();
        let species = items.iter().map(|item| item.species).collect();
        let mut learner = Self { owner, species, group: (0..len).collect(), alike };
        learner.find_groups();
        learner
    }

    /// What all pictures teach about an animal.
    pub fn model(&self, animal: usize) -> Model {
        self.model_without(animal, None)
    }

    /// What the animal's model is worth, each group left out in turn.
    pub fn figures(&self, animal: usize) -> Figures {
        let own = self.groups(|picture| self.owner[picture] == Some(animal));
        let species = own.first().map(|&first| self.species[first]);
        let others = self.groups(|picture| self.owner[picture] != Some(animal) && Some(self.species[picture]) == species);
        let verdicts = |group: usize| {
            let model = self.model_without(animal, Some(group));
            let members = (0..self.group.len()).filter(move |&picture| self.group[picture] == group);
            members.map(move |picture| self.accepts(animal, &model, picture))
        };
        Figures {
            pictures: own.len(),
            recognised: own.iter().filter(|&&group| verdicts(group).all(|accepted| accepted)).count(),
            strangers: others.len(),
            taken: others.iter().filter(|&&group| verdicts(group).any(|accepted| accepted)).count(),
        }
    }

    fn alike(&self, a: usize, b: usize) -> f32 {
        self.alike[a * self.group.len() + b]
    }

    /// Joins near duplicates of one owner; chains join too.
    fn find_groups(&mut self) {
        for b in 0..self.group.len() {
            for a in 0..b {
                if self.owner[a] != self.owner[b] || self.alike(a, b) < DUPLICATE || self.group[a] == self.group[b] {
                    continue;
                }
                let (to, from) = (self.group[a].min(self.group[b]), self.group[a].max(self.group[b]));
                self.group.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
            }
        }
    }

    /// The groups of the pictures that are wanted.
    fn groups(&self, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.group.len()).filter(|&picture| self.group[picture] == picture && wanted(picture)).collect()
    }

    fn pictures(&self, wanted: impl Fn(Option<usize>) -> bool, without: Option<usize>) -> Vec<usize> {
        (0..self.group.len()).filter(|&p| wanted(self.owner[p]) && Some(self.group[p]) != without).collect()
    }

    /// Similarity of a picture to the likest of some others that are not of its own group.
    fn nearest(&self, picture: usize, others: &[usize]) -> f32 {
        let apart = others.iter().filter(|&&other| self.group[other] != self.group[picture]);
        apart.map(|&other| self.alike(picture, other)).fold(f32::NEG_INFINITY, f32::max)
    }

    fn model_without(&self, animal: usize, without: Option<usize>) -> Model {
        let prototypes = self.pictures(|owner| owner == Some(animal), without);
        let mut strangers = self.pictures(|owner| owner.is_none(), without);
        let likeness: Vec<f32> = (0..self.group.len()).map(|picture| self.nearest(picture, &prototypes)).collect();
        strangers.sort_by(|&a, &b| likeness[b].total_cmp(&likeness[a]).then(a.cmp(&b)));
        strangers.truncate(MAX_RIVALS);
        let others = self.pictures(|owner| owner.is_some_and(|other| other != animal), without);
        let mut model = Model { prototypes, rivals: strangers, radius: MIN_RADIUS };
        model.radius = model.radius.max(self.own_radius(&model));
        for picture in self.pictures(|owner| owner != Some(animal), without) {
            // What no rival keeps out, the radius must.
            if likeness[picture] + GAP > model.radius && self.beats_rivals(&model, &others, picture) {
                model.radius = likeness[picture] + GAP;
            }
        }
        model
    }

    /// The similarity that all but [`OUTSIDE`] of the animal's pictures have to its other ones.
    fn own_radius(&self, model: &Model) -> f32 {
        let mut nearest: Vec<f32> = model.prototypes.iter().map(|&picture| self.nearest(picture, &model.prototypes)).collect();
        nearest.retain(|similarity| similarity.is_finite());
        nearest.sort_by(f32::total_cmp);
        nearest.get((nearest.len() as f32 * OUTSIDE) as usize).copied().unwrap_or(MIN_RADIUS)
    }

    /// Whether the model takes a left-out picture for its animal.
    fn accepts(&self, animal: usize, model: &Model, picture: usize) -> bool {
        let others = self.pictures(|owner| owner.is_some_and(|other| other != animal), Some(self.group[picture]));
        self.nearest(picture, &model.prototypes) >= model.radius && self.beats_rivals(model, &others, picture)
    }

    /// Whether a picture is nearer to the animal than to everybody else; its own group is set aside.
    fn beats_rivals(&self, model: &Model, others: &[usize], picture: usize) -> bool {
        let rival = self.nearest(picture, &model.rivals).max(self.nearest(picture, others));
        self.nearest(picture, &model.prototypes) - rival >= MARGIN
    }
}
