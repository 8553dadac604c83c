//! Entering a session under a port that none has: what is drawn first, else searched.

use arrayvec::ArrayVec;
use packet::{Tuple, ipv4};
use session::{Inserted, Key, Reader, Refused, Session};

use super::opening::Port;
use super::{Core, Scene};
use crate::batch::CAPACITY;
use crate::nat::{End, PortSpace};
use crate::port::PortIo;

/// Why a session was not entered.
pub(super) enum Refusal {
    /// The table says so.
    Table(Refused),
    /// No port was free.
    Ports,
}

impl<P: PortIo> Core<P> {
    /// Enters a session into the table. What was drawn for it may be in use; then, or when nothing
    /// was drawn, its port is searched.
    pub(super) fn enter(
        &mut self,
        scene: &Scene<'_>,
        session: &mut Session,
        port: Port,
    ) -> Result<Inserted, Refusal> {
        let now = scene.now.tick;
        // Sessions that began under another number of workers may be in any shard.
        let hopeless = match port {
            Port::Given => false,
            Port::Drawn => self.find_elsewhere(&session.tuples[1]).is_some(),
            Port::Open => true,
        };
        if !hopeless {
            match self.shard.insert(*session, now) {
                Err(Refused::Exists(_)) if port == Port::Drawn => {}
                outcome => return outcome.map_err(Refusal::Table),
            }
        }
        session.tuples[1] = self
            .search_port(scene, &session.tuples[1])
            .ok_or(Refusal::Ports)?;
        self.shard.insert(*session, now).map_err(Refusal::Table)
    }

    /// The reply tuple with a port that no session uses.
    fn search_port(&mut self, scene: &Scene<'_>, reply: &Tuple) -> Option<Tuple> {
        let end = self.end(scene, reply);
        let Self {
            shard,
            readers,
            index,
            chooser,
            ..
        } = self;
        chooser.search(&end, scene.now.tick, |tuples| {
            let keys: ArrayVec<Key, CAPACITY> = tuples.iter().map(Key::from).collect();
            let mut hits = [None; CAPACITY];
            shard.lookup_burst(&keys, &mut hits);
            let mut free = tuples
                .iter()
                .zip(hits)
                .map(|(tuple, hit)| hit.is_none() && elsewhere(readers, *index, tuple).is_none());
            free.position(|free| free)
        })
    }

    /// What a session with such replies competes for ports of. Replies are steered by ports, but not
    /// by identifiers.
    pub(super) fn end<'a>(&self, scene: &Scene<'a>, reply: &Tuple) -> End<'a> {
        let unit = scene.snapshot.unit;
        let workers = u16::try_from(self.readers.len()).unwrap_or(u16::MAX);
        if reply.protocol == ipv4::PROTOCOL_ICMP {
            let space = PortSpace::identifiers(unit, self.index, workers);
            return self.chooser.end(*reply, space, None);
        }
        let steering = (workers > 1).then_some((&*scene.snapshot.steering, self.index));
        self.chooser.end(*reply, PortSpace::ports(unit), steering)
    }

    /// The other worker that has a session with this tuple.
    pub(super) fn find_elsewhere(&self, tuple: &Tuple) -> Option<u16> {
        elsewhere(&self.readers, self.index, tuple)
    }
}

/// The other worker that has a session with this tuple.
fn elsewhere(readers: &[Reader], here: u16, tuple: &Tuple) -> Option<u16> {
    (0u16..).zip(readers).find_map(|(worker, reader)| {
        (worker != here && reader.lookup(tuple).is_some()).then_some(worker)
    })
}
