//! Failovers: the race, and thousands of connections.

use std::collections::BTreeMap;

use crate::contenders::{FILTER, HAPROXY, POOLED};
use crate::judge::Seen;
use crate::race::{FILTER_EARLY, HAPROXY_STRICT, REDIS_PY, Race, Run};
use crate::report::text::{heads, number, spread, table};
use crate::results::Results;
use crate::stats::Spread;

/// In every table in this order.
pub const ORDER: [&str; 6] = [
    FILTER,
    FILTER_EARLY,
    POOLED,
    HAPROXY,
    HAPROXY_STRICT,
    REDIS_PY,
];
/// Those of them that are not ours.
const OTHERS: [&str; 3] = [HAPROXY, HAPROXY_STRICT, REDIS_PY];

/// The faults, and what they are.
pub const FAULTS: [(&str, &str); 3] = [
    (
        "planned",
        "Planned: `SENTINEL FAILOVER`, the old master lives on",
    ),
    ("kill", "Killed: SIGKILL"),
    (
        "hang",
        "Hung: SIGSTOP, the master accepts and answers nothing",
    ),
];

/// The runs with this fault.
pub fn of<'a>(runs: &'a [Run], fault: &str) -> Vec<&'a Run> {
    runs.iter().filter(|run| run.fault == fault).collect()
}

/// What one contender's clients saw in these runs.
pub fn seen<'a>(runs: &[&'a Run], who: &str) -> Vec<&'a Seen> {
    runs.iter().filter_map(|run| run.seen.get(who)).collect()
}

/// The race.
pub fn race(results: &Results) -> String {
    let Some(part) = &results.race else {
        return String::new();
    };
    let window = part.plan.race_window.as_secs_f64();
    let mut text = String::from(
        "## The failover race\n\nAll of them go through the same failover at the same time, against one system of three Redis and three Sentinels \
         (`down-after-milliseconds 1000`).\n\n![Silence](race-silence.svg)\n\n![Timeline](race-timeline.svg)\n",
    );
    for (fault, title) in FAULTS {
        let runs = of(&part.data.runs, fault);
        if runs.is_empty() {
            continue;
        }
        let promoted = Spread::of(runs.iter().map(|run| run.promoted));
        text += &format!(
            "\n### {title}\n\nRuns: {}. Sentinel's `+promoted-slave` came {} ms after the fault, the race went on for {} s after it.\n\n",
            runs.len(),
            spread(promoted),
            number(window)
        );
        text += &fault_table(&runs);
    }
    text + "\nSilence: the longest time in which nobody, or one client, had an acknowledged write. `first`, `all`: from the promotion to the first write that \
     the new master acknowledged, and until every client had one (negative: before Sentinel told of it); `never` counts the runs in which that did not come before the end. The counts are \
     means per failover of all 8 clients. Lost: acknowledged writes that the new master does not have, over all failovers.\n\n"
        + &race_means(&part.data.runs)
        + &failed(&part.data)
}

fn fault_table(runs: &[&Run]) -> String {
    let head = heads([
        "",
        "silence, ms",
        "of one client",
        "first, ms",
        "all, ms",
        "never",
        "refused",
        "closed",
        "timeouts",
        "errors",
        "lost",
    ]);
    let rows = ORDER.iter().map(|who| row(who, &seen(runs, who)));
    table(&head, &rows.collect::<Vec<_>>())
}

fn row(who: &str, seen: &[&Seen]) -> Vec<String> {
    let of = |value: fn(&Seen) -> f64| spread(Spread::of(seen.iter().map(|seen| value(seen))));
    let some = |value: fn(&Seen) -> Option<f64>| {
        spread(Spread::of(seen.iter().filter_map(|seen| value(seen))))
    };
    let mean = |value: fn(&Seen) -> usize| {
        let sum: usize = seen.iter().map(|seen| value(seen)).sum();
        number(sum as f64 / seen.len().max(1) as f64)
    };
    let never = seen.iter().filter(|seen| seen.last.is_none()).count();
    let lost: i64 = seen.iter().map(|seen| seen.lost).sum();
    let acks: usize = seen.iter().map(|seen| seen.acks).sum();
    vec![
        who.to_owned(),
        of(|s| s.silence),
        of(|s| s.silence_of_one),
        some(|s| s.first),
        some(|s| s.last),
        format!("{never} of {}", seen.len()),
        mean(|s| s.refused),
        mean(|s| s.closed),
        mean(|s| s.timeouts),
        mean(|s| s.errors),
        format!("{} of {}", number(lost as f64), number(acks as f64)),
    ]
}

/// What could not be judged is told as well.
fn failed(race: &Race) -> String {
    if race.failed.is_empty() {
        return String::new();
    }
    let list = race.failed.iter().map(|why| format!("\n- {why}"));
    format!(
        "\n\nFailovers that could not be judged, and are not in the tables:\n{}",
        list.collect::<String>()
    )
}

fn race_means(runs: &[Run]) -> String {
    let mut text = String::new();
    let lost = |fault: &str, who: &str| -> i64 {
        seen(&of(runs, fault), who)
            .iter()
            .map(|seen| seen.lost)
            .sum()
    };
    let planned = of(runs, "planned");
    if !planned.is_empty() {
        let others = OTHERS.map(|who| format!("{who} {}", number(lost("planned", who) as f64)));
        text += &format!(
            "What this means: in {} planned failovers the filter lost {} acknowledged writes, with `early_switch` {}, pooled mode {}; the others: {}.",
            planned.len(),
            number(lost("planned", FILTER) as f64),
            number(lost("planned", FILTER_EARLY) as f64),
            number(lost("planned", POOLED) as f64),
            others.join("; ")
        );
        if OTHERS
            .iter()
            .all(|who| lost("planned", who) > lost("planned", FILTER))
        {
            text += " Those write to the old master until Sentinel turns it into a replica: it acknowledges what will be thrown away, which is also why their \
                     silence looks short.";
        }
    }
    for (fault, word) in [("kill", "killed"), ("hang", "hung")] {
        let runs = of(runs, fault);
        let median = |who: &str| {
            Spread::of(seen(&runs, who).iter().map(|seen| seen.silence)).map(|spread| spread.median)
        };
        let ours = median(FILTER);
        let best = ORDER[2..]
            .iter()
            .filter_map(|who| Some((median(who)?, *who)));
        if let (Some(ours), Some((theirs, who))) = (ours, best.min_by(|a, b| a.0.total_cmp(&b.0))) {
            text += &format!(
                " A {word} master silences the filter's clients for {} ms; the best of the others ({who}) for {} ms.",
                number(ours),
                number(theirs)
            );
        }
    }
    let refused: usize = runs
        .iter()
        .filter_map(|run| run.seen.get(FILTER))
        .map(|seen| seen.refused)
        .sum();
    text + &format!(
        " The filter refused {refused} connections in all of these failovers.{}",
        told(runs)
    )
}

/// The errors that the filter's clients were told, if any.
fn told(runs: &[Run]) -> String {
    let mut texts: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in runs.iter().filter_map(|run| run.seen.get(FILTER)) {
        for (text, count) in &seen.texts {
            *texts.entry(text).or_default() += count;
        }
    }
    if texts.is_empty() {
        return String::new();
    }
    let list = texts
        .iter()
        .map(|(text, count)| format!("`{}` ({count})", text.replace('|', "/")));
    format!(
        " What its clients were told in all: {}.",
        list.collect::<Vec<_>>().join(", ")
    )
}

/// Thousands of connections.
pub fn switch(results: &Results) -> String {
    let Some(part) = &results.switch else {
        return String::new();
    };
    let samples = &part.data;
    let Some(first) = samples.first() else {
        return String::new();
    };
    let row = |name: &str, value: &dyn Fn(&crate::switch::Sample) -> [f64; 3]| {
        let mut row = vec![name.to_owned()];
        row.extend([0, 1, 2].map(|i| spread(Spread::of(samples.iter().map(|s| value(s)[i])))));
        row
    };
    let rows = [
        row("closed", &|sample| sample.closed),
        row("answered by the new master", &|sample| sample.answered),
    ];
    let cpu = [0, 1, 2].map(|i| spread(Spread::of(samples.iter().map(|sample| sample.cpu[i]))));
    let closes = samples
        .iter()
        .map(|sample| sample.closes)
        .max()
        .unwrap_or(0);
    let wrong: usize = samples.iter().map(|sample| sample.wrong).sum();
    format!(
        "## {} live connections\n\nPlanned failovers: {}. Each client dials again when it is closed, and asks who answers. Milliseconds from the \
         first `+promoted-slave` that a subscriber of the Sentinels saw:\n\n{}\nAt most {closes} closes of one connection; {wrong} answers by another node or errors. \
         From the promotion to the last answer Envoy used {} ms of CPU, the clients {} ms, and everybody together, Redis and the kernel with them, {} ms, of the \
         {} processors that there are.",
        number(first.connections as f64),
        samples.len(),
        table(
            &heads(["ms", "half of them", "99 of 100", "the last one"]),
            &rows
        ),
        cpu[0],
        cpu[1],
        cpu[2],
        part.machine.processors
    )
}
