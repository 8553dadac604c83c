//! Between the witness, the cluster's state machine and the workers' gate.

use api::WitnessView;
use cluster::{LeaseHolder, LeaseWish, Time};

use super::Control;

impl Control {
    /// Hands the latest answer of the witness to the state machine. The workers are told first: what a
    /// promotion sends must find the gate open.
    pub(super) fn take_lease(&mut self, now: Time) {
        let Some(report) = self
            .witness
            .as_ref()
            .and_then(|witness| witness.latest(now))
        else {
            return;
        };
        self.node.handle_witness(report, now);
        self.move_lease();
    }

    /// What the state machine wants of the witness changed. It is silent first, and gives the lease back
    /// then.
    pub(super) fn wish(&mut self, wish: LeaseWish) {
        self.move_lease();
        if let Some(witness) = &self.witness {
            witness.wish(wish);
        }
    }

    fn move_lease(&self) {
        if let (Some(witness), Some(until)) = (&self.witness, self.node.lease_until()) {
            witness.lease.set_end(until.0);
        }
    }

    /// Gives back what this unit has at the witness, at its end.
    pub(super) fn leave_witness(&mut self) {
        if let Some(witness) = self.witness.take() {
            witness.leave();
        }
    }

    /// The witness, as operators see it.
    pub(crate) fn witness_view(&self) -> Option<WitnessView> {
        let status = self.node.status(self.clock.now()).witness?;
        let own = self.config.unit.id;
        Some(WitnessView {
            answers: status.answers,
            holder: match status.holder {
                LeaseHolder::Unknown | LeaseHolder::Nobody | LeaseHolder::Other(None) => None,
                LeaseHolder::Own => Some(own),
                LeaseHolder::Other(Some(unit)) => Some(unit.get()),
            },
            lease_ms: u64::try_from(status.remaining.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
