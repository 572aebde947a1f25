//! Properties: paths whose segments a zero byte separates.

use super::vm::Vm;

/// The value of a property for the context that asks, if there is one now.
pub fn get(vm: &Vm, path: &[u8]) -> Option<Vec<u8>> {
    let path = String::from_utf8_lossy(path);
    let segments: Vec<&str> = path.trim_end_matches('\0').split('\0').collect();
    let root = vm.roots.get(&vm.acting_root())?;
    match segments[..] {
        ["plugin_root_id"] => return Some(root.root_id.clone().into_bytes()),
        ["plugin_name"] => return Some(root.root_id.clone().into_bytes()),
        ["plugin_vm_id"] => return Some(b"redis_sentinel".to_vec()),
        _ => {}
    }
    let stream = vm.acting_stream()?;
    let s = stream.borrow();
    let port = |address: &str| {
        address
            .rsplit_once(':')?
            .1
            .parse::<u64>()
            .ok()
            .map(|p| p.to_le_bytes().to_vec())
    };
    match segments[..] {
        ["destination", "address"] => Some(s.listener.address.clone().into_bytes()),
        ["destination", "port"] => port(&s.listener.address),
        ["source", "address"] => Some(s.source.clone().into_bytes()),
        ["source", "port"] => port(&s.source),
        ["connection_id"] => Some(u64::from(s.id).to_le_bytes().to_vec()),
        ["upstream", "address"] => s.upstream_address().map(|a| a.as_bytes().to_vec()),
        ["upstream", "local_address"] => s
            .upstream_address()
            .map(|_| format!("10.2.0.1:{}", 1024 + s.id % 60000).into_bytes()),
        ["upstream", "port"] => s.upstream_address().and_then(port),
        ["filter_state", key] => s.filter_state.get(key).map(|v| v.as_bytes().to_vec()),
        _ => None,
    }
}
