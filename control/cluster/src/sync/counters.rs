//! What session synchronisation counts. A session that a peer sent and the table knew better is counted
//! by the table.

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes that the workers reported.
    pub deltas_pushed: u64,
    /// Of these, changes that took the place of one that waited.
    pub deltas_merged: u64,
    /// Sessions that were born and died before anything was sent.
    pub deltas_cancelled: u64,
    /// Changes put into segments, without those of repairs.
    pub deltas_sent: u64,
    /// Changes handed out to the table.
    pub deltas_applied: u64,
    /// Of these, changes of an earlier term, or out of a repair, from another unit than the primary.
    pub deltas_late: u64,
    /// Changes of dead units passed on to the other survivors.
    pub deltas_relayed: u64,
    /// Segments sent for the first time.
    pub segments_sent: u64,
    /// Segments sent again.
    pub segments_resent: u64,
    /// Segments received in order.
    pub segments_received: u64,
    /// Segments received that were here before.
    pub segments_duplicate: u64,
    /// Segments received before an earlier one.
    pub segments_early: u64,
    /// Segments received too far ahead to wait for.
    pub segments_beyond: u64,
    /// Segments that the window moved over before a peer had them, by peer.
    pub segments_abandoned: u64,
    /// Segments of peers lost for good.
    pub segments_lost: u64,
    /// Times that segments of a peer were found lost.
    pub gaps: u64,
    /// Acknowledgements sent.
    pub acknowledgements_sent: u64,
    /// Acknowledgements of this unit's streams received.
    pub acknowledgements_received: u64,
    /// Frames that told a peer where the streams are.
    pub positions_sent: u64,
    /// Overflows that the workers reported.
    pub overflows: u64,
    /// Requests for repairs sent, repeated ones included.
    pub repairs_asked: u64,
    /// Repairs begun for peers.
    pub repairs_begun: u64,
    /// Of these, repairs sent whole.
    pub repairs_sent: u64,
    /// Sessions sent in repairs.
    pub sessions_repaired: u64,
    /// Repairs received whole.
    pub repairs_received: u64,
    /// Sessions removed because the primary's repair did not mention them.
    pub sessions_swept: u64,
    /// Sessions newer than all that the primary knows, found after its repair and passed on.
    pub sessions_told: u64,
    /// Frames refused for their form.
    pub malformed: u64,
    /// Frames of units that are not up, or of another boot of theirs.
    pub strangers: u64,
    /// Acknowledgements of what was never sent, or of another boot.
    pub acknowledgements_foreign: u64,
}
