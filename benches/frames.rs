//! What a frame costs before the network: playing it, looking for movement, cutting and scaling the crop, judging its quality.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use image::RgbImage;
use pawgate::hw::camera::pictures::{Pictures, Play};
use pawgate::hw::camera::{Camera, Frame, Timing};
use pawgate::hw::clock::Monotonic;
use pawgate::vision::motion::{Motion, Settings};
use pawgate::vision::quality;
use pawgate::vision::region::{PixelBox, Region, crop};
use pawgate::vision::{Preprocess, ResizeRule};

const SIZES: [[u32; 2]; 2] = [[640, 480], [1280, 720]];

/// A camera that shows one picture with noise and shift for ever.
fn camera([width, height]: [u32; 2], folder: &std::path::Path) -> Pictures {
    let play = Play { hold: Duration::from_secs(1 << 30), fps: 10, ..Play::default() };
    let texture = |x: u32, y: u32| image::Rgb([(x * 7 % 200) as u8, (y * 5 % 250) as u8, ((x / 30 + y / 30) % 2 * 200) as u8]);
    // What the shift takes from the edges.
    let picture = RgbImage::from_fn(width + 2 * play.shift, height + 2 * play.shift, texture);
    let path = folder.join(format!("{width}x{height}.png"));
    picture.save(&path).expect("the temporary folder can be written");
    Pictures::open(&[path], play, Timing::Recorded(Monotonic::default())).expect("the picture was just written")
}

fn next(camera: &mut Pictures) -> Frame {
    camera.next().expect("the picture is whole").expect("it is shown for ever")
}

fn frames(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let preprocess = Preprocess::imagenet(ResizeRule::ShortSideCrop { short_side: 256 });
    for size in SIZES {
        let name = format!("{}x{}", size[0], size[1]);
        let mut camera = camera(size, folder.path());
        criterion.bench_function(&format!("pictures/{name}"), |bencher| bencher.iter(|| next(&mut camera)));
        let [first, second] = [next(&mut camera), next(&mut camera)];
        let mut motion = Motion::new(Settings::default());
        let mut count = 0;
        criterion.bench_function(&format!("motion/{name}"), |bencher| {
            bencher.iter(|| {
                count += 1;
                let frame = if count % 2 == 0 { &first } else { &second };
                motion.update(black_box(&frame.picture), Region::WHOLE, Monotonic::new(Duration::from_millis(100) * count))
            });
        });
        let region = Region::WHOLE.pixels(size[0], size[1]);
        let moving = PixelBox { left: size[0] / 4, top: size[1] / 4, width: size[0] / 3, height: size[1] / 2 };
        criterion.bench_function(&format!("crop/{name}"), |bencher| {
            bencher.iter(|| preprocess.pixels_of(black_box(&first.picture), crop(region, Some(moving), 0.25)));
        });
    }
    let square = vec![77; 224 * 224 * 3];
    criterion.bench_function("quality", |bencher| bencher.iter(|| quality::flaw(black_box(&square))));
    criterion.bench_function("sharpness", |bencher| bencher.iter(|| quality::sharpness(black_box(&square), 224)));
}

criterion_group!(benches, frames);
criterion_main!(benches);
