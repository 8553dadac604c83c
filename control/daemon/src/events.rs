//! What happened lately, for operators: a bounded list, and the log.

use std::collections::VecDeque;

use api::{EventLevel, EventView};
use cluster::Time;

use crate::clock::Clock;
use crate::moment::rfc3339;

/// How many events are kept.
const KEPT: usize = 1_000;

/// The last events, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Events(VecDeque<EventView>);

impl Events {
    /// Keeps an event and writes it to the log.
    pub(crate) fn record(&mut self, now: Time, level: EventLevel, kind: &str, message: String) {
        match level {
            EventLevel::Info => tracing::info!("{message}"),
            EventLevel::Warning => tracing::warn!("{message}"),
            EventLevel::Error => tracing::error!("{message}"),
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(EventView {
            time: rfc3339(Clock::wall()),
            uptime_ms: now.0 / 1_000_000,
            level,
            kind: kind.to_owned(),
            message,
        });
    }

    /// All that are kept.
    pub(crate) fn view(&self) -> Vec<EventView> {
        self.0.iter().cloned().collect()
    }
}
