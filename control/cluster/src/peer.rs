//! What a unit knows of another: on which links it is heard, and what it said last.

use std::time::Duration;

use arrayvec::ArrayVec;

use crate::election::Claim;
use crate::envelope::{Seal, Window};
use crate::heartbeat::{Heard, Heartbeat, Stations};
use crate::{Boot, ConfigPart, LinkId, Role, Settings, Time, UnitId, name_key};

/// One start of a peer, and the starts before it.
///
/// A peer is *alive* while any link brings its frames, and *verified* once it has echoed our own boot:
/// then it hears us, and is no recording of frames that were sent before we started. What an unverified
/// peer says may hold us back, but never makes us step down, follow or raise the term.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) unit: UnitId,
    pub(crate) boot: Boot,
    pub(crate) seal: Seal,
    pub(crate) window: Window,
    /// Starts that were verified and are over. They never come back, however they are echoed.
    retired: ArrayVec<Boot, 16>,
    /// The start that was known before this one. Either may be a recording, even one that was made since our
    /// start, and the other be live.
    before: Option<Box<Self>>,
    pub(crate) verified: bool,
    pub(crate) alive: bool,
    pub(crate) left: bool,
    /// Another start that is heard while this one is alive.
    rival: Option<Rival>,
    /// Synchronisation was told that it is up.
    pub(crate) in_sync: bool,
    /// The newest heartbeat by sequence, and when it came.
    pub(crate) beat: Heartbeat,
    pub(crate) beat_sequence: u64,
    pub(crate) beat_at: Time,
    /// When a heartbeat came last, the newest or not: the first of its copies, which go out on all links.
    beaten_at: Time,
    /// The sequence and the peer's link of that copy.
    beaten_by: (u64, LinkId),
    /// Every station that it named, the newest of each interface.
    pub(crate) sources: Stations,
    /// While it claims to be primary: since when at the most, which is when it last said that it was not.
    pub(crate) primary_since: Time,
    pub(crate) last_heard: Time,
    /// By link of ours: when a frame came last, and whether that link counts as alive.
    pub(crate) links: ArrayVec<PeerLink, { Settings::MAX_LINKS }>,
    /// By link of the peer's: when a heartbeat came last.
    remote: [Option<Time>; Settings::MAX_LINKS],
    /// Since when it has heard everybody that this unit hears.
    pub(crate) hears_all_since: Option<Time>,
    pub(crate) configuration_agrees: bool,
    /// The parts in which it does not, as they were last told of.
    pub(crate) differences: Vec<String>,
}

/// A later start of a peer that is alive: either it has just started anew, or two units have one id.
#[derive(Clone, Copy, Debug)]
struct Rival {
    boot: Boot,
    /// When it was heard first.
    since: Time,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PeerLink {
    pub(crate) last_heard: Option<Time>,
    pub(crate) alive: bool,
}

impl Peer {
    pub(crate) fn new(
        unit: UnitId,
        boot: Boot,
        seal: Seal,
        beat: Heartbeat,
        links: usize,
        now: Time,
    ) -> Self {
        Self {
            unit,
            boot,
            seal,
            window: Window::default(),
            retired: ArrayVec::new(),
            before: None,
            rival: None,
            verified: false,
            alive: false,
            left: false,
            in_sync: false,
            beat,
            beat_sequence: 0,
            beat_at: now,
            beaten_at: now,
            beaten_by: (0, LinkId(0)),
            sources: Stations::new(),
            primary_since: Time(0),
            last_heard: now,
            links: (0..links).map(|_| PeerLink::default()).collect(),
            remote: [None; Settings::MAX_LINKS],
            hears_all_since: None,
            configuration_agrees: true,
            differences: Vec::new(),
        }
    }

    /// The same unit after another start: nothing but its past and its stations are kept. A start that was never
    /// verified is no past: it may be live, cut off one way, and this one a recording.
    pub(crate) fn restarted(
        self: Box<Self>,
        boot: Boot,
        seal: Seal,
        beat: Heartbeat,
        now: Time,
    ) -> Self {
        let mut fresh = Self::new(self.unit, boot, seal, beat, self.links.len(), now);
        fresh.retired.clone_from(&self.retired);
        fresh.sources.clone_from(&self.sources);
        if self.verified {
            fresh.keep(self);
        } else {
            fresh.before = self.before;
        }
        fresh
    }

    /// Keeps another start, which may go on, instead of the one before it.
    fn keep(&mut self, mut other: Box<Self>) {
        if let Some(over) = other.before.take() {
            self.retire(over.boot);
        }
        self.before = Some(other);
    }

    /// Our start was echoed: this start is no recording from before ours.
    pub(crate) const fn verify(&mut self) {
        self.verified = true;
    }

    /// The start that was known before this one, if it was verified.
    pub(crate) fn before(&self, boot: Boot) -> Option<&Self> {
        self.before.as_deref().filter(|before| before.boot == boot)
    }

    /// Whether the start before this one may go on: a later one always, an earlier one if this one proves
    /// nothing or is silent.
    pub(crate) const fn gives_way_to(&self, before: &Self) -> bool {
        !self.trusted() || before.boot.0 > self.boot.0
    }

    /// The start before this one goes on.
    pub(crate) fn restored(mut self: Box<Self>) -> Box<Self> {
        let Some(mut before) = self.before.take() else {
            return self;
        };
        (before.alive, before.left, before.in_sync) = (false, false, false);
        before.retired.clone_from(&self.retired);
        if self.verified {
            before.keep(self);
        }
        before
    }

    /// Another start of this unit is heard, that is no recording. True when this one, which is alive, has gone on
    /// for longer than what it sent before it ended could have been under way.
    pub(crate) fn contend(&mut self, boot: Boot, detection: Duration, now: Time) -> bool {
        let known = self.rival.filter(|rival| rival.boot == boot);
        let rival = known.unwrap_or(Rival { boot, since: now });
        self.rival = Some(rival);
        self.last_heard > rival.since + detection
    }

    fn retire(&mut self, boot: Boot) {
        if self.retired.is_full() {
            self.retired.remove(0);
        }
        self.retired.push(boot);
    }

    pub(crate) fn is_retired(&self, boot: Boot) -> bool {
        self.retired.contains(&boot)
    }

    /// An authentic frame came.
    pub(crate) fn heard_on(&mut self, link: LinkId, now: Time) {
        self.last_heard = now;
        if let Some(state) = self.links.get_mut(link.index()) {
            state.last_heard = Some(now);
        }
    }

    /// A heartbeat went out on this link of the peer's and arrived. Its copies leave one after the other, in
    /// the order of links, so that two are of one heartbeat if they are no farther apart than their links.
    pub(crate) fn reached_from(&mut self, link: LinkId, sequence: u64, now: Time) {
        self.remote[link.index()] = Some(now);
        let (known, by) = self.beaten_by;
        let (apart, links) = (sequence.abs_diff(known), link.0.abs_diff(by.0));
        let is_copy = apart <= u64::from(links) && (sequence > known) == (link.0 > by.0);
        if !is_copy {
            self.beaten_at = now;
            self.beaten_by = (sequence, link);
        }
    }

    /// Silence after which this peer counts as dead: the slower of both beats, `loss` times.
    pub(crate) fn detection(&self, settings: &Settings) -> Duration {
        self.interval(settings) * settings.heartbeat_loss
    }

    /// The slower of both beats.
    fn interval(&self, settings: &Settings) -> Duration {
        let theirs = self.beat.interval.min(Duration::from_secs(60));
        settings.heartbeat_interval.max(theirs)
    }

    /// When the last heartbeat came, or was due that a later frame of another kind makes up for. Such a frame
    /// proves life, but moves no heartbeat: what is missing afterwards counts from where it was due, so
    /// that a busy peer is not noticed later than a quiet one.
    pub(crate) fn silent_since(&self, settings: &Settings) -> Time {
        let made_up = self.last_heard.since(self.beaten_at);
        let interval = self.interval(settings).as_nanos().max(1);
        let missed = u32::try_from(made_up.as_nanos() / interval).unwrap_or(u32::MAX);
        self.beaten_at + self.interval(settings).saturating_mul(missed)
    }

    /// The time that we were stopped ourselves is no silence of the peer's.
    pub(crate) fn forgive(&mut self, pause: Duration) {
        self.last_heard = self.last_heard + pause;
        self.beat_at = self.beat_at + pause;
        self.beaten_at = self.beaten_at + pause;
        if let Some(rival) = &mut self.rival {
            rival.since = rival.since + pause;
        }
        let links = self
            .links
            .iter_mut()
            .filter_map(|link| link.last_heard.as_mut());
        for time in links.chain(self.remote.iter_mut().flatten()) {
            *time = *time + pause;
        }
    }

    /// Alive and no recording.
    pub(crate) const fn trusted(&self) -> bool {
        self.alive && self.verified
    }

    /// Takes a heartbeat in that is newer than the last one.
    pub(crate) fn said(&mut self, beat: Heartbeat, sequence: u64, now: Time) {
        let (is_first, was_primary) = (self.beat_sequence == 0, self.claims_primary());
        self.learn_sources(&beat.stations);
        self.beat = beat;
        self.beat_sequence = sequence;
        let before = std::mem::replace(&mut self.beat_at, now);
        if is_first {
            self.primary_since = Time(0);
        } else if !was_primary {
            self.primary_since = before;
        }
    }

    fn learn_sources(&mut self, stations: &Stations) {
        for station in stations {
            let known = &mut self.sources.iter_mut();
            match known.find(|known| known.interface == station.interface) {
                Some(known) => *known = *station,
                // Who names ever other interfaces is believed the first.
                None => _ = self.sources.try_push(*station),
            }
        }
    }

    /// Compares what it last said with this unit's configuration. True when there is something new to tell of.
    pub(crate) fn compare_configuration(&mut self, settings: &Settings) -> bool {
        let agrees = self.beat.config_hash == settings.config_hash;
        let told = &self.beat.config_parts;
        let differ = |part: &&ConfigPart| !told.contains(&(name_key(&part.name), part.digest));
        let parts = settings.config_parts.iter();
        let differences: Vec<String> = match agrees || told.is_empty() {
            true => Vec::new(),
            false => parts.filter(differ).map(|part| part.name.clone()).collect(),
        };
        let is_new = agrees != self.configuration_agrees || differences != self.differences;
        self.configuration_agrees = agrees;
        self.differences = differences;
        is_new
    }

    /// It says that it is primary, and can be believed to serve.
    pub(crate) fn claims_primary(&self) -> bool {
        self.beat.role == Role::Primary && self.beat.workers && !self.beat.yielding
    }

    /// What it says of hearing a unit's start.
    pub(crate) fn hears(&self, unit: UnitId, boot: Boot) -> Option<&Heard> {
        self.beat
            .heard
            .iter()
            .find(|heard| heard.unit == unit && heard.boot == boot)
    }

    pub(crate) fn claim(&self) -> Claim {
        Claim {
            term: self.beat.term,
            health: self.beat.health.healthy,
            priority: self.beat.priority,
            unit: std::cmp::Reverse(self.unit),
        }
    }

    /// The peer's links that reach us, one bit each.
    pub(crate) fn remote_links(&self, detection: Duration, now: Time) -> u16 {
        let alive = |time: &Option<Time>| time.is_some_and(|time| now < time + detection);
        let links = (0_u16..).zip(&self.remote).filter(|(_, time)| alive(time));
        links.fold(0, |bits, (link, _)| bits | 1 << link)
    }
}
