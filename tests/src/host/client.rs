//! The other end of a downstream connection, where a test wants one that reacts.

use std::rc::Rc;

use super::process::Process;
use super::stream::StreamRef;
use super::vm::Vm;

/// What happens to a client.
pub trait Client {
    /// Bytes arrived.
    fn data(&mut self, process: &Process, bytes: &[u8]);
    /// Envoy closed the connection.
    fn closed(&mut self, process: &Process);
}

/// Tells the client of bytes, once the VM is done.
pub fn notify(vm: &Vm, stream: &StreamRef, bytes: Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let Some(client) = stream.borrow().client.clone() else {
        return;
    };
    vm.hub
        .after_latency(move |p| client.borrow_mut().data(p, &bytes));
}

/// Tells the client of the close, once the VM is done.
pub fn notify_closed(vm: &Vm, stream: &StreamRef) {
    let Some(client) = stream.borrow().client.clone() else {
        return;
    };
    let client = Rc::clone(&client);
    vm.hub.after_latency(move |p| client.borrow_mut().closed(p));
}
