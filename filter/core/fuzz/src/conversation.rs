//! A conversation with whatever sends these bytes.

use crate::script::{Script, assert_printable, assert_usable, pieces};
use sentinel_core::{
    config::MasterName,
    conversation::{Conversation, ConversationError, Credentials, Output, Settings},
    reply::MasterAddress,
    resp::{Frame, Message, Reader},
    time::Timestamp,
};
use std::time::Duration;

/// Ends the bytes of one exchange. No Sentinel sends it.
pub const END: u8 = 0;

/// See the crate's table. Two bytes of settings and chunking; then the bytes of one exchange after the other, each
/// ended by [`END`]: the next one is asked for whenever a heartbeat is in hand.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let (options, seed) = (script.byte(), script.byte());
    let exchanges = || script_exchanges(input);
    let whole = talk(settings(options), options, exchanges(), &|bytes| {
        vec![bytes]
    });
    let cut = talk(settings(options), options, exchanges(), &|bytes| {
        pieces(bytes, seed).collect()
    });
    assert_eq!(whole, cut);
}

fn script_exchanges(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = input.get(2..).unwrap_or_default();
    bytes.split(|byte| *byte == END)
}

fn name(text: &str) -> MasterName {
    serde_json::from_value(text.into()).expect("a name")
}

fn settings(options: u8) -> Settings {
    let mut masters = vec![name("mymaster")];
    masters.extend((options & 1 != 0).then(|| name("other")));
    Settings {
        masters,
        poll_interval: Duration::from_secs(5),
        reply_timeout: Duration::from_secs(1),
        replicas: options & 2 != 0,
        credentials: (options & 4 != 0).then(|| Credentials {
            username: if options & 8 != 0 {
                "proxy".into()
            } else {
                String::new()
            },
            password: "hunter2\r\n".into(),
        }),
    }
}

type Told = (Vec<Output>, Option<ConversationError>);

fn talk<'a>(
    settings: Settings,
    options: u8,
    exchanges: impl Iterator<Item = &'a [u8]>,
    cut: &dyn Fn(&'a [u8]) -> Vec<&'a [u8]>,
) -> Told {
    let masters = settings.masters.clone();
    let (mut conversation, mut told) = (Conversation::new(settings), Vec::new());
    let mut now = Timestamp(1000);
    conversation.set_alert(options & 16 != 0);
    for bytes in exchanges {
        now = now.after(Duration::from_millis(20));
        conversation.heartbeat(now);
        assert!(
            conversation.next_due().is_some(),
            "a heartbeat in hand is due some time"
        );
        if options & 32 == 0 {
            conversation.hurry();
        }
        if let Some(commands) = conversation.speak(now) {
            assert_commands(&commands);
        }
        for piece in cut(bytes) {
            match conversation.receive(now, piece) {
                Ok(outputs) => told.extend(outputs),
                Err(error) => {
                    assert_printable(&error.to_string());
                    return (told, Some(error));
                }
            }
        }
        if let Err(error) = conversation.check(now) {
            return (told, Some(error));
        }
    }
    told.iter().for_each(|output| look(output, &masters));
    (told, None)
}

/// What is sent is commands and nothing else, whatever the settings contain.
fn assert_commands(bytes: &[u8]) {
    let mut reader = Reader::default();
    reader.push(bytes);
    let mut count = 0;
    while let Some(message) = reader.next_message().expect("RESP") {
        let command = matches!(message, Message::Reply(Frame::Array(_)));
        assert!(command, "{message:?}");
        count += 1;
    }
    assert!(count > 0);
}

fn look(output: &Output, masters: &[MasterName]) {
    match output {
        Output::Identity(text) | Output::PollOnly(text) => assert_printable(text),
        Output::Answer(name, answer) => {
            assert!(masters.contains(name));
            if let MasterAddress::Known(address) = &answer.address {
                assert_usable(address);
            }
        }
        Output::Peers(peers) => peers.iter().for_each(|peer| assert_usable(&peer.address)),
        Output::Event(event) => {
            let ours = |name: &MasterName| name.as_str() == event.master_name;
            assert!(event.master_name.is_empty() || masters.iter().any(ours));
        }
        Output::Answered => {}
    }
}
