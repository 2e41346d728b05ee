//! What an actuator does a set time after a command, on a thread of its own: a pulse that ends, a servo that is switched off.
//!
//! Real time, not [`crate::hw::clock::Clock`]: a coil gets hot on real time, and a clock that stands still must not keep it on.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Error;

/// Pause before an end that failed is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// How often an end is tried when its owner goes; more would keep a device that is gone from being given up.
const LAST_TRIES: u32 = 3;

/// A device whose commands end by themselves.
pub(super) trait Ends: Send + 'static {
    /// Ends what the last command began. Must work at any time, also after an error.
    fn end(&mut self) -> Result<(), Error>;
}

/// A device, and the thread that ends its commands. Going away waits for an end that is still to come.
pub(super) struct Timed<T: Ends> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    device: T,
    due: Option<Instant>,
    trouble: Option<Error>,
    leaving: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Ends> Timed<T> {
    /// Starts the thread; `device` is idle.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub(super) fn start(device: T) -> io::Result<Self> {
        let state = Mutex::new(State { device, due: None, trouble: None, leaving: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("latch-timer".into()).spawn(move || keep_time(&theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands the device to `command`, which may say when it is to end (`None`: not any more).
    pub(super) fn command<R>(&self, command: impl FnOnce(&mut T, &mut Option<Instant>) -> R) -> R {
        let mut state = self.shared.lock();
        let State { device, due, .. } = &mut *state;
        let result = command(device, due);
        self.shared.changed.notify_one();
        result
    }

    /// What went wrong at an end since this was asked last.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.shared.lock().trouble.take()
    }
}

impl<T: Ends> Drop for Timed<T> {
    fn drop(&mut self) {
        self.shared.lock().leaving = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the latch's timer ended early: please report this");
        }
    }
}

fn keep_time<T: Ends>(shared: &Shared<T>) {
    let mut tries = 0;
    let mut state = shared.lock();
    loop {
        let now = Instant::now();
        state = match state.due {
            None if state.leaving => return,
            None => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(due) if due > now => shared.changed.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner).0,
            Some(_) => {
                state.due = None;
                if let Err(error) = state.device.end() {
                    // Each failure once in the log, not each try.
                    if state.trouble.is_none() {
                        log::error!("{error}");
                    }
                    state.trouble = Some(error);
                    tries += u32::from(state.leaving);
                    state.due = (tries < LAST_TRIES).then(|| now + RETRY);
                }
                state
            }
        };
    }
}
