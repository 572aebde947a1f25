//! A partition, and what a client of either side sees of it.

use std::time::{Duration, Instant};

use redis_sentinel_tests::net;
use redis_sentinel_tests::pods::{Load, Pod};
use redis_sentinel_tests::wait;

use super::{UNREPLICATED, nothing_is_lost};
use crate::system::{LONG, System};

/// The old master, one Sentinel, one proxy and an application on one side; all else on the other.
#[test]
fn a_partition_leaves_the_old_master_with_one_sentinel() {
    if net::missing() {
        return;
    }
    let system = System::start().unwrap();
    let master = system.master().unwrap();
    let proxies = system.kube.pods_of("Deployment", "redis-proxy");
    let here = [
        "sentinel-0".to_owned(),
        master.clone(),
        proxies[0].name().to_owned(),
    ];
    let address = |pod: &Pod| pod.status().address.unwrap().to_string();

    // Both applications know one proxy only: that of their own side.
    let cut_off = system
        .kube
        .client("cut-off", "shop", &[("redis-client", "true")])
        .unwrap();
    let mut plan = system.plan("minority", 5);
    plan.host = address(&proxies[0]);
    plan.patience = Duration::from_secs(2);
    let minority = Load::start(&cut_off, &plan);
    let mut plan = system.plan("majority", 5);
    plan.host = address(&proxies[1]);
    let majority = Load::start(&system.app, &plan);
    system.wait_for_writes(&minority, 300).unwrap();
    system.wait_for_writes(&majority, 300).unwrap();
    // The guard is taken some seconds after the replicas have come.
    wait::until_true("the guard", LONG, || {
        system
            .redis(&master, "CONFIG GET min-replicas-to-write")
            .is_ok_and(|reply| reply.ends_with('1'))
    })
    .unwrap();

    let pods = system.kube.world().pods();
    let inside = |pod: &Pod| here.iter().any(|name| name == pod.name());
    let network = system.kube.network();
    let cut = Instant::now();
    let mut pairs = Vec::new();
    for one in pods.iter().filter(|pod| inside(pod)) {
        for other in pods.iter().filter(|pod| !inside(pod)) {
            pairs.push((
                one.status().address.unwrap(),
                other.status().address.unwrap(),
            ));
        }
    }
    network.cut_addresses(&pairs).unwrap();
    let new = wait::until("another master", LONG, || {
        let view = system.sentinel_view("sentinel-1")?;
        (!view.master.starts_with(&master)).then_some(view.master)
    })
    .unwrap();
    println!("master {new} after {:?}", cut.elapsed());
    system.wait_for_writes(&majority, 300).unwrap();
    // The old master takes writes until it has missed its replicas for min-replicas-max-lag, 10 s.
    wait::until_true("-NOREPLICAS", LONG, || {
        minority
            .seen()
            .errors
            .iter()
            .any(|(_, text)| text.starts_with("NOREPLICAS"))
    })
    .unwrap();
    let refused = cut.elapsed();
    println!("the old master refuses writes after {refused:?}");
    assert!(refused < Duration::from_secs(16), "{refused:?}");
    network.heal_all().unwrap();
    system.wait_until_known().unwrap();
    wait::until_true("the old master to follow", LONG, || {
        system
            .redis(&master, "ROLE")
            .is_ok_and(|role| role.starts_with("slave") && role.contains("connected"))
    })
    .unwrap();
    system.wait_for_writes(&minority, 100).unwrap();

    nothing_is_lost(&system, majority, &[cut]);
    let plan = minority.plan().clone();
    let seen = minority.stop().unwrap();
    println!("minority: {seen}");
    let mut connection = system.connect(&system.app, 6379).unwrap();
    let lost = seen.lost(&plan, &mut connection).unwrap();
    let last = lost
        .iter()
        .map(|(.., at)| at.duration_since(cut))
        .max()
        .unwrap_or_default();
    println!(
        "{} acknowledged writes of the cut-off side are gone, the last one of {last:?} after the cut",
        lost.len()
    );
    assert!(last <= refused, "acknowledged after the guard: {last:?}");
    let first = lost.iter().map(|(.., at)| *at).min();
    assert!(first.is_none_or(|first| first + UNREPLICATED > cut));
    assert!(
        seen.errors
            .iter()
            .all(|(_, text)| text.starts_with("NOREPLICAS")),
        "{seen}"
    );
}
