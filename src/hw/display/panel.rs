//! The thread that owns a display. Whoever decides hands it screens and never waits: a bus that hangs delays nothing but the picture.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::screen::Screen;
use super::{Display, Error};

/// Bytes that a display may gather before it sends them: what spidev takes at once.
const BUFFER: usize = 4096;
/// Pauses between attempts to open a display: each is twice the one before.
const PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Opens a display, again and again where needed.
pub trait Opener: Send + 'static {
    /// Opens it; `buffer` is its own as long as it lives.
    ///
    /// # Errors
    /// It cannot be opened, or does not answer.
    fn open<'b>(&self, buffer: &'b mut [u8]) -> Result<Box<dyn Display + 'b>, Error>;
}

/// A display and its thread.
#[derive(Debug)]
pub struct Panel {
    /// None once the end has begun.
    screens: Option<SyncSender<Screen>>,
    /// What the thread was given last.
    given: Option<Screen>,
    trouble: Arc<Mutex<Option<String>>>,
    ended: Receiver<()>,
}

impl Panel {
    /// Starts the thread, which opens the display. It goes dark when nothing has happened for `off_after`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(opener: impl Opener, off_after: Duration) -> std::io::Result<Self> {
        let (screens, given) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let mut keeper =
            Keeper { screens: given, current: None, since: Instant::now(), off_after, trouble: Arc::clone(&trouble) };
        std::thread::Builder::new().name("display".into()).spawn(move || {
            keeper.run(&opener);
            end.send(()).ok();
        })?;
        Ok(Self { screens: Some(screens), given: None, trouble, ended })
    }

    /// Shows this as soon as the display can, unless something else comes before. Never waits.
    pub fn show(&mut self, screen: &Screen) {
        if self.given.as_ref() == Some(screen) {
            return;
        }
        let Some(screens) = &self.screens else { return };
        match screens.try_send(screen.clone()) {
            Ok(()) => self.given = Some(screen.clone()),
            // The thread is busy: the caller comes again in a moment, with what is true then.
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => {
                let text = "the display's thread has ended, which is a mistake in pawgate: please report the log".to_owned();
                log::error!("{text}");
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                self.screens = None;
            }
        }
    }

    /// Why nothing is shown; none while all is well.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows a last screen and lets the display go, which may take `limit`; whether that was enough.
    pub fn close(mut self, last: &Screen, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.screens.is_some() && self.given.as_ref() != Some(last) {
            self.show(last);
            if Instant::now() >= end {
                return false;
            }
            if self.given.as_ref() != Some(last) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        drop(self.screens.take());
        self.ended.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// Why a display is no longer served.
enum Over {
    /// Nobody gives screens any more, and the last one is shown.
    Closed,
    /// It failed.
    Failed(Error),
}

/// What the thread knows.
struct Keeper {
    screens: Receiver<Screen>,
    current: Option<Screen>,
    /// Since when this scene is the current one; the clock above it does not count.
    since: Instant,
    off_after: Duration,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Keeper {
    fn run(&mut self, opener: &impl Opener) {
        let mut buffer = vec![0; BUFFER];
        let mut pause = *PAUSES.start();
        loop {
            let over = match opener.open(&mut buffer) {
                Ok(mut display) => self.serve(&mut *display, &mut pause),
                Err(error) => Over::Failed(error),
            };
            let Over::Failed(error) = over else { return };
            self.tell(Some(error.to_string()));
            if !self.rest(pause) {
                return;
            }
            pause = (pause * 2).min(*PAUSES.end());
        }
    }

    /// Remembers what is wrong; the log gets each trouble once.
    fn tell(&self, trouble: Option<String>) {
        let mut told = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*told, &trouble) {
            (before, Some(new)) if before.as_ref() != Some(new) => log::warn!("{new}; pawgate goes on without"),
            (Some(_), None) => log::info!("the display works again"),
            _ => {}
        }
        *told = trouble;
    }

    fn serve(&mut self, display: &mut dyn Display, pause: &mut Duration) -> Over {
        let mut dark = false;
        loop {
            if let Some(screen) = &self.current {
                let shown = if std::mem::take(&mut dark) { display.switch(true) } else { Ok(()) };
                if let Err(error) = shown.and_then(|()| display.show(screen)) {
                    return Over::Failed(error);
                }
                *pause = *PAUSES.start();
                self.tell(None);
            }
            match self.next(&mut dark, display) {
                Ok(Some(screen)) => self.take(screen),
                Ok(None) => return Over::Closed,
                Err(error) => return Over::Failed(error),
            }
        }
    }

    fn take(&mut self, screen: Screen) {
        if self.current.as_ref().is_none_or(|now| now.scene != screen.scene) {
            self.since = Instant::now();
        }
        self.current = Some(screen);
    }

    /// The next screen that says something new; none at the end. Switches a display off whose screen may go dark.
    fn next(&self, dark: &mut bool, display: &mut dyn Display) -> Result<Option<Screen>, Error> {
        let may_go_dark = |screen: &Option<Screen>| screen.as_ref().is_some_and(|screen| screen.scene.may_go_dark());
        loop {
            let received = if may_go_dark(&self.current) && !*dark {
                self.screens.recv_timeout(self.off_after.saturating_sub(self.since.elapsed()))
            } else {
                self.screens.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match received {
                // The clock goes on, and nobody looks: that is no reason to light up.
                Ok(screen) if *dark && self.current.as_ref().is_some_and(|now| now.scene == screen.scene) => {}
                Ok(screen) => return Ok(Some(screen)),
                Err(RecvTimeoutError::Timeout) => {
                    display.switch(false)?;
                    *dark = true;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Waits before the display is opened again, and keeps the newest screen; whether there is anybody left to show something to.
    fn rest(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            match self.screens.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(screen) => self.take(screen),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::{Scene, examples};
    use super::*;

    /// What a display did, and how it is to behave.
    #[derive(Default)]
    struct Log {
        did: Vec<String>,
        /// So many attempts to open it, and to show something, fail first.
        failing: [usize; 2],
        /// It hangs in its next command.
        hangs: bool,
    }

    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<Log>>);

    impl Fake {
        fn fails(&self, which: usize) -> Result<(), Error> {
            let mut log = self.0.lock().unwrap();
            if log.failing[which] == 0 {
                return Ok(());
            }
            log.failing[which] -= 1;
            Err(Error { device: "fake".into(), cause: "as planned".into(), mend: "nothing" })
        }

        fn did(&self, what: impl Into<String>) {
            self.0.lock().unwrap().did.push(what.into());
        }

        fn seen(&self) -> Vec<String> {
            self.0.lock().unwrap().did.clone()
        }

        fn await_seen(&self, what: &str) {
            let end = Instant::now() + Duration::from_secs(20);
            while !self.seen().iter().any(|did| did == what) {
                assert!(Instant::now() < end, "{what} never came: {:?}", self.seen());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    impl Opener for Fake {
        fn open<'b>(&self, buffer: &'b mut [u8]) -> Result<Box<dyn Display + 'b>, Error> {
            assert_eq!(buffer.len(), BUFFER);
            self.fails(0)?;
            self.did("open");
            Ok(Box::new(self.clone()))
        }
    }

    impl Display for Fake {
        fn show(&mut self, screen: &Screen) -> Result<(), Error> {
            while self.0.lock().unwrap().hangs {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.fails(1)?;
            self.did(screen.clock.clone().unwrap_or_default());
            Ok(())
        }

        fn switch(&mut self, on: bool) -> Result<(), Error> {
            self.did(if on { "on" } else { "off" });
            Ok(())
        }
    }

    fn screen(name: &str, clock: &str) -> Screen {
        let (_, screen) = examples().into_iter().find(|(other, _)| *other == name).unwrap();
        Screen { clock: Some(clock.into()), ..screen }
    }

    const LONG: Duration = Duration::from_secs(60);

    /// As the service does: again and again, because the thread may be busy.
    fn show(panel: &mut Panel, screen: &Screen) {
        while panel.given.as_ref() != Some(screen) {
            panel.show(screen);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_last_screen_is_shown_before_the_end() {
        let fake = Fake::default();
        let mut panel = Panel::start(fake.clone(), LONG).unwrap();
        show(&mut panel, &screen("motion", "1"));
        assert!(panel.close(&screen("ended", "2"), LONG));
        assert_eq!(fake.seen(), ["open", "1", "2"]);
    }

    #[test]
    fn one_that_hangs_holds_nobody_up() {
        let fake = Fake::default();
        fake.0.lock().unwrap().hangs = true;
        let mut panel = Panel::start(fake.clone(), LONG).unwrap();
        let begin = Instant::now();
        for n in 0..1000 {
            panel.show(&screen("motion", &n.to_string()));
        }
        assert!(!panel.close(&screen("ended", "2"), Duration::from_millis(50)));
        assert!(begin.elapsed() < Duration::from_secs(5));
        fake.0.lock().unwrap().hangs = false;
    }

    #[test]
    fn one_that_fails_is_told_opened_again_and_shows_what_is_true_then() {
        let fake = Fake::default();
        fake.0.lock().unwrap().failing = [1, 1];
        let mut panel = Panel::start(fake.clone(), LONG).unwrap();
        show(&mut panel, &screen("motion", "1"));
        let end = Instant::now() + Duration::from_secs(20);
        while panel.trouble().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(panel.trouble().unwrap().contains("as planned"));
        show(&mut panel, &screen("animal", "2"));
        fake.await_seen("2");
        assert_eq!(fake.seen(), ["open", "open", "2"]);
        while panel.trouble().is_some() {
            assert!(Instant::now() < end);
        }
    }

    #[test]
    fn it_goes_dark_when_nothing_happens_and_the_clock_lights_nothing_up() {
        let fake = Fake::default();
        let mut panel = Panel::start(fake.clone(), Duration::from_millis(300)).unwrap();
        show(&mut panel, &screen("idle", "1"));
        fake.await_seen("1");
        show(&mut panel, &screen("idle", "2"));
        fake.await_seen("off");
        show(&mut panel, &screen("idle", "3"));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(fake.seen(), ["open", "1", "2", "off"]);
        show(&mut panel, &screen("motion", "4"));
        fake.await_seen("4");
        assert_eq!(fake.seen()[4..], ["on", "4"]);
    }

    #[test]
    fn a_fault_never_goes_dark() {
        let fake = Fake::default();
        let mut panel = Panel::start(fake.clone(), Duration::from_millis(20)).unwrap();
        let fault = screen("fault", "1");
        assert!(matches!(fault.scene, Scene::Fault { .. }));
        show(&mut panel, &fault);
        fake.await_seen("1");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(fake.seen(), ["open", "1"]);
    }
}
