//! Labelled pictures on disk: the official layout of the Oxford-IIIT Pet data set, a folder for each of one's own animals, and folders of
//! pictures without a pet.
//!
//! Lists are read strictly (a wrong line is an error with its number); pictures that a list names but the folder lacks are
//! counted and left out, so that a part of the data set can be worked with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use pawgate::model::{Label, Species};
use walkdir::WalkDir;

/// A picture of a pet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The file.
    pub path: PathBuf,
    /// Index into [`PetSet::labels`].
    pub class: usize,
}

/// One list of the data set, as far as its pictures are present.
#[derive(Debug, Clone, Default)]
pub struct Split {
    /// Pictures in the order of the list.
    pub pictures: Vec<Picture>,
    /// How many pictures the list names.
    pub listed: usize,
}

impl Split {
    /// How many of the listed pictures are not there.
    pub fn missing(&self) -> usize {
        self.listed - self.pictures.len()
    }
}

/// The data set.
#[derive(Debug, Clone)]
pub struct PetSet {
    /// Classes in the order of their numbers in the lists.
    pub labels: Vec<Label>,
    /// `annotations/trainval.txt`.
    pub trainval: Split,
    /// `annotations/test.txt`; empty when there is no such file.
    pub test: Split,
}

/// A picture without a pet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negative {
    /// The file.
    pub path: PathBuf,
    /// Name of the folder it lies in.
    pub category: String,
}

/// A parsed line: picture name, class number (from 1), species.
struct Row {
    name: String,
    class: usize,
    species: Species,
}

impl PetSet {
    /// Reads `images/` and `annotations/{trainval,test}.txt` below `root`.
    ///
    /// # Errors
    /// A line that is not `NAME CLASS SPECIES BREED`, class numbers with gaps, a class of two names or species, a class
    /// without a single picture.
    pub fn load(root: &Path) -> anyhow::Result<Self> {
        let annotations = root.join("annotations");
        let trainval = read_list(&annotations.join("trainval.txt"))?;
        let test_path = annotations.join("test.txt");
        let test = if test_path.exists() { read_list(&test_path)? } else { vec![] };
        let labels = labels(&trainval)?;
        ensure!(!labels.is_empty(), "{}: the list is empty", annotations.join("trainval.txt").display());
        if let Some(row) = test.iter().find(|row| row.class > labels.len()) {
            bail!("{}: class {} of {} is not in trainval.txt", test_path.display(), row.class, row.name);
        }
        let images = root.join("images");
        let set = Self { labels, trainval: present(&images, &trainval), test: present(&images, &test) };
        let mut counts = vec![0; set.labels.len()];
        set.trainval.pictures.iter().for_each(|p| counts[p.class] += 1);
        let empty: Vec<_> = set.labels.iter().zip(&counts).filter(|(_, n)| **n == 0).map(|(l, _)| l.name.as_str()).collect();
        ensure!(empty.is_empty(), "no picture in {} of: {}", images.display(), empty.join(", "));
        Ok(set)
    }
}

/// Names of the folders of each species.
const SPECIES: [(&str, Species); 2] = [("cat", Species::Cat), ("dog", Species::Dog)];

impl PetSet {
    /// Reads one's own animals: `cat/NAME/` and `dog/NAME/` below `root`, one folder an animal (or breed), named by it. Every file below
    /// that is not hidden counts as a picture; the animals are in the order of their names. There is no test list.
    ///
    /// # Errors
    /// A folder that is neither `cat` nor `dog`, a file beside the animals' folders, a name that stands below both, an animal without a
    /// file.
    pub fn of_folders(root: &Path) -> anyhow::Result<Self> {
        let mut animals: Vec<(Label, PathBuf)> = vec![];
        for (folder, path) in folders(root)? {
            let known = SPECIES.iter().find(|(name, _)| *name == folder);
            let (_, species) = known.with_context(|| {
                format!("{} is neither `cat` nor `dog`: pictures are expected in cat/NAME/ and dog/NAME/", path.display())
            })?;
            for (name, path) in folders(&path)? {
                animals.push((Label { name, species: *species }, path));
            }
        }
        ensure!(
            !animals.is_empty(),
            "there is no animal in {}: pictures are expected in cat/NAME/ and dog/NAME/",
            root.display()
        );
        animals.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        if let Some(twice) = animals.windows(2).find(|pair| pair[0].0.name == pair[1].0.name) {
            bail!("`{}` stands below cat and below dog", twice[0].0.name);
        }
        let mut pictures = vec![];
        for (class, (label, folder)) in animals.iter().enumerate() {
            let before = pictures.len();
            for entry in WalkDir::new(folder).sort_by_file_name() {
                let entry = entry.with_context(|| format!("cannot read the pictures of {}", label.name))?;
                if entry.file_type().is_file() && !is_hidden(&entry.file_name().to_string_lossy()) {
                    pictures.push(Picture { path: entry.into_path(), class });
                }
            }
            ensure!(pictures.len() > before, "there is no picture of {} in {}", label.name, folder.display());
        }
        let labels = animals.into_iter().map(|(label, _)| label).collect();
        Ok(Self { labels, trainval: Split { listed: pictures.len(), pictures }, test: Split::default() })
    }
}

/// Folders directly below `root` with their names, in the order of the names; hidden ones are left out.
///
/// # Errors
/// When `root` cannot be read, holds a file, or a name is no UTF-8.
fn folders(root: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(root).with_context(|| format!("cannot read the folder {}", root.display()))? {
        let path = entry.with_context(|| format!("cannot read the folder {}", root.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("the name of {} is not UTF-8", path.display()))?.to_owned();
        if !is_hidden(&name) {
            ensure!(
                path.is_dir(),
                "{} stands beside the folders: pictures are expected in cat/NAME/ and dog/NAME/",
                path.display()
            );
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// Finds pictures without a pet: every JPEG, PNG, WebP or BMP below `root`, in the order of their paths.
///
/// # Errors
/// When the folder cannot be read or holds no picture.
pub fn load_negatives(root: &Path) -> anyhow::Result<Vec<Negative>> {
    let mut negatives = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot read the negatives in {}", root.display()))?;
        let path = entry.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if entry.file_type().is_file() && ["jpg", "jpeg", "png", "webp", "bmp"].contains(&extension.as_str()) {
            let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
            negatives.push(Negative { path: path.to_owned(), category: folder.to_string_lossy().into_owned() });
        }
    }
    ensure!(!negatives.is_empty(), "no pictures below {}", root.display());
    Ok(negatives)
}

fn read_list(path: &Path) -> anyhow::Result<Vec<Row>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the list {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|(index, line)| parse(line).with_context(|| format!("{}:{}", path.display(), index + 1))).collect()
}

fn parse(line: &str) -> anyhow::Result<Row> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [name, class, species, _breed] = fields[..] else {
        bail!("expected `NAME CLASS SPECIES BREED`, found `{line}`");
    };
    // Names become file names.
    ensure!(!name.contains(['/', '\\']) && name != "..", "`{name}` is not a picture's name");
    let class = class.parse().ok().filter(|&c| c >= 1).with_context(|| format!("class `{class}` is not a number from 1"))?;
    let species = match species {
        "1" => Species::Cat,
        "2" => Species::Dog,
        other => bail!("species `{other}` is neither 1 (cat) nor 2 (dog)"),
    };
    Ok(Row { name: name.into(), class, species })
}

/// A picture's name is its class's name, an underscore and a number.
fn labels(rows: &[Row]) -> anyhow::Result<Vec<Label>> {
    let mut found = BTreeMap::<usize, Label>::new();
    for row in rows {
        let (class_name, _) = row.name.rsplit_once('_').with_context(|| format!("`{}` is not CLASS_NUMBER", row.name))?;
        let label = Label { name: class_name.into(), species: row.species };
        let first = found.entry(row.class).or_insert_with(|| label.clone());
        ensure!(*first == label, "class {} is {first:?} at first and {label:?} for {}", row.class, row.name);
    }
    for (expected, number) in (1..).zip(found.keys()) {
        ensure!(expected == *number, "the lists name class {number}, but not class {expected}");
    }
    Ok(found.into_values().collect())
}

fn present(images: &Path, rows: &[Row]) -> Split {
    let picture = |row: &Row| Picture { path: images.join(format!("{}.jpg", row.name)), class: row.class - 1 };
    let pictures = rows.iter().map(picture).filter(|p| p.path.is_file()).collect();
    Split { pictures, listed: rows.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_set(lists: &[(&str, &str)], images: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["images", "annotations"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        for (name, text) in lists {
            std::fs::write(root.path().join("annotations").join(name), text).unwrap();
        }
        for name in images {
            std::fs::write(root.path().join("images").join(name), "").unwrap();
        }
        root
    }

    fn error(list: &str, images: &[&str]) -> String {
        format!("{:#}", PetSet::load(write_set(&[("trainval.txt", list)], images).path()).unwrap_err())
    }

    #[test]
    fn present_pictures_are_used_and_the_others_counted() {
        let lists =
            [("trainval.txt", "# names\nMaine_Coon_1 1 1 1\nMaine_Coon_2 1 1 1\npug_7 2 2 1\n"), ("test.txt", "pug_8 2 2 1\n")];
        let root = write_set(&lists, &["Maine_Coon_2.jpg", "pug_7.jpg"]);
        let set = PetSet::load(root.path()).unwrap();
        let names: Vec<_> = set.labels.iter().map(|l| (l.name.as_str(), l.species)).collect();
        assert_eq!(names, [("Maine_Coon", Species::Cat), ("pug", Species::Dog)]);
        assert_eq!(set.trainval.pictures.iter().map(|p| p.class).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((set.trainval.missing(), set.test.missing(), set.test.listed), (1, 1, 1));
    }

    #[test]
    fn wrong_lists_are_refused_with_the_line() {
        assert!(error("a_1 1 1 1\nb_1 2\n", &["a_1.jpg"]).contains("trainval.txt:2: expected `NAME CLASS"));
        assert!(error("a_1 0 1 1\n", &[]).contains("class `0`"));
        assert!(error("a_1 1 3 1\n", &[]).contains("species `3`"));
        assert!(error("../a_1 1 1 1\n", &[]).contains("not a picture's name"));
        assert!(error("a_1 1 1 1\nb_1 3 1 1\n", &[]).contains("but not class 2"));
        assert!(error("a_1 1 1 1\nb_1 1 1 1\n", &[]).contains("class 1 is"));
        assert!(error("", &[]).contains("empty"));
    }

    /// Files with these names, each with something inside.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        folder
    }

    #[test]
    fn own_animals_are_found_by_their_folders() {
        let folder =
            tree(&["dog/Rex/1.jpg", "cat/Minka/old/b.JPG", "cat/Minka/a.png", "cat/Zora/a", "cat/Zora/.thumbs", ".git/x"]);
        let set = PetSet::of_folders(folder.path()).unwrap();
        let labels: Vec<_> = set.labels.iter().map(|label| (label.name.as_str(), label.species)).collect();
        assert_eq!(labels, [("Minka", Species::Cat), ("Rex", Species::Dog), ("Zora", Species::Cat)]);
        let pictures: Vec<_> =
            set.trainval.pictures.iter().map(|p| (p.path.strip_prefix(folder.path()).unwrap(), p.class)).collect();
        let expected = [("cat/Minka/a.png", 0), ("cat/Minka/old/b.JPG", 0), ("dog/Rex/1.jpg", 1), ("cat/Zora/a", 2)];
        assert_eq!(pictures, expected.map(|(path, class)| (Path::new(path), class)));
        assert_eq!((set.trainval.missing(), set.test.listed), (0, 0));
    }

    #[test]
    fn folders_of_another_layout_are_refused() {
        let error = |files: &[&str]| format!("{:#}", PetSet::of_folders(tree(files).path()).unwrap_err());
        assert!(error(&["Minka/1.jpg"]).contains("Minka is neither `cat` nor `dog`"));
        assert!(error(&["cat/1.jpg"]).contains("1.jpg stands beside the folders"));
        assert!(error(&["cat/Rex/1.jpg", "dog/Rex/1.jpg"]).contains("`Rex` stands below cat and below dog"));
        assert!(error(&["cat/Rex/.hidden"]).contains("no picture of Rex"));
        assert!(error(&[".hidden"]).contains("no animal in"));
        assert!(
            format!("{:#}", PetSet::of_folders(Path::new("/nowhere")).unwrap_err()).contains("cannot read the folder /nowhere")
        );
    }

    #[test]
    fn a_class_without_pictures_is_an_error() {
        assert!(error("a_1 1 1 1\nb_1 2 1 2\n", &["a_1.jpg"]).contains("of: b"));
    }
}
