//! The records that segments carry: one change each, or a mark of a repair.
//!
//! A record is a type, the length of its body, and the body; all integers are big-endian. A type with
//! [`SKIPPABLE`] set may be passed over by a unit that does not know it; any other unknown type makes
//! the segment unusable, because a change that is not understood must not be acknowledged.
//!
//! Addresses take the short form where both are IPv4, the reply tuple travels only where it is not the
//! reverse of the original one, TCP windows only where there are any. So a record is 33 bytes for a UDP
//! session, 46 with NAT, 72 for a translated TCP session over IPv4. How long a session may still live
//! travels as remaining ticks: units share no clock.
//!
//! Invariant: decoding never panics and never allocates more than its input holds.

use std::net::Ipv4Addr;

use packet::Tuple;
use session::{Flags, Session, State, TcpSide, Tick, Version};

use super::Malformed;
use crate::{Delta, RangeSet, UnitId};

/// Bit of a record's type: a unit that does not know the type passes over it.
pub const SKIPPABLE: u8 = 0x80;

const UPSERT: u8 = 1;
const REMOVE: u8 = 2;
const REPAIR_BEGIN: u8 = 3;
const REPAIR_END: u8 = 4;

/// The longest record that this version writes: a repair's begin that answers every peer.
pub const MAX_RECORD: usize = 2 + 50 + 5 * (UnitId::MAX as usize - 1);

const SHAPE_ORIGINAL_V4: u8 = 1;
const SHAPE_REPLY: u8 = 2;
const SHAPE_REPLY_V4: u8 = 4;
const SHAPE_TCP: u8 = 8;
const SHAPE_DOMAIN: u8 = 16;
const SHAPE_KNOWN: u8 = 31;

const SCALE_SACK: u8 = 0x80;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// One change to one session.
    Change(Delta),
    /// What follows in this stream mentions every session of the named ranges of this shard.
    RepairBegin(RepairBegin<'a>),
    /// The repair with this id is complete in this stream.
    RepairEnd {
        /// As in its [`RepairBegin`].
        id: u32,
    },
}

/// The head of a repair, once in each stream of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairBegin<'a> {
    /// Counts the repairs of this boot of the origin.
    pub id: u32,
    /// What is repaired.
    pub ranges: RangeSet,
    /// What a receiver holds beyond this version is newer than the repair and stays.
    pub floor: Version,
    /// The origin was primary and whole: what it does not mention does not exist.
    pub authoritative: bool,
    /// In how many streams the repair runs.
    pub shards: u16,
    /// Units that it is for, bit 0 for unit 1.
    pub targets: u16,
    /// Requests that it answers.
    pub answers: Answers<'a>,
}

/// The requests that a repair answers: five bytes each, the unit's id and the request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers<'a>(pub &'a [u8]);

impl Answers<'_> {
    /// Id of the request of `unit` among them.
    #[must_use]
    pub fn of(&self, unit: UnitId) -> Option<u32> {
        let (answers, _) = self.0.as_chunks::<5>();
        answers
            .iter()
            .find(|answer| answer[0] == unit.get())
            .map(|[_, id @ ..]| u32::from_be_bytes(*id))
    }
}

/// A checked walk over received bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or(Malformed::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn u128(&mut self) -> Result<u128, Malformed> {
        self.take().map(u128::from_be_bytes)
    }

    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Surplus)
        }
    }
}

/// Appends the record of a change.
pub fn put_change(out: &mut Vec<u8>, delta: &Delta) {
    match delta {
        Delta::Upsert { session, remaining } => put(out, UPSERT, |out| {
            put_session(out, session, *remaining);
        }),
        Delta::Remove { tuple, version } => put(out, REMOVE, |out| {
            let shape = shape_of_original(tuple);
            out.push(shape);
            out.extend(version.0.to_be_bytes());
            put_tuple(out, tuple, shape & SHAPE_ORIGINAL_V4 != 0, shape);
        }),
    }
}

/// Appends the head of a repair.
pub fn put_repair_begin(out: &mut Vec<u8>, begin: &RepairBegin<'_>) {
    put(out, REPAIR_BEGIN, |out| {
        out.extend(begin.id.to_be_bytes());
        out.extend(begin.ranges.to_bytes());
        out.extend(begin.floor.0.to_be_bytes());
        out.push(u8::from(begin.authoritative));
        out.extend(begin.shards.to_be_bytes());
        out.extend(begin.targets.to_be_bytes());
        out.extend(begin.answers.0);
    });
}

/// Appends the end of a repair.
pub fn put_repair_end(out: &mut Vec<u8>, id: u32) {
    put(out, REPAIR_END, |out| out.extend(id.to_be_bytes()));
}

/// Takes the next record off `bytes`; `None` at their end. What may be skipped is skipped.
pub fn take_record<'a>(bytes: &mut &'a [u8]) -> Result<Option<Record<'a>>, Malformed> {
    while !bytes.is_empty() {
        let mut reader = Reader(bytes);
        let kind = reader.u8()?;
        let length = reader.u8()?;
        let mut body = Reader(reader.slice(usize::from(length))?);
        *bytes = reader.0;
        let record = match kind {
            UPSERT => {
                let (session, remaining) = take_session(&mut body)?;
                Record::Change(Delta::Upsert { session, remaining })
            }
            REMOVE => {
                let shape = take_shape(&mut body)?;
                if shape & (SHAPE_REPLY | SHAPE_REPLY_V4 | SHAPE_TCP) != 0 {
                    return Err(Malformed::BadValue);
                }
                let version = Version(body.u64()?);
                let tuple = take_tuple(&mut body, shape & SHAPE_ORIGINAL_V4 != 0, shape)?;
                Record::Change(Delta::Remove { tuple, version })
            }
            REPAIR_BEGIN => Record::RepairBegin(take_repair_begin(&mut body)?),
            REPAIR_END => Record::RepairEnd { id: body.u32()? },
            unknown if unknown & SKIPPABLE != 0 => continue,
            unknown => return Err(Malformed::UnknownRecord(unknown)),
        };
        body.finish()?;
        return Ok(Some(record));
    }
    Ok(None)
}

fn put(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend([kind, 0]);
    let start = out.len();
    body(out);
    let length = out.len() - start;
    out[start - 1] = u8::try_from(length).expect("the longest body is under 256 bytes");
}

fn shape_of_original(tuple: &Tuple) -> u8 {
    let v4 = if tuple.is_v4() { SHAPE_ORIGINAL_V4 } else { 0 };
    let domain = if (tuple.zone, tuple.vlan) == (0, 0) {
        0
    } else {
        SHAPE_DOMAIN
    };
    v4 | domain
}

fn shape_of(session: &Session) -> u8 {
    let [original, reply] = &session.tuples;
    let mut shape = shape_of_original(original);
    if *reply != original.reversed() {
        shape |= SHAPE_REPLY;
        if reply.is_v4() {
            shape |= SHAPE_REPLY_V4;
        }
        if (reply.zone, reply.vlan) != (0, 0) {
            shape |= SHAPE_DOMAIN;
        }
    }
    if session.tcp != [TcpSide::default(); 2] {
        shape |= SHAPE_TCP;
    }
    shape
}

fn put_session(out: &mut Vec<u8>, session: &Session, remaining: u32) {
    let shape = shape_of(session);
    out.extend([shape, session.state as u8, session.flags.0, session.owner]);
    out.extend(session.policy.to_be_bytes());
    out.extend(session.version.0.to_be_bytes());
    out.extend(remaining.to_be_bytes());
    let [original, reply] = &session.tuples;
    put_tuple(out, original, shape & SHAPE_ORIGINAL_V4 != 0, shape);
    if shape & SHAPE_REPLY != 0 {
        put_tuple(out, reply, shape & SHAPE_REPLY_V4 != 0, shape);
    }
    if shape & SHAPE_TCP != 0 {
        for side in &session.tcp {
            out.extend(side.end.to_be_bytes());
            out.extend(side.max_end.to_be_bytes());
            out.extend(side.max_window.to_be_bytes());
            out.push((side.scale & !SCALE_SACK) | if side.sack { SCALE_SACK } else { 0 });
        }
    }
}

fn take_session(body: &mut Reader<'_>) -> Result<(Session, u32), Malformed> {
    let shape = take_shape(body)?;
    let state = state_from_wire(body.u8()?)?;
    let flags = Flags(body.u8()?);
    let owner = body.u8()?;
    if !(1..=16).contains(&owner) {
        return Err(Malformed::BadValue);
    }
    let policy = body.u16()?;
    let version = Version(body.u64()?);
    let remaining = body.u32()?;
    let original = take_tuple(body, shape & SHAPE_ORIGINAL_V4 != 0, shape)?;
    let reply = match shape & (SHAPE_REPLY | SHAPE_REPLY_V4) {
        0 => original.reversed(),
        SHAPE_REPLY_V4 => return Err(Malformed::BadValue),
        form => take_tuple(body, form & SHAPE_REPLY_V4 != 0, shape)?,
    };
    let mut tcp = [TcpSide::default(); 2];
    if shape & SHAPE_TCP != 0 {
        for side in &mut tcp {
            *side = take_side(body)?;
        }
    }
    let session = Session {
        tuples: [original, reply],
        version,
        state,
        flags,
        owner,
        policy,
        tcp,
        last_seen: Tick(0),
        assigned: false,
    };
    Ok((session, remaining))
}

fn take_side(body: &mut Reader<'_>) -> Result<TcpSide, Malformed> {
    let (end, max_end, max_window) = (body.u32()?, body.u32()?, body.u32()?);
    let scale = body.u8()?;
    if scale & !SCALE_SACK > TcpSide::NO_SCALE {
        return Err(Malformed::BadValue);
    }
    Ok(TcpSide {
        end,
        max_end,
        max_window,
        scale: scale & !SCALE_SACK,
        sack: scale & SCALE_SACK != 0,
    })
}

fn take_shape(body: &mut Reader<'_>) -> Result<u8, Malformed> {
    let shape = body.u8()?;
    if shape & !SHAPE_KNOWN == 0 {
        Ok(shape)
    } else {
        Err(Malformed::BadValue)
    }
}

fn state_from_wire(value: u8) -> Result<State, Malformed> {
    const STATES: [State; 8] = [
        State::Unreplied,
        State::Replied,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait,
        State::TimeWait,
        State::Reset,
    ];
    STATES
        .get(usize::from(value))
        .copied()
        .ok_or(Malformed::BadValue)
}

fn put_tuple(out: &mut Vec<u8>, tuple: &Tuple, v4: bool, shape: u8) {
    if v4 {
        out.extend(&tuple.src[12..]);
        out.extend(&tuple.dst[12..]);
    } else {
        out.extend(tuple.src);
        out.extend(tuple.dst);
    }
    out.extend(tuple.src_port.to_be_bytes());
    out.extend(tuple.dst_port.to_be_bytes());
    out.push(tuple.protocol);
    if shape & SHAPE_DOMAIN != 0 {
        out.push(tuple.zone);
        out.extend(tuple.vlan.to_be_bytes());
    }
}

fn take_tuple(body: &mut Reader<'_>, v4: bool, shape: u8) -> Result<Tuple, Malformed> {
    let address = |body: &mut Reader<'_>| {
        if v4 {
            body.take::<4>()
                .map(|octets| Ipv4Addr::from(octets).to_ipv6_mapped().octets())
        } else {
            body.take::<16>()
        }
    };
    let (src, dst) = (address(body)?, address(body)?);
    let mut tuple = Tuple {
        src,
        dst,
        src_port: body.u16()?,
        dst_port: body.u16()?,
        protocol: body.u8()?,
        zone: 0,
        vlan: 0,
    };
    if shape & SHAPE_DOMAIN != 0 {
        tuple.zone = body.u8()?;
        tuple.vlan = body.u16()?;
        if tuple.vlan > 0x0fff {
            return Err(Malformed::BadValue);
        }
    }
    Ok(tuple)
}

fn take_repair_begin<'a>(body: &mut Reader<'a>) -> Result<RepairBegin<'a>, Malformed> {
    let begin = RepairBegin {
        id: body.u32()?,
        ranges: RangeSet::from_bytes(&body.take()?),
        floor: Version(body.u64()?),
        authoritative: match body.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed::BadValue),
        },
        shards: body.u16()?,
        targets: body.u16()?,
        answers: Answers(body.slice(body.0.len())?),
    };
    if !begin.answers.0.len().is_multiple_of(5) || begin.shards == 0 {
        return Err(Malformed::BadValue);
    }
    Ok(begin)
}
