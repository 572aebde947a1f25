//! The proxy as a Service: rolling restarts, and who may use it.

use std::time::{Duration, Instant};

use redis_sentinel_tests::net;
use redis_sentinel_tests::pods::{Ending, Load};
use redis_sentinel_tests::wait;

use crate::redis::nothing_is_lost;
use crate::system::{LONG, System};

const SHORT: Duration = Duration::from_secs(2);

#[test]
fn restarted_pod_by_pod_under_load() {
    if net::missing() {
        return;
    }
    let system = System::start().unwrap();
    only_those_who_may(&system);

    let load = system.load("rolling", 10);
    // Others connect anew for every write: they would meet a pod that refuses, or one that is gone.
    let labels = [("redis-client", "true")];
    let visitors = system.kube.client("visitors", "shop", &labels).unwrap();
    let mut plan = system.plan("short", 5);
    plan.pause = Duration::ZERO;
    plan.once = true;
    let short = Load::start(&visitors, &plan);
    system.wait_for_writes(&load, 300).unwrap();
    let old = system.kube.pods_of("Deployment", "redis-proxy");

    let begin = Instant::now();
    system
        .kube
        .restart("Deployment", "redis", "redis-proxy")
        .unwrap();
    system
        .kube
        .wait_for("Deployment", "redis", "redis-proxy", LONG)
        .unwrap();
    println!("restarted within {:?}", begin.elapsed());
    for pod in &old {
        let log = system.kube.logs(pod, "envoy");
        assert!(
            log.contains("ended by itself"),
            "{} had to be killed:\n{log}",
            pod.name()
        );
    }
    system
        .kube
        .scale("Deployment", "redis", "redis-proxy", 3)
        .unwrap();
    system
        .kube
        .wait_for("Deployment", "redis", "redis-proxy", LONG)
        .unwrap();
    system.wait_for_writes(&load, 300).unwrap();
    let quiet = |load: &Load, closes: usize| {
        let seen = load.seen();
        println!("{seen}");
        assert_eq!(seen.refused, []);
        assert_eq!(seen.errors, []);
        assert_eq!((seen.timeouts.len(), seen.unanswered.len()), (0, 0));
        assert!(seen.closed.len() <= closes, "{} closes", seen.closed.len());
    };
    // A lasting connection ends with its pod, and finds another one; it may land on the other old pod once.
    quiet(&load, 20);
    quiet(&short, 0);

    // One is killed without notice: its clients see a close, and perhaps one refusal until all nodes know.
    let victim = system.kube.pods_of("Deployment", "redis-proxy")[0]
        .name()
        .to_owned();
    system.kube.end_pod(&victim, Ending::Killed).unwrap();
    system.wait_for_writes(&load, 300).unwrap();
    wait::until_true("another pod", LONG, || {
        system
            .kube
            .is_complete("Deployment", "redis", "redis-proxy")
    })
    .unwrap();
    short.stop().unwrap();
    nothing_is_lost(&system, load, &[]);
    assert_eq!(system.restarted(), Vec::<String>::new());
}

/// The NetworkPolicies: an application reaches the proxy and nothing behind it, others not even that.
fn only_those_who_may(system: &System) {
    let stranger = system
        .kube
        .client("stranger", "shop", &[("app", "stranger")])
        .unwrap();
    let near = system
        .kube
        .client("near", "redis", &[("app", "stranger")])
        .unwrap();
    let redis = "redis-0.redis-nodes.redis.svc.cluster.local";
    let sentinel = "sentinel-0.sentinel-nodes.redis.svc.cluster.local";
    for (client, host, port, may) in [
        (&system.app, "redis.redis.svc.cluster.local", 6379, true),
        (&system.app, "redis.redis.svc.cluster.local", 6380, true),
        (&system.app, redis, 6379, false),
        (&system.app, sentinel, 26379, false),
        (&stranger, "redis.redis", 6379, false),
        (&stranger, redis, 6379, false),
        (&near, "redis", 6379, false),
        (&near, sentinel, 26379, false),
    ] {
        let outcome = client.connect(host, port, SHORT);
        assert_eq!(
            outcome.is_ok(),
            may,
            "{} to {host}:{port}",
            client.host().name()
        );
        if let Err(error) = outcome {
            // Known, and silent: it is the policy that keeps it out, not a name or a refusal.
            let kind = error
                .downcast_ref::<std::io::Error>()
                .map(std::io::Error::kind);
            assert_eq!(kind, Some(std::io::ErrorKind::TimedOut), "{error:#}");
        }
    }
}
