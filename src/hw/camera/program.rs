//! A program that writes frames (Y4M or MJPEG) to its standard output: `rpicam-vid` for cameras that only libcamera serves, `ffmpeg`
//! for network cameras, and pawgate itself for V4L2 ([`super::v4l2`]): a process can be killed where a thread that hangs in a driver
//! cannot.
//!
//! What it writes to its standard error is logged, and its last line stands in the error when it ends. It is killed when its
//! [`Stop`] says so or when the camera is dropped; when it can not be killed (a driver that hangs), nobody waits for it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::stream::{Stream, StreamError};
use super::{Camera, CameraError, Frame, Timing};

/// The most bytes of a line that a program writes to its standard error.
const MAX_LINE: u64 = 512;
/// Lines of its standard error that are kept.
const KEPT: usize = 2;
/// How long an ended or killed program may take to be gone.
const GOING: Duration = Duration::from_millis(500);

/// Ends the programs that a camera started, from another thread. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    stopped: bool,
    children: Vec<Child>,
}

impl Stop {
    /// Kills what was started, and what will be.
    pub fn stop(&self) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.stopped = true;
        for mut child in running.children.drain(..) {
            end(&mut child);
        }
    }

    /// Whether [`Self::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).stopped
    }

    fn adopt(&self, mut child: Child) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.stopped {
            end(&mut child);
        } else {
            running.children.push(child);
        }
    }

    /// How the last program ended, waiting for it a moment; `None` where it runs on or was killed here.
    fn ended(&self) -> Option<std::process::ExitStatus> {
        let last = Instant::now() + GOING;
        loop {
            {
                let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(Some(status)) = running.children.last_mut()?.try_wait() {
                    running.children.pop();
                    return Some(status);
                }
            }
            if Instant::now() >= last {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Kills it and what it started, and waits a moment, so that no zombie is left; one that a driver holds is left behind.
fn end(child: &mut Child) {
    // It may have ended by itself.
    if let Ok(Some(_)) = child.try_wait() {
        return;
    }
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        kill_process_group(group, Signal::KILL).ok();
    }
    child.kill().ok();
    let last = Instant::now() + GOING;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < last {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Why a program delivers nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It cannot be started.
    #[error("cannot be started: {0}; is it installed, and may the user that pawgate runs as start it?")]
    Start(std::io::Error),
    /// It ended.
    #[error("ended ({status}){said}; run it by hand to see more: {command}")]
    Ended {
        /// How.
        status: String,
        /// Its last words.
        said: String,
        /// How it was started, secrets left out.
        command: String,
    },
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments. `{NAME}` in an argument is replaced by that environment variable where its name begins with
    /// `PAWGATE_`: so that passwords need not stand in a file that others read.
    pub command: Vec<String>,
    /// Frames a second, for streams that do not say.
    pub fps: u32,
    /// Whether it is pawgate's own reader, whose last words say everything.
    pub own: bool,
}

impl Program {
    /// Starts it. Its frames come later, or its end.
    ///
    /// # Errors
    /// [`CameraError::Program`] when it cannot be started.
    pub fn start(&self, timing: Timing, stop: &Stop) -> Result<Box<dyn Camera>, CameraError> {
        let name = self.name();
        let failed = |error| CameraError::Program { name: name.clone(), error };
        let started = self.spawn().map_err(|e| failed(ProgramError::Start(e)))?;
        let (child, out, err) = started;
        stop.adopt(child);
        let kept = Kept::default();
        let thread = std::thread::Builder::new().name("camera-log".into());
        let (log, label) = (kept.clone(), name.clone());
        let reader = thread.spawn(move || log.follow(err, &label)).map_err(CameraError::NoThread)?;
        let stream = Stream::new(name, out, self.fps, timing);
        let stream = if self.own { stream.marked(super::v4l2::mark_clock) } else { stream };
        Ok(Box::new(Playing { program: self.clone(), stream, stop: stop.clone(), kept, reader: Some(reader) }))
    }

    fn spawn(&self) -> std::io::Result<(Child, ChildStdout, ChildStderr)> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(std::io::Error::other("no program is named"));
        };
        let mut command = Command::new(with_secrets(program)?);
        // A group of its own, so that a shell's children can be killed with it.
        command.process_group(0);
        for argument in arguments {
            command.arg(with_secrets(argument)?);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        match (child.stdout.take(), child.stderr.take()) {
            (Some(out), Some(err)) => Ok((child, out, err)),
            _ => Err(std::io::Error::other("its output cannot be read")),
        }
    }

    /// The program's name, without its folder.
    fn name(&self) -> String {
        let program = self.command.first().map(String::as_str).unwrap_or_default();
        program.rsplit('/').next().unwrap_or(program).to_owned()
    }
}

/// `text` with `{PAWGATE_…}` replaced by environment variables.
fn with_secrets(text: &str) -> std::io::Result<String> {
    let (mut result, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("{PAWGATE_") {
        let Some(length) = rest[start..].find('}') else { break };
        let name = &rest[start + 1..start + length];
        let value = std::env::var(name).map_err(|_| {
            std::io::Error::other(format!("the environment variable {name} is not set (EnvironmentFile= in the unit)"))
        })?;
        result.push_str(&rest[..start]);
        result.push_str(&value);
        rest = &rest[start + length + 1..];
    }
    Ok(result + rest)
}

/// The last lines of a program's standard error.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<VecDeque<String>>>);

impl Kept {
    fn follow(&self, err: ChildStderr, name: &str) {
        let mut reader = BufReader::new(err);
        loop {
            let mut line = vec![];
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line).trim_end().escape_debug().to_string();
            if line.is_empty() {
                continue;
            }
            log::debug!("{name}: {line}");
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    }

    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    fn said(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|line| format!("; it said: {line}")).collect()
    }
}

/// A program that runs.
struct Playing {
    program: Program,
    stream: Stream<ChildStdout>,
    stop: Stop,
    kept: Kept,
    reader: Option<JoinHandle<()>>,
}

impl Playing {
    fn ended(&mut self) -> CameraError {
        let status =
            self.stop.ended().map_or_else(|| "it closed its output and runs on".to_owned(), |status| status.to_string());
        // Its last words come with its end; a grandchild that keeps the pipe open is not waited for.
        let last = Instant::now() + GOING;
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < last {
            std::thread::sleep(Duration::from_millis(5));
        }
        let last = self.kept.last();
        if let (true, Some(last)) = (self.program.own, last) {
            return CameraError::Device(last.strip_prefix("pawgate: ").unwrap_or(&last).to_owned());
        }
        let error = ProgramError::Ended { status, said: self.kept.said(), command: self.program.command.join(" ") };
        CameraError::Program { name: self.program.name(), error }
    }
}

impl Camera for Playing {
    fn next(&mut self) -> Result<Option<Frame>, CameraError> {
        match self.stream.next() {
            Ok(Some(frame)) => Ok(Some(frame)),
            Err(error) if error.is_passing() => Err(error),
            // A camera has no end.
            Ok(None) => Err(self.ended()),
            Err(CameraError::Stream { error: StreamError::Empty | StreamError::Truncated(_), .. }) => Err(self.ended()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hw::clock::Monotonic;

    fn shell(script: &str) -> Program {
        Program { command: ["sh", "-c", script].map(str::to_owned).to_vec(), fps: 5, own: false }
    }

    fn start(program: &Program, stop: &Stop) -> Box<dyn Camera> {
        program.start(Timing::Recorded(Monotonic::default()), stop).unwrap()
    }

    /// Two grey frames of 2×2 pixels.
    const FRAMES: &str = r"printf 'YUV4MPEG2 W2 H2 Cmono\nFRAME\nabcdFRAME\nefgh'";

    #[test]
    fn frames_come_and_then_why_there_are_no_more() {
        let mut camera =
            start(&shell(&format!("{FRAMES}; echo no signal >&2; echo \u{1b}[2J gone >&2; exit 3")), &Stop::default());
        assert_eq!(camera.next().unwrap().unwrap().number, 1);
        assert_eq!(camera.next().unwrap().unwrap().picture.dimensions(), (2, 2));
        let error = camera.next().unwrap_err();
        assert!(!error.is_passing());
        let said = error.to_string();
        assert!(said.contains("sh ended (exit status: 3); it said: no signal; it said: \\u{1b}[2J gone"), "{said}");
    }

    #[test]
    fn the_own_reader_speaks_for_itself() {
        let reader = Program { own: true, ..shell("echo [WARN] slow >&2; echo pawgate: /dev/video0: busy >&2; exit 7") };
        assert_eq!(start(&reader, &Stop::default()).next().unwrap_err().to_string(), "/dev/video0: busy");
    }

    #[test]
    fn one_that_says_nothing_is_no_camera() {
        let error = start(&shell("exit 0"), &Stop::default()).next().unwrap_err().to_string();
        assert!(error.contains("exit status: 0"), "{error}");
        let missing = Program { command: vec!["/no/such/program".into()], fps: 5, own: false };
        let error = missing.start(Timing::Recorded(Monotonic::default()), &Stop::default()).err().unwrap().to_string();
        assert!(error.contains("program cannot be started") && error.contains("installed"), "{error}");
    }

    #[test]
    fn stopping_kills_what_hangs_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let stop = Stop::default();
        // The child holds standard output: killing the shell alone would leave the camera taken.
        let mut camera = start(&shell(&format!("{FRAMES}; sleep 1000 & echo $! >{}; wait", file.display())), &stop);
        camera.next().unwrap();
        camera.next().unwrap();
        let last = Instant::now() + Duration::from_secs(20);
        let child = loop {
            match std::fs::read_to_string(&file) {
                Ok(pid) if pid.ends_with('\n') => break std::path::PathBuf::from("/proc").join(pid.trim()),
                _ => assert!(Instant::now() < last),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(child.exists());
        stop.stop();
        // Gone, or a zombie that whoever inherited it has not waited for yet.
        let is_gone = || std::fs::read_to_string(child.join("stat")).map_or(true, |stat| stat.contains(") Z "));
        while !is_gone() {
            assert!(Instant::now() < last, "{} lives on", child.display());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(camera.next().is_err());
        // What is started later is killed at once.
        assert!(start(&shell("sleep 1000"), &stop).next().is_err());
    }

    #[test]
    fn secrets_come_from_the_environment_and_only_from_names_of_ours() {
        assert_eq!(with_secrets("rtsp://{HOME}@{x}/{").unwrap(), "rtsp://{HOME}@{x}/{");
        assert_eq!(with_secrets("{PAWGATE_").unwrap(), "{PAWGATE_");
        let error = with_secrets("rtsp://u:{PAWGATE_NOT_SET}@porch").unwrap_err().to_string();
        assert!(error.contains("PAWGATE_NOT_SET is not set"), "{error}");
        let error = shell("{PAWGATE_NOT_SET}").start(Timing::Recorded(Monotonic::default()), &Stop::default()).err().unwrap();
        assert!(error.to_string().contains("PAWGATE_NOT_SET"), "{error}");
    }
}
