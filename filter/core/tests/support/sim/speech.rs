//! What a Sentinel writes to its clients, in RESP3 or RESP2, as the recorded ones do (`../../transcripts`).

use super::sentinels::{Ensemble, Push, Stage, address, run_id};
use crate::support::node;
use sentinel_core::{
    event,
    reply::{elements, text},
    resp::{Message, Reader},
};

/// The Sentinel's end of a connection.
#[derive(Default)]
pub struct Session {
    resp3: bool,
    pub subscribed: bool,
    reader: Reader,
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

pub fn message((channel, payload): &Push) -> Vec<u8> {
    let words = ["message", channel, payload].map(bulk).concat();
    format!(">3\r\n{words}").into_bytes()
}

impl Session {
    /// Takes in commands, replies.
    pub fn serve(&mut self, ensemble: &Ensemble, i: usize, bytes: &[u8]) -> Vec<u8> {
        self.reader.push(bytes);
        let mut out = String::new();
        while let Some(Message::Reply(frame)) = self.reader.next_message().unwrap() {
            let words: Vec<&str> = elements(&frame).unwrap().iter().filter_map(text).collect();
            out += &self.reply(ensemble, i, &words);
        }
        out.into_bytes()
    }

    fn reply(&mut self, ensemble: &Ensemble, i: usize, words: &[&str]) -> String {
        let sentinel = &ensemble.all[i];
        let monitor = |name: &str| sentinel.monitors.iter().find(|m| m.name == name);
        match *words {
            ["HELLO", _] if sentinel.old => "-ERR unknown command `HELLO`\r\n".to_owned(),
            ["HELLO", _] => {
                self.resp3 = true;
                "%1\r\n$5\r\nproto\r\n:3\r\n".to_owned()
            }
            ["CLIENT", ..] => "+OK\r\n".to_owned(),
            ["SENTINEL", "MYID"] => bulk(&run_id(i, sentinel.life)),
            ["SUBSCRIBE", ref channels @ ..] => {
                self.subscribed = true;
                let one = |(n, channel): (usize, &&str)| {
                    format!(">3\r\n$9\r\nsubscribe\r\n{}:{n}\r\n", bulk(channel))
                };
                assert_eq!(channels.len(), event::CHANNELS.len());
                channels.iter().enumerate().map(one).collect()
            }
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name] => {
                let host = node(monitor(name).unwrap().names()).host();
                format!("*2\r\n{}$4\r\n6379\r\n", bulk(&host))
            }
            ["SENTINEL", "MASTER", name] => self.map(&master(monitor(name).unwrap())),
            ["SENTINEL", "SENTINELS", name] => {
                let known = &monitor(name).unwrap().known;
                let one = |(j, life): (&usize, &usize)| {
                    let (host, port) = address(*j, *life);
                    let id = run_id(*j, *life);
                    self.map(&[("ip", host), ("port", port.to_string()), ("runid", id)])
                };
                let all: String = known.iter().map(one).collect();
                format!("*{}\r\n{all}", known.len())
            }
            _ => panic!("{words:?}"),
        }
    }

    fn map(&self, fields: &[(&str, String)]) -> String {
        let count = if self.resp3 {
            fields.len()
        } else {
            fields.len() * 2
        };
        let kind = if self.resp3 { '%' } else { '*' };
        let body: String = fields
            .iter()
            .map(|(name, value)| bulk(name) + &bulk(value))
            .collect();
        format!("{kind}{count}\r\n{body}")
    }
}

/// `addReplySentinelRedisInstance`: still the old address while a failover ends, but the new epoch.
fn master(monitor: &super::sentinels::Monitor) -> Vec<(&'static str, String)> {
    let stage = monitor.failover.as_ref().map(|failover| failover.stage);
    let mut flags = "master".to_owned();
    flags += if monitor.sdown { ",s_down" } else { "" };
    flags += if stage.is_some() {
        ",failover_in_progress"
    } else {
        ""
    };
    let mut fields = vec![
        ("name", monitor.name.to_owned()),
        ("ip", node(monitor.master).host()),
        ("port", "6379".to_owned()),
        ("flags", flags),
        ("config-epoch", monitor.config_epoch.to_string()),
        ("num-other-sentinels", monitor.known.len().to_string()),
    ];
    if let Some(stage) = stage {
        let name = match stage {
            Stage::WaitStart => "wait_start",
            Stage::SelectReplica => "select_slave",
            Stage::SendPromotion => "send_slaveof_noone",
            Stage::WaitPromotion => "wait_promotion",
            Stage::Reconfigure => "reconf_slaves",
        };
        fields.push(("failover-state", name.to_owned()));
    }
    fields
}
