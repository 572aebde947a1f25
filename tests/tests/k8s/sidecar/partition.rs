//! Cut links between the application's pod, the master, and everybody else.

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::sidecar::{Shape, System};
use redis_sentinel_tests::{net, wait};

use super::{PATIENT, SERVICE, answers, at, node_of, start, wait_until_ready};

#[test]
fn a_partition_hangs_the_application_no_longer_than_the_old_master_is_master() -> Result<()> {
    if net::missing() {
        return Ok(());
    }
    let system = System::start(SERVICE)?;
    let pod = start(&system, "app", Shape::ClusterIp(SERVICE), &["module-file"])?;
    wait_until_ready(&system, &[&pod])?;
    let (service, old) = (at(SERVICE, 6379), &system.redis[0]);
    let mut live = pod.connect(service, PATIENT)?;
    assert_eq!(node_of(&mut live)?, 0);

    // Only this pod is cut off from the master: no Sentinel sees a reason for a failover.
    system.network.cut(&pod.host, &old.host)?;
    live.send(&["PING"])?;
    std::thread::scope(|scope| -> Result<()> {
        let waits = scope.spawn(|| answers(&pod, service));
        wait::until_true("a client to wait", wait::LONG, || {
            pod.stat("cluster.redis.upstream_cx_connect_fail$")
                .is_ok_and(|n| n > 0)
        })?;
        system.fail_over()?;
        let new = system.master_after(0)?;
        let answered = waits.join().ok().context("panicked")??;
        ensure!(answered == new, "{answered} is not {new}");
        ensure!(
            live.receive().is_err(),
            "the connection to the old master must end"
        );
        Ok(())
    })?;
    let new = system.master().context("no master")?;
    system.network.heal_all()?;
    system.wait_until_settled()?;

    // The master is cut off from everybody, and lives on: who had a connection to it is moved when another one is promoted.
    let lonely = &system.redis[new];
    let mut live = pod.connect(service, PATIENT)?;
    assert_eq!(node_of(&mut live)?, new);
    let nodes = system
        .redis
        .iter()
        .filter(|node| node.name != lonely.name)
        .chain(&system.sentinels);
    let others: Vec<_> = nodes.map(|node| &node.host).chain([&pod.host]).collect();
    system.network.partition(&[&lonely.host], &others)?;
    live.send(&["SET", "lost", "1"])?;
    let newest = system.master_after(new)?;
    assert_eq!(answers(&pod, service)?, newest);
    ensure!(
        live.receive().is_err(),
        "the connection to the lonely master must end"
    );
    system.network.heal_all()?;
    wait::until_true("the lonely one to follow", wait::LONG, || {
        lonely
            .call(&["ROLE"])
            .is_ok_and(|role| role.items()[0].text().as_deref() == Some("slave"))
    })?;
    assert_eq!(answers(&pod, service)?, newest);
    Ok(())
}
