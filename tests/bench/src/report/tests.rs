use std::collections::BTreeMap;
use std::path::PathBuf;

use redis_sentinel_tests::tools;

use super::*;
use crate::contenders::{DIRECT, EMPTY, FILTER, HAPROXY, PLAIN, POOLED};
use crate::cpu::{Cell, Sample};
use crate::judge::Seen;
use crate::plan::Plan;
use crate::plot;
use crate::race::{Race, Run};

fn measured<T>(data: T) -> Option<Measured<T>> {
    let machine = Machine {
        processor: "A CPU".to_owned(),
        processors: 2,
        memory: 4 << 30,
        kernel: "6.1".to_owned(),
        versions: vec![("Envoy".to_owned(), "1.40.0".to_owned())],
        module_bytes: 512_000,
        module_sha256: "0123456789abcdef0123".to_owned(),
    };
    let occasion = Occasion {
        at: "2026-01-02 03:04".to_owned(),
        commit: "abcdef0123456789".to_owned(),
        dirty: false,
    };
    Some(Measured {
        occasion,
        took: 1.0,
        plan: Plan::quick(),
        machine,
        data,
    })
}

fn cell(costs: &[(&str, f64)]) -> Cell {
    let samples = costs.iter().map(|(who, cpu)| Sample {
        round: 0,
        contender: (*who).to_owned(),
        rate: 1e9 / cpu,
        cpu: (*who != DIRECT).then_some(*cpu),
    });
    Cell {
        command: "set".to_owned(),
        size: 64,
        pipeline: 1,
        clients: 50,
        requests: 1000,
        samples: samples.collect(),
    }
}

fn some() -> Results {
    let costs = [
        (DIRECT, 4e3),
        (PLAIN, 1e4),
        (EMPTY, 1.05e4),
        (FILTER, 1.1e4),
        (POOLED, 8e3),
        (HAPROXY, 8e3),
    ];
    let seen = |lost| Seen {
        acks: 100,
        lost,
        silence: 900.0,
        silence_of_one: 950.0,
        timeline: vec![[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        ..Seen::default()
    };
    let run = Run {
        fault: "planned".to_owned(),
        promoted: 1000.0,
        seen: BTreeMap::from([(FILTER.to_owned(), seen(0)), (HAPROXY.to_owned(), seen(70))]),
    };
    Results {
        cpu: measured(vec![cell(&costs)]),
        race: measured(Race {
            runs: vec![run],
            failed: vec!["kill 1 of 1: nobody".to_owned()],
        }),
        ..Results::default()
    }
}

#[test]
fn what_was_not_measured_is_not_told() {
    let nothing = page(&Results::default());
    assert!(nothing.contains("Nothing was measured yet."));
    let page = page(&some());
    assert!(page.contains("## CPU per command") && page.contains("## The failover race"));
    for absent in [
        "## Memory",
        "## Idle",
        "## Latency",
        "### Killed",
        "NaN",
        "inf",
    ] {
        assert!(!page.contains(absent), "{absent} in\n{page}");
    }
}

#[test]
fn a_target_that_was_missed_is_told_as_missed() {
    let page = page(&some());
    let line = |start: &str| {
        page.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
    };
    let cpu = line("| CPU per command, filter ÷ `tcp_proxy`: SET 64 B, pipeline 1 |");
    assert!(
        cpu.contains("1.100×") && cpu.contains("**missed** by 7.84 %"),
        "{cpu}"
    );
    let pooled = line("| Throughput, pooled");
    assert!(
        pooled.contains("1.250×") && pooled.contains("**missed** by 16.7 %"),
        "{pooled}"
    );
    assert!(line("| Size of the module").contains("**missed** by 100 %"));
    assert!(page.contains("commit `abcdef012345` |"), "{page}");
    assert!(page.contains("the filter lost 0 acknowledged writes") && page.contains("haproxy 70"));
    assert!(page.contains("- kill 1 of 1: nobody"), "{page}");
}

#[test]
fn results_are_read_as_they_were_written() {
    let dir = Scratch::new("read");
    some().write(&dir.0).expect("written");
    let again = Results::read(&dir.0).expect("read");
    assert_eq!(page(&again), page(&some()));
    plot::write(&again, &dir.0).expect("plots");
    let svg = fs::read_to_string(dir.0.join("race-timeline.svg")).expect("the plot");
    assert!(svg.contains("+promoted-slave") && svg.contains(HAPROXY));
}

/// The page and the plots that are shipped are those of the results that are shipped.
#[test]
fn what_is_shipped_is_made_of_the_results() {
    let shipped = tools::root().join("docs/benchmarks");
    let results = Results::read(&shipped).expect("results.json is read");
    if results.cpu.is_none() {
        eprintln!("no results are shipped");
        return;
    }
    let dir = Scratch::new("shipped");
    write(&results, &dir.0).expect("the page");
    plot::write(&results, &dir.0).expect("the plots");
    for entry in fs::read_dir(&dir.0).expect("what was made") {
        let name = entry.expect("a file").file_name();
        let read = |dir: &PathBuf| fs::read_to_string(dir.join(&name)).unwrap_or_default();
        let same = read(&dir.0) == read(&shipped);
        assert!(
            same,
            "{name:?} is not of these results: make bench PARTS=--report"
        );
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("bench-report-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
