//! Plays a recorded transcript (`tests/transcripts`) to a topology, as the watch would: bytes in, facts out.

use super::rules;
use sentinel_core::{
    address::Address,
    event,
    fact::Fact,
    reply::{self, MasterAddress},
    resp::{Message, Reader},
    time::Timestamp,
    topology::{Answer, Topology},
};
use std::{collections::VecDeque, fs};

/// Some bytes that one Sentinel sent at one time, or the request that it answers.
#[derive(Clone)]
struct Moment {
    ms: u64,
    sentinel: usize,
    what: What,
}

#[derive(Clone)]
enum What {
    Asked(String),
    Sent(Vec<u8>),
}

/// One folder of transcripts: all Sentinels, merged by time.
#[derive(Clone)]
pub struct Recording {
    redis: Vec<Address>,
    moments: Vec<Moment>,
    events: bool,
}

/// A fact, and when it was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub ms: u64,
    pub fact: Fact,
}

/// An event as a Sentinel published it.
pub struct Published {
    pub ms: u64,
    pub sentinel: usize,
    payload: String,
}

impl Published {
    /// The replica that the event is about.
    pub fn replica(&self) -> Address {
        let words: Vec<&str> = self.payload.split(' ').collect();
        Address::new(words[2], words[3]).unwrap()
    }
}

impl Recording {
    /// Reads one folder.
    pub fn open(folder: &str) -> Self {
        let place = format!("{}/tests/transcripts/{folder}", env!("CARGO_MANIFEST_DIR"));
        let nodes = fs::read_to_string(format!("{place}/nodes")).unwrap();
        let redis = nodes
            .lines()
            .filter_map(|line| line.strip_prefix("redis "))
            .map(|port| Address::new("127.0.0.1", port).unwrap())
            .collect();
        let mut moments = Vec::new();
        for sentinel in 0..3 {
            let bytes = fs::read(format!("{place}/sentinel-{sentinel}.resp")).unwrap();
            let index = fs::read_to_string(format!("{place}/sentinel-{sentinel}.index")).unwrap();
            for line in index.lines() {
                let (time, rest) = line.trim().split_once(' ').unwrap();
                let ms = time.split('.').next().unwrap().parse().unwrap();
                let what = match rest.split_once(' ').unwrap() {
                    (">", words) => What::Asked(words.to_owned()),
                    ("<", range) => {
                        let (from, to) = range.split_once(' ').unwrap();
                        let range = from.parse::<usize>().unwrap()..to.parse().unwrap();
                        What::Sent(bytes[range].to_vec())
                    }
                    _ => continue,
                };
                moments.push(Moment { ms, sentinel, what });
            }
        }
        // Stable: of one Sentinel and one millisecond the order stays.
        moments.sort_by_key(|moment| moment.ms);
        Self {
            redis,
            moments,
            events: true,
        }
    }

    /// The nodes; 0 is the master at the start.
    pub fn redis(&self, index: usize) -> Address {
        self.redis[index].clone()
    }

    /// The same without events, as an old Sentinel would have it.
    pub fn polls_alone(&self) -> Self {
        Self {
            events: false,
            ..self.clone()
        }
    }

    /// The same bytes in reads of these sizes.
    pub fn cut(&self, sizes: &[usize]) -> Self {
        let mut sizes = sizes.iter().copied().cycle();
        let mut cut = self.clone();
        cut.moments.clear();
        for moment in &self.moments {
            let What::Sent(bytes) = &moment.what else {
                cut.moments.push(moment.clone());
                continue;
            };
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                cut.moments.push(Moment {
                    what: What::Sent(head.to_vec()),
                    ..*moment
                });
                rest = tail;
            }
        }
        cut
    }

    /// The same with one more push.
    pub fn with_push(&self, sentinel: usize, ms: u64, channel: &str, payload: &str) -> Self {
        let mut bytes = b">3\r\n".to_vec();
        for word in ["message", channel, payload] {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        let mut more = self.clone();
        let what = What::Sent(bytes);
        more.moments.push(Moment { ms, sentinel, what });
        more.moments.sort_by_key(|moment| moment.ms);
        more
    }

    /// Every event of this channel.
    pub fn published(&self, wanted: &str) -> Vec<Published> {
        let mut found = Vec::new();
        self.read(|ms, sentinel, heard| {
            if let Heard::Push(channel, payload) = heard
                && channel == wanted
            {
                found.push(Published {
                    ms,
                    sentinel,
                    payload,
                });
            }
        });
        found
    }

    /// Plays it all to a new topology.
    pub fn play(&self) -> (Vec<Told>, Topology) {
        let (rules, mut topology, mut told) = (rules(), Topology::default(), Vec::new());
        self.read(|ms, sentinel, heard| {
            let (now, name) = (Timestamp(ms), format!("sentinel-{sentinel}"));
            let mut facts = topology.tick(now, &rules);
            match heard {
                Heard::Push(channel, payload) if self.events => {
                    if let Some(event) = event::parse(&channel, &payload) {
                        assert!(["mymaster", ""].contains(&event.master_name.as_str()));
                        facts.extend(topology.event(now, &rules, &name, &event));
                    }
                }
                Heard::Push(..) => {}
                Heard::Poll(answer) => {
                    let slot = u32::try_from(sentinel).unwrap();
                    facts.extend(topology.report(now, &rules, &name, slot, &answer));
                }
            }
            told.extend(facts.into_iter().map(|fact| Told { ms, fact }));
        });
        (told, topology)
    }

    /// Cuts the bytes into frames and matches replies with requests; knows nothing else about Sentinels.
    fn read(&self, mut hear: impl FnMut(u64, usize, Heard)) {
        let mut ends: Vec<End> = (0..3).map(|_| End::default()).collect();
        for Moment { ms, sentinel, what } in &self.moments {
            let end = &mut ends[*sentinel];
            match what {
                What::Asked(words) => end.asked(words),
                What::Sent(bytes) => end.reader.push(bytes),
            }
            while let Some(message) = end.reader.next_message().unwrap() {
                if let Some(heard) = end.hear(&message) {
                    hear(*ms, *sentinel, heard);
                }
            }
        }
        for end in ends {
            assert!(end.pending.is_empty(), "unanswered: {:?}", end.pending);
        }
    }
}

enum Heard {
    Push(String, String),
    Poll(Box<Answer>),
}

/// Our end of one connection.
#[derive(Default)]
struct End {
    reader: Reader,
    pending: VecDeque<String>,
    address: Option<MasterAddress>,
}

impl End {
    fn asked(&mut self, words: &str) {
        if !words.starts_with("SUBSCRIBE") {
            self.pending.push_back(words.to_owned());
        }
    }

    fn hear(&mut self, message: &Message) -> Option<Heard> {
        let frame = match message {
            Message::Reply(frame) => frame,
            Message::Push(data) => {
                let words: Vec<&str> = data.iter().filter_map(reply::text).collect();
                return match words[..] {
                    ["message", channel, payload] => {
                        Some(Heard::Push(channel.into(), payload.into()))
                    }
                    _ => None,
                };
            }
        };
        let request = self.pending.pop_front().unwrap();
        if request.starts_with("SENTINEL GET-MASTER-ADDR-BY-NAME") {
            self.address = Some(reply::master_address(frame));
            None
        } else if request.starts_with("SENTINEL MASTER") {
            Some(Heard::Poll(Box::new(Answer {
                address: self.address.take().unwrap(),
                state: reply::master_state(frame),
                replicas: None,
            })))
        } else {
            None
        }
    }
}
