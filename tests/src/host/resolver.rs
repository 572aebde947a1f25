//! The resolver behind `envoy_resolve_dns`.

use std::collections::BTreeMap;
use std::time::Duration;

/// A table of names that a test may change at any time.
pub struct Resolver {
    names: BTreeMap<String, (Vec<String>, u32)>,
    /// How long an answer takes; `None` answers within the question, as `/etc/hosts` does.
    pub delay: Option<Duration>,
    questions: Vec<String>,
}

impl Default for Resolver {
    /// No names, and a server nearby.
    fn default() -> Self {
        Self {
            names: BTreeMap::new(),
            delay: Some(Duration::from_millis(1)),
            questions: Vec::new(),
        }
    }
}

impl Resolver {
    /// Gives a name its addresses, or takes them away.
    pub fn set(&mut self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|ip| (*ip).to_owned()).collect();
        self.names.insert(name.to_owned(), (addresses, ttl));
    }

    /// What was asked so far.
    pub fn questions(&self) -> &[String] {
        &self.questions
    }

    pub(super) fn ask(&mut self, name: &str) -> (u32, Option<Duration>) {
        self.questions.push(name.to_owned());
        (self.questions.len() as u32, self.delay)
    }

    /// As Envoy lays it out: how many, their TTLs, their `ip:port` with a NUL behind each. Nothing for a failure.
    pub(super) fn answer(&self, name: &str) -> Vec<u8> {
        let Some((addresses, ttl)) = self.names.get(name).filter(|(ips, _)| !ips.is_empty()) else {
            return Vec::new();
        };
        let mut bytes = (addresses.len() as u32).to_le_bytes().to_vec();
        for _ in addresses {
            bytes.extend(ttl.to_le_bytes());
        }
        for ip in addresses {
            let text = if ip.contains(':') {
                format!("[{ip}]:0")
            } else {
                format!("{ip}:0")
            };
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        bytes
    }
}
