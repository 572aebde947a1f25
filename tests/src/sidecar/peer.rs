//! The sidecar of a Redis or Sentinel pod under STRICT mTLS: whoever comes without a certificate of the mesh is not let in.

use std::net::Ipv4Addr;

use anyhow::Result;
use serde_json::{Value, json};

use super::discovery::{self, Identity};
use super::iptables::{self, INBOUND_PORT};
use super::pod;
use super::{Node, System};
use crate::manifests::Document;
use crate::process::Process;

/// The running sidecar.
pub struct Peer(Process);

impl Peer {
    /// Starts one in front of each Redis and each Sentinel. Among themselves these go without.
    pub fn in_front_of(system: &System, identity: &Identity) -> Result<Vec<Self>> {
        let redis = system.redis.iter().map(|node| (node, 6379));
        let sentinels = system.sentinels.iter().map(|node| (node, 26379));
        let nodes = redis.chain(sentinels);
        let hosts: Vec<_> = nodes.clone().map(|(node, _)| node.host.address()).collect();
        nodes
            .map(|(node, port)| Self::start(system, node, port, &hosts, identity))
            .collect()
    }

    fn start(
        system: &System,
        node: &Node,
        port: u16,
        strangers: &[Ipv4Addr],
        identity: &Identity,
    ) -> Result<Self> {
        let host = &node.host;
        let bootstrap = json!({
            "node": { "id": format!("sidecar~{}", host.name()), "cluster": host.name() },
            "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 15000 } } },
            "static_resources": { "listeners": [inbound(port)], "clusters": [{
                "name": "inbound", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
                    "cluster_name": "inbound", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": {
                        "socket_address": { "address": "127.0.0.1", "port_value": port } } } }] }] },
            }] },
        });
        let nobody = Document::from(json!({ "kind": "Deployment" }));
        pod::furnish(host, &nobody, &bootstrap, &discovery::secrets(identity))?;
        let mut envoy = pod::start_envoy(
            host,
            &system.scratch.file(&format!("{}-envoy.log", host.name())),
        )?;
        pod::wait_until_live(host, &mut envoy)?;
        iptables::redirect_inbound(host, strangers)?;
        Ok(Self(envoy))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.0.log()
    }
}

/// As istiod's virtualInbound for one TCP port: by the destination that was dialled, and by the mesh's own protocol alone.
fn inbound(port: u16) -> Value {
    let kind = "type.googleapis.com/envoy.extensions";
    let secret = |name: &str| json!({ "name": name, "sds_config": discovery::path(&format!("{name}.json")) });
    json!({
        "name": "virtualInbound",
        "address": { "socket_address": { "address": "0.0.0.0", "port_value": INBOUND_PORT } },
        "traffic_direction": "INBOUND",
        "listener_filters": [
            { "name": "envoy.filters.listener.original_dst",
              "typed_config": { "@type": format!("{kind}.filters.listener.original_dst.v3.OriginalDst") } },
            { "name": "envoy.filters.listener.tls_inspector",
              "typed_config": { "@type": format!("{kind}.filters.listener.tls_inspector.v3.TlsInspector") } },
        ],
        "filter_chains": [{
            "filter_chain_match": { "destination_port": port, "transport_protocol": "tls",
                "application_protocols": ["istio-peer-exchange", "istio"] },
            "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": format!("{kind}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "require_client_certificate": true,
                "common_tls_context": {
                    "alpn_protocols": ["istio-peer-exchange", "istio"],
                    "tls_certificate_sds_secret_configs": [secret("default")],
                    "combined_validation_context": {
                        "default_validation_context": { "match_typed_subject_alt_names": [
                            { "san_type": "URI", "matcher": { "prefix": "spiffe://cluster.local/" } }] },
                        "validation_context_sds_secret_config": secret("ROOTCA"),
                    },
                },
            } },
            "filters": [{ "name": "envoy.filters.network.tcp_proxy", "typed_config": {
                "@type": format!("{kind}.filters.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "inbound", "cluster": "inbound" } }],
        }],
    })
}
