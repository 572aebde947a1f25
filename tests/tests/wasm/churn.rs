//! Many connections, one after the other: nothing of them stays.

use crate::site::{MASTER, Plan};

#[test]
fn a_hundred_thousand_connections_leave_nothing() {
    let site = Plan {
        workers: 1,
        ..Plan::default()
    }
    .settled();
    let worker = &site.sides[0].worker;
    let wave = || {
        let clients: Vec<_> = (0..50).map(|_| site.client(0)).collect();
        for (i, client) in clients.iter().enumerate() {
            client.send(b"PING\r\n");
            client.upstream_send(b"+PONG\r\n");
            match i % 3 {
                0 => client.close(),
                1 => client.upstream_reset(),
                _ => {
                    client.fin();
                    client.upstream_fin();
                    client.close();
                }
            }
            assert_eq!(client.close_calls(), (1, 1));
        }
        site.process.advance_ms(5);
    };
    // The allocator and the SDK's tables find their size first.
    (0..100).for_each(|_| wave());
    let (pages, streams) = (worker.pages(), worker.streams());
    (100..2_000).for_each(|_| wave());
    assert_eq!(
        (worker.pages(), worker.streams()),
        (pages, streams),
        "after 100,000 connections"
    );
    assert_eq!(site.client(0).upstream().as_deref(), Some(MASTER));
}

#[test]
fn held_and_refused_connections_leave_nothing() {
    let site = Plan {
        workers: 1,
        ..Plan::default()
    }
    .build();
    let worker = &site.sides[0].worker;
    let wave = || {
        for _ in 0..200 {
            let client = site.client(0);
            client.send(b"PING\r\n");
            client.close();
        }
        site.process.advance_ms(20);
    };
    (0..20).for_each(|_| wave());
    let (pages, streams) = (worker.pages(), worker.streams());
    (20..150).for_each(|_| wave());
    assert_eq!(
        (worker.pages(), worker.streams()),
        (pages, streams),
        "after 30,000 connections"
    );
    assert_eq!(
        site.process
            .metric("redis_sentinel.mymaster.held_connections"),
        0
    );
}

#[test]
fn failover_after_failover_leaves_nothing() {
    let site = Plan::default().settled();
    let mut epoch = 1;
    let mut round = |site: &crate::site::Site| {
        epoch += 1;
        let address = format!("10.0.2.{}:6379", epoch % 250 + 1);
        site.all(|o| {
            address.clone_into(&mut o.address);
            o.epoch = epoch;
        });
        site.process.advance_ms(1_200);
        let client = site.client(1);
        assert_eq!(client.upstream(), Some(address), "{}", site.story());
        client.close();
    };
    // The allocator finds its size first: one page more within the first 200 rounds, none in 2,000 after them.
    (0..200).for_each(|_| round(&site));
    let pages: Vec<_> = site.sides.iter().map(|s| s.worker.pages()).collect();
    (0..500).for_each(|_| round(&site));
    let now: Vec<_> = site.sides.iter().map(|s| s.worker.pages()).collect();
    assert_eq!(now, pages);
}
