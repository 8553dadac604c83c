//! Prometheus metrics, read when they are scraped.

use api::{CounterView, LinkState, Role, Status, UnitView, WitnessView};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::control::Control;

/// Among the counters, those that tell how much there is now.
const LEVELS: [&str; 2] = ["table_sessions", "table_half_open"];

/// Everything that is exported, at one moment.
#[derive(Debug)]
pub(crate) struct Metrics {
    status: Status,
    /// All units of the cluster, this one included.
    members: Vec<UnitView>,
    counters: Vec<CounterView>,
    witness: Option<WitnessView>,
}

impl Metrics {
    pub(crate) fn read(control: &Control) -> Self {
        Self {
            status: control.status(),
            members: control.cluster().units,
            counters: control.counters(),
            witness: control.witness_view(),
        }
    }

    /// As text.
    pub(crate) fn encode(self) -> Result<String, std::fmt::Error> {
        let labels = [
            ("unit".into(), self.status.unit.to_string().into()),
            ("cluster".into(), self.status.cluster.to_string().into()),
        ];
        let mut registry = Registry::with_prefix_and_labels("tidegate", labels.into_iter());
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    fn gauges(&self) -> impl Iterator<Item = (&'static str, &'static str, i64)> {
        let status = &self.status;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let alive = status.peers.iter().filter(|peer| peer.alive).count();
        [
            (
                "primary",
                "1 while this unit is primary.",
                i64::from(status.role == Role::Primary),
            ),
            ("term", "The highest term known.", i64::from(status.term)),
            (
                "synced",
                "1 while this unit holds all sessions.",
                i64::from(status.synced),
            ),
            (
                "sessions",
                "Sessions in the table.",
                number(status.sessions.total),
            ),
            (
                "sessions_capacity",
                "Sessions that fit.",
                number(status.sessions.capacity),
            ),
            (
                "peers_alive",
                "Other units that are heard.",
                number(alive as u64),
            ),
            (
                "uptime_seconds",
                "Time since the unit started.",
                number(status.uptime_s),
            ),
        ]
        .into_iter()
        .chain(self.witness.map(|witness| {
            let answers = i64::from(witness.answers);
            ("witness_answers", "1 while the witness answers.", answers)
        }))
    }

    /// What each unit of the cluster does, as this one knows it; lag is that of the others behind this one.
    fn per_member(&self, encoder: &mut DescriptorEncoder) -> std::fmt::Result {
        type Read = fn(&UnitView) -> f64;
        let families: [(&str, &str, Read); 7] = [
            ("member_alive", "1 while a unit is heard", |unit| {
                f64::from(u8::from(unit.alive))
            }),
            (
                "member_weight",
                "Weight of a unit in the schedule",
                |unit| f64::from(unit.weight),
            ),
            (
                "member_slots",
                "Slots of the schedule that are a unit's",
                |unit| f64::from(unit.slots),
            ),
            (
                "member_owned_sessions",
                "Sessions that a unit owns",
                |unit| unit.owned as f64,
            ),
            (
                "member_lag_deltas",
                "Changes of this unit that a unit has not acknowledged",
                |unit| unit.lag as f64,
            ),
            (
                "member_lag_seconds",
                "Age of the oldest change of this unit that a unit has not acknowledged",
                |unit| unit.lag_ms as f64 / 1_000.0,
            ),
            (
                "member_stuck",
                "1 while a unit is behind and takes no changes in",
                |unit| f64::from(u8::from(unit.stuck)),
            ),
        ];
        let kind = ConstGauge::new(0.0).metric_type();
        for (name, help, read) in families {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for member in &self.members {
                let labels = [("member", member.unit.to_string())];
                ConstGauge::new(read(member)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn per_interface(&self, encoder: &mut DescriptorEncoder) -> std::fmt::Result {
        let interfaces = &self.status.interfaces;
        let up = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor("link_up", "1 while a link is up", None, up)?;
        for interface in interfaces {
            let value = ConstGauge::new(i64::from(interface.link == LinkState::Up));
            let labels = [("interface", interface.name.clone())];
            value.encode(family.encode_family(&labels)?)?;
        }
        let count = ConstCounter::new(0u64).metric_type();
        let mut family =
            encoder.encode_descriptor("rx_packets", "Packets received", None, count)?;
        for interface in interfaces {
            let labels = [("interface", interface.name.clone())];
            ConstCounter::new(interface.rx_packets).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("tx_packets", "Packets sent", None, count)?;
        for interface in interfaces {
            let labels = [("interface", interface.name.clone())];
            ConstCounter::new(interface.tx_packets).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        for (name, help, value) in self.gauges() {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let (levels, counters): (Vec<_>, Vec<_>) = self
            .counters
            .iter()
            .partition(|counter| LEVELS.contains(&counter.name.as_str()));
        for level in levels {
            let value = ConstGauge::new(i64::try_from(level.value).unwrap_or(i64::MAX));
            let kind = value.metric_type();
            value.encode(encoder.encode_descriptor(&level.name, &level.help, None, kind)?)?;
        }
        for counter in counters {
            let value = ConstCounter::new(counter.value);
            let kind = value.metric_type();
            value.encode(encoder.encode_descriptor(&counter.name, &counter.help, None, kind)?)?;
        }
        self.per_member(&mut encoder)?;
        self.per_interface(&mut encoder)
    }
}
