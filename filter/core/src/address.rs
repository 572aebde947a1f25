//! Where a Redis node or a Sentinel listens.

use core::fmt;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Longest host name that DNS allows (RFC 1035 §2.3.4).
const MAX_HOST_LEN: usize = 253;
/// Longest part of one between two dots.
const MAX_LABEL_LEN: usize = 63;

/// A usable address: an IP or a host name, and a port. IPv6 prints in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Why an address that a Sentinel gave, or a configuration names, cannot be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// `0.0.0.0` or `::`. Sentinel reports it after some restarts, and Linux would dial the proxy itself.
    Unspecified,
    /// Port 0, or not a port.
    Port,
    /// Neither an IP nor a host name.
    Host,
    /// Link-local (169.254.169.254 tells a cloud's secrets), multicast or broadcast.
    NotANode,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "the unspecified address cannot be dialled",
            Self::Port => "the port must be 1 to 65535",
            Self::Host => "neither an IP address nor a host name",
            Self::NotANode => "link-local, multicast and broadcast addresses are nobody's Redis",
        })
    }
}

impl core::error::Error for AddressError {}

impl Address {
    /// Checks what a Sentinel answers: host and port apart, as text.
    ///
    /// # Errors
    /// [`AddressError`] for anything that must never be routed to.
    pub fn new(host: &str, port: &str) -> Result<Self, AddressError> {
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(AddressError::Port)?;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Self {
                host: Host::Ip(dialable(ip)?),
                port,
            });
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        if name.len() > MAX_HOST_LEN || !name.split('.').all(is_label) {
            return Err(AddressError::Host);
        }
        // What ends in a number is an IP, mistyped (10.0.0.256) or in a notation that only some resolvers know (0x7f.1).
        if name.rsplit('.').next().is_none_or(is_number) {
            return Err(AddressError::Host);
        }
        Ok(Self {
            host: Host::Name(name.to_ascii_lowercase()),
            port,
        })
    }

    /// Checks `host:port`, with IPv6 in brackets: how Envoy prints an address and how a configuration names one.
    ///
    /// # Errors
    /// As [`Address::new`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::Port)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(AddressError::Host)?,
            None => host,
        };
        Self::new(host, port)
    }

    /// The host without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a name has to be resolved before it can be dialled.
    #[must_use]
    pub fn is_name(&self) -> bool {
        matches!(self.host, Host::Name(_))
    }
}

impl Address {
    /// The same port of what its host name resolved to.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Self {
        Self {
            host: Host::Ip(ip),
            port: self.port,
        }
    }
}

/// An IP address that may be dialled, in its shortest form.
///
/// # Errors
/// [`AddressError::Unspecified`], [`AddressError::NotANode`].
pub fn dialable(ip: IpAddr) -> Result<IpAddr, AddressError> {
    // First, as ::ffff:0.0.0.0 is the unspecified address, too.
    let ip = ip.to_canonical();
    let nobody = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
    };
    if ip.is_unspecified() {
        Err(AddressError::Unspecified)
    } else if nobody {
        Err(AddressError::NotANode)
    } else {
        Ok(ip)
    }
}

/// One part of a host name. Underscores are common in names that Docker Compose makes.
fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL_LEN).contains(&label.len()) && label.bytes().all(plain)
}

fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or(label.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(ip) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_dialled() {
        for (host, port, shown) in [
            ("127.0.0.1", "7001", "127.0.0.1:7001"),
            ("fd00::1", "6379", "[fd00::1]:6379"),
            ("::ffff:10.0.0.1", "6379", "10.0.0.1:6379"),
            (
                "Redis-0.redis.ns.svc.cluster.local.",
                "6379",
                "redis-0.redis.ns.svc.cluster.local:6379",
            ),
            // A container's name.
            ("3fa2b1c4d5e6", "6379", "3fa2b1c4d5e6:6379"),
        ] {
            let address = Address::new(host, port).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(Address::parse(shown).unwrap(), address);
        }
    }

    #[test]
    fn what_may_not() {
        for (host, port, error) in [
            ("0.0.0.0", "6379", AddressError::Unspecified),
            ("::", "6379", AddressError::Unspecified),
            ("::ffff:0.0.0.0", "6379", AddressError::Unspecified),
            ("10.0.0.1", "0", AddressError::Port),
            ("10.0.0.1", "65536", AddressError::Port),
            ("10.0.0.1", "-1", AddressError::Port),
            ("169.254.169.254", "80", AddressError::NotANode),
            ("::ffff:169.254.169.254", "80", AddressError::NotANode),
            ("fe80::1", "6379", AddressError::NotANode),
            ("224.0.0.1", "6379", AddressError::NotANode),
            ("255.255.255.255", "6379", AddressError::NotANode),
            ("ff02::1", "6379", AddressError::NotANode),
            ("10.0.0.256", "6379", AddressError::Host),
            ("", "6379", AddressError::Host),
            (".", "6379", AddressError::Host),
            ("redis..", "6379", AddressError::Host),
            ("redis..ns", "6379", AddressError::Host),
            ("0x7f.1", "6379", AddressError::Host),
            ("0x7f000001", "6379", AddressError::Host),
            ("re dis", "6379", AddressError::Host),
            ("redis\r\nSET", "6379", AddressError::Host),
        ] {
            assert_eq!(Address::new(host, port), Err(error), "{host}:{port}");
        }
    }
}
