//! The heartbeat's body: what a unit says of itself, many times a second, on every link.
//!
//! ```text
//! offset  bytes
//!  0      4   term              the highest term known; of a primary, its own
//!  4      1   role
//!  5      1   flags             1 workers, 2 eligible, 4 synced, 8 yielding, 16 preempt,
//!                               32 maintenance, 64 leaving
//!  6      1   priority
//!  7      1   link              the sender's link that this frame goes out on
//!  8      1   successor         whom it hands over to, or 0
//!  9      1   primary           whom it hears as primary, or 0
//! 10      2   shards            of its session table
//! 12      4   primary_term      the term of that primary, or 0
//! 16      4   primary_silence   microseconds of its silence, as detection counts it, or 0
//! 20      2   healthy           link weight
//! 22      2   total             link weight
//! 24      4   interval          microseconds between two of its heartbeats
//! 28      8   age               milliseconds as primary-capable
//! 36      8   configuration     hash
//! 44      4   sessions
//! 48      4   capacity
//! 52      8   packets per second
//! 60      2   busy              thousandths
//! 62      1   n ≤ 32, then n bytes of name, UTF-8
//!  .      1   n ≤ 32, then n bytes of software version, UTF-8
//!  .      1   n ≤ 16, then n peers that it hears: unit 1, boot 8, links 2
//!  .      1   n ≤ 64, then n positions of its streams: origin 1, shard 2, segment 8
//!             since version 2:
//!  .      1   oldest            version of the protocol that it speaks
//!  .      1   newest            version of the protocol that it speaks
//!  .      1   weight            its part of new sessions
//!  .      1   flags             1 willing
//!  .      4   owned             sessions that belong to it
//!  .      1   n ≤ 16, then n stations: interface 4, MAC 6
//!  .      1   n ≤ 32, then n parts of the configuration: name 4 (FNV-1a), digest 4; may be absent
//!  .          what a later version appends is ignored
//! ```
//!
//! A unit of version 1 ends after its positions, and passes over the rest of another's.
//!
//! Decoding allocates nothing and cannot panic.

use std::time::Duration;

use arrayvec::{ArrayString, ArrayVec};
use packet::Mac;

use crate::wire::{Malformed, Reader, Writer};
use crate::{Boot, ConfigPart, Health, LinkId, Load, Role, Settings, Station, UnitId};

/// A peer that a unit hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its id.
    pub unit: UnitId,
    /// Its start: the proof that the hearer is no recording made before that start.
    pub boot: Boot,
    /// The peer's links whose frames arrive, one bit each.
    pub links: u16,
}

/// How far a unit is in one stream of deltas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose stream.
    pub origin: UnitId,
    /// Which shard's.
    pub shard: u16,
    /// The last segment that was sent, or applied.
    pub segment: u64,
}

/// Name or version, bounded as on the wire.
pub type Text = ArrayString<{ Settings::MAX_TEXT }>;

/// What a unit says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The highest term known; of a primary, its own.
    pub term: u32,
    /// What it does.
    pub role: Role,
    /// Its workers forward.
    pub workers: bool,
    /// It may become primary.
    pub eligible: bool,
    /// It holds all sessions.
    pub synced: bool,
    /// It was primary and waits for its successor.
    pub yielding: bool,
    /// It takes the role from lower priorities.
    pub preempt: bool,
    /// The operator holds it out.
    pub maintenance: bool,
    /// It says goodbye.
    pub leaving: bool,
    /// Higher is preferred.
    pub priority: u8,
    /// The sender's link that this frame went out on.
    pub link: LinkId,
    /// Whom it hands over to.
    pub successor: Option<UnitId>,
    /// Whom it hears as primary, itself excluded.
    pub primary: Option<UnitId>,
    /// Shards of its session table.
    pub shards: u16,
    /// The term of that primary.
    pub primary_term: u32,
    /// How long ago it heard that primary.
    pub primary_silence: Duration,
    /// Its monitored links.
    pub health: Health,
    /// Time between two of its heartbeats.
    pub interval: Duration,
    /// For how long it could have been primary.
    pub age: Duration,
    /// Hash of its configuration where all must be equal.
    pub config_hash: u64,
    /// What it is busy with.
    pub load: Load,
    /// Its name.
    pub name: Text,
    /// Its software version.
    pub software: Text,
    /// The peers that it hears.
    pub heard: ArrayVec<Heard, { UnitId::MAX as usize }>,
    /// Where it is in the streams of deltas.
    pub positions: ArrayVec<Position, { Heartbeat::MAX_POSITIONS }>,
    /// The oldest version of the protocol that it speaks.
    pub oldest: u8,
    /// The newest one. With 1 the heartbeat has none of what follows.
    pub newest: u8,
    /// Its part of the new sessions, relative to the others'.
    pub weight: u8,
    /// Sessions may belong to it: it neither goes nor hands over.
    pub willing: bool,
    /// Where it is reached: its own MACs on the traffic interfaces whose links are up.
    pub stations: Stations,
    /// What the parts of its configuration are where all must be equal, so that a difference can be named.
    pub config_parts: ConfigParts,
}

/// The parts of a unit's configuration, by [`name_key`](crate::name_key).
pub type ConfigParts = ArrayVec<(u32, u32), { ConfigPart::MAX }>;

/// The stations of a unit.
pub type Stations = ArrayVec<Station, { Settings::MAX_STATIONS }>;

mod flag {
    pub(super) const WORKERS: u8 = 1;
    pub(super) const ELIGIBLE: u8 = 2;
    pub(super) const SYNCED: u8 = 4;
    pub(super) const YIELDING: u8 = 8;
    pub(super) const PREEMPT: u8 = 16;
    pub(super) const MAINTENANCE: u8 = 32;
    pub(super) const LEAVING: u8 = 64;

    // In the flags that version 2 appended.
    pub(super) const WILLING: u8 = 1;
}

/// Terms above this are refused: session versions have 24 bits for them, and a term near the end of
/// the range would leave no higher one.
pub const MAX_TERM: u32 = (1 << 24) - 1;

impl Heartbeat {
    /// The most stream positions in one heartbeat.
    pub const MAX_POSITIONS: usize = 64;

    /// As on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(160);
        w.u32(self.term);
        w.u8(self.role as u8);
        w.u8(self.flags());
        w.u8(self.priority);
        w.u8(self.link.0);
        w.u8(self.successor.map_or(0, UnitId::get));
        w.u8(self.primary.map_or(0, UnitId::get));
        w.u16(self.shards);
        w.u32(self.primary_term);
        w.u32(micros(self.primary_silence));
        w.u16(self.health.healthy);
        w.u16(self.health.total);
        w.u32(micros(self.interval));
        w.u64(u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX));
        w.u64(self.config_hash);
        w.u32(self.load.sessions);
        w.u32(self.load.capacity);
        w.u64(self.load.packets_per_second);
        w.u16(self.load.busy_permille);
        w.text(&self.name);
        w.text(&self.software);
        w.count(self.heard.len());
        for peer in &self.heard {
            w.u8(peer.unit.get());
            w.u64(peer.boot.0);
            w.u16(peer.links);
        }
        w.count(self.positions.len());
        for position in &self.positions {
            w.u8(position.origin.get());
            w.u16(position.shard);
            w.u64(position.segment);
        }
        if self.newest > 1 {
            self.encode_second(&mut w);
        }
        w.into_bytes()
    }

    /// What version 2 appended.
    fn encode_second(&self, w: &mut Writer) {
        w.u8(self.oldest);
        w.u8(self.newest);
        w.u8(self.weight);
        w.u8(if self.willing { flag::WILLING } else { 0 });
        w.u32(self.load.owned);
        w.count(self.stations.len());
        for station in &self.stations {
            w.u32(station.interface);
            w.array(station.mac.0);
        }
        if self.config_parts.is_empty() {
            return;
        }
        w.count(self.config_parts.len());
        for (name, digest) in &self.config_parts {
            w.u32(*name);
            w.u32(*digest);
        }
    }

    fn flags(&self) -> u8 {
        [
            (self.workers, flag::WORKERS),
            (self.eligible, flag::ELIGIBLE),
            (self.synced, flag::SYNCED),
            (self.yielding, flag::YIELDING),
            (self.preempt, flag::PREEMPT),
            (self.maintenance, flag::MAINTENANCE),
            (self.leaving, flag::LEAVING),
        ]
        .into_iter()
        .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`], and says what.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let term = r.u32()?;
        let role = Role::from_wire(r.u8()?).ok_or(Malformed::Value("role"))?;
        let flags = r.u8()?;
        let priority = r.u8()?;
        let link = LinkId(r.u8()?);
        let successor = optional_unit(r.u8()?)?;
        let primary = optional_unit(r.u8()?)?;
        let shards = r.u16()?;
        let primary_term = r.u32()?;
        let primary_silence = Duration::from_micros(r.u32()?.into());
        let health = Health {
            healthy: r.u16()?,
            total: r.u16()?,
        };
        let interval = Duration::from_micros(r.u32()?.into());
        let age = Duration::from_millis(r.u64()?);
        let config_hash = r.u64()?;
        let load = Load {
            sessions: r.u32()?,
            owned: 0,
            capacity: r.u32()?,
            packets_per_second: r.u64()?,
            busy_permille: r.u16()?,
        };
        if term > MAX_TERM || primary_term > MAX_TERM {
            return Err(Malformed::Value("term"));
        }
        if link.index() >= Settings::MAX_LINKS {
            return Err(Malformed::Value("link"));
        }
        if health.healthy > health.total {
            return Err(Malformed::Value("health"));
        }
        let has = |bit| flags & bit != 0;
        let mut beat = Self {
            term,
            role,
            workers: has(flag::WORKERS),
            eligible: has(flag::ELIGIBLE),
            synced: has(flag::SYNCED),
            yielding: has(flag::YIELDING),
            preempt: has(flag::PREEMPT),
            maintenance: has(flag::MAINTENANCE),
            leaving: has(flag::LEAVING),
            priority,
            link,
            successor,
            primary,
            shards,
            primary_term,
            primary_silence,
            health,
            interval,
            age,
            config_hash,
            load,
            name: text(&mut r)?,
            software: text(&mut r)?,
            heard: heard(&mut r)?,
            positions: positions(&mut r)?,
            oldest: 1,
            newest: 1,
            weight: 0,
            willing: false,
            stations: Stations::new(),
            config_parts: ConfigParts::new(),
        };
        if !r.is_empty() {
            beat.decode_second(&mut r)?;
        }
        Ok(beat)
    }

    /// What version 2 appended.
    fn decode_second(&mut self, r: &mut Reader<'_>) -> Result<(), Malformed> {
        self.oldest = r.u8()?;
        self.newest = r.u8()?;
        if self.oldest == 0 || self.newest < self.oldest.max(2) {
            return Err(Malformed::Value("versions"));
        }
        self.weight = r.u8()?;
        self.willing = r.u8()? & flag::WILLING != 0;
        self.load.owned = r.u32()?;
        for _ in 0..r.u8()? {
            let station = Station {
                interface: r.u32()?,
                mac: Mac(r.array()?),
            };
            if station.mac.is_group() || station.mac == Mac::ZERO {
                return Err(Malformed::Value("station"));
            }
            self.stations
                .try_push(station)
                .map_err(|_| Malformed::Value("number of stations"))?;
        }
        if r.is_empty() {
            return Ok(());
        }
        for _ in 0..r.u8()? {
            let part = (r.u32()?, r.u32()?);
            self.config_parts
                .try_push(part)
                .map_err(|_| Malformed::Value("number of parts"))?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn unit(id: u8) -> Result<UnitId, Malformed> {
    UnitId::new(id).ok_or(Malformed::Value("unit"))
}

fn optional_unit(id: u8) -> Result<Option<UnitId>, Malformed> {
    if id == 0 {
        Ok(None)
    } else {
        unit(id).map(Some)
    }
}

fn text(r: &mut Reader<'_>) -> Result<Text, Malformed> {
    let len = usize::from(r.u8()?);
    let text = str::from_utf8(r.bytes(len)?).map_err(|_| Malformed::Value("text"))?;
    Text::from(text).map_err(|_| Malformed::Value("text length"))
}

fn heard(r: &mut Reader<'_>) -> Result<ArrayVec<Heard, { UnitId::MAX as usize }>, Malformed> {
    let mut list = ArrayVec::new();
    for _ in 0..r.u8()? {
        let peer = Heard {
            unit: unit(r.u8()?)?,
            boot: Boot(r.u64()?),
            links: r.u16()?,
        };
        list.try_push(peer)
            .map_err(|_| Malformed::Value("number of peers"))?;
    }
    Ok(list)
}

fn positions(
    r: &mut Reader<'_>,
) -> Result<ArrayVec<Position, { Heartbeat::MAX_POSITIONS }>, Malformed> {
    let mut list = ArrayVec::new();
    for _ in 0..r.u8()? {
        let position = Position {
            origin: unit(r.u8()?)?,
            shard: r.u16()?,
            segment: r.u64()?,
        };
        list.try_push(position)
            .map_err(|_| Malformed::Value("number of positions"))?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Version 1. Written by hand from the table above.
    const FIRST: [&str; 4] = [
        "000102030217c8010003000200000009000005dc000100020000271000000000",
        "0000ea600000000000c0ffee0000000500000064000000000000000700fa0467",
        "772d6105302e312e300102000000000000009900030101000100000000000000",
        "2a",
    ];
    /// What version 2 appends.
    const SECOND: &str = "010203010000000402566080100274670000012be2e301027467000002";
    /// What stands behind it where parts of the configuration are told.
    const PARTS: &str = "02e40c292c01020304bf9cf968ffffffff";

    fn bytes(digits: &str) -> Vec<u8> {
        (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect()
    }

    fn first() -> Vec<u8> {
        bytes(&FIRST.concat())
    }

    fn second() -> Vec<u8> {
        [first(), bytes(SECOND)].concat()
    }

    fn with_parts() -> Vec<u8> {
        [second(), bytes(PARTS)].concat()
    }

    fn first_beat() -> Heartbeat {
        let unit = |id| UnitId::new(id).unwrap();
        Heartbeat {
            term: 0x01_0203,
            role: Role::Primary,
            workers: true,
            eligible: true,
            synced: true,
            yielding: false,
            preempt: true,
            maintenance: false,
            leaving: false,
            priority: 200,
            link: LinkId(1),
            successor: None,
            primary: Some(unit(3)),
            shards: 2,
            primary_term: 9,
            primary_silence: Duration::from_micros(1_500),
            health: Health {
                healthy: 1,
                total: 2,
            },
            interval: Duration::from_millis(10),
            age: Duration::from_secs(60),
            config_hash: 0xC0_FFEE,
            load: Load {
                sessions: 5,
                owned: 0,
                capacity: 100,
                packets_per_second: 7,
                busy_permille: 250,
            },
            name: "gw-a".try_into().unwrap(),
            software: "0.1.0".try_into().unwrap(),
            heard: [Heard {
                unit: unit(2),
                boot: Boot(0x99),
                links: 3,
            }]
            .into_iter()
            .collect(),
            positions: [Position {
                origin: unit(1),
                shard: 1,
                segment: 42,
            }]
            .into_iter()
            .collect(),
            oldest: 1,
            newest: 1,
            weight: 0,
            willing: false,
            stations: Stations::new(),
            config_parts: ConfigParts::new(),
        }
    }

    fn second_beat() -> Heartbeat {
        let station = |interface, last| Station {
            interface: crate::name_key(interface),
            mac: Mac([2, 0x74, 0x67, 0, 0, last]),
        };
        let mut beat = first_beat();
        beat.newest = 2;
        beat.weight = 3;
        beat.willing = true;
        beat.load.owned = 4;
        beat.stations = [station("lan", 1), station("wan", 2)].into_iter().collect();
        beat
    }

    #[test]
    fn golden_heartbeats() {
        assert_eq!(first_beat().encode(), first());
        assert_eq!(Heartbeat::decode(&first()), Ok(first_beat()));
        let hex = |body: &[u8]| body.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&second_beat().encode()), hex(&second()));
        assert_eq!(Heartbeat::decode(&second()), Ok(second_beat()));
        let mut beat = second_beat();
        let parts = [("a", 0x0102_0304), ("foobar", u32::MAX)];
        beat.config_parts = parts
            .into_iter()
            .map(|(name, digest)| (crate::name_key(name), digest))
            .collect();
        assert_eq!(hex(&beat.encode()), hex(&with_parts()));
        assert_eq!(Heartbeat::decode(&with_parts()), Ok(beat));
    }

    #[test]
    fn truncation_is_noticed_and_what_is_appended_is_ignored() {
        let (ends, golden) = ([first().len(), second().len()], with_parts());
        for len in (0..golden.len()).filter(|len| !ends.contains(len)) {
            assert_eq!(Heartbeat::decode(&golden[..len]), Err(Malformed::Truncated));
        }
        let longer = [&golden[..], &[1, 2, 3]].concat();
        assert_eq!(Heartbeat::decode(&longer), Heartbeat::decode(&golden));
    }

    #[test]
    fn values_out_of_their_limits_are_refused() {
        let end = first().len();
        let cases = [
            (4, 5, "role"),
            (7, 16, "link"),
            (8, 17, "unit"),
            (0, 1, "term"),
            (21, 3, "health"),
            (end, 0, "versions"),
            (end + 1, 1, "versions"),
            (end + 13, 1, "station"),
            (second().len(), 33, "number of parts"),
        ];
        for (offset, value, name) in cases {
            let mut body = [with_parts(), vec![0; 8 * 32]].concat();
            body[offset] = value;
            assert_eq!(Heartbeat::decode(&body), Err(Malformed::Value(name)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read_and_written_alike(
            start in 0..150_usize, noise in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let mut body = with_parts();
            body.truncate(start);
            body.extend(noise);
            if let Ok(beat) = Heartbeat::decode(&body) {
                prop_assert_eq!(Heartbeat::decode(&beat.encode()), Ok(beat));
            }
        }
    }
}
