//! `pawgate enroll`: pictures of one animal, and of strangers, into the file of enrolled animals; what they are worth on
//! standard output.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::files::IndividualsArgs;
use super::individuals::describe;
use super::{Exit, Failure, ModelArgs};
use crate::individuals::learn::{MAX_PICTURES, MAX_STRANGERS};
use crate::individuals::{Individuals, IndividualsError, Owner, Picture, Roster, Settings, file};
use crate::model::{Classifier, Species, Verdict};
use crate::vision;
use crate::vision::collect::{Input, collect};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the animal, as rules shall use it. Known already: the pictures are added.
    name: String,
    /// Pictures of this animal alone (JPEG, PNG, WebP, BMP), or folders that are searched for them; best from the door's own
    /// camera, on several days.
    #[arg(value_name = "IMAGE|DIR", required_unless_present = "strangers")]
    pictures: Vec<PathBuf>,
    /// Pictures of other animals of the same species, or folders of them: those that must not be taken for an enrolled one.
    #[arg(long, value_name = "IMAGE|DIR", num_args = 1..)]
    strangers: Vec<PathBuf>,
    #[command(flatten)]
    individuals: IndividualsArgs,
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let failed = |e| Failure::new(Exit::Individuals, e);
    let (settings, model) = args.individuals.read(&args.model)?;
    let (classifier, identity) = model.load_identified()?;
    let _lock = file::lock(&settings.file).map_err(failed)?;
    let mut roster = match Roster::load(&settings.file, &identity) {
        Err(IndividualsError::Missing(_)) => Roster::new(identity),
        other => other.map_err(failed)?,
    };
    roster.check_name(&args.name).map_err(|e| Failure::new(Exit::Usage, e))?;
    let known = roster.animal(&args.name);
    let mut own = Batch::look(&classifier, &args.pictures);
    own.keep_species(known.map(|animal| animal.species), &args.name);
    own.keep_new(&roster, Owner::Animal(&args.name));
    own.keep_at_most(MAX_PICTURES.saturating_sub(known.map_or(0, |animal| animal.pictures.len())));
    let mut strangers = Batch::look(&classifier, &args.strangers);
    strangers.keep_apart(&own);
    strangers.keep_new(&roster, Owner::Stranger);
    strangers.keep_at_most(MAX_STRANGERS.saturating_sub(roster.strangers().len()));
    let refused = own.refused.len() + strangers.refused.len();
    for (name, reason) in own.refused.iter().chain(&strangers.refused) {
        writeln!(out, "{name}: not used: {reason}")?;
    }
    writeln!(out, "{} new pictures of {}, {} new of strangers", own.used.len(), args.name, strangers.used.len())?;
    if own.used.is_empty() && strangers.used.is_empty() {
        eprintln!("pawgate: no picture could be used, {} is unchanged", settings.file.display());
        return Ok(Exit::Partly);
    }
    let changed = roster.add_strangers(strangers.used).and_then(|()| roster.enrol(&args.name, own.used));
    changed.and_then(|()| roster.save(&settings.file)).map_err(failed)?;
    report(&roster, &settings, out)?;
    writeln!(out, "written to {}", settings.file.display())?;
    Ok(if refused > 0 { Exit::Partly } else { Exit::Ok })
}

/// Everybody: new pictures are strangers' pictures to the others.
fn report(roster: &Roster, settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    for enrolled in Individuals::from_roster(roster).evidence(settings) {
        writeln!(out, "{}", describe(&enrolled))?;
        if let Some(refusal) = enrolled.refusal() {
            eprintln!("pawgate: {refusal}");
        }
    }
    Ok(())
}

/// Pictures that can be learnt from, and the others with the reason.
#[derive(Default)]
struct Batch {
    used: Vec<Picture>,
    refused: Vec<(String, String)>,
}

impl Batch {
    fn look(classifier: &Classifier, paths: &[PathBuf]) -> Self {
        let mut batch = Self::default();
        for input in collect(paths) {
            match look(classifier, &input) {
                Ok(picture) => batch.used.push(picture),
                Err(reason) => batch.refused.push((input.name(), reason)),
            }
        }
        batch
    }

    fn keep(&mut self, reason: impl Fn(&Picture) -> Option<String>) {
        let (used, refused) = (&mut self.used, &mut self.refused);
        used.retain(|picture| match reason(picture) {
            Some(reason) => {
                refused.push((picture.file.clone(), reason));
                false
            }
            None => true,
        });
    }

    /// Pictures of one species: the known animal's, or that of most pictures.
    fn keep_species(&mut self, known: Option<Species>, name: &str) {
        let count = |species: Species| self.used.iter().filter(|picture| picture.species == species).count();
        let most = Species::ALL.into_iter().max_by_key(|&species| count(species));
        let tie = Species::ALL.into_iter().filter(|&species| Some(count(species)) == most.map(count)).count() > 1;
        let Some(species) = known.or(most) else { return };
        let undecided = known.is_none() && tie;
        self.keep(|picture| match picture.species {
            _ if undecided => {
                Some(format!("as many pictures show a cat as a dog, so {name} is neither: name those of {name} alone"))
            }
            other if other != species => Some(format!("shows a {other}, {name} is a {species}")),
            _ => None,
        });
    }

    fn keep_new(&mut self, roster: &Roster, mine: Owner<'_>) {
        self.keep(|picture| match roster.owner(&picture.sha256)? {
            owner if owner == mine => Some("known already".into()),
            Owner::Animal(other) => Some(format!("it is a picture of {other}")),
            Owner::Stranger => Some("it is a stranger's picture (`pawgate forget --strangers` forgets these)".into()),
        });
        let mut seen = std::collections::HashSet::new();
        let (used, refused) = (&mut self.used, &mut self.refused);
        used.retain(|picture| {
            let new = seen.insert(picture.sha256.clone());
            if !new {
                refused.push((picture.file.clone(), "given twice".into()));
            }
            new
        });
    }

    fn keep_apart(&mut self, other: &Self) {
        self.keep(|picture| {
            let both = other.used.iter().any(|own| own.sha256 == picture.sha256);
            both.then(|| "given as a stranger's and as the animal's own".into())
        });
    }

    fn keep_at_most(&mut self, limit: usize) {
        for picture in self.used.drain(limit.min(self.used.len())..) {
            self.refused.push((picture.file, "there are as many pictures as are kept; forget, and enrol the best ones".into()));
        }
    }
}

fn look(classifier: &Classifier, input: &Input) -> Result<Picture, String> {
    if let Some(problem) = &input.problem {
        return Err(problem.clone());
    }
    let bytes = vision::decode::read_bytes(&input.path).map_err(|e| e.to_string())?;
    let picture = vision::decode(&bytes).map_err(|e| e.to_string())?;
    let scores = classifier.infer(&picture).map_err(|e| e.to_string())?;
    let reading = classifier.read(&scores, 1);
    match reading.verdict {
        Verdict::Animal => {}
        Verdict::NoAnimal => return Err("no cat or dog in it".into()),
        Verdict::Unknown => return Err(reading.doubt.map_or_else(|| "unclear".into(), |doubt| doubt.to_string())),
    }
    let name = Path::new(&input.path).display().to_string();
    Picture::new(&name, &bytes, reading.species, &scores.embedding).map_err(|e| e.to_string())
}
