//! Who on the wire does not belong here: another cluster with this one's id, a unit with another's id, a
//! release that is too far away. Both sides refuse each other's frames, so both say it, by this.
//!
//! One line per stranger and minute, not one per frame; the frames are counted elsewhere. A single bad
//! frame is nothing to tell of: a bit may have been flipped on the way.

use std::time::Duration;

use api::EventLevel;
use cluster::{Rejection, Time, UnitId};
use packet::Mac;

use crate::events::Events;
use crate::startup::ETHERNET_HEADER;

/// So many frames of a kind, none longer than [`MEMORY`] after the one before, are no accident.
const SUSPICION: u32 = 3;
/// How long a frame is remembered as the beginning of something.
const MEMORY: Duration = Duration::from_secs(10);
/// How long a stranger that was told of is not told of again.
const SILENCE: Duration = Duration::from_secs(60);
/// Ids that stand in a frame: those of units, and 0 for all that are no unit's.
const IDS: usize = UnitId::MAX as usize + 1;

/// What is wrong with a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It has another key.
    Key,
    /// It has the id of this unit, or of another one that is alive.
    Id,
    /// It has another unit's id, or is a recording of it.
    Past,
    /// It speaks another version.
    Version,
}

impl Fault {
    const ALL: usize = 4;

    fn of(reason: Rejection) -> Option<Self> {
        match reason {
            Rejection::Authentication => Some(Self::Key),
            Rejection::DuplicateUnit => Some(Self::Id),
            Rejection::OldBoot => Some(Self::Past),
            Rejection::Version => Some(Self::Version),
            _ => None,
        }
    }
}

/// What is remembered of the strangers with one fault and one id.
#[derive(Clone, Copy, Debug)]
struct Sightings {
    frames: u32,
    last: Time,
    told: Option<Time>,
}

/// A line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notice {
    level: EventLevel,
    kind: &'static str,
    message: String,
}

/// Where a frame was refused, and by whom.
pub(crate) struct Place<'a> {
    /// The interface's name.
    pub(crate) interface: &'a str,
    /// The cluster's id.
    pub(crate) cluster: u16,
}

/// The strangers that were seen.
#[derive(Debug)]
pub(crate) struct Strangers([[Sightings; IDS]; Fault::ALL]);

impl Strangers {
    /// None.
    pub(crate) fn none() -> Self {
        let never = Sightings {
            frames: 0,
            last: Time(0),
            told: None,
        };
        Self([[never; IDS]; Fault::ALL])
    }

    /// The cluster refused this Ethernet frame for that reason: the operator is told, if it is time.
    pub(crate) fn meet(
        &mut self,
        reason: Rejection,
        frame: &[u8],
        place: &Place<'_>,
        now: Time,
        events: &mut Events,
    ) {
        if let Some(notice) = self.notice(reason, frame, place, now) {
            events.record(now, notice.level, notice.kind, notice.message);
        }
    }

    /// What the operator should read.
    fn notice(
        &mut self,
        reason: Rejection,
        frame: &[u8],
        place: &Place<'_>,
        now: Time,
    ) -> Option<Notice> {
        let fault = Fault::of(reason)?;
        let source = Mac(*frame.get(6..)?.first_chunk()?);
        let payload = frame.get(ETHERNET_HEADER..)?;
        let (version, unit) = (*payload.first()?, *payload.get(4)?);
        // Of a foreign version nobody knows where the cluster's id stands; it is in the address.
        if fault == Fault::Version && frame[3..5] != place.cluster.to_be_bytes() {
            return None;
        }
        let seen = &mut self.0[fault as usize][usize::from(unit) % IDS];
        let goes_on = now.since(seen.last) < MEMORY;
        seen.frames = if goes_on { seen.frames + 1 } else { 1 };
        seen.last = now;
        let recent = seen.told.is_some_and(|told| now.since(told) < SILENCE);
        if seen.frames < SUSPICION || recent {
            return None;
        }
        seen.told = Some(now);
        Some(describe(fault, source, unit, version, place))
    }
}

fn describe(fault: Fault, source: Mac, unit: u8, version: u8, place: &Place<'_>) -> Notice {
    let Place { interface, cluster } = place;
    let (level, kind, what) = match fault {
        Fault::Key => (
            EventLevel::Error,
            "foreign_key",
            format!(
                "says it is unit {unit} of cluster {cluster}, with another key; give it this cluster's \
                 key file, or its cluster another id"
            ),
        ),
        Fault::Id => (
            EventLevel::Error,
            "duplicate_unit",
            format!("is unit {unit} of this cluster too; give one of both another unit.id"),
        ),
        Fault::Past => (
            EventLevel::Warning,
            "duplicate_unit",
            format!(
                "sends as unit {unit} did before its last start; two units have this id, or somebody \
                 plays a recording"
            ),
        ),
        Fault::Version => (
            EventLevel::Error,
            "foreign_version",
            format!(
                "says it is unit {unit} and speaks version {version} of the protocol, which this \
                 release does not; bring both to the same release"
            ),
        ),
    };
    Notice {
        level,
        kind,
        message: format!("interface {interface}: {source} {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        interface: "sync",
        cluster: 7,
    };

    /// A frame of cluster 7, of this version and unit.
    fn frame(version: u8, unit: u8) -> Vec<u8> {
        let mut frame = vec![0x03, 0x74, 0x67, 0, 7, 0, 2, 0, 0, 0, 0, 0x99, 0x88, 0xb5];
        frame.extend([version, 1, 0, 7, unit, 0]);
        frame
    }

    fn at(seconds: u64) -> Time {
        Time((1_000 + seconds) * 1_000_000_000)
    }

    #[test]
    fn a_stranger_is_named_once_a_minute() {
        let mut strangers = Strangers::none();
        let told: Vec<u64> = (0..130)
            .filter(|second| {
                let notice =
                    strangers.notice(Rejection::Authentication, &frame(1, 3), &PLACE, at(*second));
                notice.is_some()
            })
            .collect();
        assert_eq!(told, [2, 62, 122]);
    }

    #[test]
    fn single_bad_frames_are_nothing_to_tell_of() {
        let mut strangers = Strangers::none();
        for second in (0..1_000).step_by(10) {
            let notice =
                strangers.notice(Rejection::Authentication, &frame(1, 3), &PLACE, at(second));
            assert_eq!(notice, None);
        }
    }

    #[test]
    fn each_fault_has_its_line() {
        let mut strangers = Strangers::none();
        let mut line = |reason, version, unit| {
            let frame = frame(version, unit);
            let mut last = None;
            for _ in 0..SUSPICION {
                last = strangers.notice(reason, &frame, &PLACE, at(0));
            }
            last.map(|notice| notice.message)
        };
        assert_eq!(
            line(Rejection::Authentication, 1, 3).unwrap(),
            "interface sync: 02:00:00:00:00:99 says it is unit 3 of cluster 7, with another key; give it \
             this cluster's key file, or its cluster another id"
        );
        assert_eq!(
            line(Rejection::DuplicateUnit, 1, 1).unwrap(),
            "interface sync: 02:00:00:00:00:99 is unit 1 of this cluster too; give one of both another \
             unit.id"
        );
        assert!(
            line(Rejection::OldBoot, 1, 2)
                .unwrap()
                .contains("as unit 2 did before")
        );
        assert!(
            line(Rejection::Version, 9, 4)
                .unwrap()
                .contains("version 9")
        );
        assert_eq!(line(Rejection::Replayed, 1, 2), None);
        assert_eq!(line(Rejection::Cluster, 1, 2), None);
    }

    #[test]
    fn short_frames_and_odd_ids_are_taken_as_they_are() {
        let mut strangers = Strangers::none();
        let whole = frame(1, 255);
        for length in 0..=whole.len() {
            for _ in 0..SUSPICION {
                strangers.notice(Rejection::Authentication, &whole[..length], &PLACE, at(0));
            }
        }
        let other = [&frame(9, 1)[..4], &[8], &frame(9, 1)[5..]].concat();
        for _ in 0..=SUSPICION {
            assert_eq!(
                strangers.notice(Rejection::Version, &other, &PLACE, at(0)),
                None
            );
        }
    }
}
