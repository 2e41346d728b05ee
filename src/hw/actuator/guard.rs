//! A dead man's switch between the service and its latch: whatever becomes of who decides, the latch goes to its safe position.
//!
//! The latch lives on a thread of its own. Commands are sent there and answered; the thread also watches
//!
//! - how long ago the last unlocking was commanded ([`Limits::longest_unlocked`]),
//! - whether who decides still turns over ([`Heartbeat`], [`Limits::beat`]) while the latch is not in its safe position,
//! - whether a command was given up by who sent it, because the device took too long,
//! - whether its owner is gone,
//!
//! and sends the latch to its safe position by itself, as often as it takes. Each such [`Trip`] is reported. Until the latch is there,
//! and beats come, no command away from it is carried out.
//!
//! It measures with [`Instant`] and not with [`crate::hw::clock::Clock`]: it guards against a clock that stands still as well, and a
//! thread that waits on a simulated clock would not wake by itself. It does not wait for the least interval between two commands
//! either; a latch survives a movement that comes early. What it cannot help against is a device that hangs in the call itself: that
//! is an error for who commands, and the service's watchdog and `pawgate safe-state` come after it.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::{Error, Latch, Position};

/// Pause between two attempts to reach the safe position.
const RETRY: Duration = Duration::from_millis(100);
/// The longest that an owner waits at its end; the thread goes on trying as long as the process lives.
const END: Duration = Duration::from_millis(1500);

/// What the guard allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Where the latch goes.
    pub safe: Position,
    /// The longest it stays unlocked after the last command to unlock, whoever decides what: longer than the door's own limits, those
    /// of a person's override included. Without meaning where unlocked is safe.
    pub longest_unlocked: Duration,
    /// The longest that nobody may call [`Heartbeat::beat`] while the latch is not in its safe position.
    pub beat: Duration,
    /// The longest that a command waits for its answer.
    pub answer: Duration,
}

/// How who decides shows that it turns over. Clones are the same heart.
#[derive(Debug, Clone)]
pub struct Heartbeat(Arc<Heart>);

#[derive(Debug)]
struct Heart {
    start: Instant,
    /// Nanoseconds after `start`.
    last: AtomicU64,
}

impl Heartbeat {
    fn new() -> Self {
        Self(Arc::new(Heart { start: Instant::now(), last: AtomicU64::new(0) }))
    }

    /// To be called once in each turn of the loop that decides, and nowhere else. Costs nothing.
    pub fn beat(&self) {
        let nanos = u64::try_from(self.0.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.last.store(nanos, Ordering::Release);
    }

    fn last(&self) -> Instant {
        self.0.start + Duration::from_nanos(self.0.last.load(Ordering::Acquire))
    }
}

/// Why the guard acted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Unlocked for too long.
    TooLong,
    /// Who decides does not turn over.
    NoBeat,
    /// Who sent a command no longer waited for its answer.
    GivenUp,
    /// The owner is gone while the latch was not in its safe position.
    Gone,
}

/// The guard acted by itself, or tried to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    /// Why.
    pub why: Why,
    /// Where it sent the latch.
    pub to: Position,
    /// What the latch said, where it did not obey. The guard goes on trying, and reports again when it succeeds.
    pub failed: Option<String>,
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::TooLong => "it was unlocked for too long",
            Why::NoBeat => "the deciding thread does not turn over",
            Why::GivenUp => "a command took too long",
            Why::Gone => "the service has let go of it",
        };
        write!(f, "the guard sends the latch to {}: {why}", self.to)?;
        self.failed.as_ref().map_or(Ok(()), |error| write!(f, "; it fails and is tried again: {error}"))
    }
}

/// A guarded latch. Letting go of it sends the latch to its safe position, and waits for that for a while.
pub struct Guarded {
    asks: Option<SyncSender<Ask>>,
    ended: Receiver<()>,
    answer: Duration,
    /// A command that was given up, while the thread still works at it.
    stuck: Option<Ticket>,
}

impl Guarded {
    /// Guards `latch`, which stands in its safe position already, as [`super::settings::LatchSettings::open`] leaves it. Beats are due
    /// as soon as it is sent elsewhere. The receiver tells what the guard did by itself.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn new(latch: Box<dyn Latch>, limits: Limits) -> Result<(Self, Heartbeat, Receiver<Trip>), Error> {
        let (asks, theirs) = mpsc::sync_channel(1);
        let (trips, reports) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let heart = Heartbeat::new();
        let safe = Some(limits.safe);
        let keeper = Keeper {
            latch,
            limits,
            heart: heart.clone(),
            trips,
            at: safe,
            unlocked: None,
            trip: None,
            told: false,
            retry: None,
        };
        let run = move || {
            keeper.run(&theirs);
            drop(end);
        };
        Builder::new().name("latch".into()).spawn(run).map_err(failed)?;
        Ok((Self { asks: Some(asks), ended, answer: limits.answer, stuck: None }, heart, reports))
    }

    fn ask(&mut self, what: What) -> Result<Option<Position>, Error> {
        if self.stuck.as_ref().is_some_and(|ticket| !ticket.is_over()) {
            return Err(no_answer("it is still busy with the command before"));
        }
        self.stuck = None;
        let ticket = Ticket::default();
        let (reply, answer) = mpsc::sync_channel(1);
        let ask = Ask { what, ticket: ticket.clone(), reply };
        if self.asks.as_ref().is_none_or(|asks| asks.try_send(ask).is_err()) {
            return Err(no_answer("its thread has ended"));
        }
        match answer.recv_timeout(self.answer) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(no_answer("its thread has ended")),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if ticket.give_up() {
            self.stuck = Some(ticket);
            return Err(no_answer(&format!("no answer within {:?}", self.answer)));
        }
        // It was answered in the very moment.
        answer.try_recv().unwrap_or_else(|_| Err(no_answer("its answer is lost")))
    }
}

fn failed(cause: io::Error) -> Error {
    Error::Device { device: "the latch's guard".into(), cause }
}

fn no_answer(text: &str) -> Error {
    failed(io::Error::new(io::ErrorKind::TimedOut, text))
}

impl Latch for Guarded {
    fn unlock(&mut self) -> Result<(), Error> {
        self.ask(What::Go(Position::Unlocked)).map(drop)
    }

    fn lock(&mut self) -> Result<(), Error> {
        self.ask(What::Go(Position::Locked)).map(drop)
    }

    fn position(&mut self) -> Result<Option<Position>, Error> {
        self.ask(What::Find)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.asks = None;
        if self.ended.recv_timeout(END) == Err(RecvTimeoutError::Timeout) {
            log::error!("the latch is not in its safe position {END:?} after the end: `pawgate safe-state` has to do it");
        }
    }
}

struct Ask {
    what: What,
    ticket: Ticket,
    reply: SyncSender<Result<Option<Position>, Error>>,
}

#[derive(Clone, Copy)]
enum What {
    Go(Position),
    Find,
}

/// Decides the race between an answer and the moment at which nobody waits for it any longer.
#[derive(Debug, Clone, Default)]
struct Ticket(Arc<Mutex<Stage>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Waiting,
    GivenUp,
    /// Answered, or given up and noticed.
    Over,
}

impl Ticket {
    fn change(&self, change: impl FnOnce(&mut Stage) -> bool) -> bool {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_over(&self) -> bool {
        self.change(|stage| *stage == Stage::Over)
    }

    fn is_given_up(&self) -> bool {
        self.change(|stage| *stage == Stage::GivenUp)
    }

    /// False when it is answered already.
    fn give_up(&self) -> bool {
        self.change(|stage| {
            let waits = *stage == Stage::Waiting;
            if waits {
                *stage = Stage::GivenUp;
            }
            waits
        })
    }

    /// False when nobody waits any longer.
    fn finish(&self) -> bool {
        self.change(|stage| std::mem::replace(stage, Stage::Over) == Stage::Waiting)
    }
}

/// The thread's side.
struct Keeper {
    latch: Box<dyn Latch>,
    limits: Limits,
    heart: Heartbeat,
    trips: Sender<Trip>,
    /// Where the latch was sent, if it obeyed.
    at: Option<Position>,
    /// When it was last told to unlock; none once it has locked.
    unlocked: Option<Instant>,
    /// Why it has to go to the safe position, until it is there.
    trip: Option<Why>,
    /// It was reported that this trip fails.
    told: bool,
    retry: Option<Instant>,
}

impl Keeper {
    fn run(mut self, asks: &Receiver<Ask>) {
        loop {
            let ask = match self.due() {
                Some(due) => asks.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => asks.recv().map_err(RecvTimeoutError::from),
            };
            match ask {
                Ok(ask) => self.answer(&ask),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
            self.watch();
        }
    }

    /// When something is to be looked after without being asked.
    fn due(&self) -> Option<Instant> {
        if self.trip.is_some() {
            return self.retry.or_else(|| Some(Instant::now()));
        }
        let beat = (self.at != Some(self.limits.safe)).then(|| self.heart.last() + self.limits.beat);
        [self.limit(), beat].into_iter().flatten().min()
    }

    /// When it has been unlocked for too long.
    fn limit(&self) -> Option<Instant> {
        self.unlocked.filter(|_| self.limits.safe == Position::Locked).map(|since| since + self.limits.longest_unlocked)
    }

    fn has_beat(&self) -> bool {
        self.heart.last() + self.limits.beat > Instant::now()
    }

    fn answer(&mut self, ask: &Ask) {
        // Whoever sent it believes that it failed: unlocking now would come out of nowhere.
        let result = if ask.ticket.is_given_up() { None } else { Some(self.carry_out(ask.what)) };
        if let Some(result) = result {
            // Before the ticket is finished, since who finds it finished looks for the answer. One place is free for it.
            drop(ask.reply.try_send(result));
        }
        if !ask.ticket.finish() && self.at != Some(self.limits.safe) {
            self.trip.get_or_insert(Why::GivenUp);
        }
    }

    fn carry_out(&mut self, what: What) -> Result<Option<Position>, Error> {
        let to = match what {
            What::Find => return shielded(|| self.latch.position()),
            What::Go(to) => to,
        };
        if to != self.limits.safe {
            if self.trip.is_some() {
                return Err(failed(io::Error::other(format!("it is on its way to {}, its safe position", self.limits.safe))));
            }
            if !self.has_beat() {
                let text = format!("the deciding thread has not turned over for {:?}", self.heart.last().elapsed());
                return Err(failed(io::Error::other(text)));
            }
        }
        self.go(to).map(|()| None)
    }

    fn go(&mut self, to: Position) -> Result<(), Error> {
        if to == Position::Unlocked {
            self.unlocked = Some(Instant::now());
        }
        self.at = None;
        shielded(|| self.latch.go(to))?;
        self.at = Some(to);
        if to == Position::Locked {
            self.unlocked = None;
        }
        if to == self.limits.safe {
            (self.trip, self.retry, self.told) = (None, None, false);
        }
        Ok(())
    }

    fn watch(&mut self) {
        let now = Instant::now();
        if self.trip.is_none() {
            let too_long = self.limit().is_some_and(|limit| limit <= now);
            let alone = self.at != Some(self.limits.safe) && !self.has_beat();
            self.trip = too_long.then_some(Why::TooLong).or(alone.then_some(Why::NoBeat));
        }
        if let Some(why) = self.trip
            && self.retry.is_none_or(|retry| retry <= now)
        {
            self.make_safe(why);
        }
    }

    /// False when the latch did not obey.
    fn make_safe(&mut self, why: Why) -> bool {
        let to = self.limits.safe;
        let failed = self.go(to).err().map(|error| error.to_string());
        let safe = failed.is_none();
        if safe || !self.told {
            let trip = Trip { why, to, failed };
            log::error!("{trip}");
            // Nobody may want to know any longer.
            drop(self.trips.send(trip));
        }
        if !safe {
            (self.told, self.retry) = (true, Some(Instant::now() + RETRY));
        }
        safe
    }

    /// The owner is gone. A latch that fails is tried as long as the process lives.
    fn end(mut self) {
        if self.at == Some(self.limits.safe) {
            return;
        }
        let why = *self.trip.get_or_insert(Why::Gone);
        while !self.make_safe(why) {
            std::thread::sleep(RETRY);
        }
    }
}

/// A device's panic is an error of that device: this thread must live on.
fn shielded<R>(call: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Error::Device { device: "the latch".into(), cause: io::Error::other("its driver panicked") }))
}

#[cfg(test)]
mod tests;
