//! Writes state dicts as `torch.save` does, and lists the tensors of torchvision's two networks.

use std::io::Write;

/// Values in the order in which they lie in the file.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F16(Vec<f32>),
    Bf16(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
}

impl Values {
    fn class(&self) -> &'static str {
        match self {
            Self::F32(_) => "FloatStorage",
            Self::F16(_) => "HalfStorage",
            Self::Bf16(_) => "BFloat16Storage",
            Self::F64(_) => "DoubleStorage",
            Self::I64(_) => "LongStorage",
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(v) | Self::F16(v) | Self::Bf16(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16(v) => v.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
            Self::Bf16(v) => v.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
            Self::F64(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::I64(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

/// One tensor of a state dict.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
    pub values: Values,
}

impl Entry {
    /// A tensor that lies row by row.
    pub(crate) fn new(name: &str, shape: &[usize], values: Values) -> Self {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        Self { name: name.to_owned(), shape: shape.to_vec(), strides, values }
    }

    /// The same tensor with the channels innermost, as `memory_format=torch.channels_last` lays it out.
    pub(crate) fn channels_last(mut self) -> Self {
        let (&[out, channels, height, width], Values::F32(rows)) = (&self.shape[..], &self.values) else { return self };
        self.strides = vec![channels * height * width, 1, width * channels, channels];
        let mut data = Vec::with_capacity(rows.len());
        for o in 0..out {
            for pixel in 0..height * width {
                data.extend((0..channels).map(|c| rows[(o * channels + c) * height * width + pixel]));
            }
        }
        self.values = Values::F32(data);
        self
    }
}

/// Pickle opcodes, protocol 2.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(value: usize) -> Vec<u8> {
    [b"J", &(value as i32).to_le_bytes()[..]].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn tuple(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    [b"(".to_vec(), items.into_iter().flatten().collect(), b"t".to_vec()].concat()
}

fn call(function: Vec<u8>, arguments: Vec<u8>) -> Vec<u8> {
    [function, arguments, b"R".to_vec()].concat()
}

/// The call of a function that takes a text.
pub(crate) fn call_with_text(module: &str, name: &str, argument: &str) -> Vec<u8> {
    call(global(module, name), tuple([text(argument)]))
}

/// A whole pickle of one object.
pub(crate) fn document(object: &[u8]) -> Vec<u8> {
    [b"\x80\x02", object, b"."].concat()
}

/// A plain dict.
pub(crate) fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}

/// An ordered dict of tensors with the attribute `_metadata`, which every state dict has.
pub(crate) fn state_dict(entries: &[Entry]) -> Vec<u8> {
    ordered_dict(entries, b"")
}

/// `view` ends the reference to a storage: before 1.6 it says which part of the storage is meant, nearly always none.
fn ordered_dict(entries: &[Entry], view: &[u8]) -> Vec<u8> {
    let empty = || call(global("collections", "OrderedDict"), b")".to_vec());
    let tensor = |(key, entry): (usize, &Entry)| {
        let class = global("torch", entry.values.class());
        let id = [text("storage"), class, text(&key.to_string()), text("cpu"), int(entry.values.len()), view.to_vec()];
        let storage = [tuple(id), b"Q".to_vec()].concat();
        let sizes = |sizes: &[usize]| tuple(sizes.iter().map(|&s| int(s)));
        let arguments = [storage, int(0), sizes(&entry.shape), sizes(&entry.strides), b"\x89".to_vec(), empty()];
        [text(&entry.name), call(global("torch._utils", "_rebuild_tensor_v2"), tuple(arguments))].concat()
    };
    let items: Vec<u8> = entries.iter().enumerate().flat_map(tensor).collect();
    let metadata = dict(&[("_metadata", dict(&[("", dict(&[("version", int(1))]))]))]);
    [empty(), b"(".to_vec(), items, b"u".to_vec(), metadata, b"b".to_vec()].concat()
}

/// The ZIP of PyTorch 1.6 and later.
pub(crate) fn zip(pickle: &[u8], entries: &[Entry], method: zip::CompressionMethod) -> Vec<u8> {
    let mut file = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method).with_alignment(64);
    let mut put = |name: &str, bytes: &[u8]| {
        file.start_file(format!("archive/{name}"), options).unwrap();
        file.write_all(bytes).unwrap();
    };
    put("data.pkl", pickle);
    put("byteorder", b"little");
    for (key, entry) in entries.iter().enumerate() {
        put(&format!("data/{key}"), &entry.values.bytes());
    }
    put("version", b"3\n");
    file.finish().unwrap().into_inner()
}

/// A state dict as `torch.save` writes it.
pub(crate) fn saved(entries: &[Entry]) -> Vec<u8> {
    zip(&document(&state_dict(entries)), entries, zip::CompressionMethod::Stored)
}

/// The stream of PyTorch before 1.6: magic number, protocol, system, object, keys of the storages, storages.
pub(crate) fn saved_before_1_6(entries: &[Entry]) -> Vec<u8> {
    let mut file = document(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19");
    file.extend(document(&int(1001)));
    file.extend(document(&dict(&[("protocol_version", int(1001)), ("little_endian", b"\x88".to_vec())])));
    file.extend(document(&ordered_dict(entries, b"N")));
    let keys: Vec<u8> = (0..entries.len()).flat_map(|key| text(&key.to_string())).collect();
    file.extend(document(&[b"](", &keys[..], b"e"].concat()));
    for entry in entries {
        file.extend((entry.values.len() as i64).to_le_bytes());
        file.extend(entry.values.bytes());
    }
    file
}

/// Small values of both signs; a linear congruential generator.
pub(crate) struct Noise(pub u32);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `count` values in `middle` ± `spread`.
    fn values(&mut self, count: usize, middle: f32, spread: f32) -> Values {
        Values::F32((0..count).map(|_| middle + spread * self.next()).collect())
    }
}

/// Collects the tensors of a network in torchvision's order.
struct Network {
    entries: Vec<Entry>,
    noise: Noise,
}

impl Network {
    fn conv(&mut self, name: &str, shape: [usize; 4]) {
        let count = shape.iter().product();
        self.entries.push(Entry::new(&format!("{name}.weight"), &shape, self.noise.values(count, 0.0, 0.1)));
    }

    fn norm(&mut self, name: &str, width: usize) {
        for (field, middle, spread) in
            [("weight", 1.0, 0.4), ("bias", 0.0, 0.3), ("running_mean", 0.0, 0.3), ("running_var", 1.0, 0.6)]
        {
            self.entries.push(Entry::new(&format!("{name}.{field}"), &[width], self.noise.values(width, middle, spread)));
        }
        self.entries.push(Entry::new(&format!("{name}.num_batches_tracked"), &[], Values::I64(vec![1234])));
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        let weight = self.noise.values(inputs * outputs, 0.0, 0.02);
        self.entries.push(Entry::new(&format!("{name}.weight"), &[outputs, inputs], weight));
        self.entries.push(Entry::new(&format!("{name}.bias"), &[outputs], self.noise.values(outputs, 0.0, 0.1)));
    }
}

/// All 320 tensors of `torchvision.models.resnet50().state_dict()`.
pub(crate) fn resnet50() -> Vec<Entry> {
    let mut net = Network { entries: Vec::new(), noise: Noise(1) };
    net.conv("conv1", [64, 3, 7, 7]);
    net.norm("bn1", 64);
    let mut inputs = 64;
    for (layer, blocks) in [(1, 3), (2, 4), (3, 6), (4, 3)] {
        let inner = 32 << layer;
        for block in 0..blocks {
            let name = format!("layer{layer}.{block}");
            for (part, shape) in [(1, [inner, inputs, 1, 1]), (2, [inner, inner, 3, 3]), (3, [4 * inner, inner, 1, 1])] {
                net.conv(&format!("{name}.conv{part}"), shape);
                net.norm(&format!("{name}.bn{part}"), shape[0]);
            }
            if block == 0 {
                net.conv(&format!("{name}.downsample.0"), [4 * inner, inputs, 1, 1]);
                net.norm(&format!("{name}.downsample.1"), 4 * inner);
            }
            inputs = 4 * inner;
        }
    }
    net.linear("fc", 2048, 1000);
    net.entries
}

/// All 314 tensors of `torchvision.models.mobilenet_v2().state_dict()`.
pub(crate) fn mobilenet_v2() -> Vec<Entry> {
    let mut net = Network { entries: Vec::new(), noise: Noise(2) };
    net.conv("features.0.0", [32, 3, 3, 3]);
    net.norm("features.0.1", 32);
    let outputs = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320];
    let mut inputs = 32;
    for (index, out) in (1..).zip(outputs) {
        let name = format!("features.{index}.conv");
        let hidden = if index == 1 { inputs } else { 6 * inputs };
        let mut part = 0;
        if index > 1 {
            net.conv(&format!("{name}.0.0"), [hidden, inputs, 1, 1]);
            net.norm(&format!("{name}.0.1"), hidden);
            part = 1;
        }
        net.conv(&format!("{name}.{part}.0"), [hidden, 1, 3, 3]);
        net.norm(&format!("{name}.{part}.1"), hidden);
        net.conv(&format!("{name}.{}", part + 1), [out, hidden, 1, 1]);
        net.norm(&format!("{name}.{}", part + 2), out);
        inputs = out;
    }
    net.conv("features.18.0", [1280, 320, 1, 1]);
    net.norm("features.18.1", 1280);
    net.linear("classifier.1", 1280, 1000);
    net.entries
}
