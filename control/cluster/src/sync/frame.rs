//! The frames of session synchronisation: what stands in an envelope of the kind `sync`.
//!
//! Every frame begins with the version of this format, its kind, the unit that it is for (0 for all)
//! and the boot of its sender. Lists fill the rest of the frame. All integers are big-endian; the byte
//! offsets are in `docs/protocol.md`.

use super::Malformed;
use super::record::{Reader, take_record};
use crate::{Boot, RangeSet, UnitId};

/// Version of the frames and of the records in them.
pub const VERSION: u8 = 1;
/// The longest frame, so that with its envelope it fits the MTU of any Ethernet.
pub const MAX_FRAME: usize = 1_400;
/// Bytes before the records of a segment.
pub const DATA_HEAD: usize = HEAD + 18;
/// Where the base stands in a data frame: it is written anew for each resend.
const BASE: usize = HEAD + 10;

const HEAD: usize = 12;
const DATA: u8 = 1;
const ACKNOWLEDGE: u8 = 2;
const REQUEST: u8 = 3;
const POSITIONS: u8 = 4;
const DIGESTS: u8 = 5;

/// Bytes of one [`Receipt`] in a frame.
const RECEIPT: usize = 26;
/// Bytes of one [`Position`] in a frame.
const POSITION: usize = 18;
/// The most receipts of one frame.
pub const MAX_RECEIPTS: usize = (MAX_FRAME - HEAD - 9) / RECEIPT;
/// The most positions of one frame.
pub const MAX_POSITIONS: usize = (MAX_FRAME - HEAD) / POSITION;

/// A received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The unit that it is for; `None` for all.
    pub to: Option<UnitId>,
    /// Boot of the sender.
    pub boot: Boot,
    /// What it says.
    pub content: Content<'a>,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// One segment of one of the sender's streams.
    Data {
        /// Shard of the sender.
        shard: u16,
        /// Number of the segment, from 1.
        number: u64,
        /// The lowest segment that the sender still holds.
        base: u64,
        /// Whole, valid records.
        records: &'a [u8],
    },
    /// What the sender has of the streams of `origin`. Everybody reads these.
    Acknowledge {
        /// Whose streams.
        origin: UnitId,
        /// Boot of the origin.
        boot: Boot,
        /// One per stream.
        receipts: Receipts<'a>,
    },
    /// The sender wants a repair.
    Request {
        /// Counts the requests of this boot of the sender.
        id: u32,
        /// Ranges that it wants, besides those which it is known to have missed.
        ranges: RangeSet,
    },
    /// Where the sender's streams are, for a unit that misses what is held no more.
    Positions(Positions<'a>),
    /// What the sender's table holds.
    Digests {
        /// Units that are to compare it with theirs, bit 0 for unit 1.
        targets: u16,
        /// By range.
        ranges: DigestList<'a>,
    },
}

/// What a receiver has of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Shard of the origin.
    pub shard: u16,
    /// All segments up to this one were applied, or are known to be lost.
    pub applied: u64,
    /// Bit n: segment `applied + 2 + n` waits for an earlier one.
    pub waiting: u128,
}

/// Where one stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Shard of the sender.
    pub shard: u16,
    /// Number of the next segment.
    pub next: u64,
    /// The lowest segment that the sender still holds; `next` if none.
    pub base: u64,
}

/// A list of receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipts<'a>(&'a [[u8; RECEIPT]]);

impl Receipts<'_> {
    /// The receipts in their order.
    pub fn iter(&self) -> impl Iterator<Item = Receipt> + '_ {
        self.0.iter().filter_map(|bytes| {
            let mut reader = Reader(bytes);
            Some(Receipt {
                shard: reader.u16().ok()?,
                applied: reader.u64().ok()?,
                waiting: reader.u128().ok()?,
            })
        })
    }
}

/// A list of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions<'a>(&'a [[u8; POSITION]]);

impl Positions<'_> {
    /// The positions in their order.
    pub fn iter(&self) -> impl Iterator<Item = Position> + '_ {
        self.0.iter().filter_map(|bytes| {
            let mut reader = Reader(bytes);
            Some(Position {
                shard: reader.u16().ok()?,
                next: reader.u64().ok()?,
                base: reader.u64().ok()?,
            })
        })
    }
}

/// Bytes of one digest in a frame.
const SUM: usize = 5;
/// Shape of a range all buckets of which are quiet.
const ALL_QUIET: u8 = 1;

/// The digests of ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestList<'a>(&'a [u8]);

impl<'a> DigestList<'a> {
    /// The ranges in their order.
    pub fn iter(&self) -> impl Iterator<Item = RangeDigests<'a>> + use<'a> {
        let mut rest = Reader(self.0);
        std::iter::from_fn(move || take_range(&mut rest).ok())
    }
}

/// The digests of one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeDigests<'a> {
    /// Which.
    pub range: u8,
    /// Its buckets that can be compared.
    quiet: RangeSet,
    /// Digests that are not zero, by ascending bucket.
    sums: &'a [[u8; SUM]],
}

impl RangeDigests<'_> {
    /// Whether all buckets are quiet and without sessions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.quiet == RangeSet::ALL
    }

    /// The quiet buckets and their digests.
    pub fn quiet_buckets(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        let mut sums = self.sums.iter().peekable();
        self.quiet.iter().map(move |bucket| {
            let sum = sums.next_if(|[of, ..]| *of == bucket);
            let digest = sum.map_or(0, |[_, digest @ ..]| u32::from_be_bytes(*digest));
            (bucket, digest)
        })
    }
}

/// Reads a frame and checks all of it, the records of a segment too.
///
/// # Errors
/// What is wrong with it.
pub fn parse(body: &[u8]) -> Result<Frame<'_>, Malformed> {
    if body.len() > MAX_FRAME {
        return Err(Malformed::Oversized);
    }
    let mut reader = Reader(body);
    match reader.u8()? {
        VERSION => {}
        version => return Err(Malformed::ForeignVersion(version)),
    }
    let kind = reader.u8()?;
    let to = match reader.u8()? {
        0 => None,
        unit => Some(UnitId::new(unit).ok_or(Malformed::BadValue)?),
    };
    reader.u8()?;
    let boot = Boot(reader.u64()?);
    let content = match kind {
        DATA => take_data(&mut reader)?,
        ACKNOWLEDGE => Content::Acknowledge {
            origin: UnitId::new(reader.u8()?).ok_or(Malformed::BadValue)?,
            boot: Boot(reader.u64()?),
            receipts: Receipts(take_list(&mut reader)?),
        },
        REQUEST => Content::Request {
            id: reader.u32()?,
            ranges: RangeSet::from_bytes(&reader.take()?),
        },
        POSITIONS => {
            let positions = Positions(take_list(&mut reader)?);
            if positions.iter().any(|p| p.base == 0 || p.base > p.next) {
                return Err(Malformed::BadValue);
            }
            Content::Positions(positions)
        }
        DIGESTS => take_digests(&mut reader)?,
        unknown => return Err(Malformed::UnknownFrame(unknown)),
    };
    reader.finish()?;
    Ok(Frame { to, boot, content })
}

fn take_data<'a>(reader: &mut Reader<'a>) -> Result<Content<'a>, Malformed> {
    let (shard, number, base) = (reader.u16()?, reader.u64()?, reader.u64()?);
    let records = reader.slice(reader.0.len())?;
    if base == 0 || base > number || number == u64::MAX || records.is_empty() {
        return Err(Malformed::BadValue);
    }
    let mut rest = records;
    while take_record(&mut rest)?.is_some() {}
    Ok(Content::Data {
        shard,
        number,
        base,
        records,
    })
}

fn take_digests<'a>(reader: &mut Reader<'a>) -> Result<Content<'a>, Malformed> {
    let targets = reader.u16()?;
    let list = reader.slice(reader.0.len())?;
    let mut rest = Reader(list);
    while !rest.0.is_empty() {
        take_range(&mut rest)?;
    }
    Ok(Content::Digests {
        targets,
        ranges: DigestList(list),
    })
}

fn take_range<'a>(reader: &mut Reader<'a>) -> Result<RangeDigests<'a>, Malformed> {
    let (range, shape, count) = (reader.u8()?, reader.u8()?, reader.u16()?);
    let quiet = match shape {
        0 => RangeSet::from_bytes(&reader.take()?),
        ALL_QUIET => RangeSet::ALL,
        _ => return Err(Malformed::BadValue),
    };
    let (sums, _) = reader.slice(usize::from(count) * SUM)?.as_chunks::<SUM>();
    let ascending = sums.is_sorted_by(|[a, ..], [b, ..]| a < b);
    if !ascending || !sums.iter().all(|[bucket, ..]| quiet.contains(*bucket)) {
        return Err(Malformed::BadValue);
    }
    Ok(RangeDigests { range, quiet, sums })
}

fn take_list<'a, const N: usize>(reader: &mut Reader<'a>) -> Result<&'a [[u8; N]], Malformed> {
    let (items, rest) = reader.slice(reader.0.len())?.as_chunks::<N>();
    if rest.is_empty() && !items.is_empty() {
        Ok(items)
    } else {
        Err(Malformed::Truncated)
    }
}

fn head(kind: u8, to: Option<UnitId>, boot: Boot, capacity: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(capacity);
    body.extend([VERSION, kind, to.map_or(0, UnitId::get), 0]);
    body.extend(boot.0.to_be_bytes());
    body
}

/// The head of a data frame; records are appended to it, see [`MAX_FRAME`].
#[must_use]
pub fn begin_data(boot: Boot, shard: u16, number: u64) -> Vec<u8> {
    let mut body = head(DATA, None, boot, MAX_FRAME);
    body.extend(shard.to_be_bytes());
    body.extend(number.to_be_bytes());
    body.extend(number.to_be_bytes());
    body
}

/// A copy of a data frame for `to`, with what the sender's base is now.
#[must_use]
pub fn address_data(frame: &[u8], to: Option<UnitId>, base: u64) -> Vec<u8> {
    let mut body = frame.to_vec();
    body[2] = to.map_or(0, UnitId::get);
    body[BASE..BASE + 8].copy_from_slice(&base.to_be_bytes());
    body
}

/// An acknowledgement, to everybody: who takes over from a dead origin has to know what the others have.
#[must_use]
pub fn acknowledge(boot: Boot, origin: UnitId, origin_boot: Boot, receipts: &[Receipt]) -> Vec<u8> {
    let mut body = head(ACKNOWLEDGE, None, boot, HEAD + 9 + RECEIPT * receipts.len());
    body.push(origin.get());
    body.extend(origin_boot.0.to_be_bytes());
    for receipt in receipts {
        body.extend(receipt.shard.to_be_bytes());
        body.extend(receipt.applied.to_be_bytes());
        body.extend(receipt.waiting.to_be_bytes());
    }
    body
}

/// A request for a repair.
#[must_use]
pub fn request(boot: Boot, to: UnitId, id: u32, ranges: &RangeSet) -> Vec<u8> {
    let mut body = head(REQUEST, Some(to), boot, HEAD + 36);
    body.extend(id.to_be_bytes());
    body.extend(ranges.to_bytes());
    body
}

/// The positions of the sender's streams.
#[must_use]
pub fn positions(boot: Boot, to: Option<UnitId>, list: &[Position]) -> Vec<u8> {
    let mut body = head(POSITIONS, to, boot, HEAD + POSITION * list.len());
    for position in list {
        body.extend(position.shard.to_be_bytes());
        body.extend(position.next.to_be_bytes());
        body.extend(position.base.to_be_bytes());
    }
    body
}

/// The digests of as many ranges as fit, from `first` on, and the range that follows them. `quiet` tells the
/// digest of a bucket, if that can be compared; `empty` that all of a range can, and none has sessions.
#[must_use]
pub fn digests(
    boot: Boot,
    targets: u16,
    first: u8,
    empty: impl Fn(u8) -> bool,
    quiet: impl Fn(u16) -> Option<u32>,
) -> (Vec<u8>, Option<u8>) {
    let mut body = head(DIGESTS, None, boot, MAX_FRAME);
    body.extend(targets.to_be_bytes());
    let mut entry = Vec::with_capacity(MAX_RANGE);
    for range in first..=u8::MAX {
        if empty(range) {
            entry.clear();
            entry.extend([range, ALL_QUIET, 0, 0]);
        } else {
            put_range(&mut entry, range, &quiet);
        }
        if body.len() + entry.len() > MAX_FRAME {
            return (body, Some(range));
        }
        body.extend(&entry);
    }
    (body, None)
}

/// Bytes of a range at most.
const MAX_RANGE: usize = 4 + 32 + 256 * SUM;
const _: () = assert!(
    HEAD + 2 + MAX_RANGE <= MAX_FRAME,
    "every range fits a frame"
);

fn put_range(entry: &mut Vec<u8>, range: u8, digest: impl Fn(u16) -> Option<u32>) {
    let (mut quiet, mut sums, mut count) = (RangeSet::EMPTY, [[0; SUM]; 256], 0_u16);
    for bucket in 0..=u8::MAX {
        let Some(sum) = digest(u16::from_be_bytes([range, bucket])) else {
            continue;
        };
        quiet.insert(bucket);
        if sum != 0 {
            let [a, b, c, d] = sum.to_be_bytes();
            sums[usize::from(count)] = [bucket, a, b, c, d];
            count += 1;
        }
    }
    let all = quiet == RangeSet::ALL;
    entry.clear();
    entry.extend([range, if all { ALL_QUIET } else { 0 }]);
    entry.extend(count.to_be_bytes());
    if !all {
        entry.extend(quiet.to_bytes());
    }
    entry.extend(sums[..usize::from(count)].as_flattened());
}
