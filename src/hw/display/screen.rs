//! What a display can show, as values: no pixels, no devices.

use crate::hw::actuator::Position;

/// Everything that is on the display at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Screen {
    /// The device's name.
    pub name: String,
    /// The time of day, hours and minutes; none while the clock cannot be believed.
    pub clock: Option<String>,
    /// The door, where there is one.
    pub door: Option<Bolt>,
    /// What happens.
    pub scene: Scene,
}

/// Where the door's bolt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bolt {
    /// Nobody passes.
    Locked,
    /// Whoever pushes passes.
    Unlocked,
    /// Nobody knows.
    Unknown,
}

impl From<Position> for Bolt {
    fn from(position: Position) -> Self {
        match position {
            Position::Locked => Self::Locked,
            Position::Unlocked => Self::Unlocked,
        }
    }
}

impl Bolt {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::Unknown => "unknown",
        }
    }
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Scene {
    /// Not everything runs yet.
    Starting,
    /// Nobody is there.
    Idle {
        /// What was decided last, with its time.
        last: Option<String>,
    },
    /// Something moves that is no animal yet.
    Motion {
        /// What the last picture showed.
        what: String,
    },
    /// An animal is seen; nothing is decided.
    Animal(Who),
    /// The rules have decided.
    Decision {
        /// Whether somebody may pass or gets food.
        allowed: bool,
        /// In a word or two ("opens", "stays shut").
        what: String,
        /// Who was seen.
        who: Option<Who>,
        /// The rule that decided, or why none did.
        why: String,
    },
    /// Something is wrong, and the door is in its safe state.
    Fault {
        /// What.
        what: String,
    },
    /// pawgate does not run.
    Ended {
        /// Why.
        why: String,
    },
}

impl Scene {
    /// Whether a display that shows it may go dark.
    pub const fn may_go_dark(&self) -> bool {
        matches!(self, Self::Idle { .. } | Self::Ended { .. })
    }
}

/// Who is seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Who {
    /// An enrolled animal's name, or the likeliest breed.
    pub name: String,
    /// `cat` or `dog`.
    pub species: String,
    /// Probability of the breed, or of the species where only that is known, 0…1.
    pub probability: f32,
}

impl Who {
    /// Species and probability on one line.
    pub fn detail(&self) -> String {
        format!("{} {:.0} %", self.species, f64::from(self.probability.clamp(0.0, 1.0)) * 100.0)
    }
}

/// One screen of every kind, as docs/display shows them: name and screen.
pub fn examples() -> Vec<(&'static str, Screen)> {
    let milo = Who { name: "Maine Coon".into(), species: "cat".into(), probability: 0.97 };
    let screen = |door, scene| Screen { name: "back door".into(), clock: Some("21:47".into()), door: Some(door), scene };
    let decision = |allowed, what: &str, who: &Who, why: &str| Scene::Decision {
        allowed,
        what: what.into(),
        who: Some(who.clone()),
        why: why.into(),
    };
    let terrier = Who { name: "Staffordshire Bull Terrier".into(), species: "dog".into(), probability: 0.88 };
    let shut = Scene::Decision { allowed: false, what: "stays shut".into(), who: None, why: "no pet in the picture".into() };
    vec![
        ("starting", screen(Bolt::Unknown, Scene::Starting)),
        ("idle", screen(Bolt::Locked, Scene::Idle { last: Some("18:02 Maine Coon: let in".into()) })),
        ("motion", screen(Bolt::Locked, Scene::Motion { what: "something moves".into() })),
        ("animal", screen(Bolt::Locked, Scene::Animal(milo.clone()))),
        ("opens", screen(Bolt::Unlocked, decision(true, "opens", &milo, "cats by day"))),
        ("denied", screen(Bolt::Locked, decision(false, "stays shut", &terrier, "no dogs"))),
        ("stranger", screen(Bolt::Locked, shut)),
        ("fault", screen(Bolt::Locked, Scene::Fault { what: "no usable pictures from the camera".into() })),
        ("ended", screen(Bolt::Locked, Scene::Ended { why: "pawgate does not run".into() })),
    ]
}
