//! What the control core counts itself. Workers and the cluster's state machine have their own.

/// Declares the counters with what they mean to an operator.
macro_rules! counters {
    ($(#[$about:meta])* $set:ident { $($name:ident: $help:literal;)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $set {
            $(#[doc = $help] pub(crate) $name: u64,)+
        }

        impl $set {
            /// Name, meaning and value of each.
            pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $help, self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Counts of the control core since the unit started. Only its thread touches them.
    ControlCounters {
        arp_malformed: "ARP messages that make no sense.";
        arp_requests_sent: "ARP requests sent.";
        arp_replies_sent: "ARP replies sent for the gateway's own addresses.";
        address_conflicts: "ARP messages of another station that uses an address of this gateway.";
        announcements_sent: "Gratuitous ARP frames sent.";
        announcements_repeated: "Times that an interface was announced to again because nothing came.";
        link_failed_signals: "Times that links were taken down so that switches forget this unit.";
        monitor_questions: "Questions sent to the hosts of monitors.";
        echo_replies_sent: "ICMP echo requests to the gateway's own addresses that were answered.";
        local_unhandled: "Packets to the gateway's own addresses that nothing here answers.";
        neighbour_unreachable: "Packets dropped because their neighbour did not answer.";
        neighbour_queue_full: "Packets dropped because too many wait for one neighbour.";
        neighbour_table_full: "Packets dropped because too many neighbours are known or asked for.";
        neighbour_flushed: "Waiting packets dropped because their interface went away.";
        sync_interface_strangers: "Frames on sync interfaces that are not of the cluster.";
        commands_deferred: "Changes of sessions that waited because a worker's ring was full.";
        sync_frames_postponed: "Frames with changes of sessions that waited because a worker had fallen behind.";
        sync_frames_dropped: "Frames with changes of sessions that were dropped because too many waited; they are sent again.";
        acked_confirmed: "First packets that waited until a peer had their sessions.";
        acked_timeouts: "First packets that left because no peer had their sessions in time.";
        acked_alone: "First packets that left at once because there is no peer.";
        acked_queue_full: "First packets that left at once because too many wait.";
        worker_stalls: "Times that a worker stopped turning.";
    }
}

counters! {
    /// Frames of the control core that did not get out.
    OutgoingCounters {
        control_no_buffers: "Frames of the control core that were not sent for want of a buffer.";
        control_inject_full: "Frames of the control core that a worker's ring did not take.";
        control_transmit_full: "Frames of the control core that a sync interface did not take.";
    }
}
