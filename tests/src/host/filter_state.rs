//! Filter state: what a network filter tells `tcp_proxy`, by the foreign function `set_envoy_filter_state`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::status::{Answer, Status};

/// Where to dial, for a cluster of type `ORIGINAL_DST`.
pub const ORIGINAL_DST: &str = "envoy.network.transport_socket.original_dst_address";
/// Which cluster to dial.
pub const CLUSTER: &str = "envoy.tcp_proxy.cluster";

/// The objects of one connection, and the exact bytes of each call that made them.
#[derive(Default)]
pub struct FilterState {
    values: BTreeMap<String, (String, u64)>,
    /// The arguments of every accepted call.
    pub calls: Vec<Vec<u8>>,
}

impl FilterState {
    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(value, _)| value.as_str())
    }

    /// Carries out a call. Envoy knows a factory per key: an unknown key is not found, a value that the factory
    /// cannot read is a bad argument, and an object never changes its life span.
    pub fn call(&mut self, arguments: &[u8]) -> Answer {
        let Some((path, value, span)) = decode(arguments) else {
            return Err(Status::BadArgument);
        };
        let readable = match path.as_str() {
            ORIGINAL_DST => value.parse::<SocketAddr>().is_ok(),
            "envoy.upstream.dynamic_port" => value.parse::<u16>().is_ok(),
            CLUSTER | "envoy.upstream.dynamic_host" | "envoy.network.upstream_server_name" => {
                !value.is_empty()
            }
            _ => return Err(Status::NotFound),
        };
        let same_span = self.values.get(&path).is_none_or(|(_, s)| *s == span);
        if !readable || !same_span || span > 2 {
            return Err(Status::BadArgument);
        }
        self.values.insert(path, (value, span));
        self.calls.push(arguments.to_vec());
        Ok(())
    }
}

/// Reads `{1: path, 2: value, 3: span}`; protobuf leaves out what has its default.
fn decode(mut bytes: &[u8]) -> Option<(String, String, u64)> {
    let (mut path, mut value, mut span) = (String::new(), String::new(), 0);
    while !bytes.is_empty() {
        match varint(&mut bytes)? {
            0x0a => path = text(&mut bytes)?,
            0x12 => value = text(&mut bytes)?,
            0x18 => span = varint(&mut bytes)?,
            _ => return None,
        }
    }
    Some((path, value, span))
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let size = usize::try_from(varint(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(size)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
