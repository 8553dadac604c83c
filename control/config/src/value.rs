//! Single values: from TOML to their types, each with its range.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeInteger, DeValue};

use crate::address::Ipv4Net;
use crate::device::{Device, SPELLINGS};
use crate::document::{Refusal, join, nearest};
use crate::model::{DestinationNat, PortRange, SourceNat};

type Read<T> = Result<T, Refusal>;

fn wrong_type<T>(value: &DeValue<'_>, expected: &str) -> Read<T> {
    let cause = format!("is a value of type {}", value.type_str());
    Err(Refusal::new(cause, format!("write {expected}")))
}

pub(crate) fn boolean(value: &DeValue<'_>) -> Read<bool> {
    match value.as_bool() {
        Some(value) => Ok(value),
        None => wrong_type(value, "true or false, without quotes"),
    }
}

pub(crate) fn string<'v>(value: &'v DeValue<'_>, expected: &str) -> Read<&'v str> {
    match value.as_str() {
        Some(text) => Ok(text),
        None => wrong_type(value, &format!("{expected}, in quotes")),
    }
}

fn integer(value: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(value.as_str(), value.radix()).ok()
}

/// Reads a number within `range`.
pub(crate) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Read<T>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    move |value| {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let Some(digits) = value.as_integer() else {
            return wrong_type(value, &format!("{expected}, without quotes"));
        };
        integer(digits)
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let cause = format!("{digits} is out of range");
                Refusal::new(cause, format!("write {expected}"))
            })
    }
}

/// Reads a duration such as `"10ms"` within `range`.
pub(crate) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Read<Duration> {
    move |value| {
        let bounds = format!("\"{}\" to \"{}\"", show(*range.start()), show(*range.end()));
        let expected = format!("a duration from {bounds}");
        let text = string(value, &expected)?;
        let duration = humantime::parse_duration(text).map_err(|error| {
            Refusal::new(
                format!("\"{text}\" is not a duration: {error}"),
                format!("write {expected}, such as \"10ms\", \"1s\" or \"5m\""),
            )
        })?;
        if range.contains(&duration) {
            Ok(duration)
        } else {
            let cause = format!("\"{text}\" is out of range");
            Err(Refusal::new(cause, format!("write {expected}")))
        }
    }
}

/// A duration as it is written in a configuration.
pub(crate) fn show(duration: Duration) -> String {
    humantime::format_duration(duration)
        .to_string()
        .replace(' ', "")
}

/// Reads one of `choices`.
pub(crate) fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let quoted: Vec<String> = choices
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let expected = join(quoted.iter().map(String::as_str));
        let text = match value.as_str() {
            Some(text) => text,
            None => return wrong_type(value, &format!("one of {expected}")),
        };
        if let Some((_, found)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(*found);
        }
        let remedy = match nearest(text, choices.iter().map(|(name, _)| *name)) {
            Some(near) => format!("did you mean \"{near}\"? There are {expected}"),
            None => format!("write one of {expected}"),
        };
        Err(Refusal::new(format!("\"{text}\" is no choice"), remedy))
    }
}

/// Reads the name of a unit, an interface or a policy: what fits into a file name, a metric's
/// label and a table's column.
pub(crate) fn name(longest: usize) -> impl Fn(&DeValue<'_>) -> Read<String> {
    move |value| {
        let expected = format!(
            "1 to {longest} letters, digits, \"-\", \"_\" or \".\", the first a letter or digit"
        );
        let text = string(value, &expected)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let valid = text.len() <= longest
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(fits);
        if valid {
            Ok(text.to_owned())
        } else {
            let cause = format!("\"{text}\" can't be a name");
            Err(Refusal::new(cause, format!("write {expected}")))
        }
    }
}

pub(crate) fn device(value: &DeValue<'_>) -> Read<Device> {
    let text = string(value, &format!("one of {SPELLINGS}"))?;
    text.parse::<Device>()
        .map_err(|error| Refusal::new(error.to_string(), format!("write one of {SPELLINGS}")))
}

fn parse_v4(text: &str, expected: &str) -> Read<Ipv4Addr> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(Refusal::new(
            format!("\"{text}\" is an IPv6 address, and IPv6 is not offered by this release"),
            format!("write {expected}"),
        )),
        Err(_) => Err(Refusal::new(
            format!("\"{text}\" is not an address"),
            format!("write {expected}"),
        )),
    }
}

pub(crate) fn ipv4(value: &DeValue<'_>) -> Read<Ipv4Addr> {
    let expected = "an IPv4 address such as \"192.0.2.1\"";
    parse_v4(string(value, expected)?, expected)
}

fn split_prefix(text: &str, expected: &str) -> Read<Ipv4Net> {
    let (address, length) = text.split_once('/').ok_or_else(|| {
        Refusal::new(
            format!("\"{text}\" has no prefix length"),
            format!("write {expected}"),
        )
    })?;
    let address = parse_v4(address, expected)?;
    let prefix = length
        .parse()
        .ok()
        .filter(|prefix| *prefix <= 32)
        .ok_or_else(|| {
            Refusal::new(
                format!("\"/{length}\" is not a prefix length"),
                "write a length from /0 to /32".to_owned(),
            )
        })?;
    Ok(Ipv4Net { address, prefix })
}

/// Reads the address of a host with the prefix length of its network.
pub(crate) fn interface_address(value: &DeValue<'_>) -> Read<Ipv4Net> {
    let expected = "an address with its network's prefix length, such as \"192.0.2.1/24\"";
    let net = split_prefix(string(value, expected)?, expected)?;
    if net.is_host() {
        Ok(net)
    } else {
        let cause = format!("{net} is not the address of a host");
        Err(Refusal::new(cause, format!("write {expected}")))
    }
}

/// Reads a network; an address alone stands for itself.
pub(crate) fn network(value: &DeValue<'_>) -> Read<Ipv4Net> {
    let expected = "a network such as \"192.0.2.0/24\", or an address";
    let text = string(value, expected)?;
    if !text.contains('/') {
        return Ok(Ipv4Net::host(parse_v4(text, expected)?));
    }
    let net = split_prefix(text, expected)?;
    if net == net.network() {
        Ok(net)
    } else {
        let cause = format!("{net} has bits set behind its prefix");
        Err(Refusal::new(
            cause,
            format!(
                "write \"{}\" for the network, or \"{}\" for the one address",
                net.network(),
                net.address
            ),
        ))
    }
}

/// Reads a port, or a range of ports such as `"8000-8080"`.
pub(crate) fn ports(value: &DeValue<'_>) -> Read<PortRange> {
    const EXPECTED: &str = "a port from 1 to 65535, or a range such as \"8000-8080\"";
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let range = match value {
        DeValue::Integer(digits) => integer(digits)
            .and_then(|number| u16::try_from(number).ok())
            .filter(|port| *port > 0)
            .map(|port| (port, port)),
        DeValue::String(text) => match text.split_once('-') {
            Some((first, last)) => port(first.trim()).zip(port(last.trim())),
            None => port(text).map(|port| (port, port)),
        },
        other => return wrong_type(other, EXPECTED),
    };
    match range {
        Some((first, last)) if first <= last => Ok(PortRange { first, last }),
        Some((first, last)) => Err(Refusal::new(
            format!("\"{first}-{last}\" begins above its end"),
            format!("write \"{last}-{first}\""),
        )),
        None => {
            let shown = match value {
                DeValue::Integer(digits) => digits.to_string(),
                other => format!("\"{}\"", other.as_str().unwrap_or_default()),
            };
            Err(Refusal::new(
                format!("{shown} is no port"),
                format!("write {EXPECTED}"),
            ))
        }
    }
}

pub(crate) fn source_nat(value: &DeValue<'_>) -> Read<SourceNat> {
    let expected = "\"masquerade\", or a cluster address of the outgoing interface";
    match string(value, expected)? {
        "masquerade" => Ok(SourceNat::Masquerade),
        text => parse_v4(text, expected).map(SourceNat::Address),
    }
}

pub(crate) fn destination_nat(value: &DeValue<'_>) -> Read<DestinationNat> {
    let expected = "the server as \"ADDRESS\" or \"ADDRESS:PORT\"";
    let text = string(value, expected)?;
    let Some((address, port)) = text
        .rsplit_once(':')
        .filter(|(head, _)| !head.contains(':'))
    else {
        let address = parse_v4(text, expected)?;
        return Ok(DestinationNat {
            address,
            port: None,
        });
    };
    let address = parse_v4(address, expected)?;
    match port.parse().ok().filter(|port| *port > 0) {
        Some(port) => Ok(DestinationNat {
            address,
            port: Some(port),
        }),
        None => Err(Refusal::new(
            format!("\"{port}\" is no port"),
            "write a port from 1 to 65535",
        )),
    }
}

pub(crate) fn socket_address(value: &DeValue<'_>) -> Read<SocketAddr> {
    let expected = "an address and a port, such as \"127.0.0.1:9464\"";
    let text = string(value, expected)?;
    text.parse().map_err(|_| {
        let cause = format!("\"{text}\" is not an address and a port");
        Refusal::new(cause, format!("write {expected}"))
    })
}
