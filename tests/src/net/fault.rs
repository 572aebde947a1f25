//! Cut and lossy links, as nftables rules of the router.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Host;

type Addresses = (Ipv4Addr, Ipv6Addr);

/// How many of the packets from one host to another are dropped.
pub(super) struct Fault {
    from: Addresses,
    to: Addresses,
    percent: u8,
}

impl Fault {
    pub(super) fn new(from: &Host, to: &Host, percent: u8) -> Self {
        Self {
            from: (from.address(), from.address6()),
            to: (to.address(), to.address6()),
            percent,
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
        for (family, from, to) in [
            ("ip", from.0.to_string(), to.0.to_string()),
            ("ip6", from.1.to_string(), to.1.to_string()),
        ] {
            script += &format!(
                "add rule inet faults forward {family} saddr {from} {family} daddr {to} {chance}drop\n"
            );
        }
    }
    script
}
