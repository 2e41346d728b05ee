//! State dicts of the true structure, written as PyTorch writes them; and files that are damaged, foreign or hostile.

use std::path::PathBuf;

use zip::CompressionMethod::{Deflated, Stored};

use super::super::Checkpoint;
use super::super::layout::{BottleneckStride, InputRange, MobileNetV2Layout, ResNet50Layout};
use super::fixture::{self, Entry, Values, call_with_text, dict, document, saved, saved_before_1_6, state_dict};
use super::properties;

/// A folder with one file.
struct Saved {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Saved {
    /// The name says nothing: the bytes have to.
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, bytes).unwrap();
        Self { _folder: folder, path }
    }

    fn open(&self) -> anyhow::Result<Checkpoint> {
        Checkpoint::open(&self.path)
    }
}

fn open(bytes: &[u8]) -> Checkpoint {
    Saved::new(bytes).open().unwrap()
}

fn error(bytes: &[u8]) -> String {
    format!("{:#}", Saved::new(bytes).open().unwrap_err())
}

/// A few tensors by which the file is known as MobileNetV2, in 2 KB.
fn small() -> Vec<Entry> {
    vec![
        Entry::new("features.1.conv.0.0.weight", &[2, 3, 2, 2], Values::F32((0..24).map(|v| v as f32 / 8.0 - 1.0).collect())),
        Entry::new("features.1.conv.0.1.running_var", &[2], Values::F32(vec![1.0, 2.0])),
        Entry::new("features.1.conv.0.1.num_batches_tracked", &[], Values::I64(vec![9])),
    ]
}

fn with(mut entries: Vec<Entry>, name: &str, change: impl FnOnce(&mut Entry)) -> Vec<Entry> {
    change(entries.iter_mut().find(|e| e.name == name).unwrap());
    entries
}

#[test]
fn resnet50_is_v1_5_and_its_batch_norm_is_folded() {
    let entries = fixture::resnet50();
    assert_eq!(entries.len(), 320);
    let mut file = open(&saved(&entries));
    let layout = ResNet50Layout::of(&file).unwrap();
    let expected = ResNet50Layout { stride: BottleneckStride::Middle3x3, maxpool_pads: [1; 4], input: InputRange::ImageNet };
    assert_eq!(layout, expected);
    assert!(MobileNetV2Layout::of(&file).is_err());

    let values = |name: &str| match &entries.iter().find(|e| e.name == name).unwrap().values {
        Values::F32(values) => values,
        _ => unreachable!(),
    };
    let conv = file.conv("layer2.0.conv2", "layer2.0.bn2", [128, 128, 3, 3]);
    let [weight, gamma, beta, mean, var] = ["conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"]
        .map(|n| values(&format!("layer2.0.{n}")));
    for o in 0..128 {
        // Batch normalisation as PyTorch documents it, in f64.
        let factor = f64::from(gamma[o]) / (f64::from(var[o]) + 1e-5).sqrt();
        assert!((f64::from(conv.bias[o]) - (f64::from(beta[o]) - f64::from(mean[o]) * factor)).abs() < 1e-6);
        let rows = o * 1152..(o + 1) * 1152;
        for (folded, own) in conv.weight.data[rows.clone()].iter().zip(&weight[rows]) {
            assert!((f64::from(*folded) - f64::from(*own) * factor).abs() < 1e-7);
        }
    }
}

#[test]
fn mobilenet_v2_is_padded_on_all_sides_and_says_where_it_comes_from() {
    let entries = fixture::mobilenet_v2();
    assert_eq!(entries.len(), 314);
    for bytes in [saved(&entries), saved_before_1_6(&entries)] {
        let file = open(&bytes);
        let layout = MobileNetV2Layout::of(&file).unwrap();
        assert_eq!(layout, MobileNetV2Layout { stride2_pads: [1; 4], input: InputRange::ImageNet });
        let origin = file.origin();
        assert_eq!(origin.architecture, "mobilenet_v2 1.0 224 (torchvision)");
        assert_eq!([&*origin.source, &origin.licence], ["torchvision state dict", "not stated"]);
        assert_eq!(origin.sha256, crate::files::sha256(&bytes));
    }
}

#[test]
fn published_files_are_known_by_their_hash() {
    for (marker, digits, version) in [
        ("layer1.0.conv3.weight", "0676ba61", "ResNet50_Weights.IMAGENET1K_V1"),
        ("layer1.0.conv3.weight", "11ad3fa6", "ResNet50_Weights.IMAGENET1K_V2"),
        ("features.1.conv.0.0.weight", "b0353104", "MobileNet_V2_Weights.IMAGENET1K_V1"),
        ("features.1.conv.0.0.weight", "7ebf99e0", "MobileNet_V2_Weights.IMAGENET1K_V2"),
    ] {
        let tensor = crate::weights::Tensor { shape: vec![0], data: vec![] };
        let tensors = [marker, "x.running_var"].map(|name| (name.to_owned(), tensor.clone())).into();
        let stated = properties(&tensors, &format!("{digits}{}", "0".repeat(56))).unwrap();
        assert!(stated["source"].contains(version) && stated["source"].contains(digits), "{stated:?}");
        assert_eq!(stated["license"], "BSD-3-Clause");
    }
}

#[test]
fn every_layout_and_precision_gives_the_same_values() {
    let plain = open(&saved(&small()));
    let of = |convert: fn(Vec<f32>) -> Values| {
        let mut entries = small();
        for entry in &mut entries {
            if let Values::F32(values) = &entry.values {
                entry.values = convert(values.clone());
            }
        }
        saved(&entries)
    };
    let parallel: Vec<Entry> =
        small().into_iter().map(|entry| Entry { name: format!("module.{}", entry.name), ..entry }).collect();
    let nested =
        dict(&[("epoch", b"K\x03".to_vec()), ("arch", fixture::text("mobilenet")), ("state_dict", state_dict(&parallel))]);
    for (what, bytes) in [
        ("stream", saved_before_1_6(&small())),
        ("channels last", saved(&small().into_iter().map(Entry::channels_last).collect::<Vec<_>>())),
        ("f16", of(Values::F16)),
        ("bf16", of(Values::Bf16)),
        ("module.", saved(&parallel)),
        ("state_dict.module.", fixture::zip(&document(&nested), &parallel, Stored)),
    ] {
        assert_eq!(open(&bytes).tensors, plain.tensors, "{what}");
    }
    assert_eq!(plain.tensors.len(), 2, "the counter is left out");
    assert_eq!(plain.tensors["features.1.conv.0.0.weight"].data[..3], [-1.0, -0.875, -0.75]);
}

#[test]
fn a_training_run_brings_other_tensors_that_are_left_out() {
    let run = dict(&[("optimizer", dict(&[("0", state_dict(&small()[..1]))])), ("state_dict", state_dict(&small()))]);
    let file = open(&fixture::zip(&document(&run), &small(), Stored));
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["features.1.conv.0.0.weight", "features.1.conv.0.1.running_var"]);
}

#[test]
fn what_is_missing_misshapen_or_unknown_is_listed() {
    let mut entries = fixture::mobilenet_v2();
    entries.retain(|e| e.name != "features.0.1.running_var");
    let mut entries = with(entries, "features.0.1.bias", |e| e.name = "features.0.1.offset".into());
    let shape = vec![32, 3, 9];
    entries = with(entries, "features.0.0.weight", |e| e.strides = Entry::new("", &shape, e.values.clone()).strides);
    entries = with(entries, "features.0.0.weight", |e| e.shape = shape);
    let mut file = open(&saved(&entries));
    file.conv("features.0.0", "features.0.1", [32, 3, 3, 3]);
    let error = file.finish().unwrap_err().to_string();
    for part in [
        "misshapen: features.0.0.weight is [32, 3, 9], expected [32, 3, 3, 3]",
        "missing:   features.0.1.bias [32]",
        "missing:   features.0.1.running_var [32]",
        "unknown:   features.0.1.offset [32]",
        "unknown:   classifier.1.weight [1000, 1280]",
    ] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
}

#[test]
fn other_networks_and_other_types_are_refused() {
    let foreign = vec![Entry::new("encoder.weight", &[1], Values::F32(vec![1.0]))];
    assert!(error(&saved(&foreign)).contains("neither torchvision's ResNet-50 nor its MobileNetV2: 1 tensors"));
    let folded = &small()[..1];
    assert!(error(&saved(folded)).contains("MobileNetV2 without batch normalisation is not torchvision's"));
    let double = with(small(), "features.1.conv.0.1.running_var", |e| e.values = Values::F64(vec![1.0, 2.0]));
    assert!(error(&saved(&double)).contains("tensor `features.1.conv.0.1.running_var`: is F64; f32, f16 or bf16 is expected"));
    let nan = with(small(), "features.1.conv.0.1.running_var", |e| e.values = Values::F32(vec![1.0, f32::NAN]));
    assert!(error(&saved(&nan)).contains("holds values that are not finite"));
    assert!(error(b"<!DOCTYPE html>").contains("neither a safetensors file nor a PyTorch checkpoint"));
    assert!(error(b"").contains("neither a safetensors file nor a PyTorch checkpoint"));
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(error(&tar).contains("before 0.1.10"));
}

#[test]
fn a_safetensors_file_whose_length_looks_like_a_pickle_stays_one() {
    let long = "x".repeat(700);
    for padding in 0..700 {
        let bytes = super::super::tests::safetensors(&[("a", &[1], &[1.0])], &[("p", &long[..padding])]);
        if bytes[0] == 0x80 {
            assert_eq!(open(&bytes).tensors["a"].data, [1.0]);
            return;
        }
    }
    panic!("no header has the length 128 modulo 256");
}

#[test]
fn calls_are_never_made() {
    let flag = tempfile::tempdir().unwrap().keep().join("called");
    let command = format!("touch {}", flag.display());
    let entries = small();
    for (module, name) in [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("subprocess", "Popen")] {
        let call = call_with_text(module, name, &command);
        let beside = dict(&[("state_dict", state_dict(&entries)), ("extra", call.clone())]);
        for pickle in [&call, &beside] {
            let error = error(&fixture::zip(&document(pickle), &entries, Stored));
            assert!(error.contains(&format!("is a Python object (`{module}.{name}`)")), "{error}");
        }
        // Made and thrown away: nothing of it is left in the result, and nothing happens.
        let dropped = [&call[..], b"0", &state_dict(&entries)].concat();
        assert_eq!(open(&fixture::zip(&document(&dropped), &entries, Stored)).tensors.len(), 2);
    }
    assert!(!flag.exists());
    std::fs::remove_dir(flag.parent().unwrap()).unwrap();
}

#[test]
fn small_files_do_not_become_large_tensors() {
    let huge = with(small(), "features.1.conv.0.0.weight", |e| (e.shape, e.strides) = (vec![1 << 15; 2], vec![0; 2]));
    assert!(error(&saved(&huge)).contains("its tensors have 4294967"), "{}", error(&saved(&huge)));
    let packed = fixture::zip(&document(&state_dict(&small())), &small(), Deflated);
    assert!(error(&packed).contains("is compressed, which torch.save never does"));
    let long = fixture::zip(&vec![b']'; (4 << 20) + 1], &[], Stored);
    assert!(error(&long).contains("too many for a state dict"));
}

#[test]
fn a_file_that_is_cut_is_an_error_wherever_it_is_cut() {
    for whole in [saved(&small()), saved_before_1_6(&small())] {
        let file = Saved::new(&whole);
        assert!(file.open().is_ok());
        for length in 0..whole.len() {
            std::fs::write(&file.path, &whole[..length]).unwrap();
            assert!(file.open().is_err(), "{length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn a_file_with_a_flipped_byte_is_read_or_refused() {
    for (what, whole) in [("zip", saved(&small())), ("stream", saved_before_1_6(&small()))] {
        let file = Saved::new(&whole);
        let right = file.open().unwrap().tensors;
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= [0x01, 0x80, 0xff][position % 3];
            std::fs::write(&file.path, &bytes).unwrap();
            // A ZIP has checksums, so what is read at all is right; the stream has none.
            if let Ok(read) = file.open()
                && what == "zip"
            {
                assert_eq!(read.tensors, right, "byte {position}");
            }
        }
    }
}
