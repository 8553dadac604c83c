//! Digests of the table: what it holds, in 65,536 numbers that two units can compare.
//!
//! Owned by [`Sync`](super::Sync), which has it read some slots in each turn. A pass over the table sums a hash
//! of each session into the bucket of its original tuple. Beside it stands when each bucket was last touched by
//! anything that is known to change it; only buckets that were *quiet* since well before the pass can be
//! compared with those of another unit, whose pass was at another time.
//!
//! Invariant: a bucket is quiet for a pass if nothing was sent, applied or lost in it from [`QUIET`] before the
//! pass began until it is asked about.

use std::ops::Range;
use std::time::Duration;

use arrayvec::ArrayVec;
use packet::Tuple;
use session::Session;

use crate::range::bucket_of;
use crate::{RangeSet, SessionSource, Time};

/// How long before a pass the changes must have ended that it has to show: on their way through rings, streams
/// and workers.
const QUIET: Duration = Duration::from_secs(2);
/// Time from the begin of one pass to that of the next, at least.
const INTERVAL: Duration = Duration::from_secs(1);
/// Nanoseconds for each slot: about twenty times what one takes, so that a pass is a twentieth of a core.
const SLOT: u64 = 1_250;
/// Time between two parts of a pass.
const STEP: Duration = Duration::from_millis(1);
/// Slots of one part, at most: who was stopped does not make up for it at once.
const SLOTS_PER_STEP: u32 = 4_096;
/// Slots that are read together.
const AT_ONCE: u32 = 32;
/// Buckets of a table.
const BUCKETS: usize = 1 << 16;

/// A pass over the table.
#[derive(Debug)]
struct Pass {
    began: Time,
    /// By bucket: the sum of its sessions' digests.
    sums: Box<[u32]>,
    /// Ranges that have sessions. Where tables are small most have none.
    occupied: RangeSet,
}

impl Pass {
    fn empty() -> Self {
        Self {
            began: Time(0),
            sums: vec![0; BUCKETS].into(),
            occupied: RangeSet::EMPTY,
        }
    }

    fn begin(&mut self, now: Time) {
        self.began = now;
        for range in self.occupied.iter() {
            let first = usize::from(range) << 8;
            self.sums[first..first + 256].fill(0);
        }
        self.occupied = RangeSet::EMPTY;
    }

    /// Adds the sessions of some slots, [`AT_ONCE`] at the most. Their sums are seldom in a cache: all are asked
    /// for while the slots are read, and then written together.
    fn add(&mut self, table: &dyn SessionSource, shard: u16, slots: Range<u32>) {
        let mut read = ArrayVec::<(u16, u32), { AT_ONCE as usize }>::new();
        table.scan(shard, slots, &mut |_, session| {
            let bucket = bucket_of(&session.tuples[0]);
            session::prefetch(&self.sums[usize::from(bucket)]);
            read.push((bucket, digest_of(session)));
        });
        for (bucket, digest) in read {
            self.sums[usize::from(bucket)] ^= digest;
            self.occupied.insert(bucket.to_be_bytes()[0]);
        }
    }
}

/// Where in the table the pass is that is under way.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    shard: u16,
    slot: u32,
    read_at: Time,
}

/// The digests of one table.
#[derive(Debug)]
pub(super) struct Digests {
    /// The pass that is under way, or the spare memory of one.
    building: Pass,
    cursor: Option<Cursor>,
    complete: Option<Pass>,
    /// By bucket and by range: when they were last touched.
    touched: Box<[Time]>,
    touched_ranges: [Time; 256],
    /// By range: when anything in it was last touched.
    stirred: [Time; 256],
}

impl Digests {
    pub(super) fn new() -> Self {
        Self {
            building: Pass::empty(),
            cursor: None,
            complete: None,
            touched: vec![Time(0); BUCKETS].into(),
            touched_ranges: [Time(0); 256],
            stirred: [Time(0); 256],
        }
    }

    /// Something happens to a session of this bucket.
    pub(super) fn touch(&mut self, bucket: u16, now: Time) {
        self.touched[usize::from(bucket)] = now;
        self.stirred[usize::from(bucket >> 8)] = now;
    }

    /// Something happened to unknown sessions of these ranges.
    pub(super) fn touch_ranges(&mut self, ranges: &RangeSet, now: Time) {
        for range in ranges.iter() {
            self.touched_ranges[usize::from(range)] = now;
            self.stirred[usize::from(range)] = now;
        }
    }

    /// When [`Digests::read`] has something to do.
    pub(super) fn due(&self) -> Time {
        match (self.cursor, &self.complete) {
            (Some(cursor), _) => cursor.read_at + STEP,
            (None, Some(complete)) => complete.began + INTERVAL,
            (None, None) => Time(0),
        }
    }

    /// Reads on in the table as far as the time since the last call allows; true when that ended a pass.
    pub(super) fn read(&mut self, table: &dyn SessionSource, now: Time) -> bool {
        if now < self.due() {
            return false;
        }
        let Some(mut cursor) = self.cursor.take() else {
            self.building.begin(now);
            self.cursor = Some(Cursor {
                shard: 0,
                slot: 0,
                read_at: now,
            });
            return false;
        };
        let due = now.0.saturating_sub(cursor.read_at.0) / SLOT;
        let mut left = u32::try_from(due).unwrap_or(u32::MAX).min(SLOTS_PER_STEP);
        cursor.read_at = now;
        while left > 0 {
            let slots = table.slots(cursor.shard);
            if cursor.slot >= slots {
                (cursor.shard, cursor.slot) = (cursor.shard + 1, 0);
                if cursor.shard >= table.shards() {
                    self.finish();
                    return true;
                }
                continue;
            }
            let end = slots.min(cursor.slot + left.min(AT_ONCE));
            self.building.add(table, cursor.shard, cursor.slot..end);
            left -= end - cursor.slot;
            cursor.slot = end;
        }
        self.cursor = Some(cursor);
        false
    }

    fn finish(&mut self) {
        let spare = self.complete.take().unwrap_or_else(Pass::empty);
        self.complete = Some(std::mem::replace(&mut self.building, spare));
    }

    /// Whether all buckets of a range are quiet, and without sessions as of the last complete pass.
    pub(super) fn is_empty(&self, range: u8) -> bool {
        self.complete.as_ref().is_some_and(|complete| {
            let stirred = self.stirred[usize::from(range)];
            !complete.occupied.contains(range) && stirred + QUIET < complete.began
        })
    }

    /// The digest of a bucket as of the last complete pass, if it was quiet since.
    pub(super) fn quiet(&self, bucket: u16) -> Option<u32> {
        let complete = self.complete.as_ref()?;
        let range = usize::from(bucket >> 8);
        let bucket = usize::from(bucket);
        let touched = self.touched[bucket].max(self.touched_ranges[range]);
        (touched + QUIET < complete.began).then(|| complete.sums[bucket])
    }
}

/// The digest of a bucket with this session alone: the upper half of its hash without carry added to the lower.
fn digest_of(session: &Session) -> u32 {
    let [a, b, c, d, e, f, g, h] = hash_of(session).to_be_bytes();
    u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h])
}

/// The hash of a session. Part of the wire format: twelve words, two by two, each pair multiplied to 128 bits
/// after odd constants and what came before were added without carry, the halves likewise.
#[must_use]
pub(super) fn hash_of(session: &Session) -> u64 {
    const A: u64 = 0x9E37_79B9_7F4A_7C15;
    const B: u64 = 0xC2B2_AE3D_27D4_EB4F;
    let [original, reply] = session.tuples.each_ref().map(words);
    let rest =
        u64::from(session.policy) | u64::from(session.owner) << 16 | (session.state as u64) << 24;
    let pairs = [
        [original[0], original[1]],
        [original[2], original[3]],
        [original[4], reply[4]],
        [reply[0], reply[1]],
        [reply[2], reply[3]],
        [session.version.0, rest],
    ];
    pairs.iter().fold(0, |hash, [a, b]| {
        super::fingerprint::fold(a ^ A ^ hash, b ^ B)
    })
}

fn words(tuple: &Tuple) -> [u64; 5] {
    let word = |address: &[u8; 16], index: usize| {
        let (words, _) = address.as_chunks::<8>();
        u64::from_be_bytes(words[index])
    };
    let rest = u64::from(tuple.src_port) << 48
        | u64::from(tuple.dst_port) << 32
        | u64::from(tuple.protocol) << 24
        | u64::from(tuple.zone) << 16
        | u64::from(tuple.vlan);
    [
        word(&tuple.src, 0),
        word(&tuple.src, 1),
        word(&tuple.dst, 0),
        word(&tuple.dst, 1),
        rest,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use session::{State, Version};
    use std::net::Ipv4Addr;

    fn session(number: u16) -> Session {
        let client = Ipv4Addr::new(10, 0, 0, 1);
        let original = Tuple::v4(client, number, Ipv4Addr::new(192, 0, 2, 1), 443, 6);
        Session {
            tuples: [original, original.reversed()],
            version: Version(1 << 40 | u64::from(number)),
            state: State::Established,
            owner: 1,
            policy: 3,
            ..Session::default()
        }
    }

    struct Table(Vec<Session>);

    impl SessionSource for Table {
        fn shards(&self) -> u16 {
            2
        }

        fn slots(&self, shard: u16) -> u32 {
            u32::from(shard) * 3_000
        }

        fn read(&self, _shard: u16, slot: u32) -> Option<(Session, u32)> {
            self.0.get(slot as usize).map(|session| (*session, 0))
        }

        fn find(&self, _original: &Tuple) -> Option<(Session, u32)> {
            None
        }
    }

    /// Passes from `from` on, in steps of a millisecond, until one ends.
    fn pass(digests: &mut Digests, table: &Table, from: &mut Time) {
        while !digests.read(table, *from) {
            *from = *from + STEP;
        }
    }

    #[test]
    fn every_field_that_units_share_counts() {
        let plain = session(1);
        let changed = [
            Session {
                version: Version(2),
                ..plain
            },
            Session {
                state: State::FinWait,
                ..plain
            },
            Session { owner: 2, ..plain },
            Session { policy: 4, ..plain },
            Session {
                tuples: [plain.tuples[0]; 2],
                ..plain
            },
            Session {
                tuples: session(2).tuples,
                ..plain
            },
        ];
        assert!(
            changed
                .iter()
                .all(|session| digest_of(session) != digest_of(&plain))
        );
        let later = Session {
            last_seen: session::Tick(9),
            ..plain
        };
        assert_eq!(
            digest_of(&later),
            digest_of(&plain),
            "this each unit knows for itself"
        );
    }

    #[test]
    fn golden_digest() {
        assert_eq!(hash_of(&session(1_024)), GOLDEN);
    }

    /// Computed apart from this crate, from the text of the protocol.
    const GOLDEN: u64 = 0x6B57_D994_13D6_6AFB;

    #[test]
    fn equal_tables_have_equal_digests_in_whatever_order() {
        let all: Vec<Session> = (0..2_000).map(session).collect();
        let reversed = all.iter().rev().copied().collect();
        let mut now = Time(10_000_000_000);
        let [mut a, mut b] = [Digests::new(), Digests::new()];
        pass(&mut a, &Table(all), &mut now);
        pass(&mut b, &Table(reversed), &mut now);
        for bucket in 0..=u16::MAX {
            assert!(a.quiet(bucket).is_some());
            assert_eq!(a.quiet(bucket), b.quiet(bucket));
        }
    }

    #[test]
    fn a_range_is_empty_when_all_its_buckets_are_quiet_and_zero() {
        let table = Table((0..200).map(session).collect());
        let mut digests = Digests::new();
        let mut now = Time(10_000_000_000);
        digests.touch(0x0105, now);
        let by_bucket = |digests: &Digests, range: u8| {
            (0..=u8::MAX)
                .all(|bucket| digests.quiet(u16::from_be_bytes([range, bucket])) == Some(0))
        };
        for pass_number in 0..4 {
            // Sessions go, and the memory of passes is used again.
            let table = Table(table.0[pass_number * 50..].to_vec());
            pass(&mut digests, &table, &mut now);
            now = now + INTERVAL;
            let empty = (0..=u8::MAX).filter(|range| digests.is_empty(*range));
            assert!((50..256).contains(&empty.count()));
            for range in 0..=u8::MAX {
                assert_eq!(
                    digests.is_empty(range),
                    by_bucket(&digests, range),
                    "{range}"
                );
            }
        }
    }

    #[test]
    fn what_was_touched_is_not_compared_until_it_was_quiet() {
        let table = Table((0..2_000).map(session).collect());
        let mut digests = Digests::new();
        let mut now = Time(10_000_000_000);
        digests.touch(0x0105, now);
        let mut range = RangeSet::EMPTY;
        range.insert(2);
        digests.touch_ranges(&range, now);
        pass(&mut digests, &table, &mut now);
        let silent = |digests: &Digests| {
            (0..=u16::MAX)
                .filter(|b| digests.quiet(*b).is_none())
                .count()
        };
        assert_eq!(silent(&digests), 257);
        for _ in 0..3 {
            now = now + INTERVAL;
            pass(&mut digests, &table, &mut now);
        }
        assert_eq!(silent(&digests), 0);
    }
}
