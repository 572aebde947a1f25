//! Cut and lossy links, as nftables rules of the router.

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Host;

type Addresses = (Ipv4Addr, Option<Ipv6Addr>);

/// How many of the packets from one host to another are dropped.
pub(super) struct Fault {
    from: Addresses,
    to: Addresses,
    percent: u8,
}

impl Fault {
    pub(super) fn new(from: &Host, to: &Host, percent: u8) -> Self {
        Self {
            from: (from.address(), Some(from.address6())),
            to: (to.address(), Some(to.address6())),
            percent,
        }
    }

    /// All packets from one address to another.
    pub(super) fn between(from: Ipv4Addr, to: Ipv4Addr) -> Self {
        Self {
            from: (from, None),
            to: (to, None),
            percent: 100,
        }
    }

    pub(super) fn is_between(&self, one: &Host, other: &Host) -> bool {
        let ends = [self.from.0, self.to.0];
        ends == [one.address(), other.address()] || ends == [other.address(), one.address()]
    }
}

/// The script that replaces all faults by these. It drops silently, for what is established too: that is a hang.
pub(super) fn rules(faults: &[Fault], unplugged: &[String]) -> String {
    let mut script = "flush chain inet faults forward\n".to_owned();
    for device in unplugged {
        for side in ["iifname", "oifname"] {
            script += &format!("add rule inet faults forward {side} {device} drop\n");
        }
    }
    for fault in faults {
        let chance = match fault.percent {
            100.. => String::new(),
            percent => format!("numgen random mod 100 < {percent} "),
        };
        let (from, to) = (fault.from, fault.to);
        let mut drop = |family, from: &dyn Display, to: &dyn Display| {
            script += &format!(
                "add rule inet faults forward {family} saddr {from} {family} daddr {to} {chance}drop\n"
            );
        };
        drop("ip", &from.0, &to.0);
        if let (Some(from), Some(to)) = (from.1, to.1) {
            drop("ip6", &from, &to);
        }
    }
    script
}
