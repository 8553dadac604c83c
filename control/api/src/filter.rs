//! Which sessions are meant.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Which sessions are meant. What is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// An address of either end, before or after translation.
    pub address: Option<IpAddr>,
    /// A port of either end, before or after translation.
    pub port: Option<u16>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// State, as in [`crate::SessionView::state`].
    pub state: Option<String>,
    /// At most so many are listed, up to [`SessionFilter::LIMIT_MAX`]; the server's own limit when absent.
    pub limit: Option<u32>,
}

/// A query that is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No such parameter.
    #[error("there is no filter \"{0}\"; there are address, port, protocol, state and limit")]
    Unknown(String),
    /// A parameter was given more than once.
    #[error("filter \"{0}\" is given twice; give it once")]
    Twice(String),
    /// The value does not fit.
    #[error("\"{value}\" is no {name}; write {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// The states that a session can have, as the API spells them.
pub const SESSION_STATES: [&str; 8] = [
    "unreplied",
    "replied",
    "syn_sent",
    "syn_received",
    "established",
    "fin_wait",
    "time_wait",
    "reset",
];

/// All of [`SESSION_STATES`], for people.
const STATES_EXPECTED: &str =
    "unreplied, replied, syn_sent, syn_received, established, fin_wait, time_wait or reset";

impl SessionFilter {
    /// The longest list: about 400 MB.
    pub const LIMIT_MAX: u32 = 1_000_000;

    /// Reads the query of a request, without its question mark.
    ///
    /// # Errors
    ///
    /// The first parameter that is unknown, repeated or has no sense.
    pub fn from_query(query: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Colons of IPv6 addresses are what clients escape.
            let value = value.replace("%3A", ":").replace("%3a", ":");
            let fresh = match name {
                "address" => fill(
                    &mut filter.address,
                    number("address", &value, "an IP address")?,
                ),
                "port" => fill(&mut filter.port, number("port", &value, "0 to 65535")?),
                "protocol" => fill(&mut filter.protocol, parse_protocol(&value)?),
                "state" => fill(&mut filter.state, state(&value)?),
                "limit" => fill(&mut filter.limit, limit(&value)?),
                _ => return Err(FilterError::Unknown(name.into())),
            };
            if !fresh {
                return Err(FilterError::Twice(name.into()));
            }
        }
        Ok(filter)
    }
}

/// Puts `value` into an empty `place`; false if it was not empty.
fn fill<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

fn number<T: FromStr>(
    name: &'static str,
    value: &str,
    expected: &'static str,
) -> Result<T, FilterError> {
    value.parse().map_err(|_| FilterError::Value {
        name,
        value: value.into(),
        expected,
    })
}

/// The number of a protocol that is given by name or number.
///
/// # Errors
///
/// If it is neither.
pub fn parse_protocol(value: &str) -> Result<u8, FilterError> {
    match value {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        _ => number("protocol", value, "tcp, udp, icmp or a number"),
    }
}

fn limit(value: &str) -> Result<u32, FilterError> {
    let expected = "0 to 1000000";
    let limit = number("limit", value, expected)?;
    if limit <= SessionFilter::LIMIT_MAX {
        Ok(limit)
    } else {
        Err(FilterError::Value {
            name: "limit",
            value: value.into(),
            expected,
        })
    }
}

fn state(value: &str) -> Result<String, FilterError> {
    if SESSION_STATES.contains(&value) {
        Ok(value.into())
    } else {
        Err(FilterError::Value {
            name: "state",
            value: value.into(),
            expected: STATES_EXPECTED,
        })
    }
}

/// The query of a request, without its question mark; empty when everything matches.
impl fmt::Display for SessionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut write = |name: &str, value: Option<&dyn fmt::Display>| {
            let Some(value) = value else { return Ok(()) };
            write!(f, "{separator}{name}={value}")?;
            separator = "&";
            Ok(())
        };
        write("address", self.address.as_ref().map(|v| v as _))?;
        write("port", self.port.as_ref().map(|v| v as _))?;
        write("protocol", self.protocol.as_ref().map(|v| v as _))?;
        write("state", self.state.as_ref().map(|v| v as _))?;
        write("limit", self.limit.as_ref().map(|v| v as _))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_survives_its_query() {
        let filter = SessionFilter {
            address: Some("2001:db8::1".parse().unwrap()),
            port: Some(443),
            protocol: Some(6),
            state: Some("established".into()),
            limit: Some(10),
        };
        assert_eq!(
            filter.to_string(),
            "address=2001:db8::1&port=443&protocol=6&state=established&limit=10"
        );
        assert_eq!(SessionFilter::from_query(&filter.to_string()), Ok(filter));
        assert_eq!(SessionFilter::default().to_string(), "");
        assert_eq!(SessionFilter::from_query(""), Ok(SessionFilter::default()));
    }

    #[test]
    fn names_and_escapes_are_understood() {
        let filter = SessionFilter::from_query("protocol=udp&address=2001%3Adb8%3a%3A1").unwrap();
        assert_eq!(filter.protocol, Some(17));
        assert_eq!(filter.address, Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn wrong_queries_say_what_would_be_right() {
        let error = |query| SessionFilter::from_query(query).unwrap_err().to_string();
        assert_eq!(
            error("addres=192.0.2.1"),
            "there is no filter \"addres\"; there are address, port, protocol, state and limit"
        );
        assert_eq!(
            error("port=1&port=2"),
            "filter \"port\" is given twice; give it once"
        );
        assert_eq!(
            error("port=70000"),
            "\"70000\" is no port; write 0 to 65535"
        );
        assert_eq!(
            error("limit=1000001"),
            "\"1000001\" is no limit; write 0 to 1000000"
        );
        assert!(SessionFilter::from_query("limit=1000000").is_ok());
        assert_eq!(
            error("state=open"),
            format!("\"open\" is no state; write {STATES_EXPECTED}")
        );
        assert_eq!(
            error("protocol=tpc"),
            "\"tpc\" is no protocol; write tcp, udp, icmp or a number"
        );
    }
}
