//! Bytes of a socket, cut into frames and read as every kind of reply.

use crate::script::{Script, assert_printable, assert_usable, pieces};
use sentinel_core::{
    reply::{self, MasterAddress},
    resp::{Frame, Message, Reader, RespError},
};

/// See the crate's table. The first byte chooses the chunking.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let seed = script.byte();
    let bytes = script.rest();
    let (whole, end) = read(core::iter::once(bytes));
    let (cut, end_of_cut) = read(pieces(bytes, seed));
    assert_eq!(whole, cut);
    assert_eq!(end.is_some(), end_of_cut.is_some());
    if bytes.len() < 16_384 {
        assert_eq!(end, end_of_cut);
    }
    for message in &whole {
        match message {
            Message::Reply(frame) => look(frame),
            Message::Push(data) => data.iter().for_each(look),
        }
    }
}

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<RespError>) {
    let (mut reader, mut messages) = (Reader::default(), Vec::new());
    for chunk in chunks {
        reader.push(chunk);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn look(frame: &Frame) {
    match reply::master_address(frame) {
        MasterAddress::Known(address) => assert_usable(&address),
        MasterAddress::Unusable(text, _) | MasterAddress::Refused(text) => assert_printable(&text),
        MasterAddress::UnknownName => {}
    }
    for peer in reply::peers(frame) {
        assert_usable(&peer.address);
        assert_printable(&peer.run_id);
    }
    for replica in reply::replicas(frame) {
        assert_usable(&replica.address);
    }
    let _ = (reply::master_state(frame), reply::role(frame));
}
