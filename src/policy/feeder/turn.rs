//! One step of the feeder. First what is due by now, then the event.

use std::time::Duration;

use jiff::civil::Date;

use super::{Action, Because, Event, Ledger, Outcome, Phase, Refused, Request, Reservation, Settings, State, Step, Wait};
use crate::hw::clock::Monotonic;
use crate::policy::fault::Fault;

/// Least time to wait for an answer: with none, no answer could ever be in time.
const ANSWER_MIN: Duration = Duration::from_millis(1);

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
        self.settle();
        self.handle(event);
        self.settle();
        Step { deadline: self.deadline(), state: self.state, actions: self.actions, refused: self.refused }
    }

    fn handle(&mut self, event: &Event) {
        match event {
            Event::Tick => {}
            Event::Request(request) => self.request(request),
            Event::Deny => self.drop_rest(Because::Denied),
            Event::Nobody => self.state.served = false,
            Event::Restored(ledger) => self.restored(ledger),
            Event::Reserved(id) => self.reserved(*id),
            Event::LedgerFailed => self.raise(Fault::Ledger),
            Event::Dispensed(id) => self.answered(*id, Outcome::Given),
            Event::Failed(id) => self.answered(*id, Outcome::Unknown),
            Event::Fault(fault) => self.raise(*fault),
            Event::Cleared(Fault::Ledger) => {}
            Event::Cleared(fault) => self.clear(*fault),
            Event::Stop => {
                self.state.stopped = true;
                self.drop_rest(Because::Stop);
            }
        }
    }
}

/// Events.
impl Turn<'_> {
    fn request(&mut self, request: &Request) {
        self.refused = self.refusal(request);
        if self.refused.is_none() {
            self.state.served = true;
            self.state.decision = Some(request.decision);
            self.state.because = Because::Requested { decision: request.decision, rule: request.rule.clone() };
            self.state.request = Some(request.clone());
            self.reserve();
        }
    }

    fn refusal(&self, request: &Request) -> Option<Refused> {
        let state = &self.state;
        if state.stopped {
            Some(Refused::Stopped)
        } else if let Some(fault) = state.faults.iter().next() {
            Some(Refused::Fault(fault))
        } else if state.decision.is_some_and(|decision| request.decision <= decision) {
            Some(Refused::Repeated)
        } else if state.wait != Wait::Nothing {
            Some(Refused::Busy)
        } else if state.served {
            Some(Refused::Served)
        } else if request.portions == 0 {
            Some(Refused::Nothing)
        } else if self.next().is_some_and(|next| self.now < next) {
            Some(Refused::TooSoon)
        } else if self.full(request.day) {
            Some(Refused::DayFull)
        } else {
            None
        }
    }

    fn restored(&mut self, ledger: &Ledger) {
        self.state.next_id = self.state.next_id.max(ledger.next_id);
        for &(day, count) in &ledger.counts {
            let known = self.state.counts.entry(day).or_default();
            *known = count.max(*known);
        }
        let current = match self.state.wait {
            Wait::Ledger(id, _) | Wait::Dispenser(id, _) => Some(id),
            Wait::Nothing | Wait::Interval(_) => None,
        };
        for &id in ledger.unsettled.iter().filter(|&&id| Some(id) != current) {
            self.actions.push(Action::Settle { id, outcome: Outcome::Unknown });
        }
        self.state.abandoned = None;
        // The last portion before a crash may have been a moment ago.
        self.state.last.get_or_insert(self.now);
        self.clear(Fault::Ledger);
    }

    fn reserved(&mut self, id: u64) {
        if self.state.abandoned.is_some_and(|(abandoned, _)| abandoned == id) {
            self.not_given();
        } else if matches!(self.state.wait, Wait::Ledger(waited, _) if waited == id) {
            self.state.wait = Wait::Dispenser(id, self.now + self.settings.portion_time.max(ANSWER_MIN));
            self.state.last = Some(self.now);
            self.actions.push(Action::Dispense { id });
        }
    }

    fn not_given(&mut self) {
        let Some((id, day)) = self.state.abandoned.take() else { return };
        self.actions.push(Action::Settle { id, outcome: Outcome::NotGiven });
        if let Some(count) = self.state.counts.get_mut(&day) {
            *count = count.saturating_sub(1);
        }
    }

    fn answered(&mut self, id: u64, outcome: Outcome) {
        if !matches!(self.state.wait, Wait::Dispenser(waited, _) if waited == id) {
            return;
        }
        self.actions.push(Action::Settle { id, outcome });
        self.state.wait = Wait::Nothing;
        if outcome != Outcome::Given {
            return self.raise(Fault::Dispenser);
        }
        self.state.because = Because::Given;
        match &self.state.request {
            Some(request) if request.portions > 0 => self.state.wait = Wait::Interval(self.next().unwrap_or(self.now)),
            _ => self.state.request = None,
        }
    }

    fn raise(&mut self, fault: Fault) {
        if self.state.faults.insert(fault) {
            self.actions.push(Action::Raised(fault));
        }
        self.drop_rest(Because::Fault(fault));
    }

    fn clear(&mut self, fault: Fault) {
        if self.state.faults.remove(fault) {
            self.actions.push(Action::Cleared(fault));
            self.state.because = Because::Cleared(fault);
        }
    }

    /// Gives nothing more; a portion that the dispenser was told to give is waited for.
    fn drop_rest(&mut self, because: Because) {
        let request = self.state.request.take();
        match (self.state.wait, request) {
            (Wait::Ledger(id, _), Some(request)) => {
                self.state.abandoned = Some((id, request.day));
                self.state.wait = Wait::Nothing;
            }
            (Wait::Interval(_), _) => self.state.wait = Wait::Nothing,
            _ => {}
        }
        self.state.because = because;
    }
}

/// What is due.
impl Turn<'_> {
    fn settle(&mut self) {
        match self.state.wait {
            Wait::Ledger(_, until) if self.now >= until => self.raise(Fault::Ledger),
            Wait::Dispenser(id, until) if self.now >= until => self.answered(id, Outcome::Unknown),
            Wait::Interval(until) if self.now >= until => self.reserve(),
            _ => {}
        }
        self.show();
    }

    /// Asks the ledger for the next portion of the request.
    fn reserve(&mut self) {
        self.state.wait = Wait::Nothing;
        let Some(mut request) = self.state.request.take() else { return };
        if self.full(request.day) {
            self.state.because = Because::DayFull;
            return;
        }
        let id = self.state.next_id;
        let Some(next_id) = id.checked_add(1) else { return self.raise(Fault::Ledger) };
        self.state.next_id = next_id;
        *self.state.counts.entry(request.day).or_default() += 1;
        request.portions = request.portions.saturating_sub(1);
        let (decision, rule, pet, day) = (request.decision, request.rule.clone(), request.pet.clone(), request.day);
        self.actions.push(Action::Reserve(Reservation { id, decision, rule, pet, day }));
        self.state.wait = Wait::Ledger(id, self.now + self.settings.portion_time.max(ANSWER_MIN));
        self.state.request = Some(request);
    }

    fn full(&self, day: Date) -> bool {
        self.state.count(day) >= self.settings.max_per_day
    }

    /// The first moment for another portion.
    fn next(&self) -> Option<Monotonic> {
        self.state.last.map(|last| last + self.settings.min_interval)
    }

    fn show(&mut self) {
        let (from, to) = (self.state.shown, self.phase());
        if from != to {
            self.actions.push(Action::Changed { from, to, because: self.state.because.clone() });
            self.state.shown = to;
        }
    }

    fn phase(&self) -> Phase {
        let state = &self.state;
        if let Wait::Dispenser(..) = state.wait {
            return Phase::Dispensing;
        }
        if state.stopped {
            return Phase::Stopped;
        }
        if !state.faults.is_empty() {
            return if state.faults.contains(Fault::Starting) { Phase::Starting } else { Phase::Fault };
        }
        match state.wait {
            Wait::Nothing => Phase::Ready,
            Wait::Ledger(..) => Phase::Reserving,
            Wait::Dispenser(..) => Phase::Dispensing,
            Wait::Interval(_) => Phase::Pausing,
        }
    }

    fn deadline(&self) -> Option<Monotonic> {
        match self.state.wait {
            Wait::Nothing => None,
            Wait::Ledger(_, until) | Wait::Dispenser(_, until) | Wait::Interval(until) => Some(until),
        }
    }
}
