//! What can be fetched: names, origins, sizes, fingerprints, licences. No networking.
//!
//! The file names of torchvision's checkpoints carry the first eight digits of their SHA-256; the whole fingerprints here are those
//! that several projects pin for them (for `mobilenet_v2-b0353104.pth` for example recipes of Yocto layers). Addresses of the
//! checkpoints: `torchvision/models/{resnet,mobilenetv2}.py`. Addresses, lengths and SHA-256 of the Oxford-IIIT Pet archives:
//! `tensorflow_datasets/datasets/oxford_iiit_pet/checksums.tsv` of tensorflow/datasets; torchvision's
//! `torchvision/datasets/oxford_iiit_pet.py` lists MD5 sums of the same archives (5c4f3ee8e5d25df40f4fd59a7f44e54c for the images,
//! 95a8c909bbe2e81eed6a22bccdf3f68f for the annotations) under their former address, which leads to the present one.

use anyhow::bail;

/// A file that can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What the file is called, here and on servers.
    pub file: &'static str,
    /// Where its authors publish it, in the order in which to try.
    pub origins: &'static [&'static str],
    /// Length in bytes; servers may announce up to a hundredth more or less, the fingerprint decides.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: &'static str,
    /// Its terms.
    pub licence: &'static str,
    /// For an archive: the folder that all its files lie in.
    pub folder: Option<&'static str>,
}

const WEIGHTS_LICENCE: &str = "BSD-3-Clause (torchvision); trained on ImageNet, whose terms may bind";
const PETS_LICENCE: &str = "CC BY-SA 4.0";

/// Everything there is.
pub const ITEMS: &[Item] = &[
    Item {
        name: "resnet50-v1",
        file: "resnet50-0676ba61.pth",
        origins: &["https://download.pytorch.org/models/resnet50-0676ba61.pth"],
        size: 102_530_333,
        sha256: "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        licence: WEIGHTS_LICENCE,
        folder: None,
    },
    Item {
        name: "resnet50-v2",
        file: "resnet50-11ad3fa6.pth",
        origins: &["https://download.pytorch.org/models/resnet50-11ad3fa6.pth"],
        size: 102_540_417,
        sha256: "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        licence: WEIGHTS_LICENCE,
        folder: None,
    },
    Item {
        name: "mobilenetv2-v1",
        file: "mobilenet_v2-b0353104.pth",
        origins: &["https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"],
        // 13.555 MiB, says torchvision.
        size: 14_213_000,
        sha256: "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        licence: WEIGHTS_LICENCE,
        folder: None,
    },
    Item {
        name: "mobilenetv2-v2",
        file: "mobilenet_v2-7ebf99e0.pth",
        origins: &["https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth"],
        size: 14_258_573,
        sha256: "7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f",
        licence: WEIGHTS_LICENCE,
        folder: None,
    },
    Item {
        name: "pets-images",
        file: "images.tar.gz",
        origins: &[
            "https://thor.robots.ox.ac.uk/~vgg/data/pets/images.tar.gz",
            "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
        ],
        size: 791_918_971,
        sha256: "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
        licence: PETS_LICENCE,
        folder: Some("images"),
    },
    Item {
        name: "pets-annotations",
        file: "annotations.tar.gz",
        origins: &[
            "https://thor.robots.ox.ac.uk/~vgg/data/pets/annotations.tar.gz",
            "https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
        ],
        size: 19_173_078,
        sha256: "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
        licence: PETS_LICENCE,
        folder: Some("annotations"),
    },
];

/// The items that `names` ask for, in the catalogue's order, each once.
///
/// # Errors
/// A name that is neither an item's, nor a file's, nor `weights`, `pets` or `all`.
pub fn select(names: &[String]) -> anyhow::Result<Vec<Item>> {
    let asked = |item: &Item, name: &str| match name {
        "all" => true,
        "weights" => item.folder.is_none(),
        "pets" => item.folder.is_some(),
        _ => name == item.name || name == item.file,
    };
    if let Some(unknown) = names.iter().find(|name| !ITEMS.iter().any(|item| asked(item, name))) {
        let known: Vec<_> = ITEMS.iter().map(|item| item.name).collect();
        bail!("there is no `{unknown}`: name some of {}, or `weights`, `pets`, `all`", known.join(", "));
    }
    Ok(ITEMS.iter().filter(|item| names.iter().any(|name| asked(item, name))).copied().collect())
}
