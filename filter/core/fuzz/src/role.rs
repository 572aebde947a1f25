//! A Redis node's answers to `AUTH` and `ROLE`.

use crate::script::{Script, assert_printable, pieces};
use sentinel_core::{
    conversation::Credentials,
    probe::{Finding, Probe, ProbeError},
    time::Timestamp,
};
use std::time::Duration;

/// See the crate's table. Two bytes of settings and chunking; a zero byte ends the bytes of one exchange.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let (options, seed) = (script.byte(), script.byte());
    let bytes = script.rest();
    let whole = talk(options, bytes, &|bytes| vec![bytes]);
    let cut = talk(options, bytes, &|bytes| pieces(bytes, seed).collect());
    assert_eq!(whole, cut);
}

type Told = (Vec<Finding>, Option<ProbeError>);

fn talk<'a>(options: u8, bytes: &'a [u8], cut: &dyn Fn(&'a [u8]) -> Vec<&'a [u8]>) -> Told {
    let credentials = (options & 1 != 0).then(|| Credentials {
        username: String::new(),
        password: "hunter2".into(),
    });
    let second = Duration::from_secs(1);
    let (mut probe, mut told) = (Probe::new(second, second, credentials), Vec::new());
    let mut now = Timestamp(1000);
    for exchange in bytes.split(|byte| *byte == 0) {
        now = now.after(second);
        probe.heartbeat();
        probe.speak(now);
        for piece in cut(exchange) {
            match probe.receive(now, piece) {
                Ok(finding) => told.extend(finding),
                Err(error) => return (told, Some(error)),
            }
        }
        if let Err(error) = probe.check(now) {
            return (told, Some(error));
        }
    }
    for finding in &told {
        if let Finding::NotAllowed(text) = finding {
            assert_printable(text);
        }
    }
    (told, None)
}
