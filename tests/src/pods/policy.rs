//! NetworkPolicies, as rules of the router between the pods.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::pod::Pod;
use super::selector::matches;
use super::spec::Port;
use super::world::World;
use crate::manifests::Document;

/// Who is in the network, as policies see it.
pub struct Member {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub address: Ipv4Addr,
}

/// A member, with its ports if it is a pod.
struct Peer {
    member: Arc<Member>,
    pod: Option<Arc<Pod>>,
}

type Labels = BTreeMap<String, String>;

/// The rules that enforce the policies between those who are there now. What nothing selects may do everything. Probes come from
/// the router itself, as a kubelet's come from the node, and are not looked at.
pub fn rules(world: &World) -> String {
    let peers = peers(world);
    let objects = world.objects();
    let policies: Vec<_> = objects.all("NetworkPolicy").cloned().collect();
    let namespaces: BTreeMap<_, _> = objects
        .all("Namespace")
        .map(|one| (one.name().to_owned(), labels(one)))
        .collect();
    drop(objects);
    let mut head = "add table ip policies\n\
                    add chain ip policies forward { type filter hook forward priority 0; }\n\
                    flush table ip policies\n\
                    add rule ip policies forward ct state established,related accept\n"
        .to_owned();
    let mut body = String::new();
    for (index, peer) in peers.iter().enumerate() {
        for direction in [Direction::Egress, Direction::Ingress] {
            let own: Vec<_> = policies
                .iter()
                .filter(|policy| direction.concerns(policy, peer))
                .collect();
            if own.is_empty() {
                continue;
            }
            let chain = format!("{}{index}", direction.word());
            let _ = writeln!(head, "add chain ip policies {chain}");
            let _ = writeln!(
                body,
                "add rule ip policies forward ip {} {} jump {chain}",
                direction.own(),
                peer.member.address
            );
            for policy in own {
                for rule in policy.list(&format!("/spec/{}", direction.word())) {
                    let others = others(rule, direction, policy.namespace(), &peers, &namespaces);
                    allow(&mut body, &chain, rule, direction, peer, &others);
                }
            }
            let _ = writeln!(body, "add rule ip policies {chain} counter drop");
        }
    }
    head + &body
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    fn own(self) -> &'static str {
        match self {
            Self::Ingress => "daddr",
            Self::Egress => "saddr",
        }
    }

    fn other(self) -> &'static str {
        match self {
            Self::Ingress => "saddr",
            Self::Egress => "daddr",
        }
    }

    fn concerns(self, policy: &Document, peer: &Peer) -> bool {
        let types = policy.list("/spec/policyTypes");
        let named = |word: &str| types.iter().any(|one| one == word);
        let applies = match self {
            Self::Ingress => types.is_empty() || named("Ingress"),
            Self::Egress => {
                named("Egress") || types.is_empty() && !policy.at("/spec/egress").is_null()
            }
        };
        applies
            && policy.namespace() == peer.member.namespace
            && matches(policy.at("/spec/podSelector"), &peer.member.labels)
    }
}

/// Whom a rule lets through.
enum Others<'a> {
    Anybody,
    Some(Vec<&'a Peer>, Vec<String>),
}

fn others<'a>(
    rule: &Value,
    direction: Direction,
    namespace: &str,
    peers: &'a [Peer],
    namespaces: &BTreeMap<String, Labels>,
) -> Others<'a> {
    let key = if direction == Direction::Ingress {
        "from"
    } else {
        "to"
    };
    let Some(list) = rule[key].as_array().filter(|list| !list.is_empty()) else {
        return Others::Anybody;
    };
    let (mut found, mut blocks) = (Vec::new(), Vec::new());
    for one in list {
        if let Some(cidr) = one["ipBlock"]["cidr"].as_str() {
            let except = one["ipBlock"]["except"].as_array();
            let except: Vec<_> = except
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let mut text = format!("ip {} {cidr}", direction.other());
            if !except.is_empty() {
                let _ = write!(
                    text,
                    " ip {} != {{ {} }}",
                    direction.other(),
                    except.join(", ")
                );
            }
            blocks.push(text);
            continue;
        }
        let nothing = Labels::new();
        found.extend(peers.iter().filter(|peer| {
            let its = namespaces.get(&peer.member.namespace).unwrap_or(&nothing);
            let in_namespace = match &one["namespaceSelector"] {
                Value::Null => peer.member.namespace == namespace,
                selector => matches(selector, &with_name(its, &peer.member.namespace)),
            };
            in_namespace && matches(&one["podSelector"], &peer.member.labels)
        }));
    }
    Others::Some(found, blocks)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyPort {
    port: Option<Port>,
    end_port: Option<u16>,
    protocol: Option<String>,
}

fn allow(
    body: &mut String,
    chain: &str,
    rule: &Value,
    direction: Direction,
    own: &Peer,
    others: &Others<'_>,
) {
    let ports: Vec<PolicyPort> = Vec::deserialize(&rule["ports"]).unwrap_or_default();
    let mut add = |who: &str, at: Option<&Peer>| {
        if ports.is_empty() {
            let _ = writeln!(body, "add rule ip policies {chain} {who} return");
        }
        for port in &ports {
            if let Some(what) = match_port(port, at) {
                let _ = writeln!(body, "add rule ip policies {chain} {who} {what} return");
            }
        }
    };
    // The port is one of him who is connected to.
    let own = Some(own).filter(|_| direction == Direction::Ingress);
    match others {
        Others::Anybody => add("", own),
        Others::Some(peers, blocks) => {
            for peer in peers {
                let who = format!("ip {} {}", direction.other(), peer.member.address);
                add(&who, own.or(Some(peer)));
            }
            for block in blocks {
                add(block, own);
            }
        }
    }
}

fn match_port(port: &PolicyPort, at: Option<&Peer>) -> Option<String> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
    let Some(wanted) = &port.port else {
        return Some(format!("meta l4proto {protocol}"));
    };
    let number = match (wanted, at.and_then(|peer| peer.pod.as_ref())) {
        (Port::Number(number), _) => *number,
        (name, Some(pod)) => pod.port(name)?,
        (_, None) => return None,
    };
    Some(match port.end_port {
        Some(end) => format!("{protocol} dport {number}-{end}"),
        None => format!("{protocol} dport {number}"),
    })
}

fn peers(world: &World) -> Vec<Peer> {
    let pods = world.pods();
    let pods = pods.into_iter().filter_map(|pod| {
        let address = pod.lock().address?;
        let member = Member {
            namespace: pod.identity.namespace.clone(),
            labels: pod.identity.labels.clone(),
            address,
        };
        Some(Peer {
            member: Arc::new(member),
            pod: Some(pod),
        })
    });
    let members = world
        .members()
        .into_iter()
        .map(|member| Peer { member, pod: None });
    pods.chain(members).collect()
}

fn labels(document: &Document) -> Labels {
    serde_json::from_value(document.at("/metadata/labels").clone()).unwrap_or_default()
}

fn with_name(labels: &Labels, name: &str) -> Labels {
    let mut labels = labels.clone();
    labels.insert("kubernetes.io/metadata.name".into(), name.into());
    labels
}
