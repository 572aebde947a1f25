//! What the nodes are told, beyond their port, directory and password.

use super::{DOMAIN, MASTER, NODES, REDIS_PASSWORD, SENTINEL_PASSWORD, System};

/// Of a Redis, which is the first of all or follows the first.
pub(super) fn redis(system: &System, name: &str) -> String {
    // Replicas join at once instead of after 5 s, and notice a lost master as fast as Sentinel does.
    let mut text = format!(
        "save \"\"\nmasterauth \"{REDIS_PASSWORD}\"\nreplica-announce-ip {name}\n\
         repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
    );
    if let Some(master) = system.redis.first() {
        text += &format!("replicaof {} 6379\n", master.name);
    }
    text
}

/// Of a Sentinel.
pub(super) fn sentinel(system: &System, name: &str) -> String {
    let (master, others) = (
        &system.redis[0].name,
        (0..NODES).map(|n| format!("sentinel-{n}.sentinel-nodes.{DOMAIN}")),
    );
    // Told beforehand whom there is, they are complete at once, as after a restart. Any 40 hexadecimal digits are an id.
    let id = |name: &str| {
        format!(
            "{:0>40}",
            name.bytes()
                .filter(u8::is_ascii_digit)
                .map(char::from)
                .collect::<String>()
        )
    };
    let mut text = format!(
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel announce-ip {name}\n\
         sentinel sentinel-pass \"{SENTINEL_PASSWORD}\"\nsentinel myid {}\n\
         sentinel monitor {MASTER} {master} 6379 2\nsentinel auth-pass {MASTER} \"{REDIS_PASSWORD}\"\n\
         sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 5000\n",
        id(name)
    );
    for replica in &system.redis[1..] {
        text += &format!("sentinel known-replica {MASTER} {} 6379\n", replica.name);
    }
    for other in others.filter(|other| other != name) {
        text += &format!(
            "sentinel known-sentinel {MASTER} {other} 26379 {}\n",
            id(&other)
        );
    }
    text
}
