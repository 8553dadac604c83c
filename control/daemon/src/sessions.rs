//! The session table as operators list, filter and clear it.

use api::{FlowView, SESSION_STATES, SessionFilter, SessionView, SessionsView};
use cluster::RangeSet;
use packet::Tuple;
use session::{Reader, Session, Tick};

use crate::table::Table;

/// Who holds copies, at one moment.
pub(crate) struct Copies {
    /// This unit.
    pub(crate) unit: u8,
    /// Other units that are in step, with the ranges of sessions in which they may lack something.
    pub(crate) peers: Vec<(u8, RangeSet)>,
}

impl Copies {
    /// The units besides its owner that are known to hold a session.
    fn of(&self, table: &Table, session: &Session) -> Vec<u8> {
        if !table.is_copied(session) {
            return Vec::new();
        }
        if session.owner != self.unit {
            return vec![self.unit];
        }
        let range = cluster::range_of(&session.tuples[0]);
        let holds = |(_, lacking): &&(u8, RangeSet)| !lacking.contains(range);
        let holders = self.peers.iter().filter(holds);
        holders.map(|(unit, _)| *unit).collect()
    }
}

/// Sessions that were found, as the table had them.
pub(crate) struct Found {
    total: u64,
    matched: u64,
    sessions: Vec<Session>,
}

impl Found {
    /// As operators see them. `copies` has to be learnt after the table was read.
    pub(crate) fn show(self, table: &Table, policies: &[String], copies: &Copies) -> SessionsView {
        let sessions = self.sessions.iter();
        SessionsView {
            total: self.total,
            matched: self.matched,
            sessions: sessions
                .map(|session| show(table, policies, copies, session))
                .collect(),
        }
    }
}

/// The sessions that match, at most `limit` of them, and how many there are.
pub(crate) fn find(table: &Table, filter: &SessionFilter, limit: u32) -> Found {
    let mut found = Found {
        total: table.len(),
        matched: 0,
        sessions: Vec::new(),
    };
    scan(table, |_, session| {
        if matches(filter, session) {
            found.matched += 1;
            if found.sessions.len() < limit as usize {
                found.sessions.push(*session);
            }
        }
    });
    found
}

/// Shard and original tuple of every session that matches.
pub(crate) fn matching(table: &Table, filter: &SessionFilter) -> Vec<(u16, Tuple)> {
    let mut found = Vec::new();
    scan(table, |shard, session| {
        if matches(filter, session) {
            found.push((shard, session.tuples[0]));
        }
    });
    found
}

fn scan(table: &Table, mut show: impl FnMut(u16, &Session)) {
    for (shard, reader) in (0..).zip(table.readers()) {
        reader.scan(0, Reader::capacity(reader), |_, session| {
            show(shard, &session)
        });
    }
}

fn matches(filter: &SessionFilter, session: &Session) -> bool {
    let [original, reply] = &session.tuples;
    let address = |wanted| {
        [
            original.src_ip(),
            original.dst_ip(),
            reply.src_ip(),
            reply.dst_ip(),
        ]
        .contains(&wanted)
    };
    let port = |wanted| {
        [
            original.src_port,
            original.dst_port,
            reply.src_port,
            reply.dst_port,
        ]
        .contains(&wanted)
    };
    filter.address.is_none_or(address)
        && filter.port.is_none_or(port)
        && filter
            .protocol
            .is_none_or(|wanted| original.protocol == wanted)
        && filter
            .state
            .as_deref()
            .is_none_or(|wanted| state(session) == wanted)
}

/// The API lists the states in the order of the model.
fn state(session: &Session) -> &'static str {
    SESSION_STATES[session.state as usize]
}

fn show(table: &Table, policies: &[String], copies: &Copies, session: &Session) -> SessionView {
    let flow = |tuple: &Tuple| FlowView {
        source: tuple.src_ip().to_string(),
        source_port: tuple.src_port,
        destination: tuple.dst_ip().to_string(),
        destination_port: tuple.dst_port,
    };
    let seconds = |ticks: u32| u64::from(ticks / Tick::PER_SECOND);
    SessionView {
        protocol: match session.tuples[0].protocol {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            other => other.to_string(),
        },
        state: state(session).to_owned(),
        original: flow(&session.tuples[0]),
        reply: flow(&session.tuples[1]),
        owner: session.owner,
        copies: copies.of(table, session),
        policy: policies
            .get(usize::from(session.policy))
            .cloned()
            .unwrap_or_else(|| session.policy.to_string()),
        idle_s: seconds(table.now.since(session.last_seen)),
        expires_s: seconds(table.remaining(session)),
        version: format!("{:x}", session.version.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session::{Memory, Settings, Shard, State, Timeouts, Version};
    use std::net::Ipv4Addr;

    fn table() -> (Shard, Table) {
        let mut shard = Shard::new(Settings::new(16), Memory::Plain).unwrap();
        for (port, state) in [(1_000, State::Replied), (2_000, State::Unreplied)] {
            let original = Tuple::v4(
                Ipv4Addr::new(192, 0, 2, 100),
                port,
                Ipv4Addr::new(198, 51, 100, 100),
                53,
                17,
            );
            let session = Session {
                tuples: [original, original.reversed()],
                version: Version(u64::from(port)),
                state,
                owner: 1,
                ..Session::default()
            };
            shard.insert(session, Tick(0)).unwrap();
        }
        let mut table = Table::new(vec![shard.reader()], Timeouts::default());
        table.now = Tick(100);
        (shard, table)
    }

    #[test]
    fn the_list_is_filtered_and_limited() {
        let (_shard, table) = table();
        let policies = ["out".to_owned()];
        let query = |text| SessionFilter::from_query(text).unwrap();
        let list = |text, limit| {
            let copies = copies(&[]);
            find(&table, &query(text), limit).show(&table, &policies, &copies)
        };
        let all = list("", 1);
        assert_eq!((all.total, all.matched, all.sessions.len()), (2, 2, 1));
        let one = list("port=2000", 10);
        assert_eq!(one.matched, 1);
        let session = &one.sessions[0];
        assert_eq!(session.state, "unreplied");
        assert_eq!(session.policy, "out");
        assert_eq!((session.idle_s, session.expires_s), (10, 20));
        assert_eq!(list("state=replied", 10).matched, 1);
        assert_eq!(list("protocol=tcp", 10).matched, 0);
        assert_eq!(matching(&table, &query("address=198.51.100.100")).len(), 2);
    }

    /// Unit 1 with these peers, and the sessions whose changes each may lack.
    fn copies(peers: &[(u8, &[Session])]) -> Copies {
        let lacking = |sessions: &[Session]| {
            let mut ranges = RangeSet::EMPTY;
            for session in sessions {
                ranges.insert(cluster::range_of(&session.tuples[0]));
            }
            ranges
        };
        let peers = peers.iter().map(|(unit, lack)| (*unit, lacking(lack)));
        Copies {
            unit: 1,
            peers: peers.collect(),
        }
    }

    #[test]
    fn who_acknowledged_a_session_holds_it() {
        let (_shard, table) = table();
        let found = find(&table, &SessionFilter::default(), 10);
        let [first, second] = found.sessions[..] else {
            panic!("there are two");
        };
        assert_ne!(
            cluster::range_of(&first.tuples[0]),
            cluster::range_of(&second.tuples[0])
        );
        let copies = copies(&[(2, &[]), (3, &[first])]);
        assert_eq!(copies.of(&table, &first), [2]);
        assert_eq!(copies.of(&table, &second), [2, 3]);
        let foreign = Session { owner: 3, ..first };
        assert_eq!(copies.of(&table, &foreign), [1]);
        let provisional = Session {
            version: Version::PROVISIONAL,
            ..foreign
        };
        assert!(copies.of(&table, &provisional).is_empty());
    }

    #[test]
    fn states_are_listed_in_the_order_of_the_model() {
        let named = [
            (State::Unreplied, "unreplied"),
            (State::Replied, "replied"),
            (State::SynSent, "syn_sent"),
            (State::SynReceived, "syn_received"),
            (State::Established, "established"),
            (State::FinWait, "fin_wait"),
            (State::TimeWait, "time_wait"),
            (State::Reset, "reset"),
        ];
        for (value, name) in named {
            let session = Session {
                state: value,
                ..Session::default()
            };
            assert_eq!(state(&session), name);
        }
    }
}
