//! Proves that no event of one master reaches another one's topology: a Sentinel publishes about all its masters on the
//! same channels, and names may begin alike.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

use sentinel_core::{
    config::{self, WatchConfig},
    conversation::{Conversation, Output, Settings},
    time::Timestamp,
};

fn conversation() -> Conversation {
    let json = br#"{"masters": ["one", "one-more"]}"#;
    let config: WatchConfig = config::parse(json).unwrap();
    Conversation::new(Settings {
        masters: config.masters.as_slice().to_vec(),
        poll_interval: config.poll_interval.0,
        reply_timeout: config.reply_timeout.0,
        replicas: false,
        credentials: None,
    })
}

/// The names of the events that come out of this push.
fn names(channel: &str, payload: &str) -> Vec<String> {
    let mut push = b">3\r\n".to_vec();
    for word in ["message", channel, payload] {
        push.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    let outputs = conversation().receive(Timestamp(0), &push).unwrap();
    let name = |output| match output {
        Output::Event(event) => event.master_name,
        other => panic!("{other:?}"),
    };
    outputs.into_iter().map(name).collect()
}

#[test]
fn an_event_is_about_the_master_that_it_names() {
    for (name, told) in [
        ("one", true),
        ("one-more", true),
        ("on", false),
        ("one-", false),
        ("ONE", false),
        ("another", false),
    ] {
        let (old, new) = ("10.0.0.1 6379", "10.0.0.2 6379");
        for (channel, payload) in [
            ("+switch-master", format!("{name} {old} {new}")),
            ("+sdown", format!("master {name} {old}")),
            (
                "-failover-abort-not-elected",
                format!("master {name} {old}"),
            ),
            ("+promoted-slave", format!("slave x {new} @ {name} {old}")),
            ("+selected-slave", format!("slave x {new} @ {name} {old}")),
        ] {
            let expected: Vec<String> = told.then(|| name.to_owned()).into_iter().collect();
            assert_eq!(names(channel, &payload), expected, "{channel} {payload}");
        }
    }
    assert_eq!(names("+tilt", "#tilt mode entered"), [""]);
}

/// An event without a name, which only a hostile Sentinel sends, is no TILT: it concerns nobody.
#[test]
fn an_event_without_a_name_is_about_nobody() {
    let payload = " 10.0.0.1 6379 10.0.0.2 6379";
    assert_eq!(names("+switch-master", payload), [""; 0]);
}
