//! A network of our own: hosts with their own addresses, links that can be cut, nothing that touches the machine's network.
//!
//! ```text
//!   Host a (10.244.0.2) ── veth ──┐
//!   Host b (10.244.0.3) ── veth ──┤ Network: a router in a namespace of its own
//!   Host c (10.244.0.4) ── veth ──┘ (nftables: faults, and whatever else a test adds)
//! ```
//!
//! No namespace has a name. Each is held by a file descriptor of this process, so the kernel removes all of it, devices and
//! rules included, when the process ends, however it ends; parallel tests cannot meet, and may use the same addresses.

mod dns;
mod fault;
mod host;
mod namespace;
mod router;
#[cfg(test)]
mod tests;

pub use dns::Dns;
pub use host::Host;
pub use namespace::Namespace;
pub use router::Network;

/// Whether this machine lets us make networks. If not, says loudly why the test that asked proves nothing; return then.
///
/// ```no_run
/// # fn test() {
/// if redis_sentinel_tests::net::missing() {
///     return;
/// }
/// # }
/// ```
pub fn missing() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "it needs root, for network namespaces".to_owned()
    } else if let Err(error) = Namespace::new() {
        format!("root may not make network namespaces here ({error:#})")
    } else {
        return false;
    };
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let text = format!("\n!!! SKIPPED: {test}: {reason}\n");
    eprint!("{text}");
    // The test runner hides what a passing test prints; a skipped test must not look like a passed one at a terminal.
    if let Ok(mut terminal) = std::fs::File::options().write(true).open("/dev/tty") {
        let _ = std::io::Write::write_all(&mut terminal, text.as_bytes());
    }
    true
}
