//! What istiod sends to a sidecar before EnvoyFilters change it: listeners and clusters in the shapes that it gives to a
//! ClusterIP Service, to a headless one, and to ServiceEntries; the filters of WasmPlugins.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::manifests::Document;

use super::iptables::OUTBOUND_PORT;
use super::merge::{Configuration, VIRTUAL_OUTBOUND};

mod wasm_plugin;

const TYPE: &str = "type.googleapis.com/envoy";
/// The host name of the Service that applications dial.
pub const SERVICE: &str = "redis.redis.svc.cluster.local";
/// Its ports, as k8s/istio/service and k8s/proxy have them.
pub const PORTS: [u16; 2] = [6379, 6380];
/// The headless Service of the Redis pods.
pub const NODES: &str = "redis-nodes.redis.svc.cluster.local";
/// A Service on another port, which nothing may change.
const OTHER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 9, 9), 5432);

/// Which listeners there are for the Redis that the application dials.
#[derive(Clone, Debug)]
pub enum Shape {
    /// One on the address of the Service.
    ClusterIp(Ipv4Addr),
    /// One per pod of a headless Service.
    PerPod,
    /// One for all addresses: a headless Service that istiod knows no pods of, or that came from outside Kubernetes.
    Wildcard,
}

/// What istiod knows.
#[derive(Clone, Debug)]
pub struct Istiod {
    /// The listeners.
    pub shape: Shape,
    /// The Redis pods by name. In the ClusterIP Service, too: whoever is not led by the module reaches any of them.
    pub pods: Vec<(String, Ipv4Addr)>,
}

impl Istiod {
    /// The configuration for a pod whose objects, in the namespaces `app` and `redis`, are `documents`.
    pub fn configure(&self, documents: &[Document]) -> Result<Configuration> {
        let registry_only = documents.iter().any(|d| {
            d.kind() == "Sidecar" && d.text("/spec/outboundTrafficPolicy/mode") == "REGISTRY_ONLY"
        });
        let catch_all = if registry_only {
            "BlackHoleCluster"
        } else {
            "PassthroughCluster"
        };
        let mut made = Configuration {
            listeners: vec![virtual_outbound(catch_all)],
            clusters: vec![
                json!({ "name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "10s" }),
                original_dst("PassthroughCluster"),
            ],
            extensions: vec![],
        };
        let other = format!("outbound|{}||other.example", OTHER.1);
        made.listeners
            .push(outbound(&OTHER.0.to_string(), OTHER.1, &other));
        made.clusters.push(fixed(&other, OTHER.1, &[OTHER.0]));
        self.redis(&mut made);
        for entry in documents.iter().filter(|d| d.kind() == "ServiceEntry") {
            self.service_entry(entry, documents, &mut made)?;
        }
        for plugin in documents.iter().filter(|d| d.kind() == "WasmPlugin") {
            wasm_plugin::insert(plugin, &mut made)?;
        }
        Ok(made)
    }

    fn redis(&self, made: &mut Configuration) {
        let addresses: Vec<_> = self.pods.iter().map(|(_, address)| *address).collect();
        let (nodes, port) = (format!("outbound|{}||{NODES}", PORTS[0]), PORTS[0]);
        match &self.shape {
            Shape::ClusterIp(address) => {
                for listener in PORTS {
                    let cluster = format!("outbound|{listener}||{SERVICE}");
                    made.listeners
                        .push(outbound(&address.to_string(), listener, &cluster));
                    made.clusters.push(fixed(&cluster, port, &addresses));
                }
            }
            Shape::PerPod => {
                let listener = |address: &Ipv4Addr| outbound(&address.to_string(), port, &nodes);
                made.listeners.extend(addresses.iter().map(listener));
                made.clusters.push(original_dst(&nodes));
            }
            Shape::Wildcard => {
                made.listeners.push(outbound("0.0.0.0", port, &nodes));
                made.clusters.push(original_dst(&nodes));
            }
        }
    }

    /// A cluster per host of a ServiceEntry that selects pods, and a listener per address.
    fn service_entry(
        &self,
        entry: &Document,
        all: &[Document],
        made: &mut Configuration,
    ) -> Result<()> {
        let what = || format!("{entry}");
        ensure!(
            entry.text("/spec/resolution") == "STATIC",
            "{entry}: only STATIC is known here"
        );
        let port = entry
            .at("/spec/ports/0/number")
            .as_u64()
            .with_context(what)?;
        let port = u16::try_from(port)?;
        let pod = entry.at("/spec/workloadSelector/labels")["statefulset.kubernetes.io/pod-name"]
            .as_str();
        let pods = self
            .pods
            .iter()
            .filter(|(name, _)| Some(name.as_str()) == pod);
        let pods: Vec<_> = pods.map(|(_, address)| *address).collect();
        for host in entry.list("/spec/hosts").iter().filter_map(Value::as_str) {
            let name = format!("outbound|{port}||{host}");
            let mut cluster = fixed(&name, port, &pods);
            if let Some(rule) = all
                .iter()
                .find(|d| d.kind() == "DestinationRule" && rule_is_for(d, host))
            {
                destination_rule(rule, host, port, &mut cluster)?;
            }
            made.clusters.push(cluster);
            for address in entry
                .list("/spec/addresses")
                .iter()
                .filter_map(Value::as_str)
            {
                made.listeners.push(outbound(address, port, &name));
            }
        }
        Ok(())
    }
}

fn rule_is_for(rule: &Document, host: &str) -> bool {
    let pattern = rule.text("/spec/host");
    pattern == host
        || pattern
            .strip_prefix('*')
            .is_some_and(|end| host.ends_with(end))
}

fn destination_rule(rule: &Document, host: &str, port: u16, cluster: &mut Value) -> Result<()> {
    let policy = rule.at("/spec/trafficPolicy");
    ensure!(
        policy["tls"] == json!({ "mode": "ISTIO_MUTUAL" }),
        "{rule}: {}",
        policy["tls"]
    );
    let tcp = &policy["connectionPool"]["tcp"];
    if let Some(timeout) = tcp["connectTimeout"].as_str() {
        cluster["connect_timeout"] = timeout.into();
    }
    cluster["transport_socket"] = istio_mutual(&format!("outbound_.{port}_._.{host}"));
    Ok(())
}

/// A listener without a socket of its own: redirected connections are handed to it by the destination that they had.
fn outbound(address: &str, port: u16, cluster: &str) -> Value {
    json!({
        "name": format!("{address}_{port}"),
        "address": { "socket_address": { "address": address, "port_value": port } },
        "bind_to_port": false,
        "traffic_direction": "OUTBOUND",
        "continue_on_listener_filters_timeout": true,
        "listener_filters_timeout": "0s",
        "filter_chains": [{ "filters": [tcp_proxy(cluster)] }],
    })
}

/// Where iptables leads all connections; those without a listener of their own stay here.
fn virtual_outbound(catch_all: &str) -> Value {
    json!({
        "name": VIRTUAL_OUTBOUND,
        "address": { "socket_address": { "address": "0.0.0.0", "port_value": OUTBOUND_PORT } },
        "use_original_dst": true,
        "traffic_direction": "OUTBOUND",
        "filter_chains": [
            {
                "name": "virtualOutbound-blackhole",
                "filter_chain_match": { "destination_port": OUTBOUND_PORT },
                "filters": [tcp_proxy("BlackHoleCluster")],
            },
            { "name": "virtualOutbound-catchall-tcp", "filters": [tcp_proxy(catch_all)] },
        ],
    })
}

fn tcp_proxy(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": format!("{TYPE}.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": cluster,
            "cluster": cluster,
        },
    })
}

fn original_dst(name: &str) -> Value {
    json!({ "name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s" })
}

/// What EDS would fill.
fn fixed(name: &str, port: u16, addresses: &[Ipv4Addr]) -> Value {
    let endpoint = |address: &Ipv4Addr| json!({ "endpoint": { "address": { "socket_address": { "address": address, "port_value": port } } } });
    let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "10s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

/// The mTLS of the mesh. (The real one offers istio-peer-exchange, too, for a filter that only Istio's Envoy has.)
fn istio_mutual(sni: &str) -> Value {
    let secret = |name: &str| {
        json!({ "name": name, "sds_config": {
            "api_config_source": { "api_type": "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "sds-grpc" } }] },
            "initial_fetch_timeout": "0s", "resource_api_version": "V3" } })
    };
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": sni,
            "common_tls_context": {
                "alpn_protocols": ["istio"],
                "tls_certificate_sds_secret_configs": [secret("default")],
                "combined_validation_context": {
                    "default_validation_context": {},
                    "validation_context_sds_secret_config": secret("ROOTCA"),
                },
            },
        },
    })
}
