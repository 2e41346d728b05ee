//! Weighing evidence over several frames: one frame never opens, and too few frames are unknown.
//!
//! [`Vote`] holds the last frames, [`Vote::tally`] says on what they agree. What follows from that is [`super::rules`]' part.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::{Evidence, Reason, Sighting};
use crate::hw::clock::Monotonic;
use crate::model::Species;

/// Largest window, in frames.
pub const MAX_FRAMES: usize = 100;
/// Longest window.
pub const MAX_WITHIN: Duration = Duration::from_secs(60);

/// How many frames must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Frames that must agree (N), at least 2.
    pub agree: usize,
    /// Of the last so many (M), N to [`MAX_FRAMES`].
    pub of: usize,
    /// None of them older than this (T), up to [`MAX_WITHIN`].
    pub within: Duration,
    /// Frames among them that may show another animal, fewer than N.
    pub contradicting: usize,
    /// Frames that must show an animal for a rule that denies it, 2 to N: such a rule matches more easily than one that allows.
    pub deny_agree: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { agree: 3, of: 5, within: Duration::from_millis(2500), contradicting: 1, deny_agree: 2 }
    }
}

impl Settings {
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let &Self { agree, of, within, contradicting, deny_agree } = self;
        if agree < 2 {
            Err(SettingsError::Agree(agree))
        } else if !(agree..=MAX_FRAMES).contains(&of) {
            Err(SettingsError::Of { of, agree })
        } else if within.is_zero() || within > MAX_WITHIN {
            Err(SettingsError::Within(within))
        } else if contradicting >= agree {
            Err(SettingsError::Contradicting { contradicting, agree })
        } else if !(2..=agree).contains(&deny_agree) {
            Err(SettingsError::DenyAgree { deny_agree, agree })
        } else {
            Ok(())
        }
    }
}

/// A setting that would make the vote worthless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// One frame would open.
    #[error("vote: agree is {0}, but one frame never opens: set it to 2 or more")]
    Agree(usize),
    /// A window that cannot hold the frames that must agree, or too large.
    #[error("vote: of is {of}: set it to {agree} (agree) to {MAX_FRAMES}")]
    Of {
        /// What was given.
        of: usize,
        /// Frames that must agree.
        agree: usize,
    },
    /// No time, or so much that frames of different visits would be weighed together.
    #[error("vote: within is {0:?}: set it to more than 0 and at most {MAX_WITHIN:?}")]
    Within(Duration),
    /// Two animals could be agreed on at once.
    #[error("vote: contradicting is {contradicting}: set it below {agree} (agree)")]
    Contradicting {
        /// What was given.
        contradicting: usize,
        /// Frames that must agree.
        agree: usize,
    },
    /// One frame would deny, or denying would be harder than allowing.
    #[error("vote: deny_agree is {deny_agree}: set it to 2 up to {agree} (agree)")]
    DenyAgree {
        /// What was given.
        deny_agree: usize,
        /// Frames that must agree.
        agree: usize,
    },
}

impl SettingsError {
    /// Name of the field of [`Settings`].
    pub fn field(&self) -> &'static str {
        match self {
            Self::Agree(_) => "agree",
            Self::Of { .. } => "of",
            Self::Within(_) => "within",
            Self::Contradicting { .. } => "contradicting",
            Self::DenyAgree { .. } => "deny_agree",
        }
    }
}

/// One frame's evidence, as it was weighed.
#[derive(Debug, Clone, PartialEq)]
pub struct Ballot {
    /// Number of the frame.
    pub frame: u64,
    /// When it was captured.
    pub at: Monotonic,
    /// What it shows.
    pub evidence: Evidence,
}

/// The last frames of one visit.
///
/// Frames of different visits must not be combined: call [`Vote::clear`] after the last frame of a visit. The time limit guards
/// besides.
#[derive(Debug, Clone)]
pub struct Vote {
    settings: Settings,
    ring: VecDeque<Ballot>,
    newest: Option<Monotonic>,
}

impl Vote {
    /// No frames yet.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self { settings, ring: VecDeque::with_capacity(settings.of), newest: None })
    }

    /// Adds a frame that was captured at `at`; the oldest one leaves a full window.
    ///
    /// A frame counts as unknown, whatever it shows, if it was not captured after all earlier ones of the visit (clock trouble,
    /// or the same picture once more), or if one of its probabilities is not finite.
    pub fn add(&mut self, at: Monotonic, frame: u64, evidence: Evidence) {
        let evidence = if self.newest.is_some_and(|newest| at <= newest) {
            fault("the frame is not newer than the one before it: check the camera")
        } else if matches!(&evidence, Evidence::Animal(sighting) if !finite(sighting)) {
            fault("a probability is not finite: check the model")
        } else {
            evidence
        };
        self.newest = self.newest.max(Some(at));
        if self.ring.len() >= self.settings.of {
            self.ring.pop_front();
        }
        self.ring.push_back(Ballot { frame, at, evidence });
    }

    /// Forgets all frames: the visit is over.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.newest = None;
    }

    /// What the frames of the window say at `now`. Frames that are too old, or newer than `now`, are not weighed.
    pub fn tally(&self, now: Monotonic) -> Tally {
        let weighed = |b: &&Ballot| b.at <= now && now.since(b.at) <= self.settings.within;
        Tally::new(self.ring.iter().filter(weighed).cloned().collect(), self.settings)
    }
}

fn fault(what: &str) -> Evidence {
    Evidence::Unknown(Reason::Fault(what.into()))
}

fn finite(sighting: &Sighting) -> bool {
    let similarity = sighting.individual.as_ref().map_or(0.0, |i| i.similarity);
    [sighting.species_p, sighting.breed_p, sighting.pet, similarity].iter().all(|p| p.is_finite())
}

/// On what enough frames agree, at one level.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreed<T> {
    /// The species, breed or individual.
    pub what: T,
    /// Number of frames.
    pub frames: usize,
    /// Mean of these frames: probability of the species or breed, 0…1; for an individual the similarity, −1…1.
    pub mean: f32,
}

/// The frames of the window, and on what they agree. At most one species, breed or individual can be agreed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// The frames that were weighed, oldest first.
    pub ballots: Vec<Ballot>,
    /// The species.
    pub species: Option<Agreed<Species>>,
    /// The breed.
    pub breed: Option<Agreed<String>>,
    /// The individual. A stranger is never agreed on.
    pub individual: Option<Agreed<String>>,
    settings: Settings,
}

impl Tally {
    fn new(ballots: Vec<Ballot>, settings: Settings) -> Self {
        let mut tally = Self { ballots, species: None, breed: None, individual: None, settings };
        tally.species = tally.agreed(|s| Some(s.species), |s| s.species_p);
        tally.breed = tally.agreed(|s| Some(s.breed.clone()), |s| s.breed_p);
        let similarity = |s: &Sighting| s.individual.as_ref().map_or(f32::NAN, |i| i.similarity);
        tally.individual = tally.agreed(|s| s.individual.as_ref().map(|i| i.name.clone()), similarity);
        tally
    }

    /// What was required of the frames.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The frames that show an animal, each with its place among [`Tally::ballots`].
    pub fn sightings(&self) -> impl Iterator<Item = (usize, &Sighting)> {
        self.ballots.iter().enumerate().filter_map(|(place, ballot)| match &ballot.evidence {
            Evidence::Animal(sighting) => Some((place, sighting)),
            Evidence::NoAnimal | Evidence::Unknown(_) => None,
        })
    }

    /// Whether an animal for which `matches` holds may be there: enough frames for a rule that denies show one.
    pub fn possible(&self, matches: impl Fn(&Sighting) -> bool) -> bool {
        self.sightings().filter(|(_, s)| matches(s)).count() >= self.settings.deny_agree
    }

    /// Why the frames do not even agree on a species; none when they do.
    pub fn undecided(&self) -> Option<Undecided> {
        if self.species.is_some() {
            return None;
        }
        let animals = self.sightings().count();
        if animals == 0 {
            return Some(self.without_animal());
        }
        let leading = self.sightings().map(|(_, s)| self.of_species(s.species)).max().unwrap_or(0);
        let others = animals - leading;
        if others > self.settings.contradicting {
            return Some(Undecided::Contradicting { leading, others, most: self.settings.contradicting });
        }
        Some(Undecided::TooFew { have: leading, need: self.settings.agree, mostly: self.most_frequent_reason().cloned() })
    }

    fn of_species(&self, species: Species) -> usize {
        self.sightings().filter(|(_, s)| s.species == species).count()
    }

    fn without_animal(&self) -> Undecided {
        let unknown = self.ballots.iter().filter(|b| matches!(b.evidence, Evidence::Unknown(_))).count();
        match self.most_frequent_reason() {
            Some(reason) if 2 * unknown >= self.ballots.len() => Undecided::Unknown { frames: unknown, reason: reason.clone() },
            _ => Undecided::Nobody,
        }
    }

    /// Of the unknown frames; the newest of equally frequent ones.
    pub(super) fn most_frequent_reason(&self) -> Option<&Reason> {
        let reasons = || {
            self.ballots.iter().filter_map(|b| match &b.evidence {
                Evidence::Unknown(reason) => Some(reason),
                Evidence::Animal(_) | Evidence::NoAnimal => None,
            })
        };
        reasons().max_by_key(|reason| reasons().filter(|other| other == reason).count())
    }

    fn agreed<T: PartialEq>(&self, level: impl Fn(&Sighting) -> Option<T>, p: impl Fn(&Sighting) -> f32) -> Option<Agreed<T>> {
        let animals = self.sightings().count();
        self.sightings().find_map(|(_, first)| {
            let what = level(first)?;
            let same: Vec<f32> =
                self.sightings().filter(|(_, s)| level(s).as_ref() == Some(&what)).map(|(_, s)| p(s)).collect();
            let (frames, others) = (same.len(), animals - same.len());
            let agreed = frames >= self.settings.agree && others <= self.settings.contradicting;
            agreed.then(|| Agreed { what, frames, mean: mean(&same) })
        })
    }
}

/// Mean; not a number when there are none.
pub(super) fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

/// Why the frames do not agree on anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecided {
    /// No frame shows a pet, and most say so clearly.
    Nobody,
    /// No frame shows a pet, and at least half of them allow no conclusion.
    Unknown {
        /// Frames that allow none.
        frames: usize,
        /// Their most frequent reason.
        reason: Reason,
    },
    /// Too few frames agree so far.
    TooFew {
        /// Frames that agree.
        have: usize,
        /// Frames that must.
        need: usize,
        /// The most frequent reason of unknown frames among the others.
        mostly: Option<Reason>,
    },
    /// Too many frames show another species: two animals, or one that is not told apart.
    Contradicting {
        /// Frames of the more frequent species.
        leading: usize,
        /// Frames of another one.
        others: usize,
        /// So many may.
        most: usize,
    },
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => write!(f, "no pet in the picture"),
            Self::Unknown { frames, reason } => write!(f, "no frame allows a conclusion ({frames} unknown, mostly: {reason})"),
            Self::TooFew { have, need, mostly: None } => write!(f, "{have} of the {need} frames that must agree"),
            Self::TooFew { have, need, mostly: Some(reason) } => {
                write!(f, "{have} of the {need} frames that must agree (others: {reason})")
            }
            Self::Contradicting { leading, others, most } => {
                write!(
                    f,
                    "the frames contradict each other: {leading} for one species, {others} for another (at most {most} may be)"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
