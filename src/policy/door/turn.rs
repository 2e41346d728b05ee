//! One step of the door. First what is due by now, then the event, then what is due because of it.

use std::time::Duration;

use super::{Action, Because, By, Event, Exit, Grant, Opening, Phase, Refused, SafeState, Sensor, Settings, State, Step};
use crate::hw::actuator::Position;
use crate::hw::clock::Monotonic;
use crate::policy::fault::{Fault, Faults};

/// A command that failed is repeated after the travel time, or this if that is longer; after twice as long when it fails again, …
const RETRY: Duration = Duration::from_secs(1);
/// … and so on up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Least travel time: with none, every command would be a jam before a sensor could answer.
const TRAVEL_MIN: Duration = Duration::from_millis(1);

/// A step in the making.
pub(super) struct Turn<'a> {
    settings: &'a Settings,
    state: State,
    now: Monotonic,
    actions: Vec<Action>,
    refused: Option<Refused>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(settings: &'a Settings, state: &State, now: Monotonic) -> Self {
        let mut state = state.clone();
        state.seen = state.seen.max(now);
        let now = state.seen;
        Self { settings, state, now, actions: vec![], refused: None }
    }

    pub(super) fn take(mut self, event: &Event) -> Step {
        // A late reading must not look like a latch that is late.
        if let Event::Position(position) = event {
            self.state.sensor = Some(*position);
        }
        self.settle();
        self.handle(event);
        self.settle();
        Step { deadline: self.deadline(), state: self.state, actions: self.actions, refused: self.refused }
    }

    fn handle(&mut self, event: &Event) {
        match event {
            Event::Tick | Event::Position(_) => {}
            Event::Allow(grant) => self.allow(grant),
            Event::Deny { decision, rule } => self.deny(*decision, rule.clone()),
            Event::Nobody => (self.state.served, self.state.denied) = (false, false),
            Event::Passed => self.close_for_visitor(Because::Passed),
            Event::Obstructed(sensor) => self.state.obstructed[*sensor as usize] = true,
            Event::Free(sensor) => self.free(*sensor),
            Event::CommandFailed => self.command_failed(),
            Event::ExitRequest => self.exit(),
            Event::OverrideUnlock(duration) => self.override_unlock(*duration),
            Event::OverrideLock(duration) => self.override_lock(*duration),
            Event::OverrideEnd => self.override_end(),
            Event::Fault(fault) => self.raise(*fault),
            Event::Cleared(fault) => self.clear(*fault),
            Event::Stop => self.stop(),
        }
    }
}

/// Events.
impl Turn<'_> {
    /// Somebody is seen whose visit counts as served if the door is not locked: a tailgater, or one who has just left.
    fn seen(&mut self, denied: bool) {
        self.state.denied = denied;
        if self.state.latch != Some(Position::Locked) || self.state.shown == Phase::Relocking {
            self.state.served = true;
        }
    }

    fn allow(&mut self, grant: &Grant) {
        self.seen(false);
        let refused = self.not_ready().or_else(|| {
            let stale = grant.since < self.state.not_before || grant.since > self.now;
            if self.state.served {
                Some(Refused::Served)
            } else if stale {
                Some(Refused::OldFrames)
            } else {
                self.too_soon()
            }
        });
        self.refused = refused;
        if refused.is_none() {
            self.state.served = true;
            self.state.because = Because::Allowed(grant.clone());
            self.open(By::Rules, self.settings.open_for, self.settings.max_open);
        }
    }

    fn deny(&mut self, decision: u64, rule: Option<String>) {
        self.seen(true);
        self.close_for_visitor(Because::Denied { decision, rule });
    }

    fn exit(&mut self) {
        let refused = self.not_ready().or_else(|| match self.settings.exit {
            Exit::Never => Some(Refused::NoExit),
            Exit::Always if self.state.denied => Some(Refused::DeniedOutside),
            Exit::Always => self.too_soon(),
        });
        self.refused = refused;
        if refused.is_none() {
            self.state.because = Because::Exit;
            self.open(By::Exit, self.settings.exit_open_for, self.settings.max_open);
        }
    }

    fn free(&mut self, sensor: Sensor) {
        let was = std::mem::replace(&mut self.state.obstructed[sensor as usize], false);
        if was && !self.obstructed() {
            self.close_for_visitor(Because::Passed);
        }
    }

    fn command_failed(&mut self) {
        if self.state.latch.take().is_some() {
            self.state.tries = self.state.tries.saturating_add(1);
        }
        self.state.reached = false;
        self.raise(Fault::Latch);
    }

    fn override_unlock(&mut self, duration: Duration) {
        let longest = self.settings.max_override;
        let duration = duration.min(longest);
        match (self.state.shown, &mut self.state.opening) {
            _ if self.state.stopped => self.refused = Some(Refused::Stopped),
            (Phase::OverrideUnlocked | Phase::Unlocking, Some(opening)) if opening.by == By::Override => {
                opening.until = (self.now + duration).min(opening.limit);
            }
            (Phase::Open | Phase::Unlocking, Some(opening)) => {
                let (until, limit) = (self.now + duration, self.now + longest);
                *opening = Opening { by: By::Override, until, limit, closing: false };
                self.state.because = Because::Override;
            }
            (Phase::Locked | Phase::OverrideLocked, None) => {
                self.refused = self.too_soon();
                if self.refused.is_none() {
                    self.state.held = None;
                    self.state.because = Because::Override;
                    self.open(By::Override, duration, longest);
                }
            }
            _ => self.refused = self.not_ready().or(Some(Refused::Closing)),
        }
    }

    fn override_lock(&mut self, duration: Duration) {
        if self.state.stopped {
            return self.refused = Some(Refused::Stopped);
        }
        self.state.held = Some(self.now + duration.min(self.settings.max_override));
        self.state.because = Because::Override;
        self.close(Because::Override);
    }

    fn override_end(&mut self) {
        if self.state.held.take().is_some() {
            self.state.because = Because::OverrideOver;
        }
        if self.state.opening.as_ref().is_some_and(|opening| opening.by == By::Override) {
            self.close(Because::OverrideOver);
        }
    }

    fn raise(&mut self, fault: Fault) {
        if self.state.faults.insert(fault) {
            self.actions.push(Action::Raised(fault));
            self.state.because = Because::Fault(fault);
        }
        if self.state.faults.want_safe_state() && self.settings.safe_state == SafeState::Unlocked {
            self.state.opening = None;
        } else {
            self.close(Because::Fault(fault));
        }
    }

    fn clear(&mut self, fault: Fault) {
        let safe = self.state.faults.want_safe_state();
        if !self.state.faults.remove(fault) {
            return;
        }
        self.actions.push(Action::Cleared(fault));
        self.state.because = Because::Cleared(fault);
        self.state.not_before = self.now;
        if fault == Fault::Latch {
            self.state.tries = 0;
        }
        let over = safe && !self.state.faults.want_safe_state();
        // Where a fault unlocks, its end begins to lock. Elsewhere an unlocked latch without an opening is to be locked already, and waits
        // for the least interval only: a fault that comes and goes gives the door no more time.
        let unlocked = self.state.latch == Some(Position::Unlocked) && self.settings.safe_state == SafeState::Unlocked;
        if over && unlocked && self.state.opening.is_none() {
            let limit = self.now + self.settings.max_open;
            self.state.opening = Some(Opening { by: By::Nobody, until: self.now, limit, closing: true });
        }
    }

    fn stop(&mut self) {
        self.state.stopped = true;
        self.state.opening = None;
        self.state.held = None;
        self.state.because = Because::Stop;
    }
}

/// Opening and closing.
impl Turn<'_> {
    /// What keeps the door from opening for anybody.
    fn not_ready(&self) -> Option<Refused> {
        if self.state.stopped {
            return Some(Refused::Stopped);
        }
        if let Some(fault) = self.state.faults.iter().next() {
            return Some(Refused::Fault(fault));
        }
        match self.state.shown {
            Phase::Locked => None,
            Phase::OverrideLocked | Phase::OverrideUnlocked => Some(Refused::Overridden),
            Phase::Unlocking | Phase::Open => Some(Refused::AlreadyOpen),
            Phase::Relocking | Phase::Starting | Phase::Fault => Some(Refused::Closing),
        }
    }

    fn too_soon(&self) -> Option<Refused> {
        let due = self.state.moved.map(|moved| moved + self.interval());
        due.filter(|&due| self.now < due).map(|_| Refused::TooSoon)
    }

    fn open(&mut self, by: By, duration: Duration, longest: Duration) {
        let (until, limit) = (self.now + duration.min(longest), self.now + longest);
        self.state.opening = Some(Opening { by, until, limit, closing: false });
        self.command(Position::Unlocked);
    }

    /// Locks as soon as the opening is free.
    fn close(&mut self, because: Because) {
        let latest = self.now + self.settings.max_open;
        if let Some(opening) = &mut self.state.opening
            && !opening.closing
        {
            opening.closing = true;
            opening.limit = opening.limit.min(latest);
            self.state.because = because;
        }
    }

    /// The same, for what a person's command outweighs.
    fn close_for_visitor(&mut self, because: Because) {
        if self.state.opening.as_ref().is_some_and(|opening| opening.by != By::Override) {
            self.close(because);
        }
    }

    fn obstructed(&self) -> bool {
        self.state.obstructed.contains(&true)
    }

    fn interval(&self) -> Duration {
        self.settings.min_interval.min(self.settings.max_open)
    }

    fn travel(&self) -> Duration {
        self.settings.travel.max(TRAVEL_MIN)
    }

    fn command(&mut self, position: Position) {
        self.state.latch = Some(position);
        self.state.moved = Some(self.now);
        self.state.reached = false;
        if position == Position::Locked {
            // Also where it was opened in this very step, which no change of the phase would show.
            self.state.not_before = self.now;
        }
        self.actions.push(match position {
            Position::Locked => Action::Lock,
            Position::Unlocked => Action::Unlock,
        });
    }
}

/// What is due.
impl Turn<'_> {
    fn settle(&mut self) {
        self.expire();
        self.sense();
        self.end_opening();
        self.drive();
        self.reach();
        self.show();
    }

    fn expire(&mut self) {
        if self.state.held.is_some_and(|until| self.now >= until) {
            self.state.held = None;
            self.state.because = Because::OverrideOver;
        }
        if let Some(opening) = &self.state.opening
            && self.now >= opening.until
        {
            let over = if opening.by == By::Override { Because::OverrideOver } else { Because::Timeout };
            self.close(over);
        }
        if self.state.faults.contains(Fault::Obstructed) && !self.obstructed() {
            self.clear(Fault::Obstructed);
        }
    }

    /// Whether the latch is where it was sent, as far as anybody knows.
    fn agrees(&self) -> bool {
        self.state.latch.is_some() && self.state.sensor.is_none_or(|sensor| self.state.latch == Some(sensor))
    }

    fn jammed(&self) -> bool {
        self.state.faults.contains(Fault::Jam) || self.state.faults.contains(Fault::Forced)
    }

    /// Finds a latch that is not where it was sent.
    fn sense(&mut self) {
        self.reach();
        let (Some(latch), Some(moved)) = (self.state.latch, self.state.moved) else { return };
        if !self.agrees() && !self.jammed() && self.now >= moved + self.travel() {
            let forced = self.state.reached && latch == Position::Locked;
            self.raise(if forced { Fault::Forced } else { Fault::Jam });
        }
        if !self.agrees() && self.jammed() {
            self.state.reached = false;
        }
    }

    /// Notes that the latch has arrived.
    fn reach(&mut self) {
        if self.state.reached || !self.agrees() {
            return;
        }
        self.state.reached = true;
        if self.state.sensor.is_none() {
            return;
        }
        if !self.state.faults.contains(Fault::Latch) {
            self.state.tries = 0;
        }
        // Where the safe state is unlocked, finding it there proves nothing about the latch that would not lock.
        if self.state.latch == Some(Position::Locked) {
            self.clear(Fault::Jam);
            self.clear(Fault::Forced);
        }
    }

    fn end_opening(&mut self) {
        let Some(opening) = &self.state.opening else { return };
        if !opening.closing {
            return;
        }
        if !self.obstructed() {
            self.state.opening = None;
        } else if self.now >= opening.limit {
            self.state.opening = None;
            self.raise(Fault::Obstructed);
            self.state.because = Because::Limit;
        }
    }

    /// Where the latch should be; none while it is to stay where it is.
    fn target(&self) -> Option<Position> {
        if self.state.stopped || self.state.faults.want_safe_state() && self.settings.safe_state == SafeState::Unlocked {
            Some(self.settings.safe_state.position())
        } else if self.state.opening.is_some() {
            None
        } else {
            Some(Position::Locked)
        }
    }

    /// The command that is to be given, and when.
    fn due(&self) -> Option<(Position, Monotonic)> {
        let target = self.target()?;
        let again = self.state.latch == Some(target);
        if again && (self.agrees() || !self.jammed()) {
            return None;
        }
        let failing = self.state.latch.is_none() && self.state.tries > 1;
        let pause = if again || failing { self.retry().max(self.interval()) } else { self.interval() };
        Some((target, self.state.moved.map_or(self.now, |moved| moved + pause)))
    }

    fn retry(&self) -> Duration {
        self.travel().max(RETRY).saturating_mul(1 << self.state.tries.min(6)).min(RETRY_MAX)
    }

    fn drive(&mut self) {
        let Some((target, at)) = self.due() else { return };
        if self.now >= at {
            if self.state.latch == Some(target) {
                self.state.tries = self.state.tries.saturating_add(1);
            }
            self.command(target);
        }
    }

    fn show(&mut self) {
        let (from, to) = (self.state.shown, self.phase());
        if from != to {
            self.actions.push(Action::Changed { from, to, because: self.state.because.clone() });
            self.state.shown = to;
            if to == Phase::Locked {
                self.state.not_before = self.now;
            }
        }
    }

    fn phase(&self) -> Phase {
        let state = &self.state;
        if state.stopped {
            return match (state.latch == self.target() && self.agrees(), self.settings.safe_state) {
                (false, _) => Phase::Relocking,
                (true, SafeState::Locked) => Phase::Locked,
                (true, SafeState::Unlocked) => Phase::Open,
            };
        }
        if !state.faults.is_empty() {
            let mut others = state.faults;
            others.remove(Fault::Starting);
            return if others.is_empty() { Phase::Starting } else { Phase::Fault };
        }
        match &state.opening {
            Some(opening) if opening.closing => Phase::Relocking,
            Some(_) if !self.agrees() => Phase::Unlocking,
            Some(opening) if opening.by == By::Override => Phase::OverrideUnlocked,
            Some(_) => Phase::Open,
            None if state.latch != Some(Position::Locked) || !self.agrees() => Phase::Relocking,
            None if state.held.is_some() => Phase::OverrideLocked,
            None => Phase::Locked,
        }
    }

    fn deadline(&self) -> Option<Monotonic> {
        let state = &self.state;
        let opening = state.opening.as_ref().map(|opening| if opening.closing { opening.limit } else { opening.until });
        let command = self.due().map(|(_, at)| at);
        let arrival = state.moved.filter(|_| state.latch.is_some() && !self.agrees() && !self.jammed());
        let arrival = arrival.map(|moved| moved + self.travel());
        [state.held, opening, command, arrival].into_iter().flatten().min()
    }
}

impl Faults {
    /// Whether the latch goes to the safe state. An obstruction locks whatever that is: nothing has failed.
    fn want_safe_state(self) -> bool {
        self.iter().any(|fault| fault != Fault::Obstructed)
    }
}
