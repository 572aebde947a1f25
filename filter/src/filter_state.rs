//! Envoy's filter state: what `tcp_proxy` and the clusters read to decide where a connection goes.
//!
//! The foreign function `set_envoy_filter_state` (Envoy, `source/extensions/common/wasm/foreign.cc`) takes a protobuf
//! message of three fields: 1 path, 2 value, 3 span. They are two strings and an enum; a protobuf library would be most
//! of the module.

use crate::host;
use sentinel_core::address::Address;

/// Where an `ORIGINAL_DST` cluster dials, `ip:port`.
const ORIGINAL_DST: &str = "envoy.network.transport_socket.original_dst_address";
/// Which cluster `tcp_proxy` uses instead of its own.
const CLUSTER: &str = "envoy.tcp_proxy.cluster";
/// `LifeSpan::DownstreamConnection`: the entry lives and can be replaced as long as the connection.
const SPAN: u8 = 2;

/// Makes the current stream's next dial go to `address`.
pub fn route_to(address: &Address) -> host::Result<()> {
    set(ORIGINAL_DST, &address.to_string())
}

/// Makes the current stream's next dial use another cluster.
pub fn use_cluster(name: &str) -> host::Result<()> {
    set(CLUSTER, name)
}

fn set(path: &str, value: &str) -> host::Result<()> {
    host::call("set_envoy_filter_state", &encode(path, value))
}

fn encode(path: &str, value: &str) -> Vec<u8> {
    const LENGTH_DELIMITED: u8 = 2;
    let mut message = Vec::with_capacity(path.len().saturating_add(value.len()).saturating_add(8));
    for (field, text) in [(1u8, path), (2, value)] {
        message.push((field << 3) | LENGTH_DELIMITED);
        let mut length = text.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(text.as_bytes());
    }
    message.extend_from_slice(&[3 << 3, SPAN]);
    message
}
