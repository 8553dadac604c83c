//! What session synchronisation counts. A session that a peer sent and the table knew better is counted
//! by the table.

use crate::status::counters;

counters! {
    /// Counts since the start.
    Counters {
        deltas_pushed: "Changes that the workers reported.";
        deltas_merged: "Of these, changes that took the place of one that waited.";
        deltas_cancelled: "Sessions that were born and died before anything was sent.";
        deltas_sent: "Changes put into segments, without those of repairs.";
        deltas_applied: "Changes handed out to the table.";
        deltas_late: "Of these, changes from another unit than the primary.";
        deltas_relayed: "Changes of dead units passed on to the other survivors.";
        deltas_contradicted: "Changes received of sessions that this unit had owned and removed.";
        segments_sent: "Segments sent for the first time.";
        segments_resent: "Segments sent again.";
        segments_received: "Segments received in order.";
        segments_duplicate: "Segments received that were here before.";
        segments_early: "Segments received before an earlier one.";
        segments_beyond: "Segments received too far ahead to wait for.";
        segments_abandoned: "Segments that the window moved over before a peer had them, by peer.";
        segments_lost: "Segments of peers lost for good.";
        gaps: "Times that segments of a peer were found lost.";
        acknowledgements_sent: "Acknowledgements sent.";
        acknowledgements_received: "Acknowledgements of this unit's streams received.";
        positions_sent: "Frames that told a peer where the streams are.";
        overflows: "Overflows that the workers reported.";
        repairs_asked: "Requests for repairs sent, repeated ones included.";
        repairs_begun: "Repairs begun for peers.";
        repairs_sent: "Of these, repairs sent whole.";
        sessions_repaired: "Sessions sent in repairs.";
        repairs_received: "Repairs received whole.";
        sessions_swept: "Sessions removed because the primary's repair did not mention them.";
        sessions_told: "Sessions newer than all that the primary knows, found after its repair and passed on.";
        digest_passes: "Passes over the table that made digests of it.";
        digests_sent: "Frames of digests sent.";
        digests_compared: "Buckets of sessions compared with the primary's.";
        digests_different: "Of these, buckets that differed.";
        sessions_overridden: "Sessions that differed from the primary's in one version, and gave way or were told anew.";
        malformed: "Frames refused for their form.";
        strangers: "Frames of units that are not up, or of another boot of theirs.";
        acknowledgements_foreign: "Acknowledgements of what was never sent, or of another boot.";
    }
}
