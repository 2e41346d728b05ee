//! The public-domain photographs that `pawgate demo` shows; origins and licences are in `samples/README.md`.

/// One sample picture, compiled into the library.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// File name below `samples/`.
    pub name: &'static str,
    /// The JPEG file.
    pub jpeg: &'static [u8],
}

/// The demo's pictures in the order in which they are shown.
pub static SAMPLES: [Sample; 4] = [
    Sample { name: "cat.jpg", jpeg: include_bytes!("../samples/cat.jpg") },
    Sample { name: "raccoon.jpg", jpeg: include_bytes!("../samples/raccoon.jpg") },
    Sample { name: "coffee.jpg", jpeg: include_bytes!("../samples/coffee.jpg") },
    Sample { name: "person.jpg", jpeg: include_bytes!("../samples/person.jpg") },
];
