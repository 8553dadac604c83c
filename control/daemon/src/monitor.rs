//! Hosts whose answers count in the election like links: each unit asks them itself, whatever its role.
//!
//! By ARP it asks without a sender's address (the probe of RFC 5227 section 2.1.1), which changes nobody's
//! cache and needs no address of the unit's own; by ICMP from the unit's address. Anything that the host
//! itself says by ARP is as good as an answer.
//!
//! Pure but for the frames that it builds: the caller sends them, and brings what came.

use std::net::Ipv4Addr;
use std::time::Duration;

use cluster::Time;
use config::{Monitor as Settings, MonitorKind};
use forward::{InterfaceId, PuntReason, Punted};
use packet::build::{Link, arp_request, icmp_echo_request};
use packet::{Kind, Mac, arp, parse};

use crate::plan::interface_id;

/// The smallest Ethernet frame without its check sequence.
const MIN_FRAME: usize = 60;

/// One host that is asked.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) name: String,
    pub(crate) interface: InterfaceId,
    pub(crate) target: Ipv4Addr,
    kind: MonitorKind,
    interval: Duration,
    loss: u32,
    due: Time,
    sequence: u16,
    /// Questions in a row that were not answered.
    unanswered: u32,
    /// Whether it counts as up. At the start it does, until it was asked often enough.
    up: bool,
}

/// What an answer looks like, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    interface: InterfaceId,
    kind: MonitorKind,
    from: Ipv4Addr,
}

impl Answer {
    /// The answer that a frame for the control core may be.
    pub(crate) fn of(punted: &Punted) -> Option<Self> {
        if !matches!(punted.reason, PuntReason::Arp | PuntReason::Local) {
            return None;
        }
        Self::read(punted.interface, punted.mbuf.data())
    }

    fn read(interface: InterfaceId, frame: &[u8]) -> Option<Self> {
        let layout = parse(frame).ok()?;
        let (kind, from) = match layout.kind {
            Kind::Arp => {
                let message = arp::Message::read(frame, &layout)?;
                (MonitorKind::Arp, message.sender_ip())
            }
            Kind::IcmpQuery { request: false } => (MonitorKind::Icmp, layout.tuple.src_v4()?),
            _ => return None,
        };
        Some(Self {
            interface,
            kind,
            from,
        })
    }
}

impl Monitor {
    pub(crate) fn new(settings: &Settings, now: Time) -> Self {
        Self {
            name: settings.name.clone(),
            interface: interface_id(settings.interface),
            target: settings.target,
            kind: settings.kind,
            interval: settings.interval,
            loss: settings.loss,
            due: now,
            sequence: 0,
            unanswered: 0,
            up: true,
        }
    }

    /// Whether it counts as up.
    pub(crate) const fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it is time for the next question. Then it is also time to see whether the ones before were
    /// answered.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + self.interval;
        if self.unanswered >= self.loss {
            self.up = false;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.sequence = self.sequence.wrapping_add(1);
        true
    }

    /// The host may have answered.
    pub(crate) fn hear(&mut self, answer: Answer) {
        let own = Answer {
            interface: self.interface,
            kind: self.kind,
            from: self.target,
        };
        if answer == own {
            self.unanswered = 0;
            self.up = true;
        }
    }

    /// The question, from a station and, by ICMP, an address. `None` if there is none that it could be sent
    /// from.
    pub(crate) fn question(&self, own: Mac, address: Option<Ipv4Addr>) -> Option<Vec<u8>> {
        let mut frame = vec![0; MIN_FRAME];
        let link = Link::broadcast(own);
        match self.kind {
            MonitorKind::Arp => {
                arp_request(&mut frame, &link, Ipv4Addr::UNSPECIFIED, self.target)?;
            }
            MonitorKind::Icmp => {
                // Its neighbour's station is found on the way.
                let link = Link::new(own, Mac::ZERO);
                let identifier = u16::from_be_bytes(*b"tg");
                let sequence = self.sequence;
                icmp_echo_request(
                    &mut frame,
                    &link,
                    (address?, self.target),
                    identifier,
                    sequence,
                )?;
            }
        }
        Some(frame)
    }

    /// True when the question must be given to the resolver, because it is for one station.
    pub(crate) fn needs_neighbour(&self) -> bool {
        self.kind == MonitorKind::Icmp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::InterfaceIndex;
    use packet::build::arp_reply;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn monitor(kind: MonitorKind) -> Monitor {
        let settings = Settings {
            name: "router".into(),
            interface: InterfaceIndex(1),
            target: ROUTER,
            kind,
            interval: Duration::from_secs(1),
            loss: 3,
            weight: 1,
        };
        Monitor::new(&settings, Time(0))
    }

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    fn answer(kind: MonitorKind) -> Answer {
        Answer {
            interface: InterfaceId(1),
            kind,
            from: ROUTER,
        }
    }

    #[test]
    fn it_is_down_when_so_many_questions_were_not_answered_and_up_at_the_first_answer() {
        let mut monitor = monitor(MonitorKind::Arp);
        let mut ask = |second| {
            assert!(monitor.is_due(at(second)));
            assert!(!monitor.is_due(at(second)));
            monitor.is_up()
        };
        assert_eq!([0, 1, 2, 3].map(&mut ask), [true, true, true, false]);
        assert!(!ask(4));
        monitor.hear(answer(MonitorKind::Arp));
        assert!(monitor.is_up());
        for second in 5..8 {
            assert!(monitor.is_due(at(second)) && monitor.is_up());
        }
        assert!(monitor.is_due(at(8)));
        assert!(!monitor.is_up());
    }

    #[test]
    fn only_the_hosts_own_answer_on_its_own_interface_counts() {
        let mut monitor = monitor(MonitorKind::Arp);
        (0..4).for_each(|second| _ = monitor.is_due(at(second)));
        let right = answer(MonitorKind::Arp);
        let others = [
            Answer {
                interface: InterfaceId(0),
                ..right
            },
            Answer {
                from: Ipv4Addr::new(198, 51, 100, 9),
                ..right
            },
            answer(MonitorKind::Icmp),
        ];
        for other in others {
            monitor.hear(other);
            assert!(!monitor.is_up(), "{other:?}");
        }
        monitor.hear(right);
        assert!(monitor.is_up());
    }

    #[test]
    fn an_arp_question_is_a_probe_and_its_answer_is_read() {
        let monitor = monitor(MonitorKind::Arp);
        let question = monitor.question(OWN, None).unwrap();
        assert_eq!(question.len(), MIN_FRAME);
        let layout = parse(&question).unwrap();
        let message = arp::Message::read(&question, &layout).unwrap();
        assert_eq!(question[..6], [0xff; 6]);
        assert_eq!(message.sender_ip(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(message.target_ip(), ROUTER);
        let mut frame = [0; MIN_FRAME];
        let link = Link::new(THEIRS, OWN);
        arp_reply(&mut frame, &link, ROUTER, Ipv4Addr::UNSPECIFIED).unwrap();
        let read = Answer::read(InterfaceId(1), &frame);
        assert_eq!(read, Some(answer(MonitorKind::Arp)));
    }

    #[test]
    fn an_icmp_question_is_an_echo_request_from_the_units_address() {
        let monitor = monitor(MonitorKind::Icmp);
        assert_eq!(monitor.question(OWN, None), None);
        let own = Ipv4Addr::new(198, 51, 100, 11);
        let question = monitor.question(OWN, Some(own)).unwrap();
        let layout = parse(&question).unwrap();
        assert_eq!(layout.kind, Kind::IcmpQuery { request: true });
        assert_eq!(
            (layout.tuple.src_v4(), layout.tuple.dst_v4()),
            (Some(own), Some(ROUTER))
        );
        assert_eq!(
            Answer::read(InterfaceId(1), &question),
            None,
            "a question is no answer"
        );
        let mut reply = [0; MIN_FRAME];
        let link = Link::new(THEIRS, OWN);
        packet::build::icmp_echo_reply(&mut reply, &link, &question, &layout).unwrap();
        let read = Answer::read(InterfaceId(1), &reply);
        assert_eq!(read, Some(answer(MonitorKind::Icmp)));
    }
}
