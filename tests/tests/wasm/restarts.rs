//! Sentinels that restart one after the other and come back under new addresses, as the pods of a StatefulSet do.

use std::time::Duration;

use redis_sentinel_tests::host::{Conn, Heartbeat, Opinion, Sentinel};
use serde_json::json;

use crate::site::{MASTER, NAME, Plan, Site};

const SENTINELS: usize = 5;

fn name(index: usize) -> String {
    format!("sentinel-{index}.test")
}

/// A number that is as good as any, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Five Sentinels with names, five slots on two workers.
fn site() -> Site {
    let mut site = Plan {
        watch: json!({ "masters": [NAME], "discovered_cluster": "sentinel_discovered" }),
        ..Plan::default()
    }
    .build();
    for index in 3..SENTINELS {
        let address = format!("10.0.0.{}:26379", index + 1);
        let opinion = Opinion::new(MASTER, 1);
        site.sentinels
            .push(Sentinel::start(&site.process, &address, NAME, opinion));
    }
    for (index, sentinel) in site.sentinels.iter().enumerate() {
        let ip = format!("10.0.0.{}", index + 1);
        site.process.resolver().set(&name(index), &[&ip], 5);
        sentinel.edit().address = format!("{}:26379", name(index));
    }
    Sentinel::introduce(&site.sentinels);
    seeds(&site, &[1, 2, 3, 4, 5]);
    for slot in 0..SENTINELS {
        let root = &site.sides[slot % 2].watch;
        let address = format!("@redis-sentinel-watch-{slot}");
        site.heartbeats
            .push(Heartbeat::start(&site.process, root, &address));
    }
    site.settle();
    site
}

fn seeds(site: &Site, ips: &[usize]) {
    let seeds: Vec<String> = ips.iter().map(|ip| format!("10.0.0.{ip}:26379")).collect();
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    site.process.cluster("sentinel_seeds", &seeds);
}

fn each_is_watched_once(site: &Site) -> bool {
    site.sentinels
        .iter()
        .all(|sentinel| sentinel.subscribers("+switch-master") == 1)
}

/// Restarts each Sentinel in turn; the address of one that went may be the next one's.
fn rolling_restart(site: &Site, chance: &mut Chance) {
    let mut ips: Vec<usize> = (1..=SENTINELS).collect();
    let mut free = [SENTINELS + 1, SENTINELS + 2];
    for index in (0..SENTINELS).rev() {
        let old = format!("10.0.0.{}:26379", ips[index]);
        site.sentinels[index].drop_connections(&site.process);
        if chance.below(2) == 0 {
            site.process.refuse(&old);
            site.process.advance_ms(chance.below(500));
        }
        site.process.silence(&old);
        site.process.advance_ms(500 + chance.below(3_000));
        let at = chance.below(free.len() as u64) as usize;
        ips[index] = std::mem::replace(&mut free[at], ips[index]);
        let ip = format!("10.0.0.{}", ips[index]);
        let address = format!("{ip}:26379");
        site.process.restore(&address);
        site.sentinels[index].move_to(&site.process, &address);
        site.process.advance_ms(chance.below(1_000));
        site.process.resolver().set(&name(index), &[&ip], 5);
        seeds(site, &ips);
        site.process.advance_ms(1_000 + chance.below(12_000));
    }
}

/// Also while names lead to the addresses of before, where another Sentinel may answer by now.
#[test]
fn each_is_watched_again_after_a_rolling_restart() {
    for seed in 1..=60u64 {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let site = site();
        rolling_restart(&site, &mut chance);
        let watched = || each_is_watched_once(&site);
        assert!(
            site.process.advance_until(Duration::from_secs(20), watched),
            "seed {seed}: {:?}: {}",
            site.sentinels
                .iter()
                .map(|sentinel| sentinel.subscribers("+switch-master"))
                .collect::<Vec<_>>(),
            site.story()
        );
        site.process.advance_ms(10_000);
        assert!(each_is_watched_once(&site), "seed {seed}: {}", site.story());
    }
}

/// All were away: the first that answers is the word for those who wait.
#[test]
fn all_are_watched_again_at_once_after_all_were_away() {
    let site = site();
    let address = |index: usize| format!("10.0.0.{}:26379", index + 1);
    for index in 0..SENTINELS {
        site.process.refuse(&address(index));
        site.sentinels[index].drop_connections(&site.process);
    }
    site.process.advance_ms(30_000);
    for index in 0..SENTINELS {
        site.process.restore(&address(index));
    }
    let first = || {
        let watched = |sentinel: &Sentinel| sentinel.subscribers("+switch-master") == 1;
        site.sentinels.iter().any(watched)
    };
    assert!(site.process.advance_until(Duration::from_secs(10), first));
    site.process.advance_ms(400);
    assert!(each_is_watched_once(&site), "{}", site.story());
}

/// Connections to every slot's socket that say nothing, and come again as soon as they are closed.
struct Squatters(Vec<(usize, Conn)>);

impl Squatters {
    const EACH: usize = 10;

    fn new(site: &Site) -> Self {
        let slots = (0..SENTINELS).flat_map(|slot| [slot; Self::EACH]);
        Self(slots.map(|slot| (slot, Self::squat(site, slot))).collect())
    }

    fn squat(site: &Site, slot: usize) -> Conn {
        site.sides[slot % 2]
            .watch
            .connect(&format!("@redis-sentinel-watch-{slot}"))
    }

    fn stay(&mut self, site: &Site, time: Duration) {
        let end = site.process.now() + time;
        while site.process.now() < end {
            site.process.advance_ms(20);
            for (slot, squatter) in &mut self.0 {
                if squatter.closed().is_some() {
                    *squatter = Self::squat(site, *slot);
                }
            }
        }
    }
}

/// Whoever is in the network namespace may open the slots' sockets: that keeps no Sentinel unwatched.
#[test]
fn squatters_keep_no_sentinel_from_being_watched_again() {
    for seed in 1..=20u64 {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let site = site();
        let mut squatters = Squatters::new(&site);
        squatters.stay(&site, Duration::from_millis(1_000 + chance.below(3_000)));
        for index in 0..SENTINELS {
            let address = format!("10.0.0.{}:26379", index + 1);
            site.process.refuse(&address);
            site.sentinels[index].drop_connections(&site.process);
            squatters.stay(&site, Duration::from_millis(chance.below(1_500)));
            site.process.restore(&address);
            squatters.stay(&site, Duration::from_millis(chance.below(500)));
        }
        squatters.stay(&site, Duration::from_secs(12));
        let watched = site
            .sentinels
            .iter()
            .map(|sentinel| sentinel.subscribers("+switch-master"));
        let watched: Vec<_> = watched.collect();
        assert!(
            watched.iter().all(|count| *count == 1),
            "seed {seed}: {watched:?}: {}",
            site.story()
        );
    }
}
