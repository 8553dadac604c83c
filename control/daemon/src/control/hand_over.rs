//! How a planned failover goes, for the operator who waits for it.

use std::time::Duration;

use api::{FailoverView, StepView};
use cluster::{HandOverReport, HandOverStep};

use super::Control;

/// How far the last hand-over of this unit is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandOver {
    /// The successor is not primary yet.
    UnderWay,
    /// It is.
    Done(FailoverView),
    /// It could not take over; why, as a sentence.
    Failed(String),
}

impl Control {
    /// How far the last hand-over of this unit is.
    pub(crate) fn hand_over(&self) -> HandOver {
        match self.node.hand_over_report() {
            Some(report) => progress(report),
            None => HandOver::Failed("this unit does not hand over".to_owned()),
        }
    }
}

fn progress(report: &HandOverReport) -> HandOver {
    let to = report.to;
    match report.step {
        HandOverStep::Preparing | HandOverStep::Draining | HandOverStep::Yielding => {
            return HandOver::UnderWay;
        }
        HandOverStep::Cancelled => {
            return HandOver::Failed(format!("unit {to} could not take over"));
        }
        HandOverStep::Relaying | HandOverStep::Done => {}
    }
    let step = |step: &str, about: String, took: Duration| StepView {
        step: step.to_owned(),
        about,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    };
    HandOver::Done(FailoverView {
        message: format!("unit {to} is primary"),
        to: Some(to.get()),
        steps: vec![
            step(
                "prepare",
                format!("new sessions begin at unit {to}"),
                report.prepare,
            ),
            step(
                "drain",
                format!("unit {to} holds every session"),
                report.drain,
            ),
            step(
                "promote",
                format!("unit {to} was heard as primary; packets were passed on to it"),
                report.promotion.unwrap_or_default(),
            ),
        ],
    })
}
