//! Services: names, and addresses behind which the ready pods are.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::pod::{Phase, Pod};
use super::selector::has_all;
use super::spec::Port;
use super::world::World;
use crate::manifests::Document;

/// What the nodes and the DNS know of all Services.
#[derive(PartialEq, Default, Clone)]
pub struct View {
    /// For the DNS server.
    pub names: Vec<(String, IpAddr)>,
    /// For the router.
    pub rules: String,
}

/// How it would be now, if everybody knew everything at once.
pub fn view(world: &World) -> View {
    let pods = world.pods();
    let mut view = View {
        // The chains stay: to exchange a whole table would leave a moment without one.
        rules: "add table ip services\n\
                add chain ip services nat { type nat hook prerouting priority dstnat; }\n\
                add chain ip services hairpin { type nat hook postrouting priority srcnat; }\n\
                add chain ip services refuse { type filter hook prerouting priority -90; }\n\
                flush table ip services\n"
            .into(),
        ..View::default()
    };
    let services: Vec<_> = world.objects().all("Service").cloned().collect();
    for service in services {
        let behind = selected(&service, &pods);
        let domain = format!(
            "{}.{}.svc.cluster.local",
            service.name(),
            service.namespace()
        );
        if service.text("/spec/clusterIP") == "None" {
            headless(&service, &behind, &domain, &mut view);
        } else {
            let address = world.service_address(service.namespace(), service.name());
            view.names.push((domain, address.into()));
            balanced(&service, &behind, address, &mut view);
        }
    }
    // Reached only by what no rule above led on: a Service without endpoints, or a port that it has not.
    view.rules += "add rule ip services refuse ip daddr 10.96.1.0/24 meta l4proto tcp reject with tcp reset\n";
    view
}

/// The pods with an address that a Service selects.
fn selected(service: &Document, pods: &[Arc<Pod>]) -> Vec<(Ipv4Addr, Arc<Pod>)> {
    let selector = service.at("/spec/selector");
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        return vec![];
    }
    let found = pods.iter().filter(|pod| {
        pod.identity.namespace == service.namespace() && has_all(selector, &pod.identity.labels)
    });
    let with_address = found.filter_map(|pod| {
        let status = pod.lock();
        let lives = !status.gone && matches!(status.phase, Phase::Pending | Phase::Running);
        Some((status.address.filter(|_| lives)?, Arc::clone(pod)))
    });
    with_address.collect()
}

fn headless(service: &Document, behind: &[(Ipv4Addr, Arc<Pod>)], domain: &str, view: &mut View) {
    let all = service.at("/spec/publishNotReadyAddresses") == &Value::Bool(true);
    for (address, pod) in behind {
        if !(all || pod.is_ready()) {
            continue;
        }
        view.names.push((domain.to_owned(), (*address).into()));
        if pod.spec.subdomain.as_deref() == Some(service.name()) {
            let name = format!("{}.{domain}", pod.identity.hostname);
            view.names.push((name, (*address).into()));
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePort {
    port: u16,
    target_port: Option<Port>,
}

fn balanced(
    service: &Document,
    behind: &[(Ipv4Addr, Arc<Pod>)],
    address: Ipv4Addr,
    view: &mut View,
) {
    let mut serving: Vec<_> = behind.iter().filter(|(_, pod)| pod.is_ready()).collect();
    if serving.is_empty() {
        // Better one that is about to go than none: so says kube-proxy.
        serving = behind
            .iter()
            .filter(|(_, pod)| pod.lock().ready.is_some())
            .collect();
    }
    for port in service.list("/spec/ports") {
        let Ok(port) = ServicePort::deserialize(port) else {
            continue;
        };
        let target = port.target_port.unwrap_or(Port::Number(port.port));
        let targets: Vec<_> = serving
            .iter()
            .filter_map(|(address, pod)| Some((address, pod.port(&target)?)))
            .collect();
        for (index, (to, number)) in targets.iter().enumerate() {
            // One of those that are left, by chance.
            let left = targets.len() - index;
            view.rules += &format!(
                "add rule ip services nat ip daddr {address} tcp dport {} numgen random mod {left} == 0 dnat to {to}:{number}\n",
                port.port
            );
        }
    }
    for (to, _) in &serving {
        // To itself through the Service: the answer must take the same way back.
        view.rules +=
            &format!("add rule ip services hairpin ip saddr {to} ip daddr {to} masquerade\n");
    }
}
