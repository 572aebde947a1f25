//! What it costs to have it: memory, idle CPU, the Sentinels' part.

use crate::load::{Asked, Load, Work};
use crate::memory::Sample;
use crate::report::text::{heads, number, spread, table};
use crate::results::Results;
use crate::stats::Spread;
use crate::usage::Memory;

const MB: f64 = 1_048_576.0;
/// Sentinel's default.
pub const MAXCLIENTS: f64 = 10_000.0;

/// With and without the filter, for each number of workers.
pub fn pairs(samples: &[Sample]) -> Vec<(&Sample, &Sample)> {
    let with = |plain: &Sample| {
        samples
            .iter()
            .find(|s| s.filter && s.workers == plain.workers)
    };
    samples
        .iter()
        .filter(|s| !s.filter)
        .filter_map(|plain| Some((plain, with(plain)?)))
        .collect()
}

/// Memory.
pub fn memory(results: &Results) -> String {
    let Some(part) = &results.memory else {
        return String::new();
    };
    let mb = |bytes: u64| number(bytes as f64 / MB);
    let each = |from: Memory, to: Memory, by: usize| {
        number((to.rss as f64 - from.rss as f64) / by.max(1) as f64 / 1024.0)
    };
    let rows = pairs(&part.data).into_iter().map(|(plain, with)| {
        let held = with.held.map(|[from, to]| each(from, to, with.connections));
        vec![
            with.workers.to_string(),
            mb(plain.idle.rss),
            mb(with.idle.rss),
            number((with.idle.rss as f64 - plain.idle.rss as f64) / MB),
            number((with.idle.pss as f64 - plain.idle.pss as f64) / MB),
            each(plain.idle, plain.live, plain.connections),
            each(with.idle, with.live, with.connections),
            held.unwrap_or_else(|| "–".to_owned()),
        ]
    });
    let head = heads([
        "workers",
        "plain Envoy, MB",
        "with the filter, MB",
        "the filter, MB",
        "by PSS, MB",
        "per live connection, plain, KB",
        "with the filter, KB",
        "per held connection, KB",
    ]);
    let connections = part.data.first().map_or(0, |sample| sample.connections);
    format!(
        "## Memory\n\nResident set (RSS) of the whole process. Connections: {} that had an answer; held: as many that wait while no master is to be had. \
         PSS counts a page that several processes share in part; RSS counts it whole in each.\n\n![Memory](memory.svg)\n\n{}",
        number(connections as f64),
        table(&head, &rows.collect::<Vec<_>>())
    )
}

/// Idle CPU.
pub fn idle(results: &Results) -> String {
    let Some(part) = &results.load else {
        return String::new();
    };
    let of = |index: usize| Spread::of(part.data.idle.iter().map(|window| window[index]));
    let difference = Spread::of(part.data.idle.iter().map(|[with, without]| with - without));
    let row = |name: &str, value: Option<Spread>| {
        let percent = value.map(|spread| spread.times(100.0 / 60e3));
        vec![name.to_owned(), spread(value), spread(percent)]
    };
    let rows = [
        row("Envoy that follows the Sentinels", of(0)),
        row("the same without the filter", of(1)),
        row("difference", difference),
    ];
    format!(
        "## Idle cost\n\nWithout any client, one worker, three slots, side by side for {} s.\n\n{}",
        number(part.plan.idle_time.as_secs_f64()),
        table(&heads(["", "CPU, ms per minute", "% of a core"]), &rows)
    )
}

/// What the Sentinels do for it.
pub fn sentinels(results: &Results) -> String {
    let Some(part) = &results.load else {
        return String::new();
    };
    let load = &part.data;
    let row = |name: String, asked: &Asked| {
        let of = |value: fn(&Work) -> f64| spread(Spread::of(asked.sentinels.iter().map(value)));
        vec![
            name,
            of(|work| work.connections),
            of(|work| work.commands),
            of(|work| work.received / 1024.0),
            of(|work| work.sent / 1024.0),
            of(|work| work.cpu / 600.0),
            number(asked.ping),
        ]
    };
    let real = load
        .sidecars
        .iter()
        .map(|asked| row(format!("{} Envoys", asked.by), asked));
    let played = load.conversations.iter().map(|asked| {
        row(
            format!("{} conversations, simulated", number(asked.by as f64)),
            asked,
        )
    });
    let rows: Vec<_> = real.chain(played).collect();
    let head = heads([
        "measured: each Sentinel with",
        "connections",
        "commands/s",
        "KB/s received",
        "KB/s sent",
        "CPU, % of a core",
        "slowest PING, ms",
    ]);
    format!(
        "## The load on the Sentinels\n\nReal Envoys have three slots, so each holds one conversation with each of three Sentinels. The simulated conversations say to one \
         Sentinel what such a slot was heard to say: {} bytes at first, {} bytes each five seconds.\n\n{}\n{}",
        number(load.said[0] as f64),
        number(load.said[1] as f64),
        table(&head, &rows),
        forecast(load)
    )
}

/// What one conversation adds to a Sentinel, from the largest number of them that was measured.
pub fn per_conversation(load: &Load) -> Option<Work> {
    let none = mean(load.sidecars.first()?)?;
    let most = load.conversations.iter().max_by_key(|asked| asked.by)?;
    let (with, by) = (mean(most)?, most.by as f64);
    Some(Work {
        connections: 1.0,
        commands: (with.commands - none.commands) / by,
        received: (with.received - none.received) / by,
        sent: (with.sent - none.sent) / by,
        cpu: (with.cpu - none.cpu) / by,
    })
}

fn mean(asked: &Asked) -> Option<Work> {
    let count = asked.sentinels.len() as f64;
    let of = |value: fn(&Work) -> f64| asked.sentinels.iter().map(value).sum::<f64>() / count;
    (count > 0.0).then(|| Work {
        connections: of(|work| work.connections),
        commands: of(|work| work.commands),
        received: of(|work| work.received),
        sent: of(|work| work.sent),
        cpu: of(|work| work.cpu),
    })
}

/// Fleets of sidecars.
fn forecast(load: &Load) -> String {
    let (Some(one), Some(none)) = (per_conversation(load), load.sidecars.first().and_then(mean))
    else {
        return String::new();
    };
    let mut rows = vec![];
    for sidecars in [100.0, 1_000.0, 10_000.0] {
        for slots in [3.0, 2.0, 1.0] {
            let conversations = sidecars * slots / 3.0;
            let connections = none.connections + conversations;
            rows.push(vec![
                number(sidecars),
                number(slots),
                number(connections),
                number(one.commands * conversations),
                number((one.received + one.sent) * conversations / 1024.0),
                number(one.cpu * conversations / 600.0),
                if connections > MAXCLIENTS {
                    "no"
                } else {
                    "yes"
                }
                .to_owned(),
            ]);
        }
    }
    let head = heads([
        "extrapolated: sidecars",
        "slots of each",
        "connections",
        "commands/s",
        "KB/s",
        "CPU, % of a core",
        "within `maxclients` 10000",
    ]);
    let most = load
        .conversations
        .iter()
        .map(|asked| asked.by)
        .max()
        .unwrap_or(0);
    format!(
        "Each of three Sentinels, for fleets of sidecars: not measured but multiplied, from what one of {} simulated conversations took, and with fewer slots than \
         Sentinels assumed to spread evenly. Memory, and the moment in which all of them are told of a failover, are not in it.\n\n{}\n\
         With fewer slots than Sentinels a proxy may not watch the one that leads a failover: it then learns of the promotion later, from a follower, and is not fenced before it.",
        number(most as f64),
        table(&head, &rows)
    )
}
