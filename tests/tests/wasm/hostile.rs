//! Something that is no Sentinel at a Sentinel's address: no input traps the module or makes it grow without bound.

use std::time::{Duration, Instant};

use crate::site::{MASTER, Plan, Site};

/// What one connection may cost: a frame of 512 KiB, the read that completes it, and the allocator's rounding.
const PAGES_PER_SENTINEL: u64 = 48;

fn pages(site: &Site) -> u64 {
    site.sides.iter().map(|s| s.worker.pages()).sum()
}

fn survives(what: &str, bytes: &[u8], pieces: usize) {
    let site = Plan::default().settled();
    let before = pages(&site);
    let begun = Instant::now();
    for sentinel in &site.sentinels {
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            sentinel.send_raw(&site.process, piece);
        }
    }
    site.process.advance_ms(200);
    let grown = pages(&site) - before;
    assert!(grown <= 3 * PAGES_PER_SENTINEL, "{what}: {grown} pages");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{what}: {:?}",
        begun.elapsed()
    );
    site.process.advance_ms(25_000);
    assert!(
        site.heartbeats.iter().all(|h| h.healthy()),
        "{what}: {}",
        site.story()
    );
    assert!(
        site.heartbeats.iter().all(|h| h.stray().is_empty()),
        "{what}"
    );
    assert_eq!(site.client(0).upstream().as_deref(), Some(MASTER), "{what}");
}

#[test]
fn deep_nesting() {
    survives("arrays", &b"*1\r\n".repeat(200_000), 7);
    survives("maps in pushes", &b">1\r\n%1\r\n".repeat(100_000), 3);
    survives(
        "one element short",
        &[b">2\r\n".repeat(5), b"$1\r\n".to_vec()].concat(),
        1,
    );
}

#[test]
fn huge_lengths() {
    for bytes in [
        &b"$4294967295\r\n"[..],
        b"$18446744073709551615\r\nx",
        b">2147483647\r\n",
        b"%9223372036854775807\r\n",
        b"*-2\r\n",
        b"$-9\r\n",
        b">1000000\r\n+a\r\n+b\r\n",
        b"=15\r\ntxt:",
        b"*?\r\n",
        b"$?\r\n;4\r\nabcd\r\n;0\r\n",
    ] {
        survives(&String::from_utf8_lossy(bytes), bytes, 1);
    }
}

#[test]
fn endless_data() {
    survives("a line", &[b'+'; 4_000_000], 50);
    survives(
        "a blob",
        &[b"$500000\r\n".to_vec(), vec![b'x'; 4_000_000]].concat(),
        50,
    );
    survives(
        "a push of blobs",
        &[
            b">16000\r\n".to_vec(),
            b"$100\r\n".to_vec(),
            vec![b'y'; 4_000_000],
        ]
        .concat(),
        20,
    );
}

#[test]
fn a_flood_of_small_pushes() {
    let push = b">3\r\n$7\r\nmessage\r\n$6\r\n+sdown\r\n$1\r\nx\r\n";
    survives("pushes", &push.repeat(50_000), 40);
    survives("empty pushes in one piece", &b">0\r\n".repeat(100_000), 1);
}

#[test]
fn events_with_absurd_words() {
    let long = "9".repeat(100_000);
    for payload in [
        "",
        " ",
        "mymaster",
        "mymaster 10.0.1.1 6379",
        "mymaster 10.0.1.1 6379 10.0.1.2 99999999999",
        "mymaster 10.0.1.1 6379 \u{0}\u{1}\u{2} 6379",
        "mymaster 10.0.1.1 6379 -1.2.3.4 -5",
        long.as_str(),
        "mymaster 10.0.1.1 6379 ::ffff:0.0.0.0 6379",
        "master mymaster 10.0.1.1 6379 @ @ @ @ @ @ @",
        "slave x y z @ mymaster 10.0.1.1 6379",
        "mymaster 10.0.1.1 6379 0.0.0.0 6379",
        "mymaster 10.0.1.1 6379 10.0.1.2 0",
    ] {
        let site = Plan::default().settled();
        let client = site.client(0);
        for channel in [
            "+switch-master",
            "+promoted-slave",
            "+selected-slave",
            "-failover-abort-no-good-slave",
            "+odown",
            "+tilt",
        ] {
            site.sentinels
                .iter()
                .for_each(|s| s.publish(&site.process, channel, payload));
        }
        site.process.advance_ms(5_000);
        assert!(
            client.closed().is_none() && !client.paused(),
            "{payload:.60}: {}",
            site.story()
        );
    }
}

/// The same noise in every run: replies cut short, doubled, with bytes changed.
#[test]
fn noise() {
    let real =
        include_bytes!("../../../filter/core/tests/transcripts/killed-master/sentinel-0.resp");
    let mut seed = 7_u64;
    let mut random = move |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let site = Plan::default().settled();
    for _ in 0..300 {
        let from = random(real.len());
        let mut bytes = real[from..(from + 1 + random(600)).min(real.len())].to_vec();
        for _ in 0..random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        site.sentinels[random(3)].send_raw(&site.process, &bytes);
        site.process.advance_ms(random(100) as u64);
    }
    site.process.advance_ms(40_000);
    assert!(
        site.heartbeats.iter().all(|h| h.healthy()),
        "{}",
        site.story()
    );
    assert!(
        pages(&site) < 2 * 64 + 3 * PAGES_PER_SENTINEL,
        "{} pages",
        pages(&site)
    );
}

/// A process of the same network namespace can connect to the abstract sockets.
#[test]
fn strangers_at_the_heartbeat_listener() {
    let site = Plan::default().settled();
    for i in 0..500_u32 {
        let stranger = site.sides[0]
            .watch
            .connect(&format!("@redis-sentinel-watch-{}", i % 7));
        stranger.send(b"GET / HTTP/1.1\r\n\r\n");
        stranger.send(&[b'.'; 5_000]);
        if i % 2 == 0 {
            stranger.fin();
        }
        stranger.close();
    }
    site.process.advance_ms(30_000);
    assert!(
        site.heartbeats.iter().all(|h| h.healthy()),
        "{}",
        site.story()
    );
    assert!(pages(&site) < 2 * 64, "{} pages", pages(&site));
}
