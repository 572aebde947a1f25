//! The sharded cluster of `k8s/redis-cluster`, behind Envoy as one Redis.

mod cluster;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use redis_sentinel_tests::net;
use redis_sentinel_tests::pods::Ending;
use redis_sentinel_tests::wait;

use crate::system::LONG;
use cluster::{Cluster, NODES, PROXIES};

#[test]
fn it_is_made_once_and_outlives_addresses_and_masters() {
    if net::missing() {
        return;
    }
    let cluster = Cluster::start().unwrap();
    cluster.write().unwrap();
    let members = cluster.members().unwrap();

    // The Job's script again, as after the Job is cleaned away and everything is applied once more.
    let kube = &cluster.kube;
    cluster.script("create-cluster.sh", &[]).unwrap();
    assert_eq!(cluster.members().unwrap(), members);

    // A node with a new address.
    let old = kube.pod("redis-cluster-1").unwrap();
    kube.end_pod("redis-cluster-1", Ending::Killed).unwrap();
    let new = kube.wait_for_new(&old, LONG).unwrap();
    assert_ne!(new.status().address, old.status().address);
    cluster.wait_for_keys().unwrap();

    // A master that hangs: its replica takes over, and it comes back as one.
    let master = cluster.masters().unwrap().pop_first().unwrap();
    kube.signal(&master, "redis", Signal::SIGSTOP).unwrap();
    let replaced = || {
        let masters = cluster.masters_but(&master);
        masters.is_ok_and(|masters| masters.len() == 3)
    };
    wait::until_true("a replica to take over", LONG, replaced).unwrap();
    cluster.wait_for_keys().unwrap();
    kube.signal(&master, "redis", Signal::SIGCONT).unwrap();
    let demoted = || {
        cluster
            .masters()
            .is_ok_and(|masters| !masters.contains(&master))
    };
    wait::until_true("the old master to follow", LONG, demoted).unwrap();
    cluster.wait_until_ready().unwrap();
    assert_eq!(cluster.members().unwrap(), members);
}

/// All pods end at the same moment, and no node has an address that another one knows: they find each other, and Envoy finds them.
#[test]
fn it_finds_itself_when_all_addresses_changed() {
    if net::missing() {
        return;
    }
    let cluster = Cluster::start().unwrap();
    cluster.write().unwrap();
    let members = cluster.members().unwrap();
    // Envoy too, which then starts before the nodes serve, and while DNS still knows the old addresses.
    cluster.replace(&[NODES, PROXIES], &members).unwrap();
    // Envoy runs on and knows nobody any more. And each node has an address at which the others expect another one.
    let mut addresses = cluster.addresses();
    addresses.rotate_left(1);
    for (number, address) in addresses.iter().enumerate() {
        let pod = format!("redis-cluster-{number}");
        cluster.kube.give_address(&pod, *address);
    }
    cluster.replace(&[NODES], &members).unwrap();
    assert_eq!(cluster.addresses(), addresses);
}

#[test]
fn it_grows_and_shrinks_under_its_clients() {
    if net::missing() {
        return;
    }
    let cluster = Cluster::start().unwrap();
    cluster.write().unwrap();

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<usize> {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                cluster.read()?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let scaled = grow_and_shrink(&cluster);
        done.store(true, Ordering::Relaxed);
        scaled.unwrap();
        // Not one error in all that.
        assert!(reader.join().unwrap().unwrap() > 0);
    });
}

fn grow_and_shrink(cluster: &Cluster) -> Result<()> {
    cluster.scale(8)?;
    // Two that answer, and are of no cluster or another one: nobody takes them in before he is told to.
    for stranger in ["redis-cluster-6", "redis-cluster-7"] {
        let answers = || {
            let pong = cluster.ask(stranger, "PING");
            pong.is_ok_and(|pong| pong.trim() == "PONG")
        };
        wait::until_true("a new node", LONG, answers)?;
    }
    wait::until_true("the new nodes' names", LONG, || {
        let command = ["getent", "ahosts", "redis-cluster-nodes"];
        let known = cluster.kube.exec("redis-cluster-0", "redis", &command);
        known.is_ok_and(|known| {
            String::from_utf8_lossy(&known.stdout)
                .matches("STREAM")
                .count()
                == 8
        })
    })?;
    cluster.script("watch-addresses.sh", &["once"])?;
    ensure!(cluster.members()?.len() == 6);
    cluster.script("scale-up.sh", &["6", "7"])?;
    cluster.wait_until_ready()?;
    ensure!(cluster.members()?.len() == 8);
    ensure!(cluster.masters()?.contains("redis-cluster-6"));
    cluster.read()?;

    cluster.script("scale-down.sh", &["7", "6"])?;
    cluster.scale(6)?;
    cluster.wait_until_ready()?;
    ensure!(cluster.members()?.len() == 6);
    cluster.read()
}
