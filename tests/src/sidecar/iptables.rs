//! The redirection that Istio's init container (or its CNI plugin) sets up in a pod.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::net::Host;

use super::POD_UID;

/// Where redirected outgoing connections arrive.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where redirected incoming connections arrive.
pub const INBOUND_PORT: u16 = 15006;

/// All TCP connections that leave `host` go to the sidecar, except for the sidecar's own and those to the pod itself.
pub fn redirect_outbound(host: &Host) -> Result<()> {
    let rules = format!(
        "*nat\n\
         :ISTIO_OUTPUT - [0:0]\n\
         :ISTIO_REDIRECT - [0:0]\n\
         -A OUTPUT -p tcp -j ISTIO_OUTPUT\n\
         -A ISTIO_OUTPUT -o lo -m owner ! --uid-owner {POD_UID} -j RETURN\n\
         -A ISTIO_OUTPUT -m owner --uid-owner {POD_UID} -j RETURN\n\
         -A ISTIO_OUTPUT -m owner --gid-owner {POD_UID} -j RETURN\n\
         -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN\n\
         -A ISTIO_OUTPUT -j ISTIO_REDIRECT\n\
         -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {OUTBOUND_PORT}\n\
         COMMIT\n"
    );
    host.namespace()
        .run_with("iptables-restore", ["--noflush"], &rules)
        .map(drop)
}

/// All TCP connections that reach `host` go to its sidecar, except for those from `strangers` to the mesh.
pub fn redirect_inbound(host: &Host, strangers: &[Ipv4Addr]) -> Result<()> {
    let pass: String = strangers
        .iter()
        .map(|from| format!("-A ISTIO_INBOUND -s {from}/32 -j RETURN\n"))
        .collect();
    let rules = format!(
        "*nat\n\
         :ISTIO_INBOUND - [0:0]\n\
         :ISTIO_IN_REDIRECT - [0:0]\n\
         -A PREROUTING -p tcp -j ISTIO_INBOUND\n\
         {pass}\
         -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT\n\
         -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {INBOUND_PORT}\n\
         COMMIT\n"
    );
    host.namespace()
        .run_with("iptables-restore", ["--noflush"], &rules)
        .map(drop)
}
