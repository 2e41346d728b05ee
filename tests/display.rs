//! The display as an owner sees it: `pawgate display`, `pawgate run --screen`, and the pictures in docs/display.
#![cfg(feature = "embedded-model")]

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pawgate::hw::display::Settings;
use pawgate::hw::display::screen::{Bolt, examples};
use pawgate::hw::display::sim;
use pawgate::service::face;

fn pawgate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pawgate"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn pixels(path: &Path) -> image::RgbImage {
    image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).to_rgb8()
}

#[test]
fn the_documentation_shows_what_the_code_draws() {
    let folder = tempfile::tempdir().unwrap();
    let output = pawgate(&["display", "--png", folder.path().to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written = String::from_utf8(output.stdout).unwrap();
    assert_eq!(written.lines().count(), 3 * examples().len());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/display");
    for path in written.lines().map(Path::new) {
        let shown = docs.join(path.file_name().unwrap());
        assert!(
            pixels(path) == pixels(&shown),
            "{} is not what the code draws: cargo run --release -- display --png docs/display",
            shown.display()
        );
    }
}

#[test]
fn a_visit_is_seen_on_the_display_from_the_start_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let screen = folder.path().join("screen.png");
    let args = ["run", "--simulate", "--camera", "samples/cat.jpg", "--for", "8s", "--screen", screen.to_str().unwrap()];
    let mut child = pawgate(&args).spawn().unwrap();
    let mut seen = HashSet::new();
    while child.try_wait().unwrap().is_none() {
        if let Ok(bytes) = std::fs::read(&screen) {
            // Whoever looks never sees a part of a picture.
            image::load_from_memory(&bytes).unwrap();
            seen.insert(bytes);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    // Motion or an animal, the decision, and the end at least.
    assert!(seen.len() >= 3, "{}", seen.len());
    let last = sim::picture(&Settings::default(), &face::ended("pawgate", Some(Bolt::Locked)));
    assert!(pixels(&screen).as_raw() == last.as_image_buffer().as_raw(), "the last screen says that pawgate does not run");
}

#[test]
fn a_screen_that_cannot_be_written_stops_nothing() {
    let args =
        ["run", "--simulate", "--camera", "samples/cat.jpg", "--for", "6s", "--json", "--screen", "/nonexistent/screen.png"];
    let output = pawgate(&args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let opened = String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.contains(r#""state":"open""#)).count();
    assert_eq!(opened, 1);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("/nonexistent/screen.png") && errors.contains("goes on without"), "{errors}");
}

#[test]
fn without_a_display_the_command_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "[camera]\nsource = \"/dev/video0\"\n[door]\n").unwrap();
    let run = || pawgate(&["display", "--config", config.to_str().unwrap()]).output().unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no [display]"));
    std::fs::write(
        &config,
        "[camera]\nsource = \"/dev/video0\"\n[door]\n[display]\nkind = \"ssd1306\"\nbus = \"/dev/nonexistent\"\n",
    )
    .unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(9));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/dev/nonexistent"));
}
