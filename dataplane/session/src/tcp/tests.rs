//! Tables of segments: direction, segment, what is made of it, and the state after it.

use packet::tcp::PSH;

use super::*;

use Direction::{Original as C, Reply as S};
use Invalid::{BadFlags, BadHandshake, BadReset, BadSyn, OutOfWindow};
use State::{Established, FinWait, Reset, SynReceived, SynSent, TimeWait};

/// Initial sequence numbers; the client's wraps soon.
const CLIENT: u32 = u32::MAX - 100;
const SERVER: u32 = 7_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Ignored,
    Advanced,
    Changed,
    Dropped(Invalid),
}

use Seen::{Advanced, Changed, Dropped, Ignored};

struct Wire(Connection);

impl Wire {
    /// `C`: sequence and acknowledgement numbers count from each side's initial one.
    fn send(&mut self, direction: Direction, segment: Segment) -> Seen {
        let (own, other) = match direction {
            C => (CLIENT, SERVER),
            S => (SERVER, CLIENT),
        };
        let segment = Segment {
            seq: segment.seq.wrapping_add(own),
            ack: segment.ack.wrapping_add(other),
            ..segment
        };
        let (seen, next) = match track(&self.0, direction, &segment) {
            Outcome::Ignore => (Ignored, self.0),
            Outcome::Advance(next) => (Advanced, next),
            Outcome::Change(next) => (Changed, next),
            Outcome::Drop(reason) => (Dropped(reason), self.0),
        };
        self.0 = next;
        seen
    }

    fn run(&mut self, steps: &[(Direction, Segment, Seen, State)]) {
        for (i, &(direction, segment, seen, state)) in steps.iter().enumerate() {
            let before = self.0;
            let found = (self.send(direction, segment), self.0.state);
            assert_eq!(
                found,
                (seen, state),
                "step {i}: {direction:?} {segment:?} on {before:?}"
            );
        }
    }
}

fn seg(flags: u8, seq: u32, ack: u32, payload_len: u16) -> Segment {
    Segment {
        seq,
        ack,
        window: 1_000,
        flags,
        payload_len,
        scale: None,
        sack_permitted: false,
    }
}

/// After a SYN without options.
fn syn_sent() -> Wire {
    Wire(open(&Segment {
        seq: CLIENT,
        ..seg(SYN, 0, 0, 0)
    }))
}

fn established() -> Wire {
    let mut wire = syn_sent();
    wire.run(&[
        (S, seg(SYN | ACK, 0, 1, 0), Changed, SynReceived),
        (C, seg(ACK, 1, 1, 0), Changed, Established),
    ]);
    wire
}

fn taken_over() -> Wire {
    let mut wire = established();
    wire.0.flags = wire
        .0
        .flags
        .with(Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY);
    wire
}

#[test]
fn a_connection_opens_talks_and_closes() {
    established().run(&[
        (C, seg(ACK | PSH, 1, 1, 500), Advanced, Established),
        (S, seg(ACK, 1, 501, 900), Advanced, Established),
        (C, seg(ACK, 501, 901, 0), Advanced, Established),
        (C, seg(FIN | ACK, 501, 901, 0), Changed, FinWait),
        (C, seg(FIN | ACK, 501, 901, 0), Advanced, FinWait),
        (S, seg(ACK, 901, 502, 100), Advanced, FinWait),
        (S, seg(FIN | ACK, 1_001, 502, 0), Changed, TimeWait),
        (C, seg(ACK, 502, 1_002, 0), Advanced, TimeWait),
    ]);
}

#[test]
fn the_handshake_is_repeated_when_segments_are_lost() {
    syn_sent().run(&[
        (C, seg(SYN, 0, 0, 0), Advanced, SynSent),
        (S, seg(SYN | ACK, 0, 1, 0), Changed, SynReceived),
        (S, seg(SYN | ACK, 0, 1, 0), Advanced, SynReceived),
        (C, seg(SYN, 0, 0, 0), Ignored, SynReceived),
        (C, seg(ACK, 1, 1, 0), Changed, Established),
        (S, seg(SYN | ACK, 0, 1, 0), Advanced, Established),
        (C, seg(ACK, 1, 1, 0), Advanced, Established),
    ]);
}

#[test]
fn only_an_exact_answer_completes_the_handshake() {
    let mut wire = syn_sent();
    wire.run(&[
        (C, seg(ACK, 1, 1, 0), Dropped(BadHandshake), SynSent),
        (C, seg(SYN | ACK, 0, 1, 0), Dropped(BadHandshake), SynSent),
        // Of an older connection: the client will answer with a RST, which must get through.
        (S, seg(SYN | ACK, 0, 9, 0), Ignored, SynSent),
        (S, seg(ACK, 5, 9, 0), Ignored, SynSent),
        (S, seg(ACK, 5, 9, 10), Dropped(BadHandshake), SynSent),
        (C, seg(RST, 9, 0, 0), Ignored, SynSent),
        (S, seg(SYN | ACK, 0, 1, 0), Changed, SynReceived),
        (C, seg(ACK, 1, 2, 0), Dropped(BadHandshake), SynReceived),
        (C, seg(ACK, 1, 0, 0), Dropped(BadHandshake), SynReceived),
        (C, seg(ACK, 5_000, 1, 0), Dropped(BadHandshake), SynReceived),
        (C, seg(SYN, 50, 0, 0), Dropped(BadSyn), SynReceived),
        (C, seg(ACK, 1, 1, 10), Changed, Established),
    ]);
}

#[test]
fn a_client_may_start_over_before_it_is_answered() {
    let mut wire = syn_sent();
    wire.run(&[
        (C, seg(SYN, 70_000, 0, 0), Changed, SynSent),
        (S, seg(SYN | ACK, 0, 70_001, 0), Changed, SynReceived),
        (C, seg(ACK, 70_001, 1, 0), Changed, Established),
    ]);
}

#[test]
fn two_ends_may_open_at_once() {
    syn_sent().run(&[
        (S, seg(SYN, 0, 0, 0), Changed, SynReceived),
        (C, seg(SYN | ACK, 0, 1, 0), Changed, Established),
        (S, seg(SYN | ACK, 0, 1, 0), Advanced, Established),
        (C, seg(ACK, 1, 1, 100), Advanced, Established),
        (S, seg(ACK, 1, 101, 100), Advanced, Established),
    ]);
}

#[test]
fn data_may_ride_on_the_handshake() {
    let mut wire = Wire(open(&Segment {
        seq: CLIENT,
        ..seg(SYN, 0, 0, 400)
    }));
    wire.run(&[
        (S, seg(SYN | ACK, 0, 401, 0), Changed, SynReceived),
        (S, seg(ACK, 1, 401, 300), Advanced, SynReceived),
        (C, seg(ACK, 401, 302, 0), Dropped(BadHandshake), SynReceived),
        (C, seg(ACK, 401, 301, 0), Changed, Established),
    ]);
}

#[test]
fn a_refused_connection_is_reset() {
    syn_sent().run(&[
        (
            S,
            seg(RST | ACK, CLIENT.wrapping_sub(SERVER), 2, 0),
            Dropped(BadReset),
            SynSent,
        ),
        (S, seg(RST, 0, 1, 0), Dropped(BadReset), SynSent),
        (
            S,
            seg(RST | ACK, 0_u32.wrapping_sub(SERVER), 1, 0),
            Changed,
            Reset,
        ),
    ]);
}

#[test]
fn a_client_may_give_up_in_the_handshake() {
    syn_sent().run(&[(C, seg(RST, 1, 0, 0), Changed, Reset)]);
    syn_sent().run(&[
        (S, seg(SYN | ACK, 0, 1, 0), Changed, SynReceived),
        (C, seg(RST, 2, 0, 0), Dropped(BadReset), SynReceived),
        (C, seg(RST, 1, 0, 0), Changed, Reset),
    ]);
}

#[test]
fn only_an_exact_reset_counts() {
    let mut wire = established();
    wire.run(&[
        (S, seg(ACK, 1, 1, 100), Advanced, Established),
        (S, seg(RST, 102, 0, 0), Dropped(BadReset), Established),
        (S, seg(RST, 100, 0, 0), Dropped(BadReset), Established),
        (
            S,
            seg(RST | ACK, 900_000, 1, 0),
            Dropped(BadReset),
            Established,
        ),
        (S, seg(RST | ACK, 101, 1, 0), Changed, Reset),
        // Its repetitions pass, and restart nothing.
        (S, seg(RST, 101, 0, 0), Ignored, Reset),
        (C, seg(ACK, 1, 101, 0), Ignored, Reset),
        (C, seg(RST, 600_000, 0, 0), Dropped(BadReset), Reset),
    ]);
}

#[test]
fn a_syn_in_the_window_is_dropped_and_one_outside_passes_without_effect() {
    established().run(&[
        (C, seg(ACK, 1, 1, 100), Advanced, Established),
        (C, seg(SYN, 101, 0, 0), Dropped(BadSyn), Established),
        (C, seg(SYN, 1_001, 0, 0), Dropped(BadSyn), Established),
        (S, seg(SYN, 500, 0, 0), Dropped(BadSyn), Established),
        (S, seg(SYN | ACK, 500, 1, 0), Dropped(BadSyn), Established),
        // A client that restarted: the server's challenge makes it send the exact reset.
        (C, seg(SYN, 5_000_000, 0, 0), Ignored, Established),
        (S, seg(ACK, 1, 101, 0), Advanced, Established),
        (C, seg(RST, 101, 0, 0), Changed, Reset),
        (C, seg(SYN, 5_000_000, 0, 0), Changed, SynSent),
        (S, seg(SYN | ACK, 8_000, 5_000_001, 0), Changed, SynReceived),
    ]);
}

#[test]
fn ports_are_used_again_after_the_end() {
    let closed = [
        (C, seg(FIN | ACK, 1, 1, 0), Changed, FinWait),
        (S, seg(FIN | ACK, 1, 2, 0), Changed, TimeWait),
    ];
    // Above the old numbers, or far from them, since initial numbers wrap: on a connection that was taken over, too.
    for first in [90_000, 0_u32.wrapping_sub(90_000)] {
        for relearn in [0, Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY] {
            let mut wire = established();
            wire.run(&closed);
            wire.0.flags = wire.0.flags.with(relearn);
            wire.run(&[
                // Near the old ones and not above them: perhaps an old duplicate, which ends nothing any more.
                (C, seg(SYN, 1, 0, 0), Ignored, TimeWait),
                (S, seg(SYN, 900, 0, 0), Dropped(BadSyn), TimeWait),
                (C, seg(SYN, first, 0, 0), Changed, SynSent),
            ]);
            assert_eq!(wire.0.flags, Flags(0));
            assert_eq!(wire.0.sides[1], TcpSide::default());
        }
    }
}

#[test]
fn flags_that_make_no_sense_are_dropped_in_every_state() {
    let states = [SynSent, SynReceived, Established, FinWait, TimeWait, Reset];
    for state in states {
        for flags in [
            0,
            PSH,
            FIN,
            SYN | FIN,
            SYN | RST,
            SYN | FIN | ACK,
            FIN | RST,
            FIN | RST | ACK,
        ] {
            let mut wire = established();
            wire.0.state = state;
            for direction in [C, S] {
                wire.run(&[(direction, seg(flags, 1, 1, 0), Dropped(BadFlags), state)]);
            }
        }
    }
}

#[test]
fn the_four_bounds_hold_exactly() {
    let mut wire = established();
    wire.run(&[
        // The server's window is 1,000 from 1: up to 1,001.
        (C, seg(ACK, 1_002, 1, 1), Dropped(OutOfWindow), Established),
        (C, seg(ACK, 1, 1, 1_000), Advanced, Established),
        (C, seg(ACK, 1_001, 1, 1), Advanced, Established),
        // A keep-alive, and a repetition from a whole window back.
        (C, seg(ACK, 0, 1, 0), Dropped(OutOfWindow), Established),
        (C, seg(ACK, 1, 1, 1), Advanced, Established),
        // Acknowledging what could not be sent yet.
        (
            C,
            seg(ACK, 1_001, 1_003, 0),
            Dropped(OutOfWindow),
            Established,
        ),
        (C, seg(ACK, 1_001, 1_002, 0), Advanced, Established),
        (
            C,
            seg(ACK, 1_001, 0_u32.wrapping_sub(66_000), 0),
            Dropped(OutOfWindow),
            Established,
        ),
        (C, seg(ACK, 1_001, 1_002 - 900, 0), Advanced, Established),
    ]);
}

#[test]
fn a_closed_window_takes_one_byte() {
    let closed = Segment {
        window: 0,
        ..seg(ACK, 1, 1_001, 0)
    };
    established().run(&[
        (C, seg(ACK, 1, 1, 1_000), Advanced, Established),
        (S, closed, Advanced, Established),
        (C, seg(ACK, 1_001, 1, 1), Advanced, Established),
        (S, closed, Advanced, Established),
        (C, seg(ACK, 1_003, 1, 1), Dropped(OutOfWindow), Established),
    ]);
}

#[test]
fn windows_scale_when_both_sides_offer_it() {
    let option = |segment: Segment, scale| Segment {
        scale: Some(scale),
        ..segment
    };
    for (offered, answered, limit) in [
        (Some(7), Some(8), 1 + 256_000),
        (Some(7), None, 1_001),
        (None, Some(8), 1_001),
    ] {
        let syn = Segment {
            seq: CLIENT,
            scale: offered,
            ..seg(SYN, 0, 0, 0)
        };
        let mut wire = Wire(open(&syn));
        wire.run(&[
            (
                S,
                Segment {
                    scale: answered,
                    ..seg(SYN | ACK, 0, 1, 0)
                },
                Changed,
                SynReceived,
            ),
            (C, seg(ACK, 1, 1, 0), Changed, Established),
            // The window of the SYN-ACK itself was not scaled.
            (C, seg(ACK, 1_002, 1, 0), Dropped(OutOfWindow), Established),
            (S, seg(ACK, 1, 1, 0), Advanced, Established),
            (
                C,
                seg(ACK, limit + 1, 1, 0),
                Dropped(OutOfWindow),
                Established,
            ),
            (C, seg(ACK, limit, 1, 0), Advanced, Established),
        ]);
    }
    let wild = open(&option(seg(SYN, 0, 0, 0), 200));
    assert_eq!(wild.sides[0].scale, MAX_SCALE);
}

#[test]
fn sack_gives_acknowledgements_more_room() {
    let run = |sack: bool, seen: Seen| {
        let permit = |segment: Segment| Segment {
            sack_permitted: sack,
            ..segment
        };
        let mut wire = Wire(open(&Segment {
            seq: CLIENT,
            ..permit(seg(SYN, 0, 0, 0))
        }));
        wire.run(&[
            (S, permit(seg(SYN | ACK, 0, 1, 0)), Changed, SynReceived),
            (C, seg(ACK, 1, 1, 0), Changed, Established),
        ]);
        wire.0.sides[1].end = SERVER.wrapping_add(100_001);
        wire.0.sides[1].max_end = SERVER.wrapping_add(101_000);
        wire.run(&[(C, seg(ACK, 1, 1, 0), seen, Established)]);
    };
    run(true, Advanced);
    run(false, Dropped(OutOfWindow));
}

#[test]
fn what_another_unit_forwarded_may_be_acknowledged() {
    let mut wire = established();
    wire.run(&[
        (S, seg(ACK, 1, 801, 0), Advanced, Established),
        (C, seg(ACK, 801, 1, 100), Advanced, Established),
    ]);
    assert_eq!(wire.0.sides[0].end, CLIENT.wrapping_add(901));
}

#[test]
fn a_connection_that_was_taken_over_learns_each_side_and_then_enforces() {
    let mut wire = taken_over();
    wire.run(&[
        // Far from what was known: hours of traffic went through another unit.
        (
            C,
            seg(ACK, 9_000_000, 5_000_000, 100),
            Advanced,
            Established,
        ),
        (C, seg(RST, 9_000_050, 0, 0), Dropped(BadReset), Established),
        (C, seg(SYN, 9_000_050, 0, 0), Dropped(BadSyn), Established),
        (
            C,
            seg(ACK, 9_000_100, 5_000_000, 100),
            Advanced,
            Established,
        ),
        (S, seg(ACK, 5_000_000, 9_000_200, 10), Advanced, Established),
    ]);
    assert_eq!(wire.0.flags, Flags(0));
    wire.run(&[
        (
            C,
            seg(ACK, 9_002_000, 5_000_010, 0),
            Dropped(OutOfWindow),
            Established,
        ),
        (
            S,
            seg(ACK, 5_002_000, 9_000_200, 0),
            Dropped(OutOfWindow),
            Established,
        ),
        (
            S,
            seg(ACK, 5_000_010, 9_002_000, 0),
            Dropped(OutOfWindow),
            Established,
        ),
        (
            C,
            seg(ACK, 9_000_200, 5_000_010, 300),
            Advanced,
            Established,
        ),
        (S, seg(RST, 5_000_010, 0, 0), Changed, Reset),
    ]);
}

/// The first segment after a takeover is a repetition from the middle of a flight; the rest of the
/// flight had arrived through the unit that died.
#[test]
fn a_loss_during_a_takeover_does_not_stall() {
    taken_over().run(&[
        (S, seg(ACK, 5_000, 80_000, 0), Advanced, Established),
        (C, seg(ACK, 80_000, 5_000, 100), Advanced, Established),
        (S, seg(ACK, 5_000, 80_900, 0), Advanced, Established),
        (C, seg(ACK, 80_900, 5_000, 100), Advanced, Established),
    ]);
    taken_over().run(&[
        (C, seg(ACK, 80_000, 5_000, 100), Advanced, Established),
        (S, seg(ACK, 5_000, 80_900, 0), Advanced, Established),
        (C, seg(ACK, 80_900, 5_000, 100), Advanced, Established),
    ]);
}

#[test]
fn after_a_takeover_an_exact_reset_counts_at_once() {
    taken_over().run(&[
        (C, seg(RST, 77, 0, 0), Dropped(BadReset), Established),
        (C, seg(RST, 1, 0, 0), Changed, Reset),
    ]);
    // The other side's acknowledgement tells which one is exact.
    taken_over().run(&[
        (S, seg(ACK, 5_000, 80_000, 0), Advanced, Established),
        (C, seg(RST, 80_000, 0, 0), Changed, Reset),
    ]);
}

#[test]
fn a_handshake_that_was_taken_over_goes_on() {
    const RELEARN: u8 = Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY;
    let mut wire = syn_sent();
    wire.0.flags = Flags(RELEARN);
    wire.run(&[
        (S, seg(SYN | ACK, 0, 1, 0), Changed, SynReceived),
        (C, seg(ACK, 1, 9, 0), Dropped(BadHandshake), SynReceived),
        (C, seg(ACK, 1, 1, 0), Changed, Established),
    ]);
    // The answer went through the unit that died.
    for order in [[C, S], [S, C]] {
        let mut wire = syn_sent();
        wire.0.flags = Flags(RELEARN);
        for direction in order {
            assert_ne!(wire.0.state, Established);
            let seen = wire.send(direction, seg(ACK, 10, 10, 5));
            assert!(matches!(seen, Advanced | Changed), "{seen:?}");
        }
        assert_eq!((wire.0.state, wire.0.flags), (Established, Flags(0)));
    }
}

proptest::proptest! {
    /// Whatever comes, tracking neither panics nor makes a state that is none of TCP's, and what is
    /// dropped or ignored changes nothing.
    #[test]
    fn any_sequence_of_segments_is_judged(
        segments: Vec<(bool, u8, u32, u32, u16, u16, Option<u8>)>,
        relearn: bool,
    ) {
        let mut wire = if relearn { taken_over() } else { syn_sent() };
        for (reply, flags, seq, ack, window, payload_len, scale) in segments {
            let segment = Segment {
                // Near the windows, so that some get through.
                seq: seq % 3_000,
                ack: ack % 3_000,
                window,
                flags,
                payload_len: payload_len % 1_500,
                scale,
                sack_permitted: seq % 2 == 0,
            };
            let before = wire.0;
            let seen = wire.send(if reply { S } else { C }, segment);
            proptest::prop_assert!(!matches!(wire.0.state, State::Unreplied | State::Replied));
            if matches!(seen, Ignored | Dropped(_)) {
                proptest::prop_assert_eq!(before, wire.0);
            }
            if seen == Changed {
                proptest::prop_assert_ne!(before, wire.0);
            }
            for side in &wire.0.sides {
                proptest::prop_assert!(side.scale <= TcpSide::NO_SCALE);
            }
        }
    }
}
