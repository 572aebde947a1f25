//! Envoy's filter state: what `tcp_proxy` and the clusters read to decide where a connection goes.
//!
//! The foreign function `set_envoy_filter_state` (Envoy, `source/extensions/common/wasm/foreign.cc`) takes a protobuf
//! message of three fields: 1 path, 2 value, 3 span. They are two strings and an enum; a protobuf library would be most
//! of the module.

use crate::{dns, host};
use sentinel_core::{address::Address, config::ClusterTemplate, time::Timestamp};

/// Where an `ORIGINAL_DST` cluster dials, `ip:port`.
const ORIGINAL_DST: &str = "envoy.network.transport_socket.original_dst_address";
/// What a `dynamic_forward_proxy` cluster resolves and dials.
const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
const DYNAMIC_PORT: &str = "envoy.upstream.dynamic_port";
/// Which cluster `tcp_proxy` uses instead of its own.
const CLUSTER: &str = "envoy.tcp_proxy.cluster";
/// `LifeSpan::DownstreamConnection`: the entry lives and can be replaced as long as the connection.
const SPAN: u8 = 2;

/// How a kind of node is reached.
#[derive(Clone, Debug, Default)]
pub struct Destination {
    /// A cluster per node: its own transport socket, its own load reports.
    pub template: ClusterTemplate,
    /// The `ORIGINAL_DST` cluster for IP addresses; empty is the one that `tcp_proxy` names.
    pub by_ip: String,
    /// The `dynamic_forward_proxy` cluster for host names; empty resolves them here.
    pub by_name: String,
}

impl Destination {
    /// Whether the name of this node has to be resolved before [`Destination::route_to`].
    pub fn must_resolve(&self, node: &Address) -> bool {
        node.is_name() && self.by_name.is_empty() && self.template.cluster(node).is_none()
    }

    /// Where to lead a connection that is to reach `node`; `None` while its name does not resolve.
    pub fn resolve(&self, now: Timestamp, root: u32, node: &Address) -> Option<Address> {
        if self.must_resolve(node) {
            dns::lookup(now, root, node)
        } else {
            Some(node.clone())
        }
    }

    /// The cluster for this address, for people.
    pub fn cluster(&self, address: &Address) -> String {
        match self.template.cluster(address) {
            Some(cluster) => format!("\"{cluster}\" (cluster_template)"),
            None if address.is_name() => format!("\"{}\" (by_name_cluster)", self.by_name),
            None if self.by_ip.is_empty() => "as tcp_proxy names it".to_owned(),
            None => format!("\"{}\" (by_address_cluster)", self.by_ip),
        }
    }

    /// Makes the current stream's next dial go to `address`.
    pub fn route_to(&self, address: &Address) -> host::Result<()> {
        if let Some(cluster) = self.template.cluster(address) {
            return use_cluster(&cluster);
        }
        if address.is_name() {
            set(DYNAMIC_HOST, &address.host())?;
            set(DYNAMIC_PORT, &address.port().to_string())?;
            return use_cluster(&self.by_name);
        }
        set(ORIGINAL_DST, &address.to_string())?;
        if self.by_ip.is_empty() {
            Ok(())
        } else {
            use_cluster(&self.by_ip)
        }
    }
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
