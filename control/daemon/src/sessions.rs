//! The session table as operators list, filter and clear it.

use std::collections::HashMap;

use api::{FlowView, SESSION_STATES, SessionFilter, SessionView, SessionsView};
use cluster::RangeSet;
use packet::Tuple;
use session::{Session, Tick};

use crate::policies;
use crate::table::{Table, is_copied};

/// Slots of a [`Part`].
const PART: u32 = 4_096;

/// Who holds copies, at one moment.
pub(crate) struct Copies {
    /// This unit.
    pub(crate) unit: u8,
    /// Other units that are in step, with the ranges of sessions in which they may lack something.
    pub(crate) peers: Vec<(u8, RangeSet)>,
}

impl Copies {
    /// The units besides its owner that are known to hold a session.
    fn of(&self, session: &Session) -> Vec<u8> {
        if !is_copied(session) {
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

/// Policies by their numbers.
struct Names<'n>(HashMap<u16, &'n str>);

impl<'n> Names<'n> {
    fn of_all(names: &'n [String]) -> Self {
        let names = names.iter().map(String::as_str);
        Self(
            policies::numbers(names.clone())
                .into_iter()
                .zip(names)
                .collect(),
        )
    }

    /// The policy that admitted a session; its number if there is none of its name any more.
    fn of(&self, session: &Session) -> String {
        let number = session.policy & !Session::PRIVATE;
        self.0
            .get(&number)
            .map_or_else(|| number.to_string(), ToString::to_string)
    }
}

/// Sessions that were found, as the table had them.
pub(crate) struct Found {
    total: u64,
    matched: u64,
    sessions: Vec<Session>,
}

impl Found {
    /// As operators see them. `copies` has to be learnt after the table was read; `policies` are the names of all.
    pub(crate) fn show(self, table: &Table, policies: &[String], copies: &Copies) -> SessionsView {
        let policies = Names::of_all(policies);
        let sessions = self.sessions.iter();
        SessionsView {
            total: self.total,
            matched: self.matched,
            sessions: sessions
                .map(|session| show(table, &policies, copies, session))
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
    for reader in table.readers() {
        reader.scan(0, reader.capacity(), |_, session| {
            if matches(filter, &session) {
                found.matched += 1;
                if found.sessions.len() < limit as usize {
                    found.sessions.push(session);
                }
            }
        });
    }
    found
}

/// So many slots of one shard as are looked through in far less than a millisecond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The shard, which is its worker's number too.
    pub(crate) shard: u16,
    first: u32,
}

/// All parts of a table.
pub(crate) fn parts(table: &Table) -> impl Iterator<Item = Part> {
    (0..).zip(table.readers()).flat_map(|(shard, reader)| {
        let firsts = (0..reader.capacity()).step_by(PART as usize);
        firsts.map(move |first| Part { shard, first })
    })
}

/// The original tuples of the sessions in a part that match.
pub(crate) fn matching(table: &Table, filter: &SessionFilter, part: Part) -> Vec<Tuple> {
    let mut found = Vec::new();
    if let Some(reader) = table.readers().get(usize::from(part.shard)) {
        reader.scan(part.first, PART, |_, session| {
            if matches(filter, &session) {
                found.push(session.tuples[0]);
            }
        });
    }
    found
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

fn show(table: &Table, policies: &Names<'_>, copies: &Copies, session: &Session) -> SessionView {
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
        copies: copies.of(session),
        policy: policies.of(session),
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
                policy: policies::numbers(["out"].into_iter())[0],
                ..Session::default()
            };
            shard.insert(session, Tick(0)).unwrap();
        }
        let mut table = Table::new(1, vec![shard.reader()], Timeouts::default());
        table.now = Tick(100);
        (shard, table)
    }

    #[test]
    fn the_list_is_filtered_and_limited() {
        let (_shard, table) = table();
        let policies = ["new", "out"].map(str::to_owned);
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
    }

    #[test]
    fn every_session_is_in_one_part() {
        let settings = || Settings::new(10_000);
        let mut shards = [0, 1].map(|_| Shard::new(settings(), Memory::Plain).unwrap());
        let [client, server] = [100, 200].map(|host| Ipv4Addr::new(192, 0, 2, host));
        let originals = (0..9_000).map(|port| Tuple::v4(client, port, server, 53, 17));
        let originals: Vec<Tuple> = originals.collect();
        for (version, original) in (1..).zip(&originals) {
            let session = Session {
                tuples: [*original, original.reversed()],
                version: Version(version),
                ..Session::default()
            };
            let shard = usize::from(original.src_port % 3 == 0);
            shards[shard].insert(session, Tick(0)).unwrap();
        }
        let readers = shards.iter().map(Shard::reader).collect();
        let table = Table::new(1, readers, Timeouts::default());
        let found = |query| -> Vec<(u16, Tuple)> {
            let filter = SessionFilter::from_query(query).unwrap();
            let of = |part: Part| {
                let tuples = matching(&table, &filter, part);
                assert!(tuples.len() <= PART as usize);
                tuples.into_iter().map(move |tuple| (part.shard, tuple))
            };
            parts(&table).flat_map(of).collect()
        };
        let mut all = found("");
        all.sort_unstable_by_key(|(_, tuple)| tuple.src_port);
        let homes = originals.iter();
        let homes = homes.map(|tuple| (u16::from(tuple.src_port % 3 == 0), *tuple));
        assert!(all.into_iter().eq(homes));
        assert_eq!(found("port=300"), [(1, originals[300])]);
    }

    #[test]
    fn a_session_has_the_name_of_its_policy_private_or_not_and_else_a_number() {
        let names = ["new", "out"].map(str::to_owned);
        let numbers = policies::numbers(names.iter().map(String::as_str));
        let names = Names::of_all(&names);
        let named = |policy| {
            names.of(&Session {
                policy,
                ..Session::default()
            })
        };
        assert_eq!(named(numbers[1]), "out");
        assert_eq!(named(numbers[1] | Session::PRIVATE), "out");
        assert_eq!(named(1 | Session::PRIVATE), "1");
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
        assert_eq!(copies.of(&first), [2]);
        assert_eq!(copies.of(&second), [2, 3]);
        let foreign = Session { owner: 3, ..first };
        assert_eq!(copies.of(&foreign), [1]);
        let provisional = Session {
            version: Version::PROVISIONAL,
            ..foreign
        };
        assert!(copies.of(&provisional).is_empty());
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
