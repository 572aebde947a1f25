//! Redis and its Sentinels, by the manifests' own scripts, settings and probes.

mod partition;
mod scale;

use std::time::{Duration, Instant};

use redis_sentinel_tests::net;
use redis_sentinel_tests::pods::{Ending, Load};
use redis_sentinel_tests::resp::Value;
use redis_sentinel_tests::wait;

use crate::system::{LONG, System, manifests};

/// What a master that dies may take with it: Redis acknowledges a write before its replicas have it.
const UNREPLICATED: Duration = Duration::from_secs(1);

/// Ends the writers. Whatever was acknowledged is there, except for what came within `UNREPLICATED` before one of `deaths`.
pub fn nothing_is_lost(system: &System, load: Load, deaths: &[Instant]) {
    let plan = load.plan().clone();
    let seen = load.stop().unwrap();
    println!("{}: {seen}", plan.name);
    let mut connection = system.connect(&system.app, 6379).unwrap();
    let lost = seen.lost(&plan, &mut connection).unwrap();
    println!("{}: {} acknowledged writes are gone", plan.name, lost.len());
    let inexcusable: Vec<_> = lost
        .iter()
        .filter(|(_, _, at)| {
            !deaths
                .iter()
                .any(|death| *at <= *death && *death - *at <= UNREPLICATED)
        })
        .map(|(.., at)| {
            deaths
                .iter()
                .map(|death| at.duration_since(*death))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(
        inexcusable.is_empty(),
        "{} of {} are gone; after the deaths: {inexcusable:?}",
        lost.len(),
        seen.acknowledged.len()
    );
}

#[test]
fn everything_at_once_converges_and_remembers() {
    if net::missing() {
        return;
    }
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let mut system = System::new().unwrap();
    system.kube.delay_starts(seed, Duration::from_secs(8));
    let mut documents = manifests(&["all"]).unwrap();
    // The order in which they are applied is by chance too.
    let mut state = seed | 1;
    for index in (1..documents.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        documents.swap(index, usize::try_from(state % (index as u64 + 1)).unwrap());
    }
    system.apply(documents).unwrap();
    system.wait_until_ready().unwrap();
    assert_eq!(
        system.restarted(),
        Vec::<String>::new(),
        "no container may need a second start"
    );
    println!("first start:{}", last_event(&system));

    let mut connection = system.connect(&system.app, 6379).unwrap();
    assert_eq!(
        connection.call(&["SET", "k", "v"]).unwrap(),
        Value::Text(b"OK".into())
    );
    // The master serves readers too until the proxy knows a replica: then they are led to one, and may be closed for that.
    wait::until_true("a replica that has it", wait::LONG, || {
        let Ok(mut reader) = system.connect(&system.app, 6380) else {
            return false;
        };
        let refused = reader.call(&["APPEND", "k", ""]);
        let value = reader.call(&["GET", "k"]);
        matches!(refused, Ok(Value::Error(text)) if text.starts_with("READONLY"))
            && value.is_ok_and(|value| value == Value::Text(b"v".into()))
    })
    .unwrap();

    // The master is not redis-0, so that nobody finds it by luck.
    let old = system.master().unwrap();
    system.fail_over().unwrap();
    let master = system.wait_for_master_other_than(&old).unwrap();
    system.wait_until_known().unwrap();

    // Each Sentinel is deleted in turn, and remembers the master in a new pod at a new address.
    for number in 0..3 {
        let name = format!("sentinel-{number}");
        let before = system.sentinel_view(&name).unwrap();
        let pod = system.kube.pod(&name).unwrap();
        system.kube.end_pod(&name, Ending::Graceful).unwrap();
        let new = system.kube.wait_for_new(&pod, LONG).unwrap();
        assert_ne!(new.status().address, pod.status().address);
        let log = system.kube.logs(&new, "sentinel");
        assert!(
            !log.contains("waiting:") && !log.contains("monitoring"),
            "it had to ask others:\n{log}"
        );
        let after = system.sentinel_view(&name).unwrap();
        assert_eq!((after.master, after.epoch), (before.master, before.epoch));
        system.wait_until_known().unwrap();
        system.wait_until_watched().unwrap();
    }
    println!("Sentinels in turn:{}", last_event(&system));

    // All pods at once.
    let mut before = system.kube.world().pods();
    // The sharded cluster has its own test of new addresses.
    before.retain(|pod| !pod.name().starts_with("redis-cluster"));
    for pod in &before {
        pod.end(Ending::Killed);
    }
    let numbers: Vec<_> = before.iter().map(|pod| pod.identity.number).collect();
    wait::until_true("all to be gone", LONG, || {
        let pods = system.kube.world().pods();
        pods.iter()
            .all(|pod| !numbers.contains(&pod.identity.number))
    })
    .unwrap();
    system.wait_until_ready().unwrap();
    println!("all at once:{}", last_event(&system));
    assert_eq!(
        system.master().unwrap(),
        master,
        "the Sentinels remember the master"
    );
    let mut connection = system.connect(&system.app, 6379).unwrap();
    assert_eq!(
        connection.call(&["GET", "k"]).unwrap(),
        Value::Text(b"v".into())
    );
    assert_eq!(system.restarted(), Vec::<String>::new());
}

fn last_event(system: &System) -> String {
    system
        .kube
        .events()
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn the_masters_pod_dies_and_returns_with_another_address() {
    if net::missing() {
        return;
    }
    let system = System::start().unwrap();
    let load = system.load("death", 10);
    system.wait_for_writes(&load, 500).unwrap();

    // All its processes at once, in the middle of everything. It is back before the Sentinels miss it, or they promote another.
    let killed = Instant::now();
    let old = system.master().unwrap();
    let pod = system.kube.pod(&old).unwrap();
    system.kube.end_pod(&old, Ending::Killed).unwrap();
    let returned = system.kube.wait_for_new(&pod, LONG).unwrap();
    assert_ne!(returned.status().address, pod.status().address);
    system.wait_for_writes(&load, 500).unwrap();
    system.wait_until_known().unwrap();
    println!(
        "killed {old}, all is well after {:?} with {}",
        killed.elapsed(),
        system.master().unwrap()
    );
    system.wait_for_writes(&load, 500).unwrap();

    // Its node loses power: nobody is told.
    let lost = Instant::now();
    let (old, new) = lose_master(&system, Ending::Lost);
    println!(
        "lost {old}, master {new}, all is well after {:?}",
        lost.elapsed()
    );
    system.wait_for_writes(&load, 500).unwrap();

    // Deleted as `kubectl drain` does it: the preStop hook has a replica promoted first.
    let planned = Instant::now();
    let errors = load.seen().errors.len();
    println!("until here: {}", load.seen());
    let (old, new) = lose_master(&system, Ending::Graceful);
    println!(
        "deleted {old}, master {new}, all is well after {:?}",
        planned.elapsed()
    );
    system.wait_for_writes(&load, 500).unwrap();
    let seen = load.seen();
    assert_eq!(seen.errors.len(), errors, "{:?}", &seen.errors[errors..]);
    assert_eq!(seen.refused, [], "nobody is refused in a failover");
    let lost_in_the_planned_one: Vec<_> =
        seen.timeouts.iter().filter(|at| **at > planned).collect();
    assert!(lost_in_the_planned_one.is_empty(), "{seen}");
    nothing_is_lost(&system, load, &[killed, lost]);
    assert_eq!(system.restarted(), Vec::<String>::new());
}

/// Ends the master's pod, and waits until it is back, with a new address, as one of the new master's replicas.
fn lose_master(system: &System, ending: Ending) -> (String, String) {
    let old = system.master().unwrap();
    let pod = system.kube.pod(&old).unwrap();
    system.kube.end_pod(&old, ending).unwrap();
    let new = system.wait_for_master_other_than(&old).unwrap();
    let returned = system.kube.wait_for_new(&pod, LONG).unwrap();
    assert_ne!(returned.status().address, pod.status().address);
    system.wait_until_known().unwrap();
    wait::until_true("it to follow", LONG, || {
        let role = system.redis(&old, "ROLE").unwrap_or_default();
        role.starts_with("slave") && role.contains(&new) && role.contains("connected")
    })
    .unwrap();
    (old, new)
}
